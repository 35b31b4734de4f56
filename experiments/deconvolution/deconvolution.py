"""Shares of known types in mixtures: five ways, all genes and markers, errors and CPU seconds.

``python experiments/deconvolution/deconvolution.py [OUT.csv]``
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np

from nmfnet.data import Matrix
from nmfnet.data.sources.registry import source
from nmfnet.data.sources.source import Held
from nmfnet.run.train import Result, train
from nmfnet.settings.words import configuration

SETS = {
    "ratmix3": {},
    "sc-mixology-rnamix": {"scale": "both"},  # depths differ by well
    "abis-pbmc": {"reference": "abis-types"},
}
WAYS = {
    "NNLS": {},
    "NNLS, sum to one": {"constraint.W": "simplex_project"},
    "nu-SVR": {"rule": "svr"},
    "KL": {"loss": "kl"},
    "negative binomial": {"loss": "negative_binomial"},
}
SLOW = ("nu-SVR", "negative binomial")
"""Fitted on markers only: support vectors on the 10000 probes of ratmix3 take 331 CPU seconds."""

LIMIT = 20.0
"""Seconds that a fit may train."""


def fit(matrix: Matrix, settings: dict) -> tuple[Result, float]:
    """A fit, and its CPU seconds."""
    cfg = configuration(
        {"model": "reference_nmf", "dtype": "float64", "figures": False, "progress": False}
        | {"threads": 1, "time_limit": LIMIT}
        | settings
    )
    began = time.process_time()
    result = train(cfg, Held(matrix), write=False)
    return result, time.process_time() - began


def main(out: Path) -> None:
    """Every way on every set, a line each."""
    lines = []
    for name, own in SETS.items():
        matrix, least_squares = source(name).read(), {}
        for genes, chosen in (("all", {}), ("markers", {"markers": 100})):
            if name == "abis-pbmc" and chosen:
                continue  # its profiles are markers already
            for way, settings in WAYS.items():
                if (
                    matrix.shape[1] > 5000
                    and own.get("reference") is None
                    and not chosen
                    and way in SLOW
                ):
                    continue
                result, seconds = fit(matrix, {**own, **chosen, **settings})
                shares = result.factors.shares
                first = least_squares.setdefault(genes, shares)
                line = {
                    "data": name,
                    "genes": result.model.sizes.n_features,
                    "way": way,
                    "r": result.metrics.get("truth/r"),
                    "rmse": result.metrics.get("truth/rmse"),
                    "r_with_nnls": float(np.corrcoef(shares.ravel(), first.ravel())[0, 1]),
                    "cpu_seconds": seconds,
                    "ended": result.metrics["status"],
                }
                shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in line.items()}
                lines.append(shown)
                print(shown, flush=True)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_suffix(".csv")))
