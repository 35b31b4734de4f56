"""How a text file is laid out: its lines, delimiter, header and name columns."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nmfnet.errors import UserError

__all__ = ["MISSING", "Layout", "find_layout", "read_lines"]

MISSING: frozenset[str] = frozenset(
    ("", "NA", "N/A", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "<NA>")
)
"""Cells that mean "no value"."""

_PREVIEW = 50
_NAME_HEADER = re.compile(
    r"unnamed: 0|#otu id|index|symbol|(sample|gene|feature|cell|barcode|row)?[ _.]?(id|name)?s?",
    re.I,
)
"""Header of a first column that names the rows even if the names are numbers (or no header)."""

_NUMBER_LIKE = re.compile(r"[-+]?[0-9][0-9.,' %]*")
"""1,5 or 1,234 or 5 %: meant as a number, so an error and not a name."""


@dataclass(frozen=True)
class Layout:
    """What has to be known to parse a delimited text file."""

    delimiter: str
    skip: int  # lines before the first row of values
    header: list[str] | None
    columns: int
    name_columns: int


def read_lines(path: Path) -> Iterator[str]:
    """Lines without their ends; encodings and damaged archives become user errors."""
    opened: Any = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
    try:
        with opened as stream:
            first = True
            for raw in stream:
                if first and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise UserError(
                        f"{path} is UTF-16 text. Save it as UTF-8 (in Excel: 'CSV UTF-8')."
                    )
                yield raw.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n")
                first = False
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text ({error.reason}). Save it as UTF-8 (in Excel: 'CSV UTF-8')."
        ) from error
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error


def find_layout(
    path: Path,
    delimiter: str | None,
    header: bool | None,
    name_columns: int | None,
    label: str | None,
) -> Layout:
    """Recognise what is not given, from the first lines of the file.

    Raises
    ------
    UserError
        No lines, no rows below the header, a header of another width, no numeric column.
    """
    preview = list(islice(read_lines(path), _PREVIEW))
    comments = 2 if preview and preview[0].startswith(("#1.2", "#1.3")) else 0  # GCT: its size
    while comments < len(preview) and _is_comment(preview[comments]):
        comments += 1
    kept = [line for line in preview[comments:] if line.strip()]
    if not kept:
        raise UserError(f"{path} has no lines with values.")
    delimiter = delimiter or _sniff(kept, path)
    rows = [_cells(line, delimiter) for line in kept]
    has_header = _has_header(rows) if header is None else header
    names = [cell.strip() for cell in rows[0]] if has_header else None
    body = rows[1:] if has_header else rows
    if not body:
        raise UserError(f"{path} has a header line but no rows below it.")
    width = max(len(row) for row in body)
    if names is not None and len(names) == width - 1:  # R leaves the corner out
        names = ["", *names]
    if names is not None and len(names) == width + 1 and names[-1] == "":
        names = names[:-1]
    if names is not None and len(names) != width:
        raise UserError(
            f"{path}: the header line has {len(names)} fields and the rows have {width} (delimiter "
            f"{delimiter!r}). Set data.delimiter if that is not the delimiter, or mend the header."
        )
    count = _count_name_columns(body, names, width) if name_columns is None else name_columns
    if name_columns is None and names is not None and label in names[:count]:
        count = names.index(label)
    if count >= width:
        raise UserError(
            f"{path} has no numeric column: all {width} columns hold text (delimiter "
            f"{delimiter!r}). Set data.delimiter or data.name_columns."
        )
    blank = next(i for i, line in enumerate(preview[comments:]) if line.strip())
    return Layout(delimiter, comments + blank + int(has_header), names, width, count)


def _is_comment(line: str) -> bool:
    return line.startswith("#") and not any(mark in line for mark in "\t,;")


def _sniff(lines: list[str], path: Path) -> str:
    """The delimiter with the most columns among those that give every line about as many."""
    preferred = "\t" if ".tsv" in path.suffixes else ","
    best, most = preferred, 1
    for mark in (preferred, "\t", ",", ";", "|"):
        counts = [len(_cells(line, mark)) for line in lines]
        steady = max(counts[1:] or counts) - min(counts[1:] or counts) <= 1
        if steady and min(counts) > most:
            best, most = mark, min(counts)
    if most == 1 and all(len(line.split()) > 1 for line in lines):
        return " "
    return best


def _cells(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return next(csv.reader([" ".join(line.split())], delimiter=" "), [])
    return next(csv.reader([line], delimiter=delimiter), [])


def _is_number(cell: str) -> bool:
    text = cell.strip()
    if text in MISSING:
        return True
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false")
    return True


def _has_header(rows: list[list[str]]) -> bool:
    first = [cell.strip() for cell in rows[0]]
    if len(rows) > 1 and len(first) == len(rows[1]) - 1:
        return True
    body = first[1:] or first
    if not all(_is_number(cell) for cell in body):
        return True
    if _NAME_HEADER.fullmatch(first[0]):
        return True
    counted = [str(i) for i in range(len(first))]  # 0, 1, 2, ... is what pandas writes
    return len(first) > 3 and (first == counted or (len(first) > 9 and first[:-1] == counted[:-1]))


def _count_name_columns(body: list[list[str]], header: list[str] | None, width: int) -> int:
    count = 0
    while count < width:
        cells = [row[count].strip() for row in body if len(row) > count]
        text = sum(not _is_number(cell) and not _NUMBER_LIKE.fullmatch(cell) for cell in cells)
        numbers = sum(cell not in MISSING for cell in cells) - text
        if text == 0 or (numbers >= text if count == 0 else numbers > 0):
            break
        count += 1
    if count == 0 and header is not None and _NAME_HEADER.fullmatch(header[0]) and width > 1:
        return 1
    return count
