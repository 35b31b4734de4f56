"""Where runs end: no worse than scikit-learn's best of as many restarts, no better than the SVD."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from making import brings_data
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF

import nmfnet
from nmfnet.config import options
from nmfnet.metrics import svd_floor
from nmfnet.settings.objects import build
from nmfnet.settings.words import configuration

RESTARTS = 10
BETA = {"frobenius": "frobenius", "kl": "kullback-leibler"}


def digits() -> np.ndarray:
    return load_digits().data


def breast() -> np.ndarray:
    return build(configuration({"data": "sbs21-breast"}).data).read().values


def scikit_learn(X: np.ndarray, n_components: int, loss: str) -> float:
    """The lowest divergence of RESTARTS random starts."""
    solver, n_iter = ("cd", 1000) if loss == "frobenius" else ("mu", 2000)
    found = []
    for seed in range(RESTARTS):
        model = NMF(
            n_components, init="random", solver=solver, beta_loss=BETA[loss], max_iter=n_iter,
            tol=1e-7, random_state=seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(model.fit(X).reconstruction_err_)
    return min(found) ** 2 / 2


def ours(X: np.ndarray, n_components: int, loss: str, **own) -> float:
    fitted = nmfnet.fit(
        X, n_components=n_components, loss=loss, n_restarts=RESTARTS, tol=1e-7, **own
    )
    return fitted.metrics["objective"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "solver"), [("frobenius", "auto"), ("kl", "auto"), ("frobenius", "mu")]
)
def test_digits_end_no_worse_than_scikit_learn(loss, solver):
    X = digits()[::4]
    assert ours(X, 8, loss, solver=solver) <= 1.001 * scikit_learn(X, 8, loss)


@pytest.mark.slow
@pytest.mark.catalogue
@pytest.mark.parametrize("solver", ["auto", pytest.param("mu", marks=pytest.mark.slow)])
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_breast_cancer_signatures_end_no_worse_than_scikit_learn(loss, solver):
    X = breast()
    own = {"solver": solver} | ({"max_iter": 100_000} if solver == "mu" else {})
    assert ours(X, 4, loss, **own) <= 1.001 * scikit_learn(X, 4, loss)


@pytest.mark.slow
@pytest.mark.parametrize("model", [name for name in options("model") if not brings_data(name)])
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_no_model_reports_an_error_below_the_svd_floor(model, loss):
    X = digits()[:100]
    try:
        fitted = nmfnet.fit(X, model, n_components=8, loss=loss, n_restarts=2, max_iter=100)
    except nmfnet.UserError as error:
        assert "use loss=frobenius" in str(error)
        return
    floor = svd_floor(X, 9 if model == "deep_autoencoder" else 8)  # its bias adds one to the rank
    assert fitted.metrics["floor/relative_error"] == pytest.approx(floor, rel=1e-6)
    assert fitted.metrics["train/relative_error"] >= floor * (1 - 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["samples", "features"])
def test_convex_nmf_never_beats_nmf(axis):
    """Its components are restricted, so at convergence the best of several starts is no better."""
    X = digits()[::6]
    nmf = ours(X, 6, "frobenius", max_iter=3000)
    convex = ours(X, 6, "frobenius", max_iter=1000, model="convex_nmf", convex_axis=axis)
    assert nmf <= convex * (1 + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_linear_autoencoder_by_adam_ends_where_convex_nmf_does(loss):
    """The same model by other means, on equal terms: within 0.1 % on easy data."""
    X = digits()[::6]
    convex = ours(X, 4, loss, model="convex_nmf", convex_axis="features", max_iter=10_000)
    adam = ours(
        X, 4, loss, model="autoencoder", constraint="square", solver="adam", max_iter=10_000,
        **{"solver.lr": 0.03},
    )  # fmt: skip
    assert adam == pytest.approx(convex, rel=1e-3)
