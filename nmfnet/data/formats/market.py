"""Matrix Market files, and the names of rows and columns in files beside them."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.frames import as_float64
from nmfnet.data.formats.layout import read_lines
from nmfnet.data.formats.raw import RawTable, check_memory, reading
from nmfnet.errors import UserError

__all__ = ["read_mtx", "second_or_first"]

_CELLS = ("barcodes.tsv", "barcodes.txt")
_GENES = ("features.tsv", "genes.tsv", "features.txt", "genes.txt")


def read_mtx(file: Path) -> RawTable:
    """Read a Matrix Market file, with the names that 10x and others put beside it."""
    with reading(file, "a readable Matrix Market file"):
        values = _matrix_market(file)
    raw = RawTable(as_float64(values, str(file)))
    cells, genes = _beside(file, _CELLS), _beside(file, _GENES)
    if cells is None and genes is None:
        for name, endings in (("row_names", ("rows",)), ("column_names", ("cols", "columns"))):
            if (found := _beside(file, _endings(file, endings))) is not None:
                setattr(raw, name, second_or_first(found[1]))
        return raw
    known = [part for part in (cells, genes) if part is not None]
    raw.remarks = (f"Names were read from {' and '.join(name for name, _ in known)}.",)
    raw.orientation, headers = _ten_x(raw.values.shape, known, cells is not None, file)
    names = [
        second_or_first(table[header:]) for (_, table), header in zip(known, headers, strict=True)
    ]
    cell_names = names[0] if cells is not None else None
    gene_names = names[-1] if genes is not None else None
    raw.row_names, raw.column_names = (
        (gene_names, cell_names)
        if raw.orientation == "features_by_samples"
        else (cell_names, gene_names)
    )
    return raw


_Names = tuple[str, list[list[str]]]
"""Name of a file beside the matrix, and the fields of its lines."""


def _ten_x(
    shape: tuple[int, int], known: Sequence[_Names], cells_first: bool, file: Path
) -> tuple[str, tuple[int, ...]]:
    """(What the rows are, how many lines of each file of names are a header).

    Raises
    ------
    UserError
        The names fit neither way.
    """
    lengths = [len(table) for _, table in known]
    for headers in sorted(itertools.product((0, 1), repeat=len(known)), key=sum):
        sizes = tuple(n - header for n, header in zip(lengths, headers, strict=True))
        for orientation, axes in (("features_by_samples", (1, 0)), ("samples_by_features", (0, 1))):
            axes = axes if cells_first else axes[::-1]
            if all(size == shape[axis] for size, axis in zip(sizes, axes, strict=False)):
                return orientation, headers
    said = " and ".join(f"{name} ({n} lines)" for (name, _), n in zip(known, lengths, strict=True))
    raise UserError(
        f"{file} is {shape[0]} x {shape[1]}, and the names beside it do not fit: {said}. One name "
        "per line is needed, for cells and for genes."
    )


def _matrix_market(file: Path) -> Any:
    """The matrix of a Matrix Market file; sizes are compared with the memory before it is taken.

    scipy's own reader is not used: damaged files end the process (a number such as ``8E`` or a NUL
    byte is a segmentation fault).

    Raises
    ------
    ValueError, UserError
        A header or a body that is not as the format says.

    Source: Boisvert, Pozo & Remington 1996, The Matrix Market exchange formats (NISTIR 5935).
    """
    lines = read_lines(file)
    words = next(lines, "").lower().split()
    if len(words) != 5 or words[:2] != ["%%matrixmarket", "matrix"]:
        raise ValueError("its first line is not '%%MatrixMarket matrix ...'")
    layout, field, symmetry = words[2:]
    if field == "complex" or symmetry == "hermitian":
        raise UserError(f"{file} holds complex numbers; real numbers are needed.")
    kinds = (("coordinate", "array"), ("real", "double", "integer", "unsigned-integer", "pattern"))
    if layout not in kinds[0] or field not in kinds[1] or symmetry not in _MIRRORED:
        raise ValueError(f"'{layout} {field} {symmetry}' is not known")
    line = next((line for line in lines if line.strip() and not line.startswith("%")), "")
    sizes = [int(word) for word in line.split()]
    if len(sizes) != (3 if layout == "coordinate" else 2) or min(sizes) < 0:
        raise ValueError(f"its line of sizes is {line[:60]!r}")
    if symmetry != "general" and sizes[0] != sizes[1]:
        raise ValueError(f"it is {symmetry}, but {sizes[0]} x {sizes[1]}")
    stored = sizes[2] if layout == "coordinate" else math.prod(sizes) // 2
    size = file.stat().st_size * (_DEFLATED if file.suffix == ".gz" else 1)
    if stored > size:
        raise ValueError(f"it says that it holds {stored} entries, which {size} bytes cannot hold")
    values = _coordinates if layout == "coordinate" else _columns
    return values(lines, sizes, field, symmetry, file)


_DEFLATED = 1100
"""Bytes that one byte of a gz archive can stand for, at most."""

_MIRRORED = {"general": None, "symmetric": 1.0, "skew-symmetric": -1.0}
"""Sign of the upper triangle, which files of a symmetric matrix leave out."""


def _numbers(lines: Iterable[str], count: int, width: int, field: str) -> np.ndarray:
    """That many lines of numbers, shape (count, width)."""
    found = np.zeros((0, width))
    if count:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are no numbers, which is said below
            found = np.loadtxt(lines, comments="%", ndmin=2, max_rows=count + 1)
    if found.shape != (count, width):
        raise ValueError(
            f"it says that it holds {count} entries of {width} numbers, and has {found.shape[0]} of "
            f"{found.shape[1]}: it is cut off or damaged"
        )
    if "integer" in field and (np.abs(found) >= 2.0**63).any():
        raise ValueError("an integer is out of range (64 bits)")
    return found


def _coordinates(
    lines: Iterable[str], sizes: list[int], field: str, symmetry: str, file: Path
) -> sp.coo_matrix:
    n, f, stored = sizes
    check_memory(128 * (n + f) + 48 * stored, file)
    entries = _numbers(lines, stored, 2 if field == "pattern" else 3, field)
    places = entries[:, :2] - 1
    if not ((places >= 0) & (places < (n, f)) & (places == np.floor(places))).all():
        raise ValueError(f"an index lies outside of 1 .. {n} or 1 .. {f}")
    rows, columns = places.astype(np.int64).T
    values = np.ones(stored) if field == "pattern" else entries[:, 2]
    if (sign := _MIRRORED[symmetry]) is not None:
        other = rows != columns
        rows, columns, values = (
            np.concatenate([rows, columns[other]]),
            np.concatenate([columns, rows[other]]),
            np.concatenate([values, sign * values[other]]),
        )
    return sp.coo_matrix((values, (rows, columns)), (n, f))


def _columns(
    lines: Iterable[str], sizes: list[int], field: str, symmetry: str, file: Path
) -> np.ndarray:
    n, f = sizes
    check_memory(16 * n * f, file)
    sign = _MIRRORED[symmetry]
    if sign is None:
        return _numbers(lines, n * f, 1, field).reshape((n, f), order="F")
    columns, rows = np.triu_indices(n, 0 if sign > 0 else 1)  # the lower triangle by columns
    values = np.zeros((n, n))
    numbers = _numbers(lines, rows.size, 1, field)[:, 0]
    values[columns, rows] = sign * numbers
    values[rows, columns] = numbers
    return values


def _endings(file: Path, endings: tuple[str, ...]) -> tuple[str, ...]:
    stem = file.name.removesuffix(".gz")
    return tuple(f"{base}.{end}" for base in (stem, stem.removesuffix(".mtx")) for end in endings)


def _beside(file: Path, names: tuple[str, ...]) -> _Names | None:
    """The first of these files beside ``file``.

    What stands before ``matrix.mtx`` in the name of ``file`` may stand before theirs, too.
    """
    stem = file.name.removesuffix(".gz")
    prefix = stem.removesuffix("matrix.mtx") if stem.endswith("matrix.mtx") else ""
    for base in (*(prefix + name for name in names), *names):
        for found in (file.with_name(base), file.with_name(f"{base}.gz")):
            if found.is_file():
                return found.name, _rows_of(found)
    return None


def second_or_first(table: Sequence[Sequence[str]]) -> list[str]:
    """The second fields where they are unique, else the first ones."""
    second = [row[1] if len(row) > 1 else "" for row in table]
    return second if all(second) and len(set(second)) == len(second) else [row[0] for row in table]


def _rows_of(file: Path) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("\t")] for line in read_lines(file) if line.strip()
    ]
