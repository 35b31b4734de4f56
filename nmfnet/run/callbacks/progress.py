"""What a run says while it trains: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, final

import lightning as L
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from nmfnet.core.budget import Budget
from nmfnet.core.model import Factorization
from nmfnet.run.callbacks.convergence import Convergence, Record
from nmfnet.run.terminal import Beat

FEWEST = 5
"""Training steps with a fall from which an end can be foreseen."""

SLOWEST = -0.1
"""Power of the iteration by which the fall must shrink at least for an end to be foreseen."""


def expected_end(records: Sequence[Record], budget: Budget) -> int | None:
    """The iteration at which the objective should have become quiet, if one can be foreseen.

    The relative fall per iteration is taken to go on as a power of the iteration, as it did over the
    later half of the steps: a straight line in logarithms, read off where it meets ``tol``.

    Parameters
    ----------
    records : sequence of Record
        The history so far.
    budget : Budget
        The stopping rule.

    Returns
    -------
    int or None
        At most ``max_iter``, which is also the answer where ``tol`` is 0; None while the fall does not
        slow down, or there are too few steps.
    """
    if budget.tol == 0:
        return budget.max_iter
    later = records[len(records) // 2 :]
    steps = [
        (b.iteration, b.relative_change, b.iteration - a.iteration) for a, b in pairwise(later)
    ]
    falls = [(at, change / n) for at, change, n in steps if n > 0 and change > 0]
    if len(falls) < FEWEST:
        return None
    at, fall = np.log(np.array(falls, float)).T
    slope, height = np.polyfit(at, fall, 1)
    if slope > SLOWEST:
        return None
    meets = (np.log(budget.tol / 100) - height) / slope
    last = records[-1].iteration
    return int(min(budget.max_iter, max(last, np.exp(min(meets, 50.0)))))


@final
class ProgressBar(L.Callback):
    """Iterations and where they may end, the objective of the best restart, its change, the speed.

    Parameters
    ----------
    title : str
        Shown in front.
    convergence : Convergence
        Keeps the records; must come before this callback.
    beat : Beat, optional
        When the next line is due where standard error is no terminal.
    """

    def __init__(self, title: str, convergence: Convergence, beat: Beat | None = None) -> None:
        self.convergence, self.title = convergence, title
        self.beat = beat or Beat()
        self._bar: Progress | None = None
        self._task: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        console = Console(stderr=True)
        if not console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(self.title, total=None, state="")
        self._bar.start()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Factorization)
        if self._bar is None and not (pl_module.live and self.beat.due()):
            return
        record = self.convergence.records[-1]
        end = expected_end(self.convergence.records, pl_module.budget)
        words = self._words(pl_module, record, end)
        if self._bar is not None:
            self._bar.update(self._task, completed=record.iteration, total=end, state=words)
        else:
            print(f"nmfnet: {self.title}: {words}", file=sys.stderr, flush=True)

    def _words(self, model: Factorization, record: Record, end: int | None) -> str:
        live = model.live
        most = max(model.budget.max_iter, record.iteration)  # minibatches end with the pass
        limit = f"at most {most:,}"
        if end is not None:
            near = "near its end" if end <= record.iteration else f"about {end:,}"
            limit = limit if end >= most else f"{near}, {limit}"
        parts = [f"iteration {record.iteration:,} ({limit})", f"objective {record.objective:.6g}"]
        if math.isfinite(record.relative_change):
            parts.append(f"change {record.relative_change:.1e}")
        if quiet := max((self.convergence.restarts[i].quiet for i in live), default=0):
            parts.append(f"quiet {min(quiet, model.budget.patience)} of {model.budget.patience}")
        if model.n_restarts > 1:
            parts.append(f"{len(live)} of {model.n_restarts} restarts go on")
        return "  ".join([*parts, f"{record.iteration / max(record.seconds, 1e-9):.0f} it/s"])

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
