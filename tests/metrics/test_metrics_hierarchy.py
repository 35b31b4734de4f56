"""Metrics of layers, of held-out labels, and of what a topic is made of."""

from __future__ import annotations

import numpy as np
import pytest

from nmfnet import metrics
from nmfnet.data import HierarchicalBlocks
from nmfnet.errors import UserError

BLOCKS = HierarchicalBlocks(noise=0.0).read()


def test_the_true_layers_are_recovered_exactly() -> None:
    assert BLOCKS.truth is not None
    W, H = BLOCKS.truth.W, BLOCKS.truth.H
    joined = np.eye(4)[[0, 0, 1, 1, 2, 2, 3, 3, 3]]
    share = joined / joined.sum(0)
    numbers = metrics.layer_metrics(
        BLOCKS.values, [(W, H), (W @ joined, share.T @ H)], BLOCKS.hierarchy
    )
    assert numbers["layer1/relative_error"] == pytest.approx(0, abs=1e-12)
    assert numbers["layer1/ari"] == numbers["layer2/ari"] == 1
    wanted = np.linalg.norm(BLOCKS.values - W @ joined @ share.T @ H)
    assert numbers["layer2/relative_error"] == pytest.approx(wanted / np.linalg.norm(BLOCKS.values))


def test_clusters_do_not_depend_on_the_scale_of_components() -> None:
    assert BLOCKS.truth is not None
    d = np.geomspace(1e-3, 1e3, 9)
    layer = (BLOCKS.truth.W / d, d[:, None] * BLOCKS.truth.H)
    assert metrics.layer_metrics(BLOCKS.values, [layer], BLOCKS.hierarchy)["layer1/ari"] == 1


def test_readout_scores_only_rows_that_were_not_seen() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=60)
    W = np.eye(3)[labels] + 0.1 * rng.random((60, 3))
    seen, new = labels.copy(), np.full(60, -1)
    seen[::3], new[::3] = -1, labels[::3]
    assert metrics.readout_accuracy(W, seen, W, new) == 1
    assert metrics.readout_accuracy(7 * W, seen, 7 * W, new) == 1
    noise = rng.random((60, 3))
    assert metrics.readout_accuracy(noise, seen, noise, new) < 0.8
    assert np.isnan(metrics.readout_accuracy(W, labels, W, np.full(60, -1)))
    with pytest.raises(UserError, match="one for each row"):
        metrics.readout_accuracy(W, labels[:5], W, labels)


def test_a_topic_is_made_of_the_topics_it_sums() -> None:
    rng = np.random.default_rng(1)
    wide = rng.random((5, 30))
    mix = np.array([[1, 3, 0, 0, 0], [0, 0, 1, 0, 1]], dtype=float)
    (shares,) = metrics.topic_tree([wide, mix @ wide])
    parts = mix * wide.sum(1)
    np.testing.assert_allclose(shares, parts / parts.sum(1, keepdims=True), atol=1e-8)
    (none,) = metrics.topic_tree([wide, np.zeros((1, 30))])
    assert not none.any()
