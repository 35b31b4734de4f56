"""How to compute NMF in the cloud? Rows spread over two processes, and jobs over Ray.

Needs `pip install -e '.[ray]'`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from answering import answer, axes

ROOT = Path(__file__).resolve().parents[2]
DATA = ["data=planted", "data.n_samples=2000", "data.n_features=100", "data.noise=poisson"]
FIT = ["loss=kl", "model.n_components=5", "dtype=float64", "figures=false", "logger=none"]


def run(*more: str) -> None:
    """The command, in this folder."""
    words = [sys.executable, str(ROOT / "train.py"), *DATA, *FIT, *more]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)


def fitted(where: Path) -> tuple[np.ndarray, dict]:
    """H of a run, and its numbers."""
    numbers = json.loads((where / "metrics.json").read_text())
    return np.load(where / "factors.npz")["H"], numbers


def gap(one: np.ndarray, two: np.ndarray) -> float:
    """The largest difference, of the largest entry."""
    return float(np.abs(one - two).max() / np.abs(one).max())


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    run("run_dir=one")
    run("run_dir=two", "trainer=ddp", "trainer.devices=2")
    (one, numbers), (two, other) = fitted(folder / "one"), fitted(folder / "two")
    for launcher in ("local", "ray"):
        run("-m", "seed=1,2", f"launcher={launcher}", f"runs={launcher}")
    jobs = [sorted((folder / launcher).rglob("metrics.json")) for launcher in ("local", "ray")]
    apart = [gap(*(fitted(job.parent)[0] for job in pair)) for pair in zip(*jobs, strict=True)]

figure, axis = axes(1)
axis.loglog(one.ravel(), two.ravel(), ".", color="#332288", markersize=3)
axis.set_xlabel("components, one process", fontsize=8)
axis.set_ylabel("components, two processes", fontsize=8)
answer(
    figure,
    f"By spreading rows ({other['solver']}, {numbers['n_iter']} and {other['n_iter']} iterations): "
    f"components of one and two processes differ by {gap(one, two):.0e} of the largest entry. By "
    f"spreading jobs: those of {len(apart)} seeds on Ray and one after the other by {max(apart):.0e}.",
)
