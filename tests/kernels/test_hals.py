"""HALS with extrapolation: monotone, stationary at the end, and the same by every path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from making import planted, positive
from scipy.optimize import nnls

from nmfnet.kernels.compiled.hals_group import gather, residuals, tiles
from nmfnet.kernels.compiled.vectors import BYTES
from nmfnet.kernels.extrapolation import State, begin
from nmfnet.kernels.hals import _share, hals
from nmfnet.kernels.matrix import Matrix, matrix
from nmfnet.kernels.optimality import kkt_residual
from nmfnet.kernels.products import objective, times_x, times_xt

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")

NONE = (0.0, 0.0)
PENALTIES = {"l1": (0.03, 0.05), "l2": (0.1, 0.02)}


def problem(n: int = 40, f: int = 15, seed: int = 0, dtype: torch.dtype = torch.float64) -> Matrix:
    X, _, _ = planted(n, f, seed=seed)
    return matrix(torch.from_numpy(X + 0.3 * positive(n, f, seed)).to(dtype))


def starts(data: Matrix, k: int = 4, restarts: int = 1, seed: int = 0) -> State:
    draw = torch.Generator().manual_seed(seed)
    n, f = data.x.shape
    W = torch.rand(restarts, n, k, generator=draw, dtype=torch.float64)
    H = torch.rand(restarts, k, f, generator=draw, dtype=torch.float64)
    return begin(W.to(data.x.dtype), H.to(data.x.dtype))


def residual(data: Matrix, state: State, l1: tuple = NONE, l2: tuple = NONE) -> float:
    w, h = state.w, state.h
    found = []
    for v, u, product, a, b in (
        (w, h, times_xt(data, h), l1[0], l2[0]),
        (h, w, times_x(data, w), l1[1], l2[1]),
    ):
        found.append(kkt_residual(v, product, u @ u.mT @ v + a + b * v))
    return float(torch.stack(found).max())


@pytest.mark.parametrize(
    ("compiled", "restarts"), [(True, 2), (True, 17), (False, 2)], ids=["compiled", "many", "torch"]
)
@pytest.mark.parametrize("penalties", [{}, PENALTIES], ids=["plain", "penalised"])
def test_the_objective_never_rises_and_is_the_true_one(penalties, compiled, restarts):
    data = problem()
    state = starts(data, restarts=restarts)
    values = [hals(state, data, 3, compiled=compiled, **penalties) for _ in range(30)]
    steps = torch.stack(values).diff(dim=0)
    assert float(steps.max()) <= 0
    assert float(steps.sum()) < 0
    x, W, H = data.x, state.W, state.H
    truth = 0.5 * (x - W @ H).square().sum((-2, -1))
    for v, a, b in zip((W, H), *(penalties.get(p, NONE) for p in ("l1", "l2")), strict=True):
        truth += a * v.sum((-2, -1)) + b / 2 * v.square().sum((-2, -1))
    torch.testing.assert_close(values[-1], truth, rtol=1e-12, atol=0)
    assert bool((W >= 0).all())
    assert bool((H >= 0).all())


@pytest.mark.parametrize("penalties", [{}, PENALTIES], ids=["plain", "penalised"])
@pytest.mark.parametrize("extrapolation", [True, False])
def test_the_end_is_stationary(extrapolation, penalties):
    data = problem()
    state = starts(data)
    for _ in range(60):
        hals(state, data, 100, extrapolation=extrapolation, **penalties)
    assert residual(data, state, **penalties) < 1e-6


@pytest.mark.parametrize("penalties", [{}, PENALTIES], ids=["plain", "penalised"])
@pytest.mark.parametrize("extrapolation", [True, False])
@pytest.mark.parametrize("path", ["torch", "large", "sparse"])
def test_every_path_takes_the_same_steps(path, extrapolation, penalties):
    data = matrix((problem().x - 0.6).clamp_min(0))  # a third of it zeros
    other = {
        "torch": data,
        "large": matrix(data.x, transposed=False),
        "sparse": matrix(data.x.to_sparse_csr()),
    }[path]
    options = {"extrapolation": extrapolation, **penalties}
    one, two = starts(data, restarts=2), starts(data, restarts=2)
    for _ in range(3):
        a = hals(one, data, 7, **options)
        b = hals(two, other, 7, compiled=path != "torch", **options)
        torch.testing.assert_close(a, b, rtol=1e-10, atol=0)
    torch.testing.assert_close(one.w, two.w, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("penalties", [{}, PENALTIES], ids=["plain", "penalised"])
@pytest.mark.parametrize("extrapolation", [True, False])
@pytest.mark.parametrize("empty", [True, False], ids=["nearly empty", "nearly full"])
def test_restarts_side_by_side_take_the_steps_of_single_ones(empty, extrapolation, penalties):
    X = planted(21, 30)[0] + 0.3 * positive(21, 30)
    X[3], X[:, 2] = 0, 0
    data = matrix(torch.from_numpy(X))
    lanes = BYTES // 8
    left = 1 if empty else lanes - 1
    restarts = 2 * lanes + left
    groups, single = _share(list(range(restarts)), data.x.numpy())
    assert len(groups) == (3 if left >= lanes // 2 else 2)
    assert sum(map(len, groups)) + len(single) == restarts
    options = {"extrapolation": extrapolation, **penalties}
    one, two = starts(data, k=5, restarts=restarts), starts(data, k=5, restarts=restarts)
    one.h_now[1, 2] = two.h_now[1, 2] = 0  # no curvature
    for _ in range(3):
        a = hals(one, data, 7, **options)
        b = hals(two, data, 7, compiled=False, **options)
        torch.testing.assert_close(a, b, rtol=1e-10, atol=0)
    for field in State._fields[:-1]:
        torch.testing.assert_close(getattr(one, field), getattr(two, field), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_company_changes_no_bit_of_a_restart(dtype):
    data = problem(dtype=dtype)
    lanes = BYTES // data.x.itemsize
    one = starts(data, restarts=2 * lanes)
    two, before = (State(*(tensor.clone() for tensor in one)) for _ in range(2))
    rows = [i for i in range(2 * lanes) if i != 1][::-1]
    together = hals(one, data, 10)
    apart = hals(two, data, 10, rows=rows)
    assert torch.equal(together[rows], apart)
    assert all(torch.equal(a[rows], b[rows]) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(two, before, strict=True))
    exact = matrix(data.x.double())
    truth = objective(exact, one.w.double(), one.h.double(), 2, NONE, NONE)
    torch.testing.assert_close(together, truth, rtol=1e-5, atol=1e-5 * data.half_square)


def test_sparse_is_dense_in_float32():
    X = planted(200, 60)[0].astype(np.float32)
    dense = matrix(torch.from_numpy(X), transposed=False)
    sparse = matrix(torch.from_numpy(X).to_sparse_csr())
    one, two = starts(dense), starts(sparse)
    a, b = hals(one, dense, 5, extrapolation=False), hals(two, sparse, 5, extrapolation=False)
    exact = [objective(matrix(d.x.double()), s.w.double(), s.h.double(), 2, NONE, NONE)
             for d, s in ((dense, one), (dense, two))]  # fmt: skip
    torch.testing.assert_close(a, exact[0], rtol=1e-5, atol=1e-5 * dense.half_square)
    torch.testing.assert_close(b, exact[1], rtol=1e-5, atol=1e-5 * dense.half_square)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_restarts_together_are_separate_runs(compiled):
    data = problem()
    together = starts(data, restarts=3)
    alone = [State(*(tensor[i : i + 1].clone() for tensor in together)) for i in range(3)]
    for _ in range(2):
        values = hals(together, data, 10, compiled=compiled)
        single = [hals(one, data, 10, compiled=compiled) for one in alone]
    torch.testing.assert_close(values, torch.cat(single), rtol=1e-12, atol=0)
    torch.testing.assert_close(together.w, torch.cat([s.w for s in alone]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("threads", "restarts"), [(1, 3), (2, 3), (2, 35)])
def test_a_stopped_run_goes_on_bit_by_bit(threads, restarts):
    torch.set_num_threads(threads)
    data = problem(dtype=torch.float32)
    whole = starts(data, restarts=restarts)
    for _ in range(4):
        expected = hals(whole, data, 5)
    part = starts(data, restarts=restarts)
    for _ in range(2):
        hals(part, data, 5)
    part = State(*(tensor.clone() for tensor in part))  # as a checkpoint would
    for _ in range(2):
        found = hals(part, data, 5)
    assert torch.equal(found, expected)
    assert all(torch.equal(a, b) for a, b in zip(part, whole, strict=True))


def test_only_the_restarts_asked_for_move():
    data = problem()
    state = starts(data, restarts=3)
    before = State(*(tensor.clone() for tensor in state))
    assert hals(state, data, 5, rows=[2, 0]).shape == (2,)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(state, before, strict=True))
    assert not torch.equal(state.w[0], before.w[0])


def test_extrapolation_needs_fewer_iterations():
    data = problem(100, 40)
    fast, plain = starts(data, k=8), starts(data, k=8)
    target = float(hals(plain, data, 400, extrapolation=False))
    assert float(hals(fast, data, 200)) < target * (1 + 1e-3)


def test_residuals_side_by_side_are_those_of_each():
    X, lanes = positive(21, 30), BYTES // 8
    state = starts(matrix(torch.from_numpy(X)), k=5, restarts=lanes)
    members = np.arange(lanes)
    w, h = gather(state.w.numpy(), members, 24), gather(state.h.numpy(), members, 32)
    found = np.ones(lanes)
    residuals(tiles(np.ascontiguousarray(X.T)), w, h, found)
    truth = [
        1 + 0.5 * np.square(X - W @ H).sum()
        for W, H in zip(state.W.numpy(), state.H.numpy(), strict=True)
    ]
    np.testing.assert_allclose(found, truth, rtol=1e-12)


def test_given_h_the_rows_are_those_of_nnls():
    """The W half alone is a convex problem; with H at its optimum too, W is scipy's nnls of it."""
    data = problem()
    state = starts(data)
    for _ in range(60):
        hals(state, data, 100)
    H = state.H[0].numpy()
    for row, w in zip(data.x.numpy(), state.W[0].numpy(), strict=True):
        np.testing.assert_allclose(w, nnls(H.T, row)[0], atol=1e-5)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_empty_rows_and_columns_and_dead_components(compiled):
    X = planted()[0]
    X[3], X[:, 2] = 0, 0
    data = matrix(torch.from_numpy(X))
    state = starts(data)
    state.h_now[:, 1] = state.h_before[:, 1] = state.h[:, 1] = 0
    for _ in range(5):
        value = hals(state, data, 20, compiled=compiled)
    assert bool(torch.isfinite(value).all())
    assert float(state.W[0, 3].abs().max()) < 1e-12 or float((state.W @ state.H)[0, 3].max()) < 1e-6
