"""Spectral projected gradients: every row comes to its own optimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.kernels.bounded import minimise_within
from nmfnet.kernels.spectral import minimise


@pytest.mark.parametrize("k", [4, 8])
def test_every_row_ends_at_its_optimum(k):
    rng = np.random.default_rng(0)
    H = 100 * rng.dirichlet(np.full(15, 0.5), k)
    X = rng.poisson(rng.dirichlet(np.full(k, 0.5), 300) @ H).astype(float)
    x, h = torch.from_numpy(X), torch.from_numpy(H)

    def value(W: torch.Tensor) -> torch.Tensor:
        return 0.5 * (x - W @ h).square().sum(-1)

    start = torch.full((300, k), 1 / k, dtype=torch.float64)
    found = value(minimise(value, lambda W: W.clamp_min(0), start, max_iter=5000))
    least = [0.5 * nnls(H.T, row)[1] ** 2 for row in X]
    np.testing.assert_allclose(found.numpy(), least, rtol=1e-6)


@pytest.mark.parametrize(
    ("of_x", "of_h"), [(1.0, 1.0), (1e-6, 1.0), (1e6, 1.0), (1.0, 1e-12), (1.0, 1e12)]
)
def test_bounded_descent_ends_at_the_optimum_in_any_unit(of_x, of_h):
    rng = np.random.default_rng(0)
    W, H = rng.exponential(size=(6, 3)), of_h * rng.exponential(size=(3, 8))
    X = of_x * (W @ (H / of_h) + rng.random((6, 8)))
    x, h = torch.from_numpy(X), torch.from_numpy(H)

    def value(W: torch.Tensor) -> torch.Tensor:
        return 0.5 * (x - W @ h).square().sum()

    start = torch.full((6, 3), 0.1 * of_x / of_h, dtype=torch.float64)
    found = float(value(minimise_within(value, start, [NON_NEGATIVE] * 3)))
    assert found == pytest.approx(sum(0.5 * nnls(H.T, row)[1] ** 2 for row in X), rel=1e-5)
