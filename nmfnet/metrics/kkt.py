r"""How far a factorisation X ~ W H, W >= 0, H >= 0, is from a stationary point of its loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.metrics._blocks import Product, row_blocks
from nmfnet.metrics._checks import as_dense

__all__ = ["kkt_residual", "kkt_residuals"]

FloatArray = npt.NDArray[np.float64]


def kkt_residual(x: Any, W: Any, H: Any, beta: float = 2.0, mask: Any = None) -> float:
    """The larger of the two residuals of ``kkt_residuals``: one number for one factorisation."""
    return max(kkt_residuals(x, W, H, beta, mask))


def kkt_residuals(
    x: Any, W: Any, H: Any, beta: float = 2.0, mask: Any = None
) -> tuple[float, float]:
    r"""Natural residual of the first-order conditions of NMF, for W and for H.

    A non-negative theta is stationary when ``min(theta, gradient) = 0`` in every entry: gradient
    0 where theta > 0, not negative where theta = 0. The loss is the beta divergence of X from
    ``X_hat = W H``; its gradient in H is ``P - N`` with ``P = W' X_hat^(beta-1)`` and ``N = W' (X
    * X_hat^(beta-2))``. With ``s_j = |W_j|_2`` the residual of H is the Frobenius norm of ::

        min(s_j H_jf / |s H|_F, ((P - N)_jf / s_j) / |P / s|_F)

    and that of W likewise with the roles exchanged. Every component is thus measured with its
    partner scaled to unit length, so the result has no unit and does not change when X is scaled,
    when components are rescaled (W D, D^-1 H) or permuted.

    Parameters
    ----------
    x : array or scipy sparse matrix, shape (n, f)
        Data, non-negative.
    W, H : array, shapes (n, k) and (k, f)
        Factors, non-negative.
    beta : float, default 2
        2 squared error, 1 Kullback-Leibler, 0 Itakura-Saito.
    mask : array or sparse, shape (n, f), optional
        Non-zero = observed.

    Returns
    -------
    (float, float)
        Residual of W and of H, each in [0, inf); 0 exactly at a stationary point. 1e-3 is visibly
        unconverged, 1e-6 converged for every purpose here. A component that is zero in both
        factors is stationary and adds 0.

    Notes
    -----
    Source: natural residual, Facchinei & Pang 2003, section 1.5; gradients, Fevotte & Idier 2011.
    It is ``nmfnet.kernels.optimality.kkt_residual`` of factors scaled that way. Where ``beta <
    2``, X_hat is floored at 1e-16 of its mean.
    """
    left, right = as_dense("W", W, 2), as_dense("H", H, 2)
    if left.shape[1] != right.shape[0] or (left.shape[0], right.shape[1]) != x.shape:
        raise UserError(
            f"W {left.shape} and H {right.shape} do not make X {tuple(x.shape)}: "
            "W is (n_samples, n_components), H (n_components, n_features)."
        )
    if left.min() < 0 or right.min() < 0:
        raise UserError("W or H has negative entries; this residual is for W >= 0 and H >= 0.")
    floor = 1e-16 * float(left.mean(axis=0) @ right.mean(axis=1)) or np.finfo(np.float64).tiny
    positive_h, negative_h = np.zeros_like(right), np.zeros_like(right)
    positive_w, negative_w = np.zeros_like(left), np.zeros_like(left)
    start = 0
    for xb, hb, keep in row_blocks(x, Product(left, right), mask):
        rows = slice(start, start + len(xb))
        positive, negative = _split(xb, hb, keep, beta, floor)
        positive_h += left[rows].T @ positive  # (k, m) (m, f)
        negative_h += left[rows].T @ negative
        positive_w[rows] = positive @ right.T  # (m, f) (f, k)
        negative_w[rows] = negative @ right.T
        start = rows.stop
    of_w = _residual(left.T, positive_w.T, negative_w.T, np.linalg.norm(right, axis=1))
    of_h = _residual(right, positive_h, negative_h, np.linalg.norm(left, axis=0))
    return of_w, of_h


def _split(
    x: FloatArray, x_hat: FloatArray, keep: npt.NDArray[np.bool_] | None, beta: float, floor: float
) -> tuple[FloatArray, FloatArray]:
    """The two non-negative parts of the gradient in x_hat; both 0 outside the mask."""
    if beta == 2:
        return x_hat, x
    x_hat = np.maximum(x_hat, floor)
    positive, negative = x_hat ** (beta - 1.0), x * x_hat ** (beta - 2.0)
    return (positive if keep is None else positive * keep), negative


def _residual(
    theta: FloatArray, positive: FloatArray, negative: FloatArray, scale: FloatArray
) -> float:
    """Norm of the natural residual of theta (k, d), its partner's components scaled to length 1."""
    s = scale[:, None]
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=s > 0)
    value, gradient = theta * s, (positive - negative) * inverse
    size = np.linalg.norm(value)
    slope = np.linalg.norm(positive * inverse) or np.linalg.norm(negative * inverse)
    return float(np.linalg.norm(np.minimum(value / (size or 1.0), gradient / (slope or 1.0))))
