"""Shares of types in the spots of a tissue, once lists of the types' genes are known."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from nmfnet.data.matrix import Matrix, Reference
from nmfnet.data.sources.source import Held
from nmfnet.kernels.nnls import nnls_rows
from nmfnet.run.train import train
from nmfnet.settings.words import configuration

if TYPE_CHECKING:
    from nmfnet.data.module import MatrixDataModule
    from nmfnet.run.train import Result

__all__ = ["LEAST", "by_lists", "write_shares"]

LEAST = 3
"""Types that the autoencoder needs."""

SAME = ("seed", "figures", "threads", "device")
"""What the second fit has of the settings of the first."""


def write_shares(
    counts: Matrix,
    datamodule: MatrixDataModule,
    result: Result,
    lists: Mapping[str, Sequence[int]],
    most: int,
) -> None:
    """Shares by ``model=avae`` as a run of its own, and beside them those by least squares.

    The folder ``shares`` of the run gets the fit, with maps of the tissue, and ``shares.csv`` the shares
    of every type by both.

    Parameters
    ----------
    counts : Matrix
        Of the samples and the features of the fit, and maybe of others.
    lists : mapping of str to sequence of int
        Features of every type.
    most : int
        Iterations after which the fit is cut off.
    """
    empty = [name for name, features in lists.items() if not len(features)]
    if empty:
        result.notes.append(
            f"{len(empty)} of {len(lists)} communities have no markers, and so no shares: "
            f"{', '.join(empty)}."
        )
    types = [name for name in lists if name not in empty]
    if len(types) < LEAST:
        result.notes.append(
            f"Shares in spots need lists of {LEAST} types, and there are {len(types)}: none are given."
        )
        return
    counts = _fitted(counts, datamodule)
    signatures = np.zeros((len(types), counts.shape[1]))
    for row, name in zip(signatures, types, strict=True):
        row[np.asarray(lists[name], int)] = 1
    by_squares = by_lists(np.asarray(counts.values), signatures)
    if result.folder is None:
        return
    settings = result.model.recipe["config"]
    folder = result.folder / "shares"
    cfg = configuration(
        {
            **{"model": "avae", "max_iter": most, "run_dir": str(folder)},
            **{"force": True, "progress": settings["progress"]},
            **{name: settings[name] for name in SAME},
        }
    )
    matrix = Matrix(
        counts.values,
        counts.sample_names,
        counts.feature_names,
        labels=counts.labels,
        label_names=counts.label_names,
        extra={"coordinates": counts.extra["coordinates"]},
        reference=Reference(signatures, types),
    )
    fitted = train(cfg, Held(matrix))
    assert fitted.factors is not None
    assert fitted.factors.shares is not None
    with (result.folder / "shares.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["sample", *types, *(f"{name} by least squares" for name in types)])
        both = np.hstack([fitted.factors.shares, by_squares])
        for name, row in zip(counts.sample_names, both, strict=True):
            rows.writerow([name, *(f"{share:.6g}" for share in row)])
    ended = fitted.metrics["status"]
    result.notes.append(
        f"Shares of {len(types)} types by model=avae ({ended}, {fitted.metrics['n_iter']} iterations) "
        f"are in shares.csv, beside those by least squares on the lists; the fit is in {folder.name}/."
    )


def by_lists(counts: np.ndarray, signatures: np.ndarray) -> np.ndarray:
    """Shares by non-negative least squares of shares of counts on lists of genes, rows of sum 1.

    Rows without a gene of any list are NaN.

    Parameters
    ----------
    counts : ndarray, shape (n, f)
    signatures : ndarray, shape (k, f)
        1 at the genes of a type.
    """
    known = signatures.any(0)
    total = counts.sum(1, keepdims=True)
    x = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)[:, known]
    W = nnls_rows(torch.from_numpy(x), torch.from_numpy(signatures[:, known])).numpy()
    size = W.sum(1, keepdims=True)
    return np.divide(W, size, out=np.full_like(W, np.nan), where=size > 0)


def _fitted(whole: Matrix, datamodule: MatrixDataModule) -> Matrix:
    """Counts of the samples and the features that were fitted."""
    rows = {name: i for i, name in enumerate(whole.sample_names)}
    columns = {name: j for j, name in enumerate(whole.feature_names)}
    kept = [rows[name] for name in datamodule.sample_names]
    values = np.asarray(whole.values)[kept][:, [columns[n] for n in datamodule.feature_names]]
    return Matrix(
        values.astype(np.float64),
        list(datamodule.sample_names),
        list(datamodule.feature_names),
        labels=None if whole.labels is None else whole.labels[kept],
        label_names=whole.label_names,
        extra={"coordinates": whole.extra["coordinates"][kept]},
    )
