"""Classical and neural factorisations of mutation counts, one table.

``NMFNET_DATA=... python experiments/signatures/contenders.py --data sbs-syn-scenario8``

The synthetic catalogues are noise-free as stored, so Poisson counts are drawn of them (seed 0); PCAWG's
are counts. Every fifth genome is held out. Every model minimises the same KL divergence of the same
counts, at the same number of signatures, from the same number of random starts, under one stopping rule;
the start with the lowest objective is scored by the same code. One row of ``contenders.csv`` per data set
and model. ``--stability`` fits each model to bootstraps of the training genomes instead, one start each,
and writes how well their signatures agree to ``stability.csv``. The same command again runs what is
missing.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nmfnet
from nmfnet import metrics
from nmfnet.core.model import Factorization
from nmfnet.data.sources.registry import source
from nmfnet.kernels.refit import refit_W

HERE = Path(__file__).parent
N_SIGNATURES = {"sbs-syn-scenario8": 3, "sbs-syn-many-types": 21, "pcawg-sbs96": 21}
"""The true numbers, and for PCAWG that of SigProfilerExtractor (Alexandrov et al. 2020)."""
SHARED: dict[str, Any] = {"loss": "kl", "seed": 0, "threads": 1, "figures": False}


def counts(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Training counts, held-out counts, true signatures where they are known."""
    matrix = source(name).read()
    x, truth = matrix.values.astype(float), None
    if matrix.truth is not None:
        x, truth = np.random.default_rng(0).poisson(x).astype(float), matrix.truth.H
    held_out = np.arange(len(x)) % 5 == 4
    return x[~held_out], x[held_out], truth


def reference(name: str) -> np.ndarray:
    """Signatures that have names, in the channels of a data set."""
    known = source(name).read().reference
    assert known is not None
    return known.values


def volume_weight(x: np.ndarray) -> float:
    """MUSE-XAE's 1e-3 log10 det, a mean over entries of normalised rows, in units of our sum."""
    totals = x.sum(1)
    return float(1e-3 / np.log(10) * x.size * np.mean(totals / np.log2(1 + totals)))


def simple(model: str, **own: Any) -> Callable[[np.ndarray, int, dict[str, Any]], Factorization]:
    """A model with settings of its own beside the shared ones."""
    return lambda x, k, shared: nmfnet.fit(x, model, n_components=k, **(shared | own))


def muse(x: np.ndarray, k: int, shared: dict[str, Any]) -> Factorization:
    """MUSE-XAE: its penalty in our units, early stopping on a tenth of the training genomes."""
    own = {"penalty": "min_volume", "penalty.min_volume.weight": volume_weight(x)}
    return nmfnet.fit(x, "muse_xae", n_components=k, **(shared | own))


def unrolled_after_nmf(x: np.ndarray, k: int, shared: dict[str, Any]) -> Factorization:
    """Ten unrolled updates whose H starts as that of NMF (which counts in the seconds)."""
    nmf = nmfnet.fit(x, n_components=k, **shared)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "start.npz"
        np.savez(path, W=nmf.transform(x), H=nmf.components_)
        own = {"init": "given", "init.path": str(path), "n_restarts": 1}
        return nmfnet.fit(x, "unrolled_nmf", n_components=k, **(shared | own))


CONTENDERS = {
    "nmf": simple("nmf"),
    "convex_nmf": simple("convex_nmf"),
    "linear_autoencoder": simple("autoencoder", solver="mu"),
    "deep_autoencoder": simple("deep_autoencoder"),
    "muse_xae": muse,
    "muse_xae_no_volume": simple("muse_xae"),
    "unrolled_nmf": simple("unrolled_nmf", n_restarts=1),
    "unrolled_after_nmf": unrolled_after_nmf,
}


def deviance(x: np.ndarray, W: np.ndarray, H: np.ndarray) -> float:
    """Poisson deviance per entry."""
    return metrics.poisson_deviance(x, metrics.Product(W, H)) / x.size


