"""Every file format to a `RawTable`; the format follows from the file name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.excel import SHEETS, read_sheet
from nmfnet.data.formats.frames import as_float64, read_frame, take_label
from nmfnet.data.formats.hdf5 import read_biom, read_h5ad, read_h5mu, read_loom, read_tenx
from nmfnet.data.formats.market import read_mtx
from nmfnet.data.formats.matlab import matlab_arrays
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

__all__ = ["FORMATS", "TextOptions", "is_text", "read_raw"]

_TEXT = ("csv", "tsv", "txt", "data")
_BINARY = ("npy", "npz", "mat", "mtx", "parquet", "h5ad", "h5mu", "h5", "loom", "biom")
FORMATS = (*_TEXT, *SHEETS, *_BINARY)
"""Known file name endings; text and mtx also with .gz."""

_LABELLED = (*_TEXT, *SHEETS, "npz", "mat", "parquet", "h5ad", "h5mu", "loom")
_LAYERED = ("h5ad", "h5mu", "loom")


class TextOptions(NamedTuple):
    """How a text file is to be read; see `read_text`."""

    delimiter: str | None = None
    header: bool | None = None
    name_columns: int | None = None
    name_separator: str = ":"
    missing_words: tuple[str, ...] = ()
    decimal: str = "."


def is_text(path: str | Path) -> bool:
    """Whether a file is delimited text, or sheets that are read as such, by its name."""
    return _ending(Path(path)) in (*_TEXT, *SHEETS)


def read_raw(
    path: str | Path,
    *,
    text: TextOptions | None = None,
    label: str | None = None,
    layer: str | None = None,
    modality: str | None = None,
    sheet: str | int | None = None,
    drop: Sequence[str] = (),
) -> RawTable:
    """Read any supported file.

    Parameters
    ----------
    path : str or Path
        The file; its ending names the format.
    text : TextOptions, optional
        For text and Excel; of no effect on other formats.
    label : str, optional
        What holds the classes: a column (or row) of text, Excel and parquet, an array of npz and
        mat, a column of ``obs`` of h5ad and h5mu, an attribute of the cells of loom.
    layer : str, optional
        Layer of an h5ad, h5mu or loom file; of the first two also ``raw``, or an entry of ``obsm``.
        Their ``X`` or ``matrix`` when None.
    modality : str, optional
        Modality of an h5mu file; may be None where there is one only.
    sheet : str or int, optional
        Sheet of an Excel file, by its name or its number from 1 on; see `read_sheet`.
    drop : sequence of str
        Names of columns, or else of rows, to leave out.

    Raises
    ------
    UserError
        The file is missing, empty, damaged, larger than the memory, of an unknown format, or holds
        no table of numbers; an option that its format does not have.
    """
    file = check_file(path)
    ending = _ending(file)
    for option, value, known in (
        ("label_column", label, _LABELLED),
        ("layer", layer, _LAYERED),
        ("modality", modality, ("h5mu",)),
        ("sheet", sheet, SHEETS),
        ("delimiter", text and text.delimiter, _TEXT),
    ):
        if value is not None and ending not in known:
            more = "; data.labels=FILE gives the classes in a file of their own"
            raise UserError(
                f"data.{option}={value} is for {', '.join(known)}, and not for {ending}"
                f"{more if option == 'label_column' else ''}."
            )
    options = text or TextOptions()
    if ending in _TEXT:
        return read_text(file, label=label, drop=drop, **options._asdict())
    if ending in SHEETS:
        cells, options = read_sheet(file, sheet), options._replace(delimiter=",")
        try:
            raw = read_text(cells, label=label, drop=drop, **options._asdict())
        except UserError as error:  # perhaps another sheet is meant
            raise UserError(" ".join((str(error), *cells.remarks))) from error
        raw.remarks = (*cells.remarks, *raw.remarks)
        return raw
    if ending == "parquet":
        return _read_parquet(file, label, drop)
    readers: dict[str, Callable[[], RawTable]] = {
        "npy": lambda: _read_npy(file),
        "npz": lambda: _read_npz(file, label),
        "mat": lambda: _of_arrays(matlab_arrays(file), file, label),
        "mtx": lambda: read_mtx(file),
        "h5ad": lambda: read_h5ad(file, label, layer),
        "h5mu": lambda: read_h5mu(file, label, layer, modality),
        "h5": lambda: read_tenx(file),
        "loom": lambda: read_loom(file, label, layer),
        "biom": lambda: read_biom(file),
    }
    return _without(readers[ending](), drop)


def _ending(file: Path) -> str:
    endings = [suffix.lstrip(".").lower() for suffix in file.suffixes]
    zipped = bool(endings) and endings[-1] == "gz"
    ending = endings[-2 if zipped and len(endings) > 1 else -1] if endings else ""
    if ending in FORMATS and (not zipped or ending in (*_TEXT, "mtx")):
        return ending
    if ending in ("xls", "xlsb", "ods"):
        advice = (
            "Save it as .xlsx, or the sheet as CSV (in Excel: 'CSV UTF-8'), and give that file."
        )
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


def _read_npz(file: Path, label: str | None) -> RawTable:
    with reading(file, "a readable npz file"):
        if not zipfile.is_zipfile(file):
            raise UserError(f"{file} is not a readable npz file: it is not a zip archive.")
        with zipfile.ZipFile(file) as packed:
            check_memory(sum(member.file_size for member in packed.infolist()), file)
        with np.load(file, allow_pickle=False) as archive:
            keys = list(archive.files)
            if {"format", "data", "shape"} <= set(keys):  # of scipy.sparse.save_npz
                if label is not None:
                    take_label([], label, str(file), "data.label_column")
                check_memory(128 * sum(map(int, archive["shape"])), file)
                return RawTable(as_float64(sp.load_npz(file), str(file)))
            arrays = {key: _member(archive, key, file) for key in keys}
    return _of_arrays(arrays, file, label)


_BESIDE = ("sample_names", "feature_names", "labels", "mask", "weight")
"""Arrays that may stand beside the matrix in npz and mat files."""


def _of_arrays(arrays: dict[str, Any], file: Path, label: str | None) -> RawTable:
    """The matrix among named arrays, with what stands beside it."""
    beside = (*_BESIDE, label)
    tables = [key for key, array in arrays.items() if array.ndim == 2 and key not in beside]
    key = "X" if "X" in arrays else (tables[0] if len(tables) == 1 else None)
    if key is None:
        raise UserError(
            f"{file} holds the arrays {shorten(list(arrays), 8)}; one two-dimensional array named "
            f"'X' is needed (beside it, optionally: {', '.join(_BESIDE)})."
        )
    raw = RawTable(as_float64(arrays.pop(key), str(file)))
    if label is not None:
        take_label(list(arrays), label, str(file), "data.label_column")
    raw.row_names = _texts(arrays.pop("sample_names", None))
    raw.column_names = _texts(arrays.pop("feature_names", None))
    raw.labels = _texts(arrays.pop(label or "labels", None))
    for name in ("mask", "weight"):
        if name in arrays:
            raw.mask = as_float64(arrays.pop(name), f"{name} in {file}")
    if arrays:
        raw.remarks = (f"Arrays of {file.name} that were not used: {shorten(list(arrays), 8)}.",)
    rows, columns = raw.values.shape
    if raw.labels is not None and len(raw.labels) == columns != rows:
        raw.labels_on = "columns"
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


# ---------------------------------------------------------------------------------- parquet
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
