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

    Every round exchanges all variables of wrong sign (Kim & Park 2011, algorithm 1); when their number
    has not fallen for three rounds, or the system of those inside is singular, they are inserted one
    by one instead, which terminates.
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
        while True:  # the count can fall k times at most
            m = 0
            for i in range(k):
                out[i] = 0
                if on[i]:
                    index[m] = i
                    m += 1
            if not solve(g, b, index, m, factor, x):
                grace = -1
            for a in range(m):
                out[index[a]] = x[a]
            wrong = 0
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
                    index[k - wrong] = i  # the free end of the list: at most k - m are off support
            if wrong == 0 and grace >= 0:
                break
            if wrong < fewest and grace >= 0:
                fewest, grace = wrong, 3
            else:
                grace -= 1
            if grace < 0:
                insert(g, b, on, out, index, factor, x)
                break
            for a in range(wrong):
                on[index[k - 1 - a]] = not on[index[k - 1 - a]]
        for i in range(k):
            out[i] = max(out[i], 0.0)


@njit(**JIT)
def inserted(g, c, support, s, first, last):  # type: ignore[no-untyped-def]
    """The same without a guess, by insertion alone."""
    k = g.shape[0]
    factor, x, index = np.empty((k, k)), np.empty(k), np.empty(k, np.int64)
    for row in range(first, last):
        insert(g, c[row], support[row], s[row], index, factor, x)


@njit(**JIT)
def insert(g, b, on, out, index, factor, x):  # type: ignore[no-untyped-def]
    """One row: from 0 the variable of the steepest slope comes in, and what it turns negative leaves.

    Every step goes down. A variable that depends on those inside has no slope, and does not come in.

    Source: Lawson & Hanson 1974, chapter 23, algorithm NNLS.
    """
    k = g.shape[0]
    useless = np.zeros(k, np.bool_)  # depends on those inside, or moved nothing, by rounding
    on[:] = False
    out[:] = 0
    least = -TOLERANCE * max(1e-300, np.abs(b).max())
    for _ in range(60 + 20 * k):
        steepest, new = least, -1
        for i in range(k):
            if not on[i] and not useless[i]:
                slope = -b[i]
                for j in range(k):
                    slope += g[i, j] * out[j]
                if slope < steepest:
                    steepest, new = slope, i
        if new < 0:
            break
        on[new] = True
        moved = False
        while True:
            m = 0
            for i in range(k):
                if on[i]:
                    index[m] = i
                    m += 1
            if not solve(g, b, index, m, factor, x):
                on[new] = False
                out[new] = 0
                break
            share, first = 1.0, -1
            for a in range(m):
                i = index[a]
                if x[a] <= 0:
                    far = out[i] / (out[i] - x[a]) if out[i] > 0 else 0.0
                    if first < 0 or far < share:
                        share, first = far, i
            moved = moved or share > 0
            for a in range(m):
                i = index[a]
                out[i] = x[a] if first < 0 else out[i] + share * (x[a] - out[i])
            if first < 0:
                break
            on[first] = False
            out[first] = 0
        if moved:
            useless[:] = False
        else:
            useless[new] = True


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
    """``g[P, P] x = b[P]`` for P = index[:m] by Cholesky; a vanishing pivot gets a small ridge.

    Returns whether it has none.
    """
    regular = True
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
                ridge = 1e-12 * g[index[i], index[i]] + 1e-300
                regular = regular and total > ridge
                row[i] = np.sqrt(max(total, ridge))
        total = b[index[i]]
        for q in range(i):
            total -= row[q] * x[q]
        x[i] = total / row[i]
    for i in range(m - 1, -1, -1):
        x[i] /= factor[i, i]
        for q in range(i):
            x[q] -= factor[i, q] * x[i]
    return regular
