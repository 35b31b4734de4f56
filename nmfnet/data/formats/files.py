"""Every file format to a `RawTable`; the format follows from the file name."""

from __future__ import annotations

import itertools
import json
import math
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.frames import as_float64, read_frame, take_label
from nmfnet.data.formats.layout import read_lines
from nmfnet.data.formats.memory import as_matrix
from nmfnet.data.formats.raw import (
    RawTable,
    as_text,
    check_file,
    check_memory,
    did_you_mean,
    reading,
    shorten,
)
from nmfnet.data.formats.text import read_text
from nmfnet.errors import UserError

__all__ = ["FORMATS", "TextOptions", "read_raw"]

_TEXT = ("csv", "tsv", "txt", "data")
FORMATS = (*_TEXT, "npy", "npz", "mtx", "parquet", "h5ad", "biom")
"""Known file name endings; text and mtx also with .gz."""

_LABELLED = (*_TEXT, "parquet", "h5ad")


class TextOptions(NamedTuple):
    """How a text file is to be read; see `read_text`."""

    delimiter: str | None = None
    header: bool | None = None
    name_columns: int | None = None
    name_separator: str = ":"
    missing_words: Sequence[str] = ()
    decimal: str = "."


def read_raw(
    path: str | Path,
    *,
    text: TextOptions | None = None,
    label: str | None = None,
    layer: str | None = None,
    drop: Sequence[str] = (),
) -> RawTable:
    """Read any supported file.

    Parameters
    ----------
    path : str or Path
        The file; its ending names the format.
    text : TextOptions, optional
        For text.
    label : str, optional
        Column (or row) of text, parquet and h5ad tables that holds classes.
    layer : str, optional
        Layer of an h5ad file, or ``raw``; its ``X`` when None.
    drop : sequence of str
        Names of columns, or else of rows, to leave out.

    Raises
    ------
    UserError
        The file is missing, empty, damaged, larger than the memory, of an unknown format, or holds
        no table of numbers.
    """
    file = check_file(path)
    ending = _ending(file)
    if ending in _TEXT:
        options = text or TextOptions()
        return read_text(file, label=label, drop=drop, **options._asdict())
    if label is not None and ending not in _LABELLED:
        raise UserError(
            f"data.label_column={label!r} needs a text, parquet or h5ad file, not {ending}; "
            "data.labels=FILE gives the classes in a file of their own."
        )
    if ending == "parquet":
        return _read_parquet(file, label, drop)
    if ending == "h5ad":
        return _without(_read_h5ad(file, label, layer), drop)
    readers = {"npy": _read_npy, "npz": _read_npz, "mtx": _read_mtx, "biom": _read_biom}
    return _without(readers[ending](file), drop)


def _ending(file: Path) -> str:
    endings = [suffix.lstrip(".").lower() for suffix in file.suffixes]
    zipped = bool(endings) and endings[-1] == "gz"
    ending = endings[-2 if zipped and len(endings) > 1 else -1] if endings else ""
    if ending in FORMATS and (not zipped or ending in (*_TEXT, "mtx")):
        return ending
    if ending in ("xlsx", "xls", "ods"):
        advice = "Save the sheet as CSV (in Excel: 'CSV UTF-8') and give that file."
    elif zipped or ending in ("bz2", "xz", "zip", "zst"):
        advice = "Unpack it first; only .csv, .tsv, .txt and .mtx are read from .gz."
    else:
        advice = f"Known endings: {', '.join('.' + known for known in FORMATS)}."
    raise UserError(
        f"{file}: the ending {file.suffix!r} is not a format that can be read. {advice}"
    )


