"""The numbers of a run on a list of entries, from these entries alone: nothing is made dense."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch

from nmfnet import metrics
from nmfnet.core.model import Factorization
from nmfnet.data.module import MatrixDataModule

PLACES = 10
"""Places of a ranking that are looked at."""

SCORES = 200_000_000
"""Most scores that are ordered; of more, evenly spaced rows are, each among all features."""


def is_listed(model: Factorization, datamodule: MatrixDataModule) -> bool:
    """Whether X is a list of entries, all others being missing."""
    batch = datamodule.train
    return batch.x.is_sparse_csr and batch.mask is not None and not model.learns_graph


def listed_scores(
    part: Literal["train", "test"],
    model: Factorization,
    datamodule: MatrixDataModule,
    W: np.ndarray,
) -> dict[str, float]:
    """Fit of the listed entries; of held-out ones also how many are cold, and how early they rank."""
    batch = datamodule.train if part == "train" else datamodule.test
    assert batch is not None
    known, listed = datamodule.values("train"), datamodule.values(part)
    with torch.no_grad(), model.restarts(int(model.best)):
        code = torch.from_numpy(W / model.units.code).to(batch.x)
        said = (model.decode_at(code, batch) * model.units.data).cpu().numpy()
    seen = _pattern(known)
    found: dict[str, float] = {}
    if model.estimates_x:
        limits = (float(known.data.min()), float(known.data.max()))
        found = metrics.listed_metrics(listed, said, metrics.feature_means(known, seen), limits)
    if part == "train":
        return found
    cold = np.isin(listed.indices, np.flatnonzero(seen.getnnz(axis=0) == 0))
    if bool((batch.index < 0).any()):  # whole rows, which get their codes from these entries
        return found | {"cold_share": float(cold.mean())}
    rows = np.repeat(np.arange(listed.shape[0]), np.diff(listed.indptr))
    cold |= np.diff(known.indptr)[rows] == 0
    return found | {"cold_share": float(cold.mean())}


def ranking(model: Factorization, datamodule: MatrixDataModule, W: np.ndarray) -> dict[str, float]:
    """How early held-out entries rank: those at or above the mean of the training entries."""
    test = datamodule.test
    if test is None or not is_listed(model, datamodule) or bool((test.index < 0).any()):
        return {}
    known, held_out = datamodule.values("train"), datamodule.values("test")
    rows = np.flatnonzero(np.diff(held_out.indptr))
    step = -(-rows.size * known.shape[1] // SCORES)
    if step > 1:
        left_out = np.setdiff1d(rows, rows[::step])
        keep = np.ones(known.shape[0], dtype=bool)
        keep[left_out] = False
        held_out = sp.csr_matrix(sp.diags(keep.astype(float)) @ held_out)
        said = f"Rankings are of {rows[::step].size} of {rows.size} rows, each among all features."
        if said not in datamodule.notes:
            datamodule.notes.append(said)
    found = metrics.ranking_metrics(
        lambda at: model.inverse_transform(W[at]), known, held_out, known.data.mean(), PLACES
    )
    return {f"ranking/{name}": value for name, value in found.items()}


def _pattern(x: Any) -> Any:
    """1 where an entry is stored."""
    return sp.csr_matrix((np.ones(x.nnz), x.indices, x.indptr), shape=x.shape)
