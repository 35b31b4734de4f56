"""What the shell costs: Lightning around the updates, and Hydra before them."""

from __future__ import annotations

import subprocess
import sys
import time

import numba
import numpy as np
import pytest
import torch

import nmfnet
from nmfnet.kernels.multiplicative import apply_update_, nmf_sums_H, nmf_sums_W
from nmfnet.run.clock import now

UPDATES, K = 1000, 8


def bare_loop(x: torch.Tensor) -> float:
    """CPU seconds of plain KL multiplicative updates and nothing else."""
    generator = torch.Generator().manual_seed(0)
    W = torch.rand(x.shape[0], K, generator=generator)
    H = torch.rand(K, x.shape[1], generator=generator)
    began = time.process_time()
    for _ in range(UPDATES):
        apply_update_(W, *nmf_sums_W(x, W, H, 1.0), 1.0)
        apply_update_(H, *nmf_sums_H(x, W, H, 1.0), 1.0)
    return time.process_time() - began


def through_lightning(X: np.ndarray) -> float:
    """CPU seconds of the same updates in a training run, without reading data and scoring."""
    from lightning import Trainer

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


@pytest.mark.slow
def test_lightning_costs_at_most_half_more_than_the_bare_loop():
    X = np.random.default_rng(0).poisson(5.0, (500, 96)).astype(np.float64)
    x = torch.from_numpy(X).float()
    bare, full = [], []
    for _ in range(7):  # in turn: the machine's speed drifts
        bare.append(bare_loop(x))
        full.append(through_lightning(X))
    assert min(full) <= 1.5 * min(bare), (min(full), min(bare))


def test_the_clock_stands_still_while_numba_compiles():
    began, clock_began = time.perf_counter(), now()

    @numba.njit
    def fresh(x):
        return x.sum()

    fresh(np.ones(3))
    took, counted = time.perf_counter() - began, now() - clock_began
    assert took > 0.02
    assert counted < took / 2


@pytest.mark.slow
def test_help_comes_without_torch_and_in_under_two_seconds():
    code = (
        "import sys, time; sys.argv = ['nmfnet-train', '--help']\n"
        "from nmfnet.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    torch_there, seconds = done.stdout.split()[-2:]
    assert torch_there == "False"
    assert float(seconds) < 2
