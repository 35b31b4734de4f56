"""Multiplicative updates of X ~ W H, each taken from a point beyond the last one."""

from __future__ import annotations

from nmfnet.functional.extrapolation import Pair, Rows, State, guarded
from nmfnet.functional.matrix import Matrix
from nmfnet.functional.multiplicative import nmf_sums_H, nmf_sums_W
from nmfnet.functional.newton import nesterov
from nmfnet.functional.products import (
    Both,
    Side,
    mask_products,
    objective,
    ratio_products,
    times_x,
    times_xt,
)
from nmfnet.types import Float, Tensor

FLOOR = 1e-16
"""Least entry of an updated factor: a zero could never move again."""


def mu(
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
        From :func:`nmfnet.functional.extrapolation.begin`; ``state.W`` and ``state.H`` are the
        result.
    data : Matrix
        Dense X with or without mask; sparse CSR for beta 1 and 2.
    n_iter : int
        Iterations: one update of each factor.
    beta : float
        2 half the squared error, 1 Kullback-Leibler, 0 Itakura-Saito (X > 0).
    l1, l2 : pair of float
        Penalties of W and H: ``l1 Σ v + l2 / 2 Σ v²``.
    extrapolation : bool
        False = the plain updates.
    fit_h : bool
        False = H is given and only W moves.
    rows : list of int, optional
        Restarts to advance; default all.
    compiled : bool, optional
        False = plain torch (the oracle, and the only way on a GPU); default where possible (KL).

    Returns
    -------
    Tensor of float64, shape (len(rows),)
        The objective reached, never above that of the previous call.

    Source: Févotte & Idier 2011, section 4.1 (updates); Hien, Leplat & Gillis 2024, "Block majorization
    minimization with extrapolation", algorithm 1 (the point ``v + step [v - previous v]_+``).
    """
    compiled = data.compiled if compiled is None else compiled

    def run(live: Rows, extrapolate: bool) -> None:
        for i in live:
            _run(
                state, i, data, beta, l1, l2, n_iter, extrapolate and extrapolation, fit_h, compiled
            )

    def value(w: Tensor, h: Tensor, live: Rows) -> Tensor:
        return objective(data, w, h, beta, l1, l2, live)

    return guarded(state, rows, run, _reached, value)


def _reached(state: State) -> Pair:
    return state.w_now, state.h_now


def exponent(beta: float) -> float:
    """Power with which the updates are monotone. Source: Févotte & Idier 2011, eq. (4.1)."""
    return 1 / (2 - beta) if beta < 1 else 1 / (beta - 1) if beta > 2 else 1.0


def _run(
    state: State,
    i: int,
    data: Matrix,
    beta: float,
    l1: Both,
    l2: Both,
    n_iter: int,
    extrapolate: bool,
    fit_h: bool,
    compiled: bool,
) -> None:
    now = {"w": state.w_now[i], "h": state.h_now[i]}
    before = {"w": state.w_before[i], "h": state.h_before[i]}
    t = float(state.memory[i, 0])
    sides: tuple[Side, ...] = ("w", "h") if fit_h else ("w",)
    for _ in range(n_iter):
        t, step = nesterov(t, extrapolate)
        for j, side in enumerate(sides):
            v, last, other = now[side], before[side], now["h" if side == "w" else "w"]
            ahead = (v - last).clamp_(min=0)
            last.copy_(v)
            v.add_(ahead, alpha=step)
            neg, pos = sums(data, v, other, side, beta, compiled=compiled)
            if beta == 1 and l2[j] > 0:
                pos = pos + l1[j]
                root = (pos.square() + 4 * l2[j] * v * neg).sqrt_().sub_(pos).div_(2 * l2[j])
                v.copy_(root).clamp_(min=FLOOR)
                continue
            pos = pos + l1[j] + l2[j] * v if l1[j] or l2[j] else pos
            ratio = neg / pos.clamp_min(1e-30)
            v.mul_(ratio if exponent(beta) == 1 else ratio.pow_(exponent(beta))).clamp_(min=FLOOR)
    state.memory[i, 0] = t


def sums(
    data: Matrix, v: Tensor, u: Tensor, side: Side, beta: float, *, compiled: bool
) -> tuple[Float[Tensor, "k m"], Tensor]:
    """The two non-negative halves of the derivative by v; the second may be (k, 1)."""
    if beta == 1:
        neg = ratio_products(data, v, u, side, compiled=compiled)
        return neg, mask_products(data, u, side)
    if beta == 2 and data.mask is None:
        product = times_xt(data, u[None]) if side == "w" else times_x(data, u[None])
        return product[0], u @ u.mT @ v
    if side == "w":
        neg, pos = nmf_sums_W(data.x, v.mT, u, beta, data.mask)
        return neg.mT, pos.mT
    return nmf_sums_H(data.x, u.mT, v, beta, data.mask)
