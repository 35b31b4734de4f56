"""Products, sweeps and steps on component-major factors: the words of the compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

MOST_LANES = 256
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
    """``out (k, m) = left (k, p) @ right (p, m)``, blocked so that ``right`` is read once."""
    k, p = left.shape
    m = right.shape[1]
    lanes = 4096 // out.itemsize
    for s in range(0, m, lanes):
        e = min(m, s + lanes)
        for i in range(k):
            c = out[i, s:e]
            for j in range(e - s):
                c[j] = 0
        row = 0
        while row + 8 <= p:
            t0, t1, t2 = right[row, s:e], right[row + 1, s:e], right[row + 2, s:e]
            t3, t4, t5 = right[row + 3, s:e], right[row + 4, s:e], right[row + 5, s:e]
            t6, t7 = right[row + 6, s:e], right[row + 7, s:e]
            for i in range(k):
                c, a = out[i, s:e], left[i]
                a0, a1, a2, a3 = a[row], a[row + 1], a[row + 2], a[row + 3]
                a4, a5, a6, a7 = a[row + 4], a[row + 5], a[row + 6], a[row + 7]
                for j in range(e - s):
                    c[j] += (
                        a0 * t0[j] + a1 * t1[j] + a2 * t2[j] + a3 * t3[j]
                        + a4 * t4[j] + a5 * t5[j] + a6 * t6[j] + a7 * t7[j]
                    )  # fmt: skip
            row += 8
        while row < p:
            t0 = right[row, s:e]
            for i in range(k):
                a0, c = left[i, row], out[i, s:e]
                for j in range(e - s):
                    c[j] += a0 * t0[j]
            row += 1


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

    Every column is a problem of its own; a coordinate whose curvature b_jj is 0 stays.
    """
    k = v.shape[0]
    lanes = max(64, min(2048, 32768 // k) // v.itemsize // 16 * 16)
    part, c = np.empty((k, lanes), v.dtype), np.empty(lanes, v.dtype)
    zero = v.dtype.type(0)
    for s in range(first, last, lanes):
        w = min(last - s, lanes)
        for i in range(k):
            p, q = part[i], v[i, s : s + w]
            for j in range(w):
                p[j] = q[j]
        for _ in range(n_sweeps):
            for i in range(k):
                if not b[i, i] > 0:
                    continue
                for j in range(w):
                    c[j] = 0
                add_products(c, b[i], 0, part, 0, w, k)
                r, p, q = 1 / b[i, i], part[i], a[i, s : s + w]
                for j in range(w):
                    p[j] = max(p[j] + (q[j] - c[j]) * r, zero)
        for i in range(k):
            p, q = part[i], v[i, s : s + w]
            for j in range(w):
                q[j] = p[j]


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
    k = w.shape[0]
    wt, y = np.ascontiguousarray(w.T), np.empty(MOST_LANES, x.dtype)
    part = np.empty((k, MOST_LANES), x.dtype)
    none, total = np.empty(0, x.dtype), 0.0
    for s in range(0, f, MOST_LANES):
        e = min(f, s + MOST_LANES)
        lanes = e - s
        for i in range(k):
            p, q = part[i], h[i, s:e]
            for j in range(lanes):
                p[j] = q[j]
        for row in range(n):
            for j in range(lanes):
                y[j] = 0
            add_products(y, wt[row], 0, part, 0, lanes, k)
            o, seen = x[row, s:e], mask[row, s:e] if mask.shape[0] > 0 else none
            if kl:
                total += divergence(y, o, seen, lanes, buffers)
            else:
                for j in range(lanes):
                    y[j] -= o[j]
                total += squares(y[:lanes], seen)
    return total


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
