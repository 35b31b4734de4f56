"""Both multiplicative sums of X ~ W H on a GPU in one reading of X; W H is never written.

A program owns some rows of one factor (of W, or of Hᵀ for the other half of an iteration) and walks
along the tiles of X that they meet: it recomputes W H on a tile, forms ``neg`` and ``pos`` of the
divergence in registers, and adds their products with the other factor to its sums. No sum has two
writers, so the same input gives the same bits. Where there are too few rows to fill the device,
several programs share the tiles of a block of rows, and a second pass adds up what they found.

Imported only where Triton can run (``multiplicative.kernels_for``): on a GPU, or on a CPU under
``TRITON_INTERPRET=1``, which is how tests compare it with the eager rules.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import torch

from nmfnet.kernels.compiled import INTERPRETED
from nmfnet.kernels.compiled.triton_sums import multiplicative_sums
from nmfnet.kernels.divergences import TINY
from nmfnet.types import Float, Tensor

Precision = Literal["tf32x3", "tf32", "ieee"]

LEAST_SIDE = 16
"""Smallest side of a tile, and so of X: below it nothing is worth a kernel."""

MOST_COMPONENTS = 128
"""Columns of W up to which the rows and sums of a program fit in registers."""

LARGEST_STRIDE = 2**24
"""Distance between rows up to which places in a tile fit in 32 bits."""

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
    precision: Precision


def usable(x: Tensor, W: Tensor, H: Tensor, mask: Tensor | None) -> bool:
    """Whether :func:`sums` can take these: float32, of a size and layout it knows, no gradients."""
    given = [x, W, H] if mask is None else [x, W, H, mask]
    return (
        supported(x.device)
        and not (torch.is_grad_enabled() and any(v.requires_grad for v in given))
        and all(v.dtype == torch.float32 and v.device == x.device for v in given)
        and x.ndim == 2
        and W.shape[-1] <= MOST_COMPONENTS
        and min(x.shape) >= LEAST_SIDE
        and min(x.stride()) == 1
        and all(max(v.stride()[-2:]) < LARGEST_STRIDE for v in given)
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
    cut = cut or tiles(r, n_rows, n_columns, k, both, x.device, precision())
    n_blocks, n_tiles = -(-n_rows // cut.rows), -(-n_columns // cut.columns)
    neg = x.new_empty((cut.splits, *theta.shape))
    pos = torch.empty_like(neg) if both else neg
    out = neg if name == "W" else neg.mT
    unit = 4 if max(x.stride()) % 4 == 0 and x.shape[x.stride().index(1)] % 4 == 0 else 1
    with torch.cuda.device_of(x):
        multiplicative_sums[(n_blocks * r, cut.splits)](
            x, x if mask is None else mask, v, u, neg, pos,
            n_rows, n_columns, k, r, -(-n_tiles // cut.splits), max(x.stride()) // unit,
            *v.stride(), *u.stride(), *out.stride(),
            BETA=float(beta), MASKED=mask is not None, BOTH=both,
            TRANSPOSED=across.stride(1) != 1, UNIT=unit, PRECISION=cut.precision,
            FAST=not INTERPRETED, TINY=TINY,
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


@lru_cache(maxsize=16)
def supported(device: torch.device) -> bool:
    """Whether the device has tensor cores that take float32 (NVIDIA, capability 8.0 or higher)."""
    if device.type != "cuda":
        return INTERPRETED
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)


def precision() -> Precision:
    """As exact as torch's own products on a GPU are set to be."""
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"


@lru_cache(maxsize=256)
def tiles(
    r: int,
    n_rows: int,
    n_columns: int,
    n_components: int,
    both: bool,
    device: torch.device,
    precision: Precision,
) -> Tiles:
    """The cut for a problem and a device: tiles that fit its registers, and enough programs.

    Parameters
    ----------
    r, n_rows, n_columns, n_components : int
        Restarts, rows of the factor to update, what they meet, columns of W.
    both : bool
        Whether ``pos`` is accumulated beside ``neg``.
    device : torch.device
    precision : {"tf32x3", "tf32", "ieee"}

    Notes
    -----
    Shapes were chosen from the compiled code for compute capabilities 8.0, 8.9 and 9.0: two programs
    fit on a multiprocessor, hardly a register is spilled up to 64 components, and instructions per
    entry of X are few. They have not been tuned on a device. The number of splits is the best in a
    model of the time: rounds of programs, times the tiles of a program, its start, and the way of
    its sums to memory and back.
    """
    parts, processors = padded(n_components), 1
    if device.type == "cuda":
        processors = torch.cuda.get_device_properties(device).multi_processor_count
    columns, stages = (32, 3) if parts < 128 else (16, 2)
    columns = min(columns, power_below(n_columns))
    rows = min(128 if parts <= 32 and not both else 64, power_below(n_rows))
    n_programs, n_tiles = -(-n_rows // rows) * r, -(-n_columns // columns)
    sums_away = 2 * (1 + both) * parts / columns  # in tiles: every split writes and reads its own

    def cost(splits: int) -> float:
        rounds = -(-n_programs * splits // (PER_PROCESSOR * processors))
        return rounds * (-(-n_tiles // splits) + stages + (sums_away if splits > 1 else 0.0))

    splits = min(range(1, min(n_tiles, 64) + 1), key=cost)
    return Tiles(rows, columns, splits, 4, stages, precision)


def power_below(n: int) -> int:
    """Largest power of two that is at most n."""
    return 1 << (n.bit_length() - 1)
