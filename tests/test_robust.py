"""Losses beside the beta family: Huber, L21 and the alpha divergences."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from making import advance, make

import nmfnet
from nmfnet.core.losses import Alpha
from nmfnet.core.robust import L21, Huber
from nmfnet.metrics import matched_cosine

LOSSES = [Huber(delta=0.2), L21(), Alpha(alpha=0.5), Alpha(alpha=2.0), Alpha(alpha=3.0)]
IDS = ["huber", "l21", "alpha 0.5", "alpha 2", "alpha 3"]
MU = [
    {"loss": "huber", "loss.delta": 0.5},
    {"loss": "l21"},
    {"loss": "alpha", "loss.alpha": 0.5},
    {"loss": "alpha", "loss.alpha": 2.5},
]

fit = functools.partial(nmfnet.fit, figures=False, threads=1, n_components=3)


def matrices(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 5, 6, generator=generator, dtype=torch.float64) + 0.05


def parts(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    W = rng.exponential(size=(80, 3)) * (rng.random((80, 3)) < 0.6)
    H = rng.exponential(size=(3, 30)) * (rng.random((3, 30)) < 0.5)
    return W @ H + 0.01, H, rng


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "weighted"])
@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_split_is_the_gradient_in_two_halves(loss, masked):
    x, y = matrices()
    mask = (matrices(3)[0] * (matrices(4)[0] > 0.4)) if masked else None
    (slope,) = torch.autograd.grad(loss(x, y.requires_grad_(), mask).sum(), y)
    neg, pos = loss.split(x, y.detach(), mask)
    assert float(neg.min()) >= 0
    assert float(pos.min()) >= 0
    weight = 1 if mask is None else mask
    torch.testing.assert_close(weight * (pos - neg), slope, rtol=1e-9, atol=1e-11)
    assert bool((loss(x, x, mask) <= 1e-12).all())
    assert bool((loss(x, y.detach(), mask) >= 0).all())


def test_values_are_those_of_the_formulas():
    x, y = torch.tensor([[0.0, 3.0]]), torch.tensor([[0.5, 1.0]])
    assert float(Huber(delta=1.0)(x, y)) == pytest.approx(0.5 * 0.25 + (2 - 0.5))
    assert float(L21()(x, y)) == pytest.approx(np.sqrt(0.25 + 4))
    pearson = ((x - y) ** 2 / y).sum() / 2
    assert float(Alpha(alpha=2.0)(x, y)) == pytest.approx(float(pearson))
    hellinger = 2 * ((x.sqrt() - y.sqrt()) ** 2).sum()
    assert float(Alpha(alpha=0.5)(x, y)) == pytest.approx(float(hellinger))
    with pytest.raises(nmfnet.UserError, match="use loss=kl"):
        Alpha(alpha=1.0)


@pytest.mark.parametrize("penalised", [False, True], ids=["plain", "penalised"])
@pytest.mark.parametrize("loss", MU, ids=["huber", "l21", "alpha 0.5", "alpha 2.5"])
@pytest.mark.parametrize("model", ["nmf", "projective_nmf"])
def test_multiplicative_updates_never_rise(model, loss, penalised):
    """Also where a factor occurs twice in X_hat, which lowers the exponent."""
    X, _, rng = parts()
    X[rng.random(X.shape) < 0.1] += 3
    factor = "W" if model == "nmf" else "H"
    own = {"penalty": "l2", "penalty.l2.on": factor, "penalty.l2.weight": 0.3} if penalised else {}
    plain = {"solver": "mu", "solver.extrapolation": False, "model": model}
    made, batch = make(X[:30, :12] + 0.01, **plain, **loss, **own)
    before = None
    for _ in range(25):
        advance(made, batch, 1)
        with torch.no_grad():
            now = sum(term.double() for term in made.objective(batch).values())
        assert before is None or bool((now <= before * (1 + 1e-10)).all())
        before = now


def test_spikes_do_not_rule_huber_and_odd_rows_do_not_rule_l21():
    X, H, rng = parts()
    spiked, odd = X.copy(), X.copy()
    spiked[rng.random(X.shape) < 0.05] += 10
    odd[:6] = rng.exponential(5, size=(6, 30))
    for data, loss in ((spiked, {"loss": "huber", "loss.delta": 0.1}), (odd, {"loss": "l21"})):
        squares = fit(data, n_restarts=2)
        robust = fit(data, n_restarts=2, max_iter=400, **loss)
        assert matched_cosine(robust.components_, H) > 0.99
        assert matched_cosine(squares.components_, H) < 0.9
        assert robust.metrics["solver"] == "mu"


@pytest.mark.slow
def test_codes_of_new_rows_are_no_worse_than_those_of_training():
    X, _, _ = parts()
    for loss in MU:
        fitted = fit(X, max_iter=200, dtype="float64", **loss)
        assert -fitted.score(X) * X.size <= fitted.metrics["train/loss"] * (1 + 1e-3)


def test_a_size_of_noise_above_the_range_is_worth_a_word():
    X = parts()[0]
    for delta, said in ((1e3, True), (0.1, False)):
        notes = fit(X, loss="huber", max_iter=2, **{"loss.delta": delta}).notes
        assert any("huber is frobenius" in note for note in notes) == said
    with pytest.raises(nmfnet.UserError, match="negative"):
        fit(X - 1, loss="alpha")


@pytest.mark.parametrize("model", ["convex_nmf", "archetypes"])
def test_codes_are_searched_beside_rows_that_were_kept_in_single_precision(model):
    X = np.random.default_rng(0).gamma(2, 2, (25, 8))
    own = {"n_components": 2, "loss": "huber", "constraint.W": "simplex_project", "max_iter": 20}
    fitted = nmfnet.fit(X, model, dtype="float32", seed=0, **own)
    found = fitted.transform(X)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    W = fitted.factors["W"]()[0].detach().numpy()

    def cost(code: np.ndarray) -> np.ndarray:
        size = np.abs(X - code @ fitted.components_)
        inner = size.clip(max=1)
        return (inner * (size - inner / 2)).sum(1)

    assert (cost(found) <= cost(W) * (1 + 1e-4)).all()


@pytest.mark.parametrize("solver", ["auto", "gd"])
def test_rows_that_fit_exactly_do_not_end_the_fit_of_others(solver):
    """No least squares of single rows, nor reweighted ones of H, find what a converged fit left."""
    rng = np.random.default_rng(0)
    X = rng.gamma(1, 1, (23, 3)) @ rng.gamma(0.5, 1, (3, 11)) + rng.gamma(0.3, 0.1, (23, 11))
    X = X - X.mean(0)
    fitted = nmfnet.fit(
        X, n_components=3, loss="l21", constraint="free", solver=solver, dtype="float64"
    )
    H, before = fitted.components_, fitted.metrics["objective"]
    for _ in range(30):
        W = X @ np.linalg.pinv(H)
        lengths = np.linalg.norm(X - W @ H, axis=1)
        root = lengths.clip(1e-9)[:, None] ** -0.5
        H = np.linalg.lstsq(W * root, X * root, rcond=None)[0]
    assert fitted.metrics["converged"]
    assert lengths.sum() > before * (1 - 2e-3)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "settings",
    [{"loss": "huber"}, {"penalty": "l2", "penalty.l2.on": ["W", "H"]}],
    ids=["huber", "ridge"],
)
def test_rows_of_any_sign_get_the_codes_that_they_were_fitted_with(settings, masked):
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(14, 2)) @ rng.normal(size=(2, 7)) + 0.1 * rng.normal(size=(14, 7))
    mask = (rng.random(X.shape) > 0.2) * 1.0 if masked else None
    fitted = nmfnet.fit(
        X, "semi_nmf", n_components=2, dtype="float64", max_iter=1500, mask=mask, **settings
    )
    W = fitted.factors["W"]()[0].detach().numpy()
    np.testing.assert_allclose(fitted.transform(X, mask=mask), W, atol=0.03 * W.max())
