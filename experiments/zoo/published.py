"""The linear autoencoder X ~ X E H: nmfnet against the method of the published code, on one matrix.

    python experiments/zoo/published.py OUT.csv [--data sbs-syn-scenario8] [-k 3] [--limit 60]

The published method is X ~ X |E| |H| with E and H from U(0, 1), the mean loss, Adam with a rate of 1e-4
in float32 on all rows, until two losses in a row differ by no more than 1e-10 of themselves (Egendal et
al. 2024). nmfnet runs in float64 until its KKT residual is below 1e-6; the published method until it is
too, or its own rule ends it, or its CPU seconds are used up. Ten starts of nmfnet and one of the other.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
import torch

import nmfnet
from nmfnet.api import configuration
from nmfnet.kernels.convex import convex_sums_A
from nmfnet.kernels.divergences import TINY
from nmfnet.kernels.multiplicative import nmf_sums_H
from nmfnet.kernels.optimality import kkt_residual
from nmfnet.settings.objects import build

KKT = 1e-6
EVERY = 500
COLUMNS = ["method", "loss", "seed", "cpu_seconds", "iterations", "objective", "kkt", "ended"]


def residual(X: torch.Tensor, E: torch.Tensor, H: torch.Tensor, beta: float) -> float:
    """Largest KKT residual of E and H, in float64."""
    X, E, H = X.double(), E.double(), H.double()
    by_E = convex_sums_A(X.mT, H.mT, E.mT, beta)
    by_H = nmf_sums_H(X, X @ E, H, beta)
    return max(float(kkt_residual(E.mT, *by_E)), float(kkt_residual(H, *by_H)))


def objective(X: torch.Tensor, Y: torch.Tensor, beta: float) -> torch.Tensor:
    """Half the squared error, or the generalised Kullback-Leibler divergence."""
    if beta == 2:
        return 0.5 * (X - Y).square().sum()
    return (torch.xlogy(X, X / Y.clamp_min(TINY)) - X + Y).sum()


def published(X: torch.Tensor, k: int, beta: float, seed: int, limit: float) -> dict[str, object]:
    """Adam on absolute values."""
    torch.manual_seed(seed)
    E = torch.rand(X.shape[1], k, requires_grad=True)
    H = torch.rand(k, X.shape[1], requires_grad=True)
    adam = torch.optim.Adam([E, H], lr=1e-4)
    before, i, ended, kkt = math.inf, 0, "limit", math.inf
    began = time.process_time()
    while time.process_time() - began < limit:
        adam.zero_grad()
        loss = objective(X, X @ E.abs() @ H.abs(), beta) / X.numel()
        loss.backward()
        adam.step()
        i += 1
        now = float(loss.detach())
        if abs(before - now) <= 1e-10 * now:
            ended = "its own rule"
            break
        before = now
        if i % EVERY == 0 and residual(X, E.detach().abs(), H.detach().abs(), beta) <= KKT:
            ended = "kkt"
            break
    spent = time.process_time() - began
    E, H = E.detach().abs(), H.detach().abs()
    kkt = residual(X, E, H, beta)
    value = float(objective(X.double(), X.double() @ E.double() @ H.double(), beta))
    return {
        "cpu_seconds": spent, "iterations": i, "objective": value, "kkt": kkt, "ended": ended
    }  # fmt: skip


def ours(X: torch.Tensor, k: int, loss: str, seed: int) -> dict[str, object]:
    """Defaults of nmfnet, until the KKT residual is below the mark."""
    began = time.process_time()
    model = nmfnet.fit(
        X.numpy(), "autoencoder", n_components=k, loss=loss, seed=seed, dtype="float64", kkt_tol=KKT
    )
    spent = time.process_time() - began
    E, H = (torch.from_numpy(np.asarray(model.factors[name]().detach()[0])) for name in ("E", "H"))
    return {
        "cpu_seconds": spent,
        "iterations": int(model.n_iter[0]),
        "objective": float(model.objectives[0]),
        "kkt": residual(X, E, H, 2 if loss == "frobenius" else 1),
        "ended": model.metrics["status"],
    }


def main() -> None:
    """Both methods under both losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", default="sbs-syn-scenario8")
    parser.add_argument("-k", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60, help="CPU seconds of the published one")
    parser.add_argument("--starts", type=int, default=10)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    table = build(configuration({"data": asked.data}).data).read()
    X = torch.from_numpy(np.asarray(table.values, dtype=np.float32))
    rows: list[dict[str, object]] = []
    for loss, beta in (("frobenius", 2.0), ("kl", 1.0)):
        nmfnet.fit(np.eye(6) + 1, "autoencoder", n_components=2, loss=loss, dtype="float64")
        for seed in range(asked.starts):
            found = ours(X, asked.k, loss, seed)
            rows.append({"method": "nmfnet", "loss": loss, "seed": seed, **found})
        found = published(X, asked.k, beta, 0, asked.limit)
        rows.append({"method": "published", "loss": loss, "seed": 0, **found})
        with asked.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(
                {c: f"{v:.6g}" if isinstance(v, float) else v for c, v in row.items()}
                for row in rows
            )
        for row in rows:
            if row["loss"] == loss:
                print(*row.values(), flush=True)


if __name__ == "__main__":
    main()
