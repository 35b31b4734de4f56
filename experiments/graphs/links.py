"""Held-out links of Cora, by encoder, law and pairs: python experiments/graphs/links.py [links.csv]."""

from __future__ import annotations

import csv
import itertools
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nmfnet.run.train import train
from nmfnet.settings.words import configuration

SEEDS = range(5)
"""Of the links that are held out and of the start."""

NAMES = {("gcn", "point"): "GAE", ("gcn", "normal"): "VGAE", ("mlp", "point"): "AE"}
NAMES |= {("mlp", "normal"): "VAE"}


def run(name: str, seed: int, **settings: Any) -> dict[str, Any]:
    """One run on Cora and what is told of its held-out links."""
    given = {"data": "cora", "split": "links", "seed": seed, "figures": False, "progress": False}
    cfg = configuration({**given, "threads": 1, **settings})
    began = time.process_time()
    numbers = train(cfg, write=False).metrics
    row = {"name": name, "seed": seed, "auc": numbers["link/auc"], "ap": numbers["link/ap"]}
    row |= {"nmi": numbers["labels/nmi"], "loss": numbers["train/loss"]}
    return row | {"cpu_seconds": round(time.process_time() - began, 1)}


def rows() -> Any:
    """Every run, the baselines first."""
    for seed in SEEDS:
        yield run("spectral", seed, model="spectral", n_components=16, **{"data.features": False})
        yield run("sym_nmf", seed, model="sym_nmf", n_components=16, **{"data.features": False})
    for pairs, encoder, law in itertools.product(
        ("sampled", "exact"), ("gcn", "mlp"), ("point", "normal")
    ):
        for seed in SEEDS:
            own = {"model.encoder": encoder, "model.law": law, "model.pairs": pairs}
            yield run(f"{NAMES[encoder, law]} {pairs}", seed, model="graph_ae", **own)
    for seed in SEEDS:
        yield run(
            "GAE sampled, linear",
            seed,
            model="graph_ae",
            **{"model.law": "point", "model.hidden": []},
        )


def write(rows: Iterable[dict[str, Any]], file: str | Path) -> None:
    """Write a row for every run as it ends."""
    with Path(file).open("w", newline="") as stream:
        writer = None
        for row in rows:
            writer = writer or csv.DictWriter(stream, list(row))
            if not stream.tell():
                writer.writeheader()
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
            stream.flush()
            print(row, flush=True)


if __name__ == "__main__":
    write(rows(), *(sys.argv[1:] or [Path(__file__).parent / "links.csv"]))
