"""``solver=adam_lbfgs``: Adam to find a good region, L-BFGS to reach its lowest point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

from torch.optim import Optimizer

from nmfnet.settings.ranges import Count, Natural, Positive
from nmfnet.solvers.base import Solver, Task
from nmfnet.solvers.gradient import Adam
from nmfnet.solvers.quasi_newton import LBFGS
from nmfnet.types import Batch, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


@final
class AdamLBFGS(Solver):
    """Adam for the first iterations, then L-BFGS, which settles in a fraction of Adam's time.

    From the start of a network L-BFGS takes the nearest valley, where units are often dead; Adam's
    even steps pass it by, and then need thousands of iterations for what is left. L-BFGS measures every
    entry in units that go down with the slopes which Adam saw there.

    Parameters
    ----------
    first : int, >= 0
        Iterations of Adam.
    lr : float, > 0
        Learning rate of Adam, relative to each factor's root mean square at the start.
    memory : int, >= 1
        Corrections that L-BFGS keeps.
    n_inner : int
        Iterations per training step.

    Source: Kingma & Ba 2015; Nocedal 1980.
    """

    name = "adam_lbfgs"
    monotone = False
    quasi_newton = True

    def __init__(
        self, *, first: Natural = 300, lr: Positive = 0.01, memory: Count = 10, n_inner: Count = 100
    ) -> None:
        super().__init__(n_inner=n_inner)
        self.first = first
        self.adam = Adam(lr=lr, n_inner=n_inner)
        self.lbfgs = LBFGS(memory=memory, n_inner=n_inner)
        self.handed_over = first == 0

    def lacks(self, task: Task) -> Iterator[str]:
        yield from self.lbfgs.lacks(task)

    def recall(self, model: Factorization, restart: int) -> None:
        if not self.handed_over:
            self.adam.recall(model, restart)

    def rebase(self, model: Factorization, restart: int, objective: float) -> None:
        (self.lbfgs if self.handed_over else self.adam).rebase(model, restart, objective)

    def attach(self, model: Factorization) -> None:
        self.lbfgs.attach(model)

    def optimizer(self, model: Factorization) -> Optimizer:
        return self.adam.optimizer(model)

    def running(self) -> dict[str, Any]:
        return {
            "handed_over": self.handed_over,
            "adam": self.adam.running(),
            "lbfgs": self.lbfgs.running(),
        }

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        self.handed_over = running["handed_over"]
        self.adam.resume(model, running["adam"])
        self.lbfgs.resume(model, running["lbfgs"])

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        if model.iteration < self.first:
            return self.adam.step(model, batch, n_iter, live)
        if not self.handed_over:
            self.adam.finish(model, batch)  # the best point that it met
            self.lbfgs.measure(model, self.adam.slopes(model))
            model.zero_grad(set_to_none=True)  # so that counting a step moves nothing
            self.handed_over = True
        return self.lbfgs.step(model, batch, n_iter, live)

    def finish(self, model: Factorization, batch: Batch) -> None:
        if not self.handed_over:
            self.adam.finish(model, batch)
