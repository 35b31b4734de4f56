"""Codes of samples from several data sets, moved to one distribution."""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 20
"""Samples nearest in a data set, by whose most frequent cluster a sample is assigned."""

LEAST = 20
"""Samples of a cluster in a data set below which its quantiles say nothing, and it stays as it is."""

QUANTILES = 50
"""Points at which two distributions are matched; values between are interpolated."""


def joint_clusters(W: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Cluster of every sample: its largest component, by a vote of its neighbours in the data set.

    Parameters
    ----------
    W : array, shape (n, k)
        Codes >= 0; every column counts in units of its norm in the data set.
    sets : array of int, shape (n,)
    """
    from sklearn.neighbors import NearestNeighbors

    found = np.zeros(len(W), dtype=np.int64)
    for one in np.unique(sets):
        rows = np.flatnonzero(sets == one)
        own = scaled(W[rows])
        largest = own.argmax(1)
        among = min(NEIGHBOURS, len(rows))
        near = NearestNeighbors(n_neighbors=among).fit(own).kneighbors(own, return_distance=False)
        votes = np.zeros(own.shape)
        np.add.at(votes, (np.arange(len(rows))[:, None], largest[near]), 1)
        votes[np.arange(len(rows)), largest] += 0.5  # a draw goes to the largest component
        found[rows] = votes.argmax(1)
    return found


def quantile_aligned(
    W: np.ndarray, sets: np.ndarray, clusters: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of which every cluster has the quantiles of the largest data set, and which were moved.

    Parameters
    ----------
    W : array, shape (n, k)
        Codes >= 0.
    sets, clusters : array of int, shape (n,)

    Returns
    -------
    array, shape (n, k)
        In units of the norms of the columns in their data set.
    array of bool, shape (n,)
        False where the cluster has too few samples in the data set or in the largest one.

    Source: Welch et al. 2019 (LIGER), "quantile normalization" of the methods.
    """
    aligned = np.empty(W.shape)
    counts = np.bincount(sets)
    for one in np.unique(sets):
        aligned[sets == one] = scaled(W[sets == one])
    reference, moved = int(counts.argmax()), np.zeros(len(W), dtype=bool)
    moved[sets == reference] = True
    levels = np.linspace(0, 1, QUANTILES + 1)
    for one in np.unique(sets):
        for cluster in np.unique(clusters):
            rows = np.flatnonzero((sets == one) & (clusters == cluster))
            target = np.flatnonzero((sets == reference) & (clusters == cluster))
            if one == reference or min(len(rows), len(target)) < LEAST:
                continue
            for j in range(W.shape[1]):
                have = np.quantile(aligned[rows, j], levels)
                want = np.quantile(aligned[target, j], levels)
                aligned[rows, j] = _interpolated(aligned[rows, j], have, want)
            moved[rows] = True
    return aligned, moved


def _interpolated(values: np.ndarray, have: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Values at quantiles ``have`` to ``want``, to the mean of these where several are one value."""
    points, first = np.unique(have, return_index=True)
    sums, counts = np.add.reduceat(want, first), np.diff([*first, len(have)])
    return np.interp(values, points, sums / counts)


def scaled(W: np.ndarray) -> np.ndarray:
    """Columns divided by their norms."""
    norms = np.linalg.norm(W, axis=0)
    return np.divide(W, norms, out=np.zeros(W.shape), where=norms > 0)


def mixing(W: np.ndarray, sets: np.ndarray, seed: int = 0) -> float:
    """How well samples of several data sets mix: 1 = neighbours are from all alike, 0 = from their own.

    Data sets are brought to the size of the smallest by leaving samples out at random; neighbours are a
    hundredth of all (at least ten).

    Source: Butler et al. 2018 (Seurat), the alignment score of the methods, used by LIGER.
    """
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(seed)
    known, counts = np.unique(sets, return_counts=True)
    fewest = int(counts.min())
    if len(known) < 2 or fewest < 2:
        return float("nan")
    rows = np.concatenate([rng.permutation(np.flatnonzero(sets == one))[:fewest] for one in known])
    among = min(max(10, len(rows) // 100), len(rows) - 1, fewest - 1)
    code = W[rows]
    near = NearestNeighbors(n_neighbors=among).fit(code).kneighbors(return_distance=False)
    alike = float((sets[rows][near] == sets[rows][:, None]).sum(1).mean())
    chance = among / len(known)
    return float(np.clip(1 - (alike - chance) / (among - chance), 0, 1))
