"""Is the best fit unique? ``python unique.py OUT.csv RUN...``: scenario 8 fitted from other starts.

The fits start from the signatures of run folders, and from the true ones, and go on until the
divergence stands still; once for the stored, noise-free counts, and once with Poisson noise.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tables import against, write

import nmfnet
from nmfnet.data.sources.registry import source
from nmfnet.selection.weights import refit_weights

DATA = "sbs-syn-scenario8"


def main() -> None:
    """One row per data set and start."""
    out, runs = Path(sys.argv[1]), [Path(word) for word in sys.argv[2:]]
    matrix = source(DATA).read()
    assert matrix.truth is not None
    counts = np.asarray(matrix.values, float)
    drawn = np.random.default_rng(1).poisson(counts).astype(float)
    starts = {name(run): np.load(run / "factors.npz")["H"] for run in runs}
    starts["truth"] = matrix.truth.H
    write(
        out,
        [
            {"data": data, "start": start} | ended(X, H, matrix.truth.H)
            for data, X in (("stored", counts), ("with noise", drawn))
            for start, H in starts.items()
        ],
        digits=10,
    )


def name(run: Path) -> str:
    """What a run starts from."""
    return f"consensus, tol={yaml.safe_load((run / 'config.yaml').read_text())['tol']:g}"


def ended(X: np.ndarray, H: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """Where a fit that starts from H ends."""
    W = refit_weights(X, H, 1.0)
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.npz"
        np.savez(start, W=W + 1e-6 * W.mean(), H=H + 1e-6 * H.mean())  # zeros would stay
        model = nmfnet.fit(
            X, n_components=len(H), loss="kl", dtype="float64", tol=1e-10, max_iter=200_000,
            init="given", figures=False, **{"init.path": str(start)},
        )  # fmt: skip
    kept = {key: model.metrics[key] for key in ("objective", "n_iter", "converged")}
    return kept | against(model.components_, true)


if __name__ == "__main__":
    main()