def _without(raw: RawTable, drop: Sequence[str]) -> RawTable:
    """The table without the columns, or else rows, of these names."""
    rows, columns = raw.row_names or [], raw.column_names or []
    for name in drop:
        if name not in rows and name not in columns:
            raise UserError(
                f"data.drop: {name!r} is neither a column nor a row of the file. The columns are "
                f"{shorten(columns, 5) or 'without names'}.{did_you_mean(name, [*columns, *rows])}"
            )
    keep_columns = [i for i, name in enumerate(columns) if name not in drop]
    keep_rows = [i for i, name in enumerate(rows) if name not in drop or name in columns]
    if len(keep_rows) < len(rows):
        raw.values = raw.values[keep_rows]
        raw.mask = None if raw.mask is None else raw.mask[keep_rows]
        raw.row_names = [rows[i] for i in keep_rows]
        if raw.labels is not None and raw.labels_on == "rows":
            raw.labels = [raw.labels[i] for i in keep_rows]
    if len(keep_columns) < len(columns):
        raw.values = raw.values[:, keep_columns]
        raw.mask = None if raw.mask is None else raw.mask[:, keep_columns]
        raw.column_names = [columns[i] for i in keep_columns]
        if raw.labels is not None and raw.labels_on == "columns":
            raw.labels = [raw.labels[i] for i in keep_columns]
    return raw


# ---------------------------------------------------------------------------------- NumPy
def _read_npy(file: Path) -> RawTable:
    with reading(file, "a readable NumPy file"):
        try:
            mapped = np.load(file, mmap_mode="r", allow_pickle=False)  # compares sizes
        except ValueError as error:
            if "Python objects" in str(error):
                raise UserError(
                    f"{file} holds Python objects: save it again as numbers, with "
                    "numpy.save(path, X.astype(float))."
                ) from error
            raise
        if isinstance(mapped, np.lib.npyio.NpzFile):
            raise UserError(f"{file} is an npz archive: call it .npz.")
        check_memory(8 * mapped.size, file)
        return RawTable(np.array(as_float64(mapped, str(file))))


def _read_npz(file: Path) -> RawTable:
    with reading(file, "a readable npz file"):
        if not zipfile.is_zipfile(file):
            raise UserError(f"{file} is not a readable npz file: it is not a zip archive.")
        with zipfile.ZipFile(file) as packed:
            check_memory(sum(member.file_size for member in packed.infolist()), file)
        with np.load(file, allow_pickle=False) as archive:
            keys = list(archive.files)
            if {"indices", "indptr", "data", "shape"} <= set(keys):
                check_memory(128 * sum(map(int, archive["shape"])), file)
                return RawTable(as_float64(sp.load_npz(file), str(file)))
            arrays = {key: _member(archive, key, file) for key in keys}
    tables = [key for key in keys if arrays[key].ndim == 2 and key not in ("mask", "weight")]
    key = "X" if "X" in tables else (tables[0] if len(tables) == 1 else None)
    if key is None:
        raise UserError(
            f"{file} holds the arrays {shorten(keys, 8)}; one two-dimensional array named 'X' is "
            "needed (beside it, optionally: sample_names, feature_names, labels, mask or weight)."
        )
    raw = RawTable(as_float64(arrays.pop(key), str(file)))
    raw.row_names = _texts(arrays.pop("sample_names", None))
    raw.column_names = _texts(arrays.pop("feature_names", None))
    raw.labels = _texts(arrays.pop("labels", None))
    for name in ("mask", "weight"):
        if name in arrays:
            raw.mask = as_float64(arrays.pop(name), f"{name} in {file}")
    if arrays:
        raw.remarks = (f"Arrays of {file.name} that were not used: {shorten(list(arrays), 8)}.",)
    if raw.row_names is None and raw.column_names is None:
        return raw
    raw.orientation = "samples_by_features"
    lengths = [None if names is None else len(names) for names in (raw.row_names, raw.column_names)]
    if any(n not in (None, size) for n, size in zip(lengths, raw.values.shape, strict=True)):
        raw.orientation, raw.labels_on = "features_by_samples", "columns"
        raw.row_names, raw.column_names = raw.column_names, raw.row_names
    return raw


def _member(archive: Any, key: str, file: Path) -> np.ndarray:
    try:
        return np.asarray(archive[key])
    except ValueError as error:
        if "pickle" in str(error):
            raise UserError(
                f"{file}: the array {key!r} holds Python objects. Save names as text, with "
                f"numpy.array({key}, dtype=str), and numbers as floats."
            ) from error
        raise


def _texts(array: np.ndarray | None) -> list[str] | None:
    return None if array is None else [as_text(name) for name in array.ravel().tolist()]


