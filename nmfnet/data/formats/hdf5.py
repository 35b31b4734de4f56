"""Tables in HDF5 files: AnnData (h5ad), MuData (h5mu), 10x (h5), loom, and BIOM of either version."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.frames import as_float64, take_label
from nmfnet.data.formats.market import second_or_first
from nmfnet.data.formats.memory import as_matrix
from nmfnet.data.formats.raw import RawTable, as_text, check_memory, reading, shorten
from nmfnet.errors import UserError

__all__ = [
    "read_arrays",
    "read_biom",
    "read_h5ad",
    "read_h5mu",
    "read_loom",
    "read_obs",
    "read_obsm",
    "read_tenx",
    "write_h5ad",
]


@contextmanager
def _opened(file: Path, kind: str) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            f"{file}: reading HDF5 needs h5py. Install it: pip install 'nmfnet[hdf5]'."
        ) from error
    with reading(file, kind), h5py.File(file, "r") as stored:
        yield stored


def _array(group: Any, name: str, file: Path) -> np.ndarray:
    found = group.get(name)
    if not hasattr(found, "dtype"):
        raise UserError(f"{file}: {group.name} holds no array {name!r}.")
    check_memory(max(8, found.dtype.itemsize) * found.size, file)
    return np.asarray(found[()])


def _check_size(group: Any, file: Path) -> None:
    """Compare the sizes of all arrays in a group with the memory."""
    sizes: list[int] = []

    def add(_: str, item: Any) -> None:
        if hasattr(item, "dtype"):
            sizes.append(item.dtype.itemsize * item.size)

    group.visititems(add)
    check_memory(sum(sizes), file)


def _texts(group: Any, name: str, file: Path) -> list[str]:
    return [as_text(cell) for cell in _array(group, name, file).ravel().tolist()]


def _sparse(group: Any, shape: tuple[int, int], file: Path) -> Any:
    """A matrix of which ``group`` holds the rows (CSR)."""
    parts = tuple(_array(group, name, file) for name in ("data", "indices", "indptr"))
    check_memory(128 * sum(shape), file)
    return as_float64(sp.csr_matrix(parts, shape), str(file))


def read_arrays(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of a file by name.

    Raises
    ------
    UserError
        If one is not there, or larger than the memory; if h5py is missing.
    """
    with _opened(file, "a readable HDF5 file") as stored:
        return {name: _array(stored, name, file) for name in names}


# ---------------------------------------------------------------------------------- cells
def read_tenx(file: Path) -> RawTable:
    """The matrix of Cell Ranger 2 (a group per genome) or later: one row per barcode."""
    with _opened(file, "a readable 10x file") as stored:
        groups = [group for group in stored.values() if hasattr(group, "keys")]
        found = [group for group in groups if "barcodes" in group]
        if len(found) != 1:
            raise UserError(
                f"{file} holds {len(found)} matrices of 10x with barcodes, and one is needed; it has "
                f"{shorten(list(stored), 5) or 'nothing'}."
            )
        (group,) = found
        n_genes, n_cells = (int(size) for size in _array(group, "shape", file))
        values = _sparse(group, (n_cells, n_genes), file)
        about = group.get("features", group)
        old = "genes" in about
        fields = ("genes", "gene_names") if old else ("id", "name")
        columns = [_texts(about, name, file) for name in fields]
        types = Counter([] if old else _texts(about, "feature_type", file))
        cells = _texts(group, "barcodes", file)
    genes = second_or_first(list(map(list, zip(*columns, strict=True))))
    remarks: tuple[str, ...] = ()
    if len(types) > 1:
        said = ", ".join(f"{count} {kind}" for kind, count in types.items())
        remarks = (f"The features of {file.name} are of several types: {said}.",)
    return RawTable(values, cells, genes, orientation="samples_by_features", remarks=remarks)


_LOOM_NAMES = (
    ("row_attrs", ("Gene", "var_names", "Accession")),
    ("col_attrs", ("CellID", "obs_names", "Barcode")),
)


