"""``solver=exact``: the closed form of a model that has one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, final

import torch

from nmfnet.solvers.base import Solver, Task, count_step
from nmfnet.types import Batch, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


def _only_codes(model: Factorization) -> bool:
    """Whether all but the codes of the rows is frozen, so that a fit is an inference."""
    codes = model.code_factors()
    once = all(factor.degree == 1 for factor in codes.values())  # else they decode, too
    return bool(codes) and once and set(model.moved()) == set(codes)


@final
class Exact(Solver):
    """One step to the optimum: ``model.solve``, or the codes of the rows when all else is frozen."""

    name = "exact"
    at_once = True

    def __init__(self) -> None:
        super().__init__(n_inner=1)

    def lacks(self, task: Task) -> Iterator[str]:
        if not task.model.overrides("solve") and not _only_codes(task.model):
            kind = type(task.model).__name__
            yield f"is for models with a closed form, and {kind} as configured has none"
        yield from task.minibatches()
        yield from task.processes()

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        with torch.no_grad():
            model.solve(batch)
            with model.restarts(live):
                return model.objective(batch)
