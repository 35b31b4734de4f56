"""W for given components: the non-negative fit of new rows."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nmfnet.functional.divergences import TINY
from nmfnet.functional.multiplicative import apply_update_, nmf_sums_W
from nmfnet.functional.rows import dense, row_blocks, take_rows
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
    tol: float = 1e-7,
) -> Float[Tensor, "*r n k"]:
    """``argmin_{W >= 0} D_beta(x | W H)`` (+ a penalty of W), a convex problem for beta in [1, 2].

    Each row has its own W: the result for a row does not depend on which other rows are there.

    Parameters
    ----------
    x : Tensor, shape (n, f), dense or sparse CSR
    H : Tensor, shape (*r, k, f), >= 0
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
        A block is done when an update changes W by less than this, relative to its norm.

    Returns
    -------
    Tensor, shape (*r, n, k), >= 0

    Source: the W half of Févotte & Idier 2011, eq. (4.1), from the best constant start.
    """
    blocks = []
    for rows in row_blocks(x, H.shape[:-2].numel()):
        part, seen = dense(take_rows(x, rows)), None if mask is None else mask[rows]
        W = _start(part, H)
        for _ in range(max_iter):
            before = W.clone()
            neg, pos = nmf_sums_W(part, W, H, beta, seen)
            if penalty_sums is not None:
                more_neg, more_pos = penalty_sums(W)
                neg, pos = neg + more_neg, pos + more_pos
            apply_update_(W, neg, pos, exponent)
            if bool((W - before).norm() <= tol * W.norm()):
                break
        blocks.append(W)
    return torch.cat(blocks, -2)


def _start(x: Float[Tensor, "n f"], H: Float[Tensor, "*r k f"]) -> Float[Tensor, "*r n k"]:
    """Equal weights with which W H has the mean of each row."""
    mass = H.sum((-2, -1)).clamp_min(TINY)[..., None, None]
    W = x.abs().sum(-1, keepdim=True) / mass
    return W.clamp_min(TINY).expand(*H.shape[:-2], x.shape[0], H.shape[-2]).clone()
