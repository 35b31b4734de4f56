"""The leading features of every component: a table in the run folder, and lines on the terminal."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["leading_lines", "write_leading"]

FILE, SCORES = "top_features.csv", "feature_scores.csv"
HEAD = ("component", "rank", "feature", "share", "of_feature")

MOST = 20
"""Features of a component in the file."""

SHOWN, WORDS = 12, 6
"""Components, and features of each, on the terminal."""


def write_leading(
    folder: Path, H: np.ndarray, feature_names: Sequence[str], names: Sequence[str]
) -> None:
    """Write ``top_features.csv``: the largest entries of every component.

    Columns: component, rank from 1, feature, ``share`` of the component's sum (of absolute values, with
    the entry's sign, in [-1, 1]), and ``of_feature``: how much of the feature this component holds when
    all components sum to 1, in [0, 1].

    Parameters
    ----------
    folder : Path
        Of the run.
    H : array, shape (n_components, n_features)
    feature_names, names : sequence of str
        Of features and components.
    """
    import numpy as np  # here, since who reads the file has no need of it

    values = np.asarray(H, np.float64)
    size = np.abs(values).sum(axis=1, keepdims=True)
    share = np.divide(values, size, out=np.zeros_like(values), where=size > 0)
    whole = np.abs(share).sum(axis=0)
    with (folder / FILE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEAD)
        for name, row in zip(names, share, strict=True):
            for rank, i in enumerate(np.argsort(-np.abs(row), kind="stable")[:MOST], start=1):
                if row[i]:
                    held = abs(row[i]) / whole[i]
                    writer.writerow([name, rank, feature_names[i], f"{row[i]:.6g}", f"{held:.6g}"])
    if len(share) > 1 and share.min() >= 0:
        _write_scores(folder / SCORES, share, feature_names, names)


def _write_scores(
    file: Path, share: np.ndarray, feature_names: Sequence[str], names: Sequence[str]
) -> None:
    """Write ``feature_scores.csv``: how specific every feature is to its component (Kim & Park 2007).

    Columns: component (the one that the feature is the largest share of), feature, score in [0, 1], and
    whether the feature is one of those that tell components apart; by component, the highest score first.
    """
    from nmfnet.metrics import feature_scores, specific_features

    scores, specific, owner = feature_scores(share), specific_features(share), share.argmax(axis=0)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("component", "feature", "score", "specific"))
        for i in sorted(range(len(scores)), key=lambda i: (owner[i], -scores[i])):
            told = "yes" if specific[i] else "no"
            writer.writerow((names[owner[i]], feature_names[i], f"{scores[i]:.6g}", told))


def leading_lines(folder: Path) -> list[str]:
    """The file in short, a line per component; nothing where there is none."""
    try:
        with (folder / FILE).open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError:  # no components, or a run of an earlier version
        return []
    found: dict[str, list[str]] = {}
    for row in rows:
        words = found.setdefault(row["component"], [])
        if len(words) < WORDS:
            words.append(f"{row['feature']} {100 * float(row['share']):.2g} %")
    lines = [f"{name}: {', '.join(words)}" for name, words in list(found.items())[:SHOWN]]
    rest = len(found) - SHOWN
    return lines + ([f"and {rest} more in {folder / FILE}"] if rest > 0 else [])
