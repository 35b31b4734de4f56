"""A simulated catalogue as a file: ``python noisy.py DATA SEED FILE``; SEED stored = no noise."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from nmfnet.data.sources.registry import source


def main() -> None:
    """Write the counts (with Poisson noise), channels x samples, as SigProfiler matrices are."""
    data, seed, file = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    matrix = source(data).read()
    counts = matrix.values
    if seed != "stored":
        counts = np.random.default_rng(int(seed)).poisson(counts)
    counts = counts.astype(int)
    lines = ["\t".join(["MutationType", *matrix.sample_names])]
    for j, channel in enumerate(matrix.feature_names):
        lines.append("\t".join([channel, *map(str, counts[:, j])]))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
