"""How much of every view of the samples a model explains, in all and by component."""

from __future__ import annotations

import numpy as np
import torch

from nmfnet.core.model import Factorization
from nmfnet.data.module import MatrixDataModule
from nmfnet.metrics import explained_variance
from nmfnet.types import Batch

__all__ = ["component_table", "explained_components", "view_scores"]

ALL = "all components"
"""The last row of the table."""


def view_scores(
    model: Factorization, datamodule: MatrixDataModule, W: np.ndarray, W_test: np.ndarray | None
) -> dict[str, float]:
    """``view/NAME/r2`` of training rows, and of held-out ones where views are."""
    rows = {"": (datamodule.train, W)}
    if datamodule.test is not None and W_test is not None:
        rows["test/"] = (datamodule.test, W_test)
    return {
        f"{prefix}view/{name}/r2": value
        for prefix, (batch, code) in rows.items()
        for name, value in _explained(model, batch, code).items()
    }


def explained_components(
    model: Factorization, datamodule: MatrixDataModule, W: np.ndarray
) -> dict[str, np.ndarray] | None:
    """What of the variance of every view is lost without each component, and last what all explain.

    None for a model that explains X alone.
    """
    whole = _explained(model, datamodule.train, W)
    if not whole:
        return None
    lost = []
    for j in range(W.shape[-1]):
        without = W.copy()
        without[:, j] = 0
        lost.append(_explained(model, datamodule.train, without))
    return {
        name: np.array([*(value - less[name] for less in lost), value])
        for name, value in whole.items()
    }


def component_table(
    found: dict[str, np.ndarray] | None, names: list[str]
) -> dict[str, dict[str, list[str] | np.ndarray]]:
    """``views``: a row for every component, a column for every view."""
    return {} if found is None else {"views": {"component": [*names, ALL], **found}}


@torch.no_grad()
def _explained(model: Factorization, batch: Batch, W: np.ndarray) -> dict[str, float]:
    """Of every view that the model speaks of, if there are several."""
    if not batch.views:
        return {}
    code = torch.from_numpy(W / model.units.code).to(batch.x)
    with model.restarts(int(model.best)):
        outputs = model.outputs(code, batch)
    if len(outputs) < 2:
        return {}
    return {
        name: explained_variance(
            *(
                None if t is None else t.double().cpu().numpy()
                for t in (batch.tables[name].x, output.mean, batch.tables[name].mask)
            )
        )
        for name, output in outputs.items()
    }
