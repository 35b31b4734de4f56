"""The history of a run, written as it happens."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import IO, Any, final

import lightning as L

from nmfnet.run.callbacks.convergence import Convergence


@final
class History(L.Callback):
    """Appends each record to ``history.csv`` and hands it to the trackers.

    Parameters
    ----------
    path : Path
        The file; replaced if it exists (by all records, those before an interruption included).
    convergence : Convergence
        Keeps the records; must come before this callback.
    """

    def __init__(self, path: Path | None, convergence: Convergence) -> None:
        self.path = path
        self.convergence = convergence
        self._file: IO[str] | None = None
        self._writer: csv.DictWriter[str] | None = None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        row = self.convergence.records[-1].row()
        if self.path is not None:
            self._write(row)
        for logger in trainer.loggers:
            logger.log_metrics(row, step=int(row["iteration"]))

    def _write(self, row: dict[str, Any]) -> None:
        if self._file is None:
            assert self.path is not None
            self._file = self.path.open("w", newline="", buffering=1)
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()  # then what came before an interruption
            self._writer.writerows(record.row() for record in self.convergence.records[:-1])
        assert self._writer is not None
        self._writer.writerow(row)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
