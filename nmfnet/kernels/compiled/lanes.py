"""Products, sweeps and steps on component-major factors: the words of the compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from nmfnet.kernels.compiled.vectors import BYTES, load, positive, spread, store

MOST_LANES = 256
DEPTH = 64
"""Rows of a right-hand side that a product reads at a time."""

ROWS = 32
"""Rows of X whose reconstructions are in memory at a time."""
LOG2 = 0.6931471805599453

JIT: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "arcp", "nsz"},  # NaN and infinity keep their meaning
}
"""Of all kernels. A number or truth value written into a call (``0``, ``False``) has a type of its own
and so compiles the called kernel once more: it is passed as ``np.int64(0)`` or ``np.bool_(False)``."""


@njit(inline="always", **JIT)
def add_products(c, a, i, t, row, w, terms):  # type: ignore[no-untyped-def]
    """``c[:w] += sum_q a[i + q] t[row + q, :w]`` for q < terms: eight rows per pass over c."""
    q = 0
    while q + 8 <= terms:
        a0, a1, a2, a3 = a[i + q], a[i + q + 1], a[i + q + 2], a[i + q + 3]
        a4, a5, a6, a7 = a[i + q + 4], a[i + q + 5], a[i + q + 6], a[i + q + 7]
        t0, t1, t2, t3 = t[row + q], t[row + q + 1], t[row + q + 2], t[row + q + 3]
        t4, t5, t6, t7 = t[row + q + 4], t[row + q + 5], t[row + q + 6], t[row + q + 7]
        for j in range(w):
            c[j] += (
                a0 * t0[j] + a1 * t1[j] + a2 * t2[j] + a3 * t3[j]
                + a4 * t4[j] + a5 * t5[j] + a6 * t6[j] + a7 * t7[j]
            )  # fmt: skip
        q += 8
    zero = c.dtype.type(0)
    while q < terms:  # four at a time, those past the end with weight 0
        q1, q2, q3 = min(q + 1, terms - 1), min(q + 2, terms - 1), min(q + 3, terms - 1)
        a0 = a[i + q]
        a1 = a[i + q1] if q + 1 < terms else zero
        a2 = a[i + q2] if q + 2 < terms else zero
        a3 = a[i + q3] if q + 3 < terms else zero
        t0, t1, t2, t3 = t[row + q], t[row + q1], t[row + q2], t[row + q3]
        for j in range(w):
            c[j] += a0 * t0[j] + a1 * t1[j] + a2 * t2[j] + a3 * t3[j]
        q += 4


@njit(**JIT)
def matmul(left, right, out):  # type: ignore[no-untyped-def]
    """``out = left @ right``; see :func:`add_matmul`."""
    out[:] = 0
    add_matmul(left, right, out)


@njit(**JIT)
def add_matmul(left, right, out):  # type: ignore[no-untyped-def]
    """``out (k, m) += left (k, p) @ right (p, m)``, four rows by two registers at a time.

    ``right`` is read once and in order: DEPTH of its rows are multiplied with all of ``left``.
    """
    k, p = left.shape
    m, lanes = right.shape[1], BYTES // out.itemsize
    zero, width = out.dtype.type(0), 2 * lanes
    some, tile = np.zeros((DEPTH, width), out.dtype), np.empty((4, width), out.dtype)
    for row in range(0, p, DEPTH):
        depth = min(DEPTH, p - row)
        for s in range(0, m, width):
            w = min(width, m - s)
            for q in range(depth):
                if w == width:
                    store(some, (q, 0), load(right, (row + q, s)))
                    store(some, (q, lanes), load(right, (row + q, s + lanes)))
                else:
                    for j in range(w):
                        some[q, j] = right[row + q, s + j]
            for i in range(0, k, 4):
                l0, l1 = left[i], left[min(i + 1, k - 1)]
                l2, l3 = left[min(i + 2, k - 1)], left[min(i + 3, k - 1)]
                c0, c1, c2, c3 = spread(zero), spread(zero), spread(zero), spread(zero)
                d0, d1, d2, d3 = spread(zero), spread(zero), spread(zero), spread(zero)
                for q in range(depth):
                    a, b = load(some, (q, 0)), load(some, (q, lanes))
                    c0, d0 = c0 + l0[row + q] * a, d0 + l0[row + q] * b
                    c1, d1 = c1 + l1[row + q] * a, d1 + l1[row + q] * b
                    c2, d2 = c2 + l2[row + q] * a, d2 + l2[row + q] * b
                    c3, d3 = c3 + l3[row + q] * a, d3 + l3[row + q] * b
                if w == width and i + 4 <= k:
                    _add(out, i, s, c0, d0)
                    _add(out, i + 1, s, c1, d1)
                    _add(out, i + 2, s, c2, d2)
                    _add(out, i + 3, s, c3, d3)
                    continue
                tile[:] = 0
                _add(tile, 0, 0, c0, d0)
                _add(tile, 1, 0, c1, d1)
                _add(tile, 2, 0, c2, d2)
                _add(tile, 3, 0, c3, d3)
                for r in range(min(4, k - i)):
                    for j in range(w):
                        out[i + r, s + j] += tile[r, j]


@njit(inline="always", **JIT)
def _add(out, i, s, c, d):  # type: ignore[no-untyped-def]
    """Add two registers to a row."""
    t = s + BYTES // out.itemsize
    store(out, (i, s), load(out, (i, s)) + c)
    store(out, (i, t), load(out, (i, t)) + d)


@njit(**JIT)
def gram(v, out):  # type: ignore[no-untyped-def]
    """``out (k, k) = v vᵀ``."""
    for i in range(v.shape[0]):
        a = v[i]
        for j in range(i + 1):
            b = v[j]
            total = v.dtype.type(0)
            for q in range(a.shape[0]):
                total += a[q] * b[q]
            out[i, j] = total
            out[j, i] = total


@njit(**JIT)
def inner(a, b):  # type: ignore[no-untyped-def]
    """``sum(a * b)``, rows summed in float64."""
    total = 0.0
    for i in range(a.shape[0]):
        p, q = a[i], b[i]
        part = a.dtype.type(0)
        for j in range(p.shape[0]):
            part += p[j] * q[j]
        total += part
    return total


@njit(**JIT)
def penalty(v, l1, l2):  # type: ignore[no-untyped-def]
    """``l1 sum(v) + l2 / 2 sum(v ** 2)``."""
    total = 0.0
    if l1 > 0:
        total += l1 * v.sum()
    if l2 > 0:
        total += 0.5 * l2 * inner(v, v)
    return total


@njit(**JIT)
def sweep(v, a, b, first, last, n_sweeps):  # type: ignore[no-untyped-def]
    """Coordinate descent on ``min_{v >= 0} 1/2 <v, b v> - <a, v>``, columns first:last of v.

    Every column is a problem of its own; a coordinate whose curvature b_jj is 0 stays. Eight registers of
    columns are under way at any time.
    """
    k, lanes = v.shape[0], BYTES // v.itemsize
    zero, one, width = v.dtype.type(0), v.dtype.type(1), 8 * lanes
    part, linear = np.zeros((k, width), v.dtype), np.zeros((k, width), v.dtype)
    for s in range(first, last, width):
        w = min(last - s, width)
        for i in range(k):
            p, q, c, d = part[i], v[i, s : s + w], linear[i], a[i, s : s + w]
            for j in range(w):
                p[j] = q[j]
                c[j] = d[j]
        for _ in range(n_sweeps):
            for i in range(k):
                if not b[i, i] > 0:
                    continue
                r, row = one / b[i, i], b[i]
                c0, c1, c2, c3 = spread(zero), spread(zero), spread(zero), spread(zero)
                c4, c5, c6, c7 = spread(zero), spread(zero), spread(zero), spread(zero)
                for q in range(k):
                    c0 = c0 + row[q] * load(part, (q, 0))
                    c1 = c1 + row[q] * load(part, (q, lanes))
                    c2 = c2 + row[q] * load(part, (q, 2 * lanes))
                    c3 = c3 + row[q] * load(part, (q, 3 * lanes))
                    c4 = c4 + row[q] * load(part, (q, 4 * lanes))
                    c5 = c5 + row[q] * load(part, (q, 5 * lanes))
                    c6 = c6 + row[q] * load(part, (q, 6 * lanes))
                    c7 = c7 + row[q] * load(part, (q, 7 * lanes))
                _move(part, linear, i, 0, c0, r)
                _move(part, linear, i, lanes, c1, r)
                _move(part, linear, i, 2 * lanes, c2, r)
                _move(part, linear, i, 3 * lanes, c3, r)
                _move(part, linear, i, 4 * lanes, c4, r)
                _move(part, linear, i, 5 * lanes, c5, r)
                _move(part, linear, i, 6 * lanes, c6, r)
                _move(part, linear, i, 7 * lanes, c7, r)
        for i in range(k):
            p, q = part[i], v[i, s : s + w]
            for j in range(w):
                q[j] = p[j]


@njit(inline="always", **JIT)
def _move(part, linear, i, at, fitted, r):  # type: ignore[no-untyped-def]
    """Coordinate i of a register of columns to its optimum."""
    slope = load(linear, (i, at)) - fitted
    store(part, (i, at), positive(load(part, (i, at)) + r * slope))


@njit(**JIT)
def extrapolate(y, new, old, step, least):  # type: ignore[no-untyped-def]
    """``y = max(new + step (new - old), least new)``, and old becomes new."""
    for i in range(new.shape[0]):
        p, q, r = new[i], old[i], y[i]
        for j in range(p.shape[0]):
            r[j] = max(p[j] + step * (p[j] - q[j]), least * p[j])
            q[j] = p[j]


def log_buffers(dtype: npt.DTypeLike) -> tuple[Any, ...]:
    """Memory and constants of :func:`divergence` for arrays of float32 or float64."""
    kind = np.dtype(dtype)
    whole = np.int32 if kind.itemsize == 4 else np.int64
    shift, root_half = (23, 0x3F3504F3) if kind.itemsize == 4 else (52, 0x3FE6A09E667F3BCD)
    bits, mantissa = np.empty(MOST_LANES, whole), np.empty(MOST_LANES, whole)
    power = np.empty(MOST_LANES, kind)
    return (
        bits,
        bits.view(kind),
        mantissa,
        mantissa.view(kind),
        power,
        whole(shift),
        whole(root_half),
    )


@njit(**JIT)
def divergence(y, x, mask, w, buffers):  # type: ignore[no-untyped-def]
    """``sum_j mask (x log(x / y) - x + y)`` of w lanes; the logarithm runs in all lanes at once.

    ``mask`` is empty where everything is observed.

    ``log(2^e m) = e log 2 + 2 atanh((m - 1) / (m + 1))`` with m in [sqrt(1/2), sqrt(2)): seven terms
    of the series leave a relative error below 1e-12.
    """
    bits, ratio, mantissa, m, power, shift, root_half = buffers
    kind = y.dtype.type
    one, tiny, log2 = kind(1), kind(1e-30), kind(LOG2)
    c3, c5, c7 = kind(2 / 3), kind(2 / 5), kind(2 / 7)
    c9, c11, c13 = kind(2 / 9), kind(2 / 11), kind(2 / 13)
    for j in range(w):
        ratio[j] = x[j] / (y[j] + tiny)
    for j in range(w):
        e = (bits[j] - root_half) >> shift
        mantissa[j] = bits[j] - (e << shift)
        power[j] = e
    for j in range(w):
        s = (m[j] - one) / (m[j] + one)
        z = s * s
        series = c3 + z * (c5 + z * (c7 + z * (c9 + z * (c11 + z * c13))))
        log = power[j] * log2 + s * (one + one + z * series)
        power[j] = y[j] * (ratio[j] * (log - one) + one)
    total = kind(0)
    if mask.shape[0] > 0:
        for j in range(w):
            total += mask[j] * power[j]
    else:
        for j in range(w):
            total += power[j]
    return total


@njit(**JIT)
def dense_divergence(x, mask, w, h, kl, buffers):  # type: ignore[no-untyped-def]
    """Divergence of x (n, f) from ``wᵀ h``, (k, n) and (k, f), rows summed in float64.

    ``mask`` is (0, 0) where everything is observed; KL if ``kl``, else half the squared error.
    """
    n, f = x.shape
    wt, fitted = np.ascontiguousarray(w.T), np.empty((ROWS, f), x.dtype)
    none, total = np.empty(0, x.dtype), 0.0
    for first in range(0, n, ROWS):
        last = min(n, first + ROWS)
        matmul(wt[first:last], h, fitted[: last - first])
        if not kl and mask.shape[0] == 0:
            total += distance(fitted[: last - first].reshape(-1), x[first:last].reshape(-1))
            continue
        for row in range(first, last):
            for s in range(0, f, MOST_LANES):
                e = min(f, s + MOST_LANES)
                y, o = fitted[row - first, s:e], x[row, s:e]
                seen = mask[row, s:e] if mask.shape[0] > 0 else none
                if kl:
                    total += divergence(y, o, seen, e - s, buffers)
                else:
                    for j in range(e - s):
                        y[j] -= o[j]
                    total += squares(y, seen)
    return total


@njit(**JIT)
def distance(y, x):  # type: ignore[no-untyped-def]
    """``sum((x - y) ** 2) / 2``, parts of 1024 summed in float64."""
    total = 0.0
    for s in range(0, y.shape[0], 1024):
        part = y.dtype.type(0)
        for j in range(s, min(y.shape[0], s + 1024)):
            part += (x[j] - y[j]) ** 2
        total += part
    return 0.5 * total


@njit(**JIT)
def dense_divergences(x, mask, w, h, rows, kl, buffers, out):  # type: ignore[no-untyped-def]
    """``out[i]`` is that of restart ``rows[i]`` of w (r, k, n) and h (r, k, f)."""
    for i in range(rows.shape[0]):
        out[i] = dense_divergence(x, mask, w[rows[i]], h[rows[i]], kl, buffers)


@njit(**JIT)
def squares(y, mask):  # type: ignore[no-untyped-def]
    """``sum_j mask y ** 2 / 2``."""
    total = y.dtype.type(0)
    if mask.shape[0] > 0:
        for j in range(y.shape[0]):
            total += mask[j] * y[j] * y[j]
    else:
        for j in range(y.shape[0]):
            total += y[j] * y[j]
    return 0.5 * total
