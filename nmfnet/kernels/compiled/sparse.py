"""Passes over the stored entries of a sparse X; factors are row-major here, (m, k)."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmfnet.kernels.compiled.lanes import JIT


@njit(**JIT)
def transpose(start, column, value, out_start, out_column, out_value):  # type: ignore[no-untyped-def]
    """The CSR arrays of the transpose, entries of a row in order; out_start is zero at first."""
    for e in range(column.shape[0]):
        out_start[column[e] + 1] += 1
    for j in range(1, out_start.shape[0]):
        out_start[j] += out_start[j - 1]
    place = out_start[:-1].copy()
    for i in range(start.shape[0] - 1):
        for e in range(start[i], start[i + 1]):
            to = place[column[e]]
            place[column[e]] = to + 1
            out_column[to] = i
            out_value[to] = value[e]


@njit(**JIT)
def entries(v, u, start, column, out):  # type: ignore[no-untyped-def]
    """``out[e] = v[i] . u[j]`` at every stored entry e = (i, j)."""
    for i in range(start.shape[0] - 1):
        a = v[i]
        for e in range(start[i], start[i + 1]):
            b = u[column[e]]
            y = v.dtype.type(0)
            for q in range(a.shape[0]):
                y += a[q] * b[q]
            out[e] = y


@njit(**JIT)
def entries_back(slope, v, u, start, column, by_v, by_u):  # type: ignore[no-untyped-def]
    """Derivative of ``Σ slope[e] v[i] . u[j]`` over the stored entries e = (i, j), added up."""
    for i in range(start.shape[0] - 1):
        a, d = v[i], by_v[i]
        for e in range(start[i], start[i + 1]):
            s, b, g = slope[e], u[column[e]], by_u[column[e]]
            for q in range(a.shape[0]):
                d[q] += s * b[q]
                g[q] += s * a[q]


@njit(**JIT)
def ratio_rows(v, u, start, column, value, out, first, last):  # type: ignore[no-untyped-def]
    """``out[i] = sum_j x_ij / (v_i . u_j) u_j`` over the stored entries of rows first:last."""
    k = v.shape[1]
    tiny = v.dtype.type(1e-30)
    for i in range(first, last):
        a, o = v[i], out[i]
        for q in range(k):
            o[q] = 0
        for e in range(start[i], start[i + 1]):
            b = u[column[e]]
            y = tiny
            for q in range(k):
                y += a[q] * b[q]
            y = value[e] / y
            for q in range(k):
                o[q] += y * b[q]


@njit(**JIT)
def newton_rows(  # type: ignore[no-untyped-def]
    v, u, total, start, column, value, kl, observed, l1, l2, shrink, floor, damp, n_sweeps, out,
    first, last, measure, store, fresh
):  # fmt: skip
    """One Newton step for rows first:last of v in ``x ~ v uᵀ``; see ``newton.newton_half``.

    ``total`` is the sum of u's rows; ``observed`` = only the stored entries count (else KL, and
    the absent entries are zeros). Returns the divergence at v where ``measure``, else 0. ``store`` is
    (m, k, k), or (0, 0, 0).
    """
    k = v.shape[1]
    one, tiny, zero = v.dtype.type(1), v.dtype.type(1e-30), v.dtype.type(0)
    slope, scratch, y = np.empty(k, v.dtype), np.empty((k, k), v.dtype), np.empty(4, v.dtype)
    z, w = np.empty(4, v.dtype), np.empty(k, v.dtype)
    objective = 0.0
    for i in range(first, last):
        a = v[i]
        curve = store[i] if store.shape[0] > 0 else scratch
        for q in range(k):
            slope[q] = -l1 - l2 * a[q] - (zero if observed else total[q])
            w[q] = a[q]
            if fresh:
                for r in range(k):
                    curve[q, r] = 0
                curve[q, q] = l2
        for e in range(start[i], start[i + 1], 4):
            n = min(4, start[i + 1] - e)
            for r in range(4):
                b = u[column[e + min(r, n - 1)]]
                fit = zero
                for q in range(k):
                    fit += a[q] * b[q]
                x = value[e + min(r, n - 1)]
                if measure and r < n:
                    objective += stored_divergence(x, fit, kl, observed)
                if kl:
                    inverse = one / (fit + tiny)
                    y[r] = x * inverse
                    z[r] = y[r] * inverse
                    if observed:
                        y[r] -= one
                else:
                    y[r] = x - fit
                    z[r] = one
                if r >= n:
                    y[r] = 0
                    z[r] = 0
            b0, b1 = u[column[e]], u[column[e + min(1, n - 1)]]
            b2, b3 = u[column[e + min(2, n - 1)]], u[column[e + min(3, n - 1)]]
            for q in range(k):
                slope[q] += y[0] * b0[q] + y[1] * b1[q] + y[2] * b2[q] + y[3] * b3[q]
            for q in range(k if fresh else 0):
                z0, z1, z2, z3 = z[0] * b0[q], z[1] * b1[q], z[2] * b2[q], z[3] * b3[q]
                row = curve[q]
                for r in range(k):
                    row[r] += z0 * b0[r] + z1 * b1[r] + z2 * b2[r] + z3 * b3[r]
        for q in range(k):
            if measure and not observed:
                objective += a[q] * total[q]
            slope[q] *= damp
        for _ in range(n_sweeps):
            for q in range(k):
                new = max(w[q] + slope[q] / (curve[q, q] + tiny), shrink * a[q])
                d, row = new - w[q], curve[q]
                w[q] = new
                for r in range(k):
                    slope[r] -= d * row[r]
        peak = zero
        for q in range(k):
            peak = max(peak, w[q])
        for q in range(k):
            out[i, q] = max(w[q], floor * peak)
    return objective


@njit(**JIT)
def stored_divergence(x, fit, kl, observed):  # type: ignore[no-untyped-def]
    """Divergence at a stored entry, without ``fit`` itself where the sum of all fits is added."""
    if not kl:
        return 0.5 * (x - fit) ** 2
    part = x * (np.log(x / max(fit, 1e-30)) - 1) if x > 0 else 0.0
    return part + fit if observed else part
