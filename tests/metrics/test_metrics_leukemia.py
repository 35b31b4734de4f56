"""Golden: consensus of 30 Kullback-Leibler NMF runs on the leukemia data of Brunet et al. 2004."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nmfnet import metrics

pytestmark = [pytest.mark.catalogue, pytest.mark.slow]

COPHENETIC = {2: 0.999, 3: 0.993, 4: 0.991, 5: 0.972}
"""Published for K = 2..5; other starts move them by about .01 (K = 4 most)."""


@pytest.fixture(scope="module")
def leukemia() -> tuple[np.ndarray, list[str]]:
    if "NMFNET_DATA" not in os.environ:
        pytest.skip("needs NMFNET_DATA")
    folder = Path(os.environ["NMFNET_DATA"]) / "leukemia-brunet"
    lines = (folder / "ALL_AML_samples.txt").read_text(encoding="latin-1").splitlines()
    names = [line.strip() for line in lines if line.startswith(("ALL", "AML"))]
    return np.loadtxt(folder / "ALL_AML_data.txt", dtype=np.float32).T.copy(), names


def kl_nmf(x: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Plain multiplicative updates from uniform starts, components left as they are."""
    rng = np.random.default_rng(seed)
    W = rng.random((x.shape[0], k)).astype(np.float32)
    H = rng.random((k, x.shape[1])).astype(np.float32)
    for _ in range(700):
        W *= ((x / (W @ H + 1e-9)) @ H.T) / H.sum(axis=1)
        H *= (W.T @ (x / (W @ H + 1e-9))) / W.sum(axis=0)[:, None]
    return W, H


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_cophenetic_correlation(k: int, leukemia: tuple[np.ndarray, list[str]]) -> None:
    x, names = leukemia
    assert x.shape == (38, 5000)
    found = [kl_nmf(x, k, seed) for seed in range(30)]
    W, H = np.array([w for w, _ in found]), np.array([h for _, h in found])
    for consensus in (metrics.consensus_matrix(W), metrics.consensus_matrix(W, H)):
        published = pytest.approx(COPHENETIC[k], abs=0.012)
        assert metrics.cophenetic_correlation(consensus) == published
        if k == 2:
            clusters = metrics.consensus_clusters(consensus, 2)
            misplaced = [
                name
                for name, cluster in zip(names, clusters, strict=True)
                if (cluster == clusters[0]) != name.startswith("ALL")
            ]
            assert misplaced == ["ALL_14749_B-cell", "ALL_7092_B-cell"]
            assert metrics.dispersion(consensus) > 0.98
