"""Do restarts cluster the samples alike? The consensus matrix of W and its summaries."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.metrics._checks import as_dense
from nmfnet.metrics.clustering import clusters_of
from nmfnet.metrics.factors import balance_scale

__all__ = ["consensus_clusters", "consensus_matrix", "cophenetic_correlation", "dispersion"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


def consensus_matrix(W: Any, H: Any = None) -> FloatArray:
    """How often two samples fall in the same cluster, over restarts.

    Parameters
    ----------
    W : array, shape (r, n, k)
        Per-sample factor of each restart; a sample's cluster is its largest component.
    H : array, shape (r, k, f), optional
        Components. With them W is first put on the scale of ``balance_scale``, so that the result is
        a function of the products W H; without, W is taken as it is, on whatever scale the solver
        left it. (The source does that, with multiplicative updates, which come near to balance.)

    Returns
    -------
    ndarray, shape (n, n)
        Symmetric, in [0, 1], no unit; diagonal 1. A sample whose row is all zero is alone.

    Notes
    -----
    Source: Brunet et al. 2004; Monti et al. 2003.
    """
    stack = as_dense("W", W, 3)
    if H is not None:
        stack = balance_scale(stack, H)[0]
    r, n, k = stack.shape
    clusters = np.array([clusters_of(one) for one in stack])  # (r, n)
    member = (clusters[:, :, None] == np.arange(k)).astype(np.float32)  # (r, n, k), exact counts
    flat = member.transpose(1, 0, 2).reshape(n, r * k)
    consensus = (flat @ flat.T).astype(np.float64) / r
    np.fill_diagonal(consensus, 1.0)
    return np.asarray(consensus)


def cophenetic_correlation(consensus: Any) -> float:
    """How tree-like a consensus matrix is: correlation of 1 - C with its average-linkage tree.

    Parameters
    ----------
    consensus : array, shape (n, n)
        From ``consensus_matrix``.

    Returns
    -------
    float
        In [-1, 1], no unit; 1 = every restart gave the same clusters. 1 where all pairs agree
        equally (a single cluster, one component).

    Notes
    -----
    Source: Brunet et al. 2004.
    """
    from scipy.cluster.hierarchy import cophenet

    distances = _condensed(consensus)
    if len(distances) == 0 or np.ptp(distances) < 1e-12:
        return 1.0
    tree = cophenet(_tree(distances))
    if np.ptp(tree) < 1e-12:
        return 0.0
    return float(np.corrcoef(distances, tree)[0, 1])


def consensus_clusters(consensus: Any, n_clusters: int) -> IntArray:
    """Cut the average-linkage tree of 1 - C into clusters.

    Parameters
    ----------
    consensus : array, shape (n, n)
        From ``consensus_matrix``.
    n_clusters : int
        In 1..n; ties in the tree may give fewer.

    Returns
    -------
    ndarray of int, shape (n,)
        0-based cluster of each sample, numbered by first appearance.
    """
    from scipy.cluster.hierarchy import fcluster

    distances = _condensed(consensus)
    n = len(np.asarray(consensus))
    if not 1 <= n_clusters <= n:
        raise UserError(f"n_clusters is {n_clusters}; {n} samples allow 1 to {n}.")
    if n == 1:
        return np.zeros(1, dtype=np.intp)
    raw = fcluster(_tree(distances), n_clusters, criterion="maxclust")
    first = {c: i for i, c in enumerate(dict.fromkeys(raw.tolist()))}
    return np.array([first[c] for c in raw.tolist()], dtype=np.intp)


def dispersion(consensus: Any) -> float:
    """How decided a consensus matrix is: ``mean 4 (C_ij - 1/2)^2``.

    Returns
    -------
    float
        In [0, 1], no unit; 1 = every entry is 0 or 1, 0 = every entry is 1/2.

    Notes
    -----
    Source: Kim & Park 2007.
    """
    matrix = _consensus(consensus)
    return float(np.mean(4.0 * (matrix - 0.5) ** 2))


def _consensus(consensus: Any) -> FloatArray:
    matrix = as_dense("consensus", consensus, 2)
    if matrix.shape[0] != matrix.shape[1] or matrix.min() < 0 or matrix.max() > 1:
        raise UserError(
            f"consensus (shape {matrix.shape}) must be square with entries in [0, 1], as "
            "consensus_matrix gives it."
        )
    return matrix


def _condensed(consensus: Any) -> FloatArray:
    """1 - C over pairs, shape (n (n - 1) / 2,)."""
    matrix = _consensus(consensus)
    return 1.0 - matrix[np.triu_indices(len(matrix), 1)]


def _tree(distances: FloatArray) -> FloatArray:
    """Average linkage.

    On 24 bits the averages of equal distances are exact. Otherwise rounding splits ties, merges come
    in the wrong order, and scipy returns something that is no tree.
    """
    from scipy.cluster.hierarchy import linkage

    return np.asarray(linkage(distances.astype(np.float32).astype(np.float64), method="average"))
