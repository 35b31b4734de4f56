"""Positive matrix factorisation: entries that are known to within u, and residuals measured in u."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from shell import refusal, the_run, train

import nmfnet
from nmfnet.kernels.assignment import assign, cosine_matrix
from nmfnet.metrics import matched_cosine, q_values

QUIET = {"figures": False, "threads": 1, "dtype": "float64", "n_components": 3}


def measured(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples of three sources, each entry with an error of its own size, that size, and the sources."""
    rng = np.random.default_rng(seed)
    W, H = rng.gamma(1, 1, (80, 3)), rng.dirichlet(np.full(15, 0.4), 3)
    exact = W @ H
    u = 0.05 * exact + rng.choice([0.002, 0.08], size=exact.shape)
    return np.clip(exact + u * rng.standard_normal(exact.shape), 0, None), u, H


def test_uncertainties_find_the_sources_that_plain_nmf_blurs():
    X, u, H = measured()
    weighed = nmfnet.fit(X, uncertainty=u, n_restarts=2, **QUIET)
    plain = nmfnet.fit(X, n_restarts=2, **QUIET)
    found, blurred = (matched_cosine(m.components_, H) for m in (weighed, plain))
    assert found > 0.999
    assert 1 - found < 0.5 * (1 - blurred)
    assert 0.7 < weighed.metrics["train/q_ratio"] < 1.1
    assert "train/q" not in plain.metrics
    residual = ((X - weighed.reconstruct(X, mask=u**-2)) / u) ** 2
    assert weighed.metrics["train/q"] == pytest.approx(residual.sum(), rel=1e-3)
    assert weighed.metrics["train/loss"] == pytest.approx(weighed.metrics["train/q"] / 2, rel=1e-6)
    assert weighed.plot.scaled_residuals().axes
    with pytest.raises(nmfnet.UserError, match="nothing to draw it from"):
        plain.plot.scaled_residuals()


def test_q_counts_the_entries_that_are_observed():
    x, x_hat = np.array([[3.0, 5.0], [1.0, 2.0]]), np.ones((2, 2))
    weights = np.array([[0.25, 0.0], [1.0, 4.0]])
    assert q_values(x, x_hat, weights, 0) == {"q": 5.0, "q_expected": 3.0, "q_ratio": 5 / 3}
    assert q_values(x, lambda rows: x_hat[rows], weights, 1) == {"q": 5.0, "q_expected": -1.0}


def test_what_is_no_uncertainty_is_refused_with_its_place():
    X, u, _ = measured()
    for bad in (np.where(u > 0.08, 0, u), -u, np.full_like(u, np.nan), 1e-200 * u):
        with pytest.raises(nmfnet.UserError, match="uncertainties that are zero, negative"):
            nmfnet.fit(X, uncertainty=bad, **QUIET)
    with pytest.raises(nmfnet.UserError, match="Uncertainty is 9 x 15 but the data are 80 x 15"):
        nmfnet.fit(X, uncertainty=u[:9], **QUIET)
    with pytest.raises(nmfnet.UserError, match="mask and uncertainty both say"):
        nmfnet.fit(X, uncertainty=u, mask=X > 0, **QUIET)


