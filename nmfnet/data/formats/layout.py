"""How a text file is laid out, and the one tokenizer that its preview and its data go through."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nmfnet.data.formats.excel import Sheet
from nmfnet.data.formats.frames import ROW_NUMBERS, counts_up
from nmfnet.data.formats.raw import MISSING, number
from nmfnet.errors import UserError, reason

__all__ = ["DELIMITERS", "Layout", "Lines", "clean", "find_layout", "read_lines", "read_records"]

Lines = Path | Sheet
"""What has lines of delimited text: a text file, or a sheet."""

_PREVIEW = 50
_NAME_HEADER = re.compile(
    r"unnamed: 0|#otu id|index|symbol|barcode|(sample|gene|feature|cell|barcode|row)?[ _.]?(id|name)?s?"
    r"|.*[ _.-](id|name|barcode|accession)s?",
    re.I,
)
"""Header of a first column that names the rows even if the names are numbers (or no header)."""

_NUMBER_LIKE = re.compile(r"[-+]?[0-9][0-9.,' %]*")
"""1,5 or 1,234 or 5 %: meant as a number, so an error and not a name."""

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.I)
"""First line that some spreadsheets write to say the delimiter."""

DELIMITERS = {
    "tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|",
}  # fmt: skip
"""Delimiters by the words that may be said for them."""

_FEATURE_COUNTS = ["Chr", "Start", "End", "Strand", "Length"]
_LONGEST_LINE = 1 << 30

_AXIS = re.compile(
    r"(user|item|movie|film|book|product|row|col(umn)?|gene|cell|doc(ument)?|word|term|sample|"
    r"feature|i|j)([ _.]?(id|name|no|number|index))?s?",
    re.I,
)
_YEAR_2000 = 8e8  # in seconds since 1970, about
_ENTRY = re.compile(r"(rating|value|count|score|weight|entry|x|n|freq(uency)?)s?", re.I)


@dataclass(frozen=True)
class Layout:
    """What has to be known to parse a delimited text file.

    Attributes
    ----------
    delimiter : str
    skip : int
        Lines before the first row of values.
    header : list of str or None
        One name for each field of a row.
    columns : int
        Fields of every row.
    names : tuple of int
        Fields that name the row.
    left_out : tuple of int
        Fields that are no values: row numbers, empty ends of lines, annotation.
    remarks : tuple of str
        What was guessed and should be said.
    """

    delimiter: str
    skip: int
    header: list[str] | None
    columns: int
    names: tuple[int, ...]
    left_out: tuple[int, ...]
    remarks: tuple[str, ...]


def read_lines(path: Lines) -> Iterator[str]:
    """Lines without their ends; see `_lines`."""
    return (line.rstrip("\n") for line in _lines(path))


def _lines(path: Lines) -> Iterator[str]:
    r"""Lines that end in \n, whatever ended them (\n, \r\n, \r), without a byte order mark.

    Raises
    ------
    UserError
        Another encoding, or a damaged archive.
    """
    if isinstance(path, Sheet):
        yield from path.lines()
        return
    opened: Any = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
    try:
        with opened as binary:
            if binary.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise UserError(f"{path} is UTF-16 text. Save it as UTF-8 (in Excel: 'CSV UTF-8').")
            stream = io.TextIOWrapper(binary, encoding="utf-8-sig", newline=None)
            while line := stream.readline(_LONGEST_LINE):
                if len(line) == _LONGEST_LINE:
                    raise UserError(f"{path} has a line of more than {_LONGEST_LINE} characters.")
                yield line
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text ({error.reason}). Save it as UTF-8 (in Excel: 'CSV UTF-8')."
        ) from error
    except (EOFError, gzip.BadGzipFile, OSError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {reason(error)}.") from error


def read_records(path: Lines, delimiter: str, skip: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not a blank line: (number of its first line, its fields).

    Parameters
    ----------
    path : Path or Sheet
    delimiter : str
        One character; a blank stands for any run of blanks.
    skip : int
        Lines to leave out.

    Raises
    ------
    UserError
        A field of more than 131072 characters, as after a quotation mark that is never closed.
    """
    return _records(islice(_lines(path), skip, None), delimiter, skip, path)


