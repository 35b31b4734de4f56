"""What every loss promises, for each file of ``conf/loss``."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from making import config

import nmfnet
from nmfnet import UserError
from nmfnet.config import options
from nmfnet.kernels.counts import negative_binomial, zero_inflated
from nmfnet.settings.objects import build

ALL = options("loss")
LOSSES = [name for name in ALL if build(config({"loss": name}).loss).beta is not None]
"""The beta family; likelihoods with parameters of their own have tests of their own below."""


def loss_of(name):
    return build(config({"loss": name}).loss).double()


def matrices(seed: int = 0, n: int = 4, f: int = 3):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, n, f, generator=generator, dtype=torch.float64) + 0.05


@pytest.mark.parametrize("name", LOSSES)
def test_one_value_per_restart_and_row(name):
    x, y = matrices()
    loss = loss_of(name)
    assert loss(x, y).shape == (4,)
    assert loss(x, torch.stack([y, 2 * y, y])).shape == (3, 4)
    torch.testing.assert_close(loss(x, torch.stack([y, 2 * y]))[1], loss(x, 2 * y))


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_least_at_the_data_and_never_negative(name, seed):
    x, y = matrices(seed)
    loss = loss_of(name)
    assert bool((loss(x, y) >= loss(x, x) - 1e-12).all())
    assert float(loss(x, y).min()) >= 0


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck(name, masked):
    x, y = matrices()
    mask = (matrices(7)[0] > 0.4).double() if masked else None
    loss = loss_of(name)
    assert torch.autograd.gradcheck(lambda y_hat: loss(x, y_hat, mask), y.requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_split_is_the_gradient_in_two_halves(name, seed):
    x, y = matrices(seed)
    loss = loss_of(name)
    (slope,) = torch.autograd.grad(loss(x, y.requires_grad_()).sum(), y)
    neg, pos = loss.split(x, y.detach())
    assert float(neg.min()) >= 0
    assert float(pos.min()) >= 0
    torch.testing.assert_close(pos - neg, slope, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", LOSSES)
def test_mask_leaves_entries_out(name):
    x, y = matrices()
    mask = torch.ones_like(x)
    mask[1, 2] = 0
    loss = loss_of(name)
    torch.testing.assert_close(loss(x, y, torch.ones_like(x)), loss(x, y))
    kept = torch.tensor([0, 1])
    torch.testing.assert_close(loss(x, y, mask)[1], loss(x[1:2, kept], y[1:2, kept])[0])
    hidden = torch.where(mask > 0, x, 0.0)
    assert torch.equal(loss(hidden, y, mask), loss(x, y, mask))


@pytest.mark.parametrize("name", LOSSES)
def test_exponent_is_a_power_of_at_most_one(name):
    loss = loss_of(name)
    for degree in (1, 2):
        for penalty in (0, 1, 2):
            assert 0 < loss.exponent(degree, penalty) <= loss.exponent(degree, 0) <= 1


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", LOSSES)
def test_data_outside_the_domain_are_refused_by_name(name, sparse):
    import scipy.sparse as sp

    x, loss = matrices()[0].numpy(), loss_of(name)
    rows, columns = [f"row{i}" for i in range(4)], [f"column{j}" for j in range(3)]
    loss.check(x, rows, columns, "X")
    for value, domain in ((-1.5, "X >= 0"), (0.0, "X > 0")):
        bad = x.copy()
        bad[2, 1] = value
        mask = np.ones(x.shape, bool)
        mask[2, 1] = False
        loss.check(bad, rows, columns, "X", mask)
        stored = sp.csr_matrix(bad) if sparse else bad
        if domain in domain_of(name):
            with pytest.raises(UserError) as caught:
                loss.check(stored, rows, columns, "X")
            assert re.search(
                rf"1 (negative values|zeros).*{name}.*row2.*column1", str(caught.value)
            )
        else:
            loss.check(stored, rows, columns, "X")


def domain_of(name: str) -> tuple[str, ...]:
    """What a loss refuses: nothing, negative values, or zeros too."""
    known = {"frobenius": (), "itakura_saito": ("X >= 0", "X > 0")}
    return known.get(name, ("X >= 0",))


@pytest.mark.parametrize("name", LOSSES)
def test_docstring_is_a_formula_with_its_source(name):
    text = inspect.getdoc(type(loss_of(name))) or ""
    assert re.search(r"``.*Σ|divergence", text.splitlines()[0])


def test_poisson_is_kl_and_a_constant_of_the_data():
    x, y = matrices()
    kl, poisson = loss_of("kl"), loss_of("poisson")
    gap = poisson(x, y) - kl(x, y)
    torch.testing.assert_close(gap, poisson(x, 2 * y) - kl(x, 2 * y))
    counts = torch.arange(6, dtype=torch.float64).view(1, 6)
    rates = torch.full((1, 6), 2.5, dtype=torch.float64)
    wanted = -torch.distributions.Poisson(rates).log_prob(counts).sum(-1)
    torch.testing.assert_close(poisson(counts, rates), wanted)


# ---------------------------------------------------------------------- counts
def entries(n: int = 20_000):
    rng = np.random.default_rng(0)
    mean, theta = 10 ** rng.uniform(-3, 4, n), 10 ** rng.uniform(-3, 3.5, n)
    return rng.poisson(mean).astype(float), mean, theta, rng.uniform(-8, 8, n)


def test_negative_binomial_is_scipys():
    from scipy import stats

    x, mean, theta, _ = entries()
    found = negative_binomial(*(torch.from_numpy(a) for a in (x, mean, theta))).numpy()
    wanted = stats.nbinom.logpmf(x, theta, theta / (theta + mean))
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_zero_inflation_is_the_mixture():
    from scipy import stats

    x, mean, theta, pi = entries()
    x[::3] = 0
    tensors = [torch.from_numpy(a) for a in (x, mean, theta)]
    at_zero = negative_binomial(torch.zeros_like(tensors[0]), *tensors[1:])
    found = zero_inflated(tensors[0], negative_binomial(*tensors), at_zero, torch.from_numpy(pi))
    share = 1 / (1 + np.exp(-pi))
    p = stats.nbinom.pmf(x, theta, theta / (theta + mean))
    seen = p > 1e-290
    wanted = np.log(share * (x == 0) + (1 - share) * p)[seen]
    np.testing.assert_allclose(found.numpy()[seen], wanted, rtol=1e-8, atol=1e-9)


def test_limits_of_the_dispersion_and_of_the_inflation():
    x, mean, _, _ = (torch.from_numpy(a) for a in entries(500))
    poisson = torch.distributions.Poisson(mean).log_prob(x)
    close = negative_binomial(x, mean, torch.full_like(mean, 1e9))
    torch.testing.assert_close(close, poisson, rtol=1e-4, atol=1e-3)
    theta = torch.full_like(mean, 2.0)
    log_p = negative_binomial(x, mean, theta)
    at_zero = negative_binomial(torch.zeros_like(x), mean, theta)
    none = torch.full_like(x, -torch.inf)
    torch.testing.assert_close(zero_inflated(x, log_p, at_zero, none), log_p)


@pytest.mark.slow
def test_dispersion_is_recovered_by_a_factorisation():
    """Simulated counts of rank 2 and one known inverse dispersion; every restart has its own."""
    rng = np.random.default_rng(1)
    mean = rng.gamma(2, 4, (300, 2)) @ rng.gamma(2, 1, (2, 12))
    X = rng.negative_binomial(3, 3 / (3 + mean)).astype(float)
    fitted = nmfnet.fit(
        X, n_components=2, loss="negative_binomial", solver="lbfgs", max_iter=400, figures=False
    )
    theta = fitted.factors["dispersion"]().detach()
    assert theta.shape == (1, 1, 12)
    assert 2.7 < float(theta.median()) < 3.6
    assert fitted.metrics["train/loss"] == pytest.approx(fitted.metrics["objective"], rel=1e-6)
    poisson = nmfnet.fit(X, n_components=2, loss="poisson", figures=False)
    assert fitted.metrics["train/loss"] < poisson.metrics["train/loss"] - 1000
    assert np.isfinite(fitted.transform(X[:3])).all()
