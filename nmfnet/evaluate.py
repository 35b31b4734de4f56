"""The numbers of a finished run: the same code, on arrays, for every model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nmfnet import metrics
from nmfnet.data.matrix import Matrix
from nmfnet.data.module import MatrixDataModule
from nmfnet.factorization import Factorization
from nmfnet.types import Batch

Rows = Callable[[slice], np.ndarray]

FLOOR_ENTRIES = 4_000_000
"""The SVD floor is computed for dense matrices up to this many entries."""


@dataclass
class Factors:
    """Arrays of the best restart, and of all of them.

    Attributes
    ----------
    W : ndarray, shape (n_samples, n_components)
    H : ndarray, shape (n_components, n_features)
    W_test : ndarray, shape (n_test, n_components), or None
    all_W, all_H : ndarray, shape (n_restarts, ...)
    """

    W: np.ndarray
    H: np.ndarray
    W_test: np.ndarray | None
    all_W: np.ndarray
    all_H: np.ndarray


@torch.no_grad()
def factors_of(model: Factorization, datamodule: MatrixDataModule) -> Factors:
    """W and H of every restart, and W of held-out rows."""
    model.eval()
    all_W, all_H = model.encode(datamodule.train), model.components()
    best = int(model.best)
    W_test = None
    if datamodule.test is not None and bool((datamodule.test.index < 0).any()):
        with model.restarts(best):
            W_test = model.encode_rows(datamodule.test).cpu().numpy()
    W, H = all_W.cpu().numpy(), all_H.cpu().numpy()
    return Factors(W[best], H[best], W_test, W, H)


def reconstruction(model: Factorization, W: np.ndarray) -> Rows:
    """X_hat of the best restart for any slice of rows."""
    return lambda rows: model.inverse_transform(W[rows])


def run_metrics(
    model: Factorization, datamodule: MatrixDataModule, factors: Factors, seconds: float
) -> dict[str, Any]:
    """``metrics.json``: fit on training and held-out data, restarts, reference, how it ended.

    Losses and KL are sums over entries; ``relative_error`` is ||X - X_hat||_F / ||X||_F.
    """
    matrix, best = datamodule.matrix, int(model.best)
    result: dict[str, Any] = {
        "n_iter": int(model.n_iter[best]),
        "seconds": seconds,
        "converged": bool(model.converged[best]),
        "objective": float(model.objectives[best]),
        "n_restarts": model.n_restarts,
        "solver": model.solver.name,
    }
    result |= _fit("train", model, datamodule.train, to_numpy(datamodule.train.x), factors.W)
    if datamodule.test is not None:
        W = factors.W if factors.W_test is None else factors.W_test
        result |= _fit("test", model, datamodule.test, to_numpy(datamodule.test.x), W)
    if isinstance(matrix.values, np.ndarray) and matrix.values.size <= FLOOR_ENTRIES:
        if datamodule.train.mask is None and model.n_components <= min(model.sizes):
            floor = metrics.svd_floor(matrix.values[datamodule.train_rows], model.n_components)
            result["floor/relative_error"] = floor
    result |= _components(model, datamodule.train, factors)
    result |= _known(matrix, factors)
    if matrix.labels is not None:
        labels = matrix.labels[datamodule.train_rows]
        clusters = metrics.clusters_of(factors.W)
        result["labels/ari"] = metrics.adjusted_rand(labels, clusters)
        result["labels/nmi"] = metrics.normalized_mutual_information(labels, clusters)
    return result


def _fit(part: str, model: Factorization, batch: Batch, x: Any, W: np.ndarray) -> dict[str, float]:
    mask = None if batch.mask is None else to_numpy(batch.mask)
    scores = metrics.fit_metrics(x, reconstruction(model, W), mask)
    with torch.no_grad(), model.restarts(int(model.best)):
        code = torch.from_numpy(W).to(batch.x.device)
        loss = model.row_losses(batch, code).sum(dtype=torch.float64)
    return {f"{part}/loss": float(loss)} | {f"{part}/{k}": v for k, v in scores.items()}


def _components(model: Factorization, batch: Batch, factors: Factors) -> dict[str, Any]:
    result: dict[str, Any] = {
        "components/sparsity": float(np.mean(metrics.hoyer_sparsity(factors.H))),
        "components/collapsed": metrics.collapse_count(factors.H),
    }
    with torch.no_grad(), model.restarts(int(model.best)):
        residual = model.kkt(batch)
    if residual is not None:
        result["kkt_residual"] = float(residual)
    if model.n_restarts > 1:
        finite = model.objectives[torch.isfinite(model.objectives)]
        result["stability/objective_spread"] = float(finite.max() / finite.min() - 1)
        stable = metrics.stability_metrics(factors.all_H, factors.all_W)
        result |= {f"stability/{name}": value for name, value in stable.items()}
    return result


def _known(matrix: Matrix, factors: Factors) -> dict[str, float]:
    """Agreement with a reference dictionary, and with the truth of simulated data."""
    result: dict[str, float] = {}
    if matrix.reference is not None:
        matches = metrics.match_reference(
            factors.H, matrix.reference.values, reference_names=matrix.reference.names
        )
        for key in ("assigned_cosine", "best_cosine"):
            values = [getattr(match, key) for match in matches]
            result[f"reference/{key}"] = float(np.nanmean(values))
    if matrix.truth is not None:
        result["truth/matched_cosine"] = metrics.matched_cosine(factors.H, matrix.truth.H)
    return result


def to_numpy(x: torch.Tensor) -> Any:
    """The same matrix as an ndarray, or scipy CSR if it is sparse."""
    if not x.is_sparse_csr:
        return x.cpu().numpy()
    import scipy.sparse as sp

    values, columns, rows = (
        part.cpu().numpy() for part in (x.values(), x.col_indices(), x.crow_indices())
    )
    return sp.csr_matrix((values, columns, rows), shape=(x.shape[0], x.shape[1]))
