"""Metrics of components, their agreement with a reference, and stationarity."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import sparse

from nmfnet import metrics
from nmfnet.errors import UserError
from nmfnet.kernels.assignment import assign, cosine_matrix


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_cosines_by_hand() -> None:
    a = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    b = np.array([[0.0, 2.0], [3.0, 0.0]])
    root = np.sqrt(0.5)
    np.testing.assert_allclose(metrics.component_cosines(a, b), [[0, 1], [root, root], [0, 0]])
    np.testing.assert_allclose(metrics.component_cosines(a * 1e-200, b * 1e-300)[1], [root, root])


def test_assignment_is_the_best_of_all_permutations(rng: np.random.Generator) -> None:
    for _ in range(5):
        scores = rng.random((4, 6))
        best = max(sum(scores[i, p[i]] for i in range(4)) for p in permutations(range(6), 4))
        found = assign(scores)
        assert found.scores.sum() == pytest.approx(best)
        np.testing.assert_array_equal(found.scores, scores[found.rows, found.columns])
        assert assign(scores.T).scores.sum() == pytest.approx(best)


def test_matched_cosine_ignores_order_and_scale(rng: np.random.Generator) -> None:
    H = rng.random((5, 20))
    order, scale = rng.permutation(5), rng.uniform(0.1, 10, (5, 1))
    assert metrics.matched_cosine(H, (scale * H)[order]) == pytest.approx(1)
    matching = metrics.match_components(H, (scale * H)[order])
    np.testing.assert_array_equal(order[matching.columns], np.arange(5))
    other = rng.random((3, 20))
    assert metrics.matched_cosine(H, other) == pytest.approx(
        metrics.matched_cosine(other, H[order])
    )
    assert len(metrics.match_components(H, other).scores) == 3
    assert metrics.matched_cosine(H[:1], H[:1]) == pytest.approx(1)
    assert metrics.matched_cosine(np.zeros((1, 4)), np.ones((1, 4))) == 0


def test_greedy_is_not_enough() -> None:
    """The best pair first would leave a bad second pair: the assignment must look at both."""
    scores = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert assign(scores).scores.sum() == pytest.approx(1.65)


def test_collapse_count() -> None:
    H = np.array([[1.0, 0, 0], [2.0, 0.01, 0], [3.0, 0, 0.01], [0, 1.0, 0], [0, 0, 0], [0, 0, 0]])
    assert metrics.collapse_count(H) == 3
    assert metrics.collapse_count(H, threshold=0.999999) == 0
    assert metrics.collapse_count(H[:1]) == 0


def test_normalize_scale_keeps_the_product(rng: np.random.Generator) -> None:
    W, H = rng.random((2, 6, 3)), rng.random((2, 3, 4))
    H[1, 2] = 0
    left, right = metrics.normalize_scale(W, H)
    np.testing.assert_allclose(left @ right, W @ H)
    np.testing.assert_allclose(right.sum(axis=-1), [[1, 1, 1], [1, 1, 0]])
    assert (left[1, :, 2] == 0).all()
    with pytest.raises(UserError, match="do not multiply"):
        metrics.normalize_scale(W, H[:, :2])


def test_balance_scale_keeps_the_product(rng: np.random.Generator) -> None:
    W, H = rng.random((2, 6, 3)), rng.random((2, 3, 4))
    H[1, 2] = 0
    left, right = metrics.balance_scale(W, H)
    np.testing.assert_allclose(left @ right, W @ H)
    np.testing.assert_allclose(left.sum(axis=-2), right.sum(axis=-1))
    assert (left[1, :, 2] == 0).all()
    again = metrics.balance_scale(4 * W, H)
    np.testing.assert_allclose(again[0], 2 * left)
    np.testing.assert_allclose(again[1], 2 * right)


def test_hoyer_sparsity(rng: np.random.Generator) -> None:
    v = np.array([[1.0, 1, 1, 1], [0, 5, 0, 0], [3, 4, 0, 0], [0, 0, 0, 0]])
    expected = [0, 1, (2 - 7 / 5) / (2 - 1), 1]
    np.testing.assert_allclose(metrics.hoyer_sparsity(v), expected)
    np.testing.assert_allclose(metrics.hoyer_sparsity(-7 * v), expected)
    np.testing.assert_allclose(metrics.hoyer_sparsity(v.T, axis=0), expected)
    assert metrics.hoyer_sparsity([[2.0]]).tolist() == [1.0]
    values = metrics.hoyer_sparsity(rng.standard_normal((50, 7)))
    assert (values >= 0).all()
    assert (values <= 1).all()


def test_feature_scores() -> None:
    H = np.array([[1.0, 2, 0, 1], [0, 2, 0, 3]])
    entropy = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    np.testing.assert_allclose(metrics.feature_scores(H), [1, 0, 0, 1 - entropy], atol=1e-15)
    np.testing.assert_array_equal(metrics.feature_scores(H[:1]), np.zeros(4))
    with pytest.raises(UserError, match="negative"):
        metrics.feature_scores(-H)


def test_match_reference() -> None:
    reference = np.eye(3, 4)
    found = np.array([[1.0, 0.1, 0, 0], [1.0, 0.5, 0, 0]])
    table = metrics.match_reference(found, reference, reference_names=["SBS1", "SBS2", "SBS3"])
    assert [row.assigned for row in table] == ["SBS1", "SBS2"]
    assert [row.best for row in table] == ["SBS1", "SBS1"]  # best match may use one name twice
    assert table[1].assigned_cosine == pytest.approx(0.5 / np.hypot(1, 0.5))
    assert table[1].best_cosine == pytest.approx(1 / np.hypot(1, 0.5))
    many = metrics.match_reference(np.eye(4), reference)
    assert [row.assigned for row in many] == ["1", "2", "3", ""]
    assert np.isnan(many[3].assigned_cosine)
    with pytest.raises(UserError, match="3 names for 2"):
        metrics.match_reference(found, reference, component_names=["a", "b", "c"])
    with pytest.raises(UserError, match="Align them by name"):
        metrics.match_reference(found, np.eye(3))


def test_recovery_by_hand() -> None:
    truth = np.eye(4)
    found = np.array([[1.0, 0.1, 0, 0], [0, 0, 1.0, 1.0], [0, 1.0, 0, 0]])
    score = metrics.recovery(found, truth, threshold=0.9)
    c1, c2 = 1 / np.hypot(1, 0.1), np.sqrt(0.5)
    assert (score["tp"], score["ppv"], score["tpr"]) == (2, 2 / 3, 0.5)
    assert score["f1"] == pytest.approx(4 / 7)
    assert score["cosine_tp"] == pytest.approx((c1 + 1) / 2)
    assert score["cosine_all"] == pytest.approx((c1 + c2 + 1) / 4)
    assert score["composite"] == pytest.approx(2 / 3 + 0.5 + (c1 + 1) / 2)
    nothing = metrics.recovery(np.zeros((2, 4)), truth)
    assert nothing["f1"] == nothing["cosine_tp"] == 0


def test_thresholded_recovery_never_loses_a_good_pair() -> None:
    """Cosines where the best sum is two middling pairs, but one good pair is possible."""
    truth = np.eye(2, 3)
    found = np.array([[0.92, np.sqrt(1 - 0.92**2), 0.0], [0.89, 0.0, np.sqrt(1 - 0.89**2)]])
    plain = metrics.recovery(found, truth, threshold=0.9)
    kept = metrics.recovery(found, truth, threshold=0.9, thresholded=True)
    assert (plain["tp"], kept["tp"]) == (0, 1)


def test_exposure_recovery() -> None:
    W_true = np.array([[10.0, 0, 5], [0, 20, 0], [6, 3, 0]])
    H = np.eye(3)
    order = [2, 0, 1]
    matching = metrics.match_components(H[order], H)
    exact = metrics.exposure_recovery(W_true[:, order], W_true, matching)
    assert exact == pytest.approx(
        {"relative_l1": 0, "pearson": 1, "presence_precision": 1, "presence_recall": 1}
    )
    two = metrics.match_components(H[:2], H)
    part = metrics.exposure_recovery(W_true[:, :2], W_true, two)
    assert part["relative_l1"] == pytest.approx(5 / 44)
    assert (part["presence_precision"], part["presence_recall"]) == (1, 4 / 5)
    with pytest.raises(UserError, match="same ones"):
        metrics.exposure_recovery(W_true[:2], W_true, matching)


def frobenius_mu(x: np.ndarray, k: int, n_iter: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    W, H = rng.random((len(x), k)), rng.random((k, x.shape[1]))
    for _ in range(n_iter):
        W *= (x @ H.T) / (W @ H @ H.T)
        H *= (W.T @ x) / (W.T @ W @ H)
    return W, H


def test_kkt_vanishes_at_stationary_points_only(rng: np.random.Generator) -> None:
    x = rng.random((15, 9)) @ rng.random((9, 9)) + 0.1
    W, H = frobenius_mu(x, 2, 20_000)
    assert metrics.kkt_residual(x, W, H) < 1e-6
    early = metrics.kkt_residuals(x, *frobenius_mu(x, 2, 10))
    assert min(early) > 1e-4
    refit = metrics.nnls_refit(x, H + 0.1 * rng.random(H.shape))
    assert metrics.kkt_residuals(x, refit, H)[0] > 1e-4  # optimal for another H
    exact_w = metrics.kkt_residuals(x, metrics.nnls_refit(x, H), H)
    assert exact_w[0] < 1e-14
    # the average is stationary for rank 1 Kullback-Leibler: X_hat has the margins of X
    margins = np.outer(x.sum(axis=1), x.sum(axis=0)) / x.sum()
    rank_one = metrics.kkt_residual(x, margins[:, :1], margins[:1] / margins[0, 0], beta=1)
    assert rank_one < 1e-14


def test_kkt_sees_an_entry_locked_at_zero() -> None:
    x = np.array([[4.0, 2.0], [2.0, 1.0]])
    W, H = np.array([[2.0], [1.0]]), np.array([[2.0, 1.0]])
    assert metrics.kkt_residual(x, W, H) < 1e-15
    locked = np.array([[2.0, 0.0]])  # theta * gradient = 0, but the gradient is negative
    assert metrics.kkt_residuals(x, metrics.nnls_refit(x, locked), locked)[1] > 0.1


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.0])
def test_kkt_invariances(beta: float, rng: np.random.Generator) -> None:
    x, W, H = rng.random((8, 6)) + 0.1, rng.random((8, 3)), rng.random((3, 6))
    base = metrics.kkt_residuals(x, W, H, beta)
    d, order = np.array([0.01, 1.0, 300.0]), [2, 0, 1]
    cases = [
        metrics.kkt_residuals(x, W * d, H / d[:, None], beta),
        metrics.kkt_residuals(x, W[:, order], H[order], beta),
        metrics.kkt_residuals(50 * x, 50 * W, H, beta),
        metrics.kkt_residuals(x.T, H.T, W.T, beta)[::-1],
        metrics.kkt_residuals(sparse.csr_array(x), W, H, beta),
    ]
    for case in cases:
        assert case == pytest.approx(base)
    padded = np.hstack([x, np.full((8, 1), np.nan)])
    mask = np.hstack([np.ones_like(x), np.zeros((8, 1))])
    wide = np.hstack([H, np.zeros((3, 1))])
    assert metrics.kkt_residuals(padded, W, wide, beta, mask) == pytest.approx(base)


@pytest.mark.parametrize("beta", [2.0, 1.0])
def test_kkt_is_the_training_residual_at_unit_partners(
    beta: float, rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    optimality = pytest.importorskip("nmfnet.kernels.optimality")
    x, W, H = rng.random((8, 6)) + 0.1, rng.random((8, 3)), rng.random((3, 6))
    size = np.linalg.norm(W, axis=0)
    W, H = W / size, H * size[:, None]
    x_hat = W @ H
    pos, neg = W.T @ x_hat ** (beta - 1), W.T @ (x * x_hat ** (beta - 2))
    as_root_mean_square = optimality.kkt_residual(*map(torch.from_numpy, (H, neg, pos)))
    assert metrics.kkt_residuals(x, W, H, beta)[1] == pytest.approx(float(as_root_mean_square))


def test_kkt_degenerate(rng: np.random.Generator) -> None:
    x, W, H = rng.random((5, 4)), rng.random((5, 2)), rng.random((2, 4))
    zero_w, zero_h = W * [1, 0], H * [[1], [0]]
    alone = metrics.kkt_residuals(x, W[:, :1], H[:1])
    assert metrics.kkt_residuals(x, zero_w, zero_h) == pytest.approx(alone)
    assert metrics.kkt_residuals(x, W, zero_h)[1] > 0.01  # an unused component that would help
    assert metrics.kkt_residual(x, 0 * W, 0 * H) == 0
    assert metrics.kkt_residuals(x, W, 0 * H)[1] > 0.1
    with pytest.raises(UserError, match="do not make X"):
        metrics.kkt_residual(x, W, H[:, :3])
    with pytest.raises(UserError, match="negative"):
        metrics.kkt_residual(x, -W, H)


def test_bad_shapes() -> None:
    with pytest.raises(UserError, match="2-D"):
        metrics.matched_cosine(np.ones(3), np.ones((2, 3)))
    with pytest.raises(UserError, match="3 features and H_b has 4"):
        metrics.matched_cosine(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(UserError, match=r"1 entries that are NaN.*\(0, 1\)"):
        metrics.collapse_count([[1.0, np.nan]])
    with pytest.raises(UserError, match="empty"):
        metrics.collapse_count(np.zeros((0, 3)))


def test_cosine_matrix_broadcasts_over_restarts(rng: np.random.Generator) -> None:
    a, b = rng.random((3, 2, 5)), rng.random((4, 5))
    stacked = cosine_matrix(b, a)
    for one, single in zip(stacked, a, strict=True):
        np.testing.assert_allclose(one, cosine_matrix(b, single))
