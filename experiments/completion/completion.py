"""Ratings and choices of MovieLens: factorisations beside simple baselines, on held-out entries.

One tenth of the ratings is held out (every user and film keeps at least one) and never shown to any
side; of the choices (ratings of 4 and more) one fifth. The options of a side are chosen on a tenth of
what is left; then it learns from all of what is left and is scored once.

    python experiments/completion/completion.py          # about ten minutes of one core

Writes ``completion.csv`` (a line per task, side and seed), ``calibration.png`` and ``popularity.png``
beside this file. ``--splits FOLDER`` also leaves what every side has seen there, for ``peers.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from sklearn.decomposition import NMF

import nmfnet
from nmfnet import metrics
from nmfnet.data import EntrySplit
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.registry import source

HERE = Path(__file__).parent
SEEDS = range(3)
LOWEST, HIGHEST = 0.5, 5.0
Options = dict[str, Any]


class Said(NamedTuple):
    """What a side says of all pairs, shape (n, f), and how its fit ended."""

    scores: np.ndarray
    status: str = ""


Side = Callable[[Matrix, Options], Said]


def hold_out(matrix: Matrix, fraction: float, seed: int) -> tuple[Matrix, sp.csr_matrix]:
    """The matrix without some of its entries, and these."""
    held = EntrySplit(fraction=fraction)(matrix, seed).held_out.astype(float)
    mask = sp.csr_matrix(matrix.mask.astype(float) - held)
    mask.eliminate_zeros()
    values = sp.csr_matrix(matrix.values.multiply(mask))
    known = replace(matrix, values=values, mask=mask.astype(bool), times=None)
    return known, sp.csr_matrix(matrix.values.multiply(held))


# ---------------------------------------------------------------------- sides
def global_mean(known: Matrix, options: Options) -> Said:
    """The mean of all known ratings."""
    return Said(np.full(known.shape, known.values.sum() / known.mask.sum()))


def biases(known: Matrix, options: Options) -> Said:
    """Mean + user + film, by alternating ridge regressions."""
    rows, columns = known.mask.nonzero()
    x = np.asarray(known.values[rows, columns]).ravel()
    mean, user, film = x.mean(), np.zeros(known.shape[0]), np.zeros(known.shape[1])
    n_user, n_film = (
        np.bincount(at, minlength=n) for at, n in zip((rows, columns), known.shape, strict=True)
    )
    for _ in range(30):
        user = np.bincount(rows, x - mean - film[columns], user.size) / (n_user + options["ridge"])
        film = np.bincount(columns, x - mean - user[rows], film.size) / (n_film + options["ridge"])
    return Said(mean + user[:, None] + film)


def zeros_for_missing(known: Matrix, options: Options) -> Said:
    """scikit-learn's NMF, for which what is not rated is a rating of 0."""
    model = NMF(**options, init="nndsvda", max_iter=300, tol=1e-4)
    return Said(model.fit_transform(known.values) @ model.components_)


def popularity(known: Matrix, options: Options) -> Said:
    """How many users have chosen a film."""
    return Said(np.tile(np.asarray(known.values.sum(0)), (known.shape[0], 1)))


def nmf(known: Matrix, options: Options) -> Said:
    """NMF on the known ratings alone, ridge on both factors."""
    on = {
        f"penalty.l2_{name}": {"_target_": "nmfnet.core.penalties.L2", "on": name, "weight": 1.0}
        for name in "WH"
    }
    return ours("nmf", solver="newton", tol=1e-4, max_iter=300, **on)(known, options)


def ours(model: str, **held: Any) -> Side:
    """A model of nmfnet."""

    def side(known: Matrix, options: Options) -> Said:
        fitted = nmfnet.fit(
            known.values, model, mask=known.mask, figures=False, progress=False, threads=1,
            **held, **options,
        )  # fmt: skip
        tables = [f()[int(fitted.best)] for f in fitted.code_factors().values()]
        code = torch.cat(tables, -1).detach().numpy() * fitted.units.code
        return Said(fitted.inverse_transform(code), fitted.metrics["status"])

    return side


ADAM = {
    "solver": "adam", "solver.lr": 0.01, "solver.relative": False, "batch_size": 12,
    "n_components": 50, "max_iter": 51 * 25,
}  # fmt: skip
RATINGS: dict[str, tuple[Side, list[Options]]] = {
    "mean of all ratings": (global_mean, [{}]),
    "biases of users and films": (biases, [{"ridge": r} for r in (2.0, 5.0, 10.0)]),
    "missing as zero (scikit-learn)": (
        zeros_for_missing,
        [{"n_components": k} for k in (5, 10, 20)],
    ),
    "nmf, squared error": (nmf, [{"n_components": k} for k in (1, 2, 5)]),
    "nmf, KL": (nmf, [{"n_components": k, "loss": "kl"} for k in (1, 2, 5)]),
    "rsnmf": (ours("rsnmf", max_iter=60), [{"l2": r} for r in (0.06, 0.1, 0.15)]),
    "soft_impute": (ours("soft_impute", max_iter=60), [{"l2": r} for r in (10.0, 15.0, 20.0)]),
    "biased_mf, weighted_als": (
        ours("biased_mf", max_iter=40),
        [{"l2": r} for r in (0.1, 0.15, 0.2)],
    ),
    "biased_mf, adam": (ours("biased_mf", **ADAM), [{"l2": 0.1}]),
}
CHOICES: dict[str, tuple[Side, list[Options]]] = {
    "popularity": (popularity, [{}]),
    "implicit_mf": (
        ours("implicit_mf", max_iter=20),
        [{"l2": 1.0}, {"l2": 5.0, "model.alpha": 3.0}, {"l2": 10.0, "model.alpha": 10.0}],
    ),
}


