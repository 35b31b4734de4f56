"""Compressed sparse rows (CSR) in torch, made in one place."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from nmfnet.types import Tensor


def csr(crow: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR tensor of parts that are known to fit together; without torch's notice that it is beta.

    Parameters
    ----------
    crow : Tensor of int, shape (n + 1,)
        Where every row begins in ``columns`` and ``values``.
    columns : Tensor of int, shape (nnz,)
    values : Tensor, shape (nnz,)
    shape : tuple (n, f)
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(crow, columns, values, size=shape, check_invariants=False)


def rows_at(x: Tensor, rows: Tensor) -> Tensor:
    """``x[rows]`` for a dense or a CSR tensor.

    Parameters
    ----------
    x : Tensor, shape (n, f)
        Dense or CSR.
    rows : Tensor of int64, shape (m,)
        Row numbers, on the device of x; repeats are allowed.

    Returns
    -------
    Tensor, shape (m, f)
    """
    if x.layout != torch.sparse_csr:
        return x.index_select(0, rows)
    crow = x.crow_indices()
    start = crow[rows].long()
    counts = crow[rows + 1].long() - start
    ends = counts.cumsum(0)
    shift = torch.repeat_interleave(start - ends + counts, counts)  # old minus new position
    at = shift + torch.arange(shift.numel(), device=x.device)
    new_crow = torch.cat([ends.new_zeros(1), ends]).to(crow.dtype)
    return csr(new_crow, x.col_indices()[at], x.values()[at], (rows.numel(), x.shape[1]))


def csr_of(x: Tensor) -> Tensor:
    """A matrix as CSR; the non-zero entries of a dense one."""
    if x.layout == torch.sparse_csr:
        return x
    rows, columns = x.nonzero(as_tuple=True)
    ends = torch.bincount(rows, minlength=x.shape[0]).cumsum(0)
    crow = torch.cat([ends.new_zeros(1), ends])
    return csr(crow, columns, x[rows, columns], (x.shape[0], x.shape[1]))


def entries_at(x: Tensor, kept: Tensor) -> Tensor:
    """A CSR matrix without the stored entries of which a bool, shape (nnz,), says False."""
    ends = torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.cumsum(0)])
    return csr(
        ends[x.crow_indices()], x.col_indices()[kept], x.values()[kept], (x.shape[0], x.shape[1])
    )


def to_scipy(x: Tensor) -> Any:
    """A CSR tensor as a scipy CSR matrix."""
    import scipy.sparse as sp

    parts = (x.values(), x.col_indices(), x.crow_indices())
    values, columns, rows = (part.cpu().numpy() for part in parts)
    return sp.csr_matrix((values, columns, rows), shape=(x.shape[0], x.shape[1]))
