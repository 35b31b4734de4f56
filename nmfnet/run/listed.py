"""The numbers of a run on a list of entries, from these entries alone: nothing is made dense."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch

from nmfnet import metrics
from nmfnet.core.model import Factorization
from nmfnet.data.module import MatrixDataModule
from nmfnet.types import Batch

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
    found = _scores(part, model, datamodule, batch, W)
    for name, other in model.beside.items():
        theirs = _scores(part, other, datamodule, batch, _codes(other, datamodule, batch))
        found |= {f"{name}_{key}": value for key, value in theirs.items() if key != "cold_share"}
    return found


def _codes(model: Factorization, datamodule: MatrixDataModule, batch: Batch) -> np.ndarray:
    """Codes of rows under a model that was fitted beside another: their own, or of new rows inferred."""
    with torch.no_grad(), model.restarts(int(model.best)):
        if bool((batch.index < 0).any()):
            return model.infer(batch).cpu().numpy()
        return model.encode(datamodule.train).cpu().numpy()


def _scores(
    part: Literal["train", "test"],
    model: Factorization,
    datamodule: MatrixDataModule,
    batch: Batch,
    W: np.ndarray,
) -> dict[str, float]:
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
    sides = {"": (model, W)}
    for name, other in model.beside.items():
        sides[f"{name}_"] = (other, _codes(other, datamodule, datamodule.train))
    found: dict[str, float] = {}
    for prefix, (one, code) in sides.items():
        ranks = metrics.ranking_metrics(
            lambda at, one=one, code=code: one.inverse_transform(code[at]),  # type: ignore[misc]
            known, held_out, known.data.mean(), PLACES,
        )  # fmt: skip
        found |= {f"ranking/{prefix}{name}": value for name, value in ranks.items()}
    return found


def _pattern(x: Any) -> Any:
    """1 where an entry is stored."""
    return sp.csr_matrix((np.ones(x.nnz), x.indices, x.indptr), shape=x.shape)
