"""Do restarts find the same components? Clusters of components, their silhouettes and consensus."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.kernels.assignment import assign, cosine_matrix
from nmfnet.metrics._checks import as_dense, several_restarts
from nmfnet.metrics.consensus import consensus_matrix, cophenetic_correlation, dispersion
from nmfnet.metrics.consistency import pair_values, pairwise_matched_cosine
from nmfnet.metrics.medoids import pam

__all__ = [
    "DenseClusters",
    "RestartClusters",
    "cluster_restarts",
    "consensus_medoids",
    "dense_consensus",
    "objective_spread",
    "silhouettes",
    "stability_metrics",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


class RestartClusters(NamedTuple):
    """Components of all restarts, clustered one per restart.

    Attributes
    ----------
    members : ndarray of int, shape (r, k)
        ``members[i, c]`` is the component of restart i in cluster c, so that ``H[i, members[i]]``
        and ``W[i][:, members[i]]`` have the same order in every restart.
    components : ndarray, shape (k, f)
        Consensus: mean of the members, each scaled to sum 1 (sum of absolute values).
    spread : ndarray, shape (k, f)
        Standard deviation of the members over restarts (divisor r - 1), same scale.
    silhouettes : ndarray, shape (k,)
        Mean silhouette of each cluster, in [-1, 1], no unit.
    """

    members: IntArray
    components: FloatArray
    spread: FloatArray
    silhouettes: FloatArray


class DenseClusters(NamedTuple):
    """Clusters of the components that have others near them.

    Attributes
    ----------
    members : ndarray of int, shape (r, k)
        ``members[i, c]`` is the component of restart i that is assigned to consensus c, one to one.
    components : ndarray, shape (k, f)
        Consensus: median of the cluster, scaled to sum 1.
    silhouettes : ndarray, shape (k,)
        Mean silhouette of each cluster, in [-1, 1], no unit.
    distances : ndarray, shape (r, k)
        Mean distance of each component to its neighbours, in [0, 2], no unit.
    kept : ndarray of bool, shape (r, k)
        Which components are in the clusters.
    """

    members: IntArray
    components: FloatArray
    silhouettes: FloatArray
    distances: FloatArray
    kept: npt.NDArray[np.bool_]


def cluster_restarts(H: Any, *, n_starts: int = 20, max_iter: int = 100) -> RestartClusters:
    """Cluster the components of all restarts so that each cluster takes one from each restart.

    k-means with cosine similarity in which every restart is assigned to the centroids one to one;
    the best mean silhouette of several starts wins.

    Parameters
    ----------
    H : array, shape (r, k, f)
        Components of each restart, r >= 2.
    n_starts : int, default 20
        Restarts used as first centroids (evenly spaced, all if there are fewer): no randomness.
    max_iter : int, default 100
        Rounds at most from each start.

    Returns
    -------
    RestartClusters

    Notes
    -----
    Source: Alexandrov et al. 2013; Islam et al. 2022 (SigProfilerExtractor). Differs from the
    source: starts are restarts, not random draws.
    """
    stack = as_dense("H", H, 3)
    several_restarts("H", stack)
    r, k, f = stack.shape
    size = np.abs(stack).sum(axis=2, keepdims=True)
    unit = stack / np.where(size > 0, size, 1.0)
    flat = unit.reshape(r * k, f)
    distances = 1.0 - cosine_matrix(flat, flat)
    best: tuple[float, IntArray, FloatArray] | None = None
    for start in np.unique(np.linspace(0, r - 1, max(1, min(n_starts, r))).astype(int)):
        members = _assign_restarts(unit, unit[start], max_iter)
        labels = np.argsort(members, axis=1).ravel()  # cluster of each component
        each = _silhouettes(distances, labels)
        score = np.array([each[labels == c].mean() for c in range(k)])
        if best is None or score.mean() > best[0] + 1e-12:
            best = (float(score.mean()), members, score)
    assert best is not None
    aligned = np.take_along_axis(unit, best[1][:, :, None], axis=1)
    return RestartClusters(best[1], aligned.mean(axis=0), aligned.std(axis=0, ddof=1), best[2])


def dense_consensus(
    H: Any, *, density: float = 0.5, neighbours: float = 0.3, seed: int = 0
) -> DenseClusters:
    """Cluster the components of all restarts by k-means, those without near neighbours left out.

    A restart may give a cluster several components, or none.

    Parameters
    ----------
    H : array, shape (r, k, f)
        Components of each restart, r >= 2.
    density : float, > 0
        Largest mean distance of a component to its neighbours, between vectors of length 1; 2 = all
        components are kept. Where fewer than k would be, all are.
    neighbours : float in (0, 1]
        How many neighbours there are, as a share of r: a component that every restart finds has r - 1.
    seed : int
        Of the starts of k-means.

    Returns
    -------
    DenseClusters

    Notes
    -----
    Source: Kotliar et al. 2019 (cNMF).
    """
    from sklearn.cluster import KMeans

    stack = as_dense("H", H, 3)
    several_restarts("H", stack)
    r, k, f = stack.shape
    size = np.linalg.norm(stack, axis=2, keepdims=True)
    flat = (stack / np.where(size > 0, size, 1.0)).reshape(r * k, f)
    distances = np.sqrt(np.maximum(2.0 - 2.0 * flat @ flat.T, 0.0))
    np.fill_diagonal(distances, 0.0)
    near = np.sort(distances, axis=1)[:, 1 : 1 + max(1, int(neighbours * r))].mean(axis=1)
    kept = near < density
    if kept.sum() < k:
        kept[:] = True
    labels = KMeans(k, n_init=10, random_state=seed).fit_predict(flat[kept])
    centres = np.array([np.median(flat[kept][labels == c], axis=0) for c in range(k)])
    total = np.abs(centres).sum(axis=1, keepdims=True)
    components = centres / np.where(total > 0, total, 1.0)
    each = silhouettes(flat[kept], labels)
    scores = np.array([each[labels == c].mean() for c in range(k)])
    members = np.array([assign(cosine_matrix(components, one)).columns for one in stack])
    shape = (r, k)
    return DenseClusters(members, components, scores, near.reshape(shape), kept.reshape(shape))


def consensus_medoids(H: Any) -> FloatArray:
    """Consensus components: medoids of all restarts' components on 1 - cosine (``pam``).

    Parameters
    ----------
    H : array, shape (r, k, f)
        Components of each restart.

    Returns
    -------
    ndarray, shape (k, f)
        k of the given components as they were; a restart may own several or none.

    Notes
    -----
    Source: Egendal et al. 2025 (consensus signatures).
    """
    stack = as_dense("H", H, 3)
    flat = stack.reshape(-1, stack.shape[2])
    distances = np.maximum(1.0 - cosine_matrix(flat, flat), 0.0)
    np.fill_diagonal(distances, 0.0)
    return flat[pam(distances, stack.shape[1]).medoids]


def silhouettes(components: Any, labels: Any) -> FloatArray:
    """Silhouette of each component in its cluster, with distance 1 - cosine.

    ``(b - a) / max(a, b)``: a is the mean distance to the others of its own cluster, b the mean
    distance to the nearest other cluster.

    Parameters
    ----------
    components : array, shape (m, f)
        Components of all restarts, stacked.
    labels : array of int, shape (m,)
        Cluster of each.

    Returns
    -------
    ndarray, shape (m,)
        In [-1, 1], no unit. 0 for a component alone in its cluster; 1 for all when there is one
        cluster (by convention: there is no other to be confused with).

    Notes
    -----
    Source: Rousseeuw 1987.
    """
    items = as_dense("components", components, 2)
    codes = np.unique(np.asarray(labels), return_inverse=True)[1].ravel()
    if len(codes) != len(items):
        raise UserError(f"{len(codes)} labels for {len(items)} components; give one for each.")
    return _silhouettes(1.0 - cosine_matrix(items, items), codes)


def objective_spread(objectives: Any) -> float:
    """How far the highest objective of some restarts is above the lowest, by the size of the lowest.

    Parameters
    ----------
    objectives : array, shape (r,)
        Finite, of any sign.

    Returns
    -------
    float
        In [0, inf), no unit; where the lowest is 0, in the unit of the objective.
    """
    values = np.asarray(objectives, np.float64)
    return float(np.ptp(values) / (abs(values.min()) or 1.0))


def stability_metrics(H: Any, W: Any = None, *, max_samples: int = 4000) -> dict[str, float]:
    """The stability of restarts in one dict.

    Parameters
    ----------
    H : array, shape (r, k, f)
        Components, r >= 2.
    W : array, shape (r, n, k), optional
        Per-sample factors; put on one scale with H (``balance_scale``).
    max_samples : int, default 4000
        Above this the n x n consensus matrix is not made.

    Returns
    -------
    dict of str to float
        ``matched_cosine`` (mean ACS over pairs of restarts), ``silhouette_mean``,
        ``silhouette_min`` (over clusters); with W, ``cophenetic`` and ``dispersion``. No units;
        ranges as those functions.
    """
    clusters = cluster_restarts(H)
    result = {
        "matched_cosine": float(pair_values(pairwise_matched_cosine(H)).mean()),
        "silhouette_mean": float(clusters.silhouettes.mean()),
        "silhouette_min": float(clusters.silhouettes.min()),
    }
    if W is not None and np.shape(W)[1] <= max_samples:
        consensus = consensus_matrix(W, H)
        result["cophenetic"] = cophenetic_correlation(consensus)
        result["dispersion"] = dispersion(consensus)
    return result


def _assign_restarts(unit: FloatArray, centroids: FloatArray, max_iter: int) -> IntArray:
    """Alternate one-to-one assignment of every restart and the mean of each cluster."""
    members = np.full(unit.shape[:2], -1, dtype=np.intp)
    for _ in range(max_iter):
        cosines = cosine_matrix(centroids, unit)  # (r, cluster, component)
        new = np.array([assign(one).columns for one in cosines])
        if (new == members).all():
            break
        members = new
        centroids = np.take_along_axis(unit, members[:, :, None], axis=1).mean(axis=0)
    return members


def _silhouettes(distances: FloatArray, codes: IntArray) -> FloatArray:
    from sklearn.metrics import silhouette_samples

    n_clusters = int(codes.max()) + 1
    if n_clusters in (1, len(codes)):  # nothing to be confused with; nothing to be alike
        return np.full(len(codes), float(n_clusters == 1))
    apart = np.where(distances > 1e-12, distances, 0.0)
    np.fill_diagonal(apart, 0.0)
    return np.asarray(silhouette_samples(apart, codes, metric="precomputed"))
