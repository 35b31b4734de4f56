"""Are classes of microbiomes told from communities? Nested cross-validation of four ways to read them.

    python experiments/microbiome/microbiome.py [FOLDER]

Writes ``auc.csv`` and ``microbiome.png`` into the folder (by default its own). For each data set and way:
5 outer folds (pairs of samples of one person stay together) score, and 3 inner folds of the training part
choose the number of components and the strength of the read-out. ``shuffled`` repeats the whole with
labels that were permuted before anything was split: an honest protocol gives 0.5 there.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

import nmfnet
from nmfnet.data.sources.registry import source

SETS = {"microbiome-ravel": "high", "microbiome-qin2014": "Cirrhosis", "microbiome-kostic": "Tumor"}
DEPTH, COMMON, OUTER, INNER = 10_000, 0.1, 5, 3
SIZES, STRENGTHS = (4, 10), (0.1, 1.0, 10.0)
MOST = 300  # taxa
DRAWN = 2000  # bootstrap samples of an interval


def data_of(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts scaled to one depth of taxa that are common enough, classes, and who was sampled."""
    matrix = source(name).read()
    known = matrix.labels >= 0
    values = matrix.values[known]
    common = (values > 0).mean(0)  # a rule that no label enters
    kept = np.sort(np.argsort(-common, kind="stable")[: min(MOST, (common >= COMMON).sum())])
    values = values[:, kept]
    total = values.sum(1, keepdims=True)
    labels = np.array(matrix.label_names)[matrix.labels[known]] == SETS[name]
    person = matrix.phenotypes.get("ControlVar", np.arange(len(known)))[known]
    return values / total * DEPTH, labels.astype(int), person


def codes(model: str, k: int):
    """Weights of new samples by a model that sees the training part alone, as logarithms of shares."""

    def of(X: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = {"labels": y} if model == "supervised_nmf" else {}
        fitted = nmfnet.fit(
            X, model, loss="kl", n_components=k, tol=1e-4, certificate_tol=None, figures=False,
            threads=1, **own,
        )  # fmt: skip
        return tuple(
            np.log(fitted.transform(part) / DEPTH * scale(fitted) + 1e-3) for part in (X, new)
        )

    return of


def scale(fitted) -> np.ndarray:
    """What a unit of every component adds to the sum of a row."""
    return fitted.components_.sum(1)


def taxa(X: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centred logarithms of the taxa themselves."""
    logs = [np.log(part + 0.5) for part in (X, new)]
    return tuple(part - part.mean(1, keepdims=True) for part in logs)


def logistic(strength: float):
    """A read-out with a ridge."""
    return LogisticRegression(C=strength, max_iter=5000)


def forest(_: float):
    """A read-out without anything to choose."""
    return RandomForestClassifier(300, random_state=0, n_jobs=1)


HEAD = ("data", "way", "labels", "samples", "taxa", "auc", "low", "high", "cpu_seconds")

WAYS = {
    "nmf": [(codes("nmf", k), logistic) for k in SIZES],
    "supervised_nmf": [(codes("supervised_nmf", k), logistic) for k in SIZES],
    "logistic regression of taxa": [(taxa, logistic)],
    "random forest of taxa": [(taxa, forest)],
}


def folds(n: int, X, y, person, seed: int):
    """Rows to fit and rows to score; those of a person are never in both."""
    yield from StratifiedGroupKFold(n, shuffle=True, random_state=seed).split(X, y, person)


def predicted(way, X, y, person, seed: int) -> np.ndarray:
    """Scores of every sample by what was chosen and fitted without it."""
    scores = np.zeros(len(y))
    for train, test in folds(OUTER, X, y, person, seed):
        options = []
        strengths = STRENGTHS if way[0][1] is logistic else (1.0,)
        if len(way) * len(strengths) > 1:
            inner = list(folds(INNER, X[train], y[train], person[train], seed))
            for reader, classifier in way:
                parts = [(reader(X[train][a], y[train][a], X[train][b]), a, b) for a, b in inner]
                for strength in strengths:
                    auc = [
                        roc_auc_score(
                            y[train][b],
                            classifier(strength).fit(one, y[train][a]).predict_proba(other)[:, 1],
                        )
                        for (one, other), a, b in parts
                    ]
                    options.append((np.mean(auc), -len(options), reader, classifier, strength))
            *_, reader, classifier, strength = max(options, key=lambda option: option[:2])
        else:
            (reader, classifier), strength = way[0], 1.0
        one, other = reader(X[train], y[train], X[test])
        scores[test] = classifier(strength).fit(one, y[train]).predict_proba(other)[:, 1]
    return scores


def interval(y: np.ndarray, scores: np.ndarray, person: np.ndarray) -> tuple[float, float]:
    """95 % of the area under the curve over persons drawn anew."""
    rng, people = np.random.default_rng(0), np.unique(person)
    rows = {one: np.flatnonzero(person == one) for one in people}
    found = []
    for _ in range(DRAWN):
        drawn = np.concatenate([rows[one] for one in rng.choice(people, len(people))])
        if 0 < y[drawn].mean() < 1:
            found.append(roc_auc_score(y[drawn], scores[drawn]))
    return tuple(np.percentile(found, (2.5, 97.5)))


def main(folder: Path) -> None:
    """Every data set, with true and with shuffled classes, by every way."""
    table = folder / "auc.csv"
    done = set()
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as stream:
            done = {(row["data"], row["way"], row["labels"]) for row in csv.DictReader(stream)}
    with table.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        if not done:
            writer.writerow(HEAD)
        for name in SETS:
            X, y, person = data_of(name)
            for labels in ("true", "shuffled"):
                known = y if labels == "true" else np.random.default_rng(1).permutation(y)
                for way, readers in WAYS.items():
                    if (name, way, labels) in done:  # go on where a run was stopped
                        continue
                    began = time.process_time()
                    scores = predicted(readers, X, known, person, seed=0)
                    spent = time.process_time() - began
                    auc, (low, high) = roc_auc_score(known, scores), interval(known, scores, person)
                    numbers = (f"{value:.3f}" for value in (auc, low, high))
                    writer.writerow((name, way, labels, *X.shape, *numbers, f"{spent:.1f}"))
                    stream.flush()
                    print(
                        name,
                        way,
                        labels,
                        f"{auc:.3f} ({low:.3f} to {high:.3f}) {spent:.0f} s",
                        flush=True,
                    )
    draw(folder)


def draw(folder: Path) -> None:
    """Areas under the curve with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = list(csv.DictReader((folder / "auc.csv").open()))
    names = list(dict.fromkeys(row["data"] for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(2 + 2.6 * len(names), 2.6), sharey=True)
    ways = list(WAYS)
    for axis, name in zip(axes, names, strict=True):
        for row in (row for row in rows if row["data"] == name):
            at = (
                len(ways) - 1 - ways.index(row["way"]) - (0.2 if row["labels"] == "shuffled" else 0)
            )
            colour = "#332288" if row["labels"] == "true" else "#999999"
            axis.plot(
                [float(row["low"]), float(row["high"])], [at, at], color=colour, linewidth=1.5
            )
            axis.plot(float(row["auc"]), at, "o", color=colour, markersize=4)
        axis.axvline(0.5, color="#cccccc", linewidth=0.8, zorder=0)
        axis.set(xlim=(0.3, 1.0), title=name.removeprefix("microbiome-"))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(ways)), ways[::-1])
    figure.supxlabel("area under the ROC curve (grey: shuffled labels)", fontsize=9)
    figure.tight_layout()
    figure.savefig(folder / "microbiome.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
