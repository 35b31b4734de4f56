"""Arrays and data frames in memory to float64 matrices; shared by files and by in-memory data."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.raw import RawTable, did_you_mean, is_sparse, shorten
from nmfnet.errors import UserError

__all__ = ["as_float64", "read_frame"]


def as_float64(values: Any, what: str) -> Any:
    """A two-dimensional float64 array, or CSR matrix when ``values`` is scipy-sparse.

    Raises
    ------
    UserError
        Not two-dimensional, complex, or not numeric.
    """
    if is_sparse(values):
        if np.iscomplexobj(values):
            raise UserError(f"{what} holds complex numbers; real numbers are needed.")
        matrix = sp.csr_matrix(values, dtype=np.float64)
        if not matrix.has_canonical_format:
            matrix = matrix.copy()  # never change the caller's matrix
            matrix.sum_duplicates()
        return matrix
    array = np.asarray(values)
    if array.ndim != 2:
        raise UserError(
            f"{what} has {array.ndim} dimension(s), shape {array.shape}; a table of samples and "
            "features "
            "(2 dimensions) is needed." + (" Try X.reshape(len(X), -1)." if array.ndim > 2 else "")
        )
    if array.dtype.kind == "O":
        return _numbers_of_objects(array, what)
    if array.dtype.kind not in "biuf":
        raise UserError(f"{what} holds {array.dtype} values; real numbers are needed.")
    return array.astype(np.float64, copy=False)


def _numbers_of_objects(array: np.ndarray, what: str) -> np.ndarray:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        pass
    for (row, column), cell in np.ndenumerate(array):
        try:
            float(cell)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{what}: {cell!r} in row {row + 1}, column {column + 1} is not a number. Only "
                "numbers are allowed; use NaN for missing values (and missing='mask')."
            ) from error
    raise UserError(f"{what} holds values that are not real numbers.")


def read_frame(frame: Any, what: str, label: str | None = None) -> RawTable:
    """A pandas DataFrame as a `RawTable`: the index, or leading text columns, name the rows.

    Raises
    ------
    UserError
        A column that is not numeric, or an unknown label column.
    """
    import pandas as pd

    frame = frame.copy(deep=False)
    frame.columns = [
        ":".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in frame.columns
    ]
    labels = None
    if label is not None:
        if label not in frame.columns:
            known = [str(column) for column in frame.columns]
            raise UserError(
                f"label_column={label!r} is not a column of {what}. The columns are "
                f"{shorten(known, 5)}.{did_you_mean(label, known)}"
            )
        labels = ["" if pd.isna(cell) else str(cell) for cell in frame.pop(label)]
    names = (
        None if isinstance(frame.index, pd.RangeIndex) else [_index_name(i) for i in frame.index]
    )
    while names is None and frame.shape[1] > 1 and not _numeric(frame.iloc[:, 0]):
        names = [str(cell) for cell in frame.pop(frame.columns[0])]
    for at, column in enumerate(frame.columns):
        cells = frame.iloc[:, at]
        if not _numeric(cells):
            numbers = pd.to_numeric(cells, errors="coerce")
            wrong = np.flatnonzero((numbers.isna() & cells.notna()).to_numpy())
            if wrong.size == 0:
                frame.isetitem(at, numbers)
                continue
            row = int(wrong[0])
            raise UserError(
                f"{what}: text where a number is needed: {cells.iloc[row]!r} in column "
                f"{column!r}, row {names[row] if names else row + 1} ({wrong.size} such cells in "
                f"that column). Remove the column, or set data.label_column={column!r} if it "
                "holds classes."
            )
    values = _frame_values(frame, what)
    return RawTable(values, names, [str(column) for column in frame.columns], labels)


def _frame_values(frame: Any, what: str) -> Any:
    import pandas as pd

    sparse = [isinstance(kind, pd.SparseDtype) and kind.fill_value == 0 for kind in frame.dtypes]
    if sparse and all(sparse):
        return as_float64(frame.sparse.to_coo(), what)
    return as_float64(frame.to_numpy(dtype=np.float64, na_value=np.nan), what)


def _index_name(entry: Any) -> str:
    return ":".join(map(str, entry)) if isinstance(entry, tuple) else str(entry)


def _numeric(column: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))
