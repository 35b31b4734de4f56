"""Non-negative least squares in Gram space, one column after the other, by principal pivoting."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmfnet.kernels.compiled.lanes import JIT

TOLERANCE = 1e-12
"""A sign is wrong when it is wrong by more than this, relative to the size of the problem."""


@njit(**JIT)
def pivot(g, c, support, s, first, last):  # type: ignore[no-untyped-def]
    """``argmin_{s >= 0} s g sᵀ / 2 - c sᵀ`` for rows first:last of c, from a guess of the support.

    Parameters
    ----------
    g : array (k, k), float64
    c, s : arrays (n, k), float64
        Linear parts; the solutions.
    support : array (n, k) of bool
        Guess, replaced by the answer.
    first, last : int

    Every round exchanges all variables of wrong sign; when their number has not fallen for three
    rounds only the last one is exchanged, which terminates (Kim & Park 2011, algorithm 1).
    """
    k = g.shape[0]
    factor, x, index = np.empty((k, k)), np.empty(k), np.empty(k, np.int64)
    size = 1e-300
    for i in range(k):
        size = max(size, g[i, i])
    for row in range(first, last):
        b, on, out = c[row], support[row], s[row]
        scale = 1e-300
        for i in range(k):
            scale = max(scale, abs(b[i]))
        fewest, grace = k + 1, 3
        for _ in range(60 + 20 * k):
            m = 0
            for i in range(k):
                out[i] = 0
                if on[i]:
                    index[m] = i
                    m += 1
            solve(g, b, index, m, factor, x)
            for a in range(m):
                out[index[a]] = x[a]
            wrong, where = 0, -1
            for i in range(k):
                if on[i]:
                    bad = out[i] < -TOLERANCE * scale / size
                else:
                    slope = -b[i]
                    for a in range(m):
                        slope += g[i, index[a]] * x[a]
                    bad = slope < -TOLERANCE * scale
                if bad:
                    wrong += 1
                    where = i
                    index[k - wrong] = i  # the free end of the list: at most k - m are off support
            if wrong == 0:
                break
            if wrong < fewest:
                fewest, grace = wrong, 3
            else:
                grace -= 1
            if grace >= 0:
                for a in range(wrong):
                    on[index[k - 1 - a]] = not on[index[k - 1 - a]]
            else:
                on[where] = not on[where]
        for i in range(k):
            out[i] = max(out[i], 0.0)


@njit(**JIT)
def on_support(g, c, support, s, first, last):  # type: ignore[no-untyped-def]
    """Rows first:last of s: ``(g s)_P = c_P`` and 0 off their support P."""
    k = g.shape[0]
    factor, x, index = np.empty((k, k)), np.empty(k), np.empty(k, np.int64)
    for row in range(first, last):
        m = 0
        for i in range(k):
            s[row, i] = 0
            if support[row, i]:
                index[m] = i
                m += 1
        solve(g, c[row], index, m, factor, x)
        for a in range(m):
            s[row, index[a]] = x[a]


@njit(**JIT)
def solve(g, b, index, m, factor, x):  # type: ignore[no-untyped-def]
    """``g[P, P] x = b[P]`` for P = index[:m] by Cholesky; a vanishing pivot gets a small ridge."""
    for i in range(m):
        row = factor[i]
        for j in range(i + 1):
            total = g[index[i], index[j]]
            other = factor[j]
            for q in range(j):
                total -= row[q] * other[q]
            if i > j:
                row[j] = total / other[j]
            else:
                row[i] = np.sqrt(max(total, 1e-12 * g[index[i], index[i]] + 1e-300))
        total = b[index[i]]
        for q in range(i):
            total -= row[q] * x[q]
        x[i] = total / row[i]
    for i in range(m - 1, -1, -1):
        x[i] /= factor[i, i]
        for q in range(i):
            x[q] -= factor[i, q] * x[i]
