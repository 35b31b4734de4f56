"""What every metric asks of its arrays, with one message when the answer is no."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError

FloatArray = npt.NDArray[np.float64]


def as_dense(name: str, values: Any, ndim: int) -> FloatArray:
    """``values`` as a finite float64 array of ``ndim`` dimensions, or a UserError that names it."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim:
        what = {1: "a vector", 2: "a matrix (2-D)", 3: "a stack of matrices (3-D)"}[ndim]
        raise UserError(f"{name} has shape {array.shape}; a metric needs {what} here.")
    if 0 in array.shape:
        raise UserError(f"{name} has shape {array.shape}: it is empty. Give at least one entry.")
    finite = np.isfinite(array)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise UserError(
            f"{name} has {int((~finite).sum())} entries that are NaN or infinite (first at "
            f"{where}); only finite numbers can be compared. Mask or remove them."
        )
    return array


def same_width(name_a: str, a: FloatArray, name_b: str, b: FloatArray) -> None:
    """Refuse two sets of components over different features."""
    if a.shape[-1] != b.shape[-1]:
        raise UserError(
            f"{name_a} has {a.shape[-1]} features and {name_b} has {b.shape[-1]}: components can "
            "be compared only over the same features, in the same order. Align them by name."
        )


def several_restarts(name: str, stack: FloatArray) -> None:
    """Refuse a single restart where agreement between restarts is asked for."""
    if stack.shape[0] < 2:
        raise UserError(
            f"{name} has 1 restart; agreement between restarts needs at least 2. "
            "Train with n_restarts=2 or more."
        )
