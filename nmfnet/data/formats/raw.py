"""A table as its file holds it, before anybody has said which axis the samples are on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from nmfnet.errors import UserError

__all__ = [
    "RawTable",
    "check_file",
    "did_you_mean",
    "file_sha256",
    "is_sparse",
    "numbered",
    "shorten",
]


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
    mask : ndarray of bool or None
        True = observed, from formats that store a mask.
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
    except OSError as error:
        raise UserError(f"{what} {file} cannot be read: {error.strerror or error}.") from error
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


def shorten(names: Sequence[str], count: int = 3) -> str:
    """The first names for a message: ``'a', 'b', 'c', ...``."""
    return ", ".join(repr(name) for name in names[:count]) + (", ..." if len(names) > count else "")


def numbered(word: str, count: int) -> list[str]:
    """Names for a table without names: ``sample_0001``, ``sample_0002``, ..."""
    digits = max(4, len(str(count)))
    return [f"{word}_{i:0{digits}d}" for i in range(1, count + 1)]


def file_sha256(path: Path) -> str:
    """sha256 of the bytes of a file, as hexadecimal text."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_sparse(values: Any) -> bool:
    """Whether ``values`` is a scipy sparse matrix or array."""
    return bool(sp.issparse(values))
