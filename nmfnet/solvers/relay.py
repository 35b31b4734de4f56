"""Two solvers in a row: one that begins well, then L-BFGS, which settles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from nmfnet.settings.ranges import Count, Natural, Positive
from nmfnet.solvers.base import Solver, Task
from nmfnet.solvers.gradient import Adam
from nmfnet.solvers.quasi_newton import LBFGS
from nmfnet.types import Batch, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


class Relay(Solver):
    """Another solver for the first iterations of a restart, then L-BFGS.

    A restart is also handed over when its certificate has failed: its first solver was quiet where
    another goes on.

    Parameters
    ----------
    early : Solver
    first : int, >= 0
        Iterations of it.
    memory : int, >= 1
        Corrections that L-BFGS keeps.
    """

    def __init__(self, early: Solver, *, first: Natural = 1000, memory: Count = 10) -> None:
        super().__init__(n_inner=early.n_inner)
        self.early, self.first = early, first
        self.lbfgs = LBFGS(memory=memory, n_inner=early.n_inner)
        self.monotone = early.monotone
        self.late: set[int] = set()
        self.name = early.name  # the same however a run ends

    def active(self, restart: int) -> Solver:
        return self.lbfgs if restart in self.late else self.early

    def remark(self) -> str:
        count = f"{len(self.late)} restart{'s' if len(self.late) > 1 else ''}"
        return f"{self.lbfgs.name} went on from {self.name} in {count}." if self.late else ""

    def begin(self, task: Task) -> None:
        self.early.begin(task)

    def lacks(self, task: Task) -> Iterator[str]:
        yield from self.lbfgs.lacks(task)
        yield from self.early.lacks(task)

    def exact(self, task: Task) -> bool:
        return self.early.exact(task)

    def attach(self, model: Factorization) -> None:
        self.early.attach(model)
        self.lbfgs.attach(model)

    def optimizer(self, model: Factorization) -> Optimizer:
        return self.early.optimizer(model)

    def running(self) -> dict[str, Any]:
        return {
            "late": sorted(self.late),
            "early": self.early.running(),
            "lbfgs": self.lbfgs.running(),
        }

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        self.late = set(running["late"])
        self.early.resume(model, running["early"])
        self.lbfgs.resume(model, running["lbfgs"])

    def recall(self, model: Factorization, restart: int) -> None:
        self.active(restart).recall(model, restart)

    def rebase(self, model: Factorization, restart: int, objective: float) -> None:
        self.active(restart).rebase(model, restart, objective)
        self._hand_over(model, restart)

    def _hand_over(self, model: Factorization, restart: int) -> None:
        if restart not in self.late:
            self.early.recall(model, restart)  # the best point that it met
            self.lbfgs.measure(model, restart, self.early.slopes(model))
            self.late.add(restart)

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        if model.iteration >= self.first:
            for restart in live:
                self._hand_over(model, restart)
        ordered = sorted(live, key=lambda restart: restart in self.late)
        early = [restart for restart in ordered if restart not in self.late]
        late = ordered[len(early) :]
        found: list[Terms] = []
        if early:
            found.append(self.early.step(model, batch, n_iter, early))
        if late:
            model.zero_grad(set_to_none=True)  # so that counting a step moves nothing
            found.append(self.lbfgs.step(model, batch, n_iter, late))
        places = [ordered.index(restart) for restart in live]
        return {name: torch.cat([terms[name] for terms in found])[places] for name in found[0]}

    def finish(self, model: Factorization, batch: Batch) -> None:
        for restart in range(model.n_restarts):
            if restart not in self.late:
                self.early.recall(model, restart)


class AdamLBFGS(Relay):
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

    def __init__(
        self, *, first: Natural = 300, lr: Positive = 0.01, memory: Count = 10, n_inner: Count = 100
    ) -> None:
        super().__init__(Adam(lr=lr, n_inner=n_inner), first=first, memory=memory)
        self.name = "adam_lbfgs"

    def remark(self) -> str:
        return ""  # its name says it
