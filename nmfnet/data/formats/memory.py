"""The one reader of what users hold in memory: X, new rows, masks, weights and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.frames import FRAME_ADVICE, as_float64, as_rows, read_frame
from nmfnet.data.formats.raw import as_text, did_you_mean, is_sparse, numbered, reading, shorten
from nmfnet.errors import UserError, reason

__all__ = [
    "Given",
    "aligned",
    "as_labels",
    "as_matrix",
    "as_weights",
    "masked",
    "modalities_of",
    "positions",
    "rows_like",
    "weights_of",
]


class Given(NamedTuple):
    """A matrix as it was given.

    Attributes
    ----------
    values : ndarray of float64 (or float32) or csr_matrix, shape (n_samples, n_features)
        NaN where a value is missing.
    sample_names, feature_names : list of str or None
        None where the container has none.
    mask : ndarray of bool, shape (n_samples, n_features), or None
        False where a masked array hides an entry.
    remarks : tuple of str
        What was guessed and should be said.
    """

    values: Any
    sample_names: list[str] | None
    feature_names: list[str] | None
    mask: np.ndarray | None = None
    remarks: tuple[str, ...] = ()


def as_matrix(
    X: Any,
    *,
    like_names: Sequence[str] | None = None,
    what: str = "X",
    layer: str | None = None,
    single: bool = False,
) -> Given:
    """Read anything that looks like a matrix, samples in rows.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features)
        Nested lists, NumPy array (masked, of any byte order and width), scipy sparse matrix, torch
        tensor of any layout, DataFrame of pandas, polars or pyarrow, xarray DataArray, AnnData,
        MuData of one modality.
    like_names : sequence of str, optional
        The features of a fitted model: columns with names are put into this order; columns without
        names are taken as they stand, and must be as many.
    what : str
        How messages call it.
    layer : str, optional
        Layer of an AnnData, or an entry of its ``obsm``; ``"raw"`` is its ``.raw``. Default ``.X``.
    single : bool
        Leave an array or a sparse matrix in float32 that needs no more.

    Raises
    ------
    UserError
        Not a matrix of real numbers, features missing or unknown, or another number of them.
    """
    with reading(what, "a readable matrix"):
        found = _read(X, what, layer, single=single)
    if like_names is None:
        return found
    if found.feature_names is None or list(like_names) == numbered("feature", len(like_names)):
        if found.values.shape[1] != len(like_names):
            raise UserError(
                f"{what} has {found.values.shape[1]} features, but {len(like_names)} are needed: "
                f"{shorten(like_names)}."
            )
        return found
    order = positions(found.feature_names, like_names, what, "feature", exact=True)
    return found._replace(
        values=found.values[:, order],
        feature_names=list(like_names),
        mask=None if found.mask is None else found.mask[:, order],
    )


def _read(X: Any, what: str, layer: str | None, *, single: bool = False) -> Given:
    if layer is not None and not hasattr(X, "obs_names"):
        raise UserError(f"layer={layer!r} is for an AnnData, and {what} is a {type(X).__name__}.")
    for asked, reader in _READERS:
        if all(hasattr(X, name) for name in asked):
            return reader(X, what, layer)
    if is_sparse(X):
        return Given(as_float64(X, what, single=single), None, None)
    if isinstance(X, np.ma.MaskedArray):
        observed = ~np.ma.getmaskarray(X)
        values = np.where(observed, X.data, np.zeros((), X.dtype)) if X.ndim == 2 else X.data
        return Given(as_float64(values, what), None, None, observed)
    if hasattr(X, "collect"):  # polars, dask: a plan of a table
        raise UserError(
            f"{what} is a {type(X).__name__} that holds no values yet: give X.collect()."
        )
    try:
        array = np.asarray(X)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"{what} is not a rectangular table: {reason(error)}.") from error
    if array.dtype.names is not None:
        raise UserError(f"{what} is a structured array: give pandas.DataFrame.from_records(X).")
    return Given(as_float64(array, what, single=single), None, None)


def _of_anndata(X: Any, what: str, layer: str | None) -> Given:
    source = X
    if layer == "raw" and X.raw is not None:
        source, values = X.raw, X.raw.X
    elif layer is not None and layer not in X.layers and layer in X.obsm:
        found = _read(X.obsm[layer], what, None)
        return found._replace(sample_names=[as_text(name) for name in X.obs_names])
    elif layer is not None:
        if layer not in X.layers:
            known = [*X.layers, *(["raw"] if X.raw is not None else []), *X.obsm]
            raise UserError(
                f"layer={layer!r} is not in {what}. Its layers: {shorten(known, 8) or 'none'}; "
                f"leave it out for X.{did_you_mean(layer, known)}"
            )
        values = X.layers[layer]
    else:
        values = X.X
    if values is None:
        raise UserError(f"{what} has no X. Choose a layer: {shorten(list(X.layers), 8) or 'none'}.")
    rows = [as_text(name) for name in X.obs_names]
    columns = [as_text(name) for name in source.var_names]
    return _read(values, what, None)._replace(sample_names=rows, feature_names=columns)


def modalities_of(X: Any) -> dict[str, Any]:
    """The modalities of a MuData by name; none of anything else."""
    return dict(X.mod) if all(hasattr(X, name) for name in ("obs_names", "mod")) else {}


def _of_mudata(X: Any, what: str, layer: str | None) -> Given:
    names = list(X.mod)
    if len(names) > 1:
        raise UserError(
            f"{what} holds the modalities {shorten(names, 8)}: give one of them, such as "
            f"X.mod[{names[0]!r}], and the others as views={{{names[1]!r}: X.mod[{names[1]!r}]}}."
        )
    return _read(X.mod[names[0]], what, layer)


def _of_pandas(X: Any, what: str, layer: str | None) -> Given:
    raw = read_frame(X, what, advice=FRAME_ADVICE)
    return Given(raw.values, raw.row_names, raw.column_names, None, raw.remarks)


def _of_columns(X: Any, what: str, layer: str | None) -> Given:
    import pandas as pd

    columns = {series.name: series.to_numpy() for series in X.get_columns()}
    return _of_pandas(pd.DataFrame(columns), what, layer)


def _of_others(X: Any, what: str, layer: str | None) -> Given:
    ndim = getattr(X, "ndim", 2)
    if ndim != 2:
        return Given(as_float64(np.asarray(X), what), None, None)
    table = X.to_pandas()
    if not hasattr(table, "columns"):
        return Given(as_float64(np.asarray(table), what), None, None)
    return _of_pandas(table, what, layer)


def _of_torch(X: Any, what: str, layer: str | None) -> Given:
    return Given(as_float64(from_torch(X.detach().cpu()), what), None, None)


_Reader = Callable[[Any, str, str | None], Given]

_READERS: tuple[tuple[tuple[str, ...], _Reader], ...] = (
    (("obs_names", "mod"), _of_mudata),
    (("obs_names", "var_names", "X"), _of_anndata),
    (("iloc", "columns"), _of_pandas),
    (("get_columns", "to_numpy"), _of_columns),  # polars
    (("to_pandas",), _of_others),  # pyarrow, xarray
    (("detach", "layout"), _of_torch),
)
"""What an object must offer, and the reader of such objects."""


def from_torch(tensor: Any) -> Any:
    """A tensor of torch as an ndarray, or as scipy CSR when its layout is sparse."""
    import torch

    if tensor.dtype.is_complex:
        raise UserError("X holds complex numbers; real numbers are needed.")
    if tensor.layout == torch.strided:
        return tensor.double().numpy() if tensor.dtype.is_floating_point else tensor.numpy()
    if tensor.ndim != 2:
        raise UserError(f"X has {tensor.ndim} dimension(s), shape {tuple(tensor.shape)}; give 2.")
    if tensor.layout == torch.sparse_csr:
        values, inner, outer = tensor.values(), tensor.col_indices(), tensor.crow_indices()
        return sp.csr_matrix((_numpy(values), inner.numpy(), outer.numpy()), tuple(tensor.shape))
    if tensor.layout == torch.sparse_csc:
        values, inner, outer = tensor.values(), tensor.row_indices(), tensor.ccol_indices()
        return sp.csc_matrix((_numpy(values), inner.numpy(), outer.numpy()), tuple(tensor.shape))
    coo = tensor if tensor.layout == torch.sparse_coo else tensor.to_sparse_coo()
    rows, columns = coo.coalesce().indices().numpy()
    return sp.coo_matrix((_numpy(coo.coalesce().values()), (rows, columns)), tuple(coo.shape))


def _numpy(part: Any) -> np.ndarray:
    return part.double().numpy() if part.dtype.is_floating_point else part.numpy()


# ------------------------------------------------------------------------ what lies beside X
def positions(
    read: Sequence[str] | None,
    names: Sequence[str],
    what: str,
    word: str,
    *,
    exact: bool = False,
) -> np.ndarray:
    """Where the names of the data stand in what was read beside them; names decide.

    Without names, or where the data have none of their own, position decides.

    Parameters
    ----------
    read : sequence of str or None
        Names of ``what``.
    names : sequence of str
        Names that are wanted, in order.
    word : {"sample", "feature"}
    exact : bool
        Refuse names that are not wanted, too.

    Raises
    ------
    UserError
        Wanted names are missing, or occur more than once.
    """
    if list(names) == numbered(word, len(names)):  # the data have no names of their own
        names = [str(i) for i in range(len(names))]
        read = read if read is not None and set(read) == set(names) else None
    if read is None:
        return np.arange(len(names))
    place = {name: i for i, name in enumerate(read)}
    absent = [name for name in names if name not in place]
    if absent:
        raise UserError(
            f"{len(absent)} of the {len(names)} {word}s of the data are not in {what} (first: "
            f"{absent[0]!r}; it has {shorten(read)}).{did_you_mean(absent[0], list(place))}"
        )
    if len(place) < len(read):
        repeated = next(name for i, name in enumerate(read) if place[name] != i)
        raise UserError(f"{what} has the {word} {repeated!r} more than once: names must be unique.")
    if exact and len(read) > len(names):
        wanted = set(names)
        extra = [name for name in read if name not in wanted]
        raise UserError(
            f"{what} has {len(extra)} {word}s that are not known (first: {extra[0]!r}): leave them "
            "out."
        )
    return np.array([place[name] for name in names], dtype=np.int64)


def rows_like(table: Any, names: Sequence[str] | None, what: str, *, square: bool = False) -> Any:
    """A table with its rows in the order of these names, where it has names; else as it is.

    ``square`` = its columns are the same samples, and follow their names, too.
    """
    given = as_matrix(table, what=what) if names is not None else None
    if given is None or names is None or (given.sample_names, given.feature_names) == (None, None):
        return table
    values = given.values
    if given.sample_names is not None:
        values = values[positions(given.sample_names, names, what, "sample")]
    if square and given.feature_names is not None:
        values = values[:, positions(given.feature_names, names, what, "sample")]
    return values


def aligned(
    given: Given, names: Sequence[str], features: Sequence[str], what: str
) -> tuple[Any, np.ndarray | None]:
    """Values and mask of something given beside the data, in the order of the data's names.

    Raises
    ------
    UserError
        Another shape where position decides; names that are missing.
    """
    rows = positions(given.sample_names, names, what, "sample")
    columns = positions(given.feature_names, features, what, "feature")
    n, f = given.values.shape
    if (given.sample_names is None and n != len(names)) or (
        given.feature_names is None and f != len(features)
    ):
        raise UserError(
            f"{what[0].upper()}{what[1:]} is {n} x {f} but the data are {len(names)} x "
            f"{len(features)} (samples x features). Both need the same shape and orientation."
        )
    if rows.max(initial=-1) >= n or columns.max(initial=-1) >= f:
        raise UserError(f"{what} is {n} x {f}; {len(names)} x {len(features)} are needed.")
    mask = None if given.mask is None else given.mask[rows][:, columns]
    return given.values[rows][:, columns], mask


def as_weights(
    values: Any, names: Sequence[str], features: Sequence[str], what: str = "The mask"
) -> Any:
    """Weights of entries: a bool matrix where all are 0 or 1, else float64; 0 = not observed.

    Parameters
    ----------
    values : ndarray or csr_matrix, shape (n_samples, n_features)
    names, features : sequence of str
        For messages.

    Raises
    ------
    UserError
        NaN, infinite or negative weights, with their number and the first one's place.
    """
    stored = values.data if is_sparse(values) else values
    bad = ~(np.isfinite(stored) & (stored >= 0))
    if bad.any():
        if is_sparse(values):
            at = sp.csr_matrix((bad, values.indices, values.indptr), values.shape)
            row, column = (int(index[0]) for index in at.nonzero())
        else:
            row, column = (int(index[0]) for index in np.nonzero(bad))
        raise UserError(
            f"{what} holds {int(bad.sum())} weights that are NaN, infinite or negative (first: "
            f"{values[row, column]:g} in sample {names[row]!r}, feature {features[column]!r}). A "
            "weight is a number >= 0; 0 means not observed."
        )
    plain = bool(((stored == 0) | (stored == 1)).all())
    weights = values.astype(bool) if plain else values.copy()
    if is_sparse(weights):
        weights.eliminate_zeros()
    return weights


def weights_of(
    uncertainty: Any, values: Any, names: Sequence[str], features: Sequence[str], what: str
) -> np.ndarray:
    """Weights 1/u² of entries that are known to within u, 0 where the value itself is missing.

    Parameters
    ----------
    uncertainty : ndarray or csr_matrix, shape (n_samples, n_features)
        u, in the unit of the data.
    values : ndarray or csr_matrix, shape (n_samples, n_features)
        The data, NaN where missing.
    names, features : sequence of str
        For messages.

    Raises
    ------
    UserError
        Uncertainties that are zero, negative, missing or infinite, with their number and the first
        one's place.
    """
    u, x = (table.toarray() if is_sparse(table) else table for table in (uncertainty, values))
    absent = np.isnan(x)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        weights = np.where(absent, 0.0, u.astype(np.float64) ** -2.0)
    bad = ~absent & ~((u > 0) & np.isfinite(u) & np.isfinite(weights))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise UserError(
            f"{what} holds {int(bad.sum())} uncertainties that are zero, negative, missing, infinite or "
            f"too small for 1/u² (first: {u[row, column]:g} in sample {names[row]!r}, feature "
            f"{features[column]!r}). An uncertainty is a number > 0 in the unit of X: give a value "
            "below the detection limit a large one, and leave the value empty where it is missing."
        )
    return weights


def masked(values: Any, mask: Any) -> Any:
    """Values where the mask is set; a sparse result stores exactly the entries of a sparse mask."""
    if not is_sparse(values):
        return np.where(mask != 0, values, 0.0)
    mask = sp.csr_matrix(mask)
    mask.eliminate_zeros()
    mask.sort_indices()
    rows, columns = mask.nonzero()
    data = np.asarray(values[rows, columns], dtype=np.float64).ravel()
    return sp.csr_matrix((data, mask.indices, mask.indptr), shape=mask.shape)


def as_labels(labels: Any, names: Sequence[str]) -> list[str]:
    """The class of each sample as text, "" where it has none; a Series is joined by its index.

    Raises
    ------
    UserError
        Not one class for each sample.
    """
    with reading("labels", "a list of classes"):
        if hasattr(labels, "to_pandas") and hasattr(labels, "coords"):  # xarray
            labels = labels.to_pandas()
        rows = as_rows(labels.index) if hasattr(labels, "iloc") else None
        cells = labels.detach().cpu() if hasattr(labels, "detach") else labels
        array = cells if isinstance(cells, np.ma.MaskedArray) else np.asarray(cells)
        if array.ndim != 1 and array.size != max(array.shape, default=0):
            raise UserError(f"labels have the shape {array.shape}; one class per sample is needed.")
        texts = [as_text(cell) for cell in array.ravel()]
        if rows is None and len(texts) != len(names):
            raise UserError(
                f"There are {len(texts)} labels for {len(names)} samples; one each is needed."
            )
        order = positions(rows, names, "labels", "sample")
    return [texts[i] for i in order]
