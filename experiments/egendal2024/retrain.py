"""Train again on the recovered splits: ``python experiments/egendal2024/retrain.py --terms equal``.

Terms (what is trained, how, and when it stops) are the functions at the end of this file:

- ``published``: as the authors ran it, one start each. NMF and convex NMF by plain multiplicative
  updates in float64 until the loss falls by 1e-10 of itself per iteration; the autoencoder by
  Adam (lr 1e-4, float32, weights abs(U(0,1))) until two consecutive float32 losses differ by less
  than 1e-10 of their value.
- ``published_nmfnet``: the same autoencoder through ``nmfnet.fit`` with its shared stopping rule.
- ``equal``: every model from 10 starts to the same KKT residual in float64, best by objective.
- ``network``: the linear autoencoder by gradient methods (L-BFGS, Adam) from as many starts.
- ``ordinary``: as ``equal``, for Ovary without its two hypermutated patients.
- ``extensions``: other orientation, KL, curved and deep encoders.

Every finished fit is a row of ``results/TERMS.csv`` and an array of ``results/TERMS_COHORT.npz``
(signatures, float32); the same command again runs what is missing. ``--runs 0-4 --cohorts Ovary``
chooses splits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import HERE, catalogue, data_folder, read_csv, scores, write_csv

import nmfnet
from nmfnet import metrics
from nmfnet.data.sources import egendal


class Fitted(NamedTuple):
    """Exposures W (n, k), signatures H (k, 96), and how the fit ended."""

    W: np.ndarray
    H: np.ndarray
    ended: dict[str, Any]


Fit = Callable[[np.ndarray, int, int], Fitted]
"""(counts (n, 96), number of signatures, seed) -> Fitted."""


def through_nmfnet(model: str, *, patients_are_columns: bool = False, **settings: Any) -> Fit:
    """A fit by ``nmfnet.fit``; with patients as columns W holds the signatures, as in AE-NMF."""

    def fit(x: np.ndarray, k: int, seed: int) -> Fitted:
        data = x.T if patients_are_columns else x
        fitted = nmfnet.fit(
            data, model, n_components=k, seed=seed, threads=1, figures=False, **settings
        )
        W, H = fitted.transform(data), fitted.components_
        if patients_are_columns:
            W, H = H.T, W.T
        found = fitted.metrics
        ended = {"solver": found["solver"], "restarts": found["n_restarts"]}
        ended |= {"iterations": found["n_iter"], "converged": int(found["converged"])}
        ended["kkt"] = found.get("kkt_residual", float("nan"))
        ended["spread"] = found.get("stability/objective_spread", 0.0)
        return Fitted(W, H, ended)

    return fit


def published_autoencoder(x: np.ndarray, k: int, seed: int) -> Fitted:
    """AE-NMF with the authors' optimiser, start and stopping rule, in plain PyTorch."""
    generator = torch.Generator().manual_seed(seed)
    data = torch.tensor(x.T, dtype=torch.float32)
    E = torch.rand(len(x), k, generator=generator).requires_grad_()
    D = torch.rand(k, len(x), generator=generator).requires_grad_()
    adam = torch.optim.Adam([E, D], lr=1e-4)
    last, iteration = float("inf"), 0
    while True:
        iteration += 1
        loss = torch.nn.functional.mse_loss(data @ E.abs() @ D.abs(), data)
        adam.zero_grad()
        loss.backward()
        adam.step()
        if abs(loss.item() - last) <= 1e-10 * last and iteration > 1:
            break
        last = loss.item()
    signatures = (data @ E.abs()).detach().numpy().T
    ended = {"solver": "adam", "restarts": 1, "iterations": iteration, "converged": 1}
    return Fitted(
        D.abs().detach().numpy().T, signatures, ended | {"kkt": float("nan"), "spread": 0.0}
    )


def run(
    terms: str, cohorts: list[str], runs: list[int], models: list[str] | None, out: Path
) -> None:
    """Fit what is missing of the chosen splits; one row and one array at a time."""
    out.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    table = read_csv(out / f"{terms}.csv")
    done = {(r["cohort"], r["run"], r["model"]) for r in table}
    for i in runs:
        for cohort in cohorts:
            x = catalogue(cohort).x
            train, test = egendal.load_split(data_folder() / "egendal-2024", cohort, i, len(x))
            if terms == "ordinary":
                heavy = np.argsort(np.linalg.norm(x, axis=1))[-2:]
                train, test = np.setdiff1d(train, heavy), np.setdiff1d(test, heavy)
            for model, fit in TERMS[terms].items():
                if (cohort, i, model) in done or (models and model not in models):
                    continue
                start = time.process_time()
                fitted = fit(x[train], egendal.COHORTS[cohort], i)
                seconds = time.process_time() - start
                W, H = metrics.normalize_scale(fitted.W, fitted.H)
                row = {"cohort": cohort, "run": i, "model": model} | scores(x[train], x[test], W, H)
                table.append(row | fitted.ended | {"cpu_seconds": seconds})
                table.sort(key=lambda r: (r["cohort"], r["model"], r["run"]))
                _keep(out / f"{terms}_{cohort}.npz", f"{model}_{i}", H.astype(np.float32))
                write_csv(out / f"{terms}.csv", table)
                print(*row.values(), f"{seconds:.1f} s", flush=True)