# ---------------------------------------------------------------------- scores
def scored(said: np.ndarray, known: Matrix, held: sp.csr_matrix) -> dict[str, float]:
    """Errors of clipped predictions, and how early wanted films rank among all."""
    wrong = np.clip(said[held.nonzero()], LOWEST, HIGHEST) - held.data
    ranks = metrics.ranking_metrics(
        lambda rows: said[rows], known.values, held, known.values.data.mean()
    )
    return {
        "rmse": float(np.sqrt(np.mean(wrong**2))),
        "mae": float(np.abs(wrong).mean()),
        "ndcg@10": ranks["ndcg"],
        "auc": ranks["auc"],
    }


def best(
    known: Matrix, seed: int, side: Side, candidates: list[Options], by: str, sign: int
) -> Options:
    """The options with the best score on a tenth of the known entries."""
    if len(candidates) == 1:
        return candidates[0]
    inner, held = hold_out(known, 0.1, seed + 1000)
    return min(candidates, key=lambda c: sign * scored(side(inner, c).scores, inner, held)[by])


def compare(
    task: str, full: Matrix, fraction: float, sides: dict[str, tuple[Side, list[Options]]],
    by: str, sign: int, folder: Path | None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:  # fmt: skip
    """A line for every side and seed, and what was said on the first seed."""
    lines, kept = [], {}
    for seed in SEEDS:
        known, held = hold_out(full, fraction, seed)
        if folder is not None:
            for name, table in (("known", known.values), ("held", held)):
                sp.save_npz(folder / f"{task}-{seed}-{name}.npz", table)
        for name, (side, candidates) in sides.items():
            chosen = best(known, seed, side, candidates, by, sign)
            began = time.process_time()
            said = side(known, chosen)
            seconds = time.process_time() - began
            numbers = scored(said.scores, known, held)
            if task == "choices":
                numbers |= {"rmse": np.nan, "mae": np.nan}
            lines.append(
                {"task": task, "side": name, "seed": seed, **numbers, "cpu_seconds": seconds,
                 "status": said.status, "chosen": str(chosen)}
            )  # fmt: skip
            print(*(str(v)[:9] for v in lines[-1].values()), flush=True)
            if seed == 0:
                kept[name] = (said.scores[held.nonzero()], known, held)
    return lines, kept


# ---------------------------------------------------------------------- figures
SHOWN = ("biases of users and films", "nmf, squared error", "rsnmf", "biased_mf, weighted_als")


def figures(kept: dict[str, Any]) -> None:
    """Mean rating by prediction, and error by how often a film was rated."""
    from matplotlib.figure import Figure

    from nmfnet.plots import save

    bins = np.arange(LOWEST, HIGHEST + 0.5, 0.5)
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(bins[[0, -1]], bins[[0, -1]], color="0.7", lw=1)
    for name in SHOWN:
        said, _, held = kept[name]
        at = np.digitize(np.clip(said, LOWEST, HIGHEST), bins)
        some = [i for i in np.unique(at) if (at == i).sum() >= 30]
        axes.plot(
            [np.clip(said, LOWEST, HIGHEST)[at == i].mean() for i in some],
            [held.data[at == i].mean() for i in some], "o-", ms=4, label=name,
        )  # fmt: skip
    axes.set(xlabel="predicted rating, in bins of a half", ylabel="mean held-out rating")
    axes.set(xlim=(0, 5.2), ylim=(0, 5.2), aspect="equal")
    axes.legend(frameon=False, fontsize=8)
    save(figure, HERE / "calibration.png")
    figure = Figure(figsize=(5.5, 3.5), layout="constrained")
    axes = figure.add_subplot()
    edges = (1, 2, 4, 8, 16, 32, 64, 128, 1000)
    for name in SHOWN:
        said, known, held = kept[name]
        counts = known.mask.getnnz(axis=0)[held.nonzero()[1]]
        at = np.digitize(counts, edges)
        errors = [
            np.sqrt(np.mean((np.clip(said, LOWEST, HIGHEST) - held.data)[at == i] ** 2))
            for i in range(1, len(edges))
        ]
        axes.plot(range(1, len(edges)), errors, "o-", ms=4, label=name)
    words = [f"{a}" if b == a + 1 else f"{a}-{b - 1}" for a, b in pairwise(edges)]
    axes.set_xticks(range(1, len(edges)), [*words[:-1], "128+"])
    axes.set(xlabel="known ratings of the film", ylabel="RMSE of held-out ratings")
    axes.legend(frameon=False, fontsize=8)
    save(figure, HERE / "popularity.png")


def main() -> None:
    """Every side on every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=Path)
    folder = parser.parse_args().splits
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    chosen = source("movielens-latest-small", at_least=4.0).read()
    lines, _ = compare("choices", chosen, 0.2, CHOICES, "ndcg@10", -1, folder)
    full = source("movielens-latest-small").read()
    more, kept = compare("ratings", full, 0.1, RATINGS, "rmse", 1, folder)
    table = pd.DataFrame([*more, *lines])
    table.to_csv(HERE / "completion.csv", index=False, float_format="%.4f")
    figures(kept)
    means = table.groupby(["task", "side"], sort=False)[["rmse", "mae", "ndcg@10", "cpu_seconds"]]
    print(means.agg(["mean", "std"]).round(4).to_string())


if __name__ == "__main__":
    main()
