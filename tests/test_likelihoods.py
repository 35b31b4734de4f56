"""Likelihoods of counts and of other numbers: against scipy, limits, updates, domains."""

from __future__ import annotations

import functools
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize, nnls
from scipy.special import expit
from shell import refusal, the_run, train

import nmfnet
from nmfnet.config import build
from nmfnet.core.factor import Factors
from nmfnet.core.likelihoods import DISPERSIONS
from nmfnet.core.losses import Loss
from nmfnet.kernels.counts import better_dispersion, nature, negative_binomial
from nmfnet.settings.words import configuration
from nmfnet.types import Batch

OWN: dict[str, Any] = {"figures": False, "threads": 1, "dtype": "float64", "progress": False}
fit = functools.partial(nmfnet.fit, **OWN)
RNG = np.random.default_rng(0)


def loss_of(name: str, **options: Any) -> Loss:
    """A loss with its parameters declared, for 6 features and 2 covariates."""
    words = {f"loss.{key}": value for key, value in options.items()}
    loss = build(configuration({"loss": name, **words}).loss)
    axes = {"one": 1, "feature": 6, "covariate": 2}
    factors = Factors(1, axes, None, {})  # type: ignore[arg-type]
    loss.declare(factors.declare)
    for factor in factors.values():
        factor.double()
        factor.raw.data = factor.raw.data[0]
    loss.made = factors
    return loss


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.asarray(array, float)) for array in arrays]


X = RNG.poisson(3, (5, 6)).astype(float)
MEAN = RNG.gamma(2, 2, (5, 6))
SEEN = (RNG.random((5, 6)) < 0.7).astype(float)


# ---------------------------------------------------------------------- values
@pytest.mark.parametrize("seen", [None, SEEN], ids=["whole", "masked"])
def test_values_are_scipys(seen):
    x, mean = tensors(X, MEAN)
    mask = None if seen is None else torch.from_numpy(seen)
    weights = np.ones_like(X) if seen is None else seen
    theta, c = RNG.gamma(2, 2, 6), RNG.normal(size=(5, 2))
    pi, shift = RNG.normal(size=(5, 6)), RNG.normal(size=(2, 6))
    heads = dict(zip(("dropout", "logit", "covariates"), tensors(pi, pi, c), strict=True))

    def said(name: str, x: torch.Tensor = x, **options: Any) -> np.ndarray:
        loss = loss_of(name, **options)
        for key, value in {"dispersion": theta, "scale": theta, "dispersion_shift": shift}.items():
            if key in loss.made:
                loss.made[key].assign_(torch.from_numpy(np.atleast_2d(value)))
        with torch.no_grad():
            return loss(x, mean, mask, heads).numpy()

    def nb(theta: np.ndarray) -> np.ndarray:
        return stats.nbinom.logpmf(X, theta, theta / (theta + MEAN))

    by_batch = np.clip(theta * np.exp(c @ shift), *DISPERSIONS)
    zero = expit(pi)
    mixed = np.log(zero * (X == 0) + (1 - zero) * np.exp(nb(theta)))
    bits = (X > 2).astype(float)
    wanted = {
        "negative_binomial": (said("negative_binomial"), nb(theta)),
        "by covariates": (said("negative_binomial", dispersion="covariates"), nb(by_batch)),
        "zinb": (said("zinb"), mixed),
        "ridge": (said("zinb", inflation_ridge=0.3), mixed - 0.3 * zero**2),
        "normal": (said("normal", scale="feature"), stats.norm.logpdf(X, MEAN, theta)),
        "bernoulli": (
            said("bernoulli", torch.from_numpy(bits)),
            stats.bernoulli.logpmf(bits, expit(pi)),
        ),
    }
    for name, (found, log_p) in wanted.items():
        np.testing.assert_allclose(found, -(weights * log_p).sum(1), rtol=1e-9, err_msg=name)
    log_p = [
        stats.multinomial.logpmf(row[w > 0], row[w > 0].sum(), y[w > 0] / y[w > 0].sum())
        for row, y, w in zip(X, MEAN, weights, strict=True)
    ]
    np.testing.assert_allclose(said("multinomial"), -np.array(log_p), rtol=1e-9)


