"""``solver=variational``: coordinate ascent on a bound (EM, variational Bayes), sweep after sweep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, final

import torch

from nmfnet.settings.ranges import Count, NotNegative, Range
from nmfnet.solvers.base import Solver, Task, collect, count_step
from nmfnet.types import Batch, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


@final
class Variational(Solver):
    """EM or variational Bayes: the laws of all rows, then the components, each in closed form.

    For models that say what a sweep is (``model.sweep``). With minibatches an iteration is one of them,
    and the t-th moves the components by ``(offset + t) ** -decay`` of the way to where it leads alone.

    Parameters
    ----------
    n_inner : int, >= 1
        Sweeps per training step.
    offset : float, >= 0
        Minibatches: how much the first ones are held back.
    decay : float in (0.5, 1]
        Minibatches: how fast old ones are forgotten; within these bounds the steps converge.

    Source: Dempster, Laird & Rubin 1977 (EM); Blei, Ng & Jordan 2003, section 5.3; Hoffman, Blei & Bach
    2010, algorithms 1 and 2.
    """

    name = "variational"

    def __init__(
        self,
        *,
        n_inner: Count = 5,
        offset: NotNegative = 10.0,
        decay: Annotated[float, Range(above=0.5, most=1)] = 0.7,
    ) -> None:
        super().__init__(n_inner=n_inner)
        self.offset, self.decay = offset, decay
        self.minibatch = False

    def begin(self, task: Task) -> None:
        """With minibatches, one iteration is one minibatch."""
        self.minibatch = task.batch_size is not None
        if self.minibatch:
            self.n_inner, self.monotone = 1, False

    def lacks(self, task: Task) -> Iterator[str]:
        if not task.model.overrides("sweep"):
            yield f"is for models with a variational bound, and {type(task.model).__name__} has none"
        if not task.model.incremental:
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
                for i in range(n_iter):
                    t = model.iteration + i
                    rate = (self.offset + t + 1) ** -self.decay if self.minibatch else 1.0
                    model.sweep(batch, rate)
                collected.append(model.objective(batch))
        return collect(collected)
