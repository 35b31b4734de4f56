"""Spectral projected gradients: every row comes to its own optimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

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
