"""One reader for what users hold in memory: types, names, masks, weights, labels, new rows."""

from __future__ import annotations

import types
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from nmfnet.data import EntrySplit, InMemory
from nmfnet.data.formats.memory import as_labels, as_matrix
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sources.simple import new_rows
from nmfnet.errors import UserError

X = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 4.0]])
ANNDATA = "ignore:.*infer_string"
FRAME = pd.DataFrame(X, index=["x", "y"], columns=["a", "b", "c"])


def polars() -> Any:
    module = pytest.importorskip("polars")
    return module.DataFrame({"name": ["x", "y"], "a": [1, 0], "b": [0, 3], "c": [2.0, 4.0]})


def arrow() -> Any:
    return pytest.importorskip("pyarrow").Table.from_pandas(FRAME)


def xarray() -> Any:
    module = pytest.importorskip("xarray")
    return module.DataArray(X, dims=("s", "f"), coords={"s": ["x", "y"], "f": ["a", "b", "c"]})


def anndata() -> Any:
    module = pytest.importorskip("anndata")
    names = pd.DataFrame(index=np.array(["x", "y"], dtype=object))
    genes = pd.DataFrame(index=np.array(["a", "b", "c"], dtype=object))
    made = module.AnnData(sp.csr_matrix(X), obs=names, var=genes)
    made.layers["twice"] = 2 * X
    return made


CONTAINERS: dict[str, Callable[[], Any]] = {
    "big-endian": lambda: X.astype(">f4"),
    "longdouble": lambda: X.astype(np.longdouble),
    "Fortran": lambda: np.asfortranarray(X),
    "matrix": lambda: np.asmatrix(X),
    "decimals": lambda: np.array([[Decimal(int(v)) for v in row] for row in X], dtype=object),
    "text": lambda: X.astype(int).astype(str),
    "coo": lambda: sp.coo_array(X),
    "bsr": lambda: sp.bsr_matrix(X),
    "dok": lambda: sp.dok_array(X),
    "torch csc": lambda: torch.tensor(X).to_sparse_csc(),
    "torch coo, twice": lambda: torch.sparse_coo_tensor(
        torch.tensor([[0, 0, 0, 1, 1], [0, 0, 2, 1, 2]]), torch.tensor([0.5, 0.5, 2, 3, 4]), (2, 3)
    ),
    "torch bsr": lambda: torch.tensor(X).to_sparse_bsr((1, 3)),
    "torch half": lambda: torch.tensor(X).half(),
    "frame of objects": lambda: FRAME.astype(object),
    "frame of text": lambda: FRAME.astype(int).astype(str),
    "nullable frame": lambda: FRAME.convert_dtypes(),
    "arrow frame": lambda: FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "categories": lambda: FRAME.astype("category"),
    "polars": polars,
    "arrow": arrow,
    "xarray": xarray,
    "anndata": anndata,
}


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:the matrix subclass", ANNDATA)
@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers(kind: str) -> None:
    if kind == "arrow frame":
        pytest.importorskip("pyarrow")
    found = as_matrix(CONTAINERS[kind]())
    dense = found.values.toarray() if sp.issparse(found.values) else found.values
    assert dense.dtype == np.float64
    assert dense.dtype.isnative
    assert np.array_equal(dense, X)
    named = kind in ("categories", "polars", "arrow", "xarray", "anndata") or "frame" in kind
    assert found.sample_names == (["x", "y"] if named else None)
    assert found.feature_names == (["a", "b", "c"] if named else None)


def test_columns_that_hold_text_but_spell_numbers_are_said() -> None:
    assert as_matrix(FRAME.astype(object)).remarks[0].startswith("3 columns hold numbers stored as")
    assert as_matrix(FRAME).remarks == ()


