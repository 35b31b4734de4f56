"""What ten learned updates are worth: ``NMFNET_DATA=... python experiments/signatures/amortised.py``.

For signatures H of a converged NMF of the training genomes: the objective that held-out genomes (Poisson
counts, every fifth of scenario 8, none of them trained on) get by L plain multiplicative updates, by
L learned layers, and by converged exposures for the same signatures (non-negative least squares,
or multiplicative KL updates until they stand still). Writes ``amortised.csv``.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from contenders import N_SIGNATURES, counts

import nmfnet
from nmfnet.kernels.multiplicative import apply_update_, nmf_sums_W
from nmfnet.kernels.refit import refit_W
from nmfnet.types import Tensor

HERE = Path(__file__).parent
BETA = {"kl": 1.0, "frobenius": 2.0}


def fastest(work: Callable[[], Tensor], times: int = 5) -> tuple[Tensor, float]:
    """The result, and the least seconds of several runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def plain_updates(x: Tensor, H: Tensor, beta: float, n_updates: int) -> Tensor:
    """W after so many multiplicative updates from equal weights."""
    W = (x.sum(-1, keepdim=True) / H.sum()).expand(len(x), len(H)).clone()
    for _ in range(n_updates):
        neg, pos = nmf_sums_W(x, W, H, beta)
        apply_update_(W, neg, pos, 1.0)
    return W


def row(name: str, loss: str, n_layers: int, max_iter: int) -> dict[str, object]:
    """One comparison; objectives are sums over held-out genomes."""
    train, new, _ = counts(name)
    shared = {"loss": loss, "n_components": N_SIGNATURES[name], "threads": 1, "dtype": "float64"}
    nmf = nmfnet.fit(train, n_restarts=3, **shared)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "start.npz"
        np.savez(path, W=nmf.transform(train), H=nmf.components_)
        own = {"init": "given", "init.path": str(path), "n_layers": n_layers}
        start = time.process_time()
        net = nmfnet.fit(train, "unrolled_nmf", max_iter=max_iter, **shared, **own)
        seconds = time.process_time() - start
    x, H, beta = torch.from_numpy(new), torch.from_numpy(net.components_), BETA[loss]
    before = torch.from_numpy(nmf.components_)

    def objective(W: Tensor, H: Tensor) -> float:
        return float(net.loss(x, W @ H).sum())

    coded, encoding = fastest(lambda: torch.from_numpy(net.transform(new)))
    exact, refitting = fastest(lambda: refit_W(x, H, beta, 1.0))
    of_nmf = objective(refit_W(x, before, beta, 1.0), before)
    best = objective(exact, H)
    return {
        "data": name,
        "loss": loss,
        "layers": n_layers,
        "nmf_converged_exposures": of_nmf,
        "nmf_plain_updates": objective(plain_updates(x, before, beta, n_layers), before),
        "network": objective(coded, H),
        "network_H_converged_exposures": best,
        "gap": objective(coded, H) / best - 1,
        "gap_to_nmf": objective(coded, H) / of_nmf - 1,
        "gap_of_plain_updates": objective(plain_updates(x, before, beta, n_layers), before) / of_nmf
        - 1,
        "encode_seconds": encoding,
        "converged_seconds": refitting,
        "speed_up": refitting / encoding,
        "training_cpu_seconds": seconds,
        "iterations": net.metrics["n_iter"],
    }


def main() -> None:
    """Both losses."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--data", nargs="+", choices=N_SIGNATURES, default=["sbs-syn-scenario8"])
    words.add_argument("--layers", type=int, default=10)
    words.add_argument("--max-iter", type=int, default=1000)
    asked = words.parse_args()
    torch.set_num_threads(1)
    rows = [row(name, loss, asked.layers, asked.max_iter) for name in asked.data for loss in BETA]
    with (HERE / "amortised.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for found in rows:
            shown = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in found.items()}
            writer.writerow(shown)


if __name__ == "__main__":
    main()
