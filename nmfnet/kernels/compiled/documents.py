"""Documents one by one, on the stored entries of their counts; B is row-major, (f, k)."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmfnet.kernels.compiled.lanes import JIT


@njit(inline="always", **JIT)
def exp_digamma(x):  # type: ignore[no-untyped-def]
    """``exp(digamma(x))`` for x > 0, to 1e-11 relative: six steps up, then its asymptotic series.

    ``digamma(x) = digamma(x + 6) - Σ_{j<6} 1 / (x + j)``, and with ``y = x + 11/2`` the exponential
    of digamma(y + 1/2) is ``y + 1/(24 y) - 37/(5760 y³) + ...``.
    """
    u = x * x + 5 * x
    steps = (2 * x + 5) * ((u + 4) * (u + 6) + u * (u + 6) + u * (u + 4)) / (u * (u + 4) * (u + 6))
    y = x + 5.5
    s = 1 / (y * y)
    tail = s * (2709398569 / 367873228800 + s * (-499769010050743 / 24103053950976000))
    tail = s * (-37 / 5760 + s * (10313 / 2903040 + s * (-5509121 / 1393459200 + tail)))
    return (y + (1 / 24 + tail) / y) * np.exp(-steps)


@njit(**JIT)
def fixed_points(  # type: ignore[no-untyped-def]
    start, column, value, B, alpha, power, still, most, gamma, stats, logs
):
    """Every document to the fixed point of ``gamma = alpha + T ∘ ((x / (T B)) Bᵀ)``, in place.

    T is exp digamma(gamma) where ``power`` is 0, else ``gamma ** power``; its scale does not matter.
    A document is done when the mean change is below ``still``, or after ``most`` iterations. Then
    ``logs[i] = Σ x log(T B)`` with this scale of T, and where stats (f, k) has rows ``T x / (T B)`` is
    added to them.
    """
    k = B.shape[1]
    T, new = np.empty(k, B.dtype), np.empty(k, B.dtype)
    longest = 0
    for i in range(start.shape[0] - 1):
        longest = max(longest, start[i + 1] - start[i])
    own, share = np.empty((longest, k), B.dtype), np.empty(longest, B.dtype)
    tiny = B.dtype.type(2.2250738585072014e-308)
    for i in range(start.shape[0] - 1):
        first, words = start[i], start[i + 1] - start[i]
        g = gamma[i]
        for e in range(words):
            b = B[column[first + e]]
            for q in range(k):
                own[e, q] = b[q]
        for _ in range(most):
            for q in range(k):
                T[q] = exp_digamma(g[q]) if power == 0 else g[q] if power == 1 else g[q] ** power
                new[q] = 0
            for e in range(words):
                b = own[e]
                y = tiny
                for q in range(k):
                    y += T[q] * b[q]
                y = value[first + e] / y
                for q in range(k):
                    new[q] += y * b[q]
            change = 0.0
            for q in range(k):
                found = alpha[q] + T[q] * new[q]
                change += abs(found - g[q])
                g[q] = found
            if change < still * k:
                break
        total = 0.0
        for q in range(k):
            T[q] = exp_digamma(g[q]) if power == 0 else g[q] if power == 1 else g[q] ** power
        for e in range(words):
            b = own[e]
            y = tiny
            for q in range(k):
                y += T[q] * b[q]
            share[e] = value[first + e] / y
            total += value[first + e] * np.log(y)
        logs[i] = total
        if stats.shape[0] > 0:
            for e in range(words):
                to = stats[column[first + e]]
                for q in range(k):
                    to[q] += share[e] * T[q]


@njit(**JIT)
def expectations(start, column, value, T, B, of_rows, of_columns, logs):  # type: ignore[no-untyped-def]
    """``(x / (T B)) Bᵀ`` (n, k), ``Tᵀ (x / (T B))`` (f, k) and ``Σ x log(T B)`` by rows, in one pass.

    The last two are sums: of_columns is 0 at first.
    """
    k = B.shape[1]
    tiny = B.dtype.type(2.2250738585072014e-308)
    for i in range(start.shape[0] - 1):
        t, out = T[i], of_rows[i]
        for q in range(k):
            out[q] = 0
        total = 0.0
        for e in range(start[i], start[i + 1]):
            b, to = B[column[e]], of_columns[column[e]]
            y = tiny
            for q in range(k):
                y += t[q] * b[q]
            total += value[e] * np.log(y)
            y = value[e] / y
            for q in range(k):
                out[q] += y * b[q]
                to[q] += y * t[q]
        logs[i] = total
