"""How every script of this folder ends: a figure, and one sentence in answers.csv."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent


def axes(count: int):
    """A figure with panels side by side."""
    figure, made = plt.subplots(1, count, figsize=(3.3 * count, 2.7))
    for axis in [made] if count == 1 else made:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7)
    return figure, made


def answer(figure, sentence: str) -> None:
    """Keep the figure and the sentence under the name of the script."""
    name, table = Path(sys.argv[0]).stem, FOLDER / "answers.csv"
    figure.tight_layout()
    figure.savefig(FOLDER / f"{name}.png", dpi=100)
    rows = dict(csv.reader(table.open())) if table.is_file() else {}
    rows[name] = sentence
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(sorted(rows.items()))
    print(sentence)
