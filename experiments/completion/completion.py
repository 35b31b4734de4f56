"""Ratings and choices of MovieLens: factorisations beside simple baselines, on held-out entries.

One tenth of the ratings is held out (every user and film keeps at least one) and never shown to any
side; of the choices (ratings of 4 and more) one fifth. The options of a side are chosen on a tenth of
what is left; then it learns from all of what is left and is scored once.

    python experiments/completion/completion.py          # about 40 minutes of one core

Writes ``completion.csv`` (a line per task, side and seed), ``calibration.png`` and ``popularity.png``
beside this file. ``--splits FOLDER`` also leaves what every side has seen there, for ``peers.py``.
"""

from __future__ import annotations

import argparse
import ast
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from sklearn.decomposition import NMF

import nmfnet
from nmfnet import metrics
from nmfnet.core.model import Factorization
from nmfnet.data import EntrySplit
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.registry import source
from nmfnet.types import Batch

HERE = Path(__file__).parent
SEEDS = range(3)
LOWEST, HIGHEST = 0.5, 5.0
Options = dict[str, Any]


class Said(NamedTuple):
    """What a side says of all pairs, shape (n, f), and how its fit ended."""

    scores: np.ndarray
    status: str = ""
    dot: np.ndarray | None = None  # the same of a tuned dot product, where one is fitted beside it


Side = Callable[[Matrix, Options], Said]
Sides = dict[str, tuple[Side, list[Options]]]
COLUMNS = [
    *("task", "side", "seed", "rmse", "mae", "ndcg@10", "recall@10", "map@10", "auc"),
    *("cpu_seconds", "status", "chosen"),
]


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
    """A model of nmfnet; of a network in place of the dot product, the dot product as well."""

    def side(known: Matrix, options: Options) -> Said:
        fitted = nmfnet.fit(
            known.values, model, mask=known.mask, figures=False, progress=False, threads=1,
            **held, **options,
        )  # fmt: skip
        beside = fitted.beside.get("dot_product")
        dot = None if beside is None else all_of(beside, known.shape[0])
        return Said(all_of(fitted, known.shape[0]), fitted.metrics["status"], dot)

    return side


@torch.no_grad()
def all_of(fitted: Factorization, n: int) -> np.ndarray:
    """X_hat of all pairs of the n training rows, those that are listed and those that are not."""
    rows = Batch(torch.empty(n, 0), torch.arange(n))  # of models with a table of rows
    with fitted.restarts(int(fitted.best)):
        return fitted.decode(fitted.encode(rows)).numpy()


