"""Newton steps in each factor for KL, and for squared errors with a mask or weights.

There every column of a factor has its own curvature, a k x k matrix. The divergence is replaced by
its second-order expansion and that is minimised under the constraint by coordinate descent. An
iteration costs about ``1 + k / 4`` multiplicative updates and does the work of many tens of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from nmfnet.kernels.extrapolation import Pair, Rows, State, guarded, rewind, untouched
from nmfnet.kernels.matrix import Matrix
from nmfnet.kernels.products import (
    Array,
    Both,
    Side,
    csr,
    facing,
    in_ranges,
    in_threads,
    mask_array,
    mask_products,
    objective,
    over_rows,
    ratio_products,
    row_major,
    times_x,
    times_xt,
)
from nmfnet.kernels.rows import spans, take_rows
from nmfnet.kernels.sparse import at_entries as gathered
from nmfnet.kernels.sparse import with_values
from nmfnet.types import Float, Tensor

SHRINK = 0.5
"""KL: no entry falls below this multiple of itself in one step, so no reconstruction reaches 0."""

UPDATES = 2
"""Multiplicative updates of a rough start."""

SWEEPS = 4
"""Coordinate descent sweeps on each expansion."""

LEAST = 0.3
"""KL: an extrapolated entry is at least this multiple of the last one."""

KEPT_BYTES = 256_000_000
"""Most memory for curvatures that are used twice."""

MOSTLY = 0.75
"""Least share of observed entries for curvatures to be used twice."""

SLOW = 0.8
"""The objective changes slowly when an iteration leaves more than this of it."""

LIMIT = 0.95
"""Largest extrapolation step."""

WIDE = 50_000_000
"""Entries times squared components from which on one restart is worth several threads."""

IN_CACHE = 16
"""By so much a block of the torch path is smaller than others: it is read and written several times."""

SIDES: tuple[Side, ...] = ("w", "h")

Arrays = dict[Side, list[Array]]
"""Of each factor of a restart the running values, and those before."""


class Options(NamedTuple):
    """What every way to run the iterations is told; ``curvature`` divides the steps."""

    beta: float
    l1: Both
    l2: Both
    n_iter: int
    extrapolate: bool
    fit_h: bool
    curvature: float


def newton(
    state: State,
    data: Matrix,
    n_iter: int,
    *,
    beta: float = 1.0,
    l1: Both = (0.0, 0.0),
    l2: Both = (0.0, 0.0),
    extrapolation: bool = True,
    fit_h: bool = True,
    rows: Rows | None = None,
    compiled: bool | None = None,
) -> Float[Tensor, " live"]:
    """Advance restarts by ``n_iter`` iterations, in place.

    Parameters
    ----------
    state : State
        From :func:`nmfnet.kernels.extrapolation.begin`; ``state.W`` and ``state.H`` are the
        result.
    data : Matrix
        X >= 0 for KL. Dense with its transpose, with or without mask; sparse CSR for KL, or with
        only the stored entries observed.
    n_iter : int
        Iterations: one step of each factor.
    beta : {1, 2}
        1 generalised Kullback-Leibler divergence, 2 half the squared error.
    l1, l2 : pair of float
        Penalties of W and H: ``l1 Σ v + l2 / 2 Σ v²``.
    extrapolation : bool
        Start each step from a point beyond the last one.
    fit_h : bool
        False = H is given and only W moves (a convex problem).
    rows : list of int, optional
        Restarts to advance; default all.
    compiled : bool, optional
        False = plain torch (the oracle, and the only way on a GPU); default where possible.

    Returns
    -------
    Tensor of float64, shape (len(rows),)
        The objective reached, never above that of the previous call.

    Notes
    -----
    KL: with ``new >= ρ old`` every reconstruction keeps at least the fraction ρ of itself, and on
    ``δ >= ρ - 1`` the bound ``-log(1 + δ) <= -δ + c(ρ) δ² / 2``,
    ``c(ρ) = 2 (ρ - 1 - log ρ) / (1 - ρ)²``, holds. Steps with curvature times c(ρ) therefore never
    raise the objective; they are the fallback when a Newton step (c = 1) with extrapolation did.
    Source: the expansion is Newton's; bounded ratios as in multiplicative updates; extrapolation
    after Hien, Leplat & Gillis 2024, "Block majorization minimization with extrapolation".
    """
    compiled = data.compiled if compiled is None else compiled
    if data.x.is_sparse_csr:
        assert beta == 1 or data.mask is not None
    fresh = untouched(state)
    if beta == 1 and fresh:
        settle(state, data, fresh, fit_h=fit_h, compiled=compiled)

    def run(live: Rows, extrapolate: bool) -> None:
        curvature = 1.0 if extrapolate or beta == 2 else bound(SHRINK)
        extrapolate = extrapolate and extrapolation
        options = Options(beta, l1, l2, n_iter, extrapolate, fit_h, curvature)
        if not compiled:
            _run(state, data, live, options)
        elif data.x.is_sparse_csr:
            _run_sparse(state, data, live, options)
        elif data.whole and (len(live) >= torch.get_num_threads() or not _large(state, data)):
            _run_dense(state, data, live, options)
        else:
            _run_columns(state, data, live, options)

    def value(w: Tensor, h: Tensor, live: Rows) -> Tensor:
        return objective(data, w, h, beta, l1, l2, live)

    return guarded(state, rows, run, _reached, value)


def _reached(state: State) -> Pair:
    return state.w_now, state.h_now


def bound(ratio: float) -> float:
    """Least c with ``-log(1 + δ) <= -δ + c δ² / 2`` for all ``δ >= ratio - 1``."""
    return float(
        2 * (ratio - 1 - torch.tensor(ratio, dtype=torch.float64).log()) / (1 - ratio) ** 2
    )


def settle(state: State, data: Matrix, live: Rows, *, fit_h: bool, compiled: bool) -> None:
    """Give a rough start of KL the right sizes: row sums, column sums, two multiplicative updates.

    Each is monotone. From a start of the wrong size Newton steps would crawl.
    """
    sums: dict[Side, Tensor] = {}
    if data.mask is None:
        sums["w"] = times_xt(data, torch.ones_like(state.h[:1, :1]))[0]  # (1, n)
        sums["h"] = times_x(data, torch.ones_like(state.w[:1, :1]))[0]  # (1, f)
    for i in live:
        factors = {"w": state.w[i], "h": state.h[i]}
        sides: list[Side] = ["w", "h"] if fit_h else ["w"]
        for update in range(1 + UPDATES):
            for side in sides:
                v, u = factors[side], factors["h" if side == "w" else "w"]
                pos = mask_products(data, u, side)
                if update > 0:
                    v *= ratio(ratio_products(data, v, u, side, compiled=compiled), pos)
                elif data.mask is None:
                    v *= ratio(sums[side], (pos * v).sum(0, keepdim=True))
    rewind(state, live)


def ratio(neg: Tensor, pos: Tensor) -> Tensor:
    """``neg / pos``, at least 1e-6 so that a factor of an empty row keeps its place; 1 for 0 / 0."""
    return torch.where(pos > 0, neg / pos.clamp_min(1e-30), 1).clamp_min_(1e-6)


def _run_dense(state: State, data: Matrix, live: Rows, options: Options) -> None:
    """Restarts in threads, each without leaving compiled code."""
    beta, l1, l2, n_iter, extrapolate, fit_h, curvature = options
    from nmfnet.kernels.compiled.lanes import log_buffers
    from nmfnet.kernels.compiled.newton import newton_run

    (x, mask), (xt, mask_t) = facing(data, "h"), facing(data, "w")
    arrays = x.numpy(), xt.numpy(), mask_array(mask, x), mask_array(mask_t, x)
    kind = arrays[0].dtype.type
    numbers = _numbers(beta, x.dtype, curvature)
    limit = LIMIT if extrapolate else 0.0
    lazy = extrapolate and _lazy(state, data)
    penalties = [(kind(a), kind(b)) for a, b in (l1, l2)]
    fields = [field.numpy() for field in state[2:]]

    def one(i: int) -> None:
        parts = [field[i] for field in fields]
        newton_run(
            *arrays, *parts, beta == 1, *penalties, *map(kind, numbers), limit, SWEEPS, n_iter,
            fit_h, log_buffers(kind), SLOW if lazy else math.inf,
        )  # fmt: skip

    in_threads(one, live)


def _numbers(
    beta: float, dtype: torch.dtype, curvature: float
) -> tuple[float, float, float, float]:
    """Least ratio of a step, least entry of a column, 1 / curvature, least ratio of a forecast."""
    if beta == 2:
        return 0.0, 0.0, 1.0, 0.0
    return SHRINK, 1e-10 if dtype == torch.float32 else 1e-16, 1 / curvature, LEAST


def _run_sparse(state: State, data: Matrix, live: Rows, options: Options) -> None:
    """One restart after the other, rows of each factor in threads."""
    from nmfnet.kernels.compiled.sparse import in_registers, newton_rows

    kind = data.x.values().numpy().dtype.type
    numbers, weights, lazy = _prepared(state, data, options, kind)
    entries = {side: csr(data, side) for side in SIDES}
    flags = options.beta == 1, data.mask is not None
    k = state.w.shape[1]
    curves: dict[Side, Array] = {}

    def half(arrays: Arrays, side: Side, v: Array, measure: bool, fresh: bool) -> list[float]:
        now, u, value = arrays[side][0], arrays[other(side)][0], list[float]()
        kept = curves.setdefault(side, np.empty((len(v) * lazy, k, *v.shape[1:]), kind))
        fixed = v, u, k, flat(u).sum(0), *entries[side], *flags, *weights[side]
        moving, final = (*numbers, SWEEPS, now), (measure, kept, fresh)
        in_ranges(lambda s, e: value.append(newton_rows(*fixed, *moving, s, e, *final)), len(v), 64)
        return value

    def columns(rows: Array) -> Array:
        return flat(rows)[:, :k].T

    for i in live:
        fields = _fields(state, i)
        arrays: Arrays = {
            side: [in_registers(row_major(v)) for v in both] for side, both in fields.items()
        }
        _alternate(data, arrays, state.memory[i], half, columns, options, lazy)
        for side, both in fields.items():
            for tensor, array in zip(both, arrays[side], strict=True):
                tensor.copy_(torch.from_numpy(columns(array)))


def _run_columns(state: State, data: Matrix, live: Rows, options: Options) -> None:
    """One restart after the other, columns of each factor in threads: for a large dense X."""
    from nmfnet.kernels.compiled.lanes import log_buffers
    from nmfnet.kernels.compiled.newton import newton_half

    kind = data.x.numpy().dtype.type
    numbers, weights, lazy = _prepared(state, data, options, kind)
    k = state.w.shape[1]
    curves: dict[Side, Array] = {}

    def half(arrays: Arrays, side: Side, v: Array, measure: bool, fresh: bool) -> list[float]:
        now, u, value = arrays[side][0], arrays[other(side)][0], list[float]()
        shape = k * (k + 1) // 2 * lazy, v.shape[1] * lazy
        x, mask = facing(data, side)
        fixed = v, u, np.ascontiguousarray(u.T), x.numpy(), mask_array(mask, x)
        moving = options.beta == 1, *weights[side], *numbers, SWEEPS, now
        final = measure, curves.setdefault(side, np.empty(shape, kind)), fresh

        def some(start: int, end: int) -> None:
            value.append(newton_half(*fixed, *moving, start, end, log_buffers(kind), *final))

        in_ranges(some, v.shape[1], 64)
        return value

    for i in live:
        arrays: Arrays = {
            side: [v.numpy() for v in both] for side, both in _fields(state, i).items()
        }
        _alternate(data, arrays, state.memory[i], half, lambda v: v, options, lazy)


def _prepared(
    state: State, data: Matrix, options: Options, kind: type
) -> tuple[list[Any], dict[Side, tuple[Any, Any]], bool]:
    """Numbers of a step, penalties of each side, and whether curvatures are used twice."""
    *numbers, _ = map(kind, _numbers(options.beta, data.x.dtype, options.curvature))
    pairs = zip(SIDES, options.l1, options.l2, strict=True)
    weights = {side: (kind(a), kind(b)) for side, a, b in pairs}
    return numbers, weights, options.extrapolate and _lazy(state, data)


def _fields(state: State, i: int) -> dict[Side, list[Tensor]]:
    """Of each factor of a restart the running values, and those before."""
    return {"w": [state.w_now[i], state.w_before[i]], "h": [state.h_now[i], state.h_before[i]]}


def _alternate(
    data: Matrix,
    arrays: Arrays,
    memory: Tensor,
    half: Callable[[Arrays, Side, Array, bool, bool], list[float]],
    columns: Callable[[Array], Array],
    options: Options,
    lazy: bool,
) -> None:
    """Iterations of one restart, in place on its arrays.

    ``half(arrays, side, v, measure, fresh)`` makes the step of a factor from v, and returns the
    divergence there in parts where it is measured. Sums for H over the rows of several processes are
    torch's, which sees a factor as ``columns`` (k, m).
    """
    from nmfnet.kernels.compiled.lanes import extrapolate as ahead
    from nmfnet.kernels.compiled.lanes import penalty

    kind = arrays["w"][0].dtype.type
    least = kind(_numbers(options.beta, data.x.dtype, options.curvature)[-1])
    l1, l2 = options.l1, options.l2
    point = {side: np.zeros_like(both[0]) for side, both in arrays.items()}
    fresh, kept = True, dict[int, Tensor]()
    t, previous = memory[:2].tolist()
    for _ in range(options.n_iter):
        t, step = nesterov(t, options.extrapolate)
        rose = slow = False
        for side in SIDES if options.fit_h else SIDES[:1]:
            v, (now, before) = point[side], arrays[side]
            ahead(*map(flat, (v, now, before)), kind(step), least)
            if side == "h" and not data.whole:
                point_h, w = (torch.from_numpy(columns(a)) for a in (v, arrays["w"][0]))
                own = kept if lazy else None
                columns(now)[...] = _step(data, point_h, w, side, options, own, fresh=fresh).numpy()
                continue
            measure = options.extrapolate and side == "w"
            value = half(arrays, side, v, measure, fresh)
            if measure:
                value.append(penalty(flat(v), kind(l1[0]), kind(l2[0])))
                by_rows = torch.tensor(math.fsum(value), dtype=torch.float64)
                found = float(data.total(by_rows))
                found += penalty(flat(arrays["h"][0]), kind(l1[1]), kind(l2[1]))
                rose, slow = found > previous, found > SLOW * previous
                t, step = (1.0, 0.0) if rose else (t, step)
                previous = found
        fresh = not (lazy and fresh and slow and not rose)
    memory[0], memory[1] = t, previous


def other(side: Side) -> Side:
    """The side of the other factor."""
    return "h" if side == "w" else "w"


def _large(state: State, data: Matrix) -> bool:
    """Whether a step of one factor is worth threads."""
    return data.x.numel() * state.w.shape[1] ** 2 >= WIDE


def _run(state: State, data: Matrix, live: Rows, options: Options) -> None:
    """One restart after the other in plain torch."""
    beta, l1, l2, n_iter, extrapolate, fit_h, curvature = options
    least = _numbers(beta, data.x.dtype, curvature)[-1]
    for i in live:
        now, before = [state.w_now[i], state.h_now[i]], [state.w_before[i], state.h_before[i]]
        t, previous = state.memory[i, :2].tolist()
        fresh, lazy = True, extrapolate and _lazy(state, data)
        kept: dict[Side, dict[int, Tensor]] = {side: {} for side in SIDES}
        for _ in range(n_iter):
            t, step = nesterov(t, extrapolate)
            rose, slow = False, False
            for j, side in enumerate(SIDES if fit_h else SIDES[:1]):
                v = torch.maximum(now[j] + step * (now[j] - before[j]), least * now[j])
                before[j].copy_(now[j])
                if extrapolate and side == "w":
                    value = float(objective(data, v[None], now[1][None], beta, l1, l2))
                    rose, slow = value > previous, value > SLOW * previous
                    t, step = (1.0, 0.0) if rose else (t, step)
                    previous = value
                own = kept[side] if lazy else None
                now[j].copy_(_step(data, v, now[1 - j], side, options, own, fresh=fresh))
            fresh = not (lazy and fresh and slow and not rose)
        state.memory[i, 0], state.memory[i, 1] = t, previous


def _step(
    data: Matrix,
    v: Float[Tensor, "k m"],
    u: Float[Tensor, "k p"],
    side: Side,
    options: Options,
    kept: dict[int, Tensor] | None,
    *,
    fresh: bool,
) -> Float[Tensor, "k m"]:
    """The factor of a side after a step from v, in plain torch; ``kept`` has curvatures to use twice."""
    shrink, floor, damp, _ = _numbers(options.beta, data.x.dtype, options.curvature)
    place = SIDES.index(side)
    l1, l2 = options.l1[place], options.l2[place]
    new = torch.empty_like(v, memory_format=torch.contiguous_format)
    for columns, slope, curve in _blocks(data, v, u, side, options.beta, bent=fresh):
        if kept is not None and not fresh:
            curve = kept[columns.start]
        elif kept is not None:
            kept[columns.start] = curve
        some = v[:, columns]
        slope = (slope - l1 - l2 * some) * damp
        new[:, columns] = _descend(some, slope, curve, l2, shrink)
    return torch.maximum(new, floor * new.amax(0)) if floor else new


def _lazy(state: State, data: Matrix) -> bool:
    """Whether curvatures are used twice: they can be kept, and most entries of X speak for them.

    That of a column with few observed entries changes too much from one iteration to the next.
    """
    n, f = data.n_rows, data.x.shape[1]
    if data.mask is not None:
        stored = data.x.is_sparse_csr
        seen = torch.tensor(data.x.values().numel()) if stored else data.mask.count_nonzero()
        if int(data.total(seen.to(data.x.device))) < MOSTLY * n * f:
            return False
    k, columns = state.w.shape[1], n + f
    return columns * k * k * state.w.element_size() <= KEPT_BYTES


def flat(rows: Array) -> Array:
    """Rows of registers as rows of numbers."""
    return rows.reshape(len(rows), -1)


def nesterov(t: float, extrapolate: bool) -> tuple[float, float]:
    """The next t, and the step beyond the last point, at most LIMIT."""
    following = (1 + (1 + 4 * t * t) ** 0.5) / 2
    return following, min((t - 1) / following, LIMIT if extrapolate else 0.0)


def _blocks(
    data: Matrix, v: Tensor, u: Tensor, side: Side, beta: float, *, bent: bool
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Columns of v, minus the slope of the divergence by them, and its curvature where ``bent``.

    A dense X is read in blocks of rows. Those of W have a step of their own; for H they are added up,
    over processes too.
    """
    pairs = len(v) ** 2
    if data.x.is_sparse_csr:
        x = data.x if side == "w" else data.xt
        assert x is not None
        for columns in spans(x.shape[0], pairs):
            own, only = take_rows(x, columns), data.mask is not None
            slope, curve = _expand_stored(own, v[:, columns], u, beta, only, bent=bent)
            yield columns, over_rows(data, side, slope), over_rows(data, side, curve)
        return
    spanned = spans(data.x.shape[0], IN_CACHE * max(data.x.shape[1], pairs))
    if side == "w":
        for rows in spanned:
            mask = None if data.mask is None else data.mask[rows].mT
            yield rows, *_expand(data.x[rows].mT, mask, v[:, rows], u, beta, bent=bent)
        return
    slope, curve = torch.zeros_like(v), v.new_zeros(())
    for rows in spanned:
        mask = None if data.mask is None else data.mask[rows]
        more, bend = _expand(data.x[rows], mask, v, u[:, rows], beta, bent=bent)
        slope, curve = slope.add_(more), curve + bend
    yield slice(0, v.shape[1]), data.total(slope), data.total(curve)


