"""Weights that depend on covariates: effects within their errors, a bound that only rises, refusals."""

from __future__ import annotations

import functools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import digamma
from shell import refusal, train

import nmfnet
from nmfnet.kernels.collinear import leading_columns
from nmfnet.metrics import match_components
from nmfnet.models.balsamico import regression, shape
from nmfnet.types import Batch

TRUE = np.array([0.0, 0.8, -0.6])

fit = functools.partial(
    nmfnet.fit, model="balsamico", n_components=3, figures=False, threads=1, dtype="float64"
)


def cohort(seed: int = 0, n: int = 120, f: int = 30) -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    """Counts of three communities, of which two depend on the dose; sizes of libraries are known."""
    rng = np.random.default_rng(seed)
    dose, depth = rng.normal(size=n), rng.uniform(200, 2000, n)
    H = rng.dirichlet(np.full(f, 0.3), 3)
    W = rng.gamma(2, np.exp(np.outer(dose, TRUE)) / 2)
    names = [f"s{i}" for i in range(n)]
    return (
        rng.poisson(depth[:, None] * (W @ H)) + 0.0,
        pd.DataFrame({"dose": dose, "depth": depth}, names),
        H,
    )


def test_a_covariate_that_is_far_from_zero_has_the_same_effects():
    X, about, _ = cohort(n=40, f=10)
    few = {"max_iter": 60, "certificate_tol": None}  # the same after any number of sweeps
    near, far = (
        fit(X, covariates=about["dose"].to_numpy() + level, **few).reports["effects"]
        for level in (0, 1e4)
    )
    for word in ("effect", "standard error"):
        np.testing.assert_allclose(far[word][3:], near[word][3:], rtol=1e-5)