def _records(
    lines: Iterator[str], delimiter: str, skip: int, path: Lines
) -> Iterator[tuple[int, list[str]]]:
    if delimiter == " ":
        lines = (" ".join(line.split()) + "\n" for line in lines)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    start = skip + 1
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield start, cells
            start = skip + reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f'{path}, line {start}: {reason(error)}. Is a quotation mark (") left open there?'
        ) from error


def clean(cell: str) -> str:
    """A name as it is shown: without blanks around it and line breaks within it."""
    return re.sub(r"\s*\n\s*", " ", cell.strip())


def find_layout(
    path: Lines,
    delimiter: str | None = None,
    header: bool | None = None,
    name_columns: int | None = None,
    label: str | None = None,
    missing: Collection[str] = MISSING,
) -> Layout:
    """Recognise what is not given, from the first lines of the file.

    Raises
    ------
    UserError
        No lines, no rows below the header, a header of another width, no numeric column, lines that
        are triples.
    """
    lines, hashed, said = _preview(path)
    if not lines:
        raise UserError(f"{path} has no lines with values.")
    top, texts = lines[0][0], [line for _, line in lines]
    mark = _delimiter(delimiter) or said or sniff(texts, path)
    found = list(_records(iter(texts), mark, top, path))
    if len(texts) == _PREVIEW and len(found) > 1:
        found.pop()  # perhaps cut inside of quotes
    rows = [cells for _, cells in found]
    width = _width(rows[1:] or rows)
    above = next((cells for _, cells in _records(iter(hashed), mark, 0, path)), [])
    marked = len(above) > 1 and len(above) in (width, width - 1) and header is not False
    if marked and not _has_header(rows, missing):
        names, body, skip = above, rows, top
    elif _has_header(rows, missing) if header is None else header:
        names, body = rows[0], rows[1:]
        skip = found[1][0] - 1 if len(found) > 1 else top + 1
    else:
        names, body, skip = None, rows, top
    if not body:
        raise UserError(f"{path} has a header line but no rows below it.")
    names, empty, remarks = _header(names, body, _width(body), path, mark)
    width = _width(body)
    if name_columns is None:
        remarks += _triples(names, body, width, path, mark)
    chosen, left_out, more = _columns(names, body, width - empty, name_columns, label, missing)
    if len(chosen) + len(left_out) >= width - empty:
        guessed = f" (delimiter {mark!r}). Set data.delimiter or" if delimiter is None else ". Set"
        raise UserError(
            f"{path} has no numeric column: all {width} columns hold text{guessed} data.name_columns."
        )
    ends = tuple(range(width - empty, width))
    return Layout(mark, skip, names, width, chosen, (*left_out, *ends), (*remarks, *more))


def _preview(path: Lines) -> tuple[list[tuple[int, str]], list[str], str | None]:
    """First lines of the table with their numbers, the last comment above them, its delimiter."""
    lines = enumerate(_lines(path))
    hashed: list[str] = []
    said = None
    for at, line in lines:
        if at == 0 and (match := _SEPARATOR_LINE.fullmatch(line)):
            said = match[1]
        elif at == 0 and line.startswith(("#1.2", "#1.3")):  # GCT: its size is on the second line
            next(lines, None)
        elif line.startswith("#"):
            hashed = [line]
        elif line.strip():
            return [(at, line), *islice(lines, _PREVIEW - 1)], hashed, said
    return [], hashed, said


def _delimiter(given: str | None) -> str | None:
    if given is None:
        return None
    mark = DELIMITERS.get(given.lower(), given)
    if len(mark) != 1 or mark in '"\n\r':
        raise UserError(
            f"data.delimiter={given!r} is not a delimiter. Give one character, or one of the words "
            f"{', '.join(word for word in DELIMITERS if word.isalpha())}."
        )
    return mark


