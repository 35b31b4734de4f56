"""Symmetric non-negative factorisation by two factors that are drawn together."""

from __future__ import annotations

import torch

from nmfnet.kernels.divergences import TINY
from nmfnet.kernels.graph import times_links
from nmfnet.types import Float, Tensor


def symmetric_hals(
    x: Float[Tensor, "n n"],
    W: Float[Tensor, "r n k"],
    H: Float[Tensor, "r n k"],
    weight: Float[Tensor, " r"],
    n_iter: int,
) -> tuple[Float[Tensor, "r n k"], Float[Tensor, "r n k"]]:
    """Sweeps over the columns of W and of H that never raise ``||X - W Hᵀ||² + weight ||W - H||²``.

    Parameters
    ----------
    x : Tensor, shape (n, n)
        Symmetric; dense or CSR.
    W, H : Tensor, shape (r, n, k), >= 0
    weight : Tensor, shape (r,), > 0
    n_iter : int

    Returns
    -------
    W, H : Tensor

    Source: Zhu, Li, Liu & Li 2018, "Dropping symmetry for fast symmetric nonnegative matrix
    factorization", algorithm SymHALS; Kuang, Yun & Park 2015, eq. (13) (the penalty).
    """
    W, H = (factor.mT.contiguous() for factor in (W, H))  # (r, k, n)
    for _ in range(n_iter):
        _sweep(x, W, H, weight)
        _sweep(x, H, W, weight)
    return W.mT.contiguous(), H.mT.contiguous()


def _sweep(x: Tensor, moved: Tensor, other: Tensor, weight: Tensor) -> None:
    """Each row of ``moved`` (r, k, n) at its optimum, the others held."""
    penalty = weight[:, None, None]
    C = times_links(x, other.mT).mT + penalty * other
    G = other @ other.mT + penalty * torch.eye(other.shape[1], dtype=x.dtype, device=x.device)
    for j in range(moved.shape[1]):
        fall = C[:, j] - (G[:, j : j + 1] @ moved)[:, 0]
        curve = G[:, j, j].clamp_min(TINY)[:, None]
        moved[:, j].add_(fall / curve).clamp_min_(0)
