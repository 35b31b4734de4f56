"""Walk over the rows of X and its reconstruction in dense float64 blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError

FloatArray = npt.NDArray[np.float64]
Block = tuple[FloatArray, FloatArray, npt.NDArray[np.bool_] | None]

_BLOCK_ENTRIES = 1 << 19  # 4 MB of float64 a block: the temporaries of one block stay in cache


class Product(NamedTuple):
    """The reconstruction W H, evaluated for the rows asked for.

    Attributes
    ----------
    W : ndarray, shape (n, k)
        Per-sample factor.
    H : ndarray, shape (k, f)
        Components.
    """

    W: npt.NDArray[Any]
    H: npt.NDArray[Any]

    def __call__(self, rows: slice) -> FloatArray:
        """Rows of W H, shape (m, f)."""
        return np.asarray(self.W[rows], np.float64) @ np.asarray(self.H, np.float64)


def row_blocks(x: Any, x_hat: Any, mask: Any = None) -> Iterator[Block]:
    """Blocks ``(x, x_hat, keep)`` of rows: dense float64, zero outside the mask ``keep``."""
    data = readable(x)
    observed = None if mask is None else readable(mask)
    n, f = data.shape
    if observed is not None and observed.shape != (n, f):
        raise UserError(f"The mask has shape {observed.shape} and X {(n, f)}; they must be equal.")
    rows_of = _rows_of(x_hat, (n, f))
    step = max(1, _BLOCK_ENTRIES // f)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        xb, hb = _dense(data[rows]), np.asarray(rows_of(rows), dtype=np.float64)
        if hb.shape != xb.shape:
            raise UserError(f"x_hat gave rows of shape {hb.shape} where X has {xb.shape}.")
        keep = None
        if observed is not None:
            keep = _dense(observed[rows]) != 0
            xb, hb = np.where(keep, xb, 0.0), np.where(keep, hb, 0.0)
        if not np.isfinite(xb).all():
            row = start + int(np.argwhere(~np.isfinite(xb))[0, 0])
            raise UserError(
                f"X has entries that are NaN or infinite and not masked (first in row {row}). "
                "Pass a mask with 0 at those entries."
            )
        yield xb, hb, keep


def _rows_of(x_hat: Any, shape: tuple[int, int]) -> Callable[[slice], Any]:
    if callable(x_hat):
        return x_hat  # type: ignore[no-any-return]
    given = np.asarray(x_hat)
    if given.shape != shape:
        raise UserError(f"x_hat has shape {given.shape} and X {shape}; they must be equal.")
    return lambda rows: given[rows]


def is_sparse(x: Any) -> bool:
    """Whether ``x`` is a scipy sparse matrix or array."""
    return hasattr(x, "tocsr")


def readable(x: Any) -> Any:
    """``x`` as something whose rows can be sliced: an ndarray or CSR, 2-D, not empty.

    What calls itself ``streamed`` stays where it is, and its rows are read as they are needed.
    """
    matrix: Any = x
    if not getattr(x, "streamed", False):
        matrix = x.tocsr() if is_sparse(x) else np.asarray(x)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise UserError(f"The data have shape {matrix.shape}; a metric needs a matrix (n, f).")
    return matrix


def _dense(rows: Any) -> FloatArray:
    return np.asarray(rows.toarray() if is_sparse(rows) else rows, np.float64)
