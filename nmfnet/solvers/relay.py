"""Two solvers in a row: one that begins well, then L-BFGS, which settles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from nmfnet.settings.ranges import Count, Natural, Positive
from nmfnet.solvers.base import Solver, Task, total
from nmfnet.solvers.gradient import Adam
from nmfnet.solvers.quasi_newton import LBFGS
from nmfnet.types import Batch, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

STEEP = 0.01
"""Adam goes on where a training step of it still lowers the objective by more than this share."""

LONGEST = 3
"""Times the fewest iterations of Adam, after which it ends: near 0 every fall is a large share."""


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

    def ripe(self, restart: int, iteration: int) -> bool:
        """Whether a restart that is past its first iterations is to be handed over."""
        return True

    def _hand_over(self, model: Factorization, restart: int) -> None:
        if restart not in self.late:
            self.early.recall(model, restart)  # the best point that it met
            self.lbfgs.measure(model, restart, self.early.slopes(model))
            self.late.add(restart)

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        for restart in live:
            if model.iteration >= self.first and self.ripe(restart, model.iteration):
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

    def finish(self, model: Factorization, rows: Iterable[Batch]) -> None:
        for restart in range(model.n_restarts):
            if restart not in self.late:
                self.early.recall(model, restart)


class AdamLBFGS(Relay):
    """Adam while the objective falls fast, then L-BFGS, which settles in a fraction of Adam's time.

    From the start of a network L-BFGS takes the nearest valley, where units are often dead; Adam's
    even steps pass it by, and then need thousands of iterations for what is left. L-BFGS measures every
    entry in units that go down with the slopes which Adam saw there.

    Parameters
    ----------
    first : int, >= 0
        Fewest iterations of Adam. It goes on until a training step lowers the objective by less than
        ``STEEP`` of its value, or it had ``LONGEST`` times as many: in a valley that still falls L-BFGS
        takes short steps.
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
        self.lowest: dict[int, float] = {}  # objective of a restart
        self.falls: dict[int, float] = {}  # of it in the last step, relative

    def attach(self, model: Factorization) -> None:
        super().attach(model)
        self.lowest, self.falls = {}, {}

    def ripe(self, restart: int, iteration: int) -> bool:
        return self.falls.get(restart, 0.0) <= STEEP or iteration >= LONGEST * self.first

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        terms = super().step(model, batch, n_iter, live)
        for restart, value in zip(live, total(terms).tolist(), strict=True):
            before = self.lowest.get(restart, value)
            self.lowest[restart] = min(before, value)
            self.falls[restart] = (before - value) / abs(before) if before else 0.0
        return terms

    def running(self) -> dict[str, Any]:
        return super().running() | {"lowest": self.lowest, "falls": self.falls}

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        super().resume(model, running)
        self.lowest, self.falls = running.get("lowest", {}), running.get("falls", {})
