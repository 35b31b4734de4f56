"""Newton steps for ``X ~ (X G) H``, where rows and columns each have a curvature of their own.

Component-major: g (k, f) is the transpose of G, h is (k, f). ``X ~ W (A X)`` is the same of the
transpose: ``Xᵀ ~ (Xᵀ Aᵀ) Wᵀ``.
"""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
import torch

from nmfnet.kernels.extrapolation import Pair, Rows, State, guarded, untouched
from nmfnet.kernels.newton import LEAST, SHRINK, bound, nesterov, ratio
from nmfnet.kernels.products import in_threads
from nmfnet.types import Float, Tensor

SWEEPS = 3
"""Passes of coordinate descent over G on each expansion; four over H, as in NMF."""

KEPT = 0.1
"""KL: no entry of G falls below this multiple of itself in one step, so no X̂ reaches 0."""

FLOOR = 1e-10
"""KL: no entry of G is below this multiple of the largest of its component."""

HALVINGS = 6
"""Step lengths tried for G before it stays."""


@final
class Table(NamedTuple):
    """X as the steps of one fit need it.

    Attributes
    ----------
    x, xt : Tensor, shapes (n, f) and (f, n)
        X and its transpose.
    squares : Tensor, shape (n, f)
        Its squares.
    mask : Tensor, shape (n, f), or (0, 0) where everything is observed
    """

    x: Float[Tensor, "n f"]
    xt: Float[Tensor, "f n"]
    squares: Float[Tensor, "n f"]
    mask: Tensor


def table(x: Float[Tensor, "n f"], mask: Float[Tensor, "n f"] | None) -> Table:
    """Prepare X (0 where it is not observed)."""
    x = x.contiguous()
    seen = x.new_empty(0, 0) if mask is None else mask.to(x.dtype).contiguous()
    return Table(x, x.mT.contiguous(), x.square(), seen)


def convex_newton(
    state: State, data: Table, n_iter: int, *, beta: float, rows: Rows
) -> Float[Tensor, " live"]:
    """Advance restarts by ``n_iter`` extrapolated iterations, in place.

    Parameters
    ----------
    state : State
        From :func:`nmfnet.kernels.extrapolation.begin`, with Gᵀ in the place of ``w``.
    data : Table
        X >= 0 for KL, of any sign for the squared error.
    n_iter : int
        Iterations: one step of G and one of H.
    beta : {1, 2}
        1 generalised Kullback-Leibler divergence, 2 half the squared error.
    rows : list of int
        Restarts to advance.

    Returns
    -------
    Tensor of float64, shape (len(rows),)
        The objective reached, never above that of the previous call.

    Notes
    -----
    A row w of the code X G has a slope s and a curvature C (k, k) as in NMF. With ``D`` the change of
    G, row i changes by ``x_i D``, so the expansion is ``Σ_i s_i · x_i D + x_i D C_i (x_i D)ᵀ / 2``:
    coordinate descent over D needs X once per pass, and nothing of f k x f k is formed. The step is
    halved until the objective falls. H moves as in NMF.
    """
    if beta == 1:
        for i in untouched(state):
            _rescale(state, data, i)

    def run(live: Rows, extrapolate: bool) -> None:
        def one(i: int) -> None:
            _run(state, data, i, n_iter, beta, extrapolate)

        in_threads(one, live)

    def value(g: Tensor, h: Tensor, live: Rows) -> Tensor:
        own = [divergence(data, g[j], h[j], beta) for j in live]
        return torch.tensor(own, dtype=torch.float64)

    return guarded(state, rows, run, _reached, value)


def _reached(state: State) -> Pair:
    return state.w_now, state.h_now


def divergence(data: Table, g: Float[Tensor, "k f"], h: Float[Tensor, "k f"], beta: float) -> float:
    """The objective at (g, h)."""
    from nmfnet.kernels.compiled.lanes import dense_divergence, log_buffers

    arrays = [v.numpy() for v in (data.x, data.mask, g @ data.xt, h)]
    return float(dense_divergence(*arrays, beta == 1, log_buffers(arrays[0].dtype)))


