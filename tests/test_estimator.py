"""nmfnet in scikit-learn, and nmfnet.fit on everything that holds a matrix."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from making import brings_data, planted, positive, some_mask
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

import nmfnet
from nmfnet import Estimator
from nmfnet.config import options
from nmfnet.settings.words import configuration

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

QUICK = {"figures": False, "threads": 1}
WITH_SPARSE = [
    pytest.param(
        *(solver, loss),
        marks=[] if solver == "auto" or loss in ("frobenius", "kl") else [pytest.mark.slow],
    )
    for solver in options("solver")
    for loss in options("loss")
]
"""Every solver and loss; quick are two losses, and every loss with the solver chosen for it."""


def small(model: str, layers: tuple[int, ...] = (4, 3)) -> dict[str, list[int]]:
    """Settings with which a model takes a few features."""
    return {"layers": list(layers)} if "layers" in configuration({"model": model}).model else {}


PLAIN = [name for name in options("model") if not brings_data(name)]
"""Models of any non-negative matrix."""


def on_few_rows(model: str) -> dict[str, object]:
    """Settings with which a model takes the data of scikit-learn: few features, and ten rows or one."""
    holds_rows_out = configuration({"model": model}).solver.get("heldout")
    return small(model, (2, 2)) | ({"solver": "adam"} if holds_rows_out else {})


OTHERS = [
    Estimator(name, max_iter=3, settings=on_few_rows(name)) for name in PLAIN if name != "nmf"
]


@parametrize_with_checks([Estimator(max_iter=10)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(OTHERS)
def test_scikit_learns_own_checks_of_every_other_model(estimator, check):
    check(estimator)


# ---------------------------------------------------------------------- in scikit-learn
@pytest.mark.parametrize("model", PLAIN)
def test_every_model_fits_and_transforms(model):
    X = positive(20, 8)
    own = small(model)
    estimator = Estimator(model, n_components=3, max_iter=20, random_state=0, settings=own)
    W = estimator.fit_transform(X)
    assert W.shape == (20, 3)
    assert estimator.components_.shape == (3, 8)
    assert estimator.n_components_ == 3
    assert estimator.n_iter_ == 20
    assert np.isfinite(estimator.reconstruction_err_)
    np.testing.assert_array_equal(W, estimator.transform(X))
    assert estimator.inverse_transform(W).shape == X.shape
    assert list(estimator.get_feature_names_out()) == [f"estimator{i}" for i in range(3)]


def test_reconstruction_error_is_the_loss_of_the_fit():
    X = positive(20, 8)
    estimator = Estimator(n_components=3, random_state=0, max_iter=200).fit(X)
    X_hat = estimator.inverse_transform(estimator.transform(X))
    assert estimator.reconstruction_err_ == pytest.approx(0.5 * ((X - X_hat) ** 2).sum(), rel=1e-3)


def test_random_state_decides():
    X = positive(20, 8)
    found = [
        clone(Estimator(n_components=3, max_iter=5, random_state=seed)).fit(X).components_
        for seed in (0, 0, 1, np.random.RandomState(0))
    ]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert np.array_equal(found[0], found[3])


def test_pipeline_and_grid_search():
    X, W, _ = planted(60, 12)
    y = W.argmax(1)
    pipe = make_pipeline(Estimator(max_iter=50, random_state=0), LogisticRegression(max_iter=1000))
    grid = {"estimator__n_components": np.arange(1, 4, 2), "estimator__loss": ["frobenius", "kl"]}
    search = GridSearchCV(pipe, grid, cv=2).fit(X, y)
    assert search.best_params_["estimator__n_components"] == 3
    assert search.best_score_ > 0.7
    assert search.predict(X).shape == (60,)


@pytest.mark.parametrize(
    ("model", "loss", "settings", "signed"),
    [
        ("pca", None, {}, True),
        ("semi_nmf", None, {}, True),
        ("nmf", None, {"constraint": "free"}, True),
        ("autoencoder_free", None, {"solver": "adam"}, True),
        ("nmf", None, {"constraint": "softplus"}, False),
        ("archetypes", "kl", {}, False),
        ("vae", None, {}, False),
    ],
)
def test_a_model_of_any_sign_takes_any_sign(model, loss, settings, signed):
    X = np.random.default_rng(0).standard_normal((20, 4))
    estimator = Estimator(model, loss=loss, max_iter=3, random_state=0, settings=settings)
    assert get_tags(estimator).input_tags.positive_only is not signed
    if signed:
        estimator.fit(X)
        assert np.isfinite(estimator.transform(X)).all()
    else:
        with pytest.raises(ValueError, match="Negative values"):
            estimator.fit(X)


def test_masked_entries_are_refused_not_taken_as_observed():
    X = np.ma.masked_array(positive(20, 8))
    fitted = Estimator(max_iter=3).fit(X)
    X[3, 4] = np.ma.masked
    for method in (fitted.fit, fitted.transform, fitted.score):
        with pytest.raises(nmfnet.UserError, match=r"masked entries.*nmfnet\.fit"):
            method(X)


def test_float32_stays_float32():
    X = positive(20, 8).astype(np.float32)
    estimator = Estimator(max_iter=5).fit(X)
    assert estimator.components_.dtype == np.float32
    assert estimator.transform(X).dtype == np.float32


def test_what_has_not_converged_warns():
    X = positive(20, 8)
    with pytest.warns(ConvergenceWarning, match=r"not converged in 5 iterations.*raise max_iter"):
        Estimator(max_iter=5, random_state=0).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Estimator(n_components=1, random_state=0).fit(X).model_.metrics["converged"]


def test_score_is_minus_the_loss_per_entry():
    X = positive(20, 8)
    for loss in ("frobenius", "kl"):
        fitted = Estimator(loss=loss, max_iter=50, random_state=0).fit(X)
        X_hat = fitted.inverse_transform(fitted.transform(X))
        gap = 0.5 * (X - X_hat) ** 2 if loss == "frobenius" else X * np.log(X / X_hat) - X + X_hat
        assert fitted.score(X) == pytest.approx(-gap.mean(), rel=1e-6)
        mask = some_mask(20, 8)
        W = fitted.model_.transform(X, mask)
        X_hat = fitted.inverse_transform(W)
        gap = 0.5 * (X - X_hat) ** 2 if loss == "frobenius" else X * np.log(X / X_hat) - X + X_hat
        assert fitted.model_.score(X, mask) == pytest.approx(-gap[mask].mean(), rel=1e-6)
    with pytest.raises(nmfnet.UserError, match="no entry of X is observed"):
        fitted.model_.score(X, np.zeros_like(mask))


def test_automatic_number_of_components():
    X = positive(20, 8)
    assert Estimator(n_components="auto", max_iter=3).fit(X).n_components_ == 8
    given = {"H": positive(3, 8), "W": positive(20, 3), "init": "given", "max_iter": 3, **QUICK}
    assert nmfnet.fit(X, n_components="auto", **given).n_components == 3
    with pytest.raises(nmfnet.UserError, match="'auto'"):
        nmfnet.fit(X, n_components="many")


def test_only_models_of_free_factors_learn_from_batches():
    assert {name for name in PLAIN if hasattr(Estimator(name), "partial_fit")} == {"nmf", "plca"}


@pytest.mark.parametrize("model", ["nmf", "autoencoder", "deep_nmf"])
def test_a_pickle_does_not_hold_the_training_rows(model):
    X, fresh = positive(20, 8), positive(5, 8, seed=3)
    sizes = []
    for rows in (20, 2000):
        own = {"max_iter": 3, "random_state": 0, "settings": small(model)}
        fitted = Estimator(model, **own).fit(np.tile(X, (rows // 20, 1)))
        kept = pickle.dumps(fitted)
        sizes.append(len(kept))
        again = pickle.loads(kept)
        np.testing.assert_array_equal(again.transform(fresh), fitted.transform(fresh))
        assert fitted.model_.sizes.n_samples == rows
    assert abs(sizes[1] - sizes[0]) < 200


def test_settings_reach_the_run_and_errors_reach_the_user():
    X = positive(20, 8)
    fitted = Estimator("convex_nmf", max_iter=5, settings={"convex_axis": "features"}).fit(X)
    assert fitted.model_.inductive
    with pytest.raises(nmfnet.UserError, match="did you mean 'convex_axis'"):
        Estimator("convex_nmf", settings={"convex_axes": "features"}).fit(X)
    with pytest.raises(nmfnet.UserError, match="did you mean 'nmf'"):
        Estimator("nfm").fit(X)
    with pytest.raises(ValueError, match="Negative values"):
        Estimator().fit(-X)
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        Estimator("autoencoder").fit(sp.csr_matrix(X))


# ---------------------------------------------------------------------- nmfnet.fit
def same(one, two) -> bool:
    return np.array_equal(one.components_, two.components_)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_everything_that_holds_a_matrix():
    X = positive(20, 8)
    wanted = nmfnet.fit(X, n_components=3, max_iter=20, **QUICK)
    names = [f"gene{j}" for j in range(8)]
    for given in (
        X.tolist(),
        np.asfortranarray(X),
        torch.from_numpy(X),
        pd.DataFrame(X, columns=names),
    ):
        assert same(nmfnet.fit(given, n_components=3, max_iter=20, **QUICK), wanted)
    stored = X * (X > 0.5)
    own = {"n_components": 3, "max_iter": 20, "solver": "mu", "dtype": "float64", **QUICK}
    dense = nmfnet.fit(stored, **own)
    for kind in (sp.csr_matrix, sp.coo_matrix, sp.csc_array):
        sparse = nmfnet.fit(kind(stored), **own)
        np.testing.assert_allclose(sparse.components_, dense.components_, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            sparse.transform(kind(stored)), dense.transform(stored), rtol=1e-6, atol=1e-9
        )


@pytest.mark.quick("auto-frobenius", "auto-kl", "hals-frobenius", "mu-kl", "auto-own")
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize(("solver", "loss"), WITH_SPARSE)
def test_sparse_data_end_where_dense_data_do_or_are_refused(solver, loss):
    X = positive(30, 8)
    stored = X * (X > 0.5)
    own = {"n_components": 2, "loss": loss, "solver": solver, "dtype": "float64", **QUICK}
    own |= {"batch_size": 10} if solver == "online" else {}
    own["max_iter"] = 5 if solver in ("lbfgs", "gd") else 60  # rounding leads long searches apart
    try:
        sparse = nmfnet.fit(sp.csr_matrix(stored), **own).metrics["objective"]
    except nmfnet.UserError:
        return
    dense = nmfnet.fit(stored, **own).metrics["objective"]
    assert sparse == pytest.approx(dense, rel=1e-2)


def test_names_and_labels_of_a_data_frame_reach_the_files(tmp_path):
    frame = pd.DataFrame(
        positive(6, 4), index=[f"patient{i}" for i in range(6)], columns=list("abcd")
    )
    labels = ["x", "y", "x", "y", "x", "y"]
    fitted = nmfnet.fit(
        frame, n_components=2, max_iter=20, labels=labels, run_dir=tmp_path / "run", **QUICK
    )
    with np.load(tmp_path / "run" / "factors.npz") as arrays:
        assert list(arrays["sample_names"]) == list(frame.index)
        assert list(arrays["feature_names"]) == list(frame.columns)
        assert arrays["W"].shape == (6, 2)
    assert "labels/ari" in fitted.metrics


def test_missing_entries_may_be_masked_and_must_not_be_nan():
    X, mask = positive(20, 8), some_mask(20, 8)
    holes = np.where(mask, X, np.nan)
    with pytest.raises(nmfnet.UserError, match="NaN"):
        nmfnet.fit(holes, **QUICK)
    for solver in ("mu", "newton", "adam"):
        own = {"n_components": 3, "max_iter": 20, "solver": solver, **QUICK}
        fitted = nmfnet.fit(holes, mask=mask, **own)
        zeros = nmfnet.fit(X * mask, mask=mask, **own)
        assert same(fitted, zeros)
        assert np.isfinite(fitted.transform(holes, mask)).all()
        assert same(nmfnet.fit(np.ma.masked_array(X, ~mask), **own), zeros)


def test_new_rows_of_every_kind():
    X, fresh = positive(20, 8), positive(5, 8, seed=3)
    fitted = nmfnet.fit(X, n_components=3, max_iter=50, dtype="float64", **QUICK)
    W = fitted.transform(fresh)
    assert W.shape == (5, 3)
    for given in (fresh.tolist(), pd.DataFrame(fresh), torch.from_numpy(fresh)):
        np.testing.assert_array_equal(fitted.transform(given), W)
    np.testing.assert_allclose(fitted.inverse_transform(W), W @ fitted.components_)
    np.testing.assert_allclose(fitted.reconstruct(fresh), W @ fitted.components_)


def test_every_wrong_keyword_is_named():
    X = positive()
    for settings, word in (
        ({"n_compnents": 3}, "did you mean 'n_components'"),
        ({"los": "kl"}, "loss"),
        ({"loss": "kll"}, "did you mean 'kl'"),
        ({"solver.extrapolatoin": True}, "did you mean 'extrapolation'"),
        ({"n_components": 2.5}, "whole number"),
        ({"n_components": 0}, "at least 1"),
        ({"n_restarts": 0}, "n_restarts=0"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"dtype": "float16"}, "float32"),
    ):
        with pytest.raises(nmfnet.UserError, match=word):
            nmfnet.fit(X, solver="mu", **settings, **QUICK)


def test_nothing_is_written_unless_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nmfnet.fit(positive(), n_components=2, max_iter=5)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_x_is_left_as_it_was():
    X = positive(20, 8)
    kept = X.copy()
    for model in PLAIN:
        own = {"n_components": 3, "max_iter": 10, "dtype": "float64", **QUICK, **small(model)}
        nmfnet.fit(X, model, **own)
        assert np.array_equal(X, kept)


@pytest.mark.parametrize("solver", ["adam", "online"])
def test_objective_of_minibatches_is_that_of_the_whole_in_the_end(solver):
    """Not the sum of what each minibatch had with the factors of its moment."""
    X = planted(40, 12)[0] + 0.1
    fitted = nmfnet.fit(
        X,
        n_components=3,
        solver=solver,
        batch_size=10,
        n_restarts=2,
        max_iter=100,
        loss="kl",
        **QUICK,
    )
    assert fitted.metrics["objective"] == pytest.approx(fitted.metrics["train/loss"], rel=1e-5)
    assert int(fitted.best) == int(fitted.objectives.argmin())


def test_the_model_knows_the_names_of_a_frame():
    frame = pd.DataFrame(positive(20, 3), columns=["a", "b", "c"])
    estimator = Estimator(max_iter=10).fit(frame)
    assert estimator.model_.feature_names == ["a", "b", "c"]
    turned = frame[["c", "a", "b"]]
    np.testing.assert_array_equal(estimator.model_.transform(turned), estimator.transform(frame))


@pytest.mark.parametrize("model", ["unigram", "flow"])
def test_a_model_without_a_number_of_components_is_fitted(model):
    X = np.random.default_rng(0).poisson(3, (20, 4)).astype(float)
    own = {"model.dequantise": 1.0} if model == "flow" else {}
    made = nmfnet.Estimator(model, max_iter=2, settings={"threads": 1, **own})
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        assert made.fit(X).transform(X).shape == (20, made.n_components_)
        with pytest.raises(nmfnet.UserError, match="n_components"):
            made.set_params(n_components=3).fit(X)
