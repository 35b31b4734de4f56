"""A matrix that stays on disk: read a few rows at a time, never as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, final

import numpy as np

from nmfnet.data.formats.raw import check_file, reading, shorten
from nmfnet.errors import UserError, reason

__all__ = ["Numbered", "Stored", "open_stored"]

SUFFIXES = (".npy", ".parquet", ".h5ad")
"""Files of which rows can be read."""

BLOCK_BYTES = 2_000_000
"""Rows that are read in one go come to about this much."""


@dataclass(frozen=True)
class Part(ABC):
    """Consecutive rows of the matrix that lie together in one file.

    Attributes
    ----------
    file : Path
    count : int
        Rows.
    names : tuple of str or None
        Of the columns.
    """

    file: Path
    count: int
    n_features: int
    dtype: np.dtype[Any]
    names: tuple[str, ...] | None = None
    divisible: bool = True
    """Whether a few rows cost less than all."""

    @abstractmethod
    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows of the part, shape (stop - start, n_features), in memory of their own."""


@final
@dataclass(frozen=True)
class NpyPart(Part):
    """An npy file in C order; ``offset`` is where its numbers begin."""

    offset: int = 0

    def read(self, start: int, stop: int) -> np.ndarray:
        width = self.n_features * self.dtype.itemsize
        count = (stop - start) * self.n_features
        found = np.fromfile(self.file, self.dtype, count, offset=self.offset + start * width)
        if found.size != count:
            raise UserError(f"{self.file} ends before its row {stop}: it is cut off.")
        return found.reshape(-1, self.n_features)


@final
@dataclass(frozen=True)
class ParquetPart(Part):
    """A row group of a parquet file."""

    group: int = 0

    def read(self, start: int, stop: int) -> np.ndarray:
        import pyarrow.parquet as pq

        table = pq.ParquetFile(self.file).read_row_group(self.group)
        out = np.empty((stop - start, self.n_features), self.dtype)
        for j, column in enumerate(table.columns):
            out[:, j] = column.slice(start, stop - start).to_numpy()
        return out


@final
@dataclass(frozen=True)
class H5adPart(Part):
    """X, a layer or the raw X of an AnnData file, sparse (CSR) or dense; ``where`` is its place."""

    where: str = "X"

    def read(self, start: int, stop: int) -> np.ndarray:
        import h5py

        with reading(self.file, "a readable h5ad file"), h5py.File(self.file, "r") as stored:
            table = stored[self.where]
            if not hasattr(table, "keys"):
                return np.asarray(table[start:stop])
            pointer = np.asarray(table["indptr"][start : stop + 1]).astype(np.int64)
            first, last = int(pointer[0]), int(pointer[-1])
            values, columns = table["data"][first:last], table["indices"][first:last]
        out = np.zeros((stop - start, self.n_features), self.dtype)
        out[np.repeat(np.arange(stop - start), np.diff(pointer)), columns] = values
        return out


