"""Ridge regressions on the stored entries of sparse rows; factors are row-major here, (m, k)."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmfnet.kernels.compiled.lanes import JIT


@njit(**JIT)
def ridge_rows(  # type: ignore[no-untyped-def]
    start, column, weight, x, h, ridge, base, floor, singular, sweeps, close, out, done
):  # fmt: skip
    """Normal equations of every row from its stored entries, solved by Cholesky.

    Parameters
    ----------
    start, column : arrays of int
        Pattern of the rows.
    weight, x : array, shape (nnz,)
    h : array, shape (f, k)
    ridge : array, shape (k,)
        Counts once per unit of weight.
    base : array, shape (k, k)
        Added to the normal equations of every row.
    floor : array, shape (k,)
        No entry falls below; all -inf = by Cholesky, else by coordinate descent.
    singular : float
        Pivots at or below this multiple of the largest diagonal entry count as 0.
    sweeps, close : int, float
        Of coordinate descent: most sweeps, and the relative move that ends it.
    out : array, shape (n, k), changed
        Where coordinate descent begins; feasible.
    done : array of bool, shape (n,), changed
        False where a pivot is 0: that row of ``out`` is not set.
    """
    k = h.shape[1]
    G, c = np.empty((k, k)), np.empty(k)
    least, bounded = ridge[0], False
    for a in range(k):
        bounded |= floor[a] > -np.inf
        least = min(least, ridge[a])
        for b in range(k):
            if base[a, b] != 0:
                least = 0.0
    for i in range(start.shape[0] - 1):
        first, last = start[i], start[i + 1]
        total = 0.0
        for e in range(first, last):
            total += weight[e]
        if 2 * (last - first) <= k and least > 0 and total > 0 and not bounded:
            done[i] = _few(column, weight, x, h, ridge, first, last, total, G, c, out[i])
            continue
        for a in range(k):
            c[a] = 0.0
            for b in range(k):
                G[a, b] = base[a, b]
        e = first
        while e + 4 <= last:  # four at a time: G is read and written once for them
            w0, w1, w2, w3 = weight[e], weight[e + 1], weight[e + 2], weight[e + 3]
            u0, u1, u2, u3 = h[column[e]], h[column[e + 1]], h[column[e + 2]], h[column[e + 3]]
            for a in range(k):
                g, v0, v1, v2, v3 = G[a], w0 * u0[a], w1 * u1[a], w2 * u2[a], w3 * u3[a]
                c[a] += v0 * x[e] + v1 * x[e + 1] + v2 * x[e + 2] + v3 * x[e + 3]
                for b in range(min(k, (a // 4 + 1) * 4)):  # the lower triangle, in whole lanes
                    g[b] += v0 * u0[b] + v1 * u1[b] + v2 * u2[b] + v3 * u3[b]
            e += 4
        while e < last:
            u = h[column[e]]
            for a in range(k):
                g, v = G[a], weight[e] * u[a]
                c[a] += v * x[e]
                for b in range(k):
                    g[b] += v * u[b]
            e += 1
        largest = 0.0
        for a in range(k):
            G[a, a] += total * ridge[a]
            largest = max(largest, G[a, a])
        if bounded:
            for a in range(k):
                for b in range(a):
                    G[b, a] = G[a, b]
            done[i] = _descend(G, c, floor, sweeps, close, out[i])
            continue
        done[i] = _solve(G, c, k, singular * largest)
        if done[i]:
            for a in range(k):
                out[i, a] = c[a]


@njit(**JIT)
def _few(  # type: ignore[no-untyped-def]
    column, weight, x, h, ridge, first, last, total, G, c, out
):  # fmt: skip
    """The same for a row with fewer entries than components: a system with an equation per entry.

    ``s = R⁻¹ Uᵀ y`` with ``(W⁻¹ + U R⁻¹ Uᵀ) y = x``, R the ridges times the total weight.
    """
    k, m = h.shape[1], 0
    for e in range(first, last):
        if weight[e] > 0:
            u, n = h[column[e]], 0
            for d in range(first, e + 1):
                if weight[d] > 0:
                    v, y = h[column[d]], 0.0
                    for q in range(k):
                        y += u[q] * v[q] / ridge[q]
                    G[m, n] = y / total
                    n += 1
            G[m, m] += 1 / weight[e]
            c[m] = x[e]
            m += 1
    if not _solve(G, c, m, 0.0):
        return False
    for q in range(k):
        out[q] = 0.0
    n = 0
    for e in range(first, last):
        if weight[e] > 0:
            u = h[column[e]]
            for q in range(k):
                out[q] += c[n] * u[q]
            n += 1
    for q in range(k):
        out[q] /= total * ridge[q]
    return True


@njit(**JIT)
def _solve(G, c, k, least):  # type: ignore[no-untyped-def]
    """``G s = c`` of the first k by Cholesky in place; False where a pivot is not above ``least``."""
    for a in range(k):
        g = G[a]
        for b in range(a):
            r, y = G[b], g[b]
            for q in range(b):
                y -= g[q] * r[q]
            g[b] = y / r[b]
        y = g[a]
        for q in range(a):
            y -= g[q] * g[q]
        if not y > least:
            return False
        g[a] = np.sqrt(y)
        y = c[a]
        for q in range(a):
            y -= g[q] * c[q]
        c[a] = y / g[a]
    for a in range(k - 1, -1, -1):
        y = c[a] / G[a, a]
        c[a] = y
        for q in range(a):
            c[q] -= G[a, q] * y
    return True


@njit(**JIT)
def _descend(G, c, floor, sweeps, close, w):  # type: ignore[no-untyped-def]
    """The least ``w G w / 2 - c w`` with w >= floor, coordinate by coordinate from w."""
    k = c.shape[0]
    for _ in range(sweeps):
        moved, size = 0.0, 0.0
        for a in range(k):
            if not G[a, a] > 0:
                continue
            y = c[a]
            for b in range(k):
                y -= G[a, b] * w[b]
            new = max(floor[a], w[a] + y / G[a, a])
            moved, size = max(moved, abs(new - w[a])), max(size, abs(new))
            w[a] = new
        if moved <= close * size:
            break
    return True
