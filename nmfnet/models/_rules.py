"""Weights of known components that are no optimum of a loss, and what chance explains: of arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from nmfnet.kernels.stepwise import few_weights

__all__ = ["Rule", "fit_correlation", "p_values", "stepwise", "support_vectors"]

FloatArray = npt.NDArray[np.float64]

Rule = Callable[[FloatArray, FloatArray, FloatArray | None], FloatArray]
"""From X (n, f), H (k, f) and weights (n, f) or None to W (n, k) >= 0."""

ROUNDING = 1e-13
"""Size of deviations beside that of the values below which they are rounding errors."""

NUS = (0.25, 0.5, 0.75)
"""Shares of support vectors that are tried."""


def support_vectors(x: FloatArray, H: FloatArray, mask: FloatArray | None) -> FloatArray:
    """Shares by linear nu-support vector regression of every sample on the components.

    H as a whole and every sample are brought to mean 0 and deviation 1 over the features that the sample
    has. Of weights only the ratios matter. Of three nu that one is taken whose shares (negative
    coefficients set to 0, the others scaled to sum 1) leave the smallest error. A sample without a
    positive coefficient gets zeros.

    Source: Newman et al. 2015, "Robust enumeration of cell subsets from tissue expression profiles"
    (CIBERSORT), online methods; Schölkopf et al. 2000 for the regression.
    """
    from sklearn.svm import NuSVR

    W = np.zeros((len(x), len(H)))
    for i, row in enumerate(x):
        seen = np.ones(len(row), bool) if mask is None else mask[i] > 0
        weights = np.ones(len(row)) if mask is None else mask[i][seen] / mask[i][seen].mean()
        if not seen.any() or not np.ptp(row[seen]):
            continue
        y, basis = _standard(row[seen], weights), _standard(H[:, seen], weights).T
        least = np.inf
        for nu in NUS:
            fitted = NuSVR(kernel="linear", nu=nu, C=1.0).fit(basis, y, sample_weight=weights)
            w = np.clip(fitted.coef_[0], 0, None)
            if w.sum() == 0:
                continue
            w = w / w.sum()
            error = np.average((y - basis @ w) ** 2, weights=weights)
            if error < least:
                least, W[i] = error, w
    return W


def _standard(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Values of mean 0 and deviation 1 in all, features (the last axis) counting by their weights."""
    share = np.broadcast_to(weights, values.shape) / (weights.sum() * values.size / len(weights))
    rest = values - (share * values).sum()
    deviation = np.sqrt((share * rest**2).sum())
    return np.asarray(rest / deviation if np.ptp(values) else rest)


def stepwise(add: float, remove: float) -> Rule:
    """Few components in every sample, added while each explains enough; see `few_weights`."""
    return partial(_by_steps, add, remove)


def _by_steps(
    add: float, remove: float, x: FloatArray, H: FloatArray, mask: FloatArray | None
) -> FloatArray:
    W = np.zeros((len(x), len(H)))
    for i, row in enumerate(x):
        root = np.ones_like(row) if mask is None else np.sqrt(mask[i])
        if (row * root).any():
            chosen, weights, _ = few_weights(row * root, H * root, add, remove, len(H))
            W[i, chosen] = weights
    return W


def fit_correlation(x: np.ndarray, x_hat: np.ndarray, mask: np.ndarray | None = None) -> FloatArray:
    """Pearson correlation of every row with its reconstruction, shape (n,); 0 where one is constant.

    Entries count by their weights, the mask.
    """
    a, b = (np.asarray(side, np.float64) for side in (x, x_hat))
    weight = np.ones_like(a) if mask is None else np.asarray(mask, np.float64)
    share = weight / np.maximum(weight.sum(1, keepdims=True), np.finfo(np.float64).tiny)

    def inner(left: FloatArray, right: FloatArray) -> FloatArray:
        return np.asarray((share * left * right).sum(1))

    least = ROUNDING * np.sqrt(inner(a, a) * inner(b, b))
    a, b = (side - (share * side).sum(1, keepdims=True) for side in (a, b))
    size = np.sqrt(inner(a, a) * inner(b, b))
    return np.asarray(np.divide(inner(a, b), size, out=np.zeros(len(a)), where=size > least))


def p_values(found: FloatArray, null: FloatArray) -> FloatArray:
    """``(1 + #{null >= found}) / (1 + n)``: ties count against a sample.

    Parameters
    ----------
    found : ndarray, shape (m,)
    null : ndarray, shape (n,)
        The same statistic of samples that hold nothing.

    Notes
    -----
    Source: Phipson & Smyth 2010, "Permutation p-values should never be zero", eq. (2).
    """
    order = np.sort(null)
    at_least = len(order) - np.searchsorted(order, found, side="left")
    return np.asarray((1 + at_least) / (1 + len(order)))
