"""Does a variational autoencoder beat NMF on counts of single cells? Eight sides on the same terms.

The counts of every cell are split in two halves, molecule by molecule. A side learns from first halves
of the training cells, reads the first half of a held-out cell, and predicts its second half. All
predictions are scored by one distribution: the negative binomial with the side's mean and, for each
gene, the inverse dispersion that suits its predictions of the second halves of the training cells.

    python experiments/cells/cells.py run OUT.csv [DATA ...]     # about 6 CPU minutes for all
    python experiments/cells/cells.py mixtures OUT.csv
    python experiments/cells/cells.py figure IN.csv OUT.png

``DATA`` are sc-mixology-5cl, rnamix-cells, pbmc68k-reduced and worm-neuron-sc; the last two need
h5py. A line is added to ``OUT.csv`` as soon as a side is done; lines that are there are not repeated.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

import nmfnet
from nmfnet.config import build
from nmfnet.core.likelihoods import DISPERSIONS
from nmfnet.data.sources.origin import cache_folder
from nmfnet.kernels.counts import better_dispersion, negative_binomial
from nmfnet.settings.words import configuration

K, GENES, CELLS = 10, 500, 1000
FLOOR = 0.01
"""Share of every prediction that is the mean profile, so that no side predicts 0 for sure."""

NETWORK = {"solver.n_inner": 20, "tol": 1e-4, "patience": 15}
"""The presets, judged every 20 iterations instead of every 100, and ended after 300 without a gain."""

SIDES: dict[str, dict[str, Any]] = {
    "NMF squared": {"model": "nmf", "loss": "frobenius"},
    "NMF KL": {"model": "nmf", "loss": "kl"},
    "NMF NB": {"model": "nmf", "loss": "negative_binomial"},
    "LDVAE": {"model": "ldvae", **NETWORK},
    "VAE NB": {"model": "vae", **NETWORK},
    "VAE ZINB": {"model": "vae", "loss": "zinb", **NETWORK},
    "scVI": {"model": "scvi", **NETWORK},
    "DCA": {"model": "dca", **NETWORK},
}


class Fitted(NamedTuple):
    """A side that has learned: codes and means of counts, and how it ended."""

    code: Callable[[np.ndarray], np.ndarray]
    mean: Callable[[np.ndarray], np.ndarray]
    ended: str
    n_iter: int


# ---------------------------------------------------------------------- data
def cells(name: str) -> tuple[np.ndarray, list[str]]:
    """Counts of the genes that vary most, and the class of every cell."""
    if name in ("sc-mixology-5cl", "rnamix-cells"):
        matrix = build(configuration({"data": name, "data.top_genes": GENES}).data).read()
        assert matrix.labels is not None
        return np.asarray(matrix.values), [(matrix.label_names or [])[i] for i in matrix.labels]
    import h5py

    if name == "worm-neuron-sc":
        with h5py.File(cache_folder() / name / "worm_neuron_cell.h5") as stored:
            some = np.sort(np.random.default_rng(0).permutation(len(stored["Y"]))[:CELLS])
            counts, labels = stored["X"][()][some], stored["Y"][()][some]
        return varying(counts), [str(int(label)) for label in labels]
    with h5py.File(cache_folder() / name / "10x_pbmc68k_reduced.h5ad") as stored:
        raw, total = stored["raw/X"], stored["obs/n_counts"][()]
        logs = np.zeros(tuple(raw.attrs["shape"]))
        rows = np.repeat(np.arange(len(total)), np.diff(raw["indptr"][()]))
        logs[rows, raw["indices"][()]] = raw["data"][()]
        kinds = stored["obs/bulk_labels"]
        names = kinds["categories"].asstr()[()]
        labels = [str(names[code]) for code in kinds["codes"][()]]
    return varying(np.round(np.expm1(logs) * total[:, None] / 1e4)), labels


def varying(counts: np.ndarray) -> np.ndarray:
    """The genes of which log(1 + counts at the median depth) has the largest variance."""
    depth = counts.sum(1, keepdims=True)
    spread = np.log1p(counts / np.maximum(depth, 1) * np.median(depth)).var(0)
    return counts[:, np.sort(np.argsort(-spread, kind="stable")[:GENES])]


# ---------------------------------------------------------------------- sides
def principal(train: np.ndarray) -> Fitted:
    """PCA of log(1 + counts at the median depth)."""
    from sklearn.decomposition import PCA

    depth = float(np.median(train.sum(1)))

    def level(x: np.ndarray) -> np.ndarray:
        return np.log1p(x / np.maximum(x.sum(1, keepdims=True), 1) * depth)

    pca = PCA(K).fit(level(train))

    def mean(x: np.ndarray) -> np.ndarray:
        made = np.expm1(pca.inverse_transform(pca.transform(level(x)))).clip(0)
        return made / made.sum(1, keepdims=True) * x.sum(1, keepdims=True)

    return Fitted(lambda x: pca.transform(level(x)), mean, "closed form", 0)


def learned(settings: dict[str, Any], train: np.ndarray) -> Fitted:
    """A model of nmfnet."""
    words = {"n_components": K, "figures": False, "threads": 1, **settings}
    fitted = nmfnet.fit(train, **words)

    def code(x: np.ndarray) -> np.ndarray:
        found = fitted.transform(x)
        if fitted.code == "real":
            return found
        amounts = found * fitted.components_.sum(1)
        return amounts / amounts.sum(1, keepdims=True).clip(1e-12)

    numbers = fitted.metrics
    return Fitted(code, fitted.reconstruct, str(numbers["status"]), int(numbers["n_iter"]))


# ---------------------------------------------------------------------- scores
def score(side: Fitted, first: np.ndarray, second: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Log-probability of the second half of every test cell, in nats."""
    train = ~test
    profile = first[train].sum(0) / first[train].sum()

    def mean(rows: np.ndarray) -> torch.Tensor:
        x = first[rows]
        floor = x.sum(1, keepdims=True) * profile + 1e-6
        return torch.from_numpy((1 - FLOOR) * side.mean(x).astype(float) + FLOOR * floor)

    theta, seen = torch.ones(1, first.shape[1], dtype=torch.float64), mean(train)
    for _ in range(30):
        theta = better_dispersion(torch.from_numpy(second[train]), seen, theta, None, DISPERSIONS)
    return negative_binomial(torch.from_numpy(second[test]), mean(test), theta).sum(1).numpy()