def _expand_stored(
    x: Float[Tensor, "m p"],
    v: Float[Tensor, "k m"],
    u: Float[Tensor, "k p"],
    beta: float,
    only: bool,
    *,
    bent: bool,
) -> tuple[Tensor, Tensor]:
    """As `_expand`, from the stored entries of a sparse X; ``only`` these are observed, or all (KL)."""
    values, y = x.values(), gathered(x, v.mT, u)
    inverse = 1 / (y + 1e-30) if beta == 1 else torch.ones_like(y)
    down, bend = (values * inverse, values * inverse**2) if beta == 1 else (values - y, inverse)
    if beta == 1 and only:
        down = down - 1
    slope = (with_values(x, down) @ u.mT.contiguous()).mT
    if not only:
        slope = slope - u.sum(-1, keepdim=True)
    if not bent:
        return slope, slope.new_zeros(())
    curved = with_values(x, bend)
    rows = [(curved @ (u[: i + 1] * u[i]).mT.contiguous()).mT for i in range(len(u))]
    return slope, torch.cat(rows)


def _expand(
    x: Float[Tensor, "p m"],
    mask: Tensor | None,
    v: Float[Tensor, "k m"],
    u: Float[Tensor, "k p"],
    beta: float,
    *,
    bent: bool,
) -> tuple[Float[Tensor, "k m"], Tensor]:
    """Minus the slope, and the lower triangles of the curvature (k (k + 1) / 2, m) where ``bent``."""
    y = u.mT @ v
    if beta == 1:
        inverse = y.add_(1e-30).reciprocal_()
        down = x * inverse
        bend = inverse.mul_(down)
        down.sub_(1)
    else:
        down, bend = x - y, torch.ones_like(y)
    if mask is not None:
        down, bend = down.mul_(mask), bend.mul_(mask)
    if not bent:
        return u @ down, down.new_zeros(())
    one, other = torch.tril_indices(len(u), len(u), device=u.device)
    return u @ down, (u[one] * u[other]) @ bend


def _descend(v: Tensor, slope: Tensor, curve: Tensor, l2: float, shrink: float) -> Tensor:
    """Coordinate descent on ``<curve d, d> / 2 - <slope, d>`` over ``v + d >= shrink v``."""
    k = len(v)
    one, other = torch.tril_indices(k, k, device=v.device)
    place = torch.empty((k, k), dtype=torch.long, device=v.device)
    place[one, other] = place[other, one] = torch.arange(len(one), device=v.device)
    d = torch.zeros_like(v)
    for _ in range(SWEEPS):
        for i in range(k):
            rows = curve[place[i]]
            rest = slope[i] - (rows * d).sum(0) - l2 * d[i]
            least = (shrink - 1) * v[i]
            d[i] = torch.maximum(d[i] + rest / (rows[i] + l2 + 1e-30), least)
    return v + d