@pytest.mark.parametrize("name", ["negative_binomial", "normal"])
def test_split_is_the_derivative(name):
    x, mean = tensors(X, MEAN)
    loss = loss_of(name)
    (slope,) = torch.autograd.grad(loss(x, mean.requires_grad_()).sum(), mean)
    neg, pos = loss.split(x, mean.detach())
    assert min(float(neg.min()), float(pos.min())) >= 0
    torch.testing.assert_close(pos - neg, slope, rtol=1e-9, atol=1e-11)
    assert loss.exponent(1, 0) == 1
    assert loss.exponent(2, 0) == 0.5 if name == "negative_binomial" else True


# ---------------------------------------------------------------------- the dispersion
def test_a_dispersion_step_never_lowers_a_likelihood_and_finds_the_best():
    rng = np.random.default_rng(2)
    theta = np.array([0.3, 1.0, 4.0, 20.0])
    mean = rng.gamma(3, 5, (4000, 4))
    x = rng.negative_binomial(theta, theta / (theta + mean)).astype(float)
    x[:, 3] = np.round(mean[:, 3])  # less spread than Poisson: to the upper limit
    at, values = torch.ones(1, 4, dtype=torch.float64), []
    for _ in range(40):
        values.append(negative_binomial(*tensors(x, mean), at).sum(0))
        at = better_dispersion(*tensors(x, mean), at, None, DISPERSIONS)
    assert bool((torch.stack(values).diff(dim=0) >= -1e-6).all())
    np.testing.assert_allclose(at[0, :3], theta[:3], rtol=0.1)
    assert float(at[0, 3]) == pytest.approx(DISPERSIONS[1])
    for sign in (-1, 1):
        near = negative_binomial(*tensors(x, mean), at * (1 + 1e-3 * sign)).sum(0)
        assert bool((near[:3] < values[-1][:3]).all())


@functools.cache
def simulated() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    theta = np.tile([1.0, 2.0, 4.0], 40)
    mean = rng.gamma(2, 4, (200, 2)) @ rng.gamma(2, 1, (2, 120))
    return rng.negative_binomial(theta, theta / (theta + mean)).astype(float), theta


def test_nmf_recovers_the_dispersion_falls_all_the_way_and_is_proved():
    counts, theta = simulated()
    fitted = fit(counts, n_components=2, loss="negative_binomial", n_restarts=2, max_iter=20_000)
    assert fitted.metrics["solver"] == "mu"
    assert fitted.metrics["converged"]
    found = fitted.factors["dispersion"]()[int(fitted.best), 0].detach().numpy()
    for value in np.unique(theta):
        assert np.median(found[theta == value]) == pytest.approx(value, rel=0.1)
    W = fitted.factors["W"]()[int(fitted.best)].detach().numpy()
    again = fitted.transform(counts)
    assert np.corrcoef(again.ravel(), W.ravel())[0, 1] > 0.999
    loss = fitted.metrics["train/loss"]
    assert -fitted.score(counts) * counts.size == pytest.approx(loss, rel=1e-4)
    poisson = fit(counts, n_components=2, loss="poisson")
    assert fitted.metrics["train/loss"] < poisson.metrics["train/loss"] - 1000


@pytest.mark.parametrize("extrapolation", [False, True])
@pytest.mark.parametrize("loss", ["negative_binomial", "normal"])
def test_every_step_of_the_updates_falls(loss, extrapolation):
    counts, _ = simulated()
    values = []
    for n in (10, 20, 40, 80):
        own = {"solver.n_inner": 10, "solver.extrapolation": extrapolation, "tol": 0.0}
        fitted = fit(counts, n_components=3, loss=loss, solver="mu", max_iter=n, **own)
        values.append(fitted.metrics["objective"])
    assert all(b < a for a, b in pairwise(values))


