"""The data matrix as the fast solvers want it: its transpose beside it, its size known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from nmfnet.kernels.csr import csr
from nmfnet.kernels.rows import row_blocks
from nmfnet.types import Float, Tensor

SMALL = 2_000_000
"""Entries up to which a second, transposed copy of a dense X is kept."""


class Matrix(NamedTuple):
    """X, and what is worth computing once.

    Attributes
    ----------
    x : Tensor, shape (n, f), dense or sparse CSR
    xt : Tensor, shape (f, n), optional
        Its transpose, contiguous or CSR.
    mask, mask_t : Tensor, optional
        Weights of the entries of a dense X (0 = missing) and their transpose; for a sparse X, given
        or not: given means that only the stored entries are observed.
    half_square : float
        ``sum(mask * x ** 2) / 2``.
    n_rows : int
        n, or the rows of all processes where x is a block of them.
    total : callable
        Adds up over processes what has been summed over rows; in one process the value itself.
    """

    x: Tensor
    xt: Tensor | None
    mask: Tensor | None
    mask_t: Tensor | None
    half_square: float
    n_rows: int
    total: Callable[[Tensor], Tensor]

    @property
    def whole(self) -> bool:
        """Whether all rows are in this process."""
        return self.n_rows == self.x.shape[0]

    @property
    def compiled(self) -> bool:
        """Whether the compiled kernels can read it."""
        return not self.x.is_cuda and self.x.dtype in (torch.float32, torch.float64)


def matrix(
    x: Float[Tensor, "n f"],
    mask: Float[Tensor, "n f"] | None = None,
    *,
    transposed: bool | None = None,
    total: Callable[[Tensor], Tensor] = lambda value: value,
) -> Matrix:
    """Prepare X once for many iterations.

    Parameters
    ----------
    x : Tensor, shape (n, f), dense or sparse CSR
    mask : Tensor, shape (n, f), optional
        For a dense X: 1 = observed, 0 = missing; other values >= 0 are weights. For a sparse X it
        has X's pattern (an observed zero is a stored zero) and only says that the rest is missing.
    transposed : bool, optional
        Keep the transpose of a dense X; default where it is small or masked. (Of a sparse one it
        is always kept: ``X.mT @ W`` on CSR is many times slower.)
    total : callable, optional
        The sum over processes of a tensor, where x is this process's block of rows.
    """
    n_rows = int(total(torch.tensor(x.shape[0], device=x.device)))
    if x.is_sparse_csr:
        half = 0.5 * float(x.values().double().square().sum())
        return Matrix(x, _transposed(x), mask, mask, half, n_rows, total)
    x = x.contiguous()
    if transposed is None:
        transposed = mask is not None or (x.numel() <= SMALL and not x.is_cuda)
    if mask is not None:
        mask = mask.to(x.dtype).contiguous()
    half = 0.0
    for rows in row_blocks(x):
        squares = x[rows].double().square()
        half += 0.5 * float((squares if mask is None else squares * mask[rows]).sum())
    xt = x.mT.contiguous() if transposed else None
    mask_t = None if mask is None else mask.mT.contiguous()
    return Matrix(x, xt, mask, mask_t, half, n_rows, total)


def _transposed(x: Float[Tensor, "n f"]) -> Float[Tensor, "f n"]:
    """The transpose of a CSR matrix, CSR again."""
    if x.is_cuda:
        return x.t().to_sparse_csr()
    from nmfnet.kernels.compiled.sparse import transpose

    arrays = [t.numpy() for t in (x.crow_indices(), x.col_indices(), x.values())]
    crow = torch.zeros(x.shape[1] + 1, dtype=x.crow_indices().dtype)
    col, values = torch.empty_like(x.col_indices()), torch.empty_like(x.values())
    transpose(*arrays, crow.numpy(), col.numpy(), values.numpy())
    return csr(crow, col, values, (x.shape[1], x.shape[0]))
