"""``solver=gd``: projected gradient descent on all parameters of a model at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

import torch

from nmfnet.errors import UserError
from nmfnet.solvers.base import Solver, Task, count_step, total
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

WINDOW = 10
"""Objectives, of which a step may not end above the largest."""

ENOUGH = 1e-4
"""Share of the decrease that the gradient promises, of which a step has to make good."""

RADIUS = 0.1
"""Largest step, root mean square over all parameters in their units."""

TRIALS = 15
"""Lengths that are tried for a step, each a quarter of the one before."""


@final
class GradientDescent(Solver):
    """Projected gradient descent, ``θ <- P(θ - rate ∇)``, all restarts at once.

    For any model whose objective is a smooth function of its parameters; it has no minibatches. Every
    restart has a rate of its own, by Barzilai & Borwein from the last two gradients, and shortens a
    step until the objective is below the largest of its last ten and parameters change by at most a
    tenth in the mean. A training step ends at the lowest objective that it has met. Factors are
    measured in units of their root mean square at the start, so that their scales do not matter.

    Parameters
    ----------
    lr : float, > 0, optional
        A fixed rate instead, the same for all factors, without units or safeguards: the
        textbook's method, of which the objective can rise.
    n_inner : int
        Iterations per training step.

    Source: Birgin, Martínez & Raydan 2000, "Nonmonotone spectral projected gradient methods on convex
    sets", algorithm 1 (SPG1); Han, Neumann & Prasad 2009 (the same for NMF).
    """

    name = "gd"

    def __init__(self, *, lr: float | None = None, n_inner: int = 100) -> None:
        super().__init__(n_inner=n_inner)
        if lr is not None and lr <= 0:
            raise UserError(f"solver.lr={lr:g}: it must be > 0, or null for a rate by line search")
        self.lr = lr
        self.rate = torch.empty(0)  # of each restart; 0 = none yet
        self.units: list[Tensor] = []  # mean squares of the parameters at the start

    def lacks(self, task: Task) -> Iterator[str]:
        yield from task.minibatches()
        yield from task.processes()
        if task.sparse and not task.model.sparse:
            yield "needs a dense X, and this one is sparse"

    def running(self) -> dict[str, Any]:
        return {"rate": self.rate, "units": self.units}

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        self.rate = running["rate"].to(model.device)
        self.units = [unit.to(model.device) for unit in running["units"]]

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        if not self.units:
            self._measure(model)
        every = len(live) == model.n_restarts
        with model.restarts(slice(None) if every else live):
            if self.lr is not None:
                for _ in range(n_iter):
                    _, gradients = _differentiate(model, batch)
                    _move(model, model.trainable(), gradients, [self.lr] * len(gradients))
            else:
                self._search(model, batch, n_iter, live)
            with torch.no_grad():
                return model.objective(batch)

    def _measure(self, model: Factorization) -> None:
        """Unit of every parameter, its mean square in each restart, shaped to multiply it."""
        for parameter in model.trainable():
            values = parameter.detach()
            square = values.square().mean(tuple(range(1, values.ndim)), keepdim=True)
            self.units.append(torch.where(square > 0, square, 1))
        self.rate = torch.zeros(model.n_restarts, dtype=torch.float64, device=model.device)

    def _search(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> None:
        units, rate = [unit[live] for unit in self.units], self.rate[live]
        value, gradients = _differentiate(model, batch)
        steepness = _inner([u * g for u, g in zip(units, gradients, strict=True)], gradients)
        size = sum(g[0].numel() for g in gradients)
        first = 0.01 * (size / steepness.clamp_min(1e-300)).sqrt()  # changes by 1 % in the mean
        rate = torch.where(rate > 0, rate, first)
        past, least = [value], value.clone()
        lowest = [parameter.detach().clone() for parameter in model.trainable()]
        for i in range(n_iter):
            value, gradients, rate = _iterate(model, batch, units, rate, past, gradients, i)
            past = [*past[1 - WINDOW :], value]
            lower = value < least
            least = torch.where(lower, value, least)
            for kept, parameter in zip(lowest, model.trainable(), strict=True):
                kept[lower] = parameter.detach()[lower]
        for kept, parameter in zip(lowest, model.trainable(), strict=True):
            parameter.data.copy_(kept)
        self.rate[live] = rate


def _iterate(
    model: Factorization,
    batch: Batch,
    units: list[Tensor],
    rate: Tensor,
    past: list[Tensor],
    gradients: list[Tensor],
    i: int,
) -> tuple[Tensor, list[Tensor], Tensor]:
    """One step of every restart: its objective and gradients there, and the next rate."""
    old = [parameter.detach().clone() for parameter in model.trainable()]
    limit = RADIUS**2 * sum(g[0].numel() for g in gradients)
    bound, share = torch.stack(past).amax(0), torch.ones_like(rate)
    for trial in range(TRIALS + 1):
        lengths = [(share * rate).to(u.dtype).view(u.shape) * u for u in units]
        _move(model, old, gradients, lengths)
        value, following = _differentiate(model, batch)
        steps = [p.detach() - o for p, o in zip(model.trainable(), old, strict=True)]
        length = _inner([s / u for s, u in zip(steps, units, strict=True)], steps)
        good = (value <= bound + ENOUGH * _inner(gradients, steps)) & (length <= limit)
        if trial == TRIALS or bool(good.all()):
            break
        shorter = share / 4 if trial < TRIALS - 1 else 0  # nothing is below: stay
        share = torch.where(good, share, shorter)
    turns = [b - a for a, b in zip(gradients, following, strict=True)]
    curve = _inner(steps, turns)
    if i % 2:
        spectral = length / curve
    else:
        spectral = curve / _inner([u * t for u, t in zip(units, turns, strict=True)], turns)
    usable = (curve > 0) & spectral.isfinite() & (spectral > 0)
    longer = torch.where(share > 0, 2 * share, 0.1) * rate  # no curvature, or no step at all
    return value, following, torch.where(usable, spectral, longer)


def _differentiate(model: Factorization, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Objective (r,) and its gradient by every parameter."""
    parameters = model.trainable()
    with torch.enable_grad():
        objective = total(model.objective(batch))
    found = torch.autograd.grad(objective.sum(), parameters, allow_unused=True)
    gradients = [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)
    ]
    return objective.detach(), gradients


@torch.no_grad()
def _move(
    model: Factorization, old: list[Any], gradients: list[Tensor], lengths: list[Any]
) -> None:
    """``θ <- P(old - length gradient)``."""
    for p, o, g, length in zip(model.trainable(), old, gradients, lengths, strict=True):
        p.data.copy_(o - length * g)
    for factor in model.factors.values():
        factor.project_()


def _inner(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """Inner products of each restart, float64, shape (r,)."""
    products = [
        (a * b).flatten(1).sum(1, dtype=torch.float64) for a, b in zip(left, right, strict=True)
    ]
    return torch.stack(products).sum(0)
