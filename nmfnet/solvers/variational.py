"""``solver=variational``: coordinate ascent on a variational bound, one sweep after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, final

import torch

from nmfnet.settings.ranges import Count
from nmfnet.solvers.base import Solver, Task, collect, count_step
from nmfnet.types import Batch, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


@final
class Variational(Solver):
    """Batch variational Bayes: the laws of all rows, then those of the components, in closed form.

    For models that say what a sweep is (``model.sweep``).

    Parameters
    ----------
    n_inner : int, >= 1
        Sweeps per training step.

    Source: Blei, Ng & Jordan 2003, section 5.3; Hoffman, Blei & Bach 2010, algorithm 1.
    """

    name = "variational"

    def __init__(self, *, n_inner: Count = 5) -> None:
        super().__init__(n_inner=n_inner)

    def lacks(self, task: Task) -> Iterator[str]:
        if not task.model.overrides("sweep"):
            yield f"is for models with a variational bound, and {type(task.model).__name__} has none"
        yield from task.minibatches()
        yield from task.processes()
        yield from task.fixed()
        yield from task.weights()
        if task.model.penalty_list:
            yield "maximises the bound alone, and there is a penalty"

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        collected: list[Terms] = []
        for restart in live:
            with torch.no_grad(), model.restarts(restart):
                for _ in range(n_iter):
                    model.sweep(batch)
                collected.append(model.objective(batch))
        return collect(collected)
