"""Agreement of clusters with known classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.kernels.assignment import assign
from nmfnet.metrics._checks import as_dense

__all__ = [
    "adjusted_rand",
    "clustering_accuracy",
    "clusters_of",
    "normalized_mutual_information",
    "purity",
    "silhouette",
]

MOST_FOR_DISTANCES = 5000
"""Samples of which all distances are formed."""

Labels = Sequence[Any] | npt.NDArray[Any]
IntArray = npt.NDArray[np.intp]


def clusters_of(W: Any) -> IntArray:
    """Cluster of each sample: its largest component (the first of equals; -1 for an all-zero row).

    Parameters
    ----------
    W : array, shape (n, k)
        Per-sample factor, components on one scale (``normalize_scale``) where that matters.

    Returns
    -------
    ndarray of int, shape (n,)
        In -1..k-1.
    """
    table = as_dense("W", W, 2)
    return np.where((table != 0).any(axis=1), table.argmax(axis=1), -1)


def clustering_accuracy(labels: Labels, clusters: Labels) -> float:
    """Share of samples that are right under the best one-to-one naming of clusters by classes.

    Parameters
    ----------
    labels : sequence, length n
        Known classes (any type).
    clusters : sequence, length n
        Found clusters. With more clusters than classes the surplus counts as wrong.

    Returns
    -------
    float
        In (0, 1], no unit.
    """
    table = _contingency(labels, clusters)
    return float(assign(table).scores.sum() / table.sum())


def purity(labels: Labels, clusters: Labels) -> float:
    """Share of samples in the majority class of their cluster; rises with the number of clusters.

    Returns
    -------
    float
        In (0, 1], no unit.

    Notes
    -----
    Source: Kim & Park 2007.
    """
    table = _contingency(labels, clusters)
    return float(table.max(axis=0).sum() / table.sum())


def adjusted_rand(labels: Labels, clusters: Labels) -> float:
    """Adjusted Rand index (Hubert & Arabie 1985): in [-0.5, 1], expected 0 for random clusters."""
    from sklearn.metrics import adjusted_rand_score

    _contingency(labels, clusters)
    return float(adjusted_rand_score(_codes(labels), _codes(clusters)))


def normalized_mutual_information(labels: Labels, clusters: Labels) -> float:
    """Mutual information over the arithmetic mean of the two entropies: in [0, 1], no unit."""
    from sklearn.metrics import normalized_mutual_info_score

    _contingency(labels, clusters)
    return float(normalized_mutual_info_score(_codes(labels), _codes(clusters)))


def _codes(labels: Labels) -> IntArray:
    return np.unique(np.asarray(labels), return_inverse=True)[1].ravel()


def _contingency(labels: Labels, clusters: Labels) -> npt.NDArray[np.float64]:
    """Number of samples in each (class, cluster)."""
    if np.ndim(labels) != 1 or np.shape(labels) != np.shape(clusters) or len(labels) == 0:
        raise UserError(
            f"labels have shape {np.shape(labels)} and clusters {np.shape(clusters)}; give two "
            "lists of the same length, at least 1."
        )
    for name, given in (("labels", labels), ("clusters", clusters)):
        if absent := [i for i, label in enumerate(given) if label is None or label != label]:
            raise UserError(f"{name}[{absent[0]}] is missing: leave such samples out")
    rows, columns = _codes(labels), _codes(clusters)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1.0)
    return table


def silhouette(W: Any, labels: Labels) -> float:
    """How far apart classes lie in the codes, in [-1, 1]: 1 = far, about 0 = mixed.

    The mean over the samples of ``(b - a) / max(a, b)``, a the mean distance to the samples of the own
    class and b that to the nearest other one. For batches of cells a value near 0 is wanted. Of more than
    5000 samples evenly spaced ones are taken.

    Parameters
    ----------
    W : array, shape (n, k)
    labels : sequence of length n
        Two classes at least, and fewer than samples.

    Raises
    ------
    UserError
        If there are not as many labels as rows, or just one class.

    Source: Rousseeuw 1987, "Silhouettes".
    """
    from sklearn.metrics import silhouette_score

    table, classes = as_dense("W", W, 2), np.asarray(labels)
    if len(classes) != len(table):
        raise UserError(f"There are {len(classes)} labels for {len(table)} rows of W.")
    every = np.arange(min(len(table), MOST_FOR_DISTANCES)) * len(table)
    some = every // min(len(table), MOST_FOR_DISTANCES)
    kinds = len(np.unique(classes[some]))
    if not 1 < kinds < len(some):
        raise UserError(
            f"A silhouette needs 2 classes or more, and fewer than samples; it got {kinds}."
        )
    return float(silhouette_score(table[some], classes[some]))