def test_missing_entries_leave_the_dispersion_alone():
    counts, _ = simulated()
    mask = np.random.default_rng(3).random(counts.shape) < 0.8
    own = {"n_components": 2, "loss": "negative_binomial", "solver": "mu", "max_iter": 50}
    one = fit(counts, mask=mask, **own)
    two = fit(np.where(mask, counts, 999), mask=mask, **own)
    for name, factor in one.factors.items():
        assert torch.equal(factor(), two.factors[name]()), name


def test_normal_updates_minimise_the_squared_error_and_know_its_size():
    rng = np.random.default_rng(0)
    X = rng.gamma(2, 4, (100, 2)) @ rng.gamma(2, 1, (2, 15)) + rng.normal(size=(100, 15))
    X = X.clip(0)
    own = {"n_components": 2, "solver": "mu", "max_iter": 2000}
    fitted, plain = fit(X, loss="normal", **own), fit(X, loss="frobenius", **own)
    left = np.square(X - fitted.reconstruct(X)).mean() ** 0.5
    assert fitted.factors["scale"]().item() == pytest.approx(left, rel=1e-3)
    assert fitted.metrics["train/relative_error"] == pytest.approx(
        plain.metrics["train/relative_error"], rel=1e-3
    )
    with torch.no_grad():
        single = fit(X, loss="normal", **own, **{"loss.scale": "feature"})
    assert single.factors["scale"]().shape == (1, 1, 15)
    assert single.metrics["train/loss"] < fitted.metrics["train/loss"]


@pytest.mark.parametrize("scale", ["one", "feature"])
@pytest.mark.parametrize("weighted", [False, True])
def test_new_rows_under_the_normal_law_are_weighted_least_squares(scale, weighted):
    rng = np.random.default_rng(0)
    X = (rng.gamma(2, 4, (40, 2)) @ rng.gamma(2, 1, (2, 6)) + rng.normal(size=(40, 6))).clip(0)
    mask = rng.uniform(0.5, 2, X.shape) if weighted else None
    own = {"n_components": 2, "loss": "normal", "loss.scale": scale, "dtype": "float32"}
    fitted = fit(X, mask=mask, max_iter=5, **own)
    root = np.broadcast_to(1 / fitted.factors["scale"]()[0].detach().numpy(), X.shape)
    root = root if mask is None else root * np.sqrt(mask)
    H = fitted.components_
    wanted = [nnls((H * r).T, x * r)[0] for x, r in zip(X, root, strict=True)]
    found = fitted.transform(X, mask=mask)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.max(wanted))


@pytest.mark.parametrize("theta", [0.1, 10.0, 1e4])
def test_single_precision_holds_the_value_of_every_count(theta):
    mean = np.random.default_rng(0).uniform(0.1, 20, 2000).astype(np.float32)
    x = np.random.default_rng(1).poisson(mean)
    said = negative_binomial(
        torch.from_numpy(x).float(), torch.from_numpy(mean), torch.tensor(theta)
    )
    wanted = stats.nbinom.logpmf(x, theta, theta / (theta + mean.astype(float)))
    assert said.dtype == torch.float32
    np.testing.assert_allclose(said.numpy(), wanted, atol=1e-4)


@pytest.mark.quick("None-True", "W-False")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("normalize", [None, "W"])
def test_rows_of_a_multinomial_have_their_totals_and_new_rows_the_same_codes(masked, normalize):
    counts = simulated()[0][:60].astype(float)
    counts[3] = 0
    mask = np.random.default_rng(3).random(counts.shape) < 0.8 if masked else None
    own = {"n_components": 2, "loss": "multinomial", "normalize": normalize, "tol": 1e-8}
    fitted = fit(counts, mask=mask, **own)
    seen = np.ones(counts.shape) if mask is None else mask
    W = fitted.factors["W"]()[0].detach().numpy() * fitted.units.code
    said = fitted.inverse_transform(W)
    np.testing.assert_allclose((said * seen).sum(1), (counts * seen).sum(1), rtol=1e-6)
    found = fitted.transform(counts, mask=mask)
    np.testing.assert_allclose(found, W, rtol=1e-2, atol=1e-2 * W.max())


