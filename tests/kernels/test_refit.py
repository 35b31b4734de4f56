"""W of new rows: the best there is for the fitted H, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from making import KINDS, LOSSES, planted, positive, some_mask, some_weights
from scipy.optimize import nnls

from nmfnet.kernels.divergences import beta_divergence, beta_split, monotone_exponent
from nmfnet.kernels.refit import refit_W


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


def test_a_row_of_zeros_gets_zeros():
    X, _, H = planted(20, 10)
    X[4] = 0
    for beta in (2.0, 1.0):
        W = fit(X, H, beta)
        assert np.isfinite(W).all()
        assert W[4].max() < 1e-6
