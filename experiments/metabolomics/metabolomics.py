"""Do components and consensus clusters of urine say who gave it? Tests on samples that chose nothing.

    python experiments/metabolomics/metabolomics.py [FOLDER]

Writes ``tests.csv``, ``metabolites.csv``, ``held_out.csv`` and ``metabolomics.png`` into the folder (its
own by default).

For ten random halves of each data set: one half chooses how many components there are and fits them, no
class is read; on the other half every component is tested against the classes (Mann & Whitney, Kruskal &
Wallis), and so are clusters of its samples (chi-square), by Benjamini & Hochberg's q within a half. Ways:
NMF with the suggested number, NMF with the largest stable one, and principal components and k-means with
as many, on logarithms as they are and at unit variance. Permuted classes say how often chance gives a
p < 0.05.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
from scipy.stats import chi2_contingency, false_discovery_control
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

import nmfnet
from nmfnet.data.sources.registry import source
from nmfnet.metrics import (
    adjusted_rand,
    associate,
    consensus_clusters,
    consensus_matrix,
    feature_scores,
)

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SETS = {
    "sacurine, 120": ("metab-sacurine", {}),
    "gastric, 53": ("metab-gastric-nmr", {}),
    "gastric, 149": ("metab-gastric-nmr", {"max_rsd": None}),
}
RANKS, HALVES, STARTS, PERMUTATIONS, TOP = "2:8", 10, 30, 200, 5
SHOWN = "NMF, largest stable"
SETTINGS = {"threads": 1, "tol": 1e-4, "certificate_tol": None}
HEAD = ("data", "half", "way", "k", "effect", "q", "sure", "clusters_V", "clusters_p", "clusters_q",
        "ari", "null", "clusters_null")  # fmt: skip


def consensus(X: np.ndarray, seen: np.ndarray | None, k: int):
    """A model from many starts, and how often two samples have the same largest component."""
    fitted = nmfnet.fit(X, n_components=k, mask=seen, n_restarts=STARTS, figures=False, **SETTINGS)
    W, H = (fitted.factors[name]().detach().numpy() for name in ("W", "H"))
    return fitted, consensus_matrix(W, H)


def chi_square(clusters: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Cramér's V and p."""
    one, other = (np.unique(codes, return_inverse=True)[1] for codes in (clusters, classes))
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), 1)
    if min(table.shape) < 2:
        return 0.0, 1.0
    found = chi2_contingency(table, correction=False)
    return np.sqrt(found.statistic / (table.sum() * (min(table.shape) - 1))), found.pvalue


def tested(scores: np.ndarray, clusters: np.ndarray, classes: np.ndarray) -> tuple:
    """What the tests of one half say, the columns of the table from ``effect`` on."""
    names = [f"C{j + 1}" for j in range(scores.shape[1])]
    found = associate(scores, {"class": classes}, names, permutations=PERMUTATIONS)
    rows = [row for row in found.rows if row.component != "largest"]
    V, p = chi_square(clusters, classes)
    *q, of_clusters = false_discovery_control([*(row.p for row in rows), p])
    best = int(np.argmin(q))
    rng = np.random.default_rng(0)
    chance = [chi_square(clusters, rng.permutation(classes))[1] for _ in range(PERMUTATIONS)]
    return (abs(rows[best].effect), q[best], sum(one < 0.05 for one in q), V, p, of_clusters,
            adjusted_rand(classes, clusters), found.null, np.mean(np.less(chance, 0.05)))  # fmt: skip


def principal(X: np.ndarray, seen: np.ndarray, held: np.ndarray, k: int):
    """Scores of the held-out half on components of the other, and k-means of the half's own."""
    centred = np.where(seen, X - np.nanmean(np.where(seen, X, np.nan)[~held], 0), 0.0)
    own = PCA(k, random_state=0).fit_transform(centred[held])
    clusters = KMeans(k, n_init=STARTS, random_state=0).fit_predict(own)
    return PCA(k, random_state=0).fit(centred[~held]).transform(centred[held]), clusters


def one_half(name: str, matrix, half: int) -> list[tuple]:
    """Rows of the table."""
    X, mask = np.asarray(matrix.values), matrix.mask
    seen = np.ones(X.shape, bool) if mask is None else np.asarray(mask)
    classes = np.array(matrix.label_names, dtype=object)[matrix.labels]
    held = np.random.default_rng(half).permutation(len(X)) < len(X) // 2
    rows = []
    for unit, word in ((False, ""), (True, ", unit variance")):
        Z = X / np.nanstd(np.where(seen, X, np.nan)[~held], 0) if unit else X
        ranks = suggested(Z[~held], None if mask is None else seen[~held], half)
        ways = {"suggested": ranks.n_components, "largest stable": max(stable(ranks))}
        for way, k in ways.items():
            ours = None if mask is None else seen[held]
            W = nmfnet.project(Z[held], ranks.ranks[k].components, mask=ours, **SETTINGS)
            clusters = consensus_clusters(consensus(Z[held], ours, k)[1], k)
            found = tested(W, clusters, classes[held])
            rows.append((name, half, f"NMF, {way}{word}", k, *found))
        found = tested(*principal(Z, seen, held, k), classes[held])
        rows.append((name, half, f"PCA and k-means{word}", k, *found))
    return rows


def suggested(X: np.ndarray, seen: np.ndarray | None, seed: int):
    """How many components, by what they predict of held-out entries among the stable numbers."""
    quick = {"selection.intervals": False, "selection.ard": 0}
    return nmfnet.select_rank(X, RANKS, mask=seen, seed=seed, **SETTINGS, **quick)


