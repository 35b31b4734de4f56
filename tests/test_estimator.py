"""nmfnet as a scikit-learn transformer."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import nmfnet

X = np.random.default_rng(0).gamma(1.0, size=(40, 10))


@pytest.mark.slow
def test_passes_scikit_learns_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(nmfnet.Estimator(max_iter=200), on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed


def test_works_in_a_pipeline_and_a_grid_search():
    steps = make_pipeline(nmfnet.Estimator(n_components=3, max_iter=50, random_state=0), KMeans(2))
    search = GridSearchCV(steps, {"estimator__n_components": [2, 3]}, cv=2).fit(X)
    assert search.best_params_["estimator__n_components"] in (2, 3)


@pytest.mark.parametrize("model", ["nmf", "convex_nmf", "autoencoder"])
def test_transform_and_back(model):
    estimator = nmfnet.Estimator(model, 3, max_iter=200, random_state=0).fit(X)
    W = estimator.transform(X[:5])
    assert W.shape == (5, 3)
    assert estimator.components_.shape == (3, 10)
    np.testing.assert_allclose(
        estimator.inverse_transform(W), W @ estimator.components_, rtol=1e-4, atol=1e-6
    )
    assert estimator.get_feature_names_out().tolist() == [f"estimator{i}" for i in range(3)]


def test_same_seed_same_bits():
    first, second = (
        nmfnet.Estimator(n_components=2, max_iter=50, random_state=1).fit(X) for _ in range(2)
    )
    assert np.array_equal(first.components_, second.components_)
