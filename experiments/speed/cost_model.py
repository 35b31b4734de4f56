"""What an iteration costs: predicted from operations, bytes and two measured rates, and measured.

    python experiments/speed/cost_model.py       # about a minute

An iteration is predicted to take as long as its multiplications at the rate of this machine's matrix
products, plus its passes over arrays of the size of X at the rate of a copy. Both rates are measured
first. Everything runs on one thread, in float32; seconds are CPU seconds. Writes ``cost.json`` and
prints the table.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from nmfnet.kernels.arrays import as_tensor
from nmfnet.kernels.extrapolation import begin
from nmfnet.kernels.hals import hals, inner_sweeps
from nmfnet.kernels.matrix import matrix
from nmfnet.kernels.multiplicative import apply_update_, nmf_sums_H, nmf_sums_W
from nmfnet.kernels.newton import SWEEPS, newton
from nmfnet.kernels.sparse import sparse_sums, transpose_of

HERE = Path(__file__).parent
BYTES = 4


class Shape(NamedTuple):
    """n x f matrix with s stored entries, rank k."""

    n: int
    f: int
    s: int
    k: int


DENSE = [
    Shape(1797, 64, 1797 * 64, 16),
    Shape(2780, 96, 2780 * 96, 20),
    Shape(5000, 1000, 5_000_000, 40),
]
SPARSE = [Shape(18_000, 5000, 1_300_000, 20)]


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median CPU seconds of a call, after one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return statistics.median(found)


def rates() -> tuple[float, float]:
    """Multiply-adds per second of a thin product, and bytes per second of a copy."""
    a, b = torch.rand(4000, 32), torch.rand(32, 2000)
    source = torch.rand(20_000_000)
    target = torch.empty_like(source)
    products = 4000 * 32 * 2000 / seconds(lambda: a @ b)
    return products, 2 * source.numel() * BYTES / seconds(lambda: target.copy_(source))


# Multiply-adds, and passes over an array with an entry per stored entry of X, per iteration.
def mu_kl(d: Shape) -> tuple[float, float]:
    """Two reconstructions and two products; X, W H and their ratio go through memory twice."""
    return 4 * d.s * d.k, 2 * 5


def hals_frobenius(d: Shape) -> tuple[float, float]:
    """Two products with X, two Gram matrices, and the sweeps."""
    sweeps = inner_sweeps(matrix(torch.empty(d.n, d.f)), d.k) if d.s == d.n * d.f else (1, 1)
    small = (d.n * (1 + sweeps[0]) + d.f * (1 + sweeps[1])) * d.k**2
    return 2 * d.s * d.k + small, 2


def newton_kl(d: Shape) -> tuple[float, float]:
    """Per factor: a reconstruction, the gradient, the curvature of every column, and sweeps."""
    return 2 * d.s * d.k * (2 + (d.k + 1) / 2) + SWEEPS * (d.n + d.f) * d.k**2, 2 * 3


PREDICTIONS = {"mu kl": mu_kl, "hals frobenius": hals_frobenius, "newton kl": newton_kl}


def measured(solver: str, d: Shape) -> float:
    """CPU seconds of an iteration."""
    rng = np.random.default_rng(0)
    if d.s < d.n * d.f:
        X = sp.random(d.n, d.f, d.s / (d.n * d.f), "csr", np.float32, rng)
        x = as_tensor(X, torch.float32)
    else:
        x = torch.from_numpy(rng.gamma(1.0, size=(d.n, d.f)).astype(np.float32))
    W, H = torch.rand(d.n, d.k), torch.rand(d.k, d.f)
    if solver == "mu kl":
        if x.is_sparse_csr:
            transpose = transpose_of(x)

            def once() -> None:
                for name, theta in (("W", W), ("H", H)):
                    apply_update_(theta, *sparse_sums(name, x, transpose, W, H, 1.0, False), 1.0)
        else:

            def once() -> None:
                apply_update_(W, *nmf_sums_W(x, W, H, 1.0), 1.0)
                apply_update_(H, *nmf_sums_H(x, W, H, 1.0), 1.0)

        return seconds(once)
    data = matrix(x, transposed=True if solver == "newton kl" else None)
    state = begin(W[None], H[None])
    step = hals if solver.startswith("hals") else newton
    return seconds(lambda: step(state, data, 5)) / 5


def main() -> None:
    """Measure the rates and every solver on every shape."""
    torch.set_num_threads(1)
    products, copy = rates()
    lines = []
    print(f"{products / 1e9:.1f} G multiply-adds/s, copy {copy / 1e9:.1f} GB/s\n")
    print("| solver | n x f, stored, k | predicted ms | measured ms | measured / predicted |")
    print("|---|---|---|---|---|")
    for solver, predict in PREDICTIONS.items():
        for d in DENSE + SPARSE:
            operations, passes = predict(d)
            wanted = operations / products + passes * d.s * BYTES / copy
            found = measured(solver, d)
            line = {"solver": solver, **d._asdict(), "predicted": wanted, "measured": found}
            lines.append(line)
            kind = "dense" if d.s == d.n * d.f else f"{d.s:.1e} stored"
            print(
                f"| {solver} | {d.n} x {d.f}, {kind}, {d.k} | {1e3 * wanted:.2f} | "
                f"{1e3 * found:.2f} | {found / wanted:.1f} |",
                flush=True,
            )
    result = {"multiply_adds_per_second": products, "bytes_per_second": copy, "iterations": lines}
    (HERE / "cost.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