ADAM = {
    "solver": "adam", "solver.lr": 0.01, "solver.relative": False, "batch_size": 12,
    "n_components": 50, "max_iter": 51 * 25,
}  # fmt: skip
NETWORK = {"batch_size": 12, "solver.lr": 0.005, "max_iter": 51 * 10}
PAIRS = {"batch_size": 12, "solver.lr": 0.02, "max_iter": 51 * 10}
RATINGS: Sides = {
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
    "biased_mf, adam": (ours("biased_mf", **ADAM), [{"l2": r} for r in (0.05, 0.1, 0.15)]),
    "autorec": (ours("autorec", max_iter=200), [{"l2": r} for r in (100.0, 200.0, 400.0)]),
    "nnmf": (
        ours("nnmf", **NETWORK),
        [
            {"l2": r, "model.l2_network": s}
            for r, s in ((0.05, 100.0), (0.15, 100.0), (0.05, 1000.0))
        ],
    ),
}
CHOICES: Sides = {
    "popularity": (popularity, [{}]),
    "implicit_mf": (
        ours("implicit_mf", max_iter=20),
        [{"l2": 1.0}, {"l2": 5.0, "model.alpha": 3.0}, {"l2": 10.0, "model.alpha": 10.0}],
    ),
    "bpr": (ours("bpr", **PAIRS), [{"l2": r} for r in (0.02, 0.05, 0.1)]),
    "neumf": (
        ours("neumf", **NETWORK),
        [{"l2": r, "model.l2_network": s} for r, s in ((0.05, 1.0), (0.15, 1.0), (0.05, 100.0))],
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
        **{f"{name}@10": ranks[name] for name in ("ndcg", "recall", "map")},
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
    task: str,
    full: Matrix,
    fraction: float,
    sides: Sides,
    by: str,
    sign: int,
    folder: Path | None,
    before: pd.DataFrame,
    seeds: Iterable[int],
) -> Iterator[dict[str, Any]]:
    """A line for every side and seed; a tuned dot product has one of its own.

    Options that were chosen before are taken as they are.
    """
    for seed in seeds:
        known, held = hold_out(full, fraction, seed)
        if folder is not None:
            for name, table in (("known", known.values), ("held", held)):
                sp.save_npz(folder / f"{task}-{seed}-{name}.npz", table)
        for name, (side, candidates) in sides.items():
            here = (before["task"] == task) & (before["side"] == name) & (before["seed"] == seed)
            of_side = before[here]
            if len(of_side):
                chosen = ast.literal_eval(of_side["chosen"].iloc[0])
            else:
                chosen = best(known, seed, side, candidates, by, sign)
            began = time.process_time()
            said = side(known, chosen)
            seconds = time.process_time() - began
            line = {"task": task, "side": name, "seed": seed, **scored(said.scores, known, held)}
            yield line | {"cpu_seconds": seconds, "status": said.status, "chosen": str(chosen)}
            if said.dot is not None:
                line = {"side": f"dot product beside {name}", **scored(said.dot, known, held)}
                yield {"task": task, "seed": seed, **line}


# ---------------------------------------------------------------------- planted ratings
def tastes(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
    """Ratings by what users like, in two dimensions, and trust among those who like the same."""
    U = rng.normal(size=(150, 2))
    X = 1 + 4 / (1 + np.exp(-1.5 * U @ rng.normal(size=(2, 80)))) + rng.normal(size=(150, 80)) * 0.3
    near = U @ U.T / np.linalg.norm(U, axis=1) / np.linalg.norm(U, axis=1)[:, None] > 0.9
    trust = (rng.random(near.shape) < np.where(near, 0.3, 0.005)) * (1.0 - np.eye(150))
    return X, {"views": {"trust": trust}}


def places(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
    """Logarithms of response times: of the service, of the way to it from one of 15 places, noise."""
    way = rng.normal(size=(15, 3)) @ rng.normal(size=(3, 80)) * 0.5
    X = rng.normal(size=80) + np.repeat(way, 10, axis=0) + rng.normal(size=(150, 80)) * 0.2
    return X, {}


Planted = Callable[[np.random.Generator], tuple[np.ndarray, dict[str, Any]]]
PLANTED: dict[str, tuple[Planted, float, dict[str, Options]]] = {
    "planted trust": (tastes, 0.05, {
        "sorec": {"model": "sorec", "n_components": 2},
        "sorec, trust=0": {"model": "sorec", "n_components": 2, "model.trust": 0.0},
        "biased_mf": {"model": "biased_mf", "n_components": 2},
    }),
    "planted places": (places, 0.1, {
        "nimf": {"model": "nimf", "n_components": 3},
        "nimf, alpha=1": {"model": "nimf", "n_components": 3, "model.alpha": 1.0},
        "biased_mf": {"model": "biased_mf", "n_components": 3},
    }),
}  # fmt: skip


def planted() -> Iterator[dict[str, Any]]:
    """Errors of the entries that are not listed, of a few that are; no option is chosen."""
    for task, (made, share, sides) in PLANTED.items():
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            X, more = made(rng)
            mask = rng.random(X.shape) < share
            mask[np.arange(150), np.arange(150) % 80] = True  # every row and column has one
            for name, options in sides.items():
                own = more if options["model"] == "sorec" else {}
                began = time.process_time()
                fitted = nmfnet.fit(
                    np.where(mask, X, np.nan), mask=mask, figures=False, progress=False,
                    threads=1, max_iter=300, **own, **options,
                )  # fmt: skip
                seconds = time.process_time() - began
                wrong = (all_of(fitted, 150) - X)[~mask]
                yield {
                    "task": task, "side": name, "seed": seed,
                    "rmse": np.sqrt(np.mean(wrong**2)), "mae": np.abs(wrong).mean(),
                    "cpu_seconds": seconds, "status": fitted.metrics["status"],
                    "chosen": str(options),
                }  # fmt: skip


def leaks() -> Iterator[dict[str, Any]]:
    """Alternating least squares of a table in which nobody looks at the mask, and of known entries."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(150, 3)) @ rng.normal(size=(3, 80)) + 0.5 * rng.normal(size=(150, 80))
        mask, begin = rng.random(X.shape) < 0.5, rng.normal(size=(150, 3))
        for name, seen in (("all entries", np.ones_like(mask)), ("known entries", mask)):
            W = begin
            for _ in range(50):
                H = np.stack([lstsq(W[at], x[at]) for x, at in zip(X.T, seen.T, strict=True)])
                W = np.stack([lstsq(H[at], x[at]) for x, at in zip(X, seen, strict=True)])
            wrong = (W @ H.T - X)[~mask]
            yield {
                "task": "leak", "side": f"least squares of {name}", "seed": seed,
                "rmse": np.sqrt(np.mean(wrong**2)), "mae": np.abs(wrong).mean(),
            }  # fmt: skip


def lstsq(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The least squares of A w = b."""
    return np.linalg.lstsq(A, b)[0]


# ---------------------------------------------------------------------- figures
SHOWN = ("biases of users and films", "nmf, squared error", "biased_mf, weighted_als", "autorec")


def figures(full: Matrix, table: pd.DataFrame) -> None:
    """Mean rating by prediction, and error by how often a film was rated, on the first split."""
    from matplotlib.figure import Figure

    from nmfnet.plots import save

    known, held = hold_out(full, 0.1, 0)
    chosen = table[(table["task"] == "ratings") & (table["seed"] == 0)].set_index("side")["chosen"]
    kept = {
        name: RATINGS[name][0](known, ast.literal_eval(chosen[name])).scores[held.nonzero()]
        for name in SHOWN
    }
    bins = np.arange(LOWEST, HIGHEST + 0.5, 0.5)
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(bins[[0, -1]], bins[[0, -1]], color="0.7", lw=1)
    for name in SHOWN:
        said = kept[name]
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
        said = kept[name]
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
    """Every side on every seed, or some; the lines of the others stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=Path)
    parser.add_argument("--only", nargs="*", help="sides, or 'planted'; without any, the figures")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--file", type=Path, default=HERE / "completion.csv")
    asked = parser.parse_args()
    if asked.splits is not None:
        asked.splits.mkdir(parents=True, exist_ok=True)
    full = source("movielens-latest-small").read()
    chosen = source("movielens-latest-small", at_least=4.0).read()
    table, key = pd.DataFrame(columns=COLUMNS), ["task", "side", "seed"]
    if asked.only is not None and asked.file.exists():
        table = pd.read_csv(asked.file)

    def some(sides: Sides) -> Sides:
        wanted = sides if asked.only is None else asked.only
        return {name: side for name, side in sides.items() if name in wanted}

    rest = asked.splits, table, asked.seeds
    lines = chain(
        compare("choices", chosen, 0.2, some(CHOICES), "ndcg@10", -1, *rest),
        compare("ratings", full, 0.1, some(RATINGS), "rmse", 1, *rest),
        chain(leaks(), planted()) if asked.only is None or "planted" in asked.only else (),
    )
    for line in lines:
        if line["task"] == "choices":
            line |= {"rmse": np.nan, "mae": np.nan}
        print(*(f"{v:.4f}" if isinstance(v, float) else v for v in line.values()), flush=True)
        table = pd.concat([table, pd.DataFrame([line], columns=COLUMNS)], ignore_index=True)
        table = table.drop_duplicates(key, keep="last")
        table.to_csv(asked.file, index=False, float_format="%.4f", columns=COLUMNS)
    if not asked.only:
        figures(full, table)
    print(table.groupby(["task", "side"], sort=False)[COLUMNS[3:-2]].mean().round(4).to_string())


if __name__ == "__main__":
    main()