def _keep(path: Path, name: str, H: np.ndarray) -> None:
    kept = dict(np.load(path)) if path.exists() else {}
    np.savez_compressed(path, **(kept | {name: H}))


CONVERGED: dict[str, Any] = {
    "n_restarts": 10,
    "dtype": "float64",
    "tol": 1e-8,
    "kkt_tol": 1e-6,
    "max_iter": 20_000,
}
PLAIN: dict[str, Any] = {
    "dtype": "float64",
    "solver": "mu",
    "solver.extrapolation": False,
    "tol": 1e-8,  # per 100 iterations: the authors' 1e-10 per iteration
    "window": 100,
    "patience": 1,
    "max_iter": 1_000_000,
}
ADAM_AS_PUBLISHED: dict[str, Any] = {
    "patients_are_columns": True,
    "constraint": "abs",
    "draw": "uniform",
    "tol": 3e-5,  # per 100 iterations: a few float32 roundings (6e-8) per iteration
    "window": 100,
    "patience": 1,
    "max_iter": 200_000,
    "solver.lr": 1e-4,
    "solver.relative": False,
    "solver.eps": 1e-20,
    "solver.halve": False,
}
EQUAL: dict[str, Fit] = {
    "nmf": through_nmfnet("nmf", **CONVERGED),
    "autoencoder": through_nmfnet(
        "autoencoder", patients_are_columns=True, solver="cd", **CONVERGED
    ),
    "convex_nmf": through_nmfnet("convex_nmf", **CONVERGED),
}
SHORT = CONVERGED | {"n_restarts": 5, "max_iter": 5000, "time_limit": 30}
NETWORK = SHORT | {"n_restarts": 3, "tol": 1e-6, "kkt_tol": None}
TERMS: dict[str, dict[str, Fit]] = {
    "published": {
        "nmf": through_nmfnet("nmf", **PLAIN),
        "autoencoder": published_autoencoder,
        "convex_nmf": through_nmfnet("convex_nmf", **PLAIN),
    },
    "published_nmfnet": {"autoencoder": through_nmfnet("autoencoder", **ADAM_AS_PUBLISHED)},
    "equal": EQUAL,
    "ordinary": EQUAL,
    "network": {
        "lbfgs_square": through_nmfnet(
            "autoencoder", patients_are_columns=True, solver="lbfgs", constraint="square", **NETWORK
        ),
        "adam_abs": through_nmfnet(
            "autoencoder", patients_are_columns=True, solver="adam", constraint="abs", **NETWORK
        ),
        "mu": through_nmfnet("autoencoder", patients_are_columns=True, solver="mu", **NETWORK),
    },
    "extensions": {
        "nmf_kl": through_nmfnet("nmf", loss="kl", **SHORT),
        "convex_kl": through_nmfnet("convex_nmf", loss="kl", **SHORT),
        "autoencoder_kl": through_nmfnet(
            "autoencoder", patients_are_columns=True, loss="kl", solver="mu", **SHORT
        ),
        "autoencoder_patients": through_nmfnet("autoencoder", solver="cd", **SHORT),
        "curved": through_nmfnet(
            "autoencoder", encoder="free", code_activation="softplus", bias=True, **NETWORK
        ),
        "deep": through_nmfnet("deep_autoencoder", **NETWORK),
    },
}


def main() -> None:
    """Read the command line."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--terms", choices=TERMS, default="equal")
    words.add_argument("--cohorts", nargs="+", choices=list(egendal.COHORTS))
    words.add_argument("--runs", default="0-29", help="0-29, or 3")
    words.add_argument("--models", nargs="+", help="names of the terms' models; default all")
    words.add_argument("--out", type=Path, default=HERE / "results")
    asked = words.parse_args()
    first, _, last = asked.runs.partition("-")
    default = ["Ovary"] if asked.terms == "ordinary" else list(egendal.COHORTS)
    runs = list(range(int(first), int(last or first) + 1))
    run(asked.terms, asked.cohorts or default, runs, asked.models, asked.out)


if __name__ == "__main__":
    main()
