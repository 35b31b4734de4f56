"""Products with a symmetric sparse matrix of links, and sums over pairs of nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

from nmfnet.kernels.rows import BLOCK_ENTRIES
from nmfnet.kernels.sparse import Transpose, row_numbers, times_components
from nmfnet.types import Float, Int, Tensor


def times_links(links: Float[Tensor, "n n"], h: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n k"]:
    """``A h`` for a symmetric A, dense or CSR; the gradient is ``A g``, so no transpose is formed."""
    if not links.is_sparse_csr:
        return links @ h
    folded = h.movedim(-2, 0)
    product: Tensor = _Symmetric.apply(folded.flatten(1), links)
    return product.reshape(folded.shape).movedim(0, -2)


class _Symmetric(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, links: Tensor) -> Tensor:
        ctx.links = links
        return links @ h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.links @ grads[0], None


def times_weights(
    x: Float[Tensor, "... n f"],
    weights: Float[Tensor, "*r f h"],
    transpose: Transpose | None = None,
) -> Float[Tensor, "*r n h"]:
    """``x weights``, also for a CSR x (n, f) and weights of several restarts."""
    if not x.is_sparse_csr:
        return x @ weights
    folded = weights.movedim(-2, 0)
    flat = folded.flatten(1).mT  # (*r h, f)
    product = times_components(x, flat, transpose)
    return product.reshape(x.shape[0], *folded.shape[1:]).movedim(0, -2)


def propagate(links: Float[Tensor, "n n"], h: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n k"]:
    """``D^-1/2 (A + I) D^-1/2 h`` with D the row sums of A + I; for a CSR matrix A of links.

    Source: Kipf & Welling 2017, eq. (2).
    """
    scale = inverse_root_degrees(links)
    return received(scale, scale * h, links)


def inverse_root_degrees(*links: Float[Tensor, "n m"]) -> Float[Tensor, "n 1"] | float:
    """``(1 + Σ_j a_ij)^-1/2`` of nodes linked with themselves and by CSR matrices; 1 without any."""
    ones = (torch.ones(a.shape[1], 1, dtype=a.dtype, device=a.device) for a in links)
    degrees = sum((a @ one for a, one in zip(links, ones, strict=True)), start=1)
    return degrees**-0.5


def received(
    scale: Float[Tensor, "n 1"] | float,
    sent: Float[Tensor, "*r n k"],
    links: Float[Tensor, "n n"] | None,
    outward: Float[Tensor, "n m"] | None = None,
    theirs: Float[Tensor, "*r m k"] | None = None,
) -> Float[Tensor, "*r n k"]:
    """What nodes get from themselves, from each other, and by ``outward`` links from m other nodes.

    All have scaled what they send by their own degree.
    """
    got = sent if links is None else times_links(links, sent) + sent
    if outward is not None:
        assert theirs is not None
        got = got + times_weights(outward, theirs)
    return scale * got


def linked_pairs(links: Float[Tensor, "n n"]) -> Int[Tensor, "m 2"]:
    """The pairs i < j that a symmetric CSR matrix links."""
    rows, columns = row_numbers(links), links.col_indices().long()
    upper = rows < columns
    return torch.stack([rows[upper], columns[upper]], -1)


def are_linked(
    links: Float[Tensor, "n f"], i: Int[Tensor, "*r m"], j: Int[Tensor, "*r m"]
) -> Tensor:
    """Whether a CSR matrix with sorted columns has an entry at (i, j); bool, shape (*r, m)."""
    f = links.shape[1]
    stored = row_numbers(links) * f + links.col_indices()
    wanted = i * f + j
    place = torch.searchsorted(stored, wanted).clamp_max(stored.numel() - 1)
    return stored[place] == wanted


def at_pairs(z: Float[Tensor, "*r n k"], pairs: Int[Tensor, "m 2"]) -> Float[Tensor, "*r m"]:
    """``z_i · z_j`` of some pairs."""
    return (z[..., pairs[:, 0], :] * z[..., pairs[:, 1], :]).sum(-1)


def all_pairs_softplus(z: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r"]:
    """``Σ_{i < j} log(1 + exp(z_i · z_j))`` in float64, by blocks of rows: no n x n memory.

    The gradient is summed in the same pass.
    """
    if z.ndim > 2:
        return torch.stack([all_pairs_softplus(one) for one in z])
    total: Tensor = _AllPairs.apply(z)
    return total


def _blocks(n: int) -> Iterator[slice]:
    """Rows of an n x n matrix, of which at most BLOCK_ENTRIES are formed at a time."""
    step = max(1, BLOCK_ENTRIES // n)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


class _AllPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=z.device)
        grad = torch.zeros_like(z) if ctx.needs_input_grad[0] else None
        for rows in _blocks(z.shape[0]):
            here, later = z[rows], z[rows.start :]
            scores = here @ later.mT
            total += F.softplus(scores).triu_(1).sum(dtype=torch.float64)
            if grad is not None:
                slope = scores.sigmoid_().triu_(1)
                grad[rows] += slope @ later
                grad[rows.start :] += slope.mT @ here
        if grad is not None:
            ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = ctx.saved_tensors
        return grads[0].to(grad.dtype) * grad
