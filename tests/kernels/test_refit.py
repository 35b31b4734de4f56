"""W of new rows: the best there is for the fitted H, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from making import KINDS, LOSSES, planted, positive, some_mask, some_weights
from scipy.optimize import minimize, nnls

from nmfnet.kernels.arrays import as_tensor
from nmfnet.kernels.divergences import beta_divergence, beta_split, monotone_exponent
from nmfnet.kernels.refit import refit_W
from nmfnet.kernels.sparse import with_values
from nmfnet.kernels.weighted import curvatures, ridge_rows


def fit(X, H, beta, mask=None, **options):
    seen = None if mask is None else torch.from_numpy(mask).double()
    x = torch.from_numpy(X) if seen is None else torch.from_numpy(X) * (seen > 0)
    return refit_W(x, torch.from_numpy(H), beta, monotone_exponent(beta), seen, **options).numpy()


def test_frobenius_is_scipys_nnls():
    X, _, H = planted(20, 10)
    X += positive(20, 10)
    W = fit(X, H, 2.0)
    for row, w in zip(X, W, strict=True):
        np.testing.assert_allclose(w, nnls(H.T, row)[0], rtol=1e-9, atol=1e-12)


def test_frobenius_with_missing_entries_is_nnls_on_the_rest():
    X, _, H = planted(20, 10)
    X += positive(20, 10)
    mask = some_mask(20, 10)
    W = fit(X, H, 2.0, mask, tol=1e-12, max_iter=20000)
    for row, w, seen in zip(X, W, mask, strict=True):
        np.testing.assert_allclose(w, nnls(H.T[seen], row[seen])[0], rtol=1e-4, atol=1e-6)


def test_frobenius_with_weights_is_nnls_of_scaled_rows():
    X, _, H = planted(20, 10)
    X += positive(20, 10)
    weights = some_weights(20, 10)
    W = fit(X, H, 2.0, weights)
    for row, w, root in zip(X, W, np.sqrt(weights), strict=True):
        np.testing.assert_allclose(w, nnls((root * H).T, root * row)[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_components_of_any_sign_under_the_squared_error(masked):
    rng = np.random.default_rng(0)
    X, H = rng.normal(size=(20, 10)), rng.normal(size=(3, 10))
    mask = some_mask(20, 10) if masked else np.ones((20, 10), bool)
    W = fit(X, H, 2.0, mask if masked else None)
    for row, w, seen in zip(X, W, mask, strict=True):
        np.testing.assert_allclose(w, nnls(H.T[seen], row[seen])[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("beside", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("beta", [1.0, 1.5])
def test_optimality_conditions_where_the_problem_is_convex(beta, beside):
    X, _, H = planted(20, 10)
    X += positive(20, 10)
    mask = np.ones((20, 10)) if beside is None else beside(20, 10).astype(float)
    W = fit(X, H, beta, beside and mask, tol=1e-12, max_iter=50_000)
    x, h, w = torch.from_numpy(X), torch.from_numpy(H), torch.from_numpy(W)
    neg, pos = beta_split(x, w @ h, beta)
    seen = torch.from_numpy(mask)
    slope = ((pos - neg) * seen) @ h.mT
    size = (pos * seen) @ h.mT
    assert float((slope / size).min()) > -1e-5  # no direction in which the loss falls
    assert float((w * slope).abs().max() / (w * size).max()) < 1e-6


@pytest.mark.parametrize("loss", LOSSES)
def test_no_worse_than_the_truth(loss):
    X, W, H = planted(20, 10)
    X, H = X + 0.1, np.vstack([H, 0.1 * np.ones(10)])
    W = np.hstack([W, np.ones((20, 1))])
    beta = {"frobenius": 2.0, "kl": 1.0, "itakura_saito": 0.0}.get(loss) or float(
        loss.removeprefix("beta=") if "=" in loss else 0
    )
    found = fit(X, H, beta)
    value = beta_divergence(torch.from_numpy(X), torch.from_numpy(found @ H), beta).sum()
    start = beta_divergence(torch.from_numpy(X), torch.from_numpy(np.ones_like(W) @ H), beta).sum()
    assert float(value) < 1e-4 * float(start)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("beta", [2.0, 1.0, 0.0, 1.5])
def test_rows_do_not_depend_on_each_other(beta, masked):
    X, _, H = planted(20, 10)
    X += positive(20, 10)
    X[3] *= 1e4
    mask = some_mask(20, 10) if masked else None
    together = fit(X, H, beta, mask)
    for i in (0, 3, 11):
        alone = fit(X[i : i + 1], H, beta, None if mask is None else mask[i : i + 1])
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-4, atol=1e-6 * alone.max())


@pytest.mark.parametrize("beta", [2.0, 1.0])
def test_restarts_and_blocks_of_rows_change_nothing(beta, monkeypatch):
    X, _, H = planted(20, 10)
    X += positive(20, 10)
    stack = np.stack([H, H[::-1] + 0.1])
    together = fit(X, stack, beta)
    np.testing.assert_allclose(together[0], fit(X, H, beta), rtol=1e-4, atol=1e-6)
    monkeypatch.setattr("nmfnet.kernels.rows.BLOCK_ENTRIES", 30)
    np.testing.assert_allclose(fit(X, stack, beta), together, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_row_of_zeros_gets_zeros():
    X, _, H = planted(20, 10)
    X[4] = 0
    for beta in (2.0, 1.0):
        W = fit(X, H, beta)
        assert np.isfinite(W).all()
        assert W[4].max() < 1e-6


# ---------------------------------------------------------------------- KL by Newton steps
def counts(n: int, f: int, k: int, depth: float = 50.0):
    """Poisson counts of few of many components, most of them zero in the end."""
    rng = np.random.default_rng(0)
    H = rng.dirichlet(np.full(f, 0.3), k)
    W = rng.exponential(depth, (n, k)) * (rng.random((n, k)) < 0.3)
    return rng.poisson(W @ H).astype(float), H


def kl_rows(X, H, W, mask) -> np.ndarray:
    y = np.maximum(W @ H, 1e-300)
    return (mask * (y - np.where(X > 0, X * np.log(y), 0))).sum(1)


@pytest.mark.parametrize("layout", ["dense", "masked", "sparse", "sparse masked"])
def test_kl_is_at_the_optimum_of_an_independent_solver(layout):
    X, H = counts(8, 40, 15)
    X[5] = 0
    mask = some_mask(8, 40).astype(float) if "masked" in layout else np.ones((8, 40))
    x, seen = torch.from_numpy(X * mask), torch.from_numpy(mask)
    if layout == "sparse masked":  # observed zeros are stored
        seen = as_tensor(sp.csr_matrix(mask), torch.float64)
        x = with_values(seen, x[mask > 0])
    elif layout == "sparse":
        x = as_tensor(sp.csr_matrix(X), torch.float64)
    given = seen if "masked" in layout else None
    W = refit_W(x, torch.from_numpy(H), 1.0, 1.0, given).numpy()
    reached = kl_rows(X, H, W, mask)
    for i in range(len(X)):

        def value(w, i=i):
            y = np.maximum(w @ H, 1e-300)
            return (mask[i] * (y - X[i] * np.log(y))).sum(), H @ (mask[i] * (1 - X[i] / y))

        options = {"maxiter": 20_000, "maxfun": 200_000, "ftol": 1e-15, "gtol": 1e-10}
        found = minimize(
            value, np.full(15, 1 + X[i].mean()), jac=True, bounds=[(0, None)] * 15, options=options
        )
        assert reached[i] <= found.fun + 1e-6 * abs(found.fun) + 1e-9


@pytest.mark.parametrize("sparse", [False, True])
def test_a_step_of_kl_does_not_leave_out_what_only_one_component_has(sparse):
    """The misfit of a count is infinite there, so that the whole step to 0 is no way down."""
    H = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.3, 0.699, 0.001, 0.0]], dtype=torch.float64)
    X = np.array([[6000.0, 5000.0, 1.0, 0.0], [6000.0, 5000.0, 2.0, 9.0]])
    x = as_tensor(sp.csr_matrix(X), torch.float64, "cpu") if sparse else torch.from_numpy(X)
    W = refit_W(x, H, 1.0, 1.0, max_iter=50).numpy()
    assert (W > 1).all()
    known = H.numpy()[:, :3]  # nothing can explain the last feature
    slope = known.sum(1) - (X[:, :3] / (W @ known)) @ known.T
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_weights_of_kl_count_as_often_as_they_say():
    X, H = counts(6, 20, 5)
    twice = torch.full((6, 20), 2.0, dtype=torch.float64)
    x, h = torch.from_numpy(X), torch.from_numpy(H)
    np.testing.assert_allclose(
        refit_W(x, h, 1.0, 1.0, twice).numpy(),
        refit_W(x, h, 1.0, 1.0).numpy(),
        rtol=1e-6,
        atol=1e-9,
    )


# ---------------------------------------------------------------------- normal equations by row
def test_curvatures_are_those_of_each_row():
    rng = np.random.default_rng(0)
    weight, H = rng.random((7, 9)), rng.normal(size=(4, 9))
    expected = np.stack([H @ np.diag(w) @ H.T for w in weight])
    for layout in (weight, sp.csr_matrix(weight)):
        found = curvatures(as_tensor(layout, torch.float64), torch.from_numpy(H))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_ridge_rows_are_ridge_regressions_on_the_listed_entries():
    rng = np.random.default_rng(0)
    x, H = rng.normal(size=(5, 9)), rng.normal(size=(3, 9))
    mask = (rng.random((5, 9)) < 0.6).astype(float)
    mask[2], mask[3] = 0, 0
    mask[3, 0] = 1  # one entry, three unknowns
    ridge = np.array([0.1, 0.2, 0.0])
    tensors = [torch.from_numpy(a) for a in (x, mask, H, ridge)]
    found = ridge_rows(*tensors).numpy()
    for i in (0, 1, 4):
        G = (H * mask[i]) @ H.T + mask[i].sum() * np.diag(ridge)
        np.testing.assert_allclose(found[i], np.linalg.solve(G, H @ (mask[i] * x[i])), rtol=1e-9)
    assert not found[2].any()
    unshrunk = ridge_rows(*tensors[:3], torch.zeros(3, dtype=torch.float64)).numpy()[3]
    np.testing.assert_allclose(unshrunk, np.linalg.pinv(H[:, :1].T) @ x[3, :1], rtol=1e-9)