def agreement(code: np.ndarray, labels: list[str]) -> tuple[float, float]:
    """ARI and NMI of k-means with as many clusters as there are classes."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    found = KMeans(len(set(labels)), n_init=10, random_state=0).fit_predict(code)
    return adjusted_rand_score(labels, found), normalized_mutual_info_score(labels, found)


def run(out: Path, names: list[str]) -> None:
    """Every side on every data set; a line for each."""
    done = (
        set() if not out.exists() else {tuple(r) for r in pd.read_csv(out)[["data", "side"]].values}
    )
    for name in names:
        counts, labels = cells(name)
        rng = np.random.default_rng(0)
        first = rng.binomial(counts.astype(int), 0.5).astype(float)
        second = counts - first
        kept = (first.sum(1) > 0) & (second.sum(1) > 0)
        first, second = first[kept], second[kept]
        labels = [label for label, keep in zip(labels, kept, strict=True) if keep]
        test = np.isin(np.arange(len(first)), rng.permutation(len(first))[: len(first) // 5])
        learned(
            {"model": "nmf", "loss": "negative_binomial", "max_iter": 2}, first[:50]
        )  # compiled
        for side in ["PCA", *SIDES]:
            if (name, side) in done:
                continue
            began = time.process_time()
            made = principal(first[~test]) if side == "PCA" else learned(SIDES[side], first[~test])
            seconds = time.process_time() - began
            nats = score(made, first, second, test)
            own = [label for label, held in zip(labels, test, strict=True) if not held]
            ari, nmi = agreement(made.code(first[~test]), own)
            row = {
                "data": name, "side": side, "cells": int((~test).sum()), "test": int(test.sum()),
                "genes": first.shape[1], "nats": nats.mean(), "ari": ari, "nmi": nmi,
                "cpu_seconds": seconds, "n_iter": made.n_iter, "ended": made.ended,
                "per_cell": " ".join(f"{v:.2f}" for v in nats),
            }  # fmt: skip
            add(out, row)
            print(name, side, f"{nats.mean():.1f} {ari:.2f} {nmi:.2f} {seconds:.1f}", made.ended)


def add(out: Path, row: dict[str, Any]) -> None:
    """A line more."""
    new = not out.exists()
    with out.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


# ---------------------------------------------------------------------- mixtures of three lines
def mixtures(out: Path) -> None:
    """How well codes of three components follow the true proportions of three cell lines."""
    matrix = build(configuration({"data": "rnamix-cells", "data.top_genes": GENES}).data).read()
    about = pd.read_csv(
        cache_folder() / "sc-mixology-rnamix" / "RNAmix_celseq2.metadata.csv.gz", index_col=0
    ).loc[matrix.sample_names]
    truth = about[["H2228_prop", "H1975_prop", "HCC827_prop"]].to_numpy(float)
    for side in ("NMF KL", "NMF NB", "LDVAE"):
        made = learned({**SIDES[side], "n_components": 3}, np.asarray(matrix.values))
        code = made.code(np.asarray(matrix.values))
        r = np.corrcoef(code.T, truth.T)[:3, 3:]
        best = max(permutations(range(3)), key=lambda p: np.abs(r[range(3), p]).sum())
        design = np.column_stack([code, np.ones(len(code))])
        fit = design @ np.linalg.lstsq(design, truth, rcond=None)[0]
        row = {
            "side": side, "r_of_components": float(np.abs(r[range(3), best]).mean()),
            "r_linear": float(np.corrcoef(fit.ravel(), truth.ravel())[0, 1]), "ended": made.ended,
        }  # fmt: skip
        add(out, row)
        print(row)


# ---------------------------------------------------------------------- picture
def figure(source: Path, out: Path) -> None:
    """Nats per held-out cell above NMF KL, with twice the standard error of the differences."""
    from nmfnet.plots import save, style

    table = pd.read_csv(source)
    names = list(dict.fromkeys(table["data"]))
    sides = ["PCA", *SIDES]
    picture = style.new_figure(1.3 + 1.75 * len(names), style.HEAD + 2.9)
    style.heading(
        picture,
        "Held-out log-probability of second halves: nats per cell above NMF KL",
        "Right of the line is better. Bars: two standard errors of the differences over the cells.",
    )
    for i, name in enumerate(names):
        own = table[table["data"] == name].set_index("side")
        base = np.array(own.loc["NMF KL", "per_cell"].split(), float)
        axes = style.panel(
            picture, 1.1 + 1.75 * i, style.HEAD + 0.2, 1.5, 2.2, label=name, grid="x"
        )
        for at, side in enumerate(sides):
            gap = np.array(own.loc[side, "per_cell"].split(), float) - base
            wide = 2 * gap.std(ddof=1) / len(gap) ** 0.5
            colour = style.SECOND if side.startswith(("NMF", "PCA")) else style.MAIN
            axes.errorbar(gap.mean(), -at, xerr=wide, fmt="o", color=colour, markersize=4, lw=1.2)
        axes.axvline(0, color=style.GREY, lw=0.8, zorder=0)
        axes.set_yticks(-np.arange(len(sides)), sides if i == 0 else [""] * len(sides))
        style.label_axes(axes, x="nats", title=name)
    save(picture, out)


if __name__ == "__main__":
    known = ["sc-mixology-5cl", "rnamix-cells", "pbmc68k-reduced", "worm-neuron-sc"]
    task, *words = sys.argv[1:]
    if task == "run":
        run(Path(words[0]), words[1:] or known)
    elif task == "mixtures":
        mixtures(Path(words[0]))
    else:
        figure(Path(words[0]), Path(words[1]))
