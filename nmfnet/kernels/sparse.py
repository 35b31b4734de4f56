"""X ~ W H for a sparse X: only products with its stored entries, never anything of its full size.

A mask beside a sparse X has the same pattern: exactly the stored entries are observed (an observed
zero is stored as a zero). Without one, absent entries are observed zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from nmfnet.kernels.csr import csr
from nmfnet.kernels.divergences import LEAST, TINY, beta_divergence, beta_split
from nmfnet.kernels.multiplicative import Sums
from nmfnet.kernels.rows import spans
from nmfnet.types import Float, Tensor


class Transpose(NamedTuple):
    """Pattern of Xᵀ, kept because ``X.mT @ W`` on a CSR matrix is far slower than a second CSR.

    Attributes
    ----------
    rows, columns : Tensor of int64
        Row pointers (f + 1) and column indices (nnz) of the transpose.
    order : Tensor of int64, shape (nnz,)
        Which stored value of X each stored value of the transpose is.
    """

    rows: Tensor
    columns: Tensor
    order: Tensor


def transpose_of(x: Float[Tensor, "n f"]) -> Transpose:
    """The transposed pattern of a CSR matrix."""
    f = x.shape[1]
    columns = x.col_indices()
    order = torch.argsort(columns, stable=True)
    rows = torch.zeros(f + 1, dtype=torch.int64, device=x.device)
    rows[1:] = torch.bincount(columns, minlength=f).cumsum(0)
    return Transpose(rows, row_numbers(x)[order], order)


def row_numbers(x: Float[Tensor, "n f"]) -> Tensor:
    """Row of every stored entry."""
    counts = x.crow_indices().diff()
    return torch.repeat_interleave(torch.arange(x.shape[0], device=x.device), counts)


def with_values(x: Float[Tensor, "n f"], values: Tensor) -> Float[Tensor, "n f"]:
    """The pattern of x with other values."""
    return csr(x.crow_indices(), x.col_indices(), values, (x.shape[0], x.shape[1]))


def at_entries(x: Float[Tensor, "n f"], W: Float[Tensor, "n k"], H: Float[Tensor, "k f"]) -> Tensor:
    """W H at the stored entries of x, shape (nnz,); differentiable."""
    if torch.is_grad_enabled() and (W.requires_grad or H.requires_grad):
        if W.is_cuda or W.dtype != H.dtype:
            return torch.einsum("ek,ek->e", W[row_numbers(x)], H.mT[x.col_indices()])
        found: Tensor = _AtEntries.apply(W, H.mT, x)
        return found
    empty = with_values(x, torch.zeros_like(x.values()))
    return torch.sparse.sampled_addmm(empty, W, H, beta=0).values()


def entries_of(
    x: Float[Tensor, "n f"], W: Float[Tensor, "*r n k"], H: Float[Tensor, "*r k f"]
) -> Float[Tensor, "*r e"]:
    """`at_entries` of every restart."""
    if W.ndim == 2:
        return at_entries(x, W, H)
    return torch.stack([at_entries(x, w, h) for w, h in zip(W, H, strict=True)])


class _AtEntries(torch.autograd.Function):
    """``v[i] . u[j]`` at the stored entries (i, j), nothing of the size (entries, k) formed."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, u: Tensor, x: Tensor) -> Tensor:
        from nmfnet.kernels.compiled.sparse import entries

        v, u = v.detach().contiguous(), u.detach().contiguous()
        ctx.v, ctx.u, ctx.x = v, u, x
        found = v.new_empty(x.values().shape)
        pattern = (x.crow_indices().numpy(), x.col_indices().numpy())
        entries(v.numpy(), u.numpy(), *pattern, found.numpy())
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        from nmfnet.kernels.compiled.sparse import entries_back

        v, u, x = ctx.v, ctx.u, ctx.x
        slope, by_v, by_u = grads[0].contiguous(), torch.zeros_like(v), torch.zeros_like(u)
        pattern = (x.crow_indices().numpy(), x.col_indices().numpy())
        entries_back(slope.numpy(), v.numpy(), u.numpy(), *pattern, by_v.numpy(), by_u.numpy())
        return by_v, by_u, None


def sparse_sums(
    name: str,
    x: Float[Tensor, "n f"],
    transpose: Transpose | None,
    W: Float[Tensor, "n k"],
    H: Float[Tensor, "k f"],
    beta: float,
    masked: bool,
) -> Sums:
    """Both multiplicative sums for W or H in X ~ W H.

    Parameters
    ----------
    name : {"W", "H"}
    x : Tensor, sparse CSR, shape (n, f)
    transpose : Transpose, optional
        Needed for H.
    W, H : Tensor
    beta : float
        KL uses the stored entries and the sums of the factors; the squared error Gram products. Any
        other needs a power of all of W H, which is formed in blocks of rows.
    masked : bool
        Whether only the stored entries are observed.
    """
    if beta == 2:
        neg_values = x.values()
        pos_values = at_entries(x, W, H) if masked else None
    else:
        halves = beta_split(x.values()[:, None], at_entries(x, W, H)[:, None], beta)
        neg_values, pos_values = halves[0][:, 0], halves[1][:, 0] if masked else None
    if name == "W":
        neg = with_values(x, neg_values) @ H.mT
        if pos_values is not None:
            return neg, with_values(x, pos_values) @ H.mT
        return neg, _all_of_W(W, H, beta)
    assert transpose is not None
    neg = transposed(x, transpose, neg_values) @ W
    if pos_values is not None:
        return neg.mT, (transposed(x, transpose, pos_values) @ W).mT
    return neg.mT, _all_of_H(W, H, beta)


