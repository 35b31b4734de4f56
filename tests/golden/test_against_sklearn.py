"""As good an optimum as scikit-learn's best of as many starts, and never below what is possible."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF

import nmfnet
from nmfnet import metrics
from nmfnet.config import options

STARTS = 5


def matrix(name: str) -> np.ndarray:
    if name == "digits":
        return load_digits().data
    from nmfnet.data.registry import source

    return source(name).read().values


def best_of_sklearn(X: np.ndarray, k: int, loss: str) -> float:
    kind = {"frobenius": "frobenius", "kl": "kullback-leibler"}[loss]
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(STARTS):
            model = NMF(
                k,
                init="random",
                solver="cd" if loss == "frobenius" else "mu",
                beta_loss=kind,
                tol=1e-7,
                max_iter=2000,
                random_state=seed,
            )
            W = model.fit_transform(X)
            product = metrics.Product(W, model.components_)
            half_square = 0.5 * metrics.mse(X, product) * X.size
            found.append(half_square if loss == "frobenius" else metrics.kl(X, product))
    return min(found)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize(
    ("data", "k"), [("digits", 8), pytest.param("sbs21-breast", 4, marks=pytest.mark.catalogue)]
)
def test_best_objective_is_at_most_a_thousandth_above(data, k, loss):
    X = matrix(data)
    model = nmfnet.fit(X, n_components=k, loss=loss, n_restarts=STARTS, tol=1e-7, dtype="float64")
    assert model.metrics["converged"]
    assert model.metrics["train/loss"] <= 1.001 * best_of_sklearn(X, k, loss)


@pytest.mark.parametrize("model", options("model"))
def test_no_model_beats_the_svd(model):
    X = np.random.default_rng(0).gamma(1.0, size=(40, 12))
    found = nmfnet.fit(X, model, n_components=3, n_restarts=2, max_iter=500).metrics
    assert found["train/relative_error"] >= found["floor/relative_error"] * (1 - 1e-6)
    S = np.linalg.svd(X, compute_uv=False)
    rank = 4 if model == "deep_autoencoder" else 3  # its bias is one more
    assert found["floor/relative_error"] == pytest.approx(
        np.sqrt((S[rank:] ** 2).sum() / (S**2).sum()), rel=1e-9
    )
