"""Whether a restart has converged: an independent descent goes on from where it stopped."""

from __future__ import annotations

from typing import NamedTuple

import torch

from nmfnet.core.model import Factorization
from nmfnet.models._hierarchy import size_of
from nmfnet.solvers.descent import Problem, search
from nmfnet.solvers.quasi_newton import minimise
from nmfnet.types import Batch, Stage

SHARE = 0.02
"""Evaluations of the objective that a certificate may take, per iteration of the solver so far."""

LEAST, MOST = 10, 200
"""Fewest and most evaluations."""

WAIT = 1.25
"""After a certificate that failed, a restart goes on for a quarter of its iterations at least."""

ROUNDINGS = 8
"""A fall of so many roundings of the objective is none."""


class Found(NamedTuple):
    """What a descent has come to.

    Attributes
    ----------
    objective : float
        Total, where it ended.
    fall : float, >= 0
        Relative fall of the objective (of stages that have one of their own: the largest).
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

    By projected gradient with a line search, in units of each parameter's root mean square; by
    L-BFGS where the solver is the projected gradient itself. Stages of a model that minimise
    objectives of their own go down one after the other. The model is in the state that it is judged
    in, so batch norm takes its running means.

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
    training = model.training
    model.eval()
    try:
        with model.restarts([restart] if batch.x.is_sparse_csr else slice(restart, restart + 1)):
            falls = [_stage(model, batch, stage, most, enough) for stage in model.stages()]
            with torch.no_grad():
                objective = float(Problem(model, batch).value())
    finally:
        model.train(training)
    return Found(objective, max(falls))


def _stage(
    model: Factorization, batch: Batch, stage: Stage, most: int, enough: float | None
) -> float:
    problem = Problem(model, batch, stage)
    before = [parameter.detach().clone() for parameter in problem.parameters]
    with torch.no_grad():
        start = float(problem.value())
    unit = max(abs(start), float(_least_size(model, batch)))
    if model.solver.spectral:
        with model.restarts(0):
            lowest = minimise(model, batch, most, most=most)[0]
    else:
        goal = -torch.inf if enough is None else start - enough * unit
        rate = torch.zeros(1, dtype=torch.float64, device=model.device)
        lowest = float(search(problem, problem.units(), rate, most, most, goal)[0])
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
