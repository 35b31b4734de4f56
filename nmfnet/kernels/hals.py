"""``min 1/2 ||X - W H||² + l1, l2 penalties``: accelerated HALS with extrapolation.

Between two products with X every column of W and H is improved several times in Gram space, and
each factor starts its update from a point beyond the last one.
"""

from __future__ import annotations

import numpy as np
import torch

from nmfnet.kernels.extrapolation import Pair, Rows, State, guarded
from nmfnet.kernels.matrix import Matrix
from nmfnet.kernels.products import (
    Array,
    Both,
    in_ranges,
    in_threads,
    objective,
    times_x,
    times_xt,
)
from nmfnet.types import Float, Tensor


def hals(
    state: State,
    data: Matrix,
    n_iter: int,
    *,
    l1: Both = (0.0, 0.0),
    l2: Both = (0.0, 0.0),
    extrapolation: bool = True,
    rows: Rows | None = None,
    compiled: bool | None = None,
) -> Float[Tensor, " live"]:
    """Advance restarts by ``n_iter`` iterations, in place.

    Parameters
    ----------
    state : State
        From :func:`nmfnet.kernels.extrapolation.begin`; ``state.W`` and ``state.H`` are the result.
    data : Matrix
        Dense or sparse CSR X, without mask.
    n_iter : int
    l1, l2 : pair of float
        Penalties of W and H: ``l1 Σ v + l2 / 2 Σ v²``.
    extrapolation : bool
        False = accelerated HALS as it stands.
    rows : list of int, optional
        Restarts to advance; default all.
    compiled : bool, optional
        False = plain torch (the oracle, and the only way on a GPU); default where possible.

    Returns
    -------
    Tensor of float64, shape (len(rows),)
        The objective reached, never above that of the previous call.

    Source: Gillis & Glineur 2012, "Accelerated multiplicative updates and hierarchical ALS", section 4
    (inner sweeps); Ang & Gillis 2019, "Accelerating nonnegative matrix factorization algorithms using
    extrapolation", algorithm 3.
    Differs from the source: the step is Nesterov's (t - 1) / t', restarted when the objective rises.
    """
    compiled = data.compiled if compiled is None else compiled
    sweeps = inner_sweeps(data, state.w.shape[1])

    def run(live: Rows, extrapolate: bool) -> None:
        options = (l1, l2, sweeps, n_iter, extrapolate and extrapolation)
        if compiled and data.whole and data.xt is not None and not data.x.is_sparse_csr:
            _run_small(state, data, live, *options)
        else:
            _run(state, data, live, *options, compiled=compiled)

    def value(w: Tensor, h: Tensor, live: Rows) -> Tensor:
        return objective(data, w, h, 2, l1, l2, live)

    return guarded(state, rows, run, _reached, value)


def _reached(state: State) -> Pair:
    """The extrapolated W and the H that was computed for it."""
    return state.w_now, state.h_before


