"""Rows of a matrix that may be sparse, in blocks small enough to be formed densely."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from nmfnet.kernels.csr import csr, rows_at
from nmfnet.types import Batch, Float, Tensor

BLOCK_ENTRIES = 2_000_000
"""Most entries (restarts included) of a dense block: 8 MB in float32, 16 MB where sums are formed."""


def row_blocks(x: Float[Tensor, "n f"], copies: int = 1) -> Iterator[slice]:
    """Slices that cover the rows, each of at most BLOCK_ENTRIES entries for all copies together."""
    yield from spans(x.shape[0], x.shape[1] * copies)


def spans(n: int, width: int) -> Iterator[slice]:
    """Slices that cover n rows of a width, each of at most BLOCK_ENTRIES entries."""
    rows = max(1, BLOCK_ENTRIES // max(1, width))
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))


def take_rows(x: Tensor, rows: slice | Any) -> Tensor:
    """``x[rows]`` of anything with a row per sample, also of sparse CSR (kept sparse); by number too."""
    if not isinstance(rows, slice):
        return rows_at(x, torch.as_tensor(rows, dtype=torch.long, device=x.device))
    if not x.is_sparse_csr:
        return x[rows]
    start, stop, _ = rows.indices(x.shape[0])
    if (start, stop) == (0, x.shape[0]):
        return x
    pointer = x.crow_indices()[start : stop + 1]
    first, last = int(pointer[0]), int(pointer[-1])
    columns, values = x.col_indices()[first:last], x.values()[first:last]
    return csr(pointer - pointer[0], columns, values, (stop - start, x.shape[1]))


def dense(x: Tensor) -> Tensor:
    """The same matrix with a dense layout."""
    return x.to_dense() if x.is_sparse_csr else x


def blocks(batch: Batch, copies: int = 1) -> Iterator[tuple[slice, Batch]]:
    """The rows of a batch in blocks, as for `row_blocks`; the batch itself where one is enough."""
    for rows in row_blocks(batch.x, copies):
        whole = rows == slice(0, batch.x.shape[0])
        yield rows, batch if whole else batch.by_row(lambda t, rows=rows: take_rows(t, rows))  # type: ignore[misc]
