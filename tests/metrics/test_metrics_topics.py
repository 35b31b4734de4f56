"""Coherence of topics against gensim, sizes, distances and places of topics."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import jensenshannon, pdist, squareform

from nmfnet import metrics

TOP = np.array([[0, 1, 2, 3], [4, 5, 6, 7], [1, 6, 3, 0]])


def corpus() -> np.ndarray:
    """Sixty documents in which every pair of the eight words occurs."""
    rng = np.random.default_rng(0)
    return (rng.random((60, 8)) < 0.5) * rng.integers(1, 4, (60, 8))


# gensim 4.4.0, CoherenceModel(topics, texts, dictionary, coherence, topn=4, window_size=1000), whose
# windows then are whole documents; 1e-12 is added there to shares of pairs
GENSIM = {
    "npmi": (-0.060308389035446684, -0.0753848342065424, -0.04769310094996478),
    "cv": (0.4096175419799966, 0.3866810915001119, 0.42673499475618465),
}


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_coherence_is_that_of_gensim(kind):
    counts = kind(corpus())
    np.testing.assert_allclose(metrics.npmi_coherence(TOP, counts), GENSIM["npmi"], atol=1e-9)
    np.testing.assert_allclose(metrics.cv_coherence(TOP, counts), GENSIM["cv"], atol=1e-9)


def test_coherence_is_that_of_the_gensim_that_is_installed():
    gensim = pytest.importorskip("gensim", reason="gensim is not installed")
    texts = [[f"w{j}" for j, n in enumerate(row) for _ in range(n)] for row in corpus()]
    known = gensim.corpora.Dictionary(texts)
    topics = [[f"w{j}" for j in row] for row in TOP]
    for name, ours in (("c_npmi", metrics.npmi_coherence), ("c_v", metrics.cv_coherence)):
        model = gensim.models.CoherenceModel(
            topics=topics, texts=texts, dictionary=known, coherence=name, topn=4, window_size=1000,
            processes=1,
        )  # fmt: skip
        np.testing.assert_allclose(ours(TOP, corpus()), model.get_coherence_per_topic(), atol=1e-6)


def test_sizes_are_shares_of_words_whatever_the_scale():
    rng = np.random.default_rng(0)
    W, H = rng.random((9, 3)), rng.random((3, 5))
    lengths = (W @ H).sum(1)
    wanted = (W * H.sum(1)).sum(0) / (W @ H).sum()
    np.testing.assert_allclose(metrics.topic_sizes(W, H, lengths), wanted)
    d = rng.random(3)
    np.testing.assert_allclose(metrics.topic_sizes(W * d, H / d[:, None], lengths), wanted)
    np.testing.assert_allclose(metrics.topic_sizes(0 * W, H, lengths), np.full(3, 1 / 3))


def test_distances_are_jensen_shannon_and_places_keep_them():
    rng = np.random.default_rng(0)
    H = rng.dirichlet(np.full(30, 0.2), size=6)
    found = metrics.topic_distances(7 * H)
    np.testing.assert_allclose(found, squareform(pdist(H, jensenshannon)) ** 2, atol=1e-12)
    assert found.max() <= np.log(2) + 1e-12
    plane = rng.normal(size=(6, 2))
    plane -= plane.mean(0)
    placed = metrics.principal_coordinates(squareform(pdist(plane)))
    np.testing.assert_allclose(squareform(pdist(placed)), squareform(pdist(plane)), atol=1e-9)
    assert metrics.principal_coordinates(np.zeros((1, 1))).shape == (1, 2)
