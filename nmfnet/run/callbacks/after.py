"""Steps that follow a fit: they read its result, and leave tables of their own in the run folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import lightning as L

if TYPE_CHECKING:
    from nmfnet.data.module import MatrixDataModule
    from nmfnet.run.train import Result


class AfterFit(L.Callback, ABC):
    """A step after a fit, given like any callback (``callbacks=NAME``)."""

    def ready(self, datamodule: MatrixDataModule) -> None:
        """Called before training.

        Raises
        ------
        UserError
            If the data lack what the step needs.
        """

    @abstractmethod
    def follow(self, datamodule: MatrixDataModule, result: Result) -> None:
        """Called once when the best restart is known: may add numbers and notes to the result.

        ``result.folder`` exists, or is None where nothing is written.
        """