@pytest.mark.filterwarnings(ANNDATA)
def test_layers_of_an_anndata() -> None:
    data = anndata()
    assert np.array_equal(as_matrix(data, layer="twice").values, 2 * X)
    data.raw = data.copy()
    few = data[:, ["a", "c"]].copy()
    raw = InMemory(X=few, layer="raw").read()
    assert (raw.feature_names, InMemory(X=few).read().feature_names) == (list("abc"), list("ac"))
    data.obsm["pca"] = X[:, :2]
    data.obsm["table"] = FRAME * 3
    found = as_matrix(data, layer="pca")
    assert np.array_equal(found.values, X[:, :2])
    assert (found.sample_names, found.feature_names) == (["x", "y"], None)
    assert as_matrix(data, layer="table").feature_names == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"layer='twce' is not in X.*'twice', 'raw'"):
        as_matrix(data, layer="twce")
    with pytest.raises(UserError, match="is for an AnnData, and X is a ndarray"):
        as_matrix(X, layer="raw")


def broken(change: Callable[[Any], None], made: Any = sp.csr_matrix) -> Any:
    matrix = made(X)
    change(matrix)
    return matrix


def far_column(matrix: Any) -> None:
    matrix.indices[0] = 10_000_000


def negative_column(matrix: Any) -> None:
    matrix.indices[-1] = -5


def broken_pointers(matrix: Any) -> None:
    matrix.indptr[1] = 900


