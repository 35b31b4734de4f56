"""Passes over the stored entries of a sparse X; factors are row-major here, (m, k)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from nmfnet.kernels.compiled.lanes import JIT
from nmfnet.kernels.compiled.vectors import BYTES, load, spread, store

Array = npt.NDArray[Any]


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


def in_registers(v: Array) -> Array:
    """Rows (m, k) as (m, registers, lanes), a whole number of vector registers; zeros fill up."""
    lanes = BYTES // v.itemsize
    registers = -(-v.shape[1] // lanes)
    out = np.zeros((v.shape[0], registers * lanes), v.dtype)
    out[:, : v.shape[1]] = v
    return out.reshape(v.shape[0], registers, lanes)


@njit(**JIT)
def newton_rows(  # type: ignore[no-untyped-def]
    v, u, k, total, start, column, value, kl, observed, l1, l2, shrink, floor, damp, n_sweeps, out,
    first, last, measure, kept, fresh
):  # fmt: skip
    """One Newton step for rows first:last of v in ``x ~ v uᵀ``; see ``newton.newton_half``.

    ``v``, ``u`` and ``out`` have k numbers in each row of registers (:func:`in_registers`); ``total``
    is the sum of u's rows; ``observed`` = only the stored entries count (else KL, and the absent
    entries are zeros). Returns the divergence at v where ``measure``, else 0. ``kept`` (m, k, registers,
    lanes), or with m = 0, is where curvatures stay, to be used again where not ``fresh``.
    """
    registers, lanes = v.shape[1], v.shape[2]
    numbers = u.reshape((u.shape[0], registers * lanes))
    points, results = v.reshape((v.shape[0], u[0].size)), out.reshape((v.shape[0], u[0].size))
    one, tiny, zero = v.dtype.type(1), v.dtype.type(1e-30), v.dtype.type(0)
    y, z, sums = np.empty(4, v.dtype), np.empty(4, v.dtype), np.empty((4, lanes), v.dtype)
    slope = np.zeros((1, registers, lanes), v.dtype)
    scratch, inverse = np.zeros((k, registers, lanes), v.dtype), np.empty(k, v.dtype)
    down = slope.reshape(slope.size)
    objective = 0.0
    for i in range(first, last):
        a, new = points[i], results[i]
        curve = kept[i] if kept.shape[0] > 0 else scratch
        rows = curve.reshape((k, slope.size))
        for c in range(registers):
            store(slope, (0, c), spread(zero))
            for q in range(k if fresh else 0):
                store(curve, (q, c), spread(zero))
        for e in range(start[i], start[i + 1], 4):
            n = min(4, start[i + 1] - e)
            c0, c1 = np.int64(column[e]), np.int64(column[e + min(1, n - 1)])
            c2, c3 = np.int64(column[e + min(2, n - 1)]), np.int64(column[e + min(3, n - 1)])
            for c in range(registers):
                point = load(v, (i, c))
                b0, b1 = point * load(u, (c0, c)), point * load(u, (c1, c))
                b2, b3 = point * load(u, (c2, c)), point * load(u, (c3, c))
                if c > 0:
                    b0, b1 = b0 + load(sums, (0,)), b1 + load(sums, (1,))
                    b2, b3 = b2 + load(sums, (2,)), b3 + load(sums, (3,))
                store(sums, (0,), b0)
                store(sums, (1,), b1)
                store(sums, (2,), b2)
                store(sums, (3,), b3)
            for r in range(4):
                fit = zero
                for q in range(lanes):
                    fit += sums[r, q]
                if r >= n:
                    y[r] = 0
                    z[r] = 0
                    continue
                x = value[e + r]
                if measure:
                    objective += stored_divergence(x, fit, kl, observed)
                if kl:
                    over = one / (fit + tiny)
                    y[r] = x * over
                    z[r] = y[r] * over
                    if observed:
                        y[r] -= one
                else:
                    y[r] = x - fit
                    z[r] = one
            for c in range(registers):
                b0, b1, b2, b3 = (
                    load(u, (c0, c)),
                    load(u, (c1, c)),
                    load(u, (c2, c)),
                    load(u, (c3, c)),
                )
                s = load(slope, (0, c)) + y[0] * b0 + y[1] * b1 + y[2] * b2 + y[3] * b3
                store(slope, (0, c), s)
                b0, b1, b2, b3 = z[0] * b0, z[1] * b1, z[2] * b2, z[3] * b3
                for q in range(k if fresh else 0):
                    s = load(curve, (q, c)) + numbers[c0, q] * b0 + numbers[c1, q] * b1
                    store(curve, (q, c), s + numbers[c2, q] * b2 + numbers[c3, q] * b3)
        for q in range(k if fresh else 0):
            rows[q, q] += l2
        for q in range(k):
            if measure and not observed:
                objective += a[q] * total[q]
            down[q] = (down[q] - l1 - l2 * a[q] - (zero if observed else total[q])) * damp
        descend_row(a, slope, curve, down, rows, inverse, shrink, n_sweeps, new)
        peak = zero
        for q in range(k):
            peak = max(peak, new[q])
        for q in range(k):
            new[q] = max(new[q], floor * peak)
    return objective


@njit(**JIT)
def descend_row(  # type: ignore[no-untyped-def]
    a, slope, curve, down, rows, inverse, shrink, n_sweeps, new
):  # fmt: skip
    """Coordinate descent from a on the expansion there; ``new`` is the result.

    ``down`` and ``rows`` are the numbers of ``slope``, which is changed, and of ``curve``.
    """
    k, registers = curve.shape[0], curve.shape[1]
    one, tiny, close = a.dtype.type(1), a.dtype.type(1e-30), np.finfo(a.dtype).eps
    for q in range(k):
        inverse[q] = one / (rows[q, q] + tiny)
        new[q] = a[q]
    for _ in range(n_sweeps):
        moved, peak = a.dtype.type(0), a.dtype.type(0)
        for q in range(k):
            to = max(new[q] + down[q] * inverse[q], shrink * a[q])
            d = to - new[q]
            new[q] = to
            for c in range(registers):
                store(slope, (0, c), load(slope, (0, c)) - d * load(curve, (q, c)))
            moved, peak = max(moved, abs(d)), max(peak, to)
        if moved <= close * peak:
            break


@njit(**JIT)
def stored_divergence(x, fit, kl, observed):  # type: ignore[no-untyped-def]
    """Divergence at a stored entry, without ``fit`` itself where the sum of all fits is added."""
    if not kl:
        return 0.5 * (x - fit) ** 2
    part = x * (np.log(x / max(fit, 1e-30)) - 1) if x > 0 else 0.0
    return part + fit if observed else part
