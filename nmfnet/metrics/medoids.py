"""Partitioning around medoids: k-medoids of a distance matrix, deterministic."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.metrics._checks import as_dense

__all__ = ["Medoids", "pam"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


class Medoids(NamedTuple):
    """A k-medoids clustering.

    Attributes
    ----------
    medoids : ndarray of int, shape (k,)
        Items chosen as centres, ascending.
    labels : ndarray of int, shape (n,)
        Which medoid (0..k-1) each item belongs to.
    cost : float
        Sum of distances of the items to their medoids, in the unit of the distances.
    """

    medoids: IntArray
    labels: IntArray
    cost: float


def pam(distances: Any, n_clusters: int, *, max_swaps: int = 1000) -> Medoids:
    """k-medoids by BUILD and best-improvement SWAP; ties go to the item that comes first.

    Parameters
    ----------
    distances : array, shape (n, n)
        Symmetric, not negative, zero diagonal; for components, 1 - cosine.
    n_clusters : int
        k, in 1..n.
    max_swaps : int, default 1000
        Safety bound; every swap lowers the cost, so it is not reached in practice.

    Returns
    -------
    Medoids
        No single exchange of a medoid with another item lowers the cost. No randomness.

    Notes
    -----
    Source: Kaufman & Rousseeuw 1990, chapter 2. All exchanges of one item are evaluated together
    (Schubert & Rousseeuw 2019, FastPAM1): O(n^2) a swap, the same swaps.
    """
    d = as_dense("distances", distances, 2)
    n = len(d)
    if d.shape != (n, n) or not np.allclose(d, d.T, atol=1e-8):
        raise UserError(f"distances (shape {d.shape}) must be a symmetric square matrix.")
    if not 1 <= n_clusters <= n:
        raise UserError(f"n_clusters is {n_clusters}; {n} items allow 1 to {n}.")
    medoids = _build(d, n_clusters)
    tolerance = 1e-12 * float(d.max()) * n
    for _ in range(max_swaps):
        out, candidate, change = _best_swap(d, medoids)
        if not change < -tolerance:
            break
        medoids[out] = candidate
    medoids = np.sort(medoids)
    labels = d[:, medoids].argmin(axis=1)
    labels[medoids] = np.arange(n_clusters)  # a medoid is its own, also among duplicates
    return Medoids(medoids, labels, float(d[np.arange(n), medoids[labels]].sum()))


def _build(d: FloatArray, n_clusters: int) -> IntArray:
    """Greedy start: each new medoid is the item that lowers the cost most."""
    medoids = [int(d.sum(axis=0).argmin())]
    nearest = d[:, medoids[0]].copy()
    while len(medoids) < n_clusters:
        gain = np.maximum(nearest[:, None] - d, 0.0).sum(axis=0)
        gain[medoids] = -1.0
        medoids.append(int(gain.argmax()))
        nearest = np.minimum(nearest, d[:, medoids[-1]])
    return np.array(medoids, dtype=np.intp)


def _best_swap(d: FloatArray, medoids: IntArray) -> tuple[int, int, float]:
    """The exchange (position of a medoid, item) that changes the cost most, and the change."""
    to_medoids = d[:, medoids]
    label = to_medoids.argmin(axis=1)
    nearest = to_medoids.min(axis=1)
    second = np.full_like(nearest, np.inf)
    if len(medoids) > 1:
        second = np.partition(to_medoids, 1, axis=1)[:, 1]
    gain = np.minimum(d - nearest[:, None], 0.0)  # (item, candidate): if its medoid stays
    loss = np.minimum(d, second[:, None]) - nearest[:, None]  # if its medoid is the one that goes
    own = np.eye(len(medoids))[label]
    change = gain.sum(axis=0) + own.T @ (loss - gain)  # (medoid, candidate)
    change[:, medoids] = np.inf
    out, candidate = np.unravel_index(change.argmin(), change.shape)
    return int(out), int(candidate), float(change[out, candidate])