def read_loom(file: Path, label: str | None, layer: str | None) -> RawTable:
    """A loom file: genes by cells, its ``matrix`` or a layer; classes are attributes of cells."""
    with _opened(file, "a readable loom file") as stored:
        layers = stored.get("layers", {})
        if layer is not None:
            take_label(list(layers), layer, f"the layers of {file}", "data.layer")
        values = _array(stored, "matrix", file) if layer is None else _array(layers, layer, file)
        names: list[list[str] | None] = []
        for group, known in _LOOM_NAMES:
            name = next((name for name in known if name in stored.get(group, {})), None)
            names.append(None if name is None else _texts(stored[group], name, file))
        labels = None
        if label is not None:
            about = stored.get("col_attrs", {})
            take_label(list(about), label, f"col_attrs of {file}", "data.label_column")
            labels = _texts(about, label, file)
    genes, cells = names
    made = RawTable(as_float64(values, str(file)), genes, cells, labels, "columns")
    made.orientation = "features_by_samples"
    return made


def read_h5ad(file: Path, label: str | None, layer: str | None) -> RawTable:
    """The X, a layer or the ``.raw`` of an AnnData; classes are columns of ``obs``."""
    anndata = _anndata(file)
    with _opened(file, "a readable h5ad file") as stored:
        _check_size(stored, file)
    with reading(file, "a readable h5ad file"):
        return _of_anndata(anndata.read_h5ad(file), file, label, layer)


def read_h5mu(
    file: Path, label: str | None, layer: str | None, modality: str | None = None
) -> RawTable:
    """One modality of a MuData, read like an AnnData."""
    anndata = _anndata(file)
    with _opened(file, "a readable h5mu file") as stored:
        known = list(stored.get("mod", {}))
        if modality is None and len(known) != 1:
            views = " ".join(
                f"data.views.{name}.path={file} data.views.{name}.modality={name}" for name in known
            )
            raise UserError(
                f"{file} holds {len(known)} modalities: {shorten(known, 8)}. Choose one with "
                f"data.modality=NAME, or fit them together: data=views {views}"
            )
        name = known[0] if modality is None else modality
        take_label(known, name, f"the modalities of {file}", "data.modality")
        _check_size(stored["mod"][name], file)
        return _of_anndata(anndata.io.read_elem(stored["mod"][name]), file, label, layer)


def _anndata(file: Path) -> Any:
    try:
        import anndata
    except ImportError as error:
        raise UserError(
            f"{file}: reading {file.suffix[1:]} needs anndata. Install it: pip install "
            "'nmfnet[anndata]'."
        ) from error
    return anndata


