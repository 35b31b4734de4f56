"""Interruptions: Ctrl-C waits for the step at hand, and what is kept continues bit for bit."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import lightning as L

from nmfnet.core.model import Factorization
from nmfnet.run.callbacks.convergence import Convergence

STOPPING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""Ctrl-C, the end of a time limit, and of the terminal (which Windows has no signal for)."""


@final
class Resuming(L.Callback):
    """Keeps a checkpoint from which the same command goes on to the result of an unbroken run.

    It is written when the first Ctrl-C (SIGTERM, SIGHUP) comes, at the end of the training step at
    hand, and every ``every`` seconds; always to a file beside it first, so that whatever happens there is
    a whole one. A second Ctrl-C does not wait. The factors in the file are those a user wants (the
    best so far, normalised); what the running fit holds instead lies beside them.

    Parameters
    ----------
    path : Path or None
        The checkpoint; None = nothing is written.
    every : float or None
        Seconds between checkpoints; None = only when interrupted.
    convergence : Convergence
        Must come before this callback.
    settle : callable
        Puts the model into the state in which a run ends.
    """

    def __init__(
        self,
        path: Path | None,
        every: float | None,
        convergence: Convergence,
        settle: Callable[[], None],
    ) -> None:
        self.path, self.every = path, every
        self.convergence, self.settle = convergence, settle
        self.asked = 0  # the signal that came
        self.kept_at: int | None = None
        self._last = time.monotonic()
        self._handlers: dict[int, Any] = {}

    # ------------------------------------------------------------------ when to stop and to write
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = time.monotonic()
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOPPING:
            if self._takes(number, signal.getsignal(number)):
                self._handlers[number] = signal.signal(number, self._ask)

    def _takes(self, number: int, before: Any) -> bool:
        """Whether a signal waits for the end of the step.

        Where nothing is written, SIGTERM does, so that whoever called the fit can clean up; Lightning's
        Trainer has taken it already.
        """
        if self.path is not None:
            return before is not signal.SIG_IGN
        return number == signal.SIGTERM and before is signal.SIG_DFL

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = number

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if not trainer.is_last_batch:
            self._consider(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._consider(trainer, pl_module)

    def _consider(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        assert isinstance(model, Factorization)
        due = self.every is not None and time.monotonic() - self._last >= self.every
        if self.path is not None and (self.asked or due):
            self.save(trainer, model)
        if self.asked:
            raise KeyboardInterrupt

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        while self._handlers:
            number, before = self._handlers.popitem()
            if signal.getsignal(number) == self._ask:  # else Lightning has put back an earlier one
                signal.signal(number, before)

    # ------------------------------------------------------------------ what is written
    def save(self, trainer: L.Trainer, model: Factorization) -> None:
        """Write the checkpoint; the running fit stays as it is."""
        assert self.path is not None
        tensors = {k: v for k, v in model.state_dict().items() if not k.startswith("solver.")}
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        settled = model.settled
        self.settle()
        model.settled = settled
        model.unsettled = {k: v for k, v in before.items() if not tensors[k].equal(v)}
        part = self.path.with_name(self.path.name + ".part")
        try:
            trainer.save_checkpoint(part)
        finally:
            model.load_state_dict(before, strict=False)
            model.unsettled = {}
        part.replace(self.path)
        self.kept_at, self._last = model.iteration, time.monotonic()

    def last_words(self, trainer: L.Trainer, model: Factorization) -> str:
        """After an interruption: keep the model, and say where it is."""
        if self.path is None:
            return ""
        if self.kept_at != model.iteration:
            if self.convergence.whole or not self.path.is_file():
                model.resumable = self.convergence.whole
                self.save(trainer, model)
            else:
                return f"; an earlier state of it is in {self.path}"
        again = " and the same command continues it" if model.resumable else ""
        return f"; the model as it was is in {self.path}{again}"
