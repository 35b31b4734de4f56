"""Newton steps for factors whose columns each have their own curvature (KL, masks, weights)."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmfnet.kernels.compiled.lanes import (
    JIT,
    add_matmul,
    divergence,
    extrapolate,
    matmul,
    penalty,
    squares,
)

TILE = 32


@njit(**JIT)
def newton_half(  # type: ignore[no-untyped-def]
    v,
    u,
    ut,
    x,
    mask,
    kl,
    l1,
    l2,
    shrink,
    floor,
    damp,
    n_sweeps,
    out,
    first,
    last,
    buffers,
    measure,
    store,
    fresh,
):
    """One step for columns first:last of v in ``x ~ uᵀ v``; ``out`` receives the new v.

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
    buffers : tuple
        From ``log_buffers``.
    measure : bool
        Whether to return the divergence at v (else 0).
    store : array (k (k + 1) / 2, m), or (0, 0)
        Where the curvature is kept.
    fresh : bool
        False = use the curvature kept by an earlier call.
    """
    k, p = u.shape
    pairs = k * (k + 1) // 2
    lanes = max(32, min(1024, 524288 // pairs) // v.itemsize // 16 * 16)
    t, z = np.empty((TILE, lanes), v.dtype), np.empty((TILE, lanes), v.dtype)
    slope, curve = np.empty((k, lanes), v.dtype), np.empty((pairs, lanes), v.dtype)
    part, move = np.empty((k, lanes), v.dtype), np.empty((k, lanes), v.dtype)
    c, product = np.empty(lanes, v.dtype), np.empty((pairs, TILE), v.dtype)
    masked = mask.shape[0] > 0
    value = 0.0
    for s in range(first, last, lanes):
        e = min(last, s + lanes)
        w = e - s
        for i in range(k):
            d, o = part[i], v[i, s:e]
            for j in range(w):
                d[j] = o[j]
        slope[:] = -l1
        curve[:] = 0
        if not fresh:
            copy_columns(store, s, curve, np.int64(0), w)
        for row in range(0, p, TILE):
            rows = min(TILE, p - row)
            matmul(ut[row : row + rows], part[:, :w], t[:rows, :w])
            for q in range(rows):
                y = t[q, :w]
                seen = mask[row + q, s:e] if masked else y[:0]
                if measure and kl:
                    value += divergence(y, x[row + q, s:e], seen, w, buffers)
                expand(y, z[q, :w], x[row + q, s:e], kl)
                if measure and not kl:
                    value += squares(y, seen)
                if masked:
                    o, g = seen, z[q, :w]
                    for j in range(w):
                        y[j] *= o[j]
                        g[j] *= o[j]
            add_matmul(u[:, row : row + rows], t[:rows, :w], slope[:, :w])
            if fresh:
                for i in range(k):
                    for o in range(i + 1):
                        both = product[at(i, o)]
                        for q in range(rows):
                            both[q] = u[i, row + q] * u[o, row + q]
                add_matmul(product[:, :rows], z[:rows, :w], curve[:, :w])
        if fresh and store.shape[0] > 0:
            copy_columns(curve, np.int64(0), store, s, w)
        for i in range(k):
            d, g, o, h = move[i, :w], slope[i, :w], v[i, s:e], curve[i * (i + 3) // 2, :w]
            for j in range(w):
                d[j] = 0
                g[j] = (g[j] - l2 * o[j]) * damp
                h[j] += l2
        descend(v, slope, curve, move, c, shrink, n_sweeps, s, e)
        write(v, move, c, floor, out, s, e)
    return value


@njit(**JIT)
def copy_columns(source, i, target, j, w):  # type: ignore[no-untyped-def]
    """``target[:, j : j + w] = source[:, i : i + w]``."""
    for q in range(source.shape[0]):
        a, b = source[q, i : i + w], target[q, j : j + w]
        for c in range(w):
            b[c] = a[c]


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
    x,
    xt,
    mask,
    mask_t,
    w,
    w_old,
    h,
    h_old,
    memory,
    kl,
    l1,
    l2,
    shrink,
    floor,
    damp,
    least,
    limit,
    n_sweeps,
    n_iter,
    fit_h,
    buffers,
    slow,
):
    """``n_iter`` extrapolated iterations in place on (w, h).

    x and xt are (n, f) and (f, n), so are the masks; w is (k, n), h is (k, f). memory[0] is
    Nesterov's t, which starts again when memory[1], the objective at the extrapolated W, rises.
    Curvature is computed every other iteration once an iteration leaves more than ``slow`` of the
    objective; ``slow`` = infinity: in every iteration.
    """
    kind = x.dtype.type
    n, f = x.shape
    w_y, h_y = np.empty_like(w), np.empty_like(h)
    wt, ht = np.empty((n, w.shape[0]), x.dtype), np.ascontiguousarray(h.T)
    lazy = slow < np.inf
    pairs = w.shape[0] * (w.shape[0] + 1) // 2 if lazy else 0
    store_w = np.empty((pairs, n if lazy else 0), x.dtype)
    store_h = np.empty((pairs, f if lazy else 0), x.dtype)
    t, previous = memory[0], memory[1]
    start, no, fresh = np.int64(0), np.bool_(False), np.bool_(n_iter > 0)  # see JIT
    for _ in range(n_iter):
        t_next = 0.5 * (1 + np.sqrt(1 + 4 * t * t))
        step = kind(min((t - 1) / t_next, limit))
        t = t_next
        extrapolate(w_y, w, w_old, step, least)
        value = penalty(w_y, l1[0], l2[0]) + penalty(h, l1[1], l2[1])
        value += newton_half(
            w_y,
            h,
            ht,
            xt,
            mask_t,
            kl,
            l1[0],
            l2[0],
            shrink,
            floor,
            damp,
            n_sweeps,
            w,
            start,
            n,
            buffers,
            limit > 0,
            store_w,
            fresh,
        )
        rose, slowly = value > previous, value > slow * previous
        if rose:
            t, step = 1.0, kind(0)
        previous = value
        if fit_h:
            wt[:] = w.T
            extrapolate(h_y, h, h_old, step, least)
            newton_half(
                h_y,
                w,
                wt,
                x,
                mask,
                kl,
                l1[1],
                l2[1],
                shrink,
                floor,
                damp,
                n_sweeps,
                h,
                start,
                f,
                buffers,
                no,
                store_h,
                fresh,
            )
            ht[:] = h.T
        fresh = np.bool_(not (fresh and slowly and not rose))
    memory[0], memory[1] = t, previous
