"""Weights of known components: each row a convex problem, solved once."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize, nnls
from shell import train as nmfnet_train

import nmfnet

QUIET = {"figures": False, "threads": 1, "dtype": "float64"}


def known(n: int = 12, f: int = 20, k: int = 5):
    """Counts of sparse mixtures of known components."""
    rng = np.random.default_rng(0)
    H = rng.dirichlet(np.full(f, 0.5), k)
    W = rng.exponential(200, (n, k)) * (rng.random((n, k)) < 0.5)
    W[:, 0] += 20
    return rng.poisson(W @ H).astype(float), H


def weights(model) -> np.ndarray:
    return model.factors["W"]()[int(model.best)].detach().numpy()


def test_squared_errors_are_scipys_nnls():
    X, H = known()
    fitted = nmfnet.fit(X, "reference_nmf", H=H, **QUIET)
    expected = np.array([nnls(H.T, row)[0] for row in X])
    np.testing.assert_allclose(weights(fitted), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fitted.transform(X), weights(fitted), rtol=1e-9, atol=1e-12)
    assert np.array_equal(fitted.components_, H)
    assert fitted.metrics["solver"] == "exact"
    assert fitted.metrics["n_iter"] == 1
    assert fitted.metrics["converged"]


def test_kl_is_at_the_optimum_of_an_independent_solver():
    X, H = known()
    fitted = nmfnet.fit(X, "reference_nmf", H=H, loss="kl", **QUIET)
    own = [divergence(x, w @ H) for x, w in zip(X, weights(fitted), strict=True)]
    for x, reached in zip(X, own, strict=True):
        found = minimize(
            lambda w, x=x: (divergence(x, w @ H), H @ (1 - x / np.maximum(w @ H, 1e-300))),
            np.full(len(H), x.sum() / len(H)), jac=True, bounds=[(0, None)] * len(H),
            options={"maxiter": 20_000, "maxfun": 100_000, "ftol": 1e-15, "gtol": 1e-10},
        )  # fmt: skip
        assert reached <= found.fun * (1 + 1e-6) + 1e-9
    assert fitted.metrics["train/loss"] == pytest.approx(sum(own), rel=1e-9)
    np.testing.assert_allclose(fitted.transform(X), weights(fitted), rtol=1e-6, atol=1e-6)


def divergence(x: np.ndarray, y: np.ndarray) -> float:
    y = np.maximum(y, 1e-300)
    return float((y - x).sum() + (x * np.log(np.where(x > 0, x, 1) / y)).sum())


def test_shares_lie_on_the_simplex_and_are_the_best_there():
    X, H = known()
    shares = X / X.sum(1, keepdims=True)
    fitted = nmfnet.fit(
        shares, "reference_nmf", H=H, **QUIET, **{"constraint.W": "simplex_project"}
    )
    W = weights(fitted)
    np.testing.assert_allclose(W.sum(1), 1, atol=1e-9)
    assert W.min() >= 0
    heavy = 1e4  # the sum to 1 as one more row of the least squares
    for x, w in zip(shares, W, strict=True):
        best = nnls(np.vstack([H.T, np.full(len(H), heavy)]), np.append(x, heavy))[0]
        np.testing.assert_allclose(w, best, atol=1e-5)


def test_restarts_are_one_optimum():
    X, H = known()
    fitted = nmfnet.fit(X, "reference_nmf", H=H, n_restarts=3, **QUIET)
    W = fitted.factors["W"]().detach().numpy()
    np.testing.assert_allclose(W[1], W[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(W[2], W[0], rtol=1e-9, atol=1e-12)


def test_saved_and_loaded_is_the_same(tmp_path):
    X, H = known()
    fitted = nmfnet.fit(X, "reference_nmf", H=H, loss="kl", run_dir=tmp_path / "run", **QUIET)
    loaded = nmfnet.load(tmp_path / "run")
    assert np.array_equal(loaded.components_, H)
    assert np.array_equal(loaded.transform(X[:3]), fitted.transform(X[:3]))
    with (tmp_path / "run" / "history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1


def test_missing_entries_play_no_part():
    X, H = known()
    mask = np.random.default_rng(1).random(X.shape) < 0.8
    fitted = nmfnet.fit(np.where(mask, X, 1e6), "reference_nmf", H=H, mask=mask, **QUIET)
    for x, w, seen in zip(X, weights(fitted), mask, strict=True):
        np.testing.assert_allclose(w, nnls(H.T[seen], x[seen])[0], rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------- from files
def files(tmp_path, *, negative: bool = False, transposed: bool = True):
    X, H = known()
    names = [f"g{j}" for j in range(X.shape[1])]
    if negative:
        H = H - 0.01
    table = pd.DataFrame(X, [f"s{i}" for i in range(len(X))], names)
    table.to_csv(tmp_path / "X.csv")
    order = np.random.default_rng(2).permutation(len(names))
    frame = pd.DataFrame(H[:, order], [f"type{i}" for i in range(len(H))], np.array(names)[order])
    (frame.T if transposed else frame).to_csv(tmp_path / "H.csv")
    return X, H


def words(tmp_path, *more):
    return (
        "model=reference_nmf", "data=table", f"data.path={tmp_path / 'X.csv'}",
        "data.orientation=samples_by_features", "figures=false", "dtype=float64",
        f"run_dir={tmp_path / 'run'}", *more,
    )  # fmt: skip


@pytest.mark.parametrize("option", ["model.reference", "data.reference"])
@pytest.mark.parametrize("transposed", [True, False])
def test_command_line_joins_by_name(tmp_path, option, transposed):
    X, H = files(tmp_path, transposed=transposed)
    done = nmfnet_train(*words(tmp_path, f"{option}={tmp_path / 'H.csv'}"), cwd=tmp_path)
    assert done.code == 0, done.err
    with np.load(tmp_path / "run" / "factors.npz") as held:
        assert held["component_names"].tolist() == [f"type{i}" for i in range(5)]
        np.testing.assert_allclose(held["H"], H, rtol=1e-12)
        np.testing.assert_allclose(
            held["W"], [nnls(H.T, row)[0] for row in X], rtol=1e-6, atol=1e-9
        )
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["n_iter"] == 1
    (tmp_path / "H.csv").unlink()  # a fitted model has its components
    np.testing.assert_allclose(nmfnet.load(tmp_path / "run").components_, H, rtol=1e-12)


def test_unusable_references_are_refused_in_a_sentence(tmp_path):
    files(tmp_path, negative=True)
    reference = f"model.reference={tmp_path / 'H.csv'}"
    for more, said in (
        ((), "needs known components"),
        ((reference,), "negative entries"),
        (("model.reference=nowhere.csv",), "nowhere.csv"),
        ((reference, "model.n_components=2"), "the reference has 5 components"),
    ):
        done = nmfnet_train(*words(tmp_path, *more), cwd=tmp_path)
        assert done.code == 2
        assert said in done.err
        assert not (tmp_path / "run").exists()
    table = pd.read_csv(tmp_path / "H.csv", index_col=0)
    for index, said in (
        ([f"other{i}" for i in range(len(table))], "shares no feature name"),
        ([f"other{i}" for i in range(11)] + list(table.index[11:]), "shares 9 of its 20 features"),
    ):
        abs(table).set_axis(index).to_csv(tmp_path / "H.csv")
        done = nmfnet_train(*words(tmp_path, reference), cwd=tmp_path)
        assert done.code == 2
        assert said in done.err


def test_unusable_arrays_are_refused_in_a_sentence():
    X, H = known()
    with pytest.raises(nmfnet.UserError, match=r"given H has shape \(5, 19\).*need \(5, 20\)"):
        nmfnet.fit(X, "reference_nmf", H=H[:, :19], **QUIET)
    with pytest.raises(nmfnet.UserError, match=r"negative entries \(first: -0.1.* needs H >= 0"):
        nmfnet.fit(X, "reference_nmf", H=H - 0.1 - H, **QUIET)
    with pytest.raises(nmfnet.UserError, match=r"nmfnet\.fit\(X, \"reference_nmf\", H=array\)"):
        nmfnet.fit(X, "reference_nmf", **QUIET)


def test_features_that_no_known_component_can_explain_are_told_under_kl():
    H = np.array([[1.0, 2.0, 0.0, 0.0], [3.0, 1.0, 0.0, 1.0]])
    X = np.array([[4.0, 3.0, 5.0, 1.0], [7.0, 4.0, 0.0, 2.0]])

    def notes(X, **settings):
        return " ".join(nmfnet.fit(X, "reference_nmf", H=H, threads=1, **settings).notes)

    assert "1 of 4 features are above 0 in X and 0 in every known" in notes(X, loss="kl")
    mask = np.ones_like(X)
    mask[0, 2] = 0
    for told in (notes(X), notes(X, loss="kl", mask=mask), notes(X * [1, 1, 0, 1], loss="kl")):
        assert "every known" not in told


def test_data_far_from_one_are_said_to_meet_known_components_with_a_unit():
    fitted = nmfnet.fit(np.full((3, 2), 1e9), "reference_nmf", H=np.eye(2), threads=1)
    assert "known components have a unit of their own" in " ".join(fitted.notes)
