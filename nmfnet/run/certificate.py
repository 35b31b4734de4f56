"""Whether a restart has converged: an independent descent goes on from where it stopped."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from nmfnet.core.model import Factorization
from nmfnet.core.objective import judged
from nmfnet.models._hierarchy import size_of
from nmfnet.solvers.bounded import minimise
from nmfnet.solvers.descent import Problem, search
from nmfnet.types import Batch, Stage

SHARE = 0.01
"""Evaluations of the objective that a certificate may take, per iteration of the solver so far."""

LEAST, MOST = 10, 200
"""Fewest and most evaluations."""

SURE = 0.5
"""Where the gradient promises no more than this part of the tolerance, it is proof enough."""

WAIT = 1.25
"""After a certificate that failed, a restart goes on for a quarter of its iterations at least."""

LARGE = 1_000_000
"""Parameters of a restart, above which L-BFGS costs too much: SciPy's takes 270 bytes for each."""

ROUNDINGS = 8
"""A fall of so many roundings of the objective is none."""


class Found(NamedTuple):
    """What a descent has come to.

    Attributes
    ----------
    objective : float
        Total, where it ended.
    fall : float, >= 0
        Relative fall of the objective (of stages that have one of their own: the largest); where
        the gradient alone is proof, the most that it promises.
    """

    objective: float
    fall: float


def evaluations(iteration: int) -> int:
    """How many evaluations of the objective a certificate may take."""
    return round(min(MOST, max(LEAST, SHARE * iteration)))


def due(failed: int, iteration: int) -> bool:
    """Whether a restart whose last certificate failed at ``failed`` (0 = none) may have another."""
    return iteration >= WAIT * failed


def descend(
    model: Factorization, batch: Batch, restart: int, most: int, enough: float | None = None
) -> Found:
    """Go down from the parameters of a restart, which are left at the lowest point found.

    By SciPy's L-BFGS-B, which from where Adam ends under KL falls twenty times as far as a projected
    gradient in as many evaluations, and which shares neither code nor memory with ``solver=lbfgs``;
    where rows are spread over processes, there are many parameters, or a constraint is no bound on
    entries, by projected gradient with a line search. Each parameter is measured in its root mean
    square. Stages of a model that minimise objectives of their own go down one after the other. The
    model is in the state that it is judged in, so batch norm takes its running means.

    Parameters
    ----------
    model : Factorization
    batch : Batch
        What the stopping rule judges: all training rows.
    restart : int
    most : int
        Evaluations of the objective (of every stage).
    enough : float, optional
        End at a relative fall above this.
    """
    with judged(model), model.restarts(slice(restart, restart + 1)):
        falls = [_stage(model, batch, stage, most, enough) for stage in model.stages()]
        with torch.no_grad():
            objective = float(Problem(model, batch).value())
    return Found(objective, max(falls))


def _stage(
    model: Factorization,
    batch: Batch,
    stage: Stage,
    most: int,
    enough: float | None,
) -> float:
    problem = Problem(model, batch, stage)
    before = [parameter.detach().clone() for parameter in problem.parameters]
    value, gradients = problem.differentiate()
    start, units = float(value), problem.units()
    unit = max(abs(start), float(_least_size(model, batch))) or 1.0  # of an X of zeros
    promise = float(problem.promise(units, gradients)) / unit
    if enough is not None and promise <= SURE * enough:
        return promise
    goal = -math.inf if enough is None else start - enough * unit
    constraints = [factor.constraint for factor in model.moved().values()]
    projected = any(c.identity and c.bounds is None for c in constraints)  # no bounds to keep
    with problem.smoothed() as more:
        if projected or model.world.size > 1 or problem.size > LARGE:
            rate = torch.zeros(1, dtype=torch.float64, device=model.device)
            lowest = float(search(problem, units, rate, most, most, goal + more)[0])
        else:
            scales = [float(square.mean().sqrt()) for square in units]
            lowest = minimise(problem, scales, most, most=most, enough=goal + more)
    if model.loss.kinked:
        with torch.no_grad():
            lowest = float(problem.value())
    fall = (start - lowest) / unit
    if not fall > ROUNDINGS * torch.finfo(model.precision).eps:
        for parameter, value in zip(problem.parameters, before, strict=True):
            parameter.data.copy_(value)
        return 0.0
    return fall


def _least_size(model: Factorization, batch: Batch) -> torch.Tensor:
    """An objective below this is 0 as far as rounding can tell."""
    size = model.world.total(size_of(batch.x, model.loss.beta))
    return size * torch.finfo(model.precision).eps
