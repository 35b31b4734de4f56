"""Accelerated HALS with extrapolation for many restarts on one small dense matrix, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from nmfnet.kernels.compiled.hals import HIDDEN, NOISE
from nmfnet.kernels.compiled.lanes import JIT
from nmfnet.kernels.compiled.vectors import BYTES, load, positive, spread, store

Array = npt.NDArray[Any]
WIDTH = 8


def tiles(x: Array) -> Array:
    """X (n, f) as (⌈n / 8⌉, f, 8): eight rows together, zeros below the last."""
    n, f = x.shape
    out = np.zeros((-(-n // WIDTH) * WIDTH, f), x.dtype)
    out[:n] = x
    return np.ascontiguousarray(out.reshape(-1, WIDTH, f).transpose(0, 2, 1))


@njit(**JIT)
def room(k, m, like):  # type: ignore[no-untyped-def]
    """Zeros (k, m, lanes) that start where a vector register may."""
    lanes = BYTES // like.itemsize
    flat = np.zeros(k * m * lanes + lanes, like.dtype)
    first = (-flat.ctypes.data % BYTES) // like.itemsize
    return flat[first : first + k * m * lanes].reshape((k, m, lanes))


@njit(**JIT)
def gather(state, members, m):  # type: ignore[no-untyped-def]
    """Factors (restart, k, n) of the members as (k, m >= n, lanes); the last member fills up."""
    out = room(state.shape[1], m, state)
    for r in range(out.shape[2]):
        one = state[members[min(r, members.shape[0] - 1)]]
        for i in range(one.shape[0]):
            for j in range(one.shape[1]):
                out[i, j, r] = one[i, j]
    return out


@njit(**JIT)
def scatter(v, members, state):  # type: ignore[no-untyped-def]
    """Write factors (k, m, lanes) back to the restarts that they belong to."""
    for r in range(members.shape[0]):
        one = state[members[r]]
        for i in range(one.shape[0]):
            for j in range(one.shape[1]):
                one[i, j] = v[i, j, r]


@njit(**JIT)
def hals_group(  # type: ignore[no-untyped-def]
    x, xt, w_y, w_old, h_y, h_old, memory, members, half_square, l1, l2, sweeps, n_iter, momentum
):
    """``n_iter`` iterations of some restarts in place, each as by ``hals_run``: a lane for each.

    Parameters
    ----------
    x, xt : arrays (⌈n / 8⌉, f, 8) and (⌈f / 8⌉, n, 8)
        From :func:`tiles`, of X and of its transpose.
    w_y, w_old, h_y, h_old, memory : arrays (restarts, k, n), (restarts, k, f), (restarts, 3)
        The state of all restarts, in a row each.
    members : array of int, at most as many as a register has lanes
        The restarts to advance.
    half_square, l1, l2, sweeps, n_iter, momentum
        As for ``hals_run``.
    """
    k, n, f = w_y.shape[1], WIDTH * x.shape[0], WIDTH * xt.shape[0]
    y_w, old_w = gather(w_y, members, n), gather(w_old, members, n)
    y_h, old_h = gather(h_y, members, f), gather(h_old, members, f)
    new_h, a, part = room(k, f, x), room(k, WIDTH, x), room(k, WIDTH, x)
    b, g, inverse, dots = room(k, k, x), room(k, k, x), room(k, 1, x), room(k, 1, x)
    step, lanes = room(1, 1, x), y_w.shape[2]
    t, t_next, previous = np.ones(lanes), np.ones(lanes), np.ones(lanes)
    value, exact, unclear = np.ones(lanes), np.ones(lanes), np.zeros(lanes, np.bool_)
    last, noise = np.full(lanes, np.inf), NOISE * np.finfo(x.dtype).eps * half_square
    for r in range(lanes):
        own = memory[members[min(r, members.shape[0] - 1)]]
        t[r], previous[r] = own[0], own[1]
    for _ in range(n_iter):
        for r in range(lanes):
            if momentum:
                t_next[r] = 0.5 * (1 + np.sqrt(1 + 4 * t[r] * t[r]))
            step[0, 0, r] = (t[r] - 1) / t_next[r]
        gram(y_h, b)
        prepare(b, l2[0], inverse)
        for s in range(0, n, WIDTH):
            improve(y_w, y_h, x, b, inverse, l1[0], sweeps[0], s, part, a)
            extrapolate(y_w, part, old_w, step, s)
        gram(y_w, g)
        exact[:] = 0
        penalties(y_w, g, l1[0], l2[0], exact)
        prepare(g, l2[1], inverse)
        dots[:] = 0
        for s in range(0, f, WIDTH):
            improve(y_h, y_w, xt, g, inverse, l1[1], sweeps[1], s, part, a)
            keep(part, a, new_h, dots, s)
        gram(new_h, b)
        for r in range(lanes):
            value[r] = half_square + exact[r]
            for i in range(k):
                value[r] -= dots[i, 0, r]
                for j in range(k):
                    value[r] += 0.5 * b[i, j, r] * g[i, j, r]
        for r in range(lanes):
            unclear[r] = abs(value[r] - previous[r]) < noise and noise > HIDDEN * value[r]
        if unclear.any():
            residuals(xt, y_w, new_h, exact)
            penalties(new_h, b, l1[1], l2[1], exact)
        for r in range(lanes):
            rose = exact[r] > last[r] if unclear[r] else value[r] > previous[r]
            last[r], previous[r] = exact[r] if unclear[r] else np.inf, value[r]
            t[r] = t_next[r]
            if rose:
                t[r], step[0, 0, r] = 1.0, 0
                y_w[:, :, r] = old_w[:, :, r]
        for s in range(0, f, WIDTH):
            extrapolate(y_h, new_h[:, s : s + WIDTH], old_h, step, s)
    scatter(y_w, members, w_y)
    scatter(old_w, members, w_old)
    scatter(y_h, members, h_y)
    scatter(old_h, members, h_old)
    for r in range(members.shape[0]):
        memory[members[r], 0], memory[members[r], 1] = t[r], previous[r]


@njit(**JIT)
def improve(v, u, x, b, inverse, l1, n_sweeps, s, part, a):  # type: ignore[no-untyped-def]
    """Sweeps over columns s to s + 7 of v: part is what they become, a their linear part.

    The columns are independent of each other, so that eight sums are under way at any time.
    """
    k, y = u.shape[0], x[s // WIDTH]
    for i in range(k):
        c0 = spread(-l1)
        c1, c2, c3, c4, c5, c6, c7 = c0, c0, c0, c0, c0, c0, c0
        for j in range(y.shape[0]):
            d = load(u, (i, j))
            c0, c1, c2, c3 = c0 + y[j, 0] * d, c1 + y[j, 1] * d, c2 + y[j, 2] * d, c3 + y[j, 3] * d
            c4, c5, c6, c7 = c4 + y[j, 4] * d, c5 + y[j, 5] * d, c6 + y[j, 6] * d, c7 + y[j, 7] * d
        put(a, i, c0, c1, c2, c3, c4, c5, c6, c7)
        for q in range(WIDTH):
            store(part, (i, q), load(v, (i, s + q)))
    for _ in range(n_sweeps):
        for i in range(k):
            c0, c1, c2, c3, c4, c5, c6, c7 = get(a, i)
            for o in range(i + 1, i + k + 1):  # the component itself last, the newest before it
                j = o if o < k else o - k
                d = load(b, (i, j))
                p0, p1, p2, p3, p4, p5, p6, p7 = get(part, j)
                c0, c1, c2, c3 = c0 - d * p0, c1 - d * p1, c2 - d * p2, c3 - d * p3
                c4, c5, c6, c7 = c4 - d * p4, c5 - d * p5, c6 - d * p6, c7 - d * p7
            r = load(inverse, (i, 0))
            put(
                part, i, positive(p0 + c0 * r), positive(p1 + c1 * r), positive(p2 + c2 * r),
                positive(p3 + c3 * r), positive(p4 + c4 * r), positive(p5 + c5 * r),
                positive(p6 + c6 * r), positive(p7 + c7 * r),
            )  # fmt: skip


@njit(inline="always", **JIT)
def get(v, i):  # type: ignore[no-untyped-def]
    """Eight vectors of row i."""
    return (
        load(v, (i, 0)), load(v, (i, 1)), load(v, (i, 2)), load(v, (i, 3)),
        load(v, (i, 4)), load(v, (i, 5)), load(v, (i, 6)), load(v, (i, 7)),
    )  # fmt: skip


@njit(inline="always", **JIT)
def put(v, i, c0, c1, c2, c3, c4, c5, c6, c7):  # type: ignore[no-untyped-def]
    """Eight vectors into row i."""
    store(v, (i, 0), c0)
    store(v, (i, 1), c1)
    store(v, (i, 2), c2)
    store(v, (i, 3), c3)
    store(v, (i, 4), c4)
    store(v, (i, 5), c5)
    store(v, (i, 6), c6)
    store(v, (i, 7), c7)


@njit(**JIT)
def extrapolate(y, new, old, step, s):  # type: ignore[no-untyped-def]
    """``y = max(new + step (new - old), 0)``, and old becomes new, in columns s to s + 7."""
    ahead = load(step, (0, 0))
    for i in range(y.shape[0]):
        for q in range(WIDTH):
            v = load(new, (i, q))
            store(y, (i, s + q), positive(v + ahead * (v - load(old, (i, s + q)))))
            store(old, (i, s + q), v)


@njit(**JIT)
def keep(part, a, v, dots, s):  # type: ignore[no-untyped-def]
    """Columns s to s + 7 of v become part, and dots grows by ``sum(part * a)`` of each row."""
    for i in range(v.shape[0]):
        total = load(dots, (i, 0))
        for q in range(WIDTH):
            new = load(part, (i, q))
            total = total + load(a, (i, q)) * new
            store(v, (i, s + q), new)
        store(dots, (i, 0), total)


@njit(**JIT)
def gram(v, out):  # type: ignore[no-untyped-def]
    """``out (k, k, lanes) = v vᵀ``, four rows at a time."""
    k, m = v.shape[0], v.shape[1]
    for i in range(k):
        for j in range(0, i + 1, 4):
            j1, j2, j3 = min(j + 1, i), min(j + 2, i), min(j + 3, i)
            c0 = spread(v.dtype.type(0))
            c1, c2, c3, e0, e1, e2, e3 = c0, c0, c0, c0, c0, c0, c0
            for q in range(0, m, 2):
                d, e = load(v, (i, q)), load(v, (i, q + 1))
                c0, e0 = c0 + d * load(v, (j, q)), e0 + e * load(v, (j, q + 1))
                c1, e1 = c1 + d * load(v, (j1, q)), e1 + e * load(v, (j1, q + 1))
                c2, e2 = c2 + d * load(v, (j2, q)), e2 + e * load(v, (j2, q + 1))
                c3, e3 = c3 + d * load(v, (j3, q)), e3 + e * load(v, (j3, q + 1))
            for o, c in ((j, c0 + e0), (j1, c1 + e1), (j2, c2 + e2), (j3, c3 + e3)):
                store(out, (i, o), c)
                store(out, (o, i), c)


@njit(**JIT)
def prepare(b, l2, inverse):  # type: ignore[no-untyped-def]
    """Add l2 to the diagonal of b; inverse is one over it, 0 where it is 0."""
    for i in range(b.shape[0]):
        for r in range(b.shape[2]):
            b[i, i, r] += l2
            inverse[i, 0, r] = 1 / b[i, i, r] if b[i, i, r] > 0 else 0


@njit(**JIT)
def penalties(v, square, l1, l2, value):  # type: ignore[no-untyped-def]
    """Add ``l1 sum(v) + l2 / 2 sum(v ** 2)`` of every lane; square is ``v vᵀ``."""
    for i in range(v.shape[0]):
        for r in range(v.shape[2]):
            value[r] += 0.5 * l2 * square[i, i, r]
        for j in range(v.shape[1] if l1 > 0 else 0):
            for r in range(v.shape[2]):
                value[r] += l1 * v[i, j, r]


@njit(**JIT)
def residuals(x, w, h, value):  # type: ignore[no-untyped-def]
    """Add ``sum((X - wᵀ h) ** 2) / 2`` of every lane; x is the tiles of X transposed."""
    sums = room(1, 1, w)
    for s in range(x.shape[0]):
        y, v = x[s], h[:, WIDTH * s : WIDTH * (s + 1)]
        total = spread(w.dtype.type(0))
        for j in range(y.shape[0]):
            c0, c1, c2, c3 = spread(y[j, 0]), spread(y[j, 1]), spread(y[j, 2]), spread(y[j, 3])
            c4, c5, c6, c7 = spread(y[j, 4]), spread(y[j, 5]), spread(y[j, 6]), spread(y[j, 7])
            for i in range(w.shape[0]):
                d = load(w, (i, j))
                p0, p1, p2, p3, p4, p5, p6, p7 = get(v, i)
                c0, c1, c2, c3 = c0 - d * p0, c1 - d * p1, c2 - d * p2, c3 - d * p3
                c4, c5, c6, c7 = c4 - d * p4, c5 - d * p5, c6 - d * p6, c7 - d * p7
            total = total + (
                ((c0 * c0 + c1 * c1) + (c2 * c2 + c3 * c3))
                + ((c4 * c4 + c5 * c5) + (c6 * c6 + c7 * c7))
            )
        store(sums, (0, 0), total)
        for r in range(value.shape[0]):
            value[r] += 0.5 * sums[0, 0, r]
