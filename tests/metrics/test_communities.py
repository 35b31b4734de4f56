"""Communities of spots: distances, groups, markers and matchings, on arrays."""

from __future__ import annotations

import numpy as np
import pytest

from nmfnet import metrics


@pytest.mark.parametrize("dimension", [2, 5])
def test_the_intrinsic_dimension_of_a_plane_in_space(dimension):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1500, dimension)) @ rng.normal(size=(dimension, 20))
    found = metrics.intrinsic_dimension(np.vstack([points, points[:50]]))  # copies say nothing
    assert found == pytest.approx(dimension, rel=0.12)
    assert np.isnan(metrics.intrinsic_dimension(points[:2]))


def test_nearest_spots_begin_with_the_spot_itself():
    places = np.array([(x, y) for y in range(4) for x in range(5)])
    near = metrics.nearest_spots(np.vstack([places, places[7]]), [20, 0], 3)
    assert near[0].tolist() == [20, 7, 2]
    assert near[1].tolist() == [0, 1, 5]


def test_anchors_near_each_other_are_one_and_chains_are_not():
    places = np.stack([np.arange(60), np.zeros(60)], 1)
    group = metrics.distinct_anchors(places, [10, 12, 40], nearest=8)
    assert group[0] == group[1] != group[2]
    chain = metrics.distinct_anchors(places, [20, 23, 26], nearest=8)  # its ends are 6 apart
    assert len(set(chain.tolist())) == 2
    assert metrics.distinct_anchors(places, [3], nearest=8).tolist() == [0]
    assert len(set(metrics.distinct_anchors(places, [3, 4], nearest=1).tolist())) == 2


def test_markers_are_those_of_the_rank_sum_test():
    from scipy.stats import false_discovery_control, ranksums

    rng = np.random.default_rng(1)
    values, inside = rng.normal(size=(80, 40)), np.arange(80) < 15
    values[inside, :3] += 2
    values[inside, 3] -= 2
    values[:, 4] = 1  # constant
    found, rates, apart = metrics.markers_of(values, inside, 10)
    assert sorted(found.tolist()) == [0, 1, 2]
    assert (apart > 1).all()
    p = np.array(
        [ranksums(values[inside, j], values[~inside, j], "greater").pvalue for j in range(40)]
    )
    expected = false_discovery_control(np.where(np.isnan(p), 1, p))[found]
    np.testing.assert_allclose(rates, expected, rtol=0.2)  # which has no correction for continuity
    assert len(metrics.markers_of(values, inside, 2)[0]) == 2


def test_no_markers_where_there_is_no_difference():
    rng = np.random.default_rng(2)
    found = [
        len(metrics.markers_of(rng.normal(size=(60, 100)), np.arange(60) < 20, 10)[0])
        for _ in range(40)
    ]
    assert np.mean(np.array(found) > 0) <= 0.15


def test_no_pair_would_rather_have_each_other():
    rng = np.random.default_rng(3)
    for _ in range(300):
        n, m = rng.integers(1, 8, 2)
        scores = rng.normal(size=(n, m)).round(1)
        least = float(rng.choice([-np.inf, 0.0]))
        pairs = metrics.stable_matching(scores, least)
        assert len(set(pairs.values())) == len(pairs)
        of = {column: row for row, column in pairs.items()}
        own = np.array([scores[i, pairs[i]] if i in pairs else least for i in range(n)])
        theirs = np.array([scores[of[j], j] if j in of else least for j in range(m)])
        assert not ((scores > own[:, None]) & (scores > theirs)).any()
        assert all(scores[i, j] > least for i, j in pairs.items())


def test_a_matching_takes_each_only_once():
    assert metrics.stable_matching([[3.0, 2.0], [2.9, -1.0]]) == {0: 0, 1: 1}
    assert metrics.stable_matching([[3.0, 2.0], [2.9, -1.0]], 0.0) == {0: 0}


def test_signature_scores_are_mean_z_scores():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(30, 6)) * 7 + 2
    values[:, 5] = 3
    scores = metrics.signature_scores(values, [np.array([0, 1]), np.array([5])])
    z = (values - values.mean(0)) / np.where(values.std(0) > 0, values.std(0), 1)
    np.testing.assert_allclose(scores[:, 0], z[:, :2].mean(1), atol=1e-12)
    assert not scores[:, 1].any()
