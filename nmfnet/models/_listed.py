"""What models of listed entries share."""

from __future__ import annotations

import torch

from nmfnet.core.model import Factorization
from nmfnet.errors import UserError
from nmfnet.kernels.csr import csr_of
from nmfnet.kernels.sparse import row_numbers, with_values
from nmfnet.kernels.weighted import ridge_rows
from nmfnet.types import Batch, Float, Tensor


ALTERNATIONS = 10
"""Of the biases of rows and columns."""


def check_listed(batch: Batch) -> None:
    """Refuse a sparse X of which nothing says what its absent entries are.

    Raises
    ------
    UserError
        A sparse X without a mask.
    """
    if batch.x.is_sparse_csr and batch.mask is None:
        raise UserError(
            "X is sparse, and nothing says which of its entries are listed: give a mask of the "
            "same pattern (data=triples has one), or a dense X"
        )


def listed(batch: Batch) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n f"]]:
    """The listed entries of X and their weights, as CSR matrices of one pattern."""
    check_listed(batch)
    x, weight = batch.x, batch.mask
    if weight is None:
        weight = torch.ones_like(x)
    if x.is_sparse_csr:
        return x, weight
    at = csr_of(weight)
    return with_values(at, x[row_numbers(at), at.col_indices()]), at


def biases_of(
    x: Float[Tensor, "n f"], weight: Float[Tensor, "n f"], ridge: float
) -> tuple[Tensor, Float[Tensor, " n"], Float[Tensor, " f"]]:
    """The mean of listed entries, and biases of rows and columns, each shrunk by ``ridge`` in all.

    By alternating ridge regressions, in float64; 0 for a row or column without entries.
    """
    rows, columns = row_numbers(x), x.col_indices().long()
    values, w = x.values().double(), weight.values().double()
    mean = (w * values).sum() / w.sum()
    left, b, c = values - mean, *(values.new_zeros(size) for size in x.shape)
    for _ in range(ALTERNATIONS):
        c = shrunk_means(left - b[rows], w, columns, x.shape[1], ridge)
        b = shrunk_means(left - c[columns], w, rows, x.shape[0], ridge)
    return mean, b, c


def shrunk_means(
    values: Float[Tensor, " e"], weight: Float[Tensor, " e"], at: Tensor, size: int, ridge: float
) -> Float[Tensor, " size"]:
    """``Σ w x / (ridge + Σ w)`` of the entries of each row, or column."""
    sums, counts = (
        values.new_zeros(size).index_add(0, at, part) for part in (weight * values, weight)
    )
    return torch.where(counts > 0, sums / (counts + ridge), 0)


def by_row(x: Tensor, values: Float[Tensor, "*r e"]) -> Float[Tensor, "*r n"]:
    """Sums of the stored entries of each row, in float64."""
    sums = values.new_zeros(*values.shape[:-1], x.shape[0], dtype=torch.float64)
    return sums.index_add(-1, row_numbers(x), values.double())


def counts_of(batch: Batch) -> tuple[Float[Tensor, " n"], Float[Tensor, " f"]]:
    """Sum of the weights of every row, and of every column."""
    weight = batch.mask
    if weight is None:
        n, f = batch.x.shape
        return batch.x.new_full((n,), f), batch.x.new_full((f,), n)
    if weight.is_sparse_csr:
        columns = weight.values().new_zeros(weight.shape[1])
        return by_row(weight, weight.values()), columns.index_add(
            0, weight.col_indices(), weight.values()
        )
    return weight.sum(1), weight.sum(0)


def by_ridge(model: Factorization, batch: Batch) -> Float[Tensor, "*r n k"]:
    """Codes of the rows by their ridge regressions (``model.ridge``), for every restart."""
    if model.components().ndim == 2:
        return ridge_rows(*model.ridge("sample", batch)).to(model.precision)
    found = []
    for restart in range(model.components().shape[0]):
        with model.restarts(restart):
            found.append(ridge_rows(*model.ridge("sample", batch)))
    return torch.stack(found).to(model.precision)
