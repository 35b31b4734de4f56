"""Normalising flow: exact densities, round trips, and what is refused."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from kinds import started
from scipy import stats
from shell import train

import nmfnet
from nmfnet.data import InMemory

fit = functools.partial(nmfnet.fit, model="flow", layers=4, hidden=16, threads=1)


def moons(n: int = 300, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angle, upper = np.pi * rng.random(n), np.arange(n) % 2
    both = np.column_stack([np.cos(angle) + upper, np.sin(angle) * (1 - 2 * upper) + upper / 2])
    return both + 0.1 * rng.normal(size=(n, 2))


def bent(model):
    """Layers that do something."""
    torch.manual_seed(0)
    for factor in model.own_factors().values():
        factor.assign_(0.3 * torch.randn_like(factor.raw))
    return model


@pytest.mark.parametrize("f", [2, 5])
def test_there_and_back_and_the_jacobian(f):
    X = np.random.default_rng(0).normal(size=(20, f)) * 3 + 1
    model, batch = started(InMemory(X=X), model="flow", layers=5, hidden=8, n_restarts=2)
    bent(model)
    with model.restarts(slice(0, 1)):
        z, log_det = model.flow(batch.x)
        again = model.decode(z)
        np.testing.assert_allclose(again[0].detach(), X, atol=1e-10)
        for row in range(3):
            jacobian = torch.autograd.functional.jacobian(
                lambda x: model.flow(x[None])[0].reshape(-1), batch.x[row]
            )
            assert torch.linalg.slogdet(jacobian).logabsdet == pytest.approx(
                float(log_det[0, row].detach()), abs=1e-10
            )


def test_the_start_is_a_normal_law():
    X = np.random.default_rng(0).normal([1, -2, 5], [0.5, 1, 3], size=(50, 3))
    model, batch = started(InMemory(X=X), model="flow")
    expected = stats.norm(X.mean(0), X.std(0)).logpdf(X).sum(1)
    with torch.no_grad():
        np.testing.assert_allclose(model.log_likelihood(batch)[0].numpy(), expected, atol=1e-10)


def test_a_density_is_one_in_all():
    """By a sum over a fine grid."""
    model, _ = started(InMemory(X=moons(100)), model="flow", layers=3, hidden=8)
    bent(model)
    with torch.no_grad():
        side = torch.linspace(-20, 20, 1001, dtype=torch.float64)
        grid = torch.cartesian_prod(side, side)
        z, log_det = model.flow(grid)
        log = -0.5 * (z.square() + np.log(2 * np.pi)).sum(-1) + log_det
    assert float(log.exp().sum()) * 0.04**2 == pytest.approx(1, abs=5e-3)


def test_moons_are_learned_and_drawn():
    X = moons()
    fitted = fit(X, max_iter=300, seed=1, split="rows")
    normal = stats.multivariate_normal(X.mean(0), np.cov(X.T))
    assert fitted.metrics["status"] in ("stopped early", "budget")
    assert fitted.metrics["test/log_likelihood"] > normal.logpdf(X).mean() + 0.3
    np.testing.assert_allclose(fitted.reconstruct(X), X, atol=1e-4)
    drawn = fitted.inverse_transform(np.random.default_rng(0).normal(size=(400, 2)))
    nearest = np.linalg.norm(drawn[:, None] - moons(2000, seed=5)[None], axis=-1).min(1)
    assert np.median(nearest) < 0.1


def test_units_of_x_are_the_users():
    """X times 2**40 has a density that is so much lower."""
    X = moons(60)
    small, large = (fit(scale * X, max_iter=20) for scale in (1.0, 2.0**40))
    fallen = small.metrics["train/log_likelihood"] - large.metrics["train/log_likelihood"]
    assert fallen == pytest.approx(2 * 40 * np.log(2), rel=1e-4)


def test_whole_numbers_need_noise():
    counts = np.random.default_rng(0).poisson(3, size=(40, 4)).astype(float)
    assert any("model.dequantise=1" in note for note in fit(counts, max_iter=5).notes)
    noisy = fit(counts, max_iter=5, dequantise=1)
    assert not any("dequantise" in note for note in noisy.notes)
    np.testing.assert_allclose(noisy.reconstruct(counts), counts, atol=1e-4)
    assert noisy.metrics["train/log_likelihood"] < 0  # of numbers that have probabilities


def test_what_is_refused():
    X = moons(30)
    same = np.column_stack([X, np.ones(30)])
    for data, settings, message in (
        (same, {}, "same value in all rows"),
        (X[:, :1], {}, "two features at least"),
        (X, {"mask": np.arange(60).reshape(30, 2) != 3}, "needs every entry"),
        (X, {"layers": 0}, "layers"),
        (X, {"dequantise": -1.0}, "dequantise"),
    ):
        with pytest.raises(nmfnet.UserError, match=message):
            fit(data, **settings)
    assert fit(same, dequantise=1e-3, max_iter=2).metrics["n_iter"] > 0


def test_every_restart_has_halves_of_its_own():
    three, _ = started(InMemory(X=moons(40)), model="flow", layers=4, n_restarts=3)
    alone, _ = started(InMemory(X=moons(40)), range(2, 3), model="flow", layers=4, n_restarts=3)
    assert torch.equal(three.halves[2], alone.halves[0])
    assert bool((three.halves[:, ::2] + three.halves[:, 1::2] == 1).all())


def test_the_command(tmp_path):
    done = train("model=flow", "model.dequantise=1", "model.layers=2", "max_iter=20", "split=rows",
                 "figures=false", "run_dir=run", cwd=tmp_path)  # fmt: skip
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert np.isfinite(numbers["test/log_likelihood"])
    assert "log-likelihood" in done.out
    assert "relative error" not in done.out
