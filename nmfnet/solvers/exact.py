"""``solver=exact``: the closed form of a model that has one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, final

import torch

from nmfnet.solvers.base import Solver, Task, count_step
from nmfnet.types import Batch, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


@final
class Exact(Solver):
    """One step to the optimum: ``model.solve``, or the codes of the rows when all else is frozen."""

    name = "exact"
    at_once = True

    def __init__(self) -> None:
        super().__init__(n_inner=1)

    def lacks(self, task: Task) -> Iterator[str]:
        if not task.model.closed_form:
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
