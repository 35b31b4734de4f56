"""Multiplicative KL updates with extrapolation; W H is never written to memory."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmfnet.kernels.compiled.lanes import JIT, add_products

TILE = 32


@njit(**JIT)
def ratio_columns(v, u, ut, x, mask, out, first, last):  # type: ignore[no-untyped-def]
    """``out = u (mask x / (uᵀ v))`` for columns first:last of v (k, m); x is (p, m)."""
    k, p = u.shape
    lanes = 1024 // v.itemsize
    t, part = np.empty((TILE, lanes), v.dtype), np.empty((k, lanes), v.dtype)
    total = np.empty((k, lanes), v.dtype)
    tiny = v.dtype.type(1e-30)
    masked = mask.shape[0] > 0
    for s in range(first, last, lanes):
        e = min(last, s + lanes)
        w = e - s
        total[:] = 0
        for i in range(k):
            d, o = part[i], v[i, s:e]
            for j in range(w):
                d[j] = o[j]
        for row in range(0, p, TILE):
            rows = min(TILE, p - row)
            for q in range(rows):
                y, o = t[q], x[row + q, s:e]
                for j in range(w):
                    y[j] = tiny
                add_products(y, ut[row + q], 0, part, 0, w, k)
                for j in range(w):
                    y[j] = o[j] / y[j]
                if masked:
                    o = mask[row + q, s:e]
                    for j in range(w):
                        y[j] *= o[j]
            for i in range(k):
                add_products(total[i], u[i], row, t, 0, w, rows)
        for i in range(k):
            d, o = out[i, s:e], total[i]
            for j in range(w):
                d[j] = o[j]
