"""Metrics of components: similarity after matching, collapse, sparsity, feature scores.

Components are the rows of H (k, f). No metric depends on their order or, the cosines, on their
scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.kernels.assignment import Assignment, assign, cosine_matrix
from nmfnet.metrics._checks import as_dense, same_width

__all__ = [
    "balance_scale",
    "collapse_count",
    "component_cosines",
    "feature_scores",
    "hoyer_sparsity",
    "match_components",
    "matched_cosine",
    "normalize_scale",
    "specific_features",
]

FloatArray = npt.NDArray[np.float64]


def normalize_scale(W: Any, H: Any) -> tuple[FloatArray, FloatArray]:
    """Give every component unit sum and move its scale to W; the product W H is unchanged.

    Parameters
    ----------
    W : array, shape (..., n, k)
        Per-sample factor; leading dimensions are restarts.
    H : array, shape (..., k, f)
        Components. With signs, the sum of absolute values is made 1.

    Returns
    -------
    W : ndarray, shape (..., n, k)
        In the unit of X summed over features; the column of an all-zero component becomes 0.
    H : ndarray, shape (..., k, f)
        Rows sum to 1; an all-zero component stays 0.
    """
    left, right = np.asarray(W, np.float64), np.asarray(H, np.float64)
    if left.ndim != right.ndim or left.ndim < 2 or left.shape[-1] != right.shape[-2]:
        raise UserError(
            f"W {left.shape} and H {right.shape} do not multiply: the last size of W and the last "
            "but one of H are both n_components."
        )
    scale = np.abs(right).sum(axis=-1)
    divisor = np.where(scale > 0, scale, 1.0)
    return left * scale[..., None, :], right / divisor[..., :, None]


def balance_scale(W: Any, H: Any) -> tuple[FloatArray, FloatArray]:
    """Share the scale of every component equally: its column of W and its row of H get one sum.

    Where components are compared within a sample (which is the largest?), the answer depends on how
    their scale is split between W and H, and a solver may leave any split. This one is a function
    of the product alone, and the one to which multiplicative updates from uniform starts come near:
    each half-step moves the whole change of a component's mass into one factor, in turn.

    Parameters
    ----------
    W : array, shape (..., n, k)
        Per-sample factor; leading dimensions are restarts.
    H : array, shape (..., k, f)
        Components. With signs, sums are of absolute values.

    Returns
    -------
    W, H : ndarray, shapes as given
        Unit: the square root of that of X; W H is unchanged. A component whose column or row is all
        zero becomes 0 in both.
    """
    left, right = normalize_scale(W, H)
    mass = np.abs(left).sum(axis=-2)  # (..., k)
    root = np.sqrt(mass)
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    return left * inverse[..., None, :], right * root[..., :, None]


def component_cosines(H_a: Any, H_b: Any) -> FloatArray:
    """Cosine of every component of one factorisation with every component of another.

    Parameters
    ----------
    H_a, H_b : array, shapes (a, f) and (b, f)
        Components over the same features in the same order.

    Returns
    -------
    ndarray, shape (a, b)
        In [-1, 1] ([0, 1] without signs), no unit; 0 where a component is all zero.
    """
    a, b = as_dense("H_a", H_a, 2), as_dense("H_b", H_b, 2)
    same_width("H_a", a, "H_b", b)
    return cosine_matrix(a, b)


def match_components(H_a: Any, H_b: Any) -> Assignment:
    """Pair components one to one so that the sum of their cosines is largest.

    Parameters
    ----------
    H_a, H_b : array, shapes (a, f) and (b, f)
        Components; a and b may differ: the longer side keeps unpaired components.

    Returns
    -------
    Assignment
        ``rows`` into H_a, ``columns`` into H_b, ``scores`` their cosines; min(a, b) pairs.
        ``H_b[columns]`` is in the order of ``H_a[rows]``.
    """
    return assign(component_cosines(H_a, H_b))


def matched_cosine(H_a: Any, H_b: Any) -> float:
    """Average cosine similarity (ACS) of two sets of components after one-to-one matching.

    Returns
    -------
    float
        Mean over min(a, b) pairs, in [-1, 1] ([0, 1] without signs), no unit; 1 = equal up to
        order and scale. A pair with an all-zero component counts 0.

    Notes
    -----
    Source: Egendal et al. 2025 (J Comput Biol 32:461), consistency measure.
    """
    return float(match_components(H_a, H_b).scores.mean())


def collapse_count(H: Any, threshold: float = 0.99) -> int:
    """Number of pairs of components of one factorisation that are near copies of each other.

    Parameters
    ----------
    H : array, shape (k, f)
        Components.
    threshold : float, default 0.99
        A pair counts when its cosine is above this.

    Returns
    -------
    int
        In [0, k (k - 1) / 2]. All-zero components are copies of nothing.
    """
    components = as_dense("H", H, 2)
    cosines = cosine_matrix(components, components)
    return int((cosines[np.triu_indices(len(components), 1)] > threshold).sum())


def hoyer_sparsity(values: Any, axis: int = -1) -> FloatArray:
    r"""Sparsity of vectors: ``(sqrt(d) - |v|_1 / |v|_2) / (sqrt(d) - 1)``.

    Parameters
    ----------
    values : array, shape (..., d, ...)
        Vectors along ``axis``: rows of H by default; ``axis=0`` for the columns of W.
    axis : int, default -1
        The dimension of size d.

    Returns
    -------
    ndarray
        Without ``axis``; in [0, 1], no unit: 0 when all entries are equal in size, 1 when at most
        one is not zero (so also for an all-zero vector and for d = 1).

    Notes
    -----
    Source: Hoyer 2004, section 3.1.
    """
    v = np.moveaxis(np.abs(np.asarray(values, np.float64)), axis, -1)
    if v.ndim == 0 or v.shape[-1] == 0:
        raise UserError(f"values have shape {v.shape}; sparsity needs vectors of at least 1 entry.")
    if v.shape[-1] == 1:
        return np.ones(v.shape[:-1])
    root = np.sqrt(v.shape[-1])
    l1, l2 = v.sum(axis=-1), np.linalg.norm(v, axis=-1)
    ratio = np.divide(l1, l2, out=np.ones_like(l1), where=l2 > 0)
    return np.asarray(np.clip((root - ratio) / (root - 1.0), 0.0, 1.0))


def feature_scores(H: Any) -> FloatArray:
    """How specific each feature is to one component: ``1 + sum_k p_k log2 p_k / log2 K``.

    Parameters
    ----------
    H : array, shape (k, f)
        Non-negative components, put on one scale first (``normalize_scale``).

    Returns
    -------
    ndarray, shape (f,)
        In [0, 1], no unit: 1 = in one component only, 0 = the same in all. ``p`` is the feature's
        share of each component. 0 for a feature in no component, and for k = 1.

    Notes
    -----
    Source: Kim & Park 2007 (after Carmona-Saez et al. 2006).
    """
    components = as_dense("H", H, 2)
    if components.min() < 0:
        raise UserError("H has negative entries; feature scores are defined for H >= 0.")
    if len(components) == 1:
        return np.zeros(components.shape[1])
    total = components.sum(axis=0)
    p = np.divide(components, total, out=np.zeros_like(components), where=total > 0)
    entropy = -np.sum(p * np.log2(np.where(p > 0, p, 1.0)), axis=0)
    return np.where(total > 0, 1.0 - entropy / np.log2(len(components)), 0.0)


def specific_features(H: Any) -> npt.NDArray[np.bool_]:
    """Which features tell the components apart, by their scores and by their size.

    Those with a score above the median plus three median absolute deviations, of which the largest entry
    is above the median of all entries.

    Parameters
    ----------
    H : array, shape (k, f)
        As for :func:`feature_scores`.

    Returns
    -------
    ndarray of bool, shape (f,)

    Notes
    -----
    Source: Kim & Park 2007 (selection of genes by their scores).
    """
    scores, components = feature_scores(H), as_dense("H", H, 2)
    middle = np.median(scores)
    spread = np.median(np.abs(scores - middle))
    found = (scores > middle + 3 * spread) & (components.max(axis=0) > np.median(components))
    return np.asarray(found)