def test_a_feature_that_no_component_has_leaves_the_others_their_shares():
    """A code of 0 must not be likelier than the truth because all shares of it are the same."""
    H = np.random.default_rng(0).dirichlet(np.ones(6), 2)
    H[:, 5] = 0
    X = np.random.default_rng(1).dirichlet(np.ones(2), 5) @ (100 * H)
    fitted = nmfnet.fit(X.round(), H=H, loss="multinomial", threads=1)
    W = fitted.transform(X.round())
    more = np.column_stack([X.round()[:, :5], np.full(5, 3.0)])
    shares = fitted.transform(more)
    assert (W.sum(1) > 90).all()
    np.testing.assert_allclose(
        shares / shares.sum(1, keepdims=True), W / W.sum(1, keepdims=True), atol=0.01
    )


def test_views_under_a_multinomial_have_the_total_of_the_row_together():
    counts = simulated()[0][:40].astype(float)
    other = counts[:, ::2] + 1
    other[[0, 3]] = np.nan
    fitted = fit(
        counts, "joint_nmf", views={"b": other}, n_components=2, loss="multinomial", max_iter=50
    )
    W = fitted.factors["W"]()[0].detach().numpy()
    said = (W @ fitted.components_).sum(1)
    more = (W @ fitted.factors["H_b"]()[0].detach().numpy()).sum(1)
    seen = np.isfinite(other).all(1)
    wanted = counts.sum(1) + np.nan_to_num(other).sum(1)
    np.testing.assert_allclose(said + seen * more, wanted, rtol=1e-6)


# ---------------------------------------------------------------------- domains and words
def test_what_is_outside_the_domain_is_refused():
    counts, _ = simulated()
    with pytest.raises(nmfnet.UserError, match="above 1, and loss=bernoulli needs 0 <= X <= 1"):
        fit(counts, "vae", n_components=2, loss="bernoulli", max_iter=1)
    for loss in ("negative_binomial", "zinb", "multinomial", "bernoulli"):
        with pytest.raises(
            nmfnet.UserError, match=f"negative values, and loss={loss} needs X >= 0"
        ):
            fit(-counts, "vae", n_components=2, loss=loss, max_iter=1)
    with pytest.raises(nmfnet.UserError, match="needs the head 'logit' from the decoder"):
        fit((counts > 3).astype(float), n_components=2, loss="bernoulli", max_iter=1)
    with pytest.raises(nmfnet.UserError, match="inflation_ridge is for zero-inflated counts"):
        fit(counts, n_components=2, loss="negative_binomial", **{"loss.inflation_ridge": 1.0})


def test_fractions_and_logarithms_are_said():
    counts = simulated()[0] // 8
    counts = counts[counts.any(1)]
    scaled = counts / counts.sum(1, keepdims=True) * 1e4
    assert nature(counts + 0.5 * np.random.default_rng(0).random(counts.shape)) == ""
    assert nature(scaled) == "scaled"
    assert nature(np.log1p(scaled).astype(np.float32)) == "log"
    own = {"n_components": 2, "loss": "negative_binomial", "max_iter": 1}
    (note,) = fit(np.log1p(scaled), **own).notes
    assert "no whole numbers" in note
    assert "looks like log(1 + counts / total)" in note
    assert any("divided by the total" in note for note in fit(counts / 2, **own).notes)
    bits = np.clip(counts / counts.max(), 0, 1)
    (note,) = fit(bits, "vae", n_components=2, loss="bernoulli", max_iter=1).notes
    assert "cross-entropy" in note


