"""What the shell costs: Lightning around the updates, the start of a command, and a whole run.

CPU seconds, printed; run it on an idle machine.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from lightning import Trainer

import nmfnet
from nmfnet.kernels.multiplicative import apply_update_, nmf_sums_H, nmf_sums_W

UPDATES, K, ROUNDS = 1000, 8, 7


def bare_loop(x: torch.Tensor) -> float:
    """Seconds of plain KL multiplicative updates and nothing else."""
    generator = torch.Generator().manual_seed(0)
    W = torch.rand(x.shape[0], K, generator=generator)
    H = torch.rand(K, x.shape[1], generator=generator)
    began = time.process_time()
    for _ in range(UPDATES):
        apply_update_(W, *nmf_sums_W(x, W, H, 1.0), 1.0)
        apply_update_(H, *nmf_sums_H(x, W, H, 1.0), 1.0)
    return time.process_time() - began


def through_lightning(X: np.ndarray) -> float:
    """Seconds of the same updates in a training run, without reading data and scoring."""
    seconds = []
    original = Trainer.fit

    def timed(self, *arguments, **options):
        began = time.process_time()
        original(self, *arguments, **options)
        seconds.append(time.process_time() - began)

    settings = {"solver": "mu", "solver.extrapolation": False, "tol": 0.0, "max_iter": UPDATES}
    Trainer.fit = timed
    try:
        nmfnet.fit(X, n_components=K, loss="kl", **settings)
    finally:
        Trainer.fit = original
    return seconds[0]


def command(*words: str) -> float:
    """Seconds of ``nmfnet-train WORDS`` in a process of its own, imports included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "from nmfnet.cli import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-c", code, *words]
        subprocess.run(program, cwd=folder, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the numbers; the two loops in turn, since a machine's speed drifts."""
    torch.set_num_threads(1)
    X = np.random.default_rng(0).poisson(5.0, (500, 96)).astype(np.float64)
    x = torch.from_numpy(X).float()
    bare, full = zip(*((bare_loop(x), through_lightning(X)) for _ in range(ROUNDS)), strict=True)
    print(f"{UPDATES} updates: bare {min(bare):.3f} s, through Lightning {min(full):.3f} s, "
          f"ratio {min(full) / min(bare):.2f}")  # fmt: skip
    print(f"nmfnet-train --help: {min(command('--help') for _ in range(3)):.2f} s")
    print(f"nmfnet-train (digits, figures): {min(command() for _ in range(2)):.2f} s")


if __name__ == "__main__":
    main()