def read_obs(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of ``obs`` of an h5ad or h5mu file, row by row.

    Raises
    ------
    UserError
        If one is not there.
    """
    anndata = _anndata(file)
    with _opened(file, "a readable h5ad file") as stored:
        if "obs" not in stored:
            raise UserError(f"{file} holds no obs, in which covariates are looked for.")
        about = anndata.io.read_elem(stored["obs"])
    columns = list(about.columns)
    at = [take_label(columns, name, f"obs in {file}", "data.covariates") for name in names]
    return {name: np.asarray(about.iloc[:, i]) for name, i in zip(names, at, strict=True)}


def read_obsm(file: Path, name: str) -> RawTable:
    """An entry of ``obsm`` of an h5ad file, an array or a table: a row of numbers for every sample.

    Raises
    ------
    UserError
        If it is not there.
    """
    with _opened(file, "a readable h5ad file") as stored:
        known = stored.get("obsm", {})
        if name not in known:
            raise UserError(
                f"data.coordinates={name} is neither a file nor an entry of obsm of {file}, which has "
                f"{shorten(list(known)) or 'none'}: give one that has two numbers for every "
                "sample (often spatial), or a table of name, x and y"
            )
        if hasattr(known[name], "dtype"):
            values = _array(known, name, file)
        else:
            columns = [as_text(column) for column in known[name].attrs["column-order"]]
            values = np.stack([_array(known[name], column, file) for column in columns], 1)
        rows = _texts(stored["obs"], stored["obs"].attrs["_index"], file)
        return RawTable(as_float64(values, str(file)), rows, None)


def write_h5ad(
    file: Path,
    obs: Mapping[str, Sequence[Any]],
    var: Mapping[str, Sequence[Any]],
    names: tuple[Sequence[str], Sequence[str]],
    **parts: Any,
) -> None:
    """An AnnData without X.

    Parameters
    ----------
    file : Path
    obs, var : mapping of str to sequence
        Columns about the rows and about the columns of X.
    names : two sequences of str
        Of the rows and of the columns.
    **parts
        ``obsm``, ``varm``, ``uns``.

    Raises
    ------
    UserError
        If anndata is missing, or cannot write this.
    """
    import pandas as pd

    try:
        import anndata
    except ImportError as error:
        raise UserError(
            "this format needs the package anndata: pip install 'nmfnet[anndata]'"
        ) from error
    tables = []
    for columns, index in zip((obs, var), names, strict=True):
        table = pd.DataFrame(index=pd.Index(list(index), dtype=object))
        for key, value in columns.items():
            array = np.asarray(value)
            if array.dtype.kind == "U":  # anndata does not write the text type of pandas 3
                levels, codes = np.unique(array, return_inverse=True)
                kinds = pd.Index(levels.tolist(), dtype=object)
                table[key] = pd.Categorical.from_codes(codes, kinds)
            else:
                table[key] = array
        tables.append(table)
    try:
        anndata.AnnData(obs=tables[0], var=tables[1], **parts).write_h5ad(file)
    except Exception as error:  # of its registry, h5py's and others
        file.unlink(missing_ok=True)
        line = str(error).splitlines()[0]
        raise UserError(
            f"anndata {version('anndata')} cannot write {file} ({line}): csv files hold the same"
        ) from error


def _of_anndata(data: Any, file: Path, label: str | None, layer: str | None) -> RawTable:
    found = as_matrix(data, what=str(file), layer=layer)
    labels = None
    if label is not None:
        at = take_label(list(data.obs.columns), label, f"obs in {file}", "data.label_column")
        labels = [as_text(cell) for cell in data.obs.iloc[:, at]]
    raw = RawTable(found.values, found.sample_names, found.feature_names, labels)
    raw.orientation, raw.remarks = "samples_by_features", found.remarks
    return raw


# ---------------------------------------------------------------------------------- BIOM
def read_biom(file: Path) -> RawTable:
    """A BIOM table, version 1 (JSON) or 2 (HDF5): observations by samples."""
    with reading(file, "a readable BIOM file"), file.open("rb") as stream:
        binary = stream.read(4) == b"\x89HDF"
    values, rows, columns = _biom_2(file) if binary else _biom_1(file)
    return RawTable(as_float64(values, str(file)), rows, columns, orientation="features_by_samples")


def _biom_1(file: Path) -> tuple[Any, list[str], list[str]]:
    with reading(file, "a readable BIOM file"):
        table = json.loads(file.read_text("utf-8-sig"))
        rows, columns = ([as_text(line["id"]) for line in table[k]] for k in ("rows", "columns"))
        shape = (len(rows), len(columns))
        if table["matrix_type"] == "dense":
            return np.array(table["data"], dtype=np.float64).reshape(shape), rows, columns
        entries = np.array(table["data"], dtype=np.float64).reshape(-1, 3)
        places = entries[:, :2].astype(np.int64).T
        return sp.coo_matrix((entries[:, 2], (places[0], places[1])), shape), rows, columns


def _biom_2(file: Path) -> tuple[Any, list[str], list[str]]:
    with _opened(file, "a readable BIOM file") as stored:
        rows, columns = (_texts(stored, f"{axis}/ids", file) for axis in ("observation", "sample"))
        group = stored["observation/matrix"]
        return _sparse(group, (len(rows), len(columns)), file), rows, columns
