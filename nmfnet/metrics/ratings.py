"""How well a reconstruction fits a list of entries, and how well it orders what is not listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nmfnet.errors import UserError
from nmfnet.metrics.fit import cosines, fit_words

__all__ = ["listed_metrics", "ranking_metrics"]


def listed_metrics(
    x: Any, x_hat: np.ndarray, means: np.ndarray, limits: tuple[float, float]
) -> dict[str, float]:
    """Fit metrics of a list of entries, from these entries alone.

    Parameters
    ----------
    x : CSR matrix, shape (n, f)
        Exactly the stored entries count.
    x_hat : ndarray, shape (nnz,)
        What is said of the stored entries, in their order.
    means : ndarray, shape (f,)
        Means of the features in the training data.
    limits : (float, float)
        Range of the training entries.

    Returns
    -------
    dict of str to float
        As of `fit_metrics`, but ``rmse`` and ``mae`` are of predictions that are clipped to
        ``limits``, both in the unit of X and >= 0.
    """
    listed, said = x.data.astype(np.float64), np.asarray(x_hat, np.float64)
    if not listed.size:
        raise UserError("No entry is listed: there is nothing to measure.")
    rows = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    found = fit_words(listed, said, means[x.indices], cosines(listed, said, rows, x.shape[0]))
    wrong = said.clip(*limits) - listed
    return found | {
        "rmse": float(np.sqrt(np.mean(wrong**2))),
        "mae": float(np.mean(np.abs(wrong))),
    }


def ranking_metrics(
    score: Callable[[slice], np.ndarray], known: Any, held_out: Any, least: float, at: int = 10
) -> dict[str, float]:
    """How early the held-out entries of a row stand in the order of all features by their scores.

    All features are ordered but those that the training has listed in this row; none are sampled.
    Features of equal scores share their mean place.

    Parameters
    ----------
    score : callable
        From a slice of rows to their scores of all features, shape (m, f); larger = earlier.
    known : CSR matrix, shape (n, f)
        Stored where an entry is in the training data.
    held_out : CSR matrix, shape (n, f)
        Held-out entries; those with a value of ``least`` or more are wanted.
    least : float
    at : int, >= 1
        Places that are looked at.

    Returns
    -------
    dict of str to float
        Means over the rows with a wanted entry, all in [0, 1]: ``ndcg``, ``recall`` and ``map`` of the
        first ``at`` places, ``auc`` of all places. Empty where no row has any.

    Source: Järvelin & Kekäläinen 2002 (NDCG, gain 1 for each wanted feature); Krichene & Rendle 2020,
    "On sampled metrics for item recommendation" (why all features are ordered).
    """
    wanted = held_out.copy()
    wanted.data = held_out.data >= least
    wanted.eliminate_zeros()
    discount = 1 / np.log2(np.arange(2, at + 2))
    rows = np.flatnonzero(np.diff(wanted.indptr))
    found = []
    for start in range(0, len(rows), 64):
        some = rows[start : start + 64]
        for i, scores in zip(some, _scores(score, some), strict=True):
            hits = wanted.indices[wanted.indptr[i] : wanted.indptr[i + 1]]
            others = np.ones(scores.size, dtype=bool)
            others[hits] = False
            others[known.indices[known.indptr[i] : known.indptr[i + 1]]] = False
            low, mine = np.sort(scores[others]), np.sort(scores[hits])[::-1]
            below = np.searchsorted(low, mine, "left")
            beaten = (below + np.searchsorted(low, mine, "right")) / 2
            place = np.arange(1, mine.size + 1) + low.size - beaten
            first = place <= at
            most = min(mine.size, at)
            gains = (1 / np.log2(place[first] + 1)).sum() / discount[:most].sum()
            precision = (np.arange(1, first.sum() + 1) / place[first]).sum() / most
            auc = beaten.mean() / low.size if low.size else 1.0
            found.append((gains, first.sum() / mine.size, precision, auc))
    if not found:
        return {}
    means = np.mean(found, axis=0)
    return dict(zip(("ndcg", "recall", "map", "auc"), map(float, means), strict=True))


def _scores(score: Callable[[slice], np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Scores of some ascending rows."""
    if rows[-1] - rows[0] < 4 * len(rows):
        return np.asarray(score(slice(rows[0], rows[-1] + 1)), np.float64)[rows - rows[0]]
    parts = [np.asarray(score(slice(i, i + 1)), np.float64) for i in rows]
    return np.concatenate(parts)