def effects_of(fitted, X: np.ndarray, about: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Effects of the dose and their standard errors."""
    rows = Batch(
        torch.from_numpy(X),
        torch.arange(len(X)),
        extra={"covariates": torch.from_numpy(about.to_numpy().copy())},
    )
    with fitted._fitted():
        found, errors = fitted.effects(rows)
    return found[1].numpy(), errors[1].numpy()


def test_effects_are_within_two_standard_errors_where_sizes_are_known():
    X, about, H = cohort(n=100, f=20)
    frame = pd.DataFrame(X, about.index)
    fitted = fit(frame, covariates=about, library="depth")
    assert fitted.metrics["converged"]
    pairs = match_components(fitted.components_, H)
    assert pairs.scores.min() > 0.99
    found, errors = effects_of(fitted, X, about)
    z = (found[pairs.rows] - TRUE[pairs.columns]) / errors[pairs.rows]
    assert np.abs(z).max() < 2


@pytest.mark.slow
def test_row_sums_as_sizes_hide_what_all_components_have_in_common():
    X, about, H = cohort()
    frame = pd.DataFrame(X, about.index)
    shares = fit(frame, covariates=about[["dose"]])
    pairs = match_components(shares.components_, H)
    biased, _ = effects_of(shares, X, about[["dose"]])
    assert np.abs(biased[pairs.rows] - TRUE[pairs.columns]).max() > 0.15
    assert any("effects are those on shares" in note for note in shares.notes)


@pytest.mark.slow
def test_two_standard_errors_hold_the_truth_as_often_as_they_say():
    z = []
    for seed in range(8):
        X, about, H = cohort(seed, n=100, f=20)
        fitted = fit(X, covariates=about.reset_index(drop=True), library="depth")
        pairs = match_components(fitted.components_, H)
        found, errors = effects_of(fitted, X, about)
        z += list((found[pairs.rows] - TRUE[pairs.columns]) / errors[pairs.rows])
    assert 0.88 < np.mean(np.abs(z) < 2) <= 1


def test_no_sweep_lowers_the_bound_and_the_errors_are_of_its_curvature():
    X, about, _ = cohort(n=40, f=12)
    once = fit(
        X, covariates=about.reset_index(drop=True), library="depth", max_iter=3, n_restarts=2
    )
    rows = Batch(
        torch.from_numpy(X),
        torch.arange(40),
        extra={"covariates": torch.from_numpy(about.to_numpy().copy())},
    )
    with torch.no_grad(), once.restarts(0):
        before = float(sum(once.objective(rows).values()))
        for _ in range(40):
            once.sweep(rows)
            now = float(sum(once.objective(rows).values()))
            assert now <= before + 1e-9 * abs(before)
            before = now
        W, beta, p = once.W(), once.rates(rows), once.prior(rows)
        S = W * beta - once.a()
        tau, size = once.sizes_of(rows), p / beta

    def marginal(theta: torch.Tensor) -> torch.Tensor:
        """-log p(S) of the counts of the second component, its weights integrated out."""
        Z = torch.cat([torch.ones_like(tau), rows.extra["covariates"][:, :1]], 1)
        rate = once.a()[0, 1] * torch.exp(-Z @ theta)
        return -(
            once.a()[0, 1] * rate.log() - (once.a()[0, 1] + S[:, 1]) * (rate + tau[:, 0]).log()
        ).sum()

    with once.restarts(0):
        theta = torch.cat([once.b()[0, 1:2], once.V()[0, 1:2]]).detach()
        curvature = torch.autograd.functional.hessian(marginal, theta)
        _, errors = once.effects(rows)
    assert float(size.min()) > 0
    np.testing.assert_allclose(
        errors[:, 1].detach(), torch.linalg.inv(curvature.detach()).diagonal().sqrt(), rtol=1e-9
    )


def test_regression_and_shape_are_where_their_derivatives_vanish():
    rng = np.random.default_rng(0)
    Z = torch.from_numpy(np.column_stack([np.ones(50), rng.normal(size=50)]))
    w = torch.from_numpy(rng.gamma(1, 50, 50))
    theta = regression(Z, w, torch.zeros(2, dtype=torch.float64))
    assert float((Z.T @ (1 - w * torch.exp(-Z @ theta))).abs().max()) < 1e-4
    gap = torch.tensor([1e-3, 0.1, 1.0, 8.0], dtype=torch.float64)
    a = shape(gap).numpy()
    np.testing.assert_allclose(np.log(a) - digamma(a), gap, rtol=1e-8)


@pytest.mark.slow
def test_new_rows_have_the_weights_that_training_rows_have():
    X, about, _ = cohort(n=60)
    fitted = fit(X, covariates=about.reset_index(drop=True), library="depth")
    kept = fitted.factors["W"]()[0].detach().numpy()
    again = fitted.transform(X, covariates=about.reset_index(drop=True))
    np.testing.assert_allclose(again, kept, rtol=0.02, atol=1e-3)
    said = fitted.reconstruct(X, covariates=about.reset_index(drop=True))
    assert said.sum() == pytest.approx(X.sum(), rel=0.02)


# ---------------------------------------------------------------------- covariates that say nothing
def test_columns_that_others_determine():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20))
    table = np.column_stack(
        [np.full(20, 3.0), a, b, 1e6 * (a - 2 * b) + 5, b + 1e-3 * rng.normal(size=20)]
    )
    assert leading_columns(table).tolist() == [1, 2, 4]


def test_constant_and_collinear_covariates_are_said_and_change_nothing():
    X, about, _ = cohort(n=60)
    more = about.assign(site=4.5, again=2 * about["dose"] - 1, arm=["a", "b"] * 30)
    frame = pd.DataFrame(X, about.index)
    own = {"library": "depth", "max_iter": 30, "certificate_tol": None}
    fitted = fit(frame, covariates=more, **own)
    notes = " ".join(fitted.notes)
    assert "The covariate 'site' is 4.5 in all samples" in notes
    assert "The covariates before it determine 'again':" in notes
    assert "arm=b" not in notes
    fewer = fit(frame, covariates=more[["dose", "depth", "arm"]], **own)
    np.testing.assert_allclose(fitted.components_, fewer.components_, rtol=1e-6)
    V = fitted.factors["V"]()[0].detach().numpy()
    names = fitted.recipe["covariate_names"]
    assert (V[[names.index(name) for name in ("site", "again", "depth", "arm=b")]] == 0).all()
    assert V[names.index("dose")].any()


def test_what_it_needs_is_asked_for_in_a_sentence():
    X, about, _ = cohort(n=40)
    about = about.reset_index(drop=True)
    for data, settings, said in (
        ({}, {}, "explains weights by covariates, and the data have none"),
        ({"covariates": about}, {"library": "size"}, "model.library=size is neither .*dose, depth"),
        ({"covariates": about}, {"library": "dose"}, "has sizes that are not above 0"),
        (
            {"covariates": about, "mask": np.arange(1200).reshape(40, 30) % 7 > 0},
            {},
            "needs all of a row",
        ),
        ({"covariates": about}, {"loss": "negative_binomial"}, "has a likelihood of its own"),
    ):
        with pytest.raises(nmfnet.UserError, match=said):
            fit(X, **data, **settings)
    with pytest.raises(nmfnet.UserError, match="negative"):
        fit(X - 5, covariates=about)


def test_command_line(tmp_path):
    X, about, _ = cohort(n=60, f=12)
    pd.DataFrame(X, about.index).T.to_csv(tmp_path / "counts.tsv", sep="\t")
    about.assign(arm=["a", "b"] * 30).iloc[::-1].to_csv(tmp_path / "about.tsv", sep="\t")
    words = ["model=balsamico", "data=table", "data.path=counts.tsv", "model.n_components=3"]
    words += ["data.orientation=features_by_samples", "model.library=depth", "tol=1e-3"]
    run = tmp_path / "run"
    done = train(*words, "data.covariates=about.tsv", f"run_dir={run}", cwd=tmp_path)
    assert done.code == 0, done.err
    table = pd.read_csv(run / "effects.csv")
    assert list(dict.fromkeys(table["covariate"])) == ["intercept", "dose", "arm=a"]
    assert (table["standard error"] > 0).all()
    assert json.loads((run / "metrics.json").read_text())["converged"]
    loaded = nmfnet.load(run)
    frame = pd.DataFrame(X, about.index)
    W = loaded.transform(frame, covariates=about.assign(arm=["a", "b"] * 30))
    assert W.shape == (60, 3)
    about.iloc[1:].to_csv(tmp_path / "short.tsv", sep="\t")
    assert "'s0'" in refusal(*words, "data.covariates=short.tsv", "seed=2", cwd=tmp_path)
    (tmp_path / "alone.tsv").write_text("s0\ns1\n")
    assert "single column" in refusal(*words, "data.covariates=alone.tsv", "seed=2", cwd=tmp_path)
    assert "in Python" not in refusal(*words, "data.covariates=[dose]", "seed=2", cwd=tmp_path)