# ---------------------------------------------------------------------------------- Matrix Market
_CELLS = ("barcodes.tsv", "barcodes.txt")
_GENES = ("features.tsv", "genes.tsv", "features.txt", "genes.txt")


def _read_mtx(file: Path) -> RawTable:
    with reading(file, "a readable Matrix Market file"):
        values = _matrix_market(file)
    raw = RawTable(as_float64(values, str(file)))
    cells, genes = _beside(file, _CELLS), _beside(file, _GENES)
    if cells is None and genes is None:
        for name, endings in (("row_names", ("rows",)), ("column_names", ("cols", "columns"))):
            if (found := _beside(file, _endings(file, endings))) is not None:
                setattr(raw, name, _names(found[1]))
        return raw
    known = [part for part in (cells, genes) if part is not None]
    raw.remarks = (f"Names were read from {' and '.join(name for name, _ in known)}.",)
    raw.orientation, headers = _ten_x(raw.values.shape, known, cells is not None, file)
    names = [_names(table[header:]) for (_, table), header in zip(known, headers, strict=True)]
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


def _names(table: Sequence[Sequence[str]]) -> list[str]:
    """The second fields where they are unique, else the first ones."""
    second = [row[1] if len(row) > 1 else "" for row in table]
    return second if all(second) and len(set(second)) == len(second) else [row[0] for row in table]


def _rows_of(file: Path) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("\t")] for line in read_lines(file) if line.strip()
    ]


# ---------------------------------------------------------------------------------- others
def _read_biom(file: Path) -> RawTable:
    with reading(file, "a readable BIOM file"):
        if file.read_bytes()[:4] == b"\x89HDF":
            raise UserError(
                f"{file} is BIOM 2 (HDF5). Convert it: biom convert -i {file.name} -o table.biom "
                "--to-json, or --to-tsv with the ending .tsv."
            )
        table = json.loads(file.read_text("utf-8-sig"))
        rows, columns = ([as_text(line["id"]) for line in table[k]] for k in ("rows", "columns"))
        if table["matrix_type"] == "dense":
            values: Any = np.array(table["data"], dtype=np.float64).reshape(len(rows), len(columns))
        else:
            entries = np.array(table["data"], dtype=np.float64).reshape(-1, 3)
            places = entries[:, :2].astype(np.int64).T
            shape = (len(rows), len(columns))
            values = sp.coo_matrix((entries[:, 2], (places[0], places[1])), shape)
    return RawTable(as_float64(values, str(file)), rows, columns, orientation="features_by_samples")


def _read_parquet(file: Path, label: str | None, drop: Sequence[str]) -> RawTable:
    import pandas as pd

    with reading(file, "a readable parquet file"):
        try:
            import pyarrow.parquet as pq

            known = pq.ParquetFile(file).metadata
            check_memory(8 * known.num_rows * known.num_columns, file)
            frame = pd.read_parquet(file)
        except ImportError as error:
            raise UserError(
                f"{file}: reading parquet needs pyarrow. Install it: pip install 'nmfnet[parquet]'."
            ) from error
        if frame.shape[1] == 0:
            raise UserError(f"{file} has no columns.")
        columns = [name for name in drop if name in frame.columns]
        raw = read_frame(frame, str(file), label, columns)
    return _without(raw, [name for name in drop if name not in columns])


def _read_h5ad(file: Path, label: str | None, layer: str | None) -> RawTable:
    try:
        import anndata
    except ImportError as error:
        raise UserError(
            f"{file}: reading h5ad needs anndata. Install it: pip install 'nmfnet[anndata]'."
        ) from error
    with reading(file, "a readable h5ad file"):
        data = anndata.read_h5ad(file)
        found = as_matrix(data, what=str(file), layer=layer)
        labels = None
        if label is not None:
            columns = list(data.obs.columns)
            at = take_label(columns, label, f"obs in {file}", "data.label_column")
            labels = [as_text(cell) for cell in data.obs.iloc[:, at]]
    names = (found.sample_names, found.feature_names)
    raw = RawTable(found.values, *names, labels, remarks=found.remarks)
    raw.orientation = "samples_by_features"
    return raw
