"""Data of any size: X times c has the factorisation of X, times c."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import nmfnet
from nmfnet import Estimator, UserError
from nmfnet.core.units import power
from nmfnet.data import EntrySplit, InMemory, RowSplit
from nmfnet.data.module import MatrixDataModule
from nmfnet.run.memory import in_memory
from nmfnet.run.train import train as run
from nmfnet.settings.words import configuration

QUICK = {"n_components": 2, "threads": 1}
X = np.random.default_rng(0).poisson(5, (12, 6)) + 1.0


def shape_of(model: nmfnet.Factorization, factor: float, X: np.ndarray = X) -> list[np.ndarray]:
    """What must not depend on the size of the data, with the factor taken out."""
    W = model.transform(X).astype(np.float64)
    degree = model.loss.beta
    values = [model.metrics[key] for key in ("train/loss", "objective")]
    return [
        np.array([model.metrics["train/relative_error"]]),
        np.array(values) / factor**degree,
        np.array([model.metrics["train/kl"] / factor, model.metrics["train/rmse"] / factor]),
        W @ (model.components_ / factor),
        model.reconstruct(X).astype(np.float64) / factor,
        model.inverse_transform(W).astype(np.float64) / factor,
    ]


def profiles(H: np.ndarray) -> np.ndarray:
    """Components of sum 1: how the scale is shared out between W and H is arbitrary."""
    return H / H.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        ("nmf", "frobenius"),
        ("nmf", "kl"),
        ("nmf", "itakura_saito"),
        ("projective_nmf", "frobenius"),
        ("convex_nmf", "frobenius"),
        ("autoencoder", "frobenius"),
    ],
)
def test_factors_and_numbers_are_those_of_ordinary_data(model, loss):
    settings = {"loss": loss, "max_iter": 300, **QUICK}
    wanted = shape_of(nmfnet.fit(X, model, **settings), 1.0)
    for factor in (1e-30, 1e20):
        fitted = nmfnet.fit(X * factor, model, **settings)
        found = shape_of(fitted, factor, X * factor)
        for one, two in zip(wanted, found, strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-3)
        assert found[0] == pytest.approx(wanted[0], rel=2e-6)


@pytest.mark.parametrize("model", ["deep_autoencoder", "muse_xae"])
def test_networks_with_biases_fit_small_data_as_well(model):
    """Biases start at 0, where Adam's steps are near .01 whatever the size of X."""
    rows = np.tile(X, (10, 1))
    errors = [
        nmfnet.fit(rows * c, model, max_iter=100, **QUICK).metrics["train/relative_error"]
        for c in (1.0, 1e-2, 1e-4, 1e-6)
    ]
    assert max(errors) < 1.3 * min(errors)


def test_ordinary_data_are_used_as_they_are():
    assert {power(size) for size in (1e-6, 1.0, 5e5, 0.0)} == {1.0}
    assert all(s / power(s) < 4 and s / power(s) >= 1 for s in (1e-30, 3e-7, 3e7, 1e300))
    assert not nmfnet.fit(X, **QUICK, max_iter=5).notes


def test_history_files_and_a_loaded_model_are_in_the_units_of_the_data(tmp_path):
    fitted = nmfnet.fit(X * 1e-30, **QUICK, run_dir=tmp_path, figures=False)
    stored = np.load(tmp_path / "factors.npz")
    np.testing.assert_array_equal(stored["H"], fitted.components_)
    np.testing.assert_allclose(stored["W"] @ (stored["H"] / 1e-30), X, atol=5)
    loaded = nmfnet.load(tmp_path)
    np.testing.assert_array_equal(loaded.components_, fitted.components_)
    np.testing.assert_array_equal(loaded.transform(X * 1e-30), fitted.transform(X * 1e-30))
    last = (tmp_path / "history.csv").read_text().splitlines()[-1]
    objective = float(last.split(",")[2])
    assert objective == pytest.approx(fitted.metrics["objective"], rel=1e-5)
    assert "divided by 2**" in json.dumps(
        json.loads((tmp_path / "metrics.json").read_text())["notes"]
    )


def test_sparse_held_out_and_given_in_other_units():
    small = sp.csr_matrix(np.where(X > 4, X, 0.0))
    one = nmfnet.fit(small, loss="kl", max_iter=100, **QUICK)
    two = nmfnet.fit(small * 1e-25, loss="kl", max_iter=100, **QUICK)
    np.testing.assert_allclose(profiles(two.components_), profiles(one.components_), atol=1e-4)
    split = {"split": "entries", "max_iter": 100, **QUICK}
    held = [nmfnet.fit(X * c, **split).metrics["test/relative_error"] for c in (1, 2.0**-90)]
    assert held[1] == pytest.approx(held[0], rel=1e-4)
    H = one.components_
    np.testing.assert_allclose(
        nmfnet.project(X * 1e-25, H) / 1e-25, nmfnet.project(X, H), rtol=1e-4
    )
    np.testing.assert_allclose(
        nmfnet.project(X * 1e-25, H * 1e-25), nmfnet.project(X, H), rtol=1e-4
    )