def _rescale(state: State, data: Table, i: int) -> None:
    """Give X̂ the column sums of X: from a start of the wrong size Newton steps would crawl."""
    h, code = state.h[i], state.w[i] @ data.xt
    made = code.mT @ h * (data.mask if len(data.mask) else 1)
    h *= ratio(data.x.sum(0), made.sum(0))
    state.h_now[i], state.h_before[i] = h, h


def _run(state: State, data: Table, i: int, n_iter: int, beta: float, extrapolate: bool) -> None:
    g, h, g_old, h_old = state.w_now[i], state.h_now[i], state.w_before[i], state.h_before[i]
    t, previous = state.memory[i, :2].tolist()
    least = LEAST if beta == 1 else 0.0
    for _ in range(n_iter):
        t, step = nesterov(t, extrapolate)
        ahead = torch.maximum(g + step * (g - g_old), least * g)
        g_old.copy_(g)
        new, value = _code_step(data, ahead, h, beta)
        g.copy_(new)
        if value > previous:
            t, step = 1.0, 0.0
        previous = value
        ahead = torch.maximum(h + step * (h - h_old), least * h)
        h_old.copy_(h)
        h.copy_(_basis_step(data, g, ahead, beta, 1.0 if extrapolate else bound(SHRINK)))
    state.memory[i, 0], state.memory[i, 1] = t, previous


def _code_step(
    data: Table, g: Float[Tensor, "k f"], h: Float[Tensor, "k f"], beta: float
) -> tuple[Tensor, float]:
    """A new g that is no worse, and the objective at the old one."""
    from nmfnet.kernels.compiled.code import code_sweeps

    k = g.shape[0]
    y = (g @ data.xt).mT @ h
    if beta == 1:
        inverse = 1 / (y + 1e-30)
        up = 1 - data.x * inverse
        bend = data.x * inverse * inverse
    else:
        up, bend = y - data.x, torch.ones_like(y)
    if len(data.mask):
        up, bend = up * data.mask, bend * data.mask
    left, right = torch.tril_indices(k, k)
    curve = (h[left] * h[right]) @ bend.mT  # (k (k + 1) / 2, n)
    own = curve[left == right]
    kept = KEPT if beta == 1 else 0.0
    move = torch.zeros_like(g)
    parts = (data.xt, h @ up.mT, curve, own @ data.squares, (kept - 1) * g, move)
    code_sweeps(*(v.contiguous().numpy() for v in parts[:-1]), move.numpy(), SWEEPS)
    before = divergence(data, g, h, beta)
    for _ in range(HALVINGS):
        new = (g + move).clamp_min_(0)
        if beta == 1:
            new = torch.maximum(new, FLOOR * new.amax(1, keepdim=True))
        if divergence(data, new, h, beta) <= before:
            return new, before
        move /= 2
    return g, before


def _basis_step(
    data: Table,
    g: Float[Tensor, "k f"],
    h: Float[Tensor, "k f"],
    beta: float,
    curvature: float,
) -> Float[Tensor, "k f"]:
    """The step of H in NMF with the code as W."""
    from nmfnet.kernels.compiled.lanes import log_buffers
    from nmfnet.kernels.compiled.newton import newton_half

    code = g @ data.xt
    kind = data.x.numpy().dtype.type
    shrink, floor = (SHRINK, FLOOR) if beta == 1 else (0.0, 0.0)
    new, none = torch.empty_like(h), np.empty((0, 0), kind)
    arrays = [v.numpy() for v in (h, code, code.mT.contiguous(), data.x, data.mask)]
    numbers = [kind(v) for v in (0, 0, shrink, floor, 1 / curvature)]
    newton_half(
        *arrays, beta == 1, *numbers, 4, new.numpy(), 0, h.shape[1], log_buffers(kind), False, none,
        True,
    )  # fmt: skip
    return new
