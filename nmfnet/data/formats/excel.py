"""Sheets of Excel files (xlsx, xlsm), as the lines that the same table has in a csv file."""

from __future__ import annotations

import csv
import io
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nmfnet.data.formats.raw import as_text, check_memory, did_you_mean, reading, shorten
from nmfnet.errors import UserError

__all__ = ["SHEETS", "Sheet", "read_sheet"]

SHEETS = ("xlsx", "xlsm")
"""Endings of files that have sheets."""

_OLD = b"\xd0\xcf\x11\xe0"
"""First bytes of an Excel file of before 2007, and of one with a password."""

_MOST_ROWS = 1 << 20
"""Of a sheet."""

_BYTES = 64
"""Of memory that a cell needs, about."""


@dataclass(frozen=True)
class Sheet:
    """The filled part of a sheet, line by line; it stands where the path of a text file does.

    Attributes
    ----------
    path : Path
    title : str
    rows : list of list of str
        Cells as text, from the first row of the sheet on; empty ones at their ends are left out.
    remarks : tuple of str
        What was guessed and should be said.
    """

    path: Path
    title: str
    rows: list[list[str]]
    remarks: tuple[str, ...] = ()
    suffix: ClassVar[str] = ".csv"
    suffixes: ClassVar[Sequence[str]] = (".csv",)

    def __str__(self) -> str:
        return f"{self.path}, sheet {self.title!r}"

    def lines(self) -> Iterator[str]:
        """A comma-separated line for every row, all of one width, from the first column that is used."""
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        width = max(map(len, self.rows), default=0)
        first = min((_filled(row) for row in self.rows if row), default=0)
        above = True
        for row in self.rows:
            above = above and not row
            written.seek(0)
            written.truncate()
            writer.writerow([] if above else [*row[first:], *[""] * (width - max(first, len(row)))])
            yield written.getvalue()


def _filled(row: list[str]) -> int:
    """The first cell that is not empty."""
    return next(at for at, cell in enumerate(row) if cell)


def read_sheet(file: Path, sheet: str | int | None = None) -> Sheet:
    """A sheet of an Excel file; cells with formulas have the value that was saved with them.

    Parameters
    ----------
    file : Path
    sheet : str or int, optional
        Its name, or its number from 1 on; the first one that is not empty when None.

    Raises
    ------
    UserError
        A damaged or protected file, one that is larger than the memory, no such sheet, or openpyxl is
        not there.
    """
    with reading(file, "a readable Excel file"):
        try:
            import openpyxl
        except ImportError as error:
            raise UserError(
                f"{file}: reading Excel files needs openpyxl. Install it: pip install 'nmfnet[excel]'."
            ) from error
        with file.open("rb") as stream:
            if stream.read(len(_OLD)) == _OLD:
                raise UserError(
                    f"{file} has a password, or the format of before 2007: save it as .xlsx without a "
                    "password."
                )
        with zipfile.ZipFile(file) as packed:
            check_memory(sum(member.file_size for member in packed.infolist()), file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and rules of input, which are no cells
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            try:
                at, remarks = _chosen(book.worksheets, sheet, file)
                rows = [*_rows(book.worksheets[at], file)]
            finally:
                book.close()
    while rows and not rows[-1]:
        rows.pop()
    return Sheet(file, book.worksheets[at].title, rows, remarks)


def _chosen(sheets: Any, said: str | int | None, file: Path) -> tuple[int, tuple[str, ...]]:
    """The position of the sheet that is meant, and what should be said."""
    titles = [sheet.title for sheet in sheets]
    if said is None:
        full = [at for at, sheet in enumerate(sheets) if any(_rows(sheet, file))]
        if not full:
            raise UserError(f"{file} has no sheet with cells in it.")
        if len(full) == 1:
            return full[0], ()
        listed = shorten([titles[at] for at in full], 8)
        note = f"{file.name} has the sheets {listed}; {titles[full[0]]!r} is read (data.sheet)."
        return full[0], (note,)
    if str(said) in titles:
        return titles.index(str(said)), ()
    if isinstance(said, int) and 1 <= said <= len(titles):
        return said - 1, ()
    raise UserError(
        f"data.sheet={said} is no sheet of {file}, which has {shorten(titles, 8)}; a number counts them "
        f"from 1 on.{did_you_mean(str(said), titles)}"
    )


def _rows(sheet: Any, file: Path) -> Iterator[list[str]]:
    """Cells of every row as text, without the empty ones at its end."""
    sheet.reset_dimensions()  # some programs write a wrong size
    count = 0
    for at, cells in enumerate(sheet.iter_rows(values_only=True)):
        if at == _MOST_ROWS:
            raise UserError(f"{file}: the sheet {sheet.title!r} says that it has over {at} rows.")
        row = [as_text(cell) for cell in cells]
        while row and not row[-1].strip():
            row.pop()
        count += len(row)
        if at % 1000 == 0:
            check_memory(_BYTES * count, file)
        yield row
