"""Completion of a matrix by soft-thresholded singular values."""

from __future__ import annotations

from typing import Any

import numpy as np

STEPS = 5
"""Decompositions for every threshold."""


def soft_impute(
    residual: Any, rank: int, least: float, n_thresholds: int
) -> tuple[np.ndarray, np.ndarray]:
    """P and Q, whose product lowers ``½ Σ_listed (r - P Q)² + least |P Q|_*``; a start, no optimum.

    Every threshold, from half of the largest singular value to ``least`` in equal ratios, begins at the
    answer of the one before. The matrix that is decomposed is the sum of a sparse one and one of low
    rank, and is never formed.

    Parameters
    ----------
    residual : scipy CSR matrix, shape (n, f)
        Stored = listed.
    rank : int, >= 1
    least : float, >= 0
    n_thresholds : int, >= 1

    Returns
    -------
    ndarrays of shape (n, rank) and (rank, f)
        The singular values are shared out in equal parts.

    Source: Mazumder, Hastie & Tibshirani 2010, "Spectral regularization algorithms for learning large
    incomplete matrices", algorithm 1.
    """
    from scipy.sparse.linalg import svds

    n, f = residual.shape
    k = min(rank, min(n, f) - 1)
    if k < 1:
        return np.zeros((n, rank)), np.zeros((rank, f))
    rows = np.repeat(np.arange(n), np.diff(residual.indptr))
    U, V, gap = np.zeros((n, k)), np.zeros((k, f)), residual.copy()
    start = np.random.default_rng(0).normal(size=min(n, f))
    largest = float(np.asarray(svds(residual, k=1, v0=start, return_singular_vectors=False))[0])
    last = max(least, 1e-3 * largest)
    for threshold in np.geomspace(max(largest / 2, last), last, n_thresholds):
        for _ in range(STEPS):
            said = np.einsum("ek,ek->e", U[rows], V.T[residual.indices])
            gap.data = residual.data - said
            filled = gap_and_product(gap, U, V)
            left, values, right = svds(filled, k=k, v0=start)
            root = np.sqrt(np.maximum(values - threshold, 0))
            U, V = left * root, root[:, None] * right
    P, Q = np.zeros((n, rank)), np.zeros((rank, f))
    P[:, :k], Q[:k] = U[:, ::-1], V[::-1]
    return P, Q


def gap_and_product(gap: Any, U: np.ndarray, V: np.ndarray) -> Any:
    """``gap + U V`` as an operator."""
    from scipy.sparse.linalg import aslinearoperator

    return aslinearoperator(gap) + aslinearoperator(U) @ aslinearoperator(V)
