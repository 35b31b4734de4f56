"""Delimited text (csv, tsv, txt; also .gz) to a `RawTable`.

Delimiter, header line and name columns are recognised unless given. A cell that is neither a number
nor empty is an error that names its column and row; nothing is dropped or filled silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmfnet.data.formats.layout import MISSING, Layout, find_layout, read_lines
from nmfnet.data.formats.raw import RawTable, did_you_mean, shorten
from nmfnet.data.sources.channels import parse_channel
from nmfnet.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_names", "read_text"]


def read_text(
    path: Path,
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    name_columns: int | None = None,
    name_separator: str = ":",
    label: str | None = None,
) -> RawTable:
    """Read a delimited text file.

    Parameters
    ----------
    path : Path
        The file; ``.gz`` is unpacked.
    delimiter : str, optional
        Recognised when None.
    header : bool, optional
        Whether the first line holds names; recognised when None.
    name_columns : int, optional
        How many leading columns name the rows; recognised when None.
    name_separator : str
        Joins several name columns to one name.
    label : str, optional
        Name of the column, or else of the row, that holds classes.

    Raises
    ------
    UserError
        Text among the numbers, ragged lines, unknown encoding, no numeric column.
    """
    layout = find_layout(path, delimiter, header, name_columns, label)
    row = _label_row(label, layout)
    frame = _parse(path, layout, label, everything_text=row)
    names = _join_names(frame.iloc[:, : layout.name_columns], name_separator)
    columns = list(range(layout.name_columns, layout.columns))
    header_names = layout.header
    labels, labels_on = None, "rows"
    if label is not None and not row:
        assert header_names is not None
        at = header_names.index(label)
        labels = [str(cell).strip() for cell in frame[at]]
        columns.remove(at)
    elif label is not None:
        labels_on = "columns"
        at = _find_row(label, names, header_names)
        assert names is not None
        labels = [str(cell).strip() for cell in frame.iloc[at, columns]]
        frame = frame.drop(index=frame.index[at]).reset_index(drop=True)
        del names[at]
    column_names = [header_names[i] for i in columns] if header_names else None
    values = _numbers(frame[columns], path, names, column_names)
    raw = RawTable(values, names, column_names, labels, labels_on)
    if name_columns is None and layout.name_columns > 1 and header_names and names:
        raw.remarks = _joined_remark(names, header_names[: layout.name_columns])
    return raw


def _joined_remark(names: list[str], columns: list[str]) -> tuple[str, ...]:
    """Said when several leading text columns were taken for names, unless they are channels."""
    if parse_channel(names[0]) is not None:
        return ()
    return (
        f"The first {len(columns)} columns ({', '.join(columns)}) hold text and were joined to "
        f"names such as {names[0]!r}. If one of them is the class of the samples, set "
        f"data.label_column={columns[-1]}.",
    )


def read_names(path: Path, count: int) -> list[str]:
    """One name per line (first tab-separated field); one line too many means a header.

    Padding (NUL bytes, blank lines) at the end is ignored.
    """
    lines = [line.split("\t")[0].strip().strip('"') for line in read_lines(path)]
    names = [line for line in lines if line.strip("\0")]
    if len(names) == count + 1:
        names = names[1:]
    if len(names) != count:
        raise UserError(
            f"{path} holds {len(names)} names but that axis of the data has {count}. One name per "
            "line is needed, in the order of the data (is data.orientation right?)."
        )
    return names


def _label_row(label: str | None, layout: Layout) -> bool:
    """Whether the label is looked for among the rows, because no column has that name."""
    return label is not None and (layout.header is None or label not in layout.header)


def _find_row(label: str, names: list[str] | None, header: Sequence[str] | None) -> int:
    if names is not None and label in names:
        return names.index(label)
    known = [*(header or []), *(names or [])]
    raise UserError(
        f"data.label_column={label!r} is neither a column nor a row of the file. The columns are "
        f"{shorten(list(header or []), 5) or 'without names'}.{did_you_mean(label, known)}"
    )


def _parse(path: Path, layout: Layout, label: str | None, everything_text: bool) -> pd.DataFrame:
    import pandas as pd

    texts = set(range(layout.name_columns))
    if everything_text:
        texts = set(range(layout.columns))
    elif label is not None and layout.header is not None:
        texts.add(layout.header.index(label))
    missing: Any = {i: sorted(MISSING) for i in range(layout.columns) if i not in texts}
    try:
        return pd.read_csv(
            path,
            sep=r"\s+" if layout.delimiter == " " else layout.delimiter,
            header=None,
            names=list(range(layout.columns)),
            index_col=False,
            skiprows=layout.skip,
            dtype=dict.fromkeys(texts, str),
            na_values=missing,
            keep_default_na=False,
            skipinitialspace=True,
            low_memory=False,
            encoding="utf-8-sig",
        )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise UserError(f"{path} is not a regular table: {str(error).strip()}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text. Save it as UTF-8.") from error


def _join_names(columns: pd.DataFrame, separator: str) -> list[str] | None:
    if columns.shape[1] == 0:
        return None
    parts = [[str(cell).strip() for cell in columns[i]] for i in columns]
    return [separator.join(cells) for cells in zip(*parts, strict=True)]


def _numbers(
    frame: pd.DataFrame, path: Path, rows: list[str] | None, columns: list[str] | None
) -> np.ndarray:
    import pandas as pd

    first: tuple[int, int, str] | None = None  # row, column, cell
    cells = bad_columns = 0
    for at, dtype in enumerate(frame.dtypes):
        if dtype.kind in "biuf":
            continue
        column = frame.iloc[:, at]
        filled = column.where(~column.isin(MISSING))
        numbers = pd.to_numeric(filled, errors="coerce")
        wrong = np.flatnonzero((numbers.isna() & filled.notna()).to_numpy())
        if wrong.size:
            cells, bad_columns = cells + wrong.size, bad_columns + 1
            first = first or (int(wrong[0]), at, str(column.iloc[wrong[0]]))
        frame.isetitem(at, numbers.to_numpy())
    if first is not None:
        raise UserError(_text_message(path, first, cells, bad_columns, rows, columns))
    return frame.to_numpy(dtype=np.float64)


def _text_message(
    path: Path,
    first: tuple[int, int, str],
    cells: int,
    bad_columns: int,
    rows: list[str] | None,
    columns: list[str] | None,
) -> str:
    row, column, cell = first
    where_column = repr(columns[column]) if columns else f"number {column + 1}"
    where_row = repr(rows[row]) if rows else f"number {row + 1}"
    whole = cells > 1 and bad_columns == 1
    if cell.replace(",", "", 1).replace("-", "", 1).isdigit() and "," in cell:
        advice = "Write decimals with a point and no thousands separators."
    elif whole:
        advice = (
            f"If that column holds classes, set data.label_column={where_column}; if it names the "
            "rows, set data.name_columns; else remove it."
        )
    else:
        advice = "Correct the file; leave a cell empty (or NA) when the value is missing."
    return (
        f"{path}: text where a number is needed: {cell!r} in column {where_column}, row {where_row}"
        + (f" ({cells} such cells in {bad_columns} columns). " if cells > 1 else ". ")
        + advice
    )