@final
class Stored:
    """The rows of several parts in a row; ``stored[start:stop]`` reads those rows.

    Parameters
    ----------
    parts : sequence of Part
        All with the same number of columns.
    rows : ndarray of int64, optional
        Ascending; only these rows are there. Default all.

    Attributes
    ----------
    shape : tuple (n, f)
    dtype : numpy.dtype
    """

    streamed = True
    ndim = 2

    def __init__(self, parts: Sequence[Part], rows: np.ndarray | None = None) -> None:
        self.parts, self.rows = tuple(parts), rows
        self._starts = np.cumsum([0, *(part.count for part in parts)])
        n = int(self._starts[-1]) if rows is None else rows.size
        self.shape = (n, parts[0].n_features)
        self.dtype = np.result_type(*(part.dtype for part in parts))
        self._last: tuple[int, np.ndarray] | None = None

    def subset(self, rows: np.ndarray) -> Stored:
        """Only some rows (ascending numbers) of a matrix that has all of its own."""
        return Stored(self.parts, None if rows.size == self.shape[0] else rows)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        if self.rows is None:
            return self._read(start, max(start, stop))
        wanted = self.rows[start:stop]
        if not wanted.size:
            return self._read(0, 0)
        first = int(wanted[0])
        return self._read(first, int(wanted[-1]) + 1)[wanted - first]

    def _read(self, start: int, stop: int) -> np.ndarray:
        pieces = []
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        for number in range(first, len(self.parts)):
            part, offset = self.parts[number], int(self._starts[number])
            if offset >= stop:
                break
            low, high = max(start - offset, 0), min(stop - offset, part.count)
            pieces.append(part.read(low, high) if part.divisible else self._whole(number)[low:high])
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty((0, self.shape[1]), self.dtype)

    def _whole(self, number: int) -> np.ndarray:
        """A part that must be read as a whole; the last one is remembered."""
        if self._last is None or self._last[0] != number:
            part = self.parts[number]
            self._last = None
            self._last = (number, part.read(0, part.count))
        return self._last[1]

    def blocks(self, least: int = 1) -> list[slice]:
        """Slices that cover all rows: about BLOCK_BYTES each, and at least ``least`` rows.

        Rows that lie apart on disk (``rows`` given) are counted with those between them. The last
        slice may be shorter, and a part that must be read as a whole is never cut.
        """
        size = max(least, BLOCK_BYTES // max(1, self.shape[1] * self.dtype.itemsize), 1)
        start, cuts = 0, [0]
        for part, end in zip(self.parts, self._starts[1:].tolist(), strict=True):
            while part.divisible and end - start >= size:
                start += size
                cuts.append(start)
            if not part.divisible and end - start >= size:
                start = end
                cuts.append(end)
        cuts.append(int(self._starts[-1]))
        if self.rows is not None:
            cuts = np.searchsorted(self.rows, cuts).tolist()
        return [slice(a, b) for a, b in pairwise(cuts) if a < b]


def open_stored(path: str | Path, layer: str | None = None) -> Stored:
    """The matrix in an npy, parquet or h5ad file, or in a folder of them (rows in the order of names).

    ``layer`` is that of h5ad files; "raw" = the raw X.

    Raises
    ------
    UserError
        If there is none, or the files do not fit together.
    """
    place = Path(path).expanduser()
    files = [place]
    if place.is_dir():
        files = sorted(file for file in place.iterdir() if file.suffix in SUFFIXES)
    if not files:
        raise UserError(f"{place} holds no {', '.join(SUFFIXES)} file to stream rows from.")
    parts = [part for file in files for part in _parts(check_file(file), layer)]
    if not parts:
        raise UserError(f"The parquet files in {place} hold no rows.")
    for part in parts[1:]:
        if part.n_features != parts[0].n_features or part.names != parts[0].names:
            raise UserError(
                f"{part.file} has {part.n_features} columns{_said(part)}, but {parts[0].file} has "
                f"{parts[0].n_features}{_said(parts[0])}: all files need the same columns in the "
                "same order."
            )
    return Stored(parts)


def _said(part: Part) -> str:
    return f" ({shorten(part.names)})" if part.names else ""


def _parts(file: Path, layer: str | None) -> list[Part]:
    if file.suffix == ".h5ad":
        return [_h5ad(file, layer)]
    if layer is not None:
        raise UserError(f"data.layer={layer} is for h5ad files, and {file} is none.")
    if file.suffix == ".npy":
        return [_npy(file)]
    if file.suffix == ".parquet":
        return _parquet(file)
    raise UserError(
        f"{file} cannot be read row by row: data=stream takes .npy, .parquet, .h5ad, or a folder of "
        "them. "
        "Use data=table for a file that fits into memory."
    )


def _npy(file: Path) -> Part:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} is not a readable NumPy file: {reason(error)}.") from error
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "biuf":
        raise UserError(
            f"{file} holds {array.dtype} values of shape {array.shape}; a matrix of real numbers, "
            "samples in rows, is needed."
        )
    if not array.flags.c_contiguous:
        raise UserError(
            f"{file} stores column after column (Fortran order), so that rows cannot be read one by "
            "one: save it with numpy.save(path, numpy.ascontiguousarray(X))."
        )
    n, f = array.shape
    return NpyPart(file, n, f, array.dtype, offset=array.offset)


def _h5ad(file: Path, layer: str | None) -> Part:
    try:
        import h5py
    except ImportError as error:
        raise UserError("h5ad files need h5py: pip install 'nmfnet[hdf5]'.") from error
    places = {None: "X", "raw": "raw/X"}
    where = places.get(layer, f"layers/{layer}")
    with reading(file, "a readable h5ad file"), h5py.File(file, "r") as stored:
        if where not in stored:
            known = [*stored.get("layers", {}), *(["raw"] if "raw/X" in stored else [])]
            raise UserError(f"{file} has no {where}; its layers: {shorten(known, 8) or 'none'}.")
        table, about = stored[where], stored["raw/var" if layer == "raw" else "var"]
        kind = table.attrs.get("encoding-type", "array")
        if kind not in ("csr_matrix", "array"):
            raise UserError(
                f"{where} of {file} is a {kind}, of which rows cannot be read one by one: save it as CSR "
                "(adata.X = adata.X.tocsr()), or use data=table."
            )
        sparse = kind == "csr_matrix"
        n, f = (int(size) for size in (table.attrs["shape"] if sparse else table.shape))
        dtype = (table["data"] if sparse else table).dtype
        names = about[about.attrs.get("_index", "_index")].asstr()[()].tolist()
    if not n * f or dtype.kind not in "biuf":
        raise UserError(
            f"{where} of {file} holds {n} x {f} values of {dtype}: no matrix of numbers."
        )
    return H5adPart(file, n, f, dtype, tuple(names), where=where)


def _parquet(file: Path) -> list[Part]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError("Parquet files need pyarrow: pip install 'nmfnet[parquet]'.") from error
    try:
        opened = pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file} is not a readable parquet file: {reason(error)}.") from error
    schema = opened.schema_arrow
    kinds = []
    for field in schema:
        if not (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)):
            raise UserError(
                f"{file}: column {field.name!r} holds {field.type}, and only numbers can be "
                "streamed: write the file without it."
            )
        kinds.append(np.dtype(field.type.to_pandas_dtype()))
    dtype = np.result_type(*kinds, np.float32)
    names = tuple(schema.names)
    groups = opened.metadata.num_row_groups
    counts = [opened.metadata.row_group(i).num_rows for i in range(groups)]
    return [
        ParquetPart(file, count, len(names), dtype, names, divisible=False, group=i)
        for i, count in enumerate(counts)
        if count
    ]


@final
class Numbered(Sequence[str]):
    """Names of many rows, made when asked for: ``row_17``. As an array: the row numbers."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return int(self.rows.size)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [f"row_{row}" for row in self.rows[i].tolist()]
        return f"row_{int(self.rows[i])}"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.rows, dtype=dtype)
