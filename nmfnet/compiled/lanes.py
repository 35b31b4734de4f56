"""Products, sweeps and steps on component-major factors: the words of the compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

JIT: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "arcp", "nsz"},  # NaN and infinity keep their meaning
}


@njit(**JIT)
def add_products(c, a, first, t, w, terms):  # type: ignore[no-untyped-def]
    """``c[:w] += sum_q a[first + q] t[q, :w]`` for q < terms: eight rows per pass over c."""
    q = 0
    while q + 8 <= terms:
        i = first + q
        a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
        a4, a5, a6, a7 = a[i + 4], a[i + 5], a[i + 6], a[i + 7]
        t0, t1, t2, t3 = t[q, :w], t[q + 1, :w], t[q + 2, :w], t[q + 3, :w]
        t4, t5, t6, t7 = t[q + 4, :w], t[q + 5, :w], t[q + 6, :w], t[q + 7, :w]
        for j in range(w):
            c[j] += (
                a0 * t0[j] + a1 * t1[j] + a2 * t2[j] + a3 * t3[j]
                + a4 * t4[j] + a5 * t5[j] + a6 * t6[j] + a7 * t7[j]
            )  # fmt: skip
        q += 8
    while q + 4 <= terms:
        i = first + q
        a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
        t0, t1, t2, t3 = t[q, :w], t[q + 1, :w], t[q + 2, :w], t[q + 3, :w]
        for j in range(w):
            c[j] += a0 * t0[j] + a1 * t1[j] + a2 * t2[j] + a3 * t3[j]
        q += 4
    while q < terms:
        a0, t0 = a[first + q], t[q, :w]
        for j in range(w):
            c[j] += a0 * t0[j]
        q += 1


@njit(**JIT)
def matmul(left, right, out):  # type: ignore[no-untyped-def]
    """``out (k, m) = left (k, p) @ right (p, m)``, blocked so that ``right`` is read once."""
    k, p = left.shape
    m = right.shape[1]
    lanes = 4096 // out.itemsize
    for s in range(0, m, lanes):
        e = min(m, s + lanes)
        out[:, s:e] = 0
        for q in range(0, p, 8):
            rows = min(8, p - q)
            part = right[q : q + rows, s:e]
            for j in range(k):
                add_strided(out[j, s:e], left[j], q, right, s, e, rows)
        del part


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
