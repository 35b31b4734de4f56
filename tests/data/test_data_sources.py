"""Sources without files: digits, planted factors, data in memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from nmfnet.data import Digits, InMemory, Planted
from nmfnet.errors import UserError


def test_digits() -> None:
    matrix = Digits().read()
    matrix.check()
    assert (matrix.shape, matrix.kind, matrix.image_shape) == ((1797, 64), "image", (8, 8))
    assert matrix.values.sum() == 561718
    assert matrix.labels is not None
    assert np.bincount(matrix.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert list(matrix.sources) == ["sklearn/digits.csv.gz"]


def test_planted_without_noise_is_the_product() -> None:
    matrix = Planted(n_samples=300, n_features=40, n_components=6, sparsity=0.6, seed=3).read()
    matrix.check()
    assert matrix.truth is not None
    W, H = matrix.truth.W, matrix.truth.H
    assert np.array_equal(matrix.values, W @ H)
    assert (W.min(), H.min()) == (0.0, 0.0)
    assert np.allclose(H.sum(1), 1.0)
    assert np.linalg.matrix_rank(matrix.values) == 6
    assert matrix.values.mean() == pytest.approx(1.0)
    assert (W == 0).mean() == pytest.approx(0.6, abs=0.05)
    assert W.any(0).all()
    assert W.any(1).all()


def test_planted_keeps_every_line_at_high_sparsity() -> None:
    truth = Planted(n_samples=30, n_features=20, n_components=4, sparsity=0.97).read().truth
    assert truth is not None
    for factor in (truth.W, truth.H):
        assert factor.any(0).all()
        assert factor.any(1).all()


@pytest.mark.parametrize("noise", ["poisson", "gaussian"])
def test_planted_noise_has_the_stated_level(noise: str) -> None:
    options: dict[str, Any] = {
        "n_samples": 800,
        "n_features": 100,
        "noise_level": 0.05,
        "sparsity": 0.0,
    }
    matrix = Planted(noise=noise, **options).read()
    assert matrix.truth is not None
    mean = matrix.truth.W @ matrix.truth.H
    residual = matrix.values - mean
    scale = np.sqrt(mean) if noise == "poisson" else np.full_like(mean, 0.05)
    assert (residual / scale).std() == pytest.approx(1.0, abs=0.02)
    assert mean.mean() == pytest.approx(400.0 if noise == "poisson" else 1.0)
    assert matrix.values.min() >= 0
    if noise == "poisson":
        assert np.array_equal(matrix.values, np.round(matrix.values))


def test_planted_follows_its_seed() -> None:
    first, again, other = (Planted(noise="poisson", seed=seed).read() for seed in (0, 0, 1))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def changed(source: Any, **options: Any) -> Any:
    """The source with options that its annotations (checked in tests) would refuse."""
    for name, value in options.items():
        object.__setattr__(source, name, value)
    return source


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "uniform"}, "Allowed: none, poisson, gaussian"),
        ({"n_components": 0}, "data.n_components=0 must be at least 1"),
        ({"sparsity": 1.0}, r"must lie in \[0, 1\)"),
        ({"noise_level": 0.0, "noise": "gaussian"}, "must be above 0"),
    ],
)
def test_planted_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        changed(Planted(), **options).read()


X = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 4.0]])


def as_frame() -> Any:
    import pandas as pd

    return pd.DataFrame(X, index=["x", "y"], columns=["a", "b", "c"])


def sparse_type(fill: float) -> Any:
    import pandas as pd

    return pd.SparseDtype(np.float64, fill)


CONTAINERS = {
    "float32": lambda: X.astype(np.float32),
    "int": lambda: X.astype(np.int16),
    "lists": lambda: X.tolist(),
    "objects": lambda: X.astype(object),
    "csr": lambda: sp.csr_matrix(X),
    "csc array": lambda: sp.csc_array(X),
    "torch": lambda: torch.tensor(X, requires_grad=True),
    "bfloat16": lambda: torch.tensor(X, dtype=torch.bfloat16),
    "torch coo": lambda: torch.tensor(X).to_sparse(),
    "frame": as_frame,
    "sparse frame": lambda: as_frame().astype(sparse_type(0.0)),
    "sparse frame of NaN": lambda: as_frame().astype(sparse_type(np.nan)),
    "nullable frame": lambda: as_frame().astype("Int64"),
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("container", CONTAINERS)
def test_in_memory_containers(container: str) -> None:
    matrix = InMemory(X=CONTAINERS[container]()).read()
    matrix.check()
    assert matrix.is_sparse == (container in ("csr", "csc array", "torch coo", "sparse frame"))
    dense = matrix.values.toarray() if matrix.is_sparse else matrix.values
    assert dense.dtype == (np.float32 if container in ("float32", "int") else np.float64)
    assert np.array_equal(dense, X)
    named = "frame" in container
    assert matrix.sample_names == (["x", "y"] if named else ["sample_0001", "sample_0002"])
    assert matrix.feature_names[0] == ("a" if named else "feature_0001")


def test_in_memory_never_changes_its_input() -> None:
    dense = np.array([[1.0, np.nan], [2.0, 3.0]])
    mask = np.ones((2, 2), dtype=bool)
    InMemory(X=dense, mask=mask, missing="mask").read()
    assert np.isnan(dense[0, 1])
    assert mask.all()
    csr = sp.csr_matrix((np.array([1.0, 2.0, 5.0]), np.array([1, 1, 0]), np.array([0, 2, 3])))
    matrix = InMemory(X=csr).read()
    assert matrix.values.toarray().tolist() == [[0, 3], [5, 0]]
    assert csr.nnz == 3


def test_in_memory_masks() -> None:
    holed = np.array([[1.0, np.nan, 2.0], [0.0, 3.0, 4.0]])
    with pytest.raises(UserError, match=r"1 of 6 values are missing.*mask=~numpy.isnan\(X\)"):
        InMemory(X=holed).read()
    matrix = InMemory(X=holed, missing="mask").read()
    assert matrix.mask.tolist() == [[1, 0, 1], [1, 1, 1]]
    both = InMemory(X=holed, mask=[[0, 1, 1], [1, 1, 1]], missing="mask").read()
    assert both.mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    assert both.values.tolist() == [[0, 0, 2], [0, 3, 4]]
    explained = InMemory(X=holed, mask=~np.isnan(holed)).read()  # NaN under the mask is no error
    assert explained.fingerprint() == matrix.fingerprint()
    masked = InMemory(X=np.ma.masked_equal(X, 3.0)).read()
    assert masked.mask.tolist() == [[1, 1, 1], [1, 0, 1]]
    assert InMemory(X=X, mask=np.ones_like(X)).read().mask is None


def test_in_memory_labels_and_names() -> None:
    matrix = InMemory(X=np.eye(4), labels=[10, 9, 9, None], feature_names=list("abcd")).read()
    assert matrix.labels is not None
    assert matrix.labels.tolist() == [1, 0, 0, -1]
    assert matrix.label_names == ["9", "10"]
    assert matrix.feature_names == list("abcd")


def bad_frame() -> Any:
    frame = as_frame()
    frame["kind"] = ["t", "n"]
    return frame


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ones(3), r"1 dimension\(s\), shape \(3,\)"),
        (np.ones((2, 3, 4)), r"reshape\(len\(X\), -1\)"),
        ([[1, 2], [3]], "not a rectangular table"),
        ([[1, 2], [3, "x"]], "real numbers are needed"),
        (np.array([[1, 2], [3, "x"]], dtype=object), "'x' in row 2, column 2 is not a number"),
        (np.ones((2, 2)) * 1j, "complex"),
        (bad_frame, "'t' in column 'kind', row x"),
    ],
)
def test_in_memory_refuses(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        InMemory(X=value() if callable(value) else value).read()


def test_sparse_nan_is_refused() -> None:
    with pytest.raises(UserError, match=r"1 of 2 stored values of the sparse matrix are NaN"):
        InMemory(X=sp.csr_matrix([[1.0, 0.0], [0.0, np.nan]]), missing="mask").read()


def test_import_is_light() -> None:
    code = (
        "import sys, nmfnet.data, nmfnet.data.commands\n"
        "heavy = {'pandas', 'sklearn', 'pooch', 'anndata', 'torch', 'lightning', 'hydra', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