def sniff(lines: Sequence[str], path: Lines) -> str:
    """The delimiter with the most columns among those that most lines agree about."""
    preferred = "\t" if ".tsv" in path.suffixes else ","
    best, most = preferred, 1
    for mark in (preferred, "\t", ",", ";", "|"):
        try:
            counts = [len(cells) for cells in csv.reader(lines, delimiter=mark) if cells]
        except csv.Error:  # a whole line of a wide table in one field
            continue
        common, times = Counter(counts[1:] or counts).most_common(1)[0]
        steady = 2 * times > len(counts[1:] or counts)
        if steady and common > most and counts[0] > 1:
            best, most = mark, common
    if most == 1 and all(len(line.split()) > 1 for line in lines if line.strip()):
        return " "
    return best


def _width(rows: Sequence[list[str]]) -> int:
    """Fields of most rows."""
    return Counter(map(len, rows)).most_common(1)[0][0] if rows else 0


def _has_header(rows: Sequence[list[str]], missing: Collection[str]) -> bool:
    first, body = [cell.strip() for cell in rows[0]], rows[1:]
    if body and len(first) == _width(body) - 1:  # R leaves the corner out
        return True
    for at in range(min(1, len(first) - 1), len(first)):
        if number(first[at], missing) is None:  # text above numbers
            below = [row[at] for row in body if len(row) > at and row[at].strip() not in missing]
            if 2 * sum(number(cell) is not None for cell in below) >= len(below):
                return True
    if _NAME_HEADER.fullmatch(first[0]):
        return True
    counted = [str(i) for i in range(len(first))]  # 0, 1, 2, ... is what pandas writes
    return len(first) > 3 and (first == counted or (len(first) > 9 and first[:-1] == counted[:-1]))


def _header(
    names: list[str] | None, body: Sequence[list[str]], width: int, path: Lines, mark: str
) -> tuple[list[str] | None, int, tuple[str, ...]]:
    """(One name for each field, how many fields are empty ends of lines, remarks)."""
    ends = width > 1 and all(len(row) == width and not row[-1].strip() for row in body)
    if names is None:
        return None, int(ends), ()
    names = [clean(cell) for cell in names]
    if len(names) == width + 1 and names[-1] == "":
        names.pop()
    if ends and (len(names) == width - 1 or names[-1] == ""):
        said = "Every row ends with a delimiter: the empty last column was left out."
        return [*names, ""][:width], 1, (said,)
    if len(names) == width:
        return names, 0, ()
    if len(names) == width - 1 and not _NAME_HEADER.fullmatch(names[0]):
        said = "The header has one field less than the rows, so the first column names the rows."
        return ["", *names], 0, (said,)
    raise UserError(
        f"{path}: the header line has {len(names)} fields and the rows have {width} (delimiter "
        f"{mark!r}). Set data.delimiter if that is not the delimiter, or mend the header."
    )


def _columns(
    header: list[str] | None,
    body: Sequence[list[str]],
    width: int,
    name_columns: int | None,
    label: str | None,
    missing: Collection[str],
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]]:
    """(Fields that name the row, fields to leave out, remarks)."""
    if name_columns is not None:
        if not 0 <= name_columns < width:
            raise UserError(
                f"data.name_columns={name_columns} must lie between 0 and {width - 1}: the file "
                f"has {width} columns, and one at least must hold numbers."
            )
        return tuple(range(name_columns)), (), ()
    if header is None:
        return tuple(range(_text_columns(body, 0, width, missing))), (), ()
    if header[1:6] == _FEATURE_COUNTS and width > 6:
        said = f"featureCounts: the columns {', '.join(_FEATURE_COUNTS)} were left out."
        return (0,), (1, 2, 3, 4, 5), (said,)
    numbers = [at for at in range(width) if ROW_NUMBERS.fullmatch(header[at]) and _counts(body, at)]
    texts = _text_columns(body, 1, width, missing)
    if _counts(body, 0) and texts > 1 and (header[0] == "" or header[0].lower() == "index"):
        numbers.insert(0, 0)
    notes = []
    for at in numbers:
        column = repr(header[at]) if header[at] else "The first column"
        notes.append(f"{column} numbers the rows and was left out.")
    start = next(at for at in range(width + 1) if at not in numbers)
    stop = _text_columns(body, start, width, missing)
    if label in header[start:stop]:
        stop = header.index(label)
    if stop > start or start > 0 or not (width > 1 and _NAME_HEADER.fullmatch(header[0])):
        if stop == 0 and len(body) > 4 and _counts(body, 0):
            notes.append(
                f"The first column ({header[0]!r}) counts the rows. If it is no feature, set "
                "data.name_columns=1."
            )
        return tuple(range(start, stop)), tuple(numbers), tuple(notes)
    if header[0] and not ROW_NUMBERS.fullmatch(header[0]):
        notes.append(
            f"The first column ({header[0]!r}) names the rows although it holds numbers; "
            "data.name_columns=0 makes it a feature."
        )
    return (0,), tuple(numbers), tuple(notes)


