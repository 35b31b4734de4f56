"""Coordinate descent on convex NMF: monotone, stationary at the end, for X of any sign."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

import nmfnet
from nmfnet.kernels.convex import compressed, convex_descent


def objective(x, A, W):
    return float(0.5 * (x - W @ (A @ x)).square().sum())


@pytest.fixture(params=["positive", "signed", "constant and empty rows"])
def data(request):
    g = torch.Generator().manual_seed(0)
    x = torch.rand(30, 8, generator=g, dtype=torch.float64)
    if request.param == "signed":
        x = x - 0.5
    if request.param.startswith("constant"):
        x[3], x[:, 2] = 0, 0
    A, W = (torch.rand(3, 30, generator=g, dtype=torch.float64) for _ in range(2))
    return x, A / 30, W.mT


def test_never_rises_and_ends_stationary(data):
    x, A, W = data
    values = [objective(x, A, W)]
    for _ in range(60):
        A, W = convex_descent(x, A, W, 50, 2)
        assert float(A.min()) >= 0
        assert float(W.min()) >= 0
        values.append(objective(x, A, W))
    falls = np.diff(values)
    assert (falls <= 1e-10 * values[0]).all()
    A.requires_grad_(True)
    loss = 0.5 * (x - W @ (A @ x)).square().sum()
    (slope,) = torch.autograd.grad(loss, A)
    scale = (W.mT @ W).diagonal().amax() * x.square().sum(-1).amax()
    assert float(torch.minimum(A.detach(), slope / scale).abs().max()) < 1e-4


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_compressed_data_have_the_same_misfit(shape):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    W, A = (torch.rand(s, generator=g, dtype=torch.float64) for s in ((shape[0], 3), (3, shape[0])))
    small = compressed(x)
    assert small.shape[1] == min(shape)
    assert objective(small, A, W) == pytest.approx(objective(x, A, W), rel=1e-12)


def test_W_alone_is_least_squares(data):
    x, A, W = data
    for _ in range(200):
        A, W = convex_descent(x, A, W, 20, 2)
    S = (A @ x).numpy()
    exact = np.stack([nnls(S.T, row)[0] for row in x.numpy()])
    assert objective(x, A, W) <= objective(x, A, torch.from_numpy(exact)) * 1.001 + 1e-9


@pytest.mark.slow
def test_never_worse_than_multiplicative_updates_from_the_same_start():
    x = np.random.default_rng(1).random((40, 10))
    settings = {"n_components": 3, "tol": 1e-8, "max_iter": 20_000, "dtype": "float64"}
    found = {
        solver: nmfnet.fit(x, "convex_nmf", solver=solver, n_restarts=5, **settings).metrics
        for solver in ("cd", "mu")
    }
    assert found["cd"]["objective"] <= found["mu"]["objective"] * 1.001
