"""Consensus of restarts, clusters of components, medoids and intervals over runs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from nmfnet import metrics
from nmfnet.errors import UserError


def noisy_restarts(noise: float, r: int = 7, k: int = 4, seed: int = 0) -> np.ndarray:
    """Restarts that found the same components in another order and scale, with noise."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.full(30, 0.2), k)
    stack = []
    for _ in range(r):
        found = truth * rng.uniform(0.5, 2.0, (k, 1)) + noise * rng.random((k, 30)) / 30
        stack.append(found[rng.permutation(k)])
    return np.array(stack)


def test_consensus_matrix_by_hand() -> None:
    W = np.zeros((2, 4, 2))
    W[0] = [[5, 1], [4, 0], [0, 3], [0, 0]]  # clusters {0, 1}, {2}, none
    W[1] = [[0, 2], [3, 1], [1, 0], [9, 2]]  # clusters {0}, {1, 2, 3}
    expected = [[1, 0.5, 0, 0], [0.5, 1, 0.5, 0.5], [0, 0.5, 1, 0.5], [0, 0.5, 0.5, 1]]
    consensus = metrics.consensus_matrix(W)
    np.testing.assert_array_equal(consensus, expected)
    entries = np.array(expected)
    assert metrics.dispersion(consensus) == pytest.approx(np.mean((2 * entries - 1) ** 2))
    swapped = W[:, :, ::-1]  # the order of the components does not matter
    np.testing.assert_array_equal(metrics.consensus_matrix(swapped), expected)


@pytest.mark.parametrize("signed", [False, True])
def test_the_consensus_is_a_function_of_the_product(signed: bool) -> None:
    """Whatever split of scale between W and H a solver leaves, in whatever order."""
    rng = np.random.default_rng(3)
    H = noisy_restarts(0.5)
    W = rng.gamma(0.5, 1.0, (7, 40, 4)) - (0.3 if signed else 0.0)
    expected = metrics.stability_metrics(H, W)
    scale = 10.0 ** rng.uniform(-4, 4, (7, 4))
    orders = np.array([rng.permutation(4) for _ in range(7)])
    left = np.take_along_axis(W * scale[:, None, :], orders[:, None, :], axis=2)
    right = np.take_along_axis(H / scale[:, :, None], orders[:, :, None], axis=1)
    assert metrics.stability_metrics(right, left) == pytest.approx(expected)
    same = metrics.consensus_matrix(W, H)
    np.testing.assert_array_equal(metrics.consensus_matrix(left, right), same)
    assert not np.array_equal(metrics.consensus_matrix(left), same)  # it does matter


def test_cophenetic_correlation_by_hand() -> None:
    # 0 and 1 join at .1, 2 joins them at (.5 + .7) / 2, 3 joins all at (.8 + .9 + 1) / 3
    distances = np.zeros((4, 4))
    distances[np.triu_indices(4, 1)] = [0.1, 0.5, 0.8, 0.7, 0.9, 1.0]
    consensus = 1 - distances - distances.T
    tree = [0.1, 0.6, 0.9, 0.6, 0.9, 0.9]
    expected = np.corrcoef([0.1, 0.5, 0.8, 0.7, 0.9, 1.0], tree)[0, 1]
    assert metrics.cophenetic_correlation(consensus) == pytest.approx(expected)
    np.testing.assert_array_equal(metrics.consensus_clusters(consensus, 2), [0, 0, 0, 1])
    np.testing.assert_array_equal(metrics.consensus_clusters(consensus, 3), [0, 0, 1, 2])


def test_perfect_and_degenerate_consensus() -> None:
    W = np.tile(np.eye(3)[[0, 0, 1, 2, 2]], (4, 1, 1))
    consensus = metrics.consensus_matrix(W)
    assert metrics.cophenetic_correlation(consensus) == pytest.approx(1)
    assert metrics.dispersion(consensus) == 1
    np.testing.assert_array_equal(metrics.consensus_clusters(consensus, 3), [0, 0, 1, 2, 2])
    one = metrics.consensus_matrix(np.ones((3, 5, 1)))  # k = 1: a single cluster
    assert metrics.cophenetic_correlation(one) == 1
    single = metrics.consensus_matrix(W[:1])  # R = 1: 0 or 1 everywhere
    assert metrics.dispersion(single) == 1
    assert metrics.cophenetic_correlation(np.ones((1, 1))) == 1
    assert metrics.consensus_clusters(np.ones((1, 1)), 1).tolist() == [0]
    assert metrics.dispersion(np.full((3, 3), 0.5)) == 0


