"""Newton steps for KL and for masked squared errors: monotone, stationary, the same by every path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from making import planted, positive, some_mask
from test_hals import NONE, PENALTIES, starts

from nmfnet.kernels.divergences import beta_divergence, beta_split
from nmfnet.kernels.extrapolation import State
from nmfnet.kernels.matrix import Matrix, matrix
from nmfnet.kernels.multiplicative import apply_update_, nmf_sums_H, nmf_sums_W
from nmfnet.kernels.newton import bound, newton
from nmfnet.kernels.optimality import kkt_residual

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")

KINDS = ["kl", "kl-masked", "frobenius-masked", "kl-weighted"]


def problem(kind: str, n: int = 40, f: int = 15) -> tuple[Matrix, float]:
    X = torch.from_numpy(planted(n, f)[0] + 0.3 * positive(n, f))
    mask = None
    if "mask" in kind:
        mask = torch.from_numpy(some_mask(n, f)).double()
        X = X * mask
    if "weight" in kind:
        mask = torch.from_numpy(positive(n, f, 1))
    return matrix(X, mask), 2.0 if "frobenius" in kind else 1.0


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("penalties", [{}, PENALTIES], ids=["plain", "penalised"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_objective_never_rises_and_is_the_true_one(kind, penalties, compiled):
    data, beta = problem(kind)
    state = starts(data, restarts=2)
    rounds = 15 if compiled else 4
    values = [
        newton(state, data, 3, beta=beta, compiled=compiled, **penalties) for _ in range(rounds)
    ]
    assert float(torch.stack(values).diff(dim=0).max()) <= 0
    W, H = state.W, state.H
    truth = beta_divergence(data.x, W @ H, beta, data.mask).sum(-1)
    for v, a, b in zip((W, H), *(penalties.get(p, NONE) for p in ("l1", "l2")), strict=True):
        truth += a * v.sum((-2, -1)) + b / 2 * v.square().sum((-2, -1))
    torch.testing.assert_close(values[-1], truth, rtol=1e-10, atol=0)
    assert bool((W >= 0).all())
    assert bool((H >= 0).all())


@pytest.mark.parametrize("kind", ["kl", "kl-masked"])
def test_the_fallback_is_monotone_from_any_start(kind):
    """Without extrapolation and with the enlarged curvature no step may raise the divergence."""
    data, _ = problem(kind)
    state = starts(data, restarts=4, seed=3)
    state.w_now.pow_(8), state.h_now.pow_(8)  # very uneven
    from nmfnet.kernels.newton import SHRINK, Options, _run_dense

    def value() -> torch.Tensor:
        return beta_divergence(data.x, state.w_now.mT @ state.h_now, 1, data.mask).sum(-1)

    options = Options(1.0, NONE, NONE, 1, False, True, bound(SHRINK))
    values = [value()]
    for _ in range(40):
        _run_dense(state, data, [0, 1, 2, 3], options)
        values.append(value())
    steps = torch.stack(values).diff(dim=0)
    assert float((steps / torch.stack(values)[:-1]).max()) < 1e-13


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_the_bound_holds_and_is_tight(ratio):
    delta = torch.linspace(ratio - 1, 5, 1001, dtype=torch.float64)
    gap = -delta + bound(ratio) * delta.square() / 2 + torch.log1p(delta)
    assert float(gap.min()) > -1e-12
    assert abs(float(gap[0])) < 1e-12


@pytest.mark.quick("kl", "frobenius-masked")
@pytest.mark.parametrize("kind", KINDS)
def test_the_end_is_stationary(kind):
    data, beta = problem(kind)
    state = starts(data)
    chunk = 500 if kind == "frobenius-masked" else 50  # its last digits take long
    for _ in range(100):
        newton(state, data, chunk, beta=beta)
    W, H = state.W, state.H
    neg, pos = beta_split(data.x, W @ H, beta)
    neg, pos = torch.broadcast_tensors(neg, pos)
    if data.mask is not None:
        neg, pos = neg * data.mask, pos * data.mask
    assert float(kkt_residual(W, neg @ H.mT, pos @ H.mT)) < 1e-6
    assert float(kkt_residual(H, W.mT @ neg, W.mT @ pos)) < 1e-6


@pytest.mark.parametrize("penalties", [{}, PENALTIES], ids=["plain", "penalised"])
@pytest.mark.parametrize("extrapolation", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_is_torch(kind, extrapolation, penalties):
    data, beta = problem(kind)
    one, two = starts(data, restarts=2), starts(data, restarts=2)
    for _ in range(2):
        options = {"beta": beta, "extrapolation": extrapolation, **penalties}
        a, b = newton(one, data, 8, **options), newton(two, data, 8, compiled=False, **options)
        torch.testing.assert_close(a, b, rtol=1e-10, atol=0)
    torch.testing.assert_close(one.w, two.w, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(one.h, two.h, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("penalties", [{}, PENALTIES], ids=["plain", "penalised"])
@pytest.mark.parametrize("kind", ["kl", "kl-masked", "frobenius-masked"])
def test_sparse_is_dense(kind, penalties, compiled):
    X = torch.from_numpy(planted()[0])
    beta = 2.0 if "frobenius" in kind else 1.0
    csr = X.to_sparse_csr()
    dense = matrix(X, (X > 0).double() if "mask" in kind else None)
    sparse = matrix(csr, csr if "mask" in kind else None)
    one, two = starts(dense), starts(dense)
    for _ in range(2):
        a = newton(one, dense, 8, beta=beta, **penalties)
        b = newton(two, sparse, 8, beta=beta, compiled=compiled, **penalties)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(one.w, two.w, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_sparse_is_dense_in_float32():
    X = torch.from_numpy(planted(200, 60)[0]).float()
    dense, sparse = matrix(X), matrix(X.to_sparse_csr())
    a, b = (newton(starts(data), data, 6) for data in (dense, sparse))
    scale = float(X.sum())
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("kind", ["kl-masked", "frobenius-masked"])
def test_masked_entries_have_no_influence(kind):
    data, beta = problem(kind)
    assert data.mask is not None
    other = matrix(data.x + 7 * (1 - data.mask), data.mask)
    one, two = starts(data), starts(data)
    newton(one, data, 10, beta=beta)
    newton(two, other, 10, beta=beta)
    torch.testing.assert_close(one.w, two.w, rtol=1e-12, atol=0)
    torch.testing.assert_close(one.h, two.h, rtol=1e-12, atol=0)


@pytest.mark.parametrize("penalties", [{}, PENALTIES], ids=["plain", "penalised"])
@pytest.mark.parametrize("kind", KINDS)
def test_columns_in_threads_make_the_steps_of_one_thread(kind, penalties, monkeypatch):
    data, beta = problem(kind, n=150, f=140)
    one, two = starts(data), starts(data)
    torch.set_num_threads(2)
    for state, wide in ((one, np.inf), (two, 0)):
        monkeypatch.setattr("nmfnet.kernels.newton.WIDE", wide)
        for _ in range(3):
            newton(state, data, 4, beta=beta, **penalties)
    torch.testing.assert_close(two.W, one.W, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(two.H, one.H, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", ["kl", "frobenius-masked"])
def test_restarts_together_are_separate_runs_and_resume_bit_by_bit(kind):
    torch.set_num_threads(2)
    data, beta = problem(kind)
    together = starts(data, restarts=3)
    alone = [State(*(tensor[i : i + 1].clone() for tensor in together)) for i in range(3)]
    for _ in range(3):
        values = newton(together, data, 4, beta=beta)
        alone = [State(*(tensor.clone() for tensor in one)) for one in alone]  # a checkpoint
        single = torch.cat([newton(one, data, 4, beta=beta) for one in alone])
    assert torch.equal(values, single)
    assert torch.equal(together.w_before, torch.cat([one.w_before for one in alone]))


def test_w_given_h_is_the_minimum_of_scikit_learn():
    from sklearn.decomposition import non_negative_factorization

    data, _ = problem("kl")
    state = starts(data)
    H = state.H[0].clone()
    for _ in range(20):
        value = newton(state, data, 20, fit_h=False)
    assert torch.equal(state.H[0], H)
    W, _, _ = non_negative_factorization(
        data.x.numpy(), H=H.numpy(), n_components=4, update_H=False, solver="mu",
        beta_loss="kullback-leibler", tol=0, max_iter=20000,
    )  # fmt: skip
    peer = beta_divergence(data.x, torch.from_numpy(W) @ H, 1).sum()
    assert float(value) <= float(peer) * (1 + 1e-9)
    np.testing.assert_allclose(state.W[0].numpy(), W, atol=2e-3)


@pytest.mark.slow
def test_it_needs_far_fewer_iterations_than_multiplicative_updates():
    data, _ = problem("kl", 100, 40)
    fast, plain = starts(data, 6), starts(data, 6)
    W, H = plain.W[0].clone(), plain.H[0].clone()
    for _ in range(600):
        apply_update_(W, *nmf_sums_W(data.x, W, H, 1.0), 1.0)
        apply_update_(H, *nmf_sums_H(data.x, W, H, 1.0), 1.0)
    target = float(beta_divergence(data.x, W @ H, 1).sum())
    assert float(newton(fast, data, 60)) < target * (1 + 1e-2)


def test_empty_rows_and_columns():
    X = planted()[0]
    X[3], X[:, 2] = 0, 0
    for data in (matrix(torch.from_numpy(X)), matrix(torch.from_numpy(X).to_sparse_csr())):
        state = starts(data)
        for _ in range(5):
            value = newton(state, data, 10)
        assert bool(torch.isfinite(value).all())
        assert float((state.W @ state.H)[0, 3].max()) < 1e-6
        assert float((state.W @ state.H)[0, :, 2].max()) < 1e-6
