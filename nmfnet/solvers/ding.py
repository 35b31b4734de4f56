"""``solver=ding``: multiplicative updates of factors >= 0 whose components are orthogonal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

import torch

from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.core.objective import factor_sums
from nmfnet.kernels.multiplicative import apply_update_
from nmfnet.settings.ranges import Count
from nmfnet.solvers.base import Solver, Task, collect, count_step, total
from nmfnet.solvers.loops import updates
from nmfnet.solvers.multiplicative import exponent_of
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

SOFT = 0.2
"""What the rule starts with in place of 0, in units of the mean entry that is not 0."""


@final
class Ding(Solver):
    """Ding's rule ``θ <- θ √(neg / θ θᵀ neg)`` for orthogonal components, ``√(neg / pos)`` for others.

    ``neg`` and ``pos`` are the two sums of multiplicative updates; at a fixed point ``θᵀ θ = I`` where
    entries are not 0. The rule moves soft memberships, beside the model. A training step ends on the
    lower of two points that are feasible: the soft memberships with the largest entry of each kept,
    and what the model had. In both every sample, or feature, moves to the component that suits it best,
    and the entries that are not 0 follow plain updates for as many iterations, so that no step ends
    higher than it began.

    Parameters
    ----------
    n_inner : int, >= 1
        Iterations per training step.

    Source: Ding, Li, Peng & Park 2006, "Orthogonal nonnegative matrix tri-factorizations for clustering",
    eqs. (12) to (14).
    """

    name = "ding"

    def __init__(self, *, n_inner: Count = 50) -> None:
        super().__init__(n_inner=n_inner)
        self.soft: dict[str, Tensor] = {}

    def lacks(self, task: Task) -> Iterator[str]:
        model = task.model
        if not any(factor.constraint.one_in for factor in model.moved().values()):
            yield "is for orthogonal factors (constraint=orthogonal), and none is"
        if not model.multilinear:
            yield f"needs a product of non-negative factors, which {type(model).__name__} is not"
        for name, factor in model.factors.items():
            own = factor.constraint
            if not own.one_in and not (own.identity and own.bounds == NON_NEGATIVE):
                yield f"needs the other factors >= 0 (constraint=project), and {name} is not so"
        yield from task.losses(2)
        yield from task.minibatches()
        yield from task.weights()
        yield from task.processes()
        yield from task.penalties()

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        if not self.soft:
            self.soft = {
                name: _soft(f.raw.detach(), f.constraint.one_in)
                for name, f in model.moved().items()
            }
        collected: list[Terms] = []
        for restart in live:
            with torch.no_grad(), model.restarts(restart):
                collected.append(self._advance(model, batch, n_iter, restart))
        return collect(collected)

    def _advance(self, model: Factorization, batch: Batch, n_iter: int, restart: int) -> Terms:
        moved = model.moved()
        _follow(model, batch, n_iter)
        before = {name: factor.raw.data.clone() for name, factor in moved.items()}
        terms = model.objective(batch)
        for name, factor in moved.items():
            factor.raw.data.copy_(self.soft[name][restart])
        for _ in range(n_iter):
            for name, factor in moved.items():
                theta = factor.raw.data
                neg, pos = factor_sums(model, name, batch)
                pos = factor.constraint.balance(theta, neg, pos)
                apply_update_(theta, neg, pos, 0.5)
        for name, factor in moved.items():
            self.soft[name][restart] = factor.raw.data
            factor.project_()
        _follow(model, batch, n_iter)
        found = model.objective(batch)
        if bool(total(found) < total(terms)):
            return found
        for name, factor in moved.items():
            factor.raw.data.copy_(before[name])
        return terms

    def running(self) -> dict[str, Any]:
        return {"soft": self.soft}

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        self.soft = {name: value.to(model.device) for name, value in running["soft"].items()}


def _soft(value: Tensor, one_in: str) -> Tensor:
    if not one_in:
        return value.clone()
    there = value > 0
    mean = value.sum((-2, -1), keepdim=True) / there.sum((-2, -1), keepdim=True).clamp_min(1)
    return torch.where(there, value, 0) + SOFT * mean


def _assign(model: Factorization, name: str, batch: Batch) -> None:
    """Every sample, or feature, in the component by which the objective falls most, at its best weight.

    The weight ``neg / c`` saves ``neg² / 2c``, c being what a weight of 1 has in ``pos``.
    """
    factor = model.factors[name]
    theta, axis = factor.raw.data, -1 if factor.constraint.one_in == "row" else -2
    curves = torch.zeros_like(theta)
    for component in range(theta.shape[axis]):
        one = torch.zeros_like(theta)
        one.index_fill_(axis, torch.tensor([component], device=theta.device), 1)
        theta.copy_(one)
        neg, pos = factor_sums(model, name, batch)
        curves += one * pos
    weight = neg / curves.clamp_min(torch.finfo(theta.dtype).tiny)
    best = (neg * weight).argmax(axis, keepdim=True)
    theta.zero_().scatter_(axis, best, weight.gather(axis, best))


def _follow(model: Factorization, batch: Batch, n_iter: int) -> None:
    """The best component for each, then plain updates: an entry that is 0 stays 0."""
    for name, factor in model.moved().items():
        if factor.constraint.one_in and factor.degree == 1:
            _assign(model, name, batch)
    exponents = {name: exponent_of(model, name) for name in model.moved()}
    updates(model, batch, [None] * n_iter, {}, exponents, True)
    for factor in model.moved().values():
        factor.project_()
