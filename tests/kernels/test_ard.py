"""ARD: the objective falls, the planted rank is found, sparse and masked data mean the same."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmfnet.kernels.ard import Prior, ard, ard_objective, dispersion, prior_of, relevance

TRUE, LARGEST = 5, 12


@lru_cache
def planted(beta: int, seed: int) -> tuple[torch.Tensor, float]:
    """Five components: Poisson counts, or Gaussian noise of a tenth of the signal; its dispersion."""
    rng = np.random.default_rng(seed)
    mean = 10 * rng.gamma(0.7, 1, (80, TRUE)) @ rng.dirichlet(np.full(40, 0.4), TRUE) * 40
    if beta == 1:
        return torch.tensor(rng.poisson(mean).astype(float)), 1.0
    noise = 0.1 * mean.std()
    return torch.tensor(np.maximum(mean + noise * rng.normal(size=mean.shape), 0)), noise**2


def start(x: torch.Tensor, k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    size = (x.mean() / k).sqrt()
    W, H = (torch.rand(s, generator=rng, dtype=x.dtype) for s in ((len(x), k), (k, x.shape[1])))
    return size * (W + 0.5), size * (H + 0.5)


@pytest.mark.quick("0-1")
@pytest.mark.parametrize("beta", [1, 2])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_planted_rank_is_found_from_more_than_twice_as_many(beta, seed):
    x, true_phi = planted(beta, seed)
    plain = ard(x, *start(x, LARGEST, 9), beta, None, max_iter=500)
    assert plain.kept.all()
    phi = dispersion(x, plain.W, plain.H, beta)
    assert phi == pytest.approx(true_phi, rel=0.15)
    prior = prior_of(float(x.mean()), *x.shape, LARGEST, phi)
    found = ard(x, *start(x, LARGEST, seed), beta, prior)
    assert int(found.kept.sum()) == TRUE
    assert found.converged
    gone = found.W[:, ~found.kept] @ found.H[~found.kept]
    assert gone.abs().max() < 1e-6 * x.max()  # what is not kept explains nothing


@pytest.mark.quick("True")
@pytest.mark.parametrize("masked", [False, True])
@given(beta=st.sampled_from([0.5, 1, 1.5, 2]), seed=st.integers(0, 10**6), phi=st.floats(1e-2, 1e2))
@settings(max_examples=20, deadline=None)
def test_the_objective_never_rises(masked, beta, seed, phi):
    x = torch.rand(9, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01
    mask = (x > 0.2).double() if masked else None
    x = x if mask is None else x * mask
    W, H = start(x, 4, seed)
    prior = prior_of(float(x.mean()), 9, 7, 4, phi)
    values = [float(ard_objective(x, W, H, beta, prior, mask))]
    for _ in range(30):
        W, H, *_ = ard(x, W, H, beta, prior, mask, max_iter=1)
        values.append(float(ard_objective(x, W, H, beta, prior, mask)))
    assert (np.diff(values) <= 1e-9 * np.abs(values[0])).all()


def test_the_objective_is_the_one_of_the_paper_at_its_best_relevance():
    x, _ = planted(1, 0)
    W, H = start(x, 3, 0)
    prior = Prior(b=0.7, c=130.0, phi=2.0)
    weights = relevance(W, H, prior).requires_grad_()
    size = W.sum(0) + H.sum(1) + prior.b
    y = W @ H
    misfit = (x * (x.clamp_min(1e-30) / y).log() - x + y).sum()
    value = misfit / prior.phi + (size / weights + prior.c * weights.log()).sum()
    torch.testing.assert_close(value.detach(), ard_objective(x, W, H, 1, prior))
    (slope,) = torch.autograd.grad(value, weights)
    assert slope.abs().max() < 1e-9 * prior.c / weights.detach().min()


def test_the_unit_of_the_data_does_not_matter():
    """X times s, and phi times s ** beta: W and H times sqrt(s), the same components kept."""
    for beta in (1, 2):
        x, phi = planted(beta, 0)
        W, H = start(x, 6, 0)
        one = ard(x, W, H, beta, prior_of(float(x.mean()), *x.shape, 6, phi), max_iter=200)
        scale, root = 1e4, 1e2
        prior = prior_of(float(scale * x.mean()), *x.shape, 6, scale**beta * phi)
        two = ard(scale * x, root * W, root * H, beta, prior, max_iter=200)
        torch.testing.assert_close(two.W, root * one.W, rtol=1e-6, atol=1e-8)
        assert torch.equal(one.kept, two.kept)


@pytest.mark.parametrize("beta", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_sparse_data_give_what_dense_data_give(beta, masked):
    x = planted(1, 1)[0] * (torch.rand(80, 40, generator=torch.Generator().manual_seed(0)) < 0.3)
    seen = (x > 0).double() if masked else None
    W, H = start(x, 6, 0)
    sparse = x.to_sparse_csr()
    prior = prior_of(1.0, *x.shape, 6, 1.0)
    one = ard(x, W, H, beta, prior, seen, max_iter=50)
    two = ard(sparse, W, H, beta, prior, sparse if masked else None, max_iter=50)
    torch.testing.assert_close(one.W, two.W, rtol=1e-8, atol=1e-10)
    of_one = ard_objective(x, one.W, one.H, beta, prior, seen)
    of_two = ard_objective(sparse, one.W, one.H, beta, prior, sparse if masked else None)
    torch.testing.assert_close(of_one, of_two, rtol=1e-9, atol=0)
    phi = dispersion(x, W, H, beta, seen)
    assert dispersion(sparse, W, H, beta, sparse if masked else None) == pytest.approx(phi)
