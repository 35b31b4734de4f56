"""Poisson regression of a row on few known components, chosen by an information criterion."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmfnet.kernels.compiled.lanes import JIT

MOST_STEPS, SWEEPS = 200, 30
"""Newton steps of a fit, and sweeps over the components in each, at most."""

CLOSE, EXACT = 1e-3, 1e-9
"""A fit ends when a step promises less than this, in nats: one among many, and the last."""

NONE = 1e-9
"""Share of a row below which a weight is 0."""

TINY = 1e-12
"""Least expected count, as a share of the mean of the row."""

TRIED = 3
"""Components that are looked at before one is taken out or added."""


@njit(**JIT)
def select_rows(x, seen, H, cost, kept, first, last, out):  # type: ignore[no-untyped-def]
    """Weights of rows first:last of x on rows of H that earn their cost, others 0.

    Parameters
    ----------
    x : array, shape (n, f)
        Counts.
    seen : array, shape (n, f)
        Weights of the entries.
    H : array, shape (k, f)
    cost : array, shape (n,)
        Nats that a component has to save in a row.
    kept : array of bool, shape (k,)
        Components that cost nothing.
    first, last : int
    out : array, shape (n, k)
    """
    k = H.shape[0]
    for i in range(first, last):
        row, weights = x[i], seen[i]
        total = (row * weights).sum()
        if total <= 0:
            continue
        w, active = np.zeros(k), np.zeros(k, np.bool_)
        for j in range(k):
            size = (weights * H[j]).sum()
            active[j] = size > 0
            w[j] = total / (k * size) if size > 0 else 0.0
        fit(row, weights, H, active, w, CLOSE)
        for j in range(k):
            if not kept[j] and w[j] * (weights * H[j]).sum() <= NONE * total:
                active[j], w[j] = False, 0.0
        thin(row, weights, H, cost[i], kept, active, w)
        while exchange(row, weights, H, cost[i], kept, active, w):
            pass
        fit(row, weights, H, active, w, EXACT)
        out[i] = w


@njit(**JIT)
def fit(x, seen, H, active, w, close):  # type: ignore[no-untyped-def]
    """Lower ``Σ seen (y - x log y)``, y = w H, over ``w >= 0`` of the active components; its value.

    Newton's steps: the quadratic model is minimised by coordinate descent, then halved until it holds.
    """
    index = np.flatnonzero(active)
    m = len(index)
    part = H[index]
    v, move, slope = w[index], np.empty(m), np.empty(m)
    floor = least(x, seen)
    value = cost_of(x, seen, part, v, floor)
    for _ in range(MOST_STEPS):
        y = expected(part, v, floor)
        curve = curvature(x, seen, part, y)
        for a in range(m):
            slope[a] = (seen * part[a] * (1 - x / y)).sum()
            move[a] = 0.0
        for _ in range(SWEEPS):
            largest = 0.0
            for a in range(m):
                rest = slope[a]
                for b in range(m):
                    rest += curve[a, b] * move[b]
                new = move[a] - rest / curve[a, a] if curve[a, a] > 0 else -v[a]
                new = max(new, -v[a])
                largest = max(largest, abs(new - move[a]) * abs(rest))
                move[a] = new
            if largest < 0.01 * close:
                break
        promise = 0.0
        for a in range(m):
            promise -= slope[a] * move[a]
        if not promise > close:
            break
        length, lower = 1.0, value
        for _ in range(40):
            lower = cost_of(x, seen, part, v + length * move, floor)
            if lower <= value - 1e-4 * length * promise:
                break
            length *= 0.5
        if not lower < value:
            break
        v, value = v + length * move, lower
    for a in range(m):
        w[index[a]] = v[a]
    return value


@njit(**JIT)
def least(x, seen):  # type: ignore[no-untyped-def]
    """What every expected count is at least."""
    return TINY * (x * seen).sum() / x.shape[0]


@njit(**JIT)
def expected(part, v, floor):  # type: ignore[no-untyped-def]
    """Expected counts, shape (f,)."""
    y = np.full(part.shape[1], floor)
    for a in range(len(v)):
        y += v[a] * part[a]
    return y


@njit(**JIT)
def cost_of(x, seen, part, v, floor):  # type: ignore[no-untyped-def]
    """Minus the log-likelihood but for what is constant."""
    y = expected(part, v, floor)
    return (seen * (y - x * np.log(y))).sum()


@njit(**JIT)
def curvature(x, seen, part, y):  # type: ignore[no-untyped-def]
    """``Σ seen x / y² H_a H_b``, shape (m, m)."""
    bent = part * (seen * x / (y * y))
    return bent @ part.T


@njit(**JIT)
def thin(x, seen, H, cost, kept, active, w):  # type: ignore[no-untyped-def]
    """Take out components while that costs less than it saves; returns the penalised value reached.

    Those that a quadratic model holds for cheapest (Wald's statistic) are tried by a fit without them.
    """
    value = fit(x, seen, H, active, w, CLOSE)
    while True:
        index = np.flatnonzero(active)
        rise = wald(x, seen, H[index], w[index])
        best, lowest, instead = np.int64(-1), np.inf, w
        for a in np.argsort(rise)[:TRIED]:
            j = index[a]
            if kept[j] or len(index) < 2:
                continue
            without, less = w.copy(), active.copy()
            without[j], less[j] = 0.0, False
            found = fit(x, seen, H, less, without, CLOSE)
            if found < lowest:
                best, lowest, instead = j, found, without
        if best < 0 or lowest - value > cost:
            return value + cost * (active & ~kept).sum()
        active[best] = False
        w[:], value = instead, lowest


@njit(**JIT)
def wald(x, seen, part, v):  # type: ignore[no-untyped-def]
    """How far a quadratic model rises as each weight goes to 0 and the others follow."""
    y = expected(part, v, least(x, seen))
    curve = curvature(x, seen, part, y)
    scale = np.sqrt(np.diag(curve)) + 1e-300
    for a in range(len(v)):
        curve[a] /= scale[a] * scale
        curve[a, a] += 1e-9
    inverse = np.linalg.inv(curve)
    return (v * scale) ** 2 / (2 * np.diag(inverse))


@njit(**JIT)
def exchange(x, seen, H, cost, kept, active, w):  # type: ignore[no-untyped-def]
    """Add a component, and take out what it makes needless, where that pays; whether it did.

    Those whose score test promises most are tried.
    """
    index = np.flatnonzero(active)
    floor = least(x, seen)
    value = cost_of(x, seen, H[index], w[index], floor) + cost * (active & ~kept).sum()
    y = expected(H[index], w[index], floor)
    promise = np.zeros(len(H))
    for j in range(len(H)):
        slope = (seen * H[j] * (x / y - 1)).sum()
        if slope > 0 and not active[j]:
            bend = (seen * H[j] * H[j] * x / (y * y)).sum()
            promise[j] = slope * slope / max(2 * bend, 1e-300)
    for j in np.argsort(-promise)[:TRIED]:
        if promise[j] > CLOSE:
            more, other = active.copy(), w.copy()
            more[j] = True
            other[j] = 0.01 * (x * seen).sum() / max((seen * H[j]).sum(), 1e-300)
            if thin(x, seen, H, cost, kept, more, other) < value - 10 * CLOSE:
                active[:], w[:] = more, other
                return True
    return False
