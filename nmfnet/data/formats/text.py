"""Delimited text (csv, tsv, txt; also .gz) to a `RawTable`.

Delimiter, header line and name columns are recognised unless given. A cell that is neither a number
nor empty is an error that names its column and row; nothing is dropped or filled silently.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nmfnet.data.formats.excel import Sheet
from nmfnet.data.formats.frames import take_label
from nmfnet.data.formats.layout import (
    Layout,
    Lines,
    clean,
    find_layout,
    read_lines,
    read_records,
)
from nmfnet.data.formats.memory import positions
from nmfnet.data.formats.raw import (
    MISSING,
    RawTable,
    check_memory,
    did_you_mean,
    number,
    shorten,
)
from nmfnet.data.sources.channels import parse_channel
from nmfnet.errors import UserError

__all__ = ["read_labels", "read_names", "read_text"]


def read_text(
    path: Lines,
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    name_columns: int | None = None,
    name_separator: str = ":",
    label: str | None = None,
    drop: Sequence[str] = (),
    missing_words: Sequence[str] = (),
    decimal: str = ".",
) -> RawTable:
    """Read a delimited text file.

    Parameters
    ----------
    path : Path or Sheet
        The file, of which ``.gz`` is unpacked, or the sheet of an Excel file.
    delimiter : str, optional
        One character or its name (``tab``); recognised when None.
    header : bool, optional
        Whether the first line holds names; recognised when None.
    name_columns : int, optional
        How many leading columns name the rows; recognised when None.
    name_separator : str
        Joins several name columns to one name.
    label : str, optional
        Name of the column, or else of the row, that holds classes.
    drop : sequence of str
        Columns, or else rows, to leave out.
    missing_words : sequence of str
        Cells that mean "no value", beside those of `MISSING`.
    decimal : {".", ","}
        Decimal mark.

    Raises
    ------
    UserError
        Text among the numbers, rows of another length than the first ones (with line numbers),
        unknown encoding, no numeric column, names that are not there.
    """
    if decimal not in (".", ","):
        raise UserError(f"data.decimal={decimal!r} is unknown. Allowed: '.' and ','.")
    missing = MISSING | set(missing_words)
    layout = find_layout(path, delimiter, header, name_columns, label, missing)
    fields = layout.header or []
    columns = [at for at in range(layout.columns) if at not in {*layout.names, *layout.left_out}]
    drop_rows = [name for name in drop if name not in fields]
    gone = {take_label(fields, name, str(path), "data.drop") for name in drop if name in fields}
    at = None
    if label is not None and label in fields:
        at = take_label(fields, label, str(path), "data.label_column")
        gone.add(at)
    columns = [column for column in columns if column not in gone]
    special = set(drop_rows) if label is None or at is not None else {*drop_rows, label}
    rows = _Rows(path, layout, columns, missing, decimal)
    rows.read(special, name_separator, at)
    column_names = [fields[i] for i in columns] if fields else None
    labels, labels_on = (rows.labels if at is not None else None), "rows"
    for name in special:
        if name not in rows.special:
            _refuse_unknown(name, label, rows.names, fields)
    if label is not None and at is None:
        labels, labels_on = [cell.strip() for cell in rows.special[label]], "columns"
    values = rows.values(column_names)
    names = rows.names if layout.names else None
    remarks = [*layout.remarks, *rows.remarks]
    if name_columns is None and len(layout.names) > 1 and fields and names:
        remarks += _joined_remark(names, [fields[i] for i in layout.names])
    return RawTable(values, names, column_names, labels, labels_on, remarks=tuple(remarks))


class _Wrong(NamedTuple):
    """A cell that is no number."""

    row: int
    column: int
    cell: str


class _Rows:
    """The rows of a file, read one after the other."""

    def __init__(
        self,
        path: Lines,
        layout: Layout,
        columns: Sequence[int],
        missing: Collection[str],
        decimal: str,
    ) -> None:
        self.path, self.layout, self.columns = path, layout, columns
        self.missing = missing
        numeric = isinstance(path, Sheet)  # whose numbers come with a point in any case
        self.marks = (
            {ord(","): ".", **({} if numeric else {ord("."): ","})} if decimal == "," else {}
        )
        first, last = min(columns, default=0), max(columns, default=-1)
        self.whole = slice(first, last + 1) if last + 1 - first == len(columns) else None
        self.numbers = array("d")
        self.names: list[str] = []
        self.labels: list[str] = []
        self.special: dict[str, list[str]] = {}
        self.wrong: Counter[int] = Counter()
        self.first: _Wrong | None = None
        self.remarks: list[str] = []

    def read(self, special: Collection[str], separator: str, label: int | None) -> None:
        """Read all rows; those called as in ``special`` are set apart as text."""
        layout = self.layout
        uneven: list[tuple[int, int]] = []
        empty: list[list[str]] = []
        for line, cells in read_records(self.path, layout.delimiter, layout.skip):
            if len(cells) != layout.columns:
                uneven.append((line, len(cells)))
            elif not any(cells) and len(cells) > 1:
                empty.append(cells)  # left out at the end of a file, and a row before others
            else:
                for row in (*empty, cells):
                    name = separator.join(clean(row[at]) for at in layout.names)
                    if name in special:
                        self._set_apart(name, self._picked(row))
                        continue
                    self.names.append(name)
                    if label is not None:
                        self.labels.append(row[label].strip())
                    self._append(self._picked(row))
                empty = []
        if uneven:
            self._refuse_uneven(uneven)
        if empty:
            self.remarks.append(f"{len(empty)} empty rows at the end of the file were left out.")

    def _picked(self, row: list[str]) -> list[str]:
        return [row[at] for at in self.columns] if self.whole is None else row[self.whole]

    def _set_apart(self, name: str, cells: list[str]) -> None:
        if name in self.special:
            raise UserError(f"{self.path} has several rows called {name!r}: rename all but one.")
        self.special[name] = cells

    def _append(self, cells: list[str]) -> None:
        if len(self.names) % 100_000 == 0:
            check_memory(16 * len(self.numbers), self.path)
        try:
            if "_" in "".join(cells):  # Python reads 1_000 as a number, and this package does not
                raise ValueError
            self.numbers.extend([*map(float, self._pointed(cells))])
        except ValueError:
            self.numbers.extend([*self._spelled(cells)])

    def _pointed(self, cells: list[str]) -> list[str]:
        """Cells with a point for the decimal mark; those that had a point before are no numbers then."""
        return [cell.translate(self.marks) for cell in cells] if self.marks else cells

    def _spelled(self, cells: list[str]) -> Iterable[float]:
        for at, (cell, pointed) in enumerate(zip(cells, self._pointed(cells), strict=True)):
            found = number(cell if cell.strip() in self.missing else pointed, self.missing)
            if found is None:
                self.wrong[at] += 1
                self.first = self.first or _Wrong(len(self.names) - 1, at, cell.strip())
            yield float("nan") if found is None else found

    def _refuse_uneven(self, uneven: list[tuple[int, int]]) -> None:
        line, count = uneven[0]
        more = [str(number) for number, _ in uneven[1:6]]
        others = f"; so have {len(uneven) - 1} further lines ({', '.join(more)})" if more else ""
        word = "the header" if self.layout.header is not None else "the others"
        raise UserError(
            f"{self.path} is not a regular table: line {line} has {count} fields, {word} "
            f"{self.layout.columns}{others}. Is a delimiter ({self.layout.delimiter!r}) inside of a "
            "cell, which then needs quotes, or is data.delimiter another one?"
        )

    def values(self, column_names: list[str] | None) -> np.ndarray:
        """The numbers, shape (rows, columns); NaN where a cell holds no value."""
        if self.first is not None:
            raise UserError(self._message(self.first, column_names))
        return np.frombuffer(self.numbers).reshape(len(self.names), len(self.columns))

    def _message(self, first: _Wrong, column_names: list[str] | None) -> str:
        row, column, cell = first
        called = column_names or [f"number {at + 1}" for at in self.columns]
        where_row = repr(self.names[row]) if self.layout.names else f"number {row + 1}"
        where_column = repr(called[column]) if column_names else called[column]
        count = self.wrong.total()
        texts = [called[at] for at, times in self.wrong.items() if 2 * times > len(self.names)]
        if self.marks and re.fullmatch(r"-?\d[\d.,]*", cell):
            advice = (
                "With data.decimal=',' write decimals with a comma and no thousands separators."
            )
        elif re.fullmatch(r"-?\d[\d.]*,[\d.,]*", cell):
            advice = (
                "Write decimals with a point and no thousands separators, or set data.decimal=',' "
                "where the comma is the decimal mark."
            )
        elif count > 1 and len(self.wrong) == 1:
            advice = (
                f"If that column holds classes, set data.label_column={where_column}; if it names "
                f"the rows, set data.name_columns; else leave it out with data.drop="
                f"[{called[column]}]."
            )
        elif count > 1 and texts and column_names:
            advice = (
                f"Columns of text: {shorten(texts, 8)}. Leave them out with data.drop="
                f"[{','.join(texts[:8])}], or say which one holds classes (data.label_column=...)."
            )
        else:
            advice = (
                "Correct the file; leave a cell empty (or NA) when the value is missing, or say "
                f"data.missing_words=[{cell}] if that means so."
            )
        return (
            f"{self.path}: text where a number is needed: {cell!r} in column {where_column}, row "
            f"{where_row}"
            + (f" ({count} such cells in {len(self.wrong)} columns). " if count > 1 else ". ")
            + advice
        )


def _refuse_unknown(
    name: str, label: str | None, rows: Sequence[str], columns: Sequence[str]
) -> None:
    option = f"data.label_column={name!r}" if name == label else f"data.drop: {name!r}"
    raise UserError(
        f"{option} is neither a column nor a row of the file. The columns are "
        f"{shorten(columns, 5) or 'without names'}.{did_you_mean(name, [*columns, *rows])}"
    )


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


def read_labels(path: Path, names: Sequence[str]) -> list[str]:
    """The class of each sample: one per line in their order, or lines of name and class.

    Raises
    ------
    UserError
        Lines with more than two fields, another number of lines, samples without a line.
    """
    mark = "\t" if any("\t" in line for line in islice(read_lines(path), 50)) else ","
    rows = [[cell.strip() for cell in cells] for _, cells in read_records(path, mark)]
    if all(len(row) == 2 for row in rows):
        known = [name for name, _ in rows]
        order = positions(known, names, str(path), "sample")
        return [rows[at][1] for at in order]
    if any(len(row) > 1 for row in rows):
        raise UserError(
            f"{path} needs one class per line, or a sample name and its class on every line."
        )
    return read_names(path, len(names))
