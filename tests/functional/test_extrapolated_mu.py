"""Multiplicative updates with extrapolation: monotone, exact where known, the same by every path."""

from __future__ import annotations

import pytest
import torch
from making import planted, positive, some_mask
from test_hals import NONE, PENALTIES, starts

from nmfnet.functional.divergences import beta_divergence
from nmfnet.functional.extrapolation import State
from nmfnet.functional.matrix import Matrix, matrix
from nmfnet.functional.mu import mu
from nmfnet.functional.newton import newton

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")

BETAS = [2.0, 1.0, 0.0, 0.5, 1.5, 3.0]


def problem(masked: bool = False) -> Matrix:
    X = torch.from_numpy(planted()[0] + 0.3 * positive(40, 15))
    mask = torch.from_numpy(some_mask(40, 15)).double() if masked else None
    return matrix(X if mask is None else torch.where(mask > 0, X, 1.0), mask)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("extrapolation", [True, False])
@pytest.mark.parametrize("beta", BETAS)
def test_the_objective_never_rises_and_is_the_true_one(beta, extrapolation, masked):
    data = problem(masked)
    state = starts(data, restarts=2)
    values = [mu(state, data, 5, beta=beta, extrapolation=extrapolation) for _ in range(8)]
    assert float(torch.stack(values).diff(dim=0).max()) <= 0
    truth = beta_divergence(data.x, state.W @ state.H, beta, data.mask).sum(-1)
    torch.testing.assert_close(values[-1], truth, rtol=1e-9, atol=0)


@pytest.mark.parametrize("beta", [2.0, 1.0])
def test_penalties(beta):
    data = problem()
    state = starts(data)
    values = [mu(state, data, 5, beta=beta, extrapolation=False, **PENALTIES) for _ in range(30)]
    assert float(torch.stack(values).diff(dim=0).max()) <= 0
    other = starts(data)
    for _ in range(30):
        exact = newton(other, data, 20, beta=beta, **PENALTIES)
    for _ in range(60):
        value = mu(state, data, 50, beta=beta, **PENALTIES)
    assert float(value) < 1.02 * float(exact)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_compiled_is_torch(sparse, masked):
    X = torch.from_numpy(planted()[0])
    data = matrix(X, (X > 0).double() if masked else None)
    other = data
    if sparse:
        other = matrix(X.to_sparse_csr(), X.to_sparse_csr() if masked else None)
    runs = [(data, True), (data, False), (other, True), (other, False)]
    found = []
    for x, compiled in runs:
        state = starts(data)
        mu(state, x, 12, compiled=compiled)
        found.append(state.w)
    for w in found[1:]:
        torch.testing.assert_close(w, found[0], rtol=1e-9, atol=1e-12)


def test_extrapolation_reaches_the_same_objective_in_a_third_of_the_iterations():
    data = problem()
    fast, plain = starts(data), starts(data)
    target = float(mu(plain, data, 600, extrapolation=False))
    assert float(mu(fast, data, 200)) < target * (1 + 1e-3)


def test_masked_entries_have_no_influence_and_a_stopped_run_goes_on():
    data = problem(masked=True)
    other = matrix(data.x + 3 * (1 - data.mask), data.mask)
    one, two = starts(data), starts(data)
    for _ in range(3):
        mu(one, data, 5)
        two = State(*(tensor.clone() for tensor in two))
        mu(two, other, 5)
    assert torch.equal(one.w, two.w)
    assert torch.equal(one.h_before, two.h_before)


def test_w_given_h():
    data = problem()
    state, exact = starts(data), starts(data)
    for _ in range(20):
        best = newton(exact, data, 20, fit_h=False)
    for _ in range(10):
        value = mu(state, data, 200, fit_h=False)
    assert torch.equal(state.H, exact.H)
    assert float(value) < float(best) * (1 + 1e-5)
    assert NONE == (0.0, 0.0)