def _counts(body: Sequence[list[str]], at: int) -> bool:
    cells = [number(row[at]) for row in body if len(row) > at]
    return None not in cells and counts_up([cell for cell in cells if cell is not None])


def _text_columns(
    body: Sequence[list[str]], start: int, width: int, missing: Collection[str]
) -> int:
    """Where the columns of text end that begin at ``start``."""
    stop = start
    while stop < width:
        cells = [row[stop].strip() for row in body if len(row) > stop]
        text = sum(
            number(cell, missing) is None and not _NUMBER_LIKE.fullmatch(cell) for cell in cells
        )
        numbers = sum(cell not in missing for cell in cells) - text
        if text == 0 or (numbers >= text if stop == start else numbers > 0):
            break
        stop += 1
    return stop


def _triples(
    header: list[str] | None, body: Sequence[list[str]], width: int, path: Lines, mark: str
) -> tuple[str, ...]:
    """What to say of lines that may be (row, column, value) triples, with or without a time.

    Raises
    ------
    UserError
        The header says that they are, or the times do.
    """
    if width not in (3, 4):
        return ()
    numbers = [[number(cell) for cell in row] for row in body if len(row) == width]
    timed = width == 4 and all(row[3] is not None and _YEAR_2000 < row[3] < 1e10 for row in numbers)
    if header is None:
        sure = timed
    else:
        sure = bool(
            _AXIS.fullmatch(header[0])
            and _AXIS.fullmatch(header[1])
            and _ENTRY.fullmatch(header[2])
        )
    columns = header[:3] if header is not None else ["1", "2", "3"]
    usual = "," if path.suffix == ".csv" else "\t"
    word = next((word for word, known in DELIMITERS.items() if known == mark), mark)
    advice = "data=triples " + " ".join(
        f"data.{option}={name}"
        for option, name in zip(("row", "column", "value"), columns, strict=True)
    )
    advice += "" if mark == usual else f" data.delimiter={word}"
    if sure:
        raise UserError(
            f"{path}: these lines look like (row, column, value) triples: use {advice}. "
            "data.name_columns=... says that they are a table all the same."
        )
    if not _like_ratings(numbers):
        return ()
    return (f"If the lines are (row, column, value) triples, use {advice}.",)


def _like_ratings(rows: Sequence[Sequence[float | None]]) -> bool:
    """Whether the first two columns are numbers of things, paired at most once, and the third few."""
    if len(rows) < 5 or any(cell is None for row in rows for cell in row):
        return False
    firsts, seconds, values = [*zip(*rows, strict=True)][:3]
    whole = all(cell >= 0 and cell == int(cell) for cell in [*firsts, *seconds])
    paired = len(set(zip(firsts, seconds, strict=True))) == len(rows)
    few = len(set(values)) < min(11, len(set(firsts)) + len(set(seconds)), len(rows))
    return whole and paired and few and len(set(firsts)) < len(rows)
