"""SigProfilerExtractor on scenario 8, with both cores.

``python peer.py fit CATALOGUE FOLDER FIRST LAST REPLICATES`` in an environment with
SigProfilerExtractor; ``python peer.py read FOLDER OUT.csv`` in this package's.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

LIMIT = 1_000_000
"""Its largest number of updates; a replicate that reached it is written as 0."""


def fit(catalogue: str, folder: str, first: int, last: int, replicates: int) -> None:
    """Extract with its defaults, and say what it cost."""
    from SigProfilerExtractor import sigpro

    begin = time.perf_counter()
    sigpro.sigProfilerExtractor(
        "matrix", folder, catalogue, reference_genome="GRCh37", minimum_signatures=first,
        maximum_signatures=last, nmf_replicates=replicates, cpu=2, gpu=False,
        make_decomposition_plots=False,
    )  # fmt: skip
    wall = time.perf_counter() - begin
    own, workers = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"wall {wall:.0f} s, CPU {own.ru_utime + workers.ru_utime:.0f} s")


def read(folder: Path, out: Path) -> None:
    """Its signatures at every rank against the true ones, and what they leave of the data."""
    import numpy as np
    import pandas as pd
    from tables import against, write

    from nmfnet import metrics
    from nmfnet.data.sources.registry import source
    from nmfnet.selection.weights import refit_weights

    matrix = source("sbs-syn-scenario8").read()
    assert matrix.truth is not None
    X = np.asarray(matrix.values, float)
    rows = []
    for file in sorted(folder.glob("SBS96/All_Solutions/*/Signatures/SBS96_S*_Signatures.txt")):
        H = pd.read_csv(file, sep="\t", index_col=0).loc[list(matrix.feature_names)].to_numpy().T
        steps = pd.read_csv(
            next(file.parents[1].glob("Solution_Stats/*Convergence_Information.txt")), sep="\t"
        )["Convergence Iterations"].replace(0, LIMIT)
        kl = metrics.kl(X, refit_weights(X, H, 1.0) @ H)
        rows.append(
            {"n_components": len(H), "replicates": len(steps), "kl": kl}
            | {"n_iter_median": float(steps.median()), "n_iter_max": float(steps.max())}
            | against(H, matrix.truth.H)
        )
    write(out, rows)


if __name__ == "__main__":
    if sys.argv[1] == "fit":
        fit(sys.argv[2], sys.argv[3], *map(int, sys.argv[4:7]))
    else:
        read(Path(sys.argv[2]), Path(sys.argv[3]))
