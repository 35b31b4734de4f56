"""The two halves of variational Bayes for topics, on the stored entries of sparse counts."""

from __future__ import annotations

import torch

from nmfnet.kernels.csr import take_rows
from nmfnet.kernels.sparse import at_entries, with_values
from nmfnet.types import Float, Tensor

MOST = 100
"""Fixed-point iterations of a document."""

STILL = 1e-3
"""A document is done when its concentrations move by less than this in the mean."""


def expected_log(concentration: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """E log p for ``p ~ Dirichlet(concentration)``, row by row."""
    return torch.digamma(concentration) - torch.digamma(concentration.sum(-1, keepdim=True))


def shares(x: Float[Tensor, "n f"], T: Float[Tensor, "n k"], B: Float[Tensor, "k f"]) -> Tensor:
    """``x / (T B)`` at the stored entries of a CSR x."""
    return with_values(x, x.values() / mixture(x, T, B))


def mixture(x: Float[Tensor, "n f"], T: Float[Tensor, "n k"], B: Float[Tensor, "k f"]) -> Tensor:
    """``T B`` at the stored entries of a CSR x, shape (nnz,), > 0; differentiable."""
    return at_entries(x, T, B).clamp_min(torch.finfo(x.dtype).tiny)


def concentrations(
    x: Float[Tensor, "n f"], B: Float[Tensor, "k f"], alpha: float
) -> Float[Tensor, "n k"]:
    """The law of the topics of every document: ``gamma = alpha + T ∘ ((x / (T B)) Bᵀ)``.

    T = exp E log theta. Every document is iterated by itself from gamma = 1 until it is still.

    Parameters
    ----------
    x : Tensor, sparse CSR, shape (n, f)
    B : Tensor, shape (k, f)
        exp E log of the topics; the scale of a column does not matter.
    alpha : float, > 0
        Prior.

    Source: Blei, Ng & Jordan 2003, figure 6; Hoffman, Blei & Bach 2010, algorithm 1.
    """
    gamma = x.values().new_ones(x.shape[0], B.shape[0])
    live = torch.arange(x.shape[0], device=x.device)
    for _ in range(MOST):
        before = gamma[live]
        T = expected_log(before).exp()
        found = alpha + T * (shares(x, T, B) @ B.mT)
        gamma[live] = found
        moving = (found - before).abs().mean(-1) >= STILL
        if not bool(moving.all()):
            live = live[moving]
            if not live.numel():
                break
            x = take_rows(x, moving.nonzero()[:, 0])
    return gamma