def brute_force_medoids(d: np.ndarray, k: int) -> float:
    return min(d[:, list(m)].min(axis=1).sum() for m in combinations(range(len(d)), k))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pam_cannot_be_improved_by_a_swap(k: int) -> None:
    for seed in range(4):
        points = np.random.default_rng(seed).random((18, 2))
        d = np.linalg.norm(points[:, None] - points[None], axis=2)
        found = metrics.pam(d, k)
        assert found.cost == pytest.approx(d[:, found.medoids].min(axis=1).sum())
        np.testing.assert_array_equal(found.labels, d[:, found.medoids].argmin(axis=1))
        for out in range(k):
            for new in set(range(18)) - set(found.medoids.tolist()):
                other = found.medoids.copy()
                other[out] = new
                assert d[:, other].min(axis=1).sum() >= found.cost - 1e-12
        assert found.cost <= 1.1 * brute_force_medoids(d, k)


def test_pam_finds_separate_groups_and_accepts_duplicates() -> None:
    centres = np.array([[0.0, 0], [10, 0], [0, 10]])
    points = np.repeat(centres, 5, axis=0) + np.random.default_rng(0).random((15, 2))
    d = np.linalg.norm(points[:, None] - points[None], axis=2)
    found = metrics.pam(d, 3)
    assert metrics.adjusted_rand(np.repeat([0, 1, 2], 5), found.labels) == 1
    assert found.cost == pytest.approx(brute_force_medoids(d, 3))
    same = metrics.pam(np.zeros((4, 4)), 3)
    assert len(set(same.medoids.tolist())) == 3
    assert same.cost == 0
    assert metrics.pam(d, 15).cost == 0
    with pytest.raises(UserError, match="1 to 15"):
        metrics.pam(d, 16)
    with pytest.raises(UserError, match="symmetric"):
        metrics.pam(np.triu(d), 2)


def test_silhouettes_are_scikit_learns() -> None:
    from sklearn.metrics import silhouette_samples

    rng = np.random.default_rng(0)
    items, labels = rng.random((25, 6)), rng.integers(0, 4, 25)
    labels[0] = 9  # a cluster of one
    expected = silhouette_samples(items, labels, metric="cosine")
    np.testing.assert_allclose(metrics.silhouettes(items, labels), expected, atol=1e-12)
    np.testing.assert_array_equal(metrics.silhouettes(items, np.zeros(25)), np.ones(25))
    with pytest.raises(UserError, match="24 labels for 25"):
        metrics.silhouettes(items, labels[:24])


def test_clusters_take_one_component_of_each_restart() -> None:
    H = noisy_restarts(0.1)
    found = metrics.cluster_restarts(H)
    assert (np.sort(found.members, axis=1) == np.arange(4)).all()
    aligned = np.take_along_axis(H, found.members[:, :, None], axis=1)
    for c in range(4):
        cosines = metrics.component_cosines(aligned[:, c], found.components[c : c + 1])
        assert cosines.min() > 0.99
    np.testing.assert_allclose(found.components.sum(axis=1), 1)
    labels = np.argsort(found.members, axis=1).ravel()
    each = metrics.silhouettes(H.reshape(-1, 30), labels)
    np.testing.assert_allclose(found.silhouettes, [each[labels == c].mean() for c in range(4)])
    assert found.silhouettes.min() > 0.9


def test_a_poor_start_is_mended_by_the_other_restarts() -> None:
    """Without new centroids, or without other starts, some of these cases end below .5."""
    H = noisy_restarts(2.0, r=9)
    for seed in range(5):
        H[0] = np.random.default_rng(seed).random((4, 30))  # this restart failed
        assert metrics.cluster_restarts(H, n_starts=1).silhouettes.mean() > 0.7
        assert metrics.cluster_restarts(H).silhouettes.mean() > 0.7


def test_stability_falls_with_noise_and_ignores_order_and_scale() -> None:
    levels = [metrics.stability_metrics(noisy_restarts(noise)) for noise in (0.0, 1.0, 20.0)]
    for name in ("matched_cosine", "silhouette_mean", "silhouette_min"):
        values = [level[name] for level in levels]
        assert values == sorted(values, reverse=True)
        assert values[0] == pytest.approx(1)
    H, rng = noisy_restarts(1.0), np.random.default_rng(5)
    moved = np.array([h[rng.permutation(4)] * rng.uniform(1, 9, (4, 1)) for h in H])
    assert metrics.stability_metrics(moved) == pytest.approx(metrics.stability_metrics(H))


def test_stability_with_samples() -> None:
    H = noisy_restarts(0.5)
    W = np.random.default_rng(1).random((7, 12, 4))
    found = metrics.stability_metrics(H, W)
    consensus = metrics.consensus_matrix(W, H)
    assert found["dispersion"] == metrics.dispersion(consensus)
    assert found["cophenetic"] == metrics.cophenetic_correlation(consensus)
    assert "cophenetic" not in metrics.stability_metrics(H, W, max_samples=11)


def test_degenerate_restarts() -> None:
    H = noisy_restarts(0.1)
    with pytest.raises(UserError, match="1 restart"):
        metrics.cluster_restarts(H[:1])
    with pytest.raises(UserError, match="1 restart"):
        metrics.consistency(H[:1])
    with pytest.raises(UserError, match="3-D"):
        metrics.cluster_restarts(H[0])
    assert metrics.stability_metrics(H[:, :1])["silhouette_min"] == 1  # k = 1
    H[:, 3] = 0  # a dead component in every restart, in different places
    found = metrics.stability_metrics(H)
    assert all(np.isfinite(value) for value in found.values())
    assert metrics.consensus_medoids(H[:1, :1]).shape == (1, 30)


