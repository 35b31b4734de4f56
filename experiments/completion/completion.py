"""Matrix completion on MovieLens: held-out error of NMF on the observed ratings, beside its baselines.

One tenth of the ratings is held out (every user and film keeps at least one) and never shown to any
side. Rank and ridge are chosen on a tenth of what is left; then each side learns from all of what is
left and is scored once. Predictions of every side are clipped to the scale of the ratings.

    python experiments/completion/completion.py        # about 10 minutes

Writes ``completion.csv`` (a line per side and seed) beside this file and prints the table.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.decomposition import NMF

import nmfnet
from nmfnet.data import EntrySplit
from nmfnet.data.matrix import Matrix
from nmfnet.settings.objects import build
from nmfnet.settings.words import configuration

HERE = Path(__file__).parent
SEEDS = range(3)
RANKS = (1, 2, 5)
RIDGES = (1.0, 3.0)
RIDGES_PER_ENTRY = (0.1, 0.15, 0.2)
LOWEST, HIGHEST = 0.5, 5.0
Entries = tuple[np.ndarray, np.ndarray]


def ratings() -> Matrix:
    """Users in rows, films in columns, CSR with the mask of what is rated."""
    cfg = configuration({"data": "movielens-latest-small", "data.sparse": True})
    return build(cfg.data).read()


def hold_out(matrix: Matrix, seed: int) -> tuple[Matrix, Entries]:
    """The matrix without a tenth of its ratings, and where these are."""
    held = EntrySplit(fraction=0.1)(matrix, seed).held_out.astype(float)
    mask = sp.csr_matrix(matrix.mask.astype(float) - held)
    mask.eliminate_zeros()
    values = sp.csr_matrix(matrix.values.multiply(mask))
    return replace(matrix, values=values, mask=mask.astype(bool)), held.nonzero()


def rmse(matrix: Matrix, at: Entries, predicted: np.ndarray) -> float:
    """Root mean squared error of some ratings."""
    truth = np.asarray(matrix.values[at]).ravel()
    return float(np.sqrt(np.mean((np.clip(predicted, LOWEST, HIGHEST) - truth) ** 2)))


# ---------------------------------------------------------------------- sides
def global_mean(known: Matrix, at: Entries) -> np.ndarray:
    """The mean of all known ratings."""
    return np.full(at[0].size, known.values.sum() / known.mask.sum())


def biases(known: Matrix, at: Entries, ridge: float = 5.0) -> np.ndarray:
    """Mean + user + film, by alternating ridge regressions."""
    rows, columns = known.mask.nonzero()
    x = np.asarray(known.values[rows, columns]).ravel()
    mean, user, film = x.mean(), np.zeros(known.shape[0]), np.zeros(known.shape[1])
    n_user, n_film = (
        np.bincount(rows, minlength=user.size),
        np.bincount(columns, minlength=film.size),
    )
    for _ in range(30):
        user = np.bincount(rows, x - mean - film[columns], user.size) / (n_user + ridge)
        film = np.bincount(columns, x - mean - user[rows], film.size) / (n_film + ridge)
    return mean + user[at[0]] + film[at[1]]


def zeros_for_missing(known: Matrix, at: Entries, rank: int) -> np.ndarray:
    """scikit-learn's NMF, for which what is not rated is a rating of 0."""
    model = NMF(rank, init="nndsvda", max_iter=300, tol=1e-4)
    W = model.fit_transform(known.values)
    return (W[at[0]] * model.components_.T[at[1]]).sum(-1)


def completion(known: Matrix, at: Entries, rank: int, ridge: float, loss: str) -> np.ndarray:
    """NMF on the known ratings alone, ridge on both factors."""
    on = {
        f"penalty.l2_{name}": {"_target_": "nmfnet.core.penalties.L2", "on": name, "weight": ridge}
        for name in "WH"
    }
    fitted = nmfnet.fit(
        known.values, mask=known.mask, n_components=rank, loss=loss, solver="newton", tol=1e-4,
        max_iter=300, **on
    )  # fmt: skip
    W = fitted.factors["W"]().detach().numpy()[int(fitted.best)]
    return (W[at[0]] * fitted.components_.T[at[1]]).sum(-1)


def biased(known: Matrix, at: Entries, rank: int, ridge: float) -> np.ndarray:
    """Biases and factors of any sign, a ridge per listed entry."""
    fitted = nmfnet.fit(
        known.values, "biased_mf", mask=known.mask, n_components=rank, l2=ridge, max_iter=40,
        figures=False
    )  # fmt: skip
    tables = {name: f()[int(fitted.best)].detach().numpy() for name, f in fitted.factors.items()}
    product = (tables["P"][at[0]] * tables["Q"].T[at[1]]).sum(-1)
    return product + tables["mu"][0, 0] + tables["b"][at[0], 0] + tables["c"][0, at[1]]


def best(known: Matrix, seed: int, candidates: list[tuple[Any, ...]], side: Any) -> tuple[Any, ...]:
    """The candidate with the lowest error on a tenth of the known ratings."""
    inner, at = hold_out(known, seed + 1000)
    return min(candidates, key=lambda c: rmse(known, at, side(inner, at, *c)))


def main() -> None:
    """Every side on every seed."""
    full, lines = ratings(), []
    for seed in SEEDS:
        known, at = hold_out(full, seed)
        sides: dict[str, tuple[Any, list[tuple[Any, ...]]]] = {
            "global mean": (global_mean, [()]),
            "biases of users and films": (biases, [()]),
            "missing as zero (scikit-learn)": (zeros_for_missing, [(k,) for k in (5, 10, 20)]),
            "nmf, squared error": (
                completion, [(k, r, "frobenius") for k in RANKS for r in RIDGES],
            ),
            "nmf, KL": (completion, [(k, r, "kl") for k in RANKS for r in RIDGES]),
            "biased_mf": (biased, [(20, r) for r in RIDGES_PER_ENTRY]),
        }  # fmt: skip
        for name, (side, candidates) in sides.items():
            chosen = best(known, seed, candidates, side) if len(candidates) > 1 else candidates[0]
            error = rmse(full, at, side(known, at, *chosen))
            lines.append({"side": name, "seed": seed, "rmse": error, "chosen": str(chosen)})
            print(f"{seed} {name:32s} {error:.4f} {chosen}", flush=True)
    table = pd.DataFrame(lines)
    table.to_csv(HERE / "completion.csv", index=False, float_format="%.5f")
    print(table.groupby("side", sort=False)["rmse"].agg(["mean", "std"]).round(4).to_string())


if __name__ == "__main__":
    main()
