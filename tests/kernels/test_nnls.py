"""Non-negative least squares in Gram space: optimal, scipy's answer, differentiable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize

from nmfnet.kernels.nnls import find_support, nnls, nnls_rows, pivot_together, solve_on

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")


def problem(
    m: int = 30, n: int = 50, k: int = 8, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    H = rng.random((k, m)) * (rng.random((k, m)) < 0.7)
    X = rng.random((n, k)) * (rng.random((n, k)) < 0.5) @ H + 0.3 * rng.standard_normal((n, m))
    return X, H, torch.from_numpy(H @ H.T), torch.from_numpy(X @ H.T)


def residual(G: torch.Tensor, C: torch.Tensor, S: torch.Tensor) -> float:
    slope = S @ G - C
    return float(torch.minimum(S * G.diagonal(0, -2, -1), slope).abs().max() / C.abs().max())


@pytest.mark.parametrize(("m", "n", "k"), [(30, 50, 8), (20, 10, 1), (40, 30, 25), (12, 40, 12)])
def test_optimal_and_equal_to_scipy(m, n, k):
    X, H, G, C = problem(m, n, k)
    S = nnls(G, C)
    assert bool((S >= 0).all())
    assert residual(G, C, S) < 1e-10
    for row, s in zip(X, S.numpy(), strict=True):
        np.testing.assert_allclose(s, optimize.nnls(H.T, row)[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_row_by_row_is_all_rows_at_once(k):
    _, _, G, C = problem(40, 60, k)
    assert torch.equal(find_support(G, C), pivot_together(G, C))


@pytest.mark.parametrize("guess", ["right", "none", "all", "random"])
def test_any_guess_of_the_support_leads_there(guess):
    _, _, G, C = problem()
    S = nnls(G, C)
    support = {
        "right": S > 0,
        "none": torch.zeros_like(S, dtype=torch.bool),
        "all": torch.ones_like(S, dtype=torch.bool),
        "random": torch.rand(S.shape, generator=torch.Generator().manual_seed(0)) > 0.5,
    }[guess]
    before = support.clone()
    torch.testing.assert_close(nnls(G, C, support), S, rtol=1e-10, atol=1e-12)
    assert torch.equal(support, before)


def test_leading_dimensions_are_separate_problems():
    problems = [problem(seed=seed)[2:] for seed in range(3)]
    G, C = (torch.stack(parts) for parts in zip(*problems, strict=True))
    for i, (g, c) in enumerate(problems):
        torch.testing.assert_close(nnls(G, C)[i], nnls(g, c), rtol=1e-12, atol=1e-14)
    assert torch.equal(pivot_together(G, C), find_support(G, C))


@pytest.mark.parametrize("together", [False, True], ids=["compiled", "torch"])
def test_equal_and_vanishing_components(together, monkeypatch):
    if together:
        alone = "nmfnet.kernels.nnls._pivoted"
        monkeypatch.setattr(alone, lambda *problem: (pivot_together(*problem), None))
    X, H, _, _ = problem()
    H[3], H[5] = H[1], 0
    H[7] = 2 * H[1]
    S = nnls(torch.from_numpy(H @ H.T), torch.from_numpy(X @ H.T))
    assert bool(torch.isfinite(S).all())
    for row, s in zip(X, S.numpy(), strict=True):
        best = optimize.nnls(H.T, row)[1]
        assert np.linalg.norm(row - s @ H) < best * (1 + 1e-6)


@pytest.mark.parametrize("search", [find_support, pivot_together], ids=["compiled", "torch"])
@pytest.mark.parametrize(("f", "k"), [(12, 13), (12, 20), (12, 80), (5, 40), (1, 3)])
def test_more_components_than_features(search, f, k):
    rng = np.random.default_rng(k)
    H = rng.gamma(0.5, 1, (k, f)) * (rng.random((k, f)) < 0.6)
    X = np.vstack([rng.gamma(1, 1, (20, k)) @ H, rng.random((20, f)), rng.standard_normal((9, f))])
    G, C = torch.from_numpy(H @ H.T), torch.from_numpy(X @ H.T)
    for guess in (None, torch.ones_like(C, dtype=torch.bool)):
        S = solve_on(G, C, search(G, C, guess)).clamp_min(0).numpy()
        best = [optimize.nnls(H.T, row)[1] for row in X]
        reached = np.linalg.norm(X - S @ H, axis=1)
        np.testing.assert_allclose(reached, best, rtol=1e-6, atol=1e-6 * np.linalg.norm(X))


def test_zero_and_no_rows():
    _, _, G, C = problem()
    assert float(nnls(G, torch.zeros_like(C)).abs().max()) == 0
    assert float(nnls(G, -C.abs()).abs().max()) == 0
    assert nnls(G, C[:0]).shape == (0, 8)


def test_scaling_a_component_scales_its_weights():
    _X, _H, G, C = problem()
    d = torch.linspace(0.1, 10, 8, dtype=torch.float64)
    scaled = nnls(d[:, None] * G * d, C * d)
    torch.testing.assert_close(scaled * d, nnls(G, C), rtol=1e-9, atol=1e-12)


def test_float32_and_sparse():
    X, H, G, C = problem()
    S = nnls(G.float(), C.float())
    assert S.dtype == torch.float32
    torch.testing.assert_close(S.double(), nnls(G, C), rtol=1e-4, atol=1e-5)
    x = torch.from_numpy(np.maximum(X, 0) * (X > 0.3))
    h = torch.from_numpy(H)
    torch.testing.assert_close(nnls_rows(x.to_sparse_csr(), h), nnls_rows(x, h))


def test_first_and_second_derivatives():
    _, H, _, _ = problem(12, 5, 4)
    h = torch.from_numpy(H).requires_grad_()
    x = torch.from_numpy(problem(12, 5, 4, 1)[0]).requires_grad_()
    assert torch.autograd.gradcheck(nnls_rows, (x, h))
    assert torch.autograd.gradgradcheck(nnls_rows, (x, h))


def test_derivatives_through_two_layers():
    rng = np.random.default_rng(1)
    x, a, b = (
        torch.from_numpy(rng.random(s) + 0.1).requires_grad_() for s in ((4, 9), (5, 9), (2, 5))
    )

    def layers(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return nnls_rows(nnls_rows(x, a), b)

    assert torch.autograd.gradcheck(layers, (x, a, b))


def test_the_derivative_of_the_fit_is_that_of_the_envelope():
    """At the optimum S does not contribute: d/dH of the squared error is that with S held."""
    X, H, _, _ = problem()
    x, h = torch.from_numpy(X), torch.from_numpy(H).requires_grad_()
    S = nnls_rows(x, h)
    (full,) = torch.autograd.grad((x - S @ h).square().sum(), h)
    (held,) = torch.autograd.grad((x - S.detach() @ h).square().sum(), h)
    torch.testing.assert_close(full, held, rtol=1e-9, atol=1e-9)


def test_a_fixed_support_is_solved_exactly():
    _, _, G, C = problem()
    support = find_support(G, C)
    S = solve_on(G, C, support)
    assert float(((S @ G - C) * support).abs().max()) < 1e-10
    assert float((S * ~support).abs().max()) == 0