def unit_rows(H: np.ndarray) -> np.ndarray:
    """Signatures that sum to 1."""
    return metrics.normalize_scale(np.ones((1, len(H))), H.astype(np.float64))[1]


def score(
    model: Factorization, x: np.ndarray, new: np.ndarray, truth: np.ndarray | None, name: str
) -> dict[str, Any]:
    """Signatures against the truth or the reference; deviance of training and held-out genomes."""
    H = model.components_.astype(np.float64)
    if truth is None:
        named = metrics.match_components(unit_rows(H), reference(name)).scores
        found = {"f1": None, "cosine_all": float(named.mean())}
    else:
        found = metrics.recovery(unit_rows(H), truth, threshold=0.9)
    start = time.perf_counter()
    own = model.transform(new)
    encoding = time.perf_counter() - start
    start = time.perf_counter()
    refit = refit_W(torch.from_numpy(new), torch.from_numpy(H), 1.0, 1.0).numpy()
    refitting = time.perf_counter() - start
    result = {
        "f1": found["f1"],
        "cosine": found["cosine_all"],
        "train_deviance": deviance(x, model.transform(x).astype(np.float64), H),
        "heldout_refit": deviance(new, refit, H),
        "heldout_encoder": deviance(new, own.astype(np.float64), H) if model.inductive else None,
        "solver": model.metrics["solver"],
        "restarts": model.n_restarts,
        "iterations": model.metrics["n_iter"],
        "converged": int(model.metrics["converged"]),
        "encode_seconds": encoding if model.inductive else None,
        "refit_seconds": refitting,
    }
    return {key: f"{v:.6g}" if isinstance(v, float) else v for key, v in result.items()}


def stability(model: str, x: np.ndarray, k: int, shared: dict[str, Any], draws: int) -> float:
    """Mean cosine of matched signatures over pairs of fits to Poisson draws of the counts."""
    rng = np.random.default_rng(1)
    drawn = [rng.poisson(x).astype(float) for _ in range(draws)]
    fitted = [CONTENDERS[model](one, k, shared | {"seed": i}) for i, one in enumerate(drawn)]
    H = [unit_rows(fit.components_) for fit in fitted]
    pairs = [metrics.match_components(a, b).scores.mean() for a, b in combinations(H, 2)]
    return float(np.mean(pairs))


def save(rows: list[dict[str, Any]], path: Path) -> None:
    """All rows so far, the last one printed."""
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(*rows[-1].values(), flush=True)


def main() -> None:
    """Read the command line; run what is missing."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--data", nargs="+", choices=N_SIGNATURES, default=list(N_SIGNATURES))
    words.add_argument("--models", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    words.add_argument("--restarts", type=int, default=3)
    words.add_argument("--max-iter", type=int, default=3000)
    words.add_argument("--stability", type=int, default=0, metavar="DRAWS", help="bootstraps")
    words.add_argument("--out", type=Path, default=HERE)
    asked = words.parse_args()
    shared = SHARED | {"n_restarts": asked.restarts, "max_iter": asked.max_iter}
    path = asked.out / ("stability.csv" if asked.stability else "contenders.csv")
    rows: list[dict[str, Any]] = list(csv.DictReader(path.open())) if path.exists() else []
    done = {(row["data"], row["model"]) for row in rows}
    for name in asked.data:
        x, new, truth = counts(name)
        for model in asked.models:
            if (name, model) in done:
                continue
            row: dict[str, Any] = {"data": name, "model": model}
            start, k = time.process_time(), N_SIGNATURES[name]
            if asked.stability:
                found = stability(model, x, k, shared | {"n_restarts": 1}, asked.stability)
                row |= {"draws": asked.stability, "stability": f"{found:.4f}"}
            else:
                fitted = CONTENDERS[model](x, k, shared)
            seconds = time.process_time() - start
            if not asked.stability:
                row |= score(fitted, x, new, truth, name)
            rows.append(row | {"cpu_seconds": f"{seconds:.1f}"})
            save(rows, path)


if __name__ == "__main__":
    main()