def test_a_missing_value_needs_no_uncertainty(tmp_path):
    X, u, _ = measured()
    frame = pd.DataFrame(X, [f"day{i}" for i in range(80)], [f"s{j}" for j in range(15)])
    about = pd.DataFrame(u, frame.index, frame.columns)
    frame.iloc[3, 4] = about.iloc[3, 4] = np.nan
    frame.to_csv(tmp_path / "x.csv")
    about.iloc[::-1].to_csv(tmp_path / "u.csv")
    words = ["data=table", "data.path=x.csv", "data.orientation=samples_by_features"]
    words += ["data.missing=mask", "model.n_components=3", "n_restarts=2"]
    done = train(*words, "data.uncertainty=u.csv", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "Q / Q expected" in done.out
    numbers = json.loads((the_run(tmp_path) / "metrics.json").read_text())
    assert numbers["train/q_expected"] == 80 * 15 - 1 - 3 * (80 + 15)
    assert 0.7 < numbers["train/q_ratio"] < 1.1
    assert (the_run(tmp_path) / "figures" / "scaled_residuals.png").is_file()
    about.iloc[5, 6] = 0
    about.to_csv(tmp_path / "u.csv")
    said = refusal(*words, "data.uncertainty=u.csv", "seed=1", cwd=tmp_path)
    assert "1 uncertainties that are zero" in said
    assert "'day5', feature 's6'" in said
    assert "give one of them" in refusal(
        *words, "data.uncertainty=u.csv", "data.weight=u.csv", cwd=tmp_path
    )


def drawn_anew(X: np.ndarray, u: np.ndarray, k: int, draws: int, **more: object):
    """A fit with a bootstrap of its rows, fast."""
    return nmfnet.fit(
        X, uncertainty=u, n_restarts=4, callbacks="bootstrap",
        **QUIET | {"n_components": k}, **{"callbacks.bootstrap.draws": draws}, **more,
    )  # fmt: skip


@pytest.mark.slow
def test_intervals_of_profiles_hold_the_truth_about_as_often_as_they_say():
    inside, known = [], []
    for seed in range(5):
        X, u, H = measured(seed)
        fitted = drawn_anew(X, u, 3, 40)
        assert fitted.metrics["bootstrap/found_min"] > 0.97
        table = fitted.reports["profiles"]
        shares, low, high = (table[name].reshape(3, -1) for name in ("shares", "low", "high"))
        assert (low <= high).all()
        order = assign(cosine_matrix(H, shares)).columns
        found = (low[order] - 1e-9 <= H) & (high[order] + 1e-9 >= H)
        inside.append(found.mean())
        known.append(found[H > 0.02].mean())
    assert 0.8 < np.mean(inside) < 0.98  # of intervals of 90 %
    assert 0.8 < np.mean(known) < 0.98


@pytest.mark.slow
def test_a_source_too_many_is_seldom_found_again():
    for seed in range(3):
        X, u, _ = measured(seed)
        fitted = drawn_anew(X, u, 4, 30)
        least, *others = np.sort(fitted.reports["found_again"]["share"])
        assert least < 0.5
        assert min(others) > 0.9
        assert fitted.metrics["bootstrap/found_min"] == least


def test_draws_are_in_the_run_folder_and_the_same_again(tmp_path):
    X, u, _ = measured()
    X[2, 3], seen = 0, np.ones_like(X)
    seen[2, 3] = 0
    words = {"tol": 1e-3, "certificate_tol": None, "callbacks.bootstrap.block": 7}
    one = drawn_anew(X, u, 3, 3, run_dir=tmp_path / "run", **words)
    two = drawn_anew(X, u, 3, 3, **words)
    table = pd.read_csv(tmp_path / "run" / "profiles.csv")
    assert list(table.columns) == ["component", "feature", "shares", "low", "middle", "high"]
    assert len(table) == 3 * 15
    assert table.groupby("component")["shares"].sum().to_numpy() == pytest.approx(1)
    for name, columns in one.reports.items():
        for column, cells in columns.items():
            assert np.array_equal(cells, two.reports[name][column])
    assert len(pd.read_csv(tmp_path / "run" / "found_again.csv")) == 3
    assert "Of 3 draws of the samples, components are found again in" in " ".join(one.notes)
    masked = nmfnet.fit(X, mask=seen, callbacks="bootstrap", **QUIET,
                        **words | {"callbacks.bootstrap.draws": 2, "split": "rows"})  # fmt: skip
    assert masked.metrics["bootstrap/found"] > 0


def test_draws_that_did_not_converge_are_counted():
    X, u, _ = measured()
    short = drawn_anew(X, u, 3, 3, max_iter=2)
    assert short.metrics["bootstrap/converged"] == 0
    assert any("3 of 3 fits of draws did not converge: raise max_iter" in n for n in short.notes)
    long = drawn_anew(X, u, 3, 2, max_iter=5000, tol=1e-3)
    assert long.metrics["bootstrap/converged"] == 1
    assert not any("did not converge: raise" in note for note in long.notes)


def test_what_cannot_be_drawn_is_said(tmp_path):
    X, u, _ = measured()
    with pytest.raises(
        nmfnet.UserError, match="block=81 samples cannot be drawn together from 80: give"
    ):
        drawn_anew(X, u, 3, 2, **{"callbacks.bootstrap.block": 81})
    other = nmfnet.fit(X, "convex_nmf", callbacks="bootstrap", **QUIET)
    assert "callbacks=bootstrap drew nothing" in " ".join(other.notes)
