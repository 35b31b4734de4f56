"""Both multiplicative sums of X ~ W H on a GPU in one reading of X; W H is never written.

A program owns some rows of one factor (of W, or of Hᵀ for the other half of an iteration) and walks
along the tiles of X that they meet: it recomputes W H on a tile, forms ``neg`` and ``pos`` of the
divergence in registers, and adds their products with the other factor to its sums. No sum has two
writers, so the same input gives the same bits. Where there are too few rows to fill the device,
several programs share the tiles of a block of rows, and a second pass adds up what they found.

Imported only where Triton can run (``multiplicative.kernels``): on a GPU, or on a CPU under
``TRITON_INTERPRET=1``, which is how tests compare it with the eager rules.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

from nmfnet.functional.divergences import TINY
from nmfnet.types import Float, Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

LEAST_SIDE = 16
"""Smallest side of a tile, and so of X: below it nothing is worth a kernel."""

MOST_COMPONENTS = 128
"""Columns of W up to which the rows and sums of a program fit in registers."""

LARGEST_STRIDE = 2**24
"""Distance between rows of X up to which places in a tile fit in 32 bits."""

PER_PROCESSOR = 2
"""Programs that a multiprocessor runs at a time: what the registers of a tile below allow."""


class Tiles(NamedTuple):
    """How the work is cut: any choice gives the same sums up to rounding.

    Attributes
    ----------
    rows, columns : int, powers of two >= 16
        Shape of a tile: rows of the factor to update, times what they meet in one step.
    splits : int, >= 1
        Programs that share the tiles of a block of rows.
    warps, stages : int
        Groups of 32 threads in a program; tiles on their way from memory at a time.
    precision : {"tf32x3", "tf32", "ieee"}
        Products on tensor cores with float32 split in two halves (relative error below 1e-6, since
        all terms are >= 0) or rounded (1e-3), or in float32 without tensor cores.
    """

    rows: int
    columns: int
    splits: int
    warps: int
    stages: int
    precision: Literal["tf32x3", "tf32", "ieee"]


def usable(x: Tensor, W: Tensor, H: Tensor, mask: Tensor | None) -> bool:
    """Whether :func:`sums` can take these: float32 on one device, and of a size and layout it knows."""
    given = [x, W, H] if mask is None else [x, W, H, mask]
    return (
        all(v.dtype == torch.float32 and v.device == x.device for v in given)
        and x.ndim == 2
        and W.shape[-1] <= MOST_COMPONENTS
        and min(x.shape) >= LEAST_SIDE
        and min(x.stride()) == 1
        and max(x.stride()) < LARGEST_STRIDE
        and (mask is None or mask.stride() == x.stride())
    )


def sums(
    name: Literal["W", "H"],
    x: Float[Tensor, "n f"],
    W: Float[Tensor, "*r n k"],
    H: Float[Tensor, "*r k f"],
    beta: float,
    mask: Float[Tensor, "n f"] | None = None,
    cut: Tiles | None = None,
) -> tuple[Tensor, Tensor]:
    """Both multiplicative sums for W or for H in X ~ W H, as ``nmf_sums_W`` and ``nmf_sums_H``.

    Parameters
    ----------
    name : {"W", "H"}
        The factor to update.
    x, W, H, mask : Tensor
        As :func:`usable` wants them.
    beta : float
    cut : Tiles, optional
        Default: what :func:`tiles` says.

    Returns
    -------
    neg, pos : Tensor, shape (*r, n, k) or (*r, k, f)
        ``pos`` is (*r, 1, k) or (*r, k, 1), to broadcast, for KL without a mask.

    Source: Févotte & Idier 2011, eq. (4.1); the tiling is that of matrix products in fast memory.
    """
    lead = torch.broadcast_shapes(W.shape[:-2], H.shape[:-2])
    w, h = (v.expand(*lead, *v.shape[-2:]).reshape(-1, *v.shape[-2:]) for v in (W, H))
    if name == "W":
        across, v, u, theta = x, w, h, w
    else:
        across, v, u, theta = x.mT, h.mT, w.mT, h
    r, k, (n_rows, n_columns) = w.shape[0], w.shape[-1], across.shape
    both = beta != 1 or mask is not None
    cut = cut or tiles(r, n_rows, n_columns, k, both, x.device)
    n_blocks, n_tiles = -(-n_rows // cut.rows), -(-n_columns // cut.columns)
    neg = x.new_empty((cut.splits, *theta.shape))
    pos = torch.empty_like(neg) if both else neg
    out = neg if name == "W" else neg.mT
    unit = 4 if max(x.stride()) % 4 == 0 and x.shape[x.stride().index(1)] % 4 == 0 else 1
    with torch.cuda.device_of(x):
        _sums[(n_blocks * r, cut.splits)](
            x, x if mask is None else mask, v, u, neg, pos,
            n_rows, n_columns, k, r, -(-n_tiles // cut.splits), max(x.stride()) // unit,
            *v.stride(), *u.stride(), *out.stride(),
            BETA=float(beta), MASKED=mask is not None, BOTH=both,
            TRANSPOSED=across.stride(1) != 1, UNIT=unit, PRECISION=cut.precision,
            FAST=not INTERPRETED and torch.version.hip is None, TINY=TINY,
            ROWS=cut.rows, COLUMNS=cut.columns, PARTS=padded(k), STAGES=cut.stages,
            num_warps=cut.warps, num_stages=cut.stages, enable_fp_fusion=True,
        )  # fmt: skip
    neg = _together(neg, lead)
    if both:
        return neg, _together(pos, lead)
    return neg, H.sum(-1).unsqueeze(-2) if name == "W" else W.sum(-2).unsqueeze(-1)


def _together(parts: Float[Tensor, "s r a b"], lead: torch.Size) -> Float[Tensor, "*r a b"]:
    total = parts.sum(0) if parts.shape[0] > 1 else parts[0]
    return total.reshape(*lead, *parts.shape[-2:])


def padded(n_components: int) -> int:
    """Columns of W in a tile: a power of two, at least what a tensor core takes."""
    return max(16, 1 << (n_components - 1).bit_length())


@lru_cache(maxsize=256)
def tiles(
    r: int, n_rows: int, n_columns: int, n_components: int, both: bool, device: torch.device
) -> Tiles:
    """The cut for a problem and a device: tiles that fit its registers, and enough programs.

    Parameters
    ----------
    r, n_rows, n_columns, n_components : int
        Restarts, rows of the factor to update, what they meet, columns of W.
    both : bool
        Whether ``pos`` is accumulated beside ``neg``.
    device : torch.device

    Notes
    -----
    Shapes were chosen from compiled code (registers, spills, instructions per entry of X, for
    compute capability 8.0 and 9.0). The number of splits has the shortest time in a model of it:
    rounds of programs, times the tiles of a program plus its start and its sums' way to memory.
    """
    parts, processors, precision, roomy = padded(n_components), 1, "tf32x3", True
    if device.type == "cuda":
        of = torch.cuda.get_device_properties(device)
        processors, roomy = of.multi_processor_count, of.shared_memory_per_block_optin >= 160_000
        if torch.version.hip is not None or of.major < 8:
            precision = "ieee"
        elif torch.backends.cuda.matmul.fp32_precision == "tf32":
            precision = "tf32"
    rows = 128 if parts <= 32 and not both else 64
    columns, stages = (32, 3) if parts < 128 or roomy else (16, 2)
    rows, columns = (
        min(side, 1 << (n.bit_length() - 1)) for side, n in ((rows, n_rows), (columns, n_columns))
    )
    n_tiles, n_programs = -(-n_columns // columns), -(-n_rows // rows) * r
    extra = stages + 2 * (1 + both) * parts / columns

    def time(splits: int) -> float:
        rounds = -(-n_programs * splits // (PER_PROCESSOR * processors))
        return rounds * (-(-n_tiles // splits) + (extra if splits > 1 else stages))

    splits = min(range(1, min(n_tiles, 64) + 1), key=time)
    return Tiles(rows, columns, splits, 4, stages, precision)


@triton.jit
def _leading(a):  # type: ignore[no-untyped-def]
    """The part of a float32 that tensor cores read: its sign, exponent and first 10 bits."""
    return (a.to(tl.uint32, bitcast=True) & 0xFFFFE000).to(tl.float32, bitcast=True)


@triton.jit
def _add_product(total, a, high, low, PRECISION: tl.constexpr):  # type: ignore[no-untyped-def]
    """``total + a @ (high + low)``; only tf32x3 has a low half, and drops low times low."""
    if PRECISION == "tf32x3":
        a_high = _leading(a)
        total = tl.dot(a - a_high, high, total, input_precision="tf32")
        total = tl.dot(a_high, low, total, input_precision="tf32")
        total = tl.dot(a_high, high, total, input_precision="tf32")
    else:
        total = tl.dot(a, high, total, input_precision=PRECISION)
    return total


@triton.jit
def _reordered(a, N: tl.constexpr, M: tl.constexpr):  # type: ignore[no-untyped-def]
    """Columns 0 2 4 6 1 3 5 7 of every eight.

    A product is the same for any order of what it sums over, and in this one a thread already holds
    the operands that tensor cores want from it, so that nothing is exchanged between threads.
    """
    return a.reshape(N, M // 8, 4, 2).permute(0, 1, 3, 2).reshape(N, M)


@triton.jit
def _halves(x, y, seen, new, TINY: tl.constexpr, BETA: tl.constexpr, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """``neg`` and ``pos`` of the divergence times the mask; for KL ``pos`` is the mask alone."""
    if BETA == 2:
        neg, pos = x, y
    else:
        y = tl.maximum(y, TINY)
        if BETA != 1:
            y = tl.where(
                new, y, 1.0
            )  # nothing infinite where the factor is left out, to meet zeros
        if BETA == 1:
            neg, pos = (libdevice.fast_dividef(x, y) if FAST else x / y), 1.0
        elif BETA == 0:
            pos = 1.0 / y
            neg = x * pos * pos
        else:
            power = tl.exp2((BETA - 2) * tl.log2(y))
            neg, pos = x * power, y * power
    return neg, pos * seen


@triton.jit
def _sums(  # type: ignore[no-untyped-def]
    x, mask, v, u, neg, pos,  # v (n_rows, k): the factor updated; u (k, n_columns): the other one
    n_rows, n_columns, n_parts, n_restarts, tiles_each, stride,  # stride: slow axis of x, in UNITs
    v_restart, v_row, v_part, u_restart, u_part, u_column,
    out_split, out_restart, out_row, out_part,
    BETA: tl.constexpr, MASKED: tl.constexpr, BOTH: tl.constexpr, TRANSPOSED: tl.constexpr,
    UNIT: tl.constexpr, PRECISION: tl.constexpr, FAST: tl.constexpr, TINY: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PARTS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Sums for one block of rows of one restart, over one share of the columns.

    The last block of rows and the last tile of columns are moved back until they fit, so that X is
    read without conditions: rows met twice get the same sums twice, columns met twice count once.
    """
    restart = (tl.program_id(0) % n_restarts).to(tl.int64)  # restarts in a row share tiles of x
    top = tl.minimum(tl.program_id(0) // n_restarts * ROWS, n_rows - ROWS)
    top = tl.multiple_of(top, UNIT)
    rows, columns, parts = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, PARTS)
    part_in = parts < n_parts
    v += restart * v_restart + top.to(tl.int64) * v_row
    v_tile = rows[:, None] * v_row + parts[None, :] * v_part
    own = tl.load(v + v_tile, mask=part_in[None, :], other=0.0)
    u += restart * u_restart
    u_tile = parts[:, None] * u_part + columns[None, :] * u_column
    step = stride * UNIT
    x_row, x_column = (1, step) if TRANSPOSED else (step, 1)
    x_tile = rows[:, None] * x_row + columns[None, :] * x_column
    sum_neg = tl.zeros((ROWS, PARTS), tl.float32)
    sum_pos = tl.zeros((ROWS, PARTS), tl.float32)
    first = tl.program_id(1) * tiles_each * COLUMNS
    last = tl.minimum(first + tiles_each * COLUMNS, n_columns)
    for left in tl.range(first, last, COLUMNS, num_stages=STAGES):
        at = tl.multiple_of(tl.minimum(left, n_columns - COLUMNS), UNIT)
        new = (at + columns >= left)[None, :]
        here = top.to(tl.int64) * x_row + at.to(tl.int64) * x_column + x_tile
        data = tl.load(x + here)
        seen = tl.load(mask + here) if MASKED else 1.0
        u_here = u + at.to(tl.int64) * u_column + u_tile
        other = tl.load(u_here, mask=part_in[:, None] & new, other=0.0)
        high = _leading(other) if PRECISION == "tf32x3" else other
        low = other - high
        found = tl.zeros((ROWS, COLUMNS), tl.float32)
        found = _add_product(found, own, high, low, PRECISION)
        minus, plus = _halves(data, found, seen, new, TINY, BETA, FAST)
        high = tl.trans(_reordered(high, PARTS, COLUMNS))
        low = tl.trans(_reordered(low, PARTS, COLUMNS))
        minus = _reordered(minus, ROWS, COLUMNS)
        sum_neg = _add_product(sum_neg, minus, high, low, PRECISION)
        if BOTH:
            plus = _reordered(plus, ROWS, COLUMNS)
            sum_pos = _add_product(sum_pos, plus, high, low, PRECISION)
    out = tl.program_id(1).to(tl.int64) * out_split + restart * out_restart
    out += top.to(tl.int64) * out_row
    out_tile = out + rows[:, None] * out_row + parts[None, :] * out_part
    tl.store(neg + out_tile, sum_neg, mask=part_in[None, :])
    if BOTH:
        tl.store(pos + out_tile, sum_pos, mask=part_in[None, :])
