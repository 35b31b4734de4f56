"""Divergences, their derivatives, and the exponents that go with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition._nmf import _beta_divergence

from nmfnet.kernels.divergences import beta_divergence, beta_split, monotone_exponent

BETAS = [2.0, 1.0, 0.0, 1.5, 0.5, 3.0, -1.0]
few = settings(max_examples=25, deadline=None, derandomize=True)


def matrices(seed: int, n: int = 4, f: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, n, f, generator=generator, dtype=torch.float64) + 0.05
    return x, y


@pytest.mark.parametrize("beta", BETAS)
@few
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_equals_scikit_learn(beta, seed, scale):
    rng = np.random.default_rng(seed)
    X, W, H = rng.random((5, 4)) + 0.01, rng.random((5, 2)) + 0.01, rng.random((2, 4)) + 0.01
    X, W = scale * X, scale * W
    ours = beta_divergence(torch.from_numpy(X), torch.from_numpy(W @ H), beta)
    assert ours.shape == (5,)
    assert float(ours.sum()) == pytest.approx(_beta_divergence(X, W, H, beta), rel=1e-10)


def test_zeros_of_x_under_kl_equal_scikit_learn():
    rng = np.random.default_rng(0)
    X, W, H = rng.poisson(0.7, (6, 5)).astype(float), rng.random((6, 2)), rng.random((2, 5))
    assert (X == 0).any()
    ours = beta_divergence(torch.from_numpy(X), torch.from_numpy(W @ H), 1.0)
    assert float(ours.sum()) == pytest.approx(_beta_divergence(X, W, H, 1), rel=1e-12)


@pytest.mark.parametrize(
    ("beta", "x", "y", "value"),
    [
        (2.0, 3.0, 1.0, 2.0),
        (1.0, 0.0, 0.5, 0.5),  # 0 log 0 = 0
        (1.0, 2.0, 1.0, 2 * np.log(2) - 1),
        (0.0, 2.0, 1.0, 1 - np.log(2)),
        (0.5, 4.0, 1.0, (2 - 0.5 - 0.5 * 4) / -0.25),
        (3.0, 2.0, 1.0, (8 + 2 - 3 * 2) / 6),
    ],
)
def test_values_by_hand(beta, x, y, value):
    cell = torch.tensor([[x]], dtype=torch.float64)
    found = beta_divergence(cell, torch.tensor([[y]], dtype=torch.float64), beta)
    assert float(found) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("beta", BETAS)
def test_zero_exactly_where_equal_and_positive_elsewhere(beta):
    x, y = matrices(1)
    assert float(beta_divergence(x, x, beta).abs().max()) < 1e-14
    assert float(beta_divergence(x, y, beta).min()) > 0


@pytest.mark.parametrize("beta", BETAS)
def test_restart_axis_is_a_loop(beta):
    x, y = matrices(2)
    stacked = torch.stack([y, y + 0.3, 2 * y])
    together = beta_divergence(x, stacked, beta)
    assert together.shape == (3, 4)
    for one, y_hat in zip(together, stacked, strict=True):
        torch.testing.assert_close(one, beta_divergence(x, y_hat, beta), rtol=1e-15, atol=0)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("stored", [0.0, 0.7])
def test_masked_entries_count_for_nothing(beta, stored):
    """Neither in the value nor in the derivative, also where the loss is infinite at x = 0."""
    x, y = matrices(3)
    mask = torch.ones_like(x)
    mask[1, 2] = mask[3, 0] = 0
    hidden = torch.where(mask > 0, x, stored)
    y.requires_grad_()
    value = beta_divergence(hidden, y, beta, mask)
    observed = [row[seen > 0] for row, seen in zip(x, mask, strict=True)]
    fitted = [row[seen > 0] for row, seen in zip(y, mask, strict=True)]
    left_out = torch.stack(
        [beta_divergence(a[None], b[None], beta)[0] for a, b in zip(observed, fitted, strict=True)]
    )
    torch.testing.assert_close(value, left_out)
    (slope,) = torch.autograd.grad(value.sum(), y)
    assert torch.isfinite(slope).all()
    assert float(slope[1, 2]) == float(slope[3, 0]) == 0


@pytest.mark.parametrize("beta", BETAS)
@few
@given(seed=st.integers(0, 10**6))
def test_split_is_the_derivative_in_two_halves(beta, seed):
    x, y = matrices(seed)
    y.requires_grad_()
    (slope,) = torch.autograd.grad(beta_divergence(x, y, beta).sum(), y)
    neg, pos = beta_split(x, y.detach(), beta)
    assert float(neg.min()) >= 0
    assert float(pos.min()) >= 0
    torch.testing.assert_close(pos - neg, slope, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("beta", [2.0, 1.0, 1.5])
def test_derivative_is_finite_where_x_is_zero(beta):
    x, y = matrices(4)
    x[0, 0] = 0
    y.requires_grad_()
    (slope,) = torch.autograd.grad(beta_divergence(x, y, beta).sum(), y)
    neg, pos = beta_split(x, y.detach(), beta)
    torch.testing.assert_close(slope, pos - neg, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_gradcheck(beta):
    x, y = matrices(5)
    assert torch.autograd.gradcheck(
        lambda y_hat: beta_divergence(x, y_hat, beta), y.requires_grad_(), fast_mode=True
    )


@pytest.mark.parametrize(
    ("beta", "degree", "penalty", "exponent"),
    [
        (2, 1, 0, 1), (1, 1, 0, 1), (1.5, 1, 0, 1),  # Lee & Seung; Févotte & Idier between 1 and 2
        (0, 1, 0, 1 / 2), (0.5, 1, 0, 2 / 3), (-1, 1, 0, 1 / 3),  # 1 / (2 - beta)
        (3, 1, 0, 1 / 2), (4, 1, 0, 1 / 3),  # 1 / (beta - 1)
        (2, 1, 1, 1), (2, 1, 2, 1), (1, 1, 1, 1), (1, 1, 2, 1 / 2),
        (2, 2, 0, 1 / 3), (1, 2, 0, 1 / 2),  # projective: Yang & Oja
    ],
)  # fmt: skip
def test_exponents_of_the_literature(beta, degree, penalty, exponent):
    assert monotone_exponent(float(beta), degree, penalty) == pytest.approx(exponent)
