"""``normalize`` moves scale between W and H and changes nothing else."""

from __future__ import annotations

import numpy as np
import pytest

import nmfnet

X = np.random.default_rng(0).random((25, 9))
MODELS = {
    "nmf": {"model": "nmf"},
    "convex": {"model": "convex_nmf"},
    "features": {"model": "convex_nmf", "convex_axis": "features"},
    "autoencoder": {"model": "autoencoder", "solver": "mu"},
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("which", ["H", "W"])
def test_sums_to_one_and_reconstructs_the_same(name, which, tmp_path):
    settings = {**MODELS[name], "n_components": 3, "max_iter": 200, "dtype": "float64"}
    plain = nmfnet.fit(X, **settings)
    scaled = nmfnet.fit(X, **settings, normalize=which, run_dir=tmp_path / "run", figures=False)
    assert scaled.metrics["train/loss"] == pytest.approx(plain.metrics["train/loss"], rel=1e-9)
    factors = np.load(tmp_path / "run" / "factors.npz")
    sums = factors["H"].sum(1) if which == "H" else factors["W"].sum(0)
    np.testing.assert_allclose(sums, 1, rtol=1e-9)
    np.testing.assert_allclose(factors["H"], nmfnet.load(tmp_path / "run").components_)
    before, after = plain.components_, scaled.components_
    np.testing.assert_allclose(
        before / before.sum(1, keepdims=True), after / after.sum(1, keepdims=True), rtol=1e-6
    )


def test_refused_where_scale_is_not_free():
    with pytest.raises(nmfnet.UserError, match="not free"):
        nmfnet.fit(X, "projective_nmf", n_components=2, normalize="H")
    with pytest.raises(nmfnet.UserError, match="penalties"):
        nmfnet.fit(X, "nmf", n_components=2, normalize="H", penalty="l1")


@pytest.mark.parametrize("which", ["H", "W"])
@pytest.mark.parametrize(
    "fixed",
    [
        {"constraint.W": "simplex_project"},
        {"constraint.H": "simplex"},
        {"constraint.W": "hoyer"},
        {"H": np.ones((3, 9))},
    ],
    ids=["W sums to one", "H sums to one", "W is sparse", "H is held"],
)
def test_refused_where_a_constraint_or_a_given_factor_fixes_the_scale(fixed, which):
    with pytest.raises(nmfnet.UserError, match=r"is fixed.* set normalize=null"):
        nmfnet.fit(X, "nmf", n_components=3, normalize=which, max_iter=20, **fixed)
