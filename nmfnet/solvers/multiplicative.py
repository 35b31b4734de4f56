"""``solver=mu``: multiplicative updates for any non-negative multilinear model."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch

from nmfnet.errors import UserError
from nmfnet.functional.multiplicative import apply_update_
from nmfnet.solvers.base import Solver, chunks, collect, count_step, total
from nmfnet.types import Batch, Terms

if TYPE_CHECKING:
    from nmfnet.factorization import Factorization


@final
class Multiplicative(Solver):
    """``theta <- theta * (sum_neg / sum_pos) ** exponent``, one factor after the other.

    The sums come from the model in closed form, or from autograd for a model without one. The
    exponent is the largest known to be monotone for the loss, the penalties and the number of
    times that theta occurs in the reconstruction.

    Parameters
    ----------
    extrapolation : bool
        Take each update from a point beyond the last one,
        ``theta + alpha [theta - previous theta]_+``; a step of ``n_inner`` iterations that did not
        lower the objective is repeated without, so the objective never increases.
        Source: Hien, Leplat & Gillis 2024, "Block majorization minimization with extrapolation".
    fused : bool
        False = always by autograd (the oracle; several times slower).
    n_inner : int
        Iterations per training step.
    """

    name = "mu"

    def __init__(
        self, *, extrapolation: bool = True, fused: bool = True, n_inner: int = 100
    ) -> None:
        super().__init__(n_inner=n_inner)
        self.extrapolation = extrapolation
        self.fused = fused

    def check(self, model: Factorization, batch_size: int | None) -> None:
        kind = type(model).__name__
        if batch_size is not None:
            raise UserError(
                f"solver=mu updates on all rows at once, but batch_size={batch_size}: "
                "set batch_size=null, or use solver=adam"
            )
        if not model.multilinear:
            raise UserError(
                f"solver=mu needs a reconstruction that is a product of non-negative factors, and "
                f"{kind} as configured is not (bias, batch norm, free weights or a curved "
                "activation): use solver=adam"
            )
        if bad := [n for n, f in model.factors.items() if not f.constraint.identity]:
            raise UserError(
                f"solver=mu moves factor values directly, so it needs constraint=project; "
                f"{', '.join(bad)} is under {type(model.constraint).__name__.lower()}: "
                "use constraint=project, or solver=adam"
            )

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        collected: list[Terms] = []
        for index in chunks(model, batch, live):
            with torch.no_grad(), model.restarts(index):
                collected.append(self._advance(model, batch, n_iter))
        return collect(collected)

    def _advance(self, model: Factorization, batch: Batch, n_iter: int) -> Terms:
        """``n_iter`` iterations of the restarts that the model now holds."""
        if not self.extrapolation:
            self._iterate(model, batch, n_iter, extrapolate=False)
            return model.objective(batch)
        raws = [factor.raw.data for factor in model.factors.values()]
        start, before = [raw.clone() for raw in raws], total(model.objective(batch))
        self._iterate(model, batch, n_iter, extrapolate=True)
        terms = model.objective(batch)
        worse = ~(total(terms) <= before)
        if bool(worse.any()):
            reached = [raw.clone() for raw in raws]
            for raw, value in zip(raws, start, strict=True):
                raw.copy_(value)
            self._iterate(model, batch, n_iter, extrapolate=False)
            for raw, value in zip(raws, reached, strict=True):
                raw.copy_(torch.where(worse[..., None, None], raw, value))
            terms = model.objective(batch)
        return terms

    def _iterate(
        self, model: Factorization, batch: Batch, n_iter: int, *, extrapolate: bool
    ) -> None:
        exponents = {name: exponent_of(model, name) for name in model.factors}
        previous = {name: f.raw.detach().clone() for name, f in model.factors.items()}
        momentum = 1.0
        for _ in range(n_iter):
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            alpha, momentum = (momentum - 1) / following, following
            for name, factor in model.factors.items():
                theta = factor.raw.data
                if extrapolate:
                    ahead = torch.sub(theta, previous[name]).clamp_min_(0)
                    previous[name].copy_(theta)
                    theta.add_(ahead, alpha=alpha)
                neg, pos = model.factor_sums(name, batch, fused=self.fused)
                apply_update_(theta, neg, pos, exponents[name])


def exponent_of(model: Factorization, name: str) -> float:
    """The monotone exponent for one factor of a model."""
    degree = max((p.degree for p in model.penalty_list if p.on == name), default=0)
    factor = model.factors[name]
    return min(factor.max_exponent, model.loss.exponent(factor.degree, degree))
