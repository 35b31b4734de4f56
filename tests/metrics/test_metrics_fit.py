"""Fit metrics against hand-computed values, scikit-learn, and their own invariances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from nmfnet import metrics
from nmfnet.errors import UserError
from nmfnet.metrics import _blocks

X = np.array([[3.0, 4.0], [0.0, 2.0]])
X_HAT = np.array([[3.0, 3.0], [1.0, 2.0]])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, so that the sums over blocks are really exercised."""
    monkeypatch.setattr(_blocks, "_BLOCK_ENTRIES", 50)


def random_case(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.poisson(1.5, (37, 12)).astype(float)
    return x, rng.random((37, 4)), rng.random((4, 12))


def test_hand_computed() -> None:
    assert metrics.relative_error(X, X_HAT) == pytest.approx(np.sqrt(2 / 29))
    assert metrics.mse(X, X_HAT) == pytest.approx(0.5)
    assert metrics.rmse(X, X_HAT) == pytest.approx(np.sqrt(0.5))
    # 4 log(4/3) - 4 + 3 at (0, 1); 0 log 0 - 0 + 1 at (1, 0); 0 at the other two
    assert metrics.kl(X, X_HAT) == pytest.approx(4 * np.log(4 / 3))
    assert metrics.explained_variance(X, X_HAT) == pytest.approx(1 - 2 / (4.5 + 2.0))
    assert metrics.explained_variance(X, X_HAT, centered=False) == pytest.approx(1 - 2 / 29)
    cosines = [(9 + 12) / (5 * np.sqrt(18)), 4 / (2 * np.sqrt(5))]
    np.testing.assert_allclose(metrics.sample_cosine(X, X_HAT), cosines)


@pytest.mark.usefixtures("small_blocks")
def test_same_as_scikit_learn() -> None:
    from sklearn.metrics import mean_poisson_deviance, mean_squared_error, r2_score

    x, W, H = random_case()
    found = metrics.fit_metrics(x, metrics.Product(W, H))
    assert found["mse"] == pytest.approx(mean_squared_error(x, W @ H))
    assert found["explained_variance"] == pytest.approx(
        r2_score(x, W @ H, multioutput="variance_weighted")
    )
    deviance = mean_poisson_deviance(x.ravel(), (W @ H).ravel())
    assert found["poisson_deviance"] / x.size == pytest.approx(deviance)
    assert found["cosine"] == pytest.approx(metrics.sample_cosine(x, W @ H).mean())


@pytest.mark.usefixtures("small_blocks")
def test_every_form_of_the_same_case_gives_the_same_numbers() -> None:
    x, W, H = random_case()
    mask = np.random.default_rng(1).random(x.shape) < 0.7
    expected = metrics.fit_metrics(x[mask][None], (W @ H)[mask][None])
    holes = np.where(mask, x, np.nan)  # what is outside the mask must not matter
    cases = [
        metrics.fit_metrics(x, W @ H, mask),
        metrics.fit_metrics(holes, metrics.Product(W, H), mask),
        metrics.fit_metrics(sparse.coo_matrix(x), metrics.Product(W, H), sparse.csr_array(mask)),
        metrics.fit_metrics(x.astype(np.float32), lambda rows: W[rows] @ H, mask.astype(float)),
    ]
    for case in cases:
        for name in ("relative_error", "kl", "mse", "rmse", "poisson_deviance"):
            assert case[name] == pytest.approx(expected[name], rel=1e-12), name
        assert case["explained_variance"] == pytest.approx(cases[0]["explained_variance"])
    singles = {
        "relative_error": metrics.relative_error,
        "kl": metrics.kl,
        "mse": metrics.mse,
        "rmse": metrics.rmse,
        "explained_variance": metrics.explained_variance,
        "poisson_deviance": metrics.poisson_deviance,
    }
    for name, function in singles.items():
        assert function(x, W @ H, mask) == pytest.approx(cases[0][name]), name


def test_masked_variance_uses_observed_means() -> None:
    x = np.array([[1.0, 7.0], [3.0, 100.0], [8.0, 9.0]])
    mask = np.array([[1, 1], [1, 0], [0, 1]])
    x_hat = np.zeros_like(x)
    squares = (1 - 2) ** 2 + (3 - 2) ** 2 + (7 - 8) ** 2 + (9 - 8) ** 2
    expected = 1 - (1 + 9 + 49 + 81) / squares
    assert metrics.explained_variance(x, x_hat, mask) == pytest.approx(expected)


def test_scale_permutation_and_bounds() -> None:
    x, W, H = random_case()
    x_hat, rng = W @ H, np.random.default_rng(2)
    base = metrics.fit_metrics(x, x_hat)
    rows, columns = rng.permutation(len(x)), rng.permutation(x.shape[1])
    moved = metrics.fit_metrics(x[rows][:, columns], x_hat[rows][:, columns])
    scaled = metrics.fit_metrics(10 * x, 10 * x_hat)
    for name in base:
        assert moved[name] == pytest.approx(base[name])
    for name in ("relative_error", "explained_variance", "cosine"):
        assert scaled[name] == pytest.approx(base[name])
    assert scaled["kl"] == pytest.approx(10 * base["kl"])
    assert scaled["mse"] == pytest.approx(100 * base["mse"])
    exact = metrics.fit_metrics(x, x)
    assert exact["relative_error"] == exact["kl"] == exact["mse"] == 0
    assert exact["explained_variance"] == 1


def test_degenerate_values_are_defined() -> None:
    zero = np.zeros((2, 3))
    assert metrics.relative_error(zero, zero) == 0
    assert metrics.relative_error(zero, zero + 1) == np.inf
    assert metrics.kl(zero + 1, zero) == np.inf
    assert metrics.kl(zero, zero) == 0
    assert np.isnan(metrics.kl(zero + 1, zero - 1))
    assert metrics.explained_variance(zero + 5, zero + 5) == 1
    assert metrics.explained_variance(zero + 5, zero) == -np.inf
    np.testing.assert_array_equal(metrics.sample_cosine(zero, zero + 1), [0, 0])


def test_thinned_deviance_rescales_the_expectation() -> None:
    x, W, H = random_case()
    expected = metrics.poisson_deviance(x, (W @ H) / 4)
    assert metrics.thinned_deviance(x, W @ H, 0.8) == pytest.approx(expected)
    assert metrics.thinned_deviance(x, metrics.Product(W, H), 0.8) == pytest.approx(expected)
    with pytest.raises(UserError, match="strictly between"):
        metrics.thinned_deviance(x, W @ H, 1.0)


def test_svd_floor_is_the_best_error_of_its_rank() -> None:
    x, W, H = random_case()
    left, s, right = np.linalg.svd(x, full_matrices=False)
    curve = metrics.svd_floor_curve(x, 14)
    for k in (1, 4, 11):
        best = metrics.relative_error(x, metrics.Product(left[:, :k] * s[:k], right[:k]))
        assert curve[k - 1] == pytest.approx(best)
        assert metrics.svd_floor(sparse.csr_array(x), k) == pytest.approx(best)
    assert (curve[11:] == 0).all()  # full rank and beyond
    assert (np.diff(curve) <= 0).all()
    assert metrics.svd_floor(x, 4) <= metrics.relative_error(x, metrics.Product(W, H))
    assert metrics.svd_floor(np.zeros((3, 2)), 1) == 0


def test_svd_floor_of_a_large_sparse_matrix() -> None:
    x = sparse.random_array((1200, 1100), density=0.01, rng=np.random.default_rng(0))
    values = np.linalg.svd(x.toarray(), compute_uv=False) ** 2
    expected = np.sqrt(1 - np.cumsum(values)[:3] / values.sum())
    np.testing.assert_allclose(metrics.svd_floor_curve(x, 3), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("x", "x_hat", "mask", "message"),
    [
        (X, X_HAT[:1], None, "must be equal"),
        (X, X_HAT, np.ones((2, 3)), "mask has shape"),
        (X, X_HAT, np.zeros((2, 2)), "no entry"),
        (np.array([[1.0, 2.0], [np.nan, 1.0]]), X_HAT, None, "first in row 1"),
        (X[0], X_HAT[0], None, "needs a matrix"),
        (X, lambda rows: X_HAT[rows, :1], None, "gave rows of shape"),
        (np.zeros((0, 3)), np.zeros((0, 3)), None, "needs a matrix"),
    ],
)
def test_bad_input(x: object, x_hat: object, mask: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        metrics.fit_metrics(x, x_hat, mask)


def test_svd_floor_bad_input() -> None:
    with pytest.raises(UserError, match="at least 1"):
        metrics.svd_floor(X, 0)
    with pytest.raises(UserError, match="NaN"):
        metrics.svd_floor(X * np.nan, 1)


def test_refit_is_scipy_nnls() -> None:
    from scipy.optimize import nnls

    x, W, H = random_case()
    found = metrics.nnls_refit(sparse.csr_array(x), H)
    np.testing.assert_allclose(found, [nnls(H.T, row)[0] for row in x])
    np.testing.assert_allclose(metrics.nnls_refit(W @ H, H), W, atol=1e-10)
    assert metrics.refit_mse(x, H) == pytest.approx(metrics.mse(x, found @ H))
    assert metrics.refit_mse(x, H) <= metrics.mse(x, W @ H)
    with pytest.raises(UserError, match="same ones"):
        metrics.nnls_refit(x, H[:, :5])
