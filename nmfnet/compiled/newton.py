"""Newton steps for factors whose columns each have their own curvature (KL, masks, weights)."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmfnet.compiled.lanes import JIT, add_products, extrapolate

TILE = 32


@njit(**JIT)
def newton_half(  # type: ignore[no-untyped-def]
    v, u, ut, x, mask, kl, l1, l2, shrink, floor, damp, n_sweeps, out, first, last
):
    """One step for columns first:last of v in ``x ~ u v``; ``out`` receives the new v.

    The divergence is replaced by its second-order expansion at v, which is minimised by
    coordinate descent over ``out >= shrink v``.

    Parameters
    ----------
    v, out : arrays (k, m)
    u, ut : arrays (k, p) and (p, k)
        The other factor, both ways.
    x : array (p, m)
    mask : array (p, m), or (0, 0) where everything is observed
    kl : bool
        Kullback-Leibler divergence, else half the squared error.
    l1, l2 : float
        Penalties of v.
    shrink : float
        0 for the squared error; for KL an entry may not fall below this multiple of itself.
    floor : float
        No entry of ``out`` is below this multiple of the largest of its column (KL).
    damp : float
        One over the factor by which the curvature is enlarged.
    n_sweeps : int
    first, last : int
    """
    k, p = u.shape
    pairs = k * (k + 1) // 2
    lanes = max(32, min(1024, 524288 // pairs) // v.itemsize // 16 * 16)
    t, z = np.empty((TILE, lanes), v.dtype), np.empty((TILE, lanes), v.dtype)
    slope, curve = np.empty((k, lanes), v.dtype), np.empty((pairs, lanes), v.dtype)
    part, move = np.empty((k, lanes), v.dtype), np.empty((k, lanes), v.dtype)
    c, product = np.empty(lanes, v.dtype), np.empty(TILE, v.dtype)
    masked = mask.shape[0] > 0
    for s in range(first, last, lanes):
        e = min(last, s + lanes)
        w = e - s
        for i in range(k):
            d, o = part[i], v[i, s:e]
            for j in range(w):
                d[j] = o[j]
        slope[:] = -l1
        curve[:] = 0
        for row in range(0, p, TILE):
            rows = min(TILE, p - row)
            for q in range(rows):
                y = t[q, :w]
                for j in range(w):
                    y[j] = 0
                add_products(y, ut[row + q], 0, part, 0, w, k)
                expand(y, z[q, :w], x[row + q, s:e], kl)
                if masked:
                    o, g = mask[row + q, s:e], z[q, :w]
                    for j in range(w):
                        y[j] *= o[j]
                        g[j] *= o[j]
            pair = 0
            for i in range(k):
                add_products(slope[i], u[i], row, t, 0, w, rows)
                a = u[i, row : row + rows]
                for o in range(i + 1):
                    b = u[o, row : row + rows]
                    for q in range(rows):
                        product[q] = a[q] * b[q]
                    add_products(curve[pair], product, 0, z, 0, w, rows)
                    pair += 1
        for i in range(k):
            d, g, o, h = move[i, :w], slope[i, :w], v[i, s:e], curve[i * (i + 3) // 2, :w]
            for j in range(w):
                d[j] = 0
                g[j] = (g[j] - l2 * o[j]) * damp
                h[j] += l2
        descend(v, slope, curve, move, c, shrink, n_sweeps, s, e)
        write(v, move, c, floor, out, s, e)


@njit(**JIT)
def expand(y, z, x, kl):  # type: ignore[no-untyped-def]
    """Replace y = (u v) by minus the slope of the divergence, and z by its curvature."""
    one, tiny = y.dtype.type(1), y.dtype.type(1e-30)
    if kl:
        for j in range(y.shape[0]):
            r = one / (y[j] + tiny)
            a = x[j] * r
            y[j] = a - one
            z[j] = a * r
    else:
        for j in range(y.shape[0]):
            y[j] = x[j] - y[j]
            z[j] = one


@njit(**JIT)
def descend(v, slope, curve, move, c, shrink, n_sweeps, s, e):  # type: ignore[no-untyped-def]
    """Coordinate descent on the expansion; ``curve`` holds the lower triangles, row by row."""
    k, w = v.shape[0], e - s
    tiny = v.dtype.type(1e-30)
    for _ in range(n_sweeps):
        for i in range(k):
            g, r = slope[i, :w], c[:w]
            for j in range(w):
                r[j] = g[j]
            q = 0
            while q + 2 <= k:
                h0, h1 = curve[at(i, q), :w], curve[at(i, q + 1), :w]
                d0, d1 = move[q, :w], move[q + 1, :w]
                for j in range(w):
                    r[j] -= h0[j] * d0[j] + h1[j] * d1[j]
                q += 2
            if q < k:
                h0, d0 = curve[at(i, q), :w], move[q, :w]
                for j in range(w):
                    r[j] -= h0[j] * d0[j]
            h0, d0, o = curve[at(i, i), :w], move[i, :w], v[i, s:e]
            for j in range(w):
                d0[j] = max(d0[j] + r[j] / (h0[j] + tiny), (shrink - 1) * o[j])


@njit(**JIT)
def write(v, move, peak, floor, out, s, e):  # type: ignore[no-untyped-def]
    """``out = v + move``, no entry below ``floor`` times the largest of its column."""
    w = e - s
    for j in range(w):
        peak[j] = 0
    for i in range(v.shape[0]):
        d, o, g = move[i, :w], v[i, s:e], out[i, s:e]
        for j in range(w):
            g[j] = o[j] + d[j]
            peak[j] = max(peak[j], g[j])
    if floor > 0:
        for i in range(v.shape[0]):
            g = out[i, s:e]
            for j in range(w):
                g[j] = max(g[j], floor * peak[j])


@njit(**JIT)
def at(i, q):  # type: ignore[no-untyped-def]
    """Place of entry (i, q) of a symmetric matrix in the list of its lower triangle."""
    return i * (i + 1) // 2 + q if q <= i else q * (q + 1) // 2 + i


@njit(**JIT)
def newton_run(  # type: ignore[no-untyped-def]
    x, xt, mask, mask_t, w, w_old, h, h_old, memory, kl, l1, l2, shrink, floor, damp, least, limit,
    n_sweeps, n_iter, fit_h
):
    """``n_iter`` extrapolated iterations in place on (w, h); memory[0] is Nesterov's t.

    x and xt are (n, f) and (f, n), so are the masks; w is (k, n), h is (k, f).
    """
    kind = x.dtype.type
    w_y, h_y = np.empty_like(w), np.empty_like(h)
    wt, ht = np.empty((w.shape[1], w.shape[0]), x.dtype), np.ascontiguousarray(h.T)
    t = memory[0]
    for _ in range(n_iter):
        t_next = 0.5 * (1 + np.sqrt(1 + 4 * t * t))
        step = kind(min((t - 1) / t_next, limit))
        t = t_next
        extrapolate(w_y, w, w_old, step, least)
        n = w.shape[1]
        newton_half(w_y, h, ht, xt, mask_t, kl, l1[0], l2[0], shrink, floor, damp, n_sweeps, w, 0, n)
        if not fit_h:
            continue
        wt[:] = w.T
        extrapolate(h_y, h, h_old, step, least)
        n = h.shape[1]
        newton_half(h_y, w, wt, x, mask, kl, l1[1], l2[1], shrink, floor, damp, n_sweeps, h, 0, n)
        ht[:] = h.T
    memory[0] = t