def far_row(matrix: Any) -> None:
    matrix.row[0] = 7


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda: pd.Series([1.0, 2.0]), r"1 dimension\(s\)"),
        (lambda: sp.coo_array(np.ones(3)), r"1 dimension\(s\), shape \(3,\)"),
        (lambda: FRAME.assign(when=pd.Timestamp("2020-05-01")), "in column 'when'"),
        (lambda: FRAME.assign(took=pd.Timedelta("3h")), "in column 'took'"),
        (lambda: FRAME.assign(z=1j), "in column 'z'"),
        (lambda: FRAME.assign(k="u", l="v"), r"labels=X\['k'\].*same goes for 'l'"),
        (lambda: np.array([["2020-01-01"]], dtype="M8[D]"), r"datetime64\[D\] values"),
        (lambda: np.array([[10**400]], dtype=object), "not a number"),
        (lambda: np.array([["1_000"]]), "'1_000' in row 1, column 1 is not a number"),
        (lambda: np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), "structured array"),
        (lambda: types.SimpleNamespace(collect=None), "holds no values yet: give X.collect()"),
        (lambda: sp.csr_matrix(X * 1j), "complex"),
        (lambda: torch.tensor(X * 1j), "complex"),
        (lambda: broken(far_column), "X is not a valid sparse matrix"),
        (lambda: broken(negative_column), "X is not a valid sparse matrix"),
        (lambda: broken(broken_pointers), "X "),
        (lambda: broken(far_column, sp.csc_matrix), "X is not a valid sparse matrix"),
        (lambda: broken(far_row, sp.coo_matrix), "index along axis 0 lies outside the shape"),
        (lambda: sp.coo_matrix(([1.0], ([0], [0])), shape=(2**40, 2**40)), "GB of memory"),
        (lambda: object(), r"0 dimension\(s\)"),
    ],
)
def test_refused(value: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        InMemory(X=value()).read()


def test_missing_cells_of_every_kind_are_nan() -> None:
    cells = np.array([[1.0, None, np.nan], ["NA", "", 2]], dtype=object)
    cells[0, 0] = pd.NA
    assert np.isnan(as_matrix(cells).values).tolist() == [[1, 1, 1], [1, 1, 0]]


def test_row_numbers_saved_by_pandas_are_left_out() -> None:
    found = as_matrix(FRAME.assign(**{"Unnamed: 0": [0, 1]}))
    assert found.feature_names == ["a", "b", "c"]
    assert found.remarks == ("'Unnamed: 0' numbers the rows and was left out.",)
    assert as_matrix(FRAME.assign(**{"Unnamed: 0": [7, 1]})).values.shape == (2, 4)


# ---------------------------------------------------------------------- names decide
def test_columns_are_put_into_the_order_of_the_fit() -> None:
    turned = as_matrix(FRAME[["c", "a", "b"]], like_names=["a", "b", "c"])
    assert np.array_equal(turned.values, X)
    assert turned.feature_names == ["a", "b", "c"]
    for wrong, message in (
        (FRAME.rename(columns=str.upper), r"3 of the 3 features .*first: 'a'; it has 'A'"),
        (FRAME[["a", "b"]], "1 of the 3 features"),
        (FRAME.assign(d=1.0), "1 features that are not known .first: 'd'"),
        (X[:, :2], "2 features, but 3 are needed"),
    ):
        with pytest.raises(UserError, match=message):
            as_matrix(wrong, like_names=["a", "b", "c"])
    assert np.array_equal(as_matrix(X, like_names=["a", "b", "c"]).values, X)
    unnamed = ["feature_0001", "feature_0002", "feature_0003"]  # fitted without names
    assert np.array_equal(as_matrix(FRAME, like_names=unnamed).values, X)


def test_masks_are_joined_by_name() -> None:
    mask = FRAME > 1
    straight = InMemory(X=FRAME, mask=mask).read()
    turned = InMemory(X=FRAME, mask=mask.iloc[::-1, ::-1]).read()
    assert straight.fingerprint() == turned.fingerprint()
    assert straight.mask.tolist() == [[0, 0, 1], [0, 1, 1]]
    with pytest.raises(UserError, match=r"1 of the 2 samples .* not in mask \(first: 'y'"):
        InMemory(X=FRAME, mask=mask.rename(index={"y": "z"})).read()
    with pytest.raises(UserError, match="'x' more than once"):
        InMemory(X=FRAME, mask=pd.concat([mask, mask])).read()
    numbered = pd.DataFrame(X)
    rows = InMemory(X=numbered, mask=(numbered > 1).iloc[::-1]).read()
    assert rows.mask.tolist() == straight.mask.tolist()
    by_place = InMemory(X=X, mask=mask).read()  # X has no names
    assert by_place.mask.tolist() == straight.mask.tolist()


def test_labels_are_joined_by_name() -> None:
    labels = pd.Series([2, 1], index=["y", "x"])
    assert as_labels(labels, ["x", "y"]) == ["1", "2"]
    assert as_labels(labels, ["sample_0001", "sample_0002"]) == ["2", "1"]
    with pytest.raises(UserError, match=r"1 of the 2 samples .* not in labels"):
        as_labels(labels.rename({"x": "z"}), ["x", "y"])


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1, None]),
        pd.Series(["1", pd.NA], dtype="category"),
        np.ma.array([1, 5], mask=[False, True]),
        [b"1", None],
        torch.tensor([1.0, float("nan")]),
        np.array([[1.0], [np.nan]]),
    ],
)
def test_labels_with_a_missing_class(labels: Any) -> None:
    matrix = InMemory(X=X, labels=labels).read()
    assert (matrix.label_names, matrix.labels.tolist()) == (["1"], [0, -1])  # type: ignore[union-attr]


def test_labels_that_do_not_fit() -> None:
    for labels, message in (
        ([1, 2, 3], "3 labels for 2 samples"),
        ([[1, 2], [3, 4]], r"shape \(2, 2\)"),
        ([None, np.nan], "None of the 2 labels names a class"),
    ):
        with pytest.raises(UserError, match=message):
            InMemory(X=X, labels=labels).read()


# ---------------------------------------------------------------------- weights
def module(X: Any, mask: Any, split: Any = None) -> MatrixDataModule:
    from nmfnet.data import NoSplit

    data = MatrixDataModule(
        InMemory(X=X, mask=mask),
        split or NoSplit(),
        dtype=torch.float64,
        seed=0,
        device=torch.device("cpu"),
    )
    data.setup()
    return data


