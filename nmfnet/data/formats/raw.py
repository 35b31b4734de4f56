"""A table as its file holds it, before anybody has said which axis the samples are on."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from nmfnet.errors import UserError, reason

__all__ = [
    "MISSING",
    "RawTable",
    "as_text",
    "check_file",
    "check_memory",
    "did_you_mean",
    "file_sha256",
    "is_missing",
    "is_sparse",
    "number",
    "numbered",
    "reading",
    "shorten",
]

MISSING: frozenset[str] = frozenset(
    ("", "NA", "N/A", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "<NA>", "NaT")
)
"""Cells of text that mean "no value", for numbers and for classes alike."""


@dataclass
class RawTable:
    """Rows and columns of a file.

    Attributes
    ----------
    values : ndarray of float64 or scipy.sparse.csr_matrix, shape (rows, columns)
    row_names, column_names : list of str or None
        None where the file has none.
    labels : list of str or None
        Text of the label column or label row; "" where empty.
    labels_on : {"rows", "columns"}
        The axis that the labels belong to.
    mask : ndarray or csr_matrix of float64, or None
        Mask or weights, from formats that store one.
    orientation : str or None
        Set when the file itself says where the samples are (h5ad; named npz; barcodes beside mtx).
    remarks : tuple of str
        What was guessed and should be said.
    """

    values: Any
    row_names: list[str] | None = None
    column_names: list[str] | None = None
    labels: list[str] | None = None
    labels_on: str = "rows"
    mask: Any = None
    orientation: str | None = None
    remarks: tuple[str, ...] = ()


def check_file(path: str | Path, what: str = "Data file") -> Path:
    """The path of a readable, non-empty file.

    Raises
    ------
    UserError
        Missing (with near names in the folder), a folder, empty or not readable.
    """
    file = Path(path).expanduser()
    try:
        if file.is_dir():
            inside = sorted(p.name for p in file.iterdir() if p.is_file())
            raise UserError(
                f"{what} {file} is a folder. Give one file inside it"
                + (f", for instance {file / inside[0]}." if inside else "; it holds none.")
            )
        if not file.exists():
            near = did_you_mean(file.name, _siblings(file))
            raise UserError(
                f"{what} {file} does not exist (looked in {file.resolve().parent}).{near}"
            )
        if file.stat().st_size == 0:
            raise UserError(f"{what} {file} is empty (0 bytes).")
        with file.open("rb"):
            pass
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a NUL in the name
        said = getattr(error, "strerror", None) or error
        raise UserError(f"{what} {file} cannot be read: {said}.") from error
    return file


def _siblings(file: Path) -> list[str]:
    folder = file.resolve().parent
    return [p.name for p in folder.iterdir()] if folder.is_dir() else []


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest known word, else an empty text."""
    import difflib

    near = [name for name in known if word and name.lower().startswith(word.lower())]
    near = near or difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def shorten(names: Sequence[object], count: int = 3) -> str:
    """The first names for a message: ``'a', 'b', 'c', ...``."""
    return ", ".join(repr(name) for name in names[:count]) + (", ..." if len(names) > count else "")


def numbered(word: str, count: int) -> list[str]:
    """Names for a table without names: ``sample_0001``, ``sample_0002``, ..."""
    digits = max(4, len(str(count)))
    return [f"{word}_{str(i).zfill(digits)}" for i in range(1, count + 1)]


def is_missing(cell: Any) -> bool:
    """Whether a cell holds no value: None, NaN, NaT, ``pandas.NA``, or a masked entry."""
    if cell is None or cell is np.ma.masked:
        return True
    pandas = sys.modules.get("pandas")  # where it was never imported, nothing of it is in a cell
    found = cell != cell if pandas is None else pandas.isna(cell)
    return found is True or (isinstance(found, np.bool_) and bool(found))


def as_text(cell: Any) -> str:
    """A name or class as text: bytes are decoded, whole floats lose their ``.0``, missing is ""."""
    if is_missing(cell):
        return ""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, tuple):
        return ":".join(as_text(part) for part in cell)
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


def number(cell: Any, missing: Collection[str] = MISSING) -> float | None:
    """A cell as a float, NaN where it holds no value, or None where it is not a real number.

    Text counts as the number that it spells, and ``true`` and ``false`` as 1 and 0; dates, spans of
    time and complex numbers are no numbers, whatever they convert to.
    """
    if isinstance(cell, str):
        text = cell.strip()
        if text in missing:
            return float("nan")
        if "_" in text:  # Python reads 1_000 as a number; tables write names so
            return None
        cell = {"true": 1.0, "false": 0.0}.get(text.lower(), text)
    elif is_missing(cell):
        return float("nan")
    elif not isinstance(cell, (Real, Decimal, np.bool_)) or isinstance(cell, np.timedelta64):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


@contextmanager
def reading(what: object, kind: str) -> Iterator[None]:
    """Turn whatever a foreign reader raises into one sentence, "``what`` is not ``kind``: ...".

    Raises
    ------
    UserError
        In place of every other exception inside the block.
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(
            f"{what} does not fit into the memory of this machine ({memory() / 1e9:.1f} GB). "
            "data=stream reads .npy and .parquet from disk."
        ) from error
    except Exception as error:
        raise UserError(f"{what} is not {kind}: {reason(error)[:300]}.") from error


def memory() -> int:
    """Bytes of memory that this machine has; no limit where it does not say."""
    if not hasattr(os, "sysconf"):
        return sys.maxsize
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(size: int, what: object) -> None:
    """Refuse what says that it needs more memory than the machine has, before any is taken.

    Raises
    ------
    UserError
        ``size`` bytes are more than there are.
    """
    if size > memory():
        raise UserError(
            f"{what} says that it needs {size / 1e9:.4g} GB, but this machine has "
            f"{memory() / 1e9:.4g} GB of memory. The file is damaged, or it is too large: "
            "data=stream reads .npy and .parquet from disk."
        )


def file_sha256(path: Path) -> str:
    """sha256 of the bytes of a file, as hexadecimal text."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_sparse(values: Any) -> bool:
    """Whether ``values`` is a scipy sparse matrix or array."""
    return bool(sp.issparse(values))