def test_rows_and_features_of_zeros_are_said_and_harmless():
    counts = simulated()[0].copy()
    counts[3], counts[:, 5] = 0, 0
    for model in ("nmf", "vae"):
        fitted = fit(counts, model, n_components=2, loss="negative_binomial", max_iter=20)
        assert any("samples are zero" in note for note in fitted.notes)
        assert any("features are zero" in note for note in fitted.notes)
        assert np.isfinite(fitted.transform(counts)).all()
        assert np.isfinite(fitted.reconstruct(counts)).all()


def test_a_command_fits_counts_and_writes_their_dispersion(tmp_path):
    np.savetxt(tmp_path / "X.csv", simulated()[0], delimiter=",", fmt="%d")
    words = ["model=nmf", "data=table", "data.path=X.csv", "data.orientation=samples_by_features"]
    words += ["model.n_components=2", "split=rows"]
    done = train(*words, "loss=negative_binomial", cwd=tmp_path)
    assert done.code == 0, done.err
    numbers = json.loads((the_run(tmp_path) / "metrics.json").read_text())
    assert numbers["converged"]
    assert numbers["test/loss"] > 0
    with np.load(the_run(tmp_path) / "factors.npz") as arrays:
        assert arrays["dispersion"].shape == (1, 120)
    assert "head 'dropout'" in refusal(*words, "loss=zinb", cwd=tmp_path)


def test_a_batch_of_rows_of_a_loss_by_covariates_needs_them():
    counts, _ = simulated()
    with pytest.raises(nmfnet.UserError, match="has the axis 'covariate'"):
        fit(counts, n_components=2, loss="negative_binomial", **{"loss.dispersion": "covariates"})
    rows = Batch(torch.from_numpy(counts), torch.arange(len(counts)))
    assert "covariates" not in rows.extra


def test_codes_of_new_rows_are_where_no_slope_is_left():
    """Fisher scoring: at its end the slope is 0 where a code is positive, and >= 0 where it is 0."""
    counts, _ = simulated()
    fitted = fit(counts, n_components=3, loss="negative_binomial", max_iter=100)
    W = torch.from_numpy(fitted.transform(counts[:40])).requires_grad_()
    with fitted.restarts(0):
        loss = fitted.loss(torch.from_numpy(counts[:40]), W @ fitted.factors["H"]())
        (slope,) = torch.autograd.grad(loss.sum(), W)
    scale = float((loss.detach().abs() / W.detach().sum(1)).max())
    assert float((slope.clamp_max(0)).abs().max()) < 1e-4 * scale
    assert float((slope * W.detach()).abs().max()) < 1e-4 * float(loss.detach().max())


def test_no_search_goes_on_from_codes_under_a_negative_binomial():
    """Zeros with a small mean, of which the expected curvature is endless, hold no row back."""
    rng = np.random.default_rng(1)
    H = rng.gamma(0.03, 1, (8, 200))
    mean = rng.gamma(0.3, 3, (20, 8)) @ H
    X = rng.negative_binomial(2, 2 / (2 + mean))
    own = {"loss": "negative_binomial", "dtype": "float64", "max_iter": 300}
    fitted = nmfnet.fit(X, "reference_nmf", H=H, **own)
    theta = fitted.loss.dispersion().detach().numpy().reshape(-1, X.shape[1])[-1]
    H = fitted.components_

    def lost(w, x):
        y = w @ H + 1e-12
        value = ((x + theta) * np.log(y + theta) - x * np.log(y)).sum()
        return value, H @ ((x + theta) / (y + theta) - x / y)

    for x, w in zip(X, fitted.transform(X), strict=True):
        found = lost(w, x)[0]
        start = w + 1e-6 * w.max()
        best = minimize(lost, start, (x,), jac=True, bounds=[(0, None)] * 8, tol=1e-15).fun
        assert found <= best + 1e-4  # nats
