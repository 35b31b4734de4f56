"""Training without a Trainer, where nothing asks for one: the same steps, hooks and numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer

from nmfnet.core.model import Factorization
from nmfnet.data.module import MatrixDataModule

__all__ = ["Loop", "make_steppable"]


@final
class Loop:
    """What a run in memory uses of ``lightning.Trainer``, under the same names.

    Lightning takes 20 ms to prepare itself, ten times what a small fit takes. The callbacks are
    Lightning's own kind, and are called in the same order.

    Parameters
    ----------
    callbacks : sequence of lightning.Callback
        What they see as their trainer has ``should_stop``, ``is_last_batch`` and ``loggers`` (none).
    """

    interrupted = False

    def __init__(self, callbacks: Sequence[L.Callback]) -> None:
        self.callbacks, self.loggers = list(callbacks), list[Any]()
        self.should_stop = self.is_last_batch = False

    def fit(self, model: Factorization, datamodule: MatrixDataModule) -> None:
        """Take training steps until a callback says that it is enough."""
        loader = datamodule.train_dataloader()
        make_steppable(model)
        try:
            with torch.enable_grad():
                self._call("on_train_start", model)
                while not self.should_stop:
                    for i, batch in enumerate(loader):
                        self.is_last_batch = i + 1 == len(loader)
                        self._call("on_train_batch_start", model, batch, i)
                        model.training_step(batch, i)
                        self._call("on_train_batch_end", model, None, batch, i)
                    self._call("on_train_epoch_end", model)
                self._call("on_train_end", model)
        finally:
            del model.optimizers
            self._call("teardown", model, "fit")

    def _call(self, hook: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self, *args)


def make_steppable(model: Factorization) -> None:
    """Let the solver of a model take steps without a Trainer."""
    wrapped = _Stepped(model.configure_optimizers())
    model.optimizers = lambda: wrapped  # type: ignore[method-assign,assignment]


class _Stepped(LightningOptimizer):
    """Lightning's wrapper of an optimiser, which here counts nothing."""

    def step(self, closure: Callable[[], Any] | None = None, **_: Any) -> Any:
        return self.optimizer.step(closure)
