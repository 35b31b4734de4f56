"""Four recorded sources and one that nobody has recorded: their shares in sinks. Simulated.

``python experiments/deconvolution/sources.py [OUT.csv]``

Sources are distributions of 300 taxa, known by 20000 reads each; sinks are 5000 reads of mixtures. As
``experiment=source_tracking`` fits them, with and without the unknown source.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np
import torch

import nmfnet

SETTINGS = {
    **{"loss": "kl", "scale": "components", "resample": "counts", "dtype": "float64"},
    **{"figures": False, "threads": 1},
}


def simulated(rng: np.random.Generator, sinks: int) -> tuple[np.ndarray, ...]:
    """Counts of sinks and of the recorded sources, and the true shares."""
    H, shares = rng.dirichlet(np.full(300, 0.1), 5), rng.dirichlet(np.full(5, 0.7), sinks)
    X = np.stack([rng.multinomial(5000, p) for p in shares @ H])
    return X.astype(float), np.stack([rng.multinomial(20000, p) for p in H[:4]]), shares


def measured(sinks: int, unknown: int, seed: int) -> dict[str, float]:
    """Errors of one simulation; of the unknown source too where it is modelled."""
    X, known, shares = simulated(np.random.default_rng(seed), sinks)
    begin = time.process_time()
    model = nmfnet.fit(
        X, "reference_nmf", H=known, unknown=unknown, bootstrap=100, seed=seed, **SETTINGS
    )
    table, names = model.reports["proportions"], model.component_names

    def of(word: str) -> np.ndarray:
        return np.stack([table[f"{name}{word}"] for name in names], 1)

    found, low, high = (of(word) for word in ("", " low", " high"))
    off = found - shares[:, : len(names)]
    inside = (low <= found - off) & (found - off <= high)
    result = {
        "rmse_known": np.sqrt(np.mean(off[:, :4] ** 2)),
        "covered_known": inside[:, :4].mean(),
        "rmse_unknown": np.nan,
        "too_large": np.nan,
        "r_unknown": np.nan,
        "covered_unknown": np.nan,
    }
    if unknown:
        result |= {
            "rmse_unknown": np.sqrt(np.mean(off[:, 4] ** 2)),
            "too_large": off[:, 4].mean(),
            "r_unknown": np.corrcoef(found[:, 4], shares[:, 4])[0, 1],
            "covered_unknown": inside[:, 4].mean(),
        }
    return result | {"cpu_seconds": time.process_time() - begin}


def main(out: Path) -> None:
    """A line for every number of sinks and way, of three simulations."""
    lines = []
    for sinks in (5, 20, 60):
        for unknown in (0, 1):
            every = [measured(sinks, unknown, seed) for seed in range(3)]
            means = {key: np.mean([one[key] for one in every]) for key in every[0]}
            shown = {k: "" if np.isnan(v) else f"{v:.3g}" for k, v in means.items()}
            lines.append({"sinks": sinks, "unknown": unknown, **shown})
            print(lines[-1], flush=True)
    with out.open("w", newline="") as file:
        rows = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        rows.writeheader()
        rows.writerows(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_suffix(".csv")))
