"""Topics of texts: their numbers for ``metrics.json``, and a table with a line for each."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nmfnet import metrics
from nmfnet.data.module import MatrixDataModule

if TYPE_CHECKING:
    from nmfnet.run.evaluate import Factors

__all__ = ["topic_scores", "write_topics"]

FILE = "topics.csv"
HEAD = ("topic", "size", "npmi", "cv", "words")

TOP, DIVERSE = 10, 25
"""Leading words of a topic: for coherence and the table, and for diversity."""


def topic_scores(datamodule: MatrixDataModule, factors: Factors) -> dict[str, float]:
    """Means over topics; co-occurrence is counted in the training documents."""
    f = factors.H.shape[1]
    if datamodule.matrix.kind != "text" or datamodule.streamed or len(factors.H) < 2 or f < 2:
        return {}
    top = metrics.top_features(factors.H, min(TOP, f))
    counts = datamodule.values("train")
    sizes = _sizes(datamodule, factors)
    return {
        "topics/npmi": float(metrics.npmi_coherence(top, counts).mean()),
        "topics/cv": float(metrics.cv_coherence(top, counts).mean()),
        "topics/diversity": metrics.topic_diversity(
            metrics.top_features(factors.H, min(DIVERSE, f))
        ),
        **({} if sizes is None else {"topics/smallest": float(sizes.min())}),
    }


def _sizes(datamodule: MatrixDataModule, factors: Factors) -> np.ndarray | None:
    """Shares of all words; None of topics with negative entries."""
    if min(factors.H.min(), factors.W.min()) < 0:
        return None
    lengths = np.asarray(datamodule.values("train").sum(axis=1)).ravel()
    return metrics.topic_sizes(factors.W, factors.H, lengths)


def write_topics(folder: Path, factors: Factors, datamodule: MatrixDataModule) -> None:
    """Write ``topics.csv``: a line for each topic, the largest first.

    Columns: topic; ``size``, its share of all words (empty of topics with negative entries); ``npmi`` and
    ``cv``, coherence of its ten leading words by the training documents; these words.
    """
    top = metrics.top_features(factors.H, min(TOP, factors.H.shape[1]))
    counts, sizes = datamodule.values("train"), _sizes(datamodule, factors)
    npmi, cv = metrics.npmi_coherence(top, counts), metrics.cv_coherence(top, counts)
    order = np.arange(len(top)) if sizes is None else np.argsort(-sizes, kind="stable")
    with (folder / FILE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEAD)
        for i in order:
            size = "" if sizes is None else f"{sizes[i]:.6g}"
            words = " ".join(datamodule.feature_names[j] for j in top[i])
            writer.writerow([factors.names[i], size, f"{npmi[i]:.6g}", f"{cv[i]:.6g}", words])
