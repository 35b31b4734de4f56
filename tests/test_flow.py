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
from zuko.transforms import MonotonicRQSTransform

import nmfnet
from nmfnet.data import InMemory
from nmfnet.models.flow import _moved

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


KINDS = pytest.mark.parametrize("coupling", ["affine", "spline"])


@KINDS
@pytest.mark.parametrize("f", [2, 5])
def test_there_and_back_and_the_jacobian(f, coupling):
    X = np.random.default_rng(0).normal(size=(20, f)) * 3 + 1
    X[3] = 200.0  # outside of what splines bend
    options = {"layers": 5, "hidden": 8, "coupling": coupling}
    model, batch = started(InMemory(X=X), model="flow", n_restarts=2, **options)
    bent(model)
    with model.restarts(slice(0, 1)):
        z, log_det = model.flow(batch.x)
        again = model.decode(z)
        np.testing.assert_allclose(again[0].detach(), X, atol=1e-10)
        for row in range(4):
            jacobian = torch.autograd.functional.jacobian(
                lambda x: model.flow(x[None])[0].reshape(-1), batch.x[row]
            )
            assert torch.linalg.slogdet(jacobian).logabsdet == pytest.approx(
                float(log_det[0, row].detach()), abs=1e-10
            )


@KINDS
def test_the_start_is_a_normal_law(coupling):
    X = np.random.default_rng(0).normal([1, -2, 5], [0.5, 1, 3], size=(50, 3))
    model, batch = started(InMemory(X=X), model="flow", coupling=coupling)
    expected = stats.norm(X.mean(0), X.std(0)).logpdf(X).sum(1)
    with torch.no_grad():
        np.testing.assert_allclose(model.log_likelihood(batch)[0].numpy(), expected, atol=1e-10)


@KINDS
def test_a_density_is_one_in_all(coupling):
    """By a sum over a fine grid."""
    options = {"layers": 3, "hidden": 8, "coupling": coupling}
    model, _ = started(InMemory(X=moons(100)), model="flow", **options)
    bent(model)
    with torch.no_grad():
        side = torch.linspace(-12, 12, 601, dtype=torch.float64)
        grid = torch.cartesian_prod(side, side)
        z, log_det = model.flow(grid)
        log = -0.5 * (z.square() + np.log(2 * np.pi)).sum(-1) + log_det
    assert float(log.exp().sum()) * 0.04**2 == pytest.approx(1, abs=5e-3)


def test_a_spline_by_its_definition():
    """It rises, passes through the ends of its bins with the slopes there, and has no corner."""
    model, _ = started(InMemory(X=moons(40)), model="flow", layers=1, coupling="spline", bins=5)
    bent(model)
    spline, b = model._steps()[0]
    changed = int((b == 0).flatten().nonzero()[0])
    with torch.no_grad():
        row = torch.full((1, 1, 2), 0.3, dtype=torch.float64)
        at, values, slopes = (knots[0, 0, 0] for knots in spline._knots(row, b, _moved(b)))
        assert len(at) == len(values) == len(slopes) == 6
        assert float(at[0]) == float(values[0]) == -5
        assert float(at[-1]) == pytest.approx(5)
        assert float(slopes[0]) == float(slopes[-1]) == 1
        assert slopes.std() > 0.05

        def value(x):
            rows = row.expand(1, len(x), 2).clone()
            rows[..., changed] = x
            y, log_slope = spline(rows, b)
            assert torch.equal(y[..., 1 - changed], rows[..., 1 - changed])
            return y[0, :, changed], log_slope[0].exp()

        for side in (-1e-9, 1e-9):
            y, slope = value(at[1:-1] + side)
            np.testing.assert_allclose(y, values[1:-1], atol=1e-7)
            np.testing.assert_allclose(slope, slopes[1:-1], rtol=1e-6)
        y, slope = value(torch.linspace(-7, 7, 5001, dtype=torch.float64))
        assert bool((y.diff() > 0).all())
        np.testing.assert_allclose(slope[1:-1], (y[2:] - y[:-2]) / (2 * 14 / 5000), rtol=2e-2)


def test_a_spline_is_that_of_zuko():
    model, _ = started(InMemory(X=moons(40)), model="flow", layers=1, coupling="spline", bins=5)
    bent(model)
    spline, b = model._steps()[0]
    changed = int((b == 0).flatten().nonzero()[0])
    rows = 2 * torch.randn(1, 50, 2, dtype=torch.float64)
    at, values, slopes = spline._knots(rows, b, _moved(b))
    zuko = MonotonicRQSTransform(*(torch.zeros(n, dtype=torch.float64) for n in (5, 5, 4)))
    zuko.horizontal, zuko.vertical, zuko.derivatives = (
        knots[0, :, 0] for knots in (at, values, slopes)
    )
    y, log_slope = zuko.call_and_ladj(rows[0, :, changed])
    mine, log_det = spline(rows, b)
    np.testing.assert_allclose(mine[0, :, changed].detach(), y.detach(), atol=1e-12)
    np.testing.assert_allclose(log_det[0].detach(), log_slope.detach(), atol=1e-12)


@KINDS
def test_moons_are_learned_and_drawn(coupling):
    X = moons()
    fitted = fit(X, max_iter=300, seed=1, split="rows", coupling=coupling)
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
        (X, {"coupling": "spline", "bins": 1}, "bins"),
        (X, {"coupling": "cubic"}, "affine"),
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
