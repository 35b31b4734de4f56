"""``solver=gd``: projected gradient descent on all parameters of a model at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

import torch
from torch.nn import functional as F

from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.core.objective import factor_sums, moves_values, row_losses
from nmfnet.errors import UserError
from nmfnet.solvers.base import Solver, Task, count_step, total
from nmfnet.types import Batch, Stage, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

WINDOW = 10
"""Objectives, of which a step may not end above the largest."""

ENOUGH = 1e-4
"""Share of the decrease that the gradient promises, of which a step has to make good."""

ROUND = 0.01
"""Mean losses of a row, below which those with a kink are taken for smooth."""

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
        self.lr, self.monotone = lr, lr is None
        self.rate = torch.empty(0)  # of each restart; 0 = none yet
        self.units: list[Tensor] = []  # mean squares of the parameters at the start

    def lacks(self, task: Task) -> Iterator[str]:
        yield from task.minibatches()
        yield from task.players()
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
            self.units = Problem(model, batch).units()
            self.rate = torch.zeros(model.n_restarts, dtype=torch.float64, device=model.device)
        every = len(live) == model.n_restarts
        with model.restarts(slice(None) if every else live):
            if self.lr is not None:
                problem = Problem(model, batch)
                for _ in range(n_iter):
                    _, gradients = problem.differentiate()
                    problem.move(problem.parameters, gradients, [self.lr] * len(gradients))
            else:
                self._search(model, batch, n_iter, live)
            with torch.no_grad():
                return model.objective(batch)

    def _search(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> None:
        problem = Problem(model, batch)
        with problem.smoothed():
            units = [unit[live] for unit in self.units]
            _, rate = search(problem, units, self.rate[live], n_iter)
        self.rate[live] = rate

    def rebase(self, model: Factorization, restart: int, objective: float) -> None:
        if self.rate.numel():
            self.rate[restart] = 0


class Problem:
    """What a descent goes down: the restarts that a model now holds, all of it or a stage.

    Parameters
    ----------
    model : Factorization
    batch : Batch
    stage : Stage, optional
        Parameters to move and the terms to leave out; by default all parameters and no term.

    An l1 penalty of a factor of any sign has a kink at 0. The gradient is then the subgradient of the
    smallest norm, and no entry changes its sign in one step: it comes to 0 first.

    Source: Andrew & Gao 2007, "Scalable training of L1-regularized log-linear models", section 3.1.
    """

    def __init__(self, model: Factorization, batch: Batch, stage: Stage | None = None) -> None:
        self.model, self.batch = model, batch
        self.parameters, self.left_out = stage or (model.trainable(), frozenset())
        rows = {id(f.raw): f.per_sample for f in model.factors.values()}
        self.own = [rows.get(id(parameter), False) for parameter in self.parameters]
        self.kinks = {
            id(model.factors[penalty.on].raw): penalty.weight
            for penalty in model.penalty_list
            if penalty.linear and model.factors[penalty.on].signed
        }
        self.evaluations = 0
        sizes = [p[0].numel() for p in self.parameters]
        table = sum(size for size, own in zip(sizes, self.own, strict=True) if own)
        everywhere = model.world.total(torch.tensor(table, device=model.device))
        self.size = sum(sizes) - table + int(everywhere)

    def value(self) -> Tensor:
        """The objective, float64, shape (r,)."""
        terms = self.model.objective(self.batch)
        return total({name: term for name, term in terms.items() if name not in self.left_out})

    @contextmanager
    def smoothed(self) -> Iterator[float]:
        """Inside, the loss has no kinks; yields by how much the objective is larger there for it.

        A gradient says nothing of the way down from a kink: of rows that fit exactly, however badly
        the others do.
        """
        model, batch = self.model, self.batch
        if not model.loss.kinked:
            yield 0.0
            return
        with torch.no_grad():
            losses = row_losses(model, batch, model.encode(batch)).double()
            whole = model.world.total(
                torch.stack([losses.sum(), losses.new_tensor(losses.numel())])
            )
            size = ROUND * float(whole[0] / whole[1])
            exact = self.value()
        with model.loss.smoothed(size):
            with torch.no_grad():
                more = float((self.value() - exact).amax())
            yield more

    def differentiate(self) -> tuple[Tensor, list[Tensor]]:
        """Objective (r,) and its gradient by every parameter."""
        self.evaluations += 1
        model, world = self.model, self.model.world
        if model.bilinear and moves_values(model, NON_NEGATIVE):
            return self._closed_form()
        with torch.enable_grad():
            objective = self.value()
        found = torch.autograd.grad(objective.sum(), self.parameters, allow_unused=True)
        gradients = [
            torch.zeros_like(p) if g is None else g if own else world.total(g)
            for p, g, own in zip(self.parameters, found, self.own, strict=True)
        ]
        for p, g in zip(self.parameters, gradients, strict=True):
            if weight := self.kinks.get(id(p)):
                g.copy_(torch.where(p == 0, F.softshrink(g, weight), g))
        return world.total(objective.detach()), gradients

    @torch.no_grad()
    def _closed_form(self) -> tuple[Tensor, list[Tensor]]:
        """The same by the multiplicative sums, which need no graph."""
        model, found = self.model, []
        names = {id(factor.raw): name for name, factor in model.factors.items()}
        apart = self.batch.x.is_sparse_csr  # sparse products have no restart axis
        for parameter in self.parameters:
            parts: list[Tensor] = []
            for restart in range(parameter.shape[0]) if apart else [slice(None)]:
                with model.restarts(restart):
                    neg, pos = factor_sums(model, names[id(parameter)], self.batch)
                    parts.append((pos - neg).expand(parameter.shape))
            found.append(torch.stack(parts) if apart else parts[0])
        return self.value(), found

    def sides(self) -> list[Tensor | None]:
        """The sign that entries keep while the objective is smooth; None = it has no kinks there."""
        if not self.kinks:
            return [None] * len(self.parameters)
        _, gradients = self.differentiate()
        pairs = zip(self.parameters, gradients, strict=True)
        return [_side(p.detach(), g) if id(p) in self.kinks else None for p, g in pairs]

    @torch.no_grad()
    def move(self, old: list[Any], gradients: list[Tensor], lengths: list[Any]) -> None:
        """``θ <- P(old - length gradient)``."""
        for p, o, g, length in zip(self.parameters, old, gradients, lengths, strict=True):
            p.data.copy_(o - length * g)
            if id(p) in self.kinks:
                p.data.copy_(torch.where(p * _side(o, g) > 0, p, 0))
        for factor in self.model.factors.values():
            factor.project_()

    def inner(self, left: list[Tensor], right: list[Tensor]) -> Tensor:
        """Inner products of each restart, over all processes, float64, shape (r,)."""
        parts = [torch.zeros(left[0].shape[0], dtype=torch.float64, device=left[0].device)] * 2
        for a, b, own in zip(left, right, self.own, strict=True):
            product = (a * b).flatten(1).sum(1, dtype=torch.float64)
            parts[own] = parts[own] + product
        return parts[False] + self.model.world.total(parts[True])

    def promise(self, units: list[Tensor], gradients: list[Tensor]) -> Tensor:
        """Most that the objective can fall, to first order, while parameters change by ``RADIUS``.

        Root mean square over all parameters in their units; shape (r,). What meets a bound on its
        way gives what the gradient promises up to there.
        """
        before = [parameter.detach().clone() for parameter in self.parameters]
        ways = [u.sqrt().to(g.dtype) * g.sign() for u, g in zip(units, gradients, strict=True)]
        self.move(before, ways, [RADIUS] * len(ways))
        steps = [b - p.detach() for b, p in zip(before, self.parameters, strict=True)]
        self.move(before, ways, [0.0] * len(ways))
        free = [(s / w).abs() > 0.99 * RADIUS for s, w in zip(steps, ways, strict=True)]
        open_ = [torch.where(f, g, 0) for f, g in zip(free, gradients, strict=True)]
        short = [torch.where(f, 0, s) for f, s in zip(free, steps, strict=True)]
        steep = self.inner([u * g for u, g in zip(units, open_, strict=True)], open_)
        return RADIUS * (self.size * steep).sqrt() + self.inner(short, gradients)

    def units(self) -> list[Tensor]:
        """Mean square of every parameter in each restart, shaped to multiply it."""
        found = []
        for parameter, own in zip(self.parameters, self.own, strict=True):
            values = parameter.detach()
            axes = tuple(range(1, values.ndim))
            square = values.square().mean(axes, keepdim=True)
            if own and self.model.world.size > 1:
                count = self.model.world.n_total * values.shape[-1]
                square = self.model.world.total(values.square().sum(axes, keepdim=True)) / count
            found.append(torch.where(square > 0, square, 1))
        return found


def _side(value: Tensor, gradient: Tensor) -> Tensor:
    """Of entries on a kink at 0, or beside it: numbers of the sign that they have next."""
    return torch.where(value == 0, -gradient, value)


def search(
    problem: Problem,
    units: list[Tensor],
    rate: Tensor,
    n_iter: int,
    most: float = math.inf,
    enough: float = -math.inf,
) -> tuple[Tensor, Tensor]:
    """Descend; the parameters end on the lowest point met.

    Parameters
    ----------
    problem : Problem
    units : list of Tensor
        Mean square of every parameter.
    rate : Tensor of float64, shape (r,)
        To begin with; 0 = unknown.
    n_iter : int
        Steps.
    most : float
        End after so many evaluations of the objective.
    enough : float
        End when every restart is below this objective.

    Returns
    -------
    Tensor, Tensor, shapes (r,)
        The lowest objective, and the rate to go on with.
    """
    value, gradients = problem.differentiate()
    steepness = problem.inner([u * g for u, g in zip(units, gradients, strict=True)], gradients)
    first = 0.01 * (problem.size / steepness.clamp_min(1e-300)).sqrt()  # changes by 1 % in the mean
    rate = torch.where(rate > 0, rate, first)
    past, least = [value], value.clone()
    lowest = [parameter.detach().clone() for parameter in problem.parameters]
    for i in range(n_iter):
        if problem.evaluations >= most or bool((least < enough).all()):
            break
        value, gradients, rate = _iterate(problem, units, rate, past, gradients, i)
        past = [*past[1 - WINDOW :], value]
        lower = value < least
        least = torch.where(lower, value, least)
        for kept, parameter in zip(lowest, problem.parameters, strict=True):
            kept[lower] = parameter.detach()[lower]
    for kept, parameter in zip(lowest, problem.parameters, strict=True):
        parameter.data.copy_(kept)
    return least, rate


def _iterate(
    problem: Problem,
    units: list[Tensor],
    rate: Tensor,
    past: list[Tensor],
    gradients: list[Tensor],
    i: int,
) -> tuple[Tensor, list[Tensor], Tensor]:
    """One step of every restart: its objective and gradients there, and the next rate."""
    inner = problem.inner
    old = [parameter.detach().clone() for parameter in problem.parameters]
    limit = RADIUS**2 * problem.size
    bound, share = torch.stack(past).amax(0), torch.ones_like(rate)
    for trial in range(TRIALS + 1):
        lengths = [(share * rate).to(u.dtype).view(u.shape) * u for u in units]
        problem.move(old, gradients, lengths)
        value, following = problem.differentiate()
        steps = [p.detach() - o for p, o in zip(problem.parameters, old, strict=True)]
        length = inner([s / u for s, u in zip(steps, units, strict=True)], steps)
        good = (value <= bound + ENOUGH * inner(gradients, steps)) & (length <= limit)
        if trial == TRIALS or bool(good.all()):
            break
        shorter = share / 4 if trial < TRIALS - 1 else 0  # nothing is below: stay
        share = torch.where(good, share, shorter)
    turns = [b - a for a, b in zip(gradients, following, strict=True)]
    curve = inner(steps, turns)
    if i % 2:
        spectral = length / curve
    else:
        spectral = curve / inner([u * t for u, t in zip(units, turns, strict=True)], turns)
    usable = (curve > 0) & spectral.isfinite() & (spectral > 0)
    longer = torch.where(share > 0, 2 * share, 0.1) * rate  # no curvature, or no step at all
    return value, following, torch.where(usable, spectral, longer)
