"""How to compute NMF in the cloud? The same fit in one process, and with rows spread over two."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from answering import answer, axes

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    *(
        "data=planted",
        "data.n_samples=2000",
        "data.n_features=100",
        "data.noise=poisson",
        "loss=kl",
    ),
    *(
        "solver=mu",
        "model.n_components=5",
        "dtype=float64",
        "figures=false",
        "max_iter=400",
        "logger=none",
    ),
]


def fitted(folder: Path, *more: str) -> tuple[np.ndarray, dict]:
    """H of a run, and its numbers."""
    subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *WORDS, f"run_dir={folder}", *more],
        check=True, capture_output=True,
    )  # fmt: skip
    return np.load(folder / "factors.npz")["H"], json.loads((folder / "metrics.json").read_text())


with tempfile.TemporaryDirectory() as folder:
    one, numbers = fitted(Path(folder) / "one")
    two, other = fitted(Path(folder) / "two", "trainer=ddp", "trainer.devices=2")
gap = np.abs(one - two).max() / np.abs(one).max()

figure, axis = axes(1)
axis.loglog(one.ravel(), two.ravel(), ".", color="#332288", markersize=3)
axis.set_xlabel("components, one process", fontsize=8)
axis.set_ylabel("components, two processes", fontsize=8)
answer(
    figure,
    f"By spreading rows: after {numbers['n_iter']} and {other['n_iter']} iterations the "
    f"components of one and "
    f"of two processes differ by {gap:.0e} of the largest entry, and only sums of the size of H travel.",
)
