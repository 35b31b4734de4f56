"""A progress bar that shows what a factorisation is about."""

from __future__ import annotations

from typing import Any, final

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from nmfnet.core.model import Factorization
from nmfnet.run.callbacks.convergence import Convergence


@final
class ProgressBar(L.Callback):
    """Iterations, objective of the best restart, its relative change and iterations a second.

    Parameters
    ----------
    title : str
        Shown in front.
    convergence : Convergence
        Keeps the records; must come before this callback.
    """

    def __init__(self, title: str, convergence: Convergence) -> None:
        self.convergence = convergence
        self.title = title
        self._bar: Progress | None = None
        self._task: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Factorization)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self.title, total=pl_module.budget.max_iter, state="")
        self._bar.start()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        record = self.convergence.records[-1]
        rate = record.iteration / max(record.seconds, 1e-9)
        state = (
            f"objective {record.objective:.6g}  change {record.relative_change:.1e}  "
            f"{rate:.0f} it/s"
        )
        assert self._bar is not None
        self._bar.update(self._task, completed=record.iteration, state=state)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
