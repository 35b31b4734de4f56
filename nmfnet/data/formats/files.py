"""Every file format to a `RawTable`; the format follows from the file name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.frames import as_float64, read_frame
from nmfnet.data.formats.layout import read_lines
from nmfnet.data.formats.raw import RawTable, check_file, did_you_mean, shorten
from nmfnet.data.formats.text import read_text
from nmfnet.errors import UserError

__all__ = ["FORMATS", "read_raw"]

FORMATS = ("csv", "tsv", "txt", "npy", "npz", "mtx", "parquet", "h5ad")
"""Known file name endings; csv, tsv, txt and mtx also with .gz."""


def read_raw(
    path: str | Path,
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    name_columns: int | None = None,
    name_separator: str = ":",
    label: str | None = None,
    layer: str | None = None,
) -> RawTable:
    """Read any supported file.

    Parameters
    ----------
    path : str or Path
        The file; its ending names the format.
    delimiter, header, name_columns, name_separator
        For text; see `read_text`.
    label : str, optional
        Column (or row) of text, parquet and h5ad tables that holds classes.
    layer : str, optional
        Layer of an h5ad file; its ``X`` when None.

    Raises
    ------
    UserError
        The file is missing, empty, damaged, of an unknown format, or holds no table of numbers.
    """
    file = check_file(path)
    ending = _ending(file)
    if ending in ("csv", "tsv", "txt"):
        return read_text(
            file,
            delimiter=delimiter,
            header=header,
            name_columns=name_columns,
            name_separator=name_separator,
            label=label,
        )
    if label is not None and ending not in ("parquet", "h5ad"):
        raise UserError(
            f"data.label_column={label!r} needs a text, parquet or h5ad file, not {ending}."
        )
    if ending == "npy":
        return RawTable(_matrix(_load_numpy(file), file))
    if ending == "npz":
        return _read_npz(file)
    if ending == "mtx":
        return _read_mtx(file)
    if ending == "parquet":
        return _read_parquet(file, label)
    return _read_h5ad(file, label, layer)


def _ending(file: Path) -> str:
    endings = [suffix.lstrip(".").lower() for suffix in file.suffixes]
    zipped = bool(endings) and endings[-1] == "gz"
    ending = endings[-2 if zipped and len(endings) > 1 else -1] if endings else ""
    if ending in FORMATS and (not zipped or ending in ("csv", "tsv", "txt", "mtx")):
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


def _load_numpy(file: Path) -> Any:
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        hint = (
            " It holds Python objects: save it again as numbers." if "pickle" in str(error) else ""
        )
        raise UserError(f"{file} is not a readable NumPy file: {error}.{hint}") from error


def _matrix(values: Any, file: Path) -> Any:
    return as_float64(values, str(file))


def _read_npz(file: Path) -> RawTable:
    import zipfile

    try:
        with _load_numpy(file) as archive:
            keys = list(archive.files)
            if {"indices", "indptr", "data", "shape"} <= set(keys):
                return RawTable(_matrix(sp.load_npz(file), file))
            arrays = {key: archive[key] for key in keys}
    except (zipfile.BadZipFile, ValueError, AttributeError) as error:
        raise UserError(f"{file} is not a readable npz file: {error}.") from error
    tables = [key for key in keys if arrays[key].ndim == 2 and key != "mask"]
    key = "X" if "X" in tables else (tables[0] if len(tables) == 1 else None)
    if key is None:
        raise UserError(
            f"{file} holds the arrays {shorten(keys, 8)}; one two-dimensional array named 'X' is "
            "needed (beside it, optionally: sample_names, feature_names, mask)."
        )
    raw = RawTable(_matrix(arrays[key], file))
    raw.row_names = _text_array(arrays.get("sample_names"))
    raw.column_names = _text_array(arrays.get("feature_names"))
    raw.mask = arrays["mask"].astype(bool) if "mask" in arrays else None
    if raw.row_names is None and raw.column_names is None:
        return raw
    raw.orientation = "samples_by_features"
    lengths = [None if names is None else len(names) for names in (raw.row_names, raw.column_names)]
    if any(n not in (None, size) for n, size in zip(lengths, raw.values.shape, strict=True)):
        raw.orientation = "features_by_samples"
        raw.row_names, raw.column_names = raw.column_names, raw.row_names
    return raw


def _text_array(array: np.ndarray | None) -> list[str] | None:
    return None if array is None else [str(name) for name in array.ravel()]


def _read_mtx(file: Path) -> RawTable:
    from scipy.io import mmread

    try:
        values = mmread(file)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{file} is not a readable Matrix Market file: {error}.") from error
    raw = RawTable(_matrix(values, file))
    raw.row_names = _names_beside(file, ("rows",))
    raw.column_names = _names_beside(file, ("cols", "columns"))
    cells = _names_file(file, ("barcodes.tsv", "barcodes.txt"))
    genes = _names_file(file, ("features.tsv", "genes.tsv", "features.txt", "genes.txt"))
    if cells is None and genes is None:
        return raw
    cells_on_columns = raw.values.shape[1] == len(cells if cells is not None else genes or [])
    if cells is None:  # only genes are named: they lie on the axis of their length
        cells_on_columns = raw.values.shape[0] == len(genes or [])
    raw.row_names, raw.column_names = (genes, cells) if cells_on_columns else (cells, genes)
    raw.orientation = "features_by_samples" if cells_on_columns else "samples_by_features"
    return raw


def _names_beside(file: Path, endings: tuple[str, ...]) -> list[str] | None:
    stem = file.name.removesuffix(".gz")
    names = [f"{base}.{ending}" for base in (stem, stem.removesuffix(".mtx")) for ending in endings]
    return _names_file(file, tuple(names))


def _names_file(file: Path, names: tuple[str, ...]) -> list[str] | None:
    """Names from the first of these files beside ``file``: column 2 if unique, else column 1."""
    for name in (candidate for base in names for candidate in (base, f"{base}.gz")):
        beside = file.parent / name
        if beside.is_file():
            table = _rows_of(beside)
            second = [row[1] if len(row) > 1 else "" for row in table]
            first = [row[0] for row in table]
            return second if all(second) and len(set(second)) == len(second) else first
    return None


def _rows_of(file: Path) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("\t")] for line in read_lines(file) if line.strip()
    ]


def _read_parquet(file: Path, label: str | None) -> RawTable:
    import pandas as pd

    try:
        frame = pd.read_parquet(file)
    except ImportError as error:
        raise UserError(
            f"{file}: reading parquet needs pyarrow. Install it: pip install 'nmfnet[parquet]'."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not a readable parquet file: {error}.") from error
    return read_frame(frame, str(file), label)


def _read_h5ad(file: Path, label: str | None, layer: str | None) -> RawTable:
    try:
        import anndata
    except ImportError as error:
        raise UserError(
            f"{file}: reading h5ad needs anndata. Install it: pip install 'nmfnet[anndata]'."
        ) from error
    try:
        data = anndata.read_h5ad(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a readable h5ad file: {error}.") from error
    if layer is not None and layer not in data.layers:
        raise UserError(
            f"data.layer={layer!r} is not in {file}. Its layers: "
            f"{shorten(list(data.layers), 8) or 'none'}; leave data.layer out for X."
        )
    values = data.layers[layer] if layer is not None else data.X
    if values is None:
        raise UserError(
            f"{file} has no X. Choose a layer: {shorten(list(data.layers), 8) or 'none'}."
        )
    labels = None
    if label is not None:
        if label not in data.obs:
            raise UserError(
                f"data.label_column={label!r} is not a column of obs in {file}. Its columns: "
                f"{shorten(list(data.obs), 8) or 'none'}.{did_you_mean(label, list(data.obs))}"
            )
        labels = ["" if cell != cell else str(cell) for cell in data.obs[label]]
    raw = RawTable(_matrix(values, file), list(data.obs_names), list(data.var_names), labels)
    raw.orientation = "samples_by_features"
    return raw