def test_factors_of_a_file_are_in_the_units_of_the_data(tmp_path):
    H = np.random.default_rng(1).random((2, 6))
    codes = []
    for factor in (1.0, 1e9):
        np.savez(tmp_path / "start.npz", H=factor * H)
        own = {"init.path": str(tmp_path / "start.npz"), "model.frozen": ["H"]}
        fitted = nmfnet.fit(factor * X, **QUICK, init="given", **own)
        codes.append(fitted.transform(factor * X))
        np.testing.assert_allclose(fitted.components_, factor * H, rtol=1e-6)
    np.testing.assert_allclose(codes[1], codes[0], rtol=0.01, atol=0.01)


def test_a_constraint_decides_which_factor_has_the_scale():
    settings = {"constraint.H": "simplex_project", "max_iter": 50, **QUICK}
    fitted = nmfnet.fit(X * 1e-20, **settings)
    np.testing.assert_allclose(fitted.components_.sum(1), 1, rtol=1e-5)
    assert 1e-21 < fitted.transform(X * 1e-20).mean() < 1e-18


def test_learning_from_batches_of_small_numbers():
    one, two = (
        Estimator(random_state=0).partial_fit(X * c).partial_fit(X * c) for c in (1.0, 2.0**-80)
    )
    np.testing.assert_allclose(profiles(two.components_), profiles(one.components_), rtol=1e-4)
    assert two.reconstruction_err_ * 2.0**160 == pytest.approx(one.reconstruction_err_, rel=1e-4)


def test_what_has_a_scale_of_its_own_is_told():
    with_penalty = nmfnet.fit(X * 1e-10, penalty="l2", max_iter=5, **QUICK)
    assert "weights of penalties" in with_penalty.notes[0]
    assert "scale of its own" in nmfnet.fit(X * 1e10, loss="poisson", max_iter=5, **QUICK).notes[0]


def test_numbers_that_no_float_holds_are_refused():
    with pytest.raises(UserError, match="dtype=float64"):
        nmfnet.fit(X * 1e39, **QUICK)
    with pytest.raises(UserError, match="squares are no numbers of float64"):
        nmfnet.fit(X * 1e-300, dtype="float64", **QUICK)
    fitted = nmfnet.fit(X * 1e39, dtype="float64", max_iter=100, **QUICK)
    assert fitted.metrics["train/relative_error"] < 0.21
    outlier = X.copy()
    outlier[0, 0] = 1e40
    with pytest.raises(UserError, match="float32"):
        nmfnet.fit(outlier, **QUICK)


@pytest.mark.parametrize("model", ["nmfd", "convex_nmf", "projective_nmf", "trifactor"])
@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_only_ratios_of_weights_matter_to_where_a_fit_begins(model, size):
    def fitted(weight):
        mask = np.full(X.shape, weight)
        return nmfnet.fit(X, model, mask=mask, max_iter=1, tol=0, **QUICK, solver="mu")

    one, other = fitted(1.0), fitted(size)
    for name, factor in one.factors.items():
        found, wanted = (f().detach().numpy() for f in (other.factors[name], factor))
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


def tables_of(model: str, factor: float, **settings) -> dict[str, np.ndarray]:
    """The factors that a run on X times a factor would write."""
    own = {"model": model, "dtype": "float64", "max_iter": 20, "progress": False, **QUICK}
    source = in_memory(factor * X, covariates=["a", "b"] * 6)
    return run(configuration({**own, **settings}), source, write=False).factors.tables


def placed(F: dict[str, np.ndarray]) -> np.ndarray:
    """X_hat of two data sets, row by row in turn."""
    both = (F["H"] + V.reshape(2, 6) for V in F["V"])
    return np.stack([F["W"] @ H for H in both])[np.arange(12) % 2, np.arange(12)]


@pytest.mark.parametrize(
    ("model", "made", "settings"),
    [
        ("pca", lambda F: F["W"] @ F["H"] + F["mean"], {}),
        ("trifactor", lambda F: F["F"] @ F["S"] @ F["G"], {}),
        ("deep_nmf", lambda F: F["W"] @ F["A1"] @ F["A0"], {"layers": [3, 2]}),
        ("nsnmf", lambda F: F["W"] @ F["B"], {"smoothing": 0.0}),
        ("nmfd", lambda F: F["W"] @ F["T"], {"taps": 1}),
        ("inmf", placed, {}),
    ],
)
def test_all_factors_of_a_run_are_in_the_units_of_x(model, made, settings):
    one, two = (made(tables_of(model, factor, **settings)) / factor for factor in (1.0, 2.0**40))
    np.testing.assert_allclose(one, X, atol=5)
    np.testing.assert_allclose(two, one, rtol=1e-3)


@pytest.mark.parametrize("model", ["nmf", "deep_autoencoder"])
@pytest.mark.parametrize("split", ["rows", "entries"])
def test_the_size_of_what_is_held_out_changes_no_number_of_the_training(model, split):
    own = {"split": split, "max_iter": 5, "threads": 1}
    kind = {"rows": RowSplit(), "entries": EntrySplit()}[split]
    data = MatrixDataModule(
        InMemory(X=X), kind, dtype=torch.float64, seed=0, device=torch.device("cpu")
    )
    data.setup()
    held = data.partition.held_out
    if held is None:
        held = np.isin(np.arange(len(X)), data.partition.test_rows)[:, None]
    one, other = (nmfnet.fit(x, model, **own) for x in (X, np.where(held, 1e9 * X, X)))
    assert one.metrics["test/loss"] < other.metrics["test/loss"]
    assert one.notes == other.notes
    for name, factor in one.factors.items():
        assert torch.equal(factor(), other.factors[name]())
