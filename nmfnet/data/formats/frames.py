"""Arrays and data frames in memory to float64 matrices; shared by files and by in-memory data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.raw import (
    RawTable,
    as_text,
    check_memory,
    did_you_mean,
    is_sparse,
    number,
    reading,
    shorten,
)
from nmfnet.errors import UserError

__all__ = [
    "FRAME_ADVICE",
    "ROW_NUMBERS",
    "as_float64",
    "as_rows",
    "counts_up",
    "read_frame",
    "take_label",
]

ROW_NUMBERS = re.compile(r"Unnamed: \d+")
"""Header that pandas gives to a column of row numbers that was saved without a name."""

_BYTES_PER_LINE = 128
"""Of memory that a sparse matrix needs for each row and column, names included."""


def as_float64(values: Any, what: str, *, single: bool = False) -> Any:
    """A two-dimensional float64 array, or CSR matrix when ``values`` is scipy-sparse.

    Parameters
    ----------
    values : array-like
    what : str
        For messages.
    single : bool
        Give float32 if that holds every value exactly: half the memory, and no copy of what is in
        float32 already.

    Raises
    ------
    UserError
        Not two-dimensional, complex, not numeric, or a sparse matrix whose parts contradict each
        other.
    """
    if is_sparse(values):
        return _as_csr(values, what, single=single)
    array = np.asarray(values)
    if array.ndim != 2:
        advice = ""
        if array.ndim > 2:
            advice = " Try X.reshape(len(X), -1)."
        elif array.ndim == 1:
            advice = " Try X.reshape(1, -1) for one sample, X.reshape(-1, 1) for one feature."
        raise UserError(
            f"{what} has {array.ndim} dimension(s), shape {array.shape}; a table of samples and "
            f"features (2 dimensions) is needed.{advice}"
        )
    if array.dtype.kind in "OU":
        return _numbers_of_objects(array, what)
    if array.dtype.kind not in "biuf":
        raise UserError(f"{what} holds {array.dtype} values; real numbers are needed.")
    if single and np.can_cast(array.dtype, np.float32):
        return array.astype(np.float32, copy=False)
    with np.errstate(over="ignore"):  # a longdouble beyond float64 becomes infinite: refused later
        return array.astype(np.float64, copy=False)


def _as_csr(values: Any, what: str, *, single: bool) -> sp.csr_matrix:
    if values.ndim != 2:
        raise UserError(
            f"{what} has {values.ndim} dimension(s), shape {values.shape}; a table of samples and "
            "features (2 dimensions) is needed."
        )
    if values.dtype.kind not in "biuf":
        raise UserError(f"{what} holds {values.dtype} values; real numbers are needed.")
    check_memory(_BYTES_PER_LINE * sum(map(int, values.shape)) + 16 * values.nnz, what)
    with reading(what, "a valid sparse matrix"):
        _check_sparse(values)
        kind = np.float32 if single and np.can_cast(values.dtype, np.float32) else np.float64
        matrix = sp.csr_matrix(values, dtype=kind)
        if not matrix.has_canonical_format:
            matrix = matrix.copy()  # never change the caller's matrix
            matrix.sum_duplicates()
    return matrix


def _check_sparse(values: Any) -> None:
    """Compare the parts of a sparse matrix: compiled code trusts them, and crashes on wrong ones."""
    if hasattr(values, "check_format"):
        values.check_format(full_check=True)
    for axis, numbers in enumerate(getattr(values, "coords", ())):
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < values.shape[axis]:
            raise ValueError(f"an index along axis {axis} lies outside the shape {values.shape}")


def _numbers_of_objects(array: np.ndarray, what: str) -> np.ndarray:
    out = np.empty(array.shape)
    for (row, column), cell in np.ndenumerate(array):
        found = number(cell)
        if found is None:
            shown = cell.item() if isinstance(cell, np.generic) else cell
            raise UserError(
                f"{what}: {shown!r} in row {row + 1}, column {column + 1} is not a number; real "
                "numbers are needed (NaN where a value is missing)."
            )
        out[row, column] = found
    return out


def counts_up(cells: Sequence[float] | np.ndarray) -> bool:
    """Whether the numbers of a column are 0, 1, 2, ... or 1, 2, 3, ...: it numbers the rows."""
    found = np.asarray(cells, dtype=np.float64)
    return found.size > 0 and any(
        np.array_equal(found, np.arange(first, first + found.size)) for first in (0, 1)
    )


def as_rows(index: Any) -> list[str] | None:
    """The names in an index of pandas; None for the one it makes by itself (0, 1, 2, ...)."""
    import pandas as pd

    if isinstance(index, pd.RangeIndex) and (index.start, index.step) == (0, 1):
        return None
    return [as_text(entry) for entry in index]


def take_label(names: Sequence[str], label: str, what: str, option: str = "label_column") -> int:
    """Position of the one column that is called ``label``.

    Raises
    ------
    UserError
        There is none, or several.
    """
    if label not in names:
        raise UserError(
            f"{option}={label!r} is not a column of {what}. The columns are "
            f"{shorten(names, 5)}.{did_you_mean(label, names)}"
        )
    if (count := list(names).count(label)) > 1:
        raise UserError(f"{what} has {count} columns called {label!r}: rename all but one.")
    return list(names).index(label)


FILE_ADVICE = (
    "Leave it out with data.drop=[{0}], or say data.label_column={0!r} if it holds classes."
)
FRAME_ADVICE = "Leave it out, X.drop(columns=[{0!r}]), or give it as labels=X[{0!r}]."


def read_frame(
    frame: Any,
    what: str,
    label: str | None = None,
    drop: Sequence[str] = (),
    advice: str = FILE_ADVICE,
) -> RawTable:
    """A pandas DataFrame as a `RawTable`: the index, or leading text columns, name the rows.

    ``advice`` says what to do about a column of text, whose name is put in.

    Raises
    ------
    UserError
        A column that holds no numbers, or a column to drop or a label column that is not there.
    """
    frame = frame.copy(deep=False)
    unnamed = as_rows(frame.columns) is None
    frame.columns = [as_text(c) for c in frame.columns]
    for column in drop:
        at = take_label(list(frame.columns), column, what, "drop")
        frame = frame.drop(columns=frame.columns[at])
    labels = None
    if label is not None:
        take_label(list(frame.columns), label, what)
        labels = [as_text(cell) for cell in frame.pop(label)]
    names, remarks = as_rows(frame.index), []
    if names is None and frame.shape[1] > 1 and _wrong(frame.iloc[:, 0]).size:
        names, words = _text_columns(frame)
        frame = frame.iloc[:, words:]
    kept, spelled = [], []
    for at, column in enumerate(frame.columns):
        cells = frame.iloc[:, at]
        if (wrong := _wrong(cells)).size:
            raise UserError(_wrong_message(frame, at, wrong, what, names, advice))
        if ROW_NUMBERS.fullmatch(column) and counts_up(_floats(cells)):
            remarks.append(f"{column!r} numbers the rows and was left out.")
            continue
        kept.append(at)
        if not _numeric(cells):
            frame.isetitem(at, _floats(cells))
            spelled.append(column)
    if spelled:
        remarks.append(
            f"{len(spelled)} columns hold numbers stored as text or objects, and were read as "
            f"numbers (first: {spelled[0]!r})."
        )
    frame = frame.iloc[:, kept]
    columns = None if unnamed else list(frame.columns)
    return RawTable(_frame_values(frame, what), names, columns, labels, remarks=tuple(remarks))


def _text_columns(frame: Any) -> tuple[list[str], int]:
    """Names out of the leading columns that hold text, and how many there are."""
    count = 1
    while count < frame.shape[1] - 1 and _wrong(frame.iloc[:, count]).size == len(frame):
        count += 1
    parts = [[as_text(cell) for cell in frame.iloc[:, at]] for at in range(count)]
    return [":".join(cells) for cells in zip(*parts, strict=True)], count


def _wrong_message(
    frame: Any, at: int, wrong: np.ndarray, what: str, names: list[str] | None, advice: str
) -> str:
    column, row = frame.columns[at], int(wrong[0])
    later = range(at + 1, frame.shape[1])
    others = [frame.columns[i] for i in later if _wrong(frame.iloc[:, i]).size]
    more = f" The same goes for {shorten(others, 8)}." if others else ""
    return (
        f"{what}: text where a number is needed: {frame.iloc[row, at]!r} in column {column!r}, row "
        f"{names[row] if names else row + 1} ({wrong.size} such cells in that column). "
        f"{advice.format(column)}{more}"
    )


def _frame_values(frame: Any, what: str) -> Any:
    import pandas as pd

    sparse = [isinstance(kind, pd.SparseDtype) and kind.fill_value == 0 for kind in frame.dtypes]
    if sparse and all(sparse):
        return as_float64(frame.sparse.to_coo(), what)
    return as_float64(frame.to_numpy(dtype=np.float64, na_value=np.nan), what)


def _numeric(column: Any) -> bool:
    """Whether the type of a column of pandas says real numbers (or true and false)."""
    import pandas as pd

    known = pd.api.types
    return bool(
        known.is_bool_dtype(column)
        or (known.is_numeric_dtype(column) and not known.is_complex_dtype(column))
    )


def _wrong(column: Any) -> np.ndarray:
    """Positions of the cells of a column that are neither numbers nor missing."""
    if _numeric(column):
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero([number(cell) is None for cell in column])


def _floats(column: Any) -> np.ndarray:
    if _numeric(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.array([number(cell) for cell in column], dtype=np.float64)