def _all_of_W(W: Float[Tensor, "n k"], H: Float[Tensor, "k f"], beta: float) -> Tensor:
    """``(W H)^(beta - 1) Hᵀ``; may be (1, k), to broadcast."""
    if beta == 1:
        return H.sum(-1)[None]
    if beta == 2:
        return W @ (H @ H.mT)
    return torch.cat([power @ H.mT for _, power in _powers(W, H, beta - 1)])


def _all_of_H(W: Float[Tensor, "n k"], H: Float[Tensor, "k f"], beta: float) -> Tensor:
    """``Wᵀ (W H)^(beta - 1)``; may be (k, 1), to broadcast."""
    if beta == 1:
        return W.sum(0)[:, None]
    if beta == 2:
        return (W.mT @ W) @ H
    total = torch.zeros_like(H)
    for rows, power in _powers(W, H, beta - 1):
        total += W[rows].mT @ power
    return total


def _powers(
    W: Float[Tensor, "n k"], H: Float[Tensor, "k f"], exponent: float
) -> Iterator[tuple[slice, Tensor]]:
    """Powers of W H in blocks of rows."""
    for rows in spans(W.shape[0], H.shape[1]):
        yield rows, (W[rows] @ H).clamp(min=TINY) ** exponent


def transposed(
    x: Float[Tensor, "n f"], transpose: Transpose, values: Tensor | None = None
) -> Float[Tensor, "f n"]:
    """Xᵀ as CSR, with its own or other values."""
    rows, columns, order = transpose
    values = x.values() if values is None else values
    return csr(rows, columns, values[order], (x.shape[1], x.shape[0]))


def times(x: Float[Tensor, "n f"], H: Float[Tensor, "*r k f"]) -> Float[Tensor, "*r n k"]:
    """``x Hᵀ`` of every restart, for x dense or CSR."""
    return torch.stack([x @ h.mT for h in H]) if x.is_sparse_csr and H.ndim > 2 else x @ H.mT


def times_components(
    x: Float[Tensor, "n f"], H: Float[Tensor, "k f"], transpose: Transpose | None
) -> Float[Tensor, "n k"]:
    """``x Hᵀ``, differentiable in H; with the transposed pattern several times faster backwards."""
    if transpose is None or not (torch.is_grad_enabled() and H.requires_grad):
        return x @ H.mT
    product: Tensor = _TimesComponents.apply(H, x, transpose)
    return product


class _TimesComponents(torch.autograd.Function):
    """``x Hᵀ`` with the gradient ``gᵀ x`` by products with Xᵀ in CSR."""

    @staticmethod
    def forward(ctx: Any, H: Tensor, x: Tensor, transpose: Transpose) -> Tensor:
        ctx.x, ctx.transpose = x, transpose
        return x @ H.mT

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return (transposed(ctx.x, ctx.transpose) @ grads[0]).mT, None, None


def sparse_row_losses(
    x: Float[Tensor, "n f"],
    W: Float[Tensor, "n k"],
    H: Float[Tensor, "k f"],
    beta: float,
    masked: bool,
) -> Float[Tensor, " n"]:
    """``beta_divergence(x, W H)`` by rows; in float64 for beta 1 and 2, KL by the factor-sum identity.

    Below 0 absent entries would cost infinitely much, so for beta <= 0 all entries must be stored.

    Source: ``Σ_ij (WH)_ij = Σ_k (Σ_i W_ik)(Σ_j H_kj)``; the squared error by Gram products.
    """
    values = x.values().double()
    if beta == 2 and not masked:
        W64, H64 = W.double(), H.double()
        cross = ((x @ H.mT).double() * W64).sum(-1)
        square = ((W64 @ (H64 @ H64.mT)) * W64).sum(-1)
        return 0.5 * (_by_row(x, values.square()) - 2 * cross + square).clamp_min(0)
    found = at_entries(x, W, H).double()
    if beta == 2:
        return 0.5 * _by_row(x, (values - found).square())
    if beta != 1:
        stored = beta_divergence(values[:, None], found[:, None], beta)
        if masked or beta <= 0:  # then no entry may be absent
            return _by_row(x, stored)
        absent = found.clamp_min(TINY) ** beta / beta  # what these entries would cost as zeros
        zeros = torch.cat([p.sum(-1, dtype=torch.float64) for _, p in _powers(W, H, beta)]) / beta
        return _by_row(x, stored - absent) + zeros
    found = found.clamp_min(TINY)
    stored = values * (values / found).clamp_min(LEAST).log() - values
    if masked:
        return _by_row(x, stored + found)
    return _by_row(x, stored) + W.double() @ H.double().sum(-1)


def row_sums(x: Float[Tensor, "n f"]) -> Float[Tensor, " n"]:
    """Sums of the rows of x, dense or CSR."""
    return _by_row(x, x.values()) if x.is_sparse_csr else x.sum(-1)


def _by_row(x: Tensor, values: Tensor) -> Tensor:
    sums = torch.zeros(x.shape[0], dtype=values.dtype, device=values.device)
    return sums.index_add(0, row_numbers(x), values)