WEIGHTS = np.array([[1.0, 0.25, 0.0], [3.0, 1.0, 0.5]])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("sparse_weights", [False, True])
def test_weights_stay_weights(sparse: bool, sparse_weights: bool) -> None:
    data = module(
        sp.csr_matrix(X) if sparse else X, sp.csr_matrix(WEIGHTS) if sparse_weights else WEIGHTS
    )
    assert np.array_equal(data.matrix.mask, WEIGHTS)
    assert data.train.mask is not None
    assert np.array_equal(data.train.mask.numpy(), WEIGHTS)
    assert np.array_equal(data.train.x.numpy(), np.where(WEIGHTS > 0, X, 0))


def test_held_out_entries_take_their_weight_along() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.random((8, 6)), rng.choice([0.0, 0.5, 2.0], (8, 6), p=[0.2, 0.4, 0.4])
    weights[0], weights[:, 0] = 1.0, 1.0
    data = module(values, weights, EntrySplit(fraction=0.3))
    assert data.train.mask is not None
    assert data.test is not None
    assert data.test.mask is not None
    assert not ((data.train.mask > 0) & (data.test.mask > 0)).any()
    assert np.array_equal((data.train.mask + data.test.mask).numpy(), weights)
    assert (data.test.mask > 0).any()


def test_a_mask_of_ones_and_zeros_is_a_mask() -> None:
    assert InMemory(X=X, mask=np.ones((2, 3))).read().mask is None
    assert InMemory(X=X, mask=(X > 0).astype(float)).read().mask.dtype == bool


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix, pd.DataFrame])
def test_wrong_weights_are_counted(make: Callable[[Any], Any]) -> None:
    weights = np.array([[1.0, -0.5, 1.0], [np.nan, 1.0, np.inf]])
    with pytest.raises(UserError, match=r"3 weights that are NaN.*-0.5 in sample .*feature_0002"):
        InMemory(X=X, mask=make(weights)).read()


def test_a_dense_mask_beside_a_sparse_matrix_hides_and_is_no_zero() -> None:
    seen = np.array([[True, True, False], [True, False, True]])
    dense = module(X, seen)
    mixed = module(sp.csr_matrix(X), seen)
    assert torch.equal(dense.train.x, mixed.train.x)
    assert dense.fingerprint == mixed.fingerprint
    sparse = module(sp.csr_matrix(X), sp.csr_matrix(seen))
    assert torch.equal(sparse.train.x.to_dense(), dense.train.x)
    assert sparse.train.x.values().numel() == 4  # observed zeros are stored


# ---------------------------------------------------------------------- new rows
def test_new_rows_are_read_as_fit_reads_them() -> None:
    hidden = np.ma.array(X, mask=X == 2)
    values, mask, names = new_rows(hidden)
    plain = new_rows(X, X != 2)
    assert np.array_equal(values, plain[0])
    assert np.array_equal(mask, plain[1])
    assert names is None
    values, mask, names = new_rows(FRAME[["b", "c", "a"]], like_names=["a", "b", "c"])
    assert np.array_equal(values, X)
    assert (mask, names) == (None, ["x", "y"])
    with pytest.raises(UserError, match=r"1 of 6 values are missing"):
        new_rows(np.where(X == 2, np.nan, X))
    seen = FRAME > 1
    for mixed in (
        new_rows(sp.csr_matrix(X), X != 2),
        new_rows(sp.csr_matrix(X), sp.csr_matrix(X != 2)),
    ):
        values, mask = (part.toarray() if sp.issparse(part) else part for part in mixed[:2])
        assert np.array_equal(values, plain[0])
        assert np.array_equal(mask, plain[1])
    assert mixed[0].nnz == mixed[1].nnz == 5  # observed zeros are stored
    turned = new_rows(FRAME[["b", "c", "a"]], seen.iloc[::-1], like_names=["a", "b", "c"])
    assert turned[1].tolist() == seen.to_numpy().tolist()
