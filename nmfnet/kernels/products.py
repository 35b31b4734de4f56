"""Passes over X for the fast solvers: products, KL ratios, objectives; dense or sparse, any device.

Factors are component-major: w (k, n) is the transpose of W, h is (k, f). ``side`` says which factor a
pass is for: "w" or "h".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from nmfnet.kernels.divergences import TINY, beta_divergence
from nmfnet.kernels.matrix import Matrix
from nmfnet.kernels.rows import row_blocks
from nmfnet.kernels.sparse import at_entries as gathered
from nmfnet.kernels.sparse import with_values
from nmfnet.types import Float, Tensor

Side = Literal["w", "h"]
Both = tuple[float, float]
Array = npt.NDArray[Any]


def in_threads(task: Callable[[int], None], items: Sequence[int]) -> None:
    """Call a function that releases the interpreter lock for every item, on torch's threads."""
    threads = min(torch.get_num_threads(), len(items))
    if threads <= 1:
        for item in items:
            task(item)
        return

    def some(first: int) -> None:
        for item in items[first::threads]:
            task(item)

    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(some, first) for first in range(1, threads)]
        some(0)
        for other in others:
            other.result()


def in_ranges(task: Callable[[int, int], None], size: int, step: int) -> None:
    """Call ``task(first, last)`` on ranges that cover ``size``, multiples of ``step``, in threads."""
    threads = torch.get_num_threads()
    width = max(1, size) if threads == 1 else max(step, -(-size // (4 * threads * step)) * step)
    starts = list(range(0, size, width))
    in_threads(lambda i: task(starts[i], min(size, starts[i] + width)), list(range(len(starts))))


def facing(data: Matrix, side: Side) -> tuple[Tensor, Tensor | None]:
    """Dense X and its mask with the columns of the factor of ``side`` along the last axis."""
    if side == "h":
        return data.x, data.mask
    if data.xt is None:
        raise ValueError("this needs X transposed as well: matrix(x, transposed=True)")
    return data.xt, data.mask_t


def csr(data: Matrix, side: Side) -> tuple[Array, Array, Array]:
    """Row pointers, columns and values of a sparse X whose rows belong to the factor of ``side``."""
    x = data.x if side == "w" else data.xt
    assert x is not None
    return x.crow_indices().numpy(), x.col_indices().numpy(), x.values().numpy()


def times_x(data: Matrix, w: Float[Tensor, "r k n"]) -> Float[Tensor, "r k f"]:
    """``w X``, all restarts in one product, over the rows of all processes."""
    return data.total(_times(data.x, data.xt, w))


def times_xt(data: Matrix, h: Float[Tensor, "r k f"]) -> Float[Tensor, "r k n"]:
    """``h Xᵀ``, all restarts in one product."""
    return _times(data.x.mT if data.xt is None else data.xt, data.x, h)


def _times(right: Tensor, its_transpose: Tensor | None, v: Tensor) -> Tensor:
    r, k, m = v.shape
    flat = v.reshape(r * k, m)
    if right.is_sparse_csr:
        assert its_transpose is not None
        out = (its_transpose @ flat.mT.contiguous()).mT.contiguous()
    else:
        out = flat @ right
    return out.reshape(r, k, right.shape[1])


def at_entries(data: Matrix, w: Float[Tensor, "k n"], h: Float[Tensor, "k f"]) -> Tensor:
    """W H at the stored entries of a sparse X, shape (nnz,)."""
    if not data.compiled:
        return gathered(data.x, w.mT, h)
    from nmfnet.kernels.compiled.sparse import entries

    out = torch.empty_like(data.x.values())
    start, column, _ = csr(data, "w")
    entries(row_major(w), row_major(h), start, column, out.numpy())
    return out


def row_major(v: Float[Tensor, "k m"]) -> Array:
    """The factor as a contiguous (m, k) array."""
    return v.mT.contiguous().numpy()


def ratio_products(
    data: Matrix, v: Float[Tensor, "k m"], u: Float[Tensor, "k p"], side: Side, *, compiled: bool
) -> Float[Tensor, "k m"]:
    """``u (mask * X / (W H))`` for the factor v of ``side``: the numerators of a KL update of v."""
    return over_rows(data, side, _ratio_products(data, v, u, side, compiled=compiled))


def over_rows(data: Matrix, side: Side, sums: Tensor) -> Tensor:
    """Sums for the factor of ``side``: those for H are over rows, of all processes."""
    return data.total(sums) if side == "h" else sums


def _ratio_products(
    data: Matrix, v: Tensor, u: Tensor, side: Side, *, compiled: bool
) -> Float[Tensor, "k m"]:
    if not compiled:
        return _ratio_products_by_torch(data, v, u, side)
    from nmfnet.kernels.compiled.multiplicative import ratio_columns
    from nmfnet.kernels.compiled.sparse import ratio_rows

    if data.x.is_sparse_csr:
        mine, other, out = row_major(v), row_major(u), np.empty(v.shape[::-1], v.numpy().dtype)
        entries = csr(data, side)
        in_ranges(lambda i, j: ratio_rows(mine, other, *entries, out, i, j), v.shape[1], 64)
        return torch.from_numpy(out).mT
    x, mask = facing(data, side)
    result = torch.empty_like(v)
    arrays = v.numpy(), u.numpy(), row_major(u), x.numpy(), mask_array(mask, x), result.numpy()
    in_ranges(lambda i, j: ratio_columns(*arrays, i, j), v.shape[1], 256)
    return result


def _ratio_products_by_torch(data: Matrix, v: Tensor, u: Tensor, side: Side) -> Tensor:
    if data.x.is_sparse_csr:
        w, h = (v, u) if side == "w" else (u, v)
        values = data.x.values() / gathered(data.x, w.mT, h).clamp_min_(1e-30)
        ratio = with_values(data.x, values)
        if side == "w":
            return (ratio @ u.mT.contiguous()).mT
        return (ratio.t().to_sparse_csr() @ u.mT.contiguous()).mT
    x, mask = facing(data, side)
    ratio = x / (u.mT @ v + 1e-30)
    return u @ (ratio if mask is None else ratio * mask)


def mask_products(data: Matrix, u: Float[Tensor, "k p"], side: Side) -> Tensor:
    """``u mask`` (k, m), or the sums (k, 1) of u where all entries are observed."""
    if data.mask is None:
        return over_rows(data, side, u.sum(-1, keepdim=True))
    if not data.x.is_sparse_csr:
        mask = facing(data, side)[1]
        assert mask is not None
        return over_rows(data, side, u @ mask)
    x = data.x if side == "w" else data.xt
    assert x is not None
    ones = with_values(x, torch.ones_like(x.values()))
    return over_rows(data, side, (ones @ u.mT.contiguous()).mT)


def mask_array(mask: Tensor | None, x: Tensor) -> Array:
    """The mask as compiled kernels want it: (0, 0) where there is none."""
    return np.empty((0, 0), x.numpy().dtype) if mask is None else mask.numpy()


def objective(
    data: Matrix,
    w: Float[Tensor, "r k n"],
    h: Float[Tensor, "r k f"],
    beta: float,
    l1: Both,
    l2: Both,
    rows: list[int] | None = None,
) -> Float[Tensor, " live"]:
    """Divergence and penalties ``l1 Σ v + l2 / 2 Σ v²`` of some restarts, summed in float64."""
    rows = list(range(w.shape[0])) if rows is None else rows
    total = torch.zeros(len(rows), dtype=torch.float64, device=w.device)

    if data.compiled and data.xt is not None and not data.x.is_sparse_csr and beta in (1, 2):
        _small_fits(data, w, h, rows, beta, total)
    else:
        for i, row in enumerate(rows):
            total[i] = fit(data, w[row], h[row], beta)
    if l1[0] or l2[0]:
        total += _penalties(w, rows, l1[0], l2[0])
    total = data.total(total)
    if l1[1] or l2[1]:
        total += _penalties(h, rows, l1[1], l2[1])
    return total


def fit(
    data: Matrix, w: Float[Tensor, "k n"], h: Float[Tensor, "k f"], beta: float
) -> Tensor | float:
    """Divergence of one fit; a sparse X without mask by factor sums (KL) or Gram products."""
    if data.x.is_sparse_csr:
        return _sparse_fit(data, w, h, beta)
    total = torch.zeros((), dtype=torch.float64, device=w.device)
    for block in row_blocks(data.x):
        x, found = data.x[block], w[:, block].mT @ h
        if beta == 2:
            part = (x - found).double().square_().mul_(0.5)
        elif beta == 1:
            x, found = x.double(), found.double()
            part = torch.xlogy(x, x / found.clamp_min(TINY)).sub_(x).add_(found)
        else:
            seen = None if data.mask is None else data.mask[block].double()
            total += beta_divergence(x.double(), found.double(), beta, seen).sum()
            continue
        total += (part if data.mask is None else part * data.mask[block]).sum()
    return total


def _penalties(v: Tensor, rows: list[int], a: float, b: float) -> Tensor:
    if v.device.type == "cpu":  # by numpy: see extrapolation.place
        x = v.numpy()[rows].astype(np.float64)
        return torch.from_numpy(a * x.sum((1, 2)) + 0.5 * b * np.square(x).sum((1, 2)))
    v64 = v[rows].double()
    return a * v64.sum((-2, -1)) + 0.5 * b * v64.square().sum((-2, -1))


def _small_fits(
    data: Matrix, w: Tensor, h: Tensor, rows: list[int], beta: float, total: Tensor
) -> None:
    """Divergences of some restarts, in threads."""
    from nmfnet.kernels.compiled.lanes import dense_divergences, log_buffers

    x, index, out = data.x.numpy(), np.array(rows, np.int64), total.numpy()
    arrays = x, mask_array(data.mask, data.x), w.numpy(), h.numpy()

    def some(i: int, j: int) -> None:
        dense_divergences(*arrays, index[i:j], beta == 1, log_buffers(x.dtype), out[i:j])

    in_ranges(some, len(rows), 1 + 5_000_000 // (x.size * w.shape[1]))  # a thread costs 0.1 ms


def _sparse_fit(data: Matrix, w: Tensor, h: Tensor, beta: float) -> Tensor:
    w64, h64 = w.double(), h.double()
    if beta == 2 and data.mask is None:
        cross = (times_xt(data, h[None])[0].double() * w64).sum()
        return data.half_square - cross + 0.5 * ((w64 @ w64.mT) * (h64 @ h64.mT)).sum()
    values, found = data.x.values().double(), at_entries(data, w, h).double()
    if beta == 2:
        return 0.5 * (values - found).square_().sum()
    stored = torch.xlogy(values, values / found.clamp_min(TINY)) - values
    if data.mask is not None:
        return (stored + found).sum()
    return stored.sum() + w64.sum(-1) @ h64.sum(-1)
