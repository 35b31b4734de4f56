"""Poisson counts around a simulated catalogue: ``python noisy.py DATA SEED FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from nmfnet.data.registry import source


def main() -> None:
    """Write channels x samples, as SigProfiler matrices are."""
    data, seed, file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    matrix = source(data).read()
    counts = np.random.default_rng(seed).poisson(matrix.values).astype(int)
    lines = ["\t".join(["MutationType", *matrix.sample_names])]
    for j, channel in enumerate(matrix.feature_names):
        lines.append("\t".join([channel, *map(str, counts[:, j])]))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