def stable(ranks) -> list[int]:
    """Numbers of components on which replicates agree."""
    return ranks.suggestion.stable or [ranks.n_components]


def extremes(folder: Path) -> None:
    """``held_out.csv``: the worst that fits say of the entries of sacurine that they were not shown."""
    X = source("metab-sacurine").read().values
    rows = [("k", "draw", "largest_value", "largest_prediction", "share_of_error_by_one_entry")]
    for k in (2, 5, 8):
        for draw in range(6):
            seen = np.random.default_rng(draw).random(X.shape) > 0.2
            fitted = nmfnet.fit(X, n_components=k, mask=seen, seed=draw, figures=False, **SETTINGS)
            W = fitted.factors["W"]()[0].detach().numpy() * fitted.units.code
            found = (W @ fitted.components_)[~seen]
            error = (found - X[~seen]) ** 2
            rows.append((k, draw, *map(said, (X.max(), found.max(), error.max() / error.sum()))))
    with (folder / "held_out.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def said(value) -> str:
    """A cell of the table."""
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)


def main(folder: Path) -> None:
    """Every half, then components of all samples, and the figure; goes on where it was stopped."""
    table = folder / "tests.csv"
    rows = [*csv.DictReader(table.open())] if table.is_file() else []
    done = {(row["data"], int(row["half"])) for row in rows}
    with table.open("a", newline="") as stream:
        writer = csv.writer(stream)
        if not rows:
            writer.writerow(HEAD)
        for name, (data, options) in SETS.items():
            matrix = source(data, **options).read()
            for half in (half for half in range(HALVES) if (name, half) not in done):
                for row in one_half(name, matrix, half):
                    writer.writerow(map(said, row))
                    print(*map(said, row), flush=True)
                stream.flush()
    rows = [*csv.DictReader(table.open())]
    leading, pictures = [("data", "component", "classes", "metabolites")], {}
    for name, (data, options) in SETS.items():
        chosen = Counter(r["k"] for r in rows if (r["data"], r["way"]) == (name, SHOWN))
        k, matrix = int(chosen.most_common(1)[0][0]), source(data, **options).read()
        fitted, agreed = consensus(matrix.values, matrix.mask, k)
        H, W = fitted.components_, fitted.factors["W"]()[int(fitted.best)].detach().numpy()
        shares = W * H.sum(1)
        shares /= shares.sum(1, keepdims=True)
        scores = feature_scores(H)
        for j in range(k):
            own = [i for i in np.argsort(-scores) if H[:, i].argmax() == j][:TOP]
            mean = ", ".join(
                f"{label} {100 * shares[matrix.labels == c, j].mean():.0f} %"
                for c, label in enumerate(matrix.label_names)
            )
            leading.append((name, j + 1, mean, "; ".join(matrix.feature_names[i] for i in own)))
        pictures[name] = matrix, consensus_clusters(agreed, k), agreed
    with (folder / "metabolites.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(leading)
    extremes(folder)
    draw(folder, rows, pictures)


def draw(folder: Path, rows: list[dict[str, str]], pictures: dict) -> None:
    """Consensus of the samples beside their classes, and the p of the clusters of every half."""
    figure, axes = plt.subplots(
        1, 4, figsize=(13, 3.4), width_ratios=(1, 1, 1, 1.1), layout="constrained"
    )
    colours = np.array([[0.2, 0.13, 0.53], [0.87, 0.8, 0.47], [0.53, 0.13, 0.33]])
    for axis, (name, (matrix, clusters, agreed)) in zip(axes, pictures.items(), strict=False):
        order = np.lexsort((matrix.labels, clusters))
        n = len(order)
        axis.imshow(
            agreed[np.ix_(order, order)],
            cmap="Greys",
            vmin=0,
            vmax=1,
            aspect="auto",
            interpolation="nearest",
        )
        strip = colours[matrix.labels[order]][None]
        axis.imshow(strip, extent=(-0.5, n - 0.5, -0.5, -0.08 * n), aspect="auto")
        axis.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.08 * n), xticks=[], yticks=[])
        axis.set_title(f"{name}, k = {clusters.max() + 1}", fontsize=9)
        for j, label in enumerate(matrix.label_names):
            at = (j + 0.5) / len(matrix.label_names)
            axis.text(at, -0.08, label, color=0.8 * colours[j], fontsize=8, ha="center",
                      transform=axis.transAxes)  # fmt: skip
    ways = list(dict.fromkeys(row["way"] for row in rows))
    names = list(pictures)
    for i, way in enumerate(ways):
        for j, name in enumerate(names):
            p = [float(r["clusters_p"]) for r in rows if (r["data"], r["way"]) == (name, way)]
            at = i + 0.22 * (j - 1)
            axes[-1].plot(-np.log10(p), np.full(len(p), at), "o", markersize=3, color=f"C{j}",
                          alpha=0.6, label=name if i == 0 else None)  # fmt: skip
    axes[-1].axvline(-np.log10(0.05), color="#999999", linewidth=0.8)
    axes[-1].set_yticks(
        range(len(ways)), [way.replace(", unit", ",\nunit") for way in ways], fontsize=7
    )
    axes[-1].set_ylim(len(ways) - 0.5, -0.5)
    axes[-1].set_xlabel("-log10 p of the clusters, ten halves (line: 0.05)", fontsize=8)
    axes[-1].tick_params(axis="x", labelsize=7)
    axes[-1].spines[["top", "right"]].set_visible(False)
    axes[-1].legend(fontsize=7, loc="upper right")
    figure.savefig(folder / "metabolomics.png", dpi=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
