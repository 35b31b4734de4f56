"""Multiplicative sums of the models whose factors are tied to the data.

``X ~ W (A X)`` (convex), its transpose ``X ~ (X G) H``, and ``X ~ X Hᵀ H`` (projective).
Products are associated so that nothing of size n x n is formed.
"""

from __future__ import annotations

import torch

from nmfnet.kernels.multiplicative import Sums, nmf_sums_H, weighted_split
from nmfnet.types import Float, Tensor


def convex_sums_A(
    x: Float[Tensor, "n f"],
    W: Float[Tensor, "*r n k"],
    A: Float[Tensor, "*r k n"],
    beta: float,
    mask: Float[Tensor, "n f"] | None = None,
) -> Sums:
    """Both sums for A in X ~ W (A X), X >= 0: those for the components, carried to A by Xᵀ.

    For beta = 1 and no mask this is the EM rule. Source: Ding, Li & Jordan 2010, section 3.1.
    """
    neg, pos = nmf_sums_H(x, W, A @ x, beta, mask)
    if pos.shape[-1] == 1:
        return neg @ x.mT, pos * x.sum(-1)
    return neg @ x.mT, pos @ x.mT


def signed_convex_sums(
    x: Float[Tensor, "n f"],
    W: Float[Tensor, "*r n k"],
    A: Float[Tensor, "*r k n"],
    name: str,
    mask: Float[Tensor, "n f"] | None = None,
) -> Sums:
    """Sums for A or W in X ~ W (A X) under the squared error when X has negative entries.

    With ``X = X₊ - X₋`` the gradient by the components, ``Wᵀ(mask (W A X₊ - W A X₋ - X₊ + X₋))``,
    is a difference of two non-negative sums, and so is what the chain rule makes of it. The update
    is monotone with exponent 1/2.

    Source: Ding, Li & Jordan 2010, eqs. (12) and (14), with this split for theirs.
    """
    up, down = x.clamp(min=0), x.neg().clamp_(min=0)
    H_up, H_down = A @ up, A @ down  # (*r, k, f), components = H_up - H_down
    rise, fall = W @ H_up, W @ H_down  # (*r, n, f), x_hat = rise - fall
    rise, fall = rise + down, fall + up  # d loss / d x_hat = rise - fall
    if mask is not None:
        rise, fall = rise * mask, fall * mask
    if name == "W":
        right_up, right_down = H_up.mT, H_down.mT
    else:
        rise, fall, right_up, right_down = W.mT @ rise, W.mT @ fall, up.mT, down.mT
    return fall @ right_up + rise @ right_down, rise @ right_up + fall @ right_down


def projective_sums(
    x: Float[Tensor, "n f"],
    H: Float[Tensor, "*r k f"],
    beta: float,
    mask: Float[Tensor, "n f"] | None = None,
) -> Sums:
    """Both sums for H in X ~ X Hᵀ H, over its two occurrences.

    Source: Yuan & Oja 2005, eq. (12) for beta = 2; Yang & Oja 2010 in general.
    """
    W = x @ H.mT
    if beta == 2 and mask is None:
        WtX = W.mT @ x
        return 2 * WtX, (W.mT @ W) @ H + (H @ H.mT) @ WtX
    neg, pos = weighted_split(x, W @ H, beta, mask)
    sum_neg = W.mT @ neg + (neg @ H.mT).mT @ x
    if pos is None:
        total = x.sum(-2, keepdim=True)
        return sum_neg, W.sum(-2).unsqueeze(-1) + H.sum(-1).unsqueeze(-1) * total
    return sum_neg, W.mT @ pos + (pos @ H.mT).mT @ x


def compressed(x: Float[Tensor, "n f"]) -> Float[Tensor, "n m"]:
    """X turned into at most n columns: ``||X - W A X||`` is the same of both for every W and A."""
    n, f = x.shape
    if f <= n:
        return x.contiguous()
    return torch.linalg.qr(x.mT.double(), mode="r").R.mT.to(x.dtype).contiguous()


def convex_descent(
    x: Float[Tensor, "n f"],
    A: Float[Tensor, "k n"],
    W: Float[Tensor, "n k"],
    n_iter: int,
    sweeps: int,
) -> tuple[Float[Tensor, "k n"], Float[Tensor, "n k"]]:
    """``n_iter`` iterations of coordinate descent on ``1/2 ||X - W A X||²``, X of any sign.

    Returns
    -------
    A, W : Tensor
        New; the objective at them is not above that at the old ones.

    Notes
    -----
    With ``S = A X``, ``M = Wᵀ W`` and ``C = Wᵀ X`` the slope of entry (c, j) of A is
    ``(M S - C)_c · x_j`` and its curvature ``M_cc ||x_j||²``: X enters row by row, and nothing of
    n x n is formed. The rows of W solve ``min w S Sᵀ wᵀ / 2 - x Sᵀ wᵀ`` by the sweeps of HALS.
    """
    from nmfnet.kernels.compiled.convex import basis_sweeps
    from nmfnet.kernels.compiled.lanes import sweep

    A, w = A.contiguous().clone(), W.mT.contiguous().clone()
    squares = x.square().sum(-1)
    for _ in range(n_iter):
        S = A @ x
        M, C = w @ w.mT, w @ x
        arrays = [v.numpy() for v in (x, squares, A, S, M, C)]
        basis_sweeps(*arrays, sweeps)
        S = A @ x
        linear, curvature = S @ x.mT, S @ S.mT
        sweep(w.numpy(), linear.numpy(), curvature.numpy(), 0, w.shape[1], sweeps)
    return A, w.mT
