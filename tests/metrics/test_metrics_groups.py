"""Clustering and topic metrics, and what importing the package costs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

from nmfnet import metrics
from nmfnet.errors import UserError


def test_clustering_by_hand() -> None:
    labels = ["a", "a", "a", "b", "b", "c"]
    clusters = [2, 2, 0, 0, 0, 0]
    assert metrics.clustering_accuracy(labels, clusters) == pytest.approx(4 / 6)
    assert metrics.purity(labels, clusters) == pytest.approx(4 / 6)
    assert metrics.purity(labels, range(6)) == 1
    assert metrics.clustering_accuracy(labels, range(6)) == pytest.approx(3 / 6)
    assert metrics.clustering_accuracy(labels, ["z"] * 6) == pytest.approx(3 / 6)


def test_clustering_ignores_names() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 50)
    renamed = np.array(["w", "x", "y", "z"])[labels]
    for measure in (
        metrics.clustering_accuracy,
        metrics.adjusted_rand,
        metrics.normalized_mutual_information,
        metrics.purity,
    ):
        assert measure(labels, renamed) == pytest.approx(1)
        assert measure(labels, rng.permutation(labels)) < 0.6
        with pytest.raises(UserError, match="same length"):
            measure(labels, labels[:-1])
        with pytest.raises(UserError, match=r"labels\[1\] is missing"):
            measure(["a", None, "b"], [0, 1, 1])


def test_clusters_of() -> None:
    np.testing.assert_array_equal(metrics.clusters_of([[1, 2], [3, 3], [0, 0]]), [1, 0, -1])


# Four documents: {0, 1}, {0, 1, 2}, {2}, {0, 3}
COUNTS = np.array([[2, 1, 0, 0, 0], [1, 5, 1, 0, 0], [0, 0, 3, 0, 0], [1, 0, 0, 4, 0]])


def npmi(together: float, a: float, b: float) -> float:
    return float(np.log(together / (a * b)) / -np.log(together))


def test_top_words() -> None:
    H = np.array([[0.1, 0.5, 0.5, 0.0], [9.0, 0.0, 1.0, 2.0]])
    np.testing.assert_array_equal(metrics.top_features(H, 3), [[1, 2, 0], [0, 3, 2]])
    assert metrics.top_words(H, list("abcd"), 2) == [["b", "c"], ["a", "d"]]
    assert metrics.topic_diversity(metrics.top_features(H, 2)) == 1
    assert metrics.topic_diversity(metrics.top_features(H, 3)) == pytest.approx(4 / 6)
    with pytest.raises(UserError, match="feature_names has 3 entries, and H has 4 columns"):
        metrics.top_words(H, list("abc"), 2)
    with pytest.raises(UserError, match="n_top is 5"):
        metrics.top_features(H, 5)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.coo_matrix])
def test_coherence_by_hand(form: type) -> None:
    counts = form(COUNTS)
    top = np.array([[0, 1], [1, 3], [0, 4]])
    expected = [npmi(0.5, 0.75, 0.5), -1, -1]  # 1 and 3 never meet; 4 is in no document
    np.testing.assert_allclose(metrics.npmi_coherence(top, counts), expected)
    umass = [np.log(3 / 3), np.log(1 / 2), np.log(1 / 3)]
    np.testing.assert_allclose(metrics.umass_coherence(top, counts), umass)
    three = metrics.npmi_coherence([[0, 1, 2]], counts)[0]
    pairs = [npmi(0.5, 0.75, 0.5), npmi(0.25, 0.75, 0.5), npmi(0.25, 0.5, 0.5)]
    assert three == pytest.approx(np.mean(pairs))
    np.testing.assert_allclose(
        metrics.umass_coherence([[2, 0, 1]], counts),
        [np.mean([np.log(2 / 2), np.log(2 / 2), np.log(3 / 3)])],
    )


def test_cv_by_hand() -> None:
    m = npmi(0.5, 0.75, 0.5)
    vectors = np.array([[1, m], [m, 1]])  # a word with itself has NPMI 1
    whole = vectors.sum(axis=0)
    cosines = vectors @ whole / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(whole))
    np.testing.assert_allclose(metrics.cv_coherence([[0, 1]], COUNTS), [cosines.mean()])


def test_coherence_properties() -> None:
    rng = np.random.default_rng(0)
    counts = sparse.random_array((200, 30), density=0.2, rng=rng)
    top = np.array([rng.permutation(30)[:6] for _ in range(5)])
    for measure in (metrics.npmi_coherence, metrics.umass_coherence, metrics.cv_coherence):
        base = measure(top, counts)
        order = rng.permutation(30)  # renumbering the vocabulary changes nothing
        moved = measure(np.argsort(order)[top], counts.tocsr()[:, order])
        np.testing.assert_allclose(moved, base)
        np.testing.assert_allclose(measure(top, 7 * counts), base)  # only presence counts
    for measure in (metrics.npmi_coherence, metrics.cv_coherence):
        np.testing.assert_allclose(measure(top[:, ::-1], counts), measure(top, counts))
        assert np.abs(measure(top, counts)).max() <= 1
    together = np.repeat(np.eye(3), 4, axis=1)[[0, 0, 1, 2]]  # words of a block always co-occur
    blocks = np.arange(12).reshape(3, 4)
    np.testing.assert_allclose(metrics.npmi_coherence(blocks, together), 1)
    np.testing.assert_allclose(metrics.cv_coherence(blocks, together), 1)
    everywhere = metrics.npmi_coherence([[0, 1]], np.ones((3, 2)))
    assert everywhere[0] == 0
    assert np.isnan(metrics.umass_coherence([[4, 4]], COUNTS)[0])


@pytest.mark.parametrize(
    ("top", "message"),
    [([[0]], "at least 2"), ([[0, 9]], "5 words"), ([["a", "b"]], "integers"), ([0, 1], "shape")],
)
def test_coherence_bad_input(top: list[object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        metrics.npmi_coherence(top, COUNTS)


def test_import_is_light() -> None:
    heavy = ("scipy", "sklearn", "pandas", "matplotlib", "torch")
    code = f"import sys, nmfnet.metrics; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_silhouette_is_that_of_scikit_learn_and_needs_two_classes():
    from sklearn.metrics import silhouette_score

    from nmfnet.metrics import silhouette

    rng = np.random.default_rng(0)
    W, labels = rng.normal(size=(30, 3)), np.arange(30) % 3
    assert silhouette(W, labels) == pytest.approx(silhouette_score(W, labels))
    assert silhouette(W + 50 * labels[:, None], labels) > 0.9
    with pytest.raises(UserError, match="it got 1"):
        silhouette(W, np.zeros(30))
    with pytest.raises(UserError, match="2 labels for 30 rows"):
        silhouette(W, [0, 1])
