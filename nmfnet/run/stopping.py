"""How a run ends that is stopped from outside."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nmfnet.core.model import Factorization
from nmfnet.errors import UserError
from nmfnet.run.callbacks.resuming import Resuming

__all__ = ["Interrupted", "Terminated", "stoppable"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message says where the checkpoint is."""


class Terminated(SystemExit):
    """SIGTERM or SIGHUP; the message says where the checkpoint is, the code what a shell expects."""

    def __init__(self, message: str, number: int = signal.SIGTERM) -> None:
        super().__init__(128 + number)
        self.message = message

    def __str__(self) -> str:
        return self.message


@contextmanager
def stoppable(trainer: Any, model: Factorization, resuming: Resuming) -> Iterator[None]:
    """Keep the model when Ctrl-C comes; a full disk is the user's to mend.

    ``trainer`` is Lightning's, or a `nmfnet.run.loop.Loop`.
    """
    try:
        try:
            yield
        finally:
            if trainer.interrupted:  # Lightning then leaves this out: the bar would stay
                for callback in trainer.callbacks:
                    callback.teardown(trainer, model, "fit")
    except (KeyboardInterrupt, SystemExit) as stop:  # Lightning turns the first into the second
        where = resuming.last_words(trainer, model)
        words = f"interrupted at iteration {model.iteration}{where}"
        if resuming.asked not in (0, signal.SIGINT):
            raise Terminated(words, resuming.asked) from stop
        if isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt):
            raise Interrupted(words) from stop
        raise Terminated(words) from stop
    except OSError as error:
        if resuming.path is None or error.strerror is None:
            raise
        raise UserError(f"cannot write to {resuming.path.parent}: {error.strerror}") from error
