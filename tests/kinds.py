"""What tests of kinds of data share: a started model on any source, advanced without a Trainer."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from nmfnet.api import configuration
from nmfnet.core.model import Factorization
from nmfnet.core.starting import initialise
from nmfnet.data import NoSplit, Source
from nmfnet.data.module import MatrixDataModule
from nmfnet.run.checkpoint import assemble
from nmfnet.run.loop import make_steppable
from nmfnet.run.stopping import Interrupted
from nmfnet.run.train import train as run
from nmfnet.types import Batch

QUIET = {"progress": False, "figures": False, "threads": 1}


def started(
    source: Source, restarts: range | None = None, **settings: Any
) -> tuple[Factorization, Batch]:
    """A model in float64 at its start, and its training batch."""
    cfg = configuration({"dtype": "float64", **QUIET, **settings})
    data = MatrixDataModule(
        source, NoSplit(), dtype=torch.float64, seed=0, device=torch.device("cpu")
    )
    data.setup()
    masked = data.train.mask is not None
    model = assemble(cfg, data.sizes, restarts, masked=masked, axes=data.axes)
    initialise(model, data.train)
    make_steppable(model)
    return model, data.train


def assert_restarts_are_runs(source: Source, n_iter: int = 12, **settings: Any) -> None:
    """Each of three restarts has the factors of the run that has it alone."""
    together, batch = started(source, n_restarts=3, **settings)
    together.solver.step(together, batch, n_iter, [0, 1, 2])
    for i in range(3):
        alone, _ = started(source, range(i, i + 1), n_restarts=3, **settings)
        alone.solver.step(alone, batch, n_iter, [0])
        for name, factor in alone.factors.items():
            ours = together.factors[name]()[i].detach()
            torch.testing.assert_close(ours, factor()[0].detach(), rtol=1e-8, atol=1e-9)


def assert_resumes(source: Source, folder: Path, **settings: Any) -> None:
    """A run that was interrupted and continued ends on the same bits as one that was not."""
    found = []
    for name, stops in (("whole", []), ("cut", [_Stop()])):
        own = {"max_iter": 300, "tol": 0.0, "n_restarts": 2, "run_dir": str(folder / name)}
        cfg = configuration({**own, **QUIET, **settings})
        if stops:
            with pytest.raises(Interrupted, match=r"iteration 100.*continues it"):
                run(cfg, source, callbacks=stops)
        found.append(run(cfg, source).model)
    whole, cut = found
    for name, factor in whole.factors.items():
        assert torch.equal(factor(), cut.factors[name]())
    if whole.has_components:
        assert np.array_equal(whole.components_, cut.components_)


class _Stop(L.Callback):
    """Ctrl-C after the first 100 iterations."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if pl_module.iteration == 100:
            signal.raise_signal(signal.SIGINT)


def relative(X: np.ndarray, X_hat: np.ndarray) -> float:
    """||X - X_hat|| / ||X||."""
    return float(np.linalg.norm(X - X_hat) / np.linalg.norm(X))