def test_consensus_medoids_are_members() -> None:
    H = noisy_restarts(0.3)
    medoids = metrics.consensus_medoids(H)
    flat = H.reshape(-1, 30)
    assert all((flat == one).all(axis=1).any() for one in medoids)
    assert metrics.matched_cosine(medoids, metrics.cluster_restarts(H).components) > 0.99


def test_pairwise_matched_cosine_is_the_pairs_matched_cosine() -> None:
    H = noisy_restarts(3.0)
    matrix = metrics.pairwise_matched_cosine(H)
    expected = [[metrics.matched_cosine(a, b) for b in H] for a in H]
    np.testing.assert_allclose(matrix, expected)
    found = metrics.consistency(H)
    pairs = [matrix[i, j] for i, j in combinations(range(7), 2)]
    assert (found.n_runs, found.n_pairs) == (7, 21)
    assert found.mean == pytest.approx(np.mean(pairs))
    assert found.sd == pytest.approx(np.std(pairs, ddof=1))
    assert found.median == pytest.approx(np.median(pairs))
    assert found.low <= found.mean <= found.high
    np.testing.assert_allclose(
        metrics.cross_method_cosine(H, H[:, :3]),
        [metrics.matched_cosine(a, a[:3]) for a in H],
    )
    with pytest.raises(UserError, match="same runs of both"):
        metrics.cross_method_cosine(H, H[:3])


def test_jackknife_by_leaving_out() -> None:
    a = np.random.default_rng(0).random((6, 6))
    matrix = a + a.T
    mean, se = metrics.jackknife(matrix)
    without = []
    for i in range(6):
        rest = [j for j in range(6) if j != i]
        without.append(np.mean([matrix[p] for p in combinations(rest, 2)]))
    assert mean == pytest.approx(metrics.pair_values(matrix).mean())
    assert se == pytest.approx(np.sqrt(5 / 6 * np.sum((without - np.mean(without)) ** 2)))
    assert np.isnan(metrics.jackknife(matrix[:2, :2])[1])
    diagonal = matrix + np.diag(np.full(6, 99.0))  # self-pairs are never used
    assert metrics.jackknife(diagonal) == pytest.approx((mean, se))


def test_intervals_know_that_pairs_are_dependent() -> None:
    """The mean of a_i + a_j over pairs has variance 4 s^2 / r, far above that of r^2 / 2 draws."""
    rng, covered, ratios = np.random.default_rng(0), 0, []
    for seed in range(60):
        a = rng.standard_normal(20)
        matrix = a[:, None] + a[None]
        mean, se = metrics.jackknife(matrix)
        low, high = metrics.bootstrap_interval(matrix, n_bootstrap=300, seed=seed)
        covered += low <= 0 <= high
        ratios.append(se / (2 / np.sqrt(20)))
        assert se == pytest.approx(2 * a.std(ddof=1) / np.sqrt(20), rel=1e-6)
        assert mean == pytest.approx(2 * a.mean())
    assert 0.85 <= covered / 60 <= 1.0
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_bootstrap_is_seeded_and_skips_pairs_of_a_run_with_itself() -> None:
    matrix = np.full((3, 3), 0.5) + 0.5 * np.eye(3)
    assert metrics.bootstrap_interval(matrix) == pytest.approx((0.5, 0.5))
    other = np.random.default_rng(0).random((5, 5))
    other = other + other.T
    assert metrics.bootstrap_interval(other, seed=3) == metrics.bootstrap_interval(other, seed=3)
    assert metrics.bootstrap_interval(other, seed=3) != metrics.bootstrap_interval(other, seed=4)
    with pytest.raises(UserError, match="level"):
        metrics.bootstrap_interval(other, level=95)


def test_legacy_dup15_is_the_doubled_half() -> None:
    matrix = metrics.pairwise_matched_cosine(noisy_restarts(5.0, r=16))
    doubled = np.kron(matrix[:15, :15], np.ones((2, 2)))
    expected = np.sort(metrics.pair_values(doubled))
    np.testing.assert_allclose(np.sort(metrics.legacy_dup15(matrix)), expected)
    with pytest.raises(UserError, match="first 15"):
        metrics.legacy_dup15(matrix[:14, :14])


def test_the_spread_of_objectives_is_never_below_0() -> None:
    """Log densities give objectives of either sign, and exact fits objectives of 0."""
    assert metrics.objective_spread([200.0, 100.0, 101.0]) == 1
    assert metrics.objective_spread([-100.0, -125.0]) == 0.2
    assert metrics.objective_spread([-1.0, 1.0]) == 2
    assert metrics.objective_spread([0.0, 0.0]) == 0
