"""W for given components: the non-negative fit of new rows."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nmfnet.kernels.csr import csr
from nmfnet.kernels.divergences import TINY
from nmfnet.kernels.multiplicative import apply_update_, nmf_sums_W
from nmfnet.kernels.nnls import nnls, nnls_rows, with_ridge
from nmfnet.kernels.rows import dense, row_blocks, take_rows
from nmfnet.kernels.sparse import sparse_sums
from nmfnet.types import Float, Tensor

PenaltySums = Callable[[Tensor], tuple[Tensor | float, Tensor | float]]


def refit_W(
    x: Float[Tensor, "n f"],
    H: Float[Tensor, "*r k f"],
    beta: float,
    exponent: float,
    mask: Float[Tensor, "n f"] | None = None,
    penalty_sums: PenaltySums | None = None,
    max_iter: int = 2000,
    tol: float = 1e-6,
) -> Float[Tensor, "*r n k"]:
    """``argmin_{W >= 0} D_beta(x | W H)`` (+ a penalty of W), a convex problem for beta in [1, 2].

    Exact for the squared error without penalty (non-negative least squares), else by
    multiplicative updates. The rows do not depend on each other.

    Parameters
    ----------
    x : Tensor, shape (n, f), dense or sparse CSR (with a mask of the same pattern)
    H : Tensor, shape (*r, k, f), >= 0 (any sign for the squared error)
    beta : float
        Divergence.
    exponent : float
        Power of the multiplicative update that is monotone for the divergence and penalty.
    mask : Tensor, shape (n, f), optional
    penalty_sums : callable, optional
        W -> (neg, pos) of the penalty's derivative.
    max_iter : int
        Most multiplicative updates of a block of rows.
    tol : float
        A row is done when its W changes by no more than this, relative to its sum.

    Returns
    -------
    Tensor, shape (*r, n, k), >= 0

    Source: Kim & Park 2011 for the squared error; the W half of Févotte & Idier 2011, eq. (4.1),
    from the best constant start, otherwise.
    """
    if beta == 2 and penalty_sums is None:
        return _least_squares(x, H, mask)
    if x.is_sparse_csr and H.ndim > 2:
        many = [refit_W(x, h, beta, exponent, mask, penalty_sums, max_iter, tol) for h in H]
        return torch.stack(many)
    blocks = []
    for rows in [slice(None)] if x.is_sparse_csr else row_blocks(x, H.shape[:-2].numel()):
        part, seen = take_rows(x, rows), None if mask is None else take_rows(mask, rows)
        W = _start(part, H)
        done = torch.zeros(W.shape[:-1], dtype=torch.bool, device=W.device)
        for _ in range(max_iter):
            before = W.clone()
            if part.is_sparse_csr:
                neg, pos = sparse_sums("W", part, None, W, H, beta, seen is not None)
            else:
                neg, pos = nmf_sums_W(part, W, H, beta, seen)
            if penalty_sums is not None:
                more_neg, more_pos = penalty_sums(W)
                neg, pos = neg + more_neg, pos + more_pos
            apply_update_(W, neg, pos, exponent)
            W[done] = before[done]  # so that no row depends on how long others take
            done |= (W - before).abs_().sum(-1) <= tol * W.sum(-1)
            if bool(done.all()):
                break
        blocks.append(W)
    return torch.cat(blocks, -2)


def _least_squares(
    x: Float[Tensor, "n f"], H: Float[Tensor, "*r k f"], mask: Float[Tensor, "n f"] | None
) -> Float[Tensor, "*r n k"]:
    """Non-negative least squares with products in float64: H may have dependent rows."""
    if x.is_sparse_csr and mask is None:
        x64 = csr(x.crow_indices(), x.col_indices(), x.values().double(), (x.shape[0], x.shape[1]))
        return nnls_rows(x64, H.double()).to(H.dtype)
    if mask is not None:
        return masked_nnls_rows(x, H.double(), mask).to(H.dtype)
    found = [nnls_rows(x[rows].double(), H.double()) for rows in row_blocks(x)]
    return torch.cat(found, -2).to(H.dtype)


def masked_nnls_rows(
    x: Float[Tensor, "n f"],
    H: Float[Tensor, "*r k f"],
    mask: Float[Tensor, "n f"],
    ridge: float = 0.0,
) -> Float[Tensor, "*r n k"]:
    """Weighted least squares: every row has normal equations of its own; 0 = not observed."""
    k, f = H.shape[-2:]
    squares = (H[..., :, None, :] * H[..., None, :, :]).flatten(-3, -2)  # (*r, k k, f)
    copies = H.shape[:-2].numel() * max(1, k * k // f)
    blocks = []
    for rows in row_blocks(x, copies):
        part, seen = (dense(take_rows(t, rows)).to(H.dtype) for t in (x, mask))
        G = (seen @ squares.mT).unflatten(-1, (k, k))  # (*r, m, k, k)
        products = ((part * seen) @ H.mT)[..., None, :]
        blocks.append(nnls(with_ridge(G, ridge), products)[..., 0, :])
    return torch.cat(blocks, -2)


def _start(x: Float[Tensor, "n f"], H: Float[Tensor, "*r k f"]) -> Float[Tensor, "*r n k"]:
    """Equal weights with which W H has the sum of each row."""
    mass = H.sum((-2, -1)).clamp_min(TINY)[..., None, None]
    totals = (x @ torch.ones_like(H[..., :1, :]).mT).clamp_min(TINY)
    return (totals / mass).expand(*H.shape[:-2], x.shape[0], H.shape[-2]).clone()
