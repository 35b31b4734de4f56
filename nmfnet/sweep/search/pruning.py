"""Stopping a trial early that looks worse than those before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L

from nmfnet.core.model import Factorization
from nmfnet.run.callbacks.convergence import Convergence

PRUNER = "pruner.json"
"""File in the folder of a sweep: which study its jobs report to."""

FIRST = 100
"""Iteration of the first report; then at twice as many each time."""


class Pruned(Exception):
    """A trial that was stopped early; the message says when."""


class Pruning(L.Callback):
    """Reports the objective to the study of a search, and ends the run when the pruner says so.

    Parameters
    ----------
    trial : optuna.Trial
        Whose run it is.
    """

    def __init__(self, trial: Any) -> None:
        self.trial = trial
        self.next = FIRST

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After :class:`Convergence` has judged the step."""
        assert isinstance(pl_module, Factorization)
        (convergence,) = (c for c in trainer.callbacks if isinstance(c, Convergence))  # type: ignore[attr-defined]
        iteration = pl_module.iteration
        if iteration < self.next or trainer.should_stop:
            return
        self.next = 2 * iteration
        self.trial.report(convergence.records[-1].objective, iteration)
        if self.trial.should_prune():
            raise Pruned(f"worse than earlier trials at iteration {iteration}")


def pruning(sweep: Path, number: int) -> list[L.Callback]:
    """The callback of a job whose search prunes; nothing for every other job."""
    file = sweep / PRUNER
    if not file.exists():
        return []
    import optuna

    from nmfnet.sweep.search.study import hushed, make_pruner, storage_of

    told = json.loads(file.read_text())
    with hushed():
        study = optuna.load_study(
            study_name=told["study"], storage=storage_of(sweep), pruner=make_pruner(told["pruner"])
        )
        frozen = study.get_trials(deepcopy=False)[number]
        return [Pruning(optuna.trial.Trial(study, frozen._trial_id))]