def inner_sweeps(data: Matrix, k: int) -> tuple[int, int]:
    """Sweeps of W and of H that cost about as much as the product with a dense X before them, 1 to 8.

    The same for a sparse X, so that how X is stored changes no step.

    Source: Gillis & Glineur 2012, section 4.1 (their alpha = 1/2).
    """
    f, n = data.x.shape[1], data.n_rows
    return max(1, min(8, 1 + f // (2 * k))), max(1, min(8, 1 + n // (2 * k)))


def _run_small(
    state: State,
    data: Matrix,
    live: Rows,
    l1: Both,
    l2: Both,
    sweeps: tuple[int, int],
    n_iter: int,
    extrapolate: bool,
) -> None:
    """Restarts in threads, each or several at once without leaving compiled code."""
    from nmfnet.kernels.compiled.hals import hals_run
    from nmfnet.kernels.compiled.hals_group import hals_group, tiles
    from nmfnet.kernels.compiled.lanes import log_buffers

    assert data.xt is not None
    x, xt = data.x.numpy(), data.xt.numpy()
    kind = x.dtype.type
    penalties = [(kind(a), kind(b)) for a, b in (l1, l2)]
    fields = [field.numpy() for field in state[2:]]
    options = data.half_square, *penalties, sweeps, n_iter, extrapolate
    groups, single = _share(live, x)
    tiled = (tiles(x), tiles(xt)) if groups else ()

    def one(i: int) -> None:
        if i < len(groups):
            hals_group(*tiled, *fields, groups[i], *options)
        else:
            parts = [field[single[i - len(groups)]] for field in fields]
            hals_run(x, xt, *parts, *options, log_buffers(x.dtype))

    in_threads(one, range(len(groups) + len(single)))


def _share(live: Rows, x: Array) -> tuple[list[Array], Rows]:
    """Restarts to advance together, one per lane of a vector register, and those left over.

    A group takes as long with empty lanes as without. Full ones were measured to be 1.5 (large X) to 5
    times faster (small X) than single restarts; so a group has at least three quarters of its
    lanes, half of them where X is small, and there are none where threads would go without.
    """
    from nmfnet.kernels.compiled.vectors import BYTES

    lanes = BYTES // x.itemsize
    least = lanes // 2 if x.size <= 10_000 else 3 * lanes // 4
    if len(live) < least * torch.get_num_threads():
        return [], live
    end = len(live) if len(live) % lanes >= least else len(live) // lanes * lanes
    groups = [np.array(live[i : min(i + lanes, end)]) for i in range(0, end, lanes)]
    return groups, live[end:]


def _run(
    state: State,
    data: Matrix,
    live: Rows,
    l1: Both,
    l2: Both,
    sweeps: tuple[int, int],
    n_iter: int,
    extrapolate: bool,
    *,
    compiled: bool,
) -> None:
    """All restarts at once, with torch's matrix products: large or sparse X, and the oracle."""
    cycles = _sweep_compiled if compiled else _sweep
    w_now, w_before, h_now, h_before, memory = (field[live] for field in state[2:])
    t, previous = memory[:, 0], memory[:, 1]
    half_square = data.total(torch.full_like(t, data.half_square))
    for _ in range(n_iter):
        t_next = (1 + (1 + 4 * t * t).sqrt()) / 2 if extrapolate else torch.ones_like(t)
        step = ((t - 1) / t_next).to(w_now.dtype)[:, None, None]
        linear = _less(times_xt(data, h_now), l1[0])
        w = cycles(w_now, linear, _curvature(h_now, l2[0]), sweeps[0])
        w_now, w_before = _beyond_(w_before, w, step), w
        linear, square = _less(times_x(data, w_now), l1[1]), data.total(_curvature(w_now, 0.0))
        curvature = _add_diagonal(square, l2[1])
        h = cycles(h_now, linear, curvature, sweeps[1])
        value = half_square - (linear * h).sum(-1).double().sum(-1)
        value += 0.5 * (curvature.double() * (h @ h.mT)).sum((-2, -1))
        if l1[0] or l2[0]:
            value += l1[0] * data.total(w_now.sum((-2, -1)))
            value += 0.5 * l2[0] * square.diagonal(0, -2, -1).sum(-1)
        worse = value > previous
        h_now, h_before, previous = _beyond_(h_before, h, step), h, value
        t = torch.where(worse, 1.0, t_next)
        if w.is_cuda or bool(worse.any()):  # a GPU is not asked
            w_now = torch.where(worse[:, None, None], w, w_now)
            h_now = torch.where(worse[:, None, None], h, h_now)
    memory = torch.stack([t, previous, memory[:, 2]], 1)
    for field, new in zip(state[2:], (w_now, w_before, h_now, h_before, memory), strict=True):
        field[live] = new


def _less(linear: Tensor, l1: float) -> Tensor:
    return linear.sub_(l1) if l1 else linear


def _beyond_(before: Tensor, now: Tensor, step: Tensor) -> Tensor:
    """``max(0, now + step (now - before))``, in the place of ``before``: these are large."""
    return torch.sub(now, before, out=before).mul_(step).add_(now).clamp_(min=0)


def _curvature(v: Tensor, l2: float) -> Tensor:
    return _add_diagonal(v @ v.mT, l2)


def _add_diagonal(square: Tensor, l2: float) -> Tensor:
    if not l2:
        return square
    return square + l2 * torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)


def sweep(
    v: Float[Tensor, "*r k m"], a: Float[Tensor, "*r k m"], b: Float[Tensor, "*r k k"], n: int = 1
) -> Float[Tensor, "*r k m"]:
    """``n`` cycles of coordinate descent on ``min_{v >= 0} 1/2 <v, b v> - <a, v>``, row after row of v.

    A row whose curvature ``b_jj`` is 0 stays.

    Source: Cichocki, Zdunek & Amari 2007 (HALS).
    """
    new, linear, square = (t.reshape(-1, *t.shape[-2:]).contiguous() for t in (v.clone(), a, b))
    cycles = _sweep if v.is_cuda else _sweep_compiled
    return cycles(new, linear, square, n).reshape(v.shape)


def _sweep(v: Tensor, a: Tensor, b: Tensor, n_sweeps: int) -> Tensor:
    """Coordinate descent on ``min_{v >= 0} 1/2 <v, b v> - <a, v>``; v is changed in place."""
    diagonal = b.diagonal(dim1=-2, dim2=-1)
    inverse = torch.where(diagonal > 0, 1 / diagonal, 0)
    for _ in range(n_sweeps):
        for j in range(v.shape[-2]):
            slope = a[:, j] - (b[:, j : j + 1] @ v)[:, 0]  # (r, m)
            v[:, j] = (v[:, j] + slope * inverse[:, j : j + 1]).clamp_(min=0)
    return v


def _sweep_compiled(v: Tensor, a: Tensor, b: Tensor, n_sweeps: int) -> Tensor:
    from nmfnet.kernels.compiled import lanes

    out, linear, curvature = v.numpy(), a.numpy(), b.numpy()
    for i in range(v.shape[0]):
        one = out[i], linear[i], curvature[i]
        in_ranges(lambda s, e, one=one: lanes.sweep(*one, s, e, n_sweeps), v.shape[2], 512)  # type: ignore
    return v
