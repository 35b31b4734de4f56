"""The Triton kernel for multiplicative sums; ``functional.triton_kernels`` calls it.

Apart from its caller because Triton compiles the source of functions, which must not be wrapped by
the shape checks of tests.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice


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
    """``neg`` and ``pos`` of the divergence, times the mask, which may hold weights."""
    if BETA == 2:
        neg, pos = x, y
    else:
        y = tl.maximum(y, TINY)
        if BETA != 1:
            y = tl.where(new, y, 1.0)  # where the factor is left out: inf * 0 is not 0
        if BETA == 1:
            neg, pos = (libdevice.fast_dividef(x, y) if FAST else x / y), 1.0
        elif BETA == 0:
            pos = 1.0 / y
            neg = x * pos * pos
        else:
            power = tl.exp2((BETA - 2) * tl.log2(y))
            neg, pos = x * power, y * power
    return neg * seen, pos * seen


@triton.jit
def multiplicative_sums(  # type: ignore[no-untyped-def]
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
    if TRANSPOSED:  # along the fast axis of x all places are multiples of UNIT
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
        at = tl.minimum(left, n_columns - COLUMNS)
        if not TRANSPOSED:
            at = tl.multiple_of(at, UNIT)
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
