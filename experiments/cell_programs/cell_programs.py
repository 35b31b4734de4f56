"""Gene expression programmes of cells by nmfnet and by the cNMF package, from the same counts.

    python experiments/cell_programs/cell_programs.py OUT.csv     # about 3 CPU minutes

It needs the packages cnmf and anndata, and h5py for the neurons of the worm. Both sides choose 2000
genes, fit every rank from 20 random starts, drop components without near neighbours (0.5), and refit
usages, TPM and scores. The package runs twice, with two seeds, which says how far it agrees with itself.
CPU seconds are of this process on one thread, after a small fit that loads the compiled kernels.
"""

from __future__ import annotations

import contextlib
import csv
import io
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import nmfnet
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.registry import source
from nmfnet.kernels.assignment import assign, cosine_matrix
from nmfnet.metrics import adjusted_rand

STARTS, GENES, DENSITY = 20, 2000, 0.5

CASES: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("sc-mixology-5cl", {"top_genes": None}, (4, 5, 6, 7)),
    ("worm-neuron-sc", {}, (7, 10, 14)),
]


def ours(matrix: Matrix, rank: int) -> tuple[dict[str, np.ndarray], float, dict[str, float]]:
    """Arrays of the programmes, CPU seconds, and the numbers of the rank."""
    words = {"replicates": STARTS, "top_genes": GENES, "density": DENSITY}
    began = time.process_time()
    table: Any = matrix.values
    if not matrix.is_sparse:
        table = pd.DataFrame(table, matrix.sample_names, matrix.feature_names)
    options = {f"selection.{key}": value for key, value in words.items()}
    found = nmfnet.select_rank(table, [rank], selection="programs", **options)
    seconds = time.process_time() - began
    programs = found.programs
    assert programs is not None
    arrays = {
        "components": found.components_,
        "tpm": programs.tpm,
        "scores": programs.scores,
        "usages": programs.usages.T,
        "fitted": programs.fitted,
    }
    return arrays, seconds, found.rows[0]


def theirs(
    matrix: Matrix, ranks: tuple[int, ...], seed: int
) -> dict[int, tuple[dict[str, np.ndarray], float]]:
    """The same of every rank by the package; what all ranks share is divided among them."""
    pd.options.future.infer_string = False  # anndata does not write the text type of pandas 3
    import anndata
    from cnmf import cNMF

    names = (pd.Index(names, dtype=object) for names in (matrix.sample_names, matrix.feature_names))
    obs, var = (pd.DataFrame(index=index) for index in names)
    found = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file = Path(folder) / "counts.h5ad"
        anndata.AnnData(matrix.values, obs, var).write_h5ad(file)
        began = time.process_time()
        peer = cNMF(folder, "peer")
        words = {"n_iter": STARTS, "seed": seed, "num_highvar_genes": GENES}
        peer.prepare(str(file), list(ranks), **words)
        peer.factorize()
        peer.combine()
        shared = (time.process_time() - began) / len(ranks)
        for rank in ranks:
            began = time.process_time()
            peer.consensus(rank, density_threshold=DENSITY, show_clustering=False)
            seconds = shared + time.process_time() - began
            usages, scores, tpm, _ = peer.load_results(rank, DENSITY)
            stem = f"{folder}/peer/peer.spectra.k_{rank}.dt_0_5.consensus.txt"
            components = pd.read_csv(stem, sep="\t", index_col=0)
            arrays = {
                "components": components.to_numpy(),
                "tpm": tpm.to_numpy().T,
                "scores": scores.to_numpy().T,
                "usages": usages.to_numpy().T,
                "fitted": np.isin(matrix.feature_names, components.columns),
            }
            found[rank] = arrays, seconds
    return found


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines of rows matched one to one."""
    return assign(cosine_matrix(a, b)).scores


def fit_error(matrix: Matrix, arrays: dict[str, np.ndarray]) -> float:
    """Relative error of what both are fitted to, from components and the best usages >= 0."""
    values = matrix.values[:, np.flatnonzero(arrays["fitted"])]
    dense = values.toarray() if matrix.is_sparse else values
    fitted = dense / dense.std(axis=0, ddof=1)
    usages = nmfnet.project(fitted, arrays["components"], dtype="float64")
    return float(np.linalg.norm(fitted - usages @ arrays["components"]) / np.linalg.norm(fitted))


def compare(out: Path) -> None:
    """A line for every data set and rank."""
    nmfnet.select_rank(np.random.default_rng(0).poisson(3.0, (30, 40)), [2], selection="programs")
    rows: list[dict[str, Any]] = []
    for name, options, ranks in CASES:
        matrix = source(name, **options).read()
        peer, again = (theirs(matrix, ranks, seed) for seed in (0, 1))
        labels = matrix.labels
        for rank in ranks:
            mine, seconds, numbers = ours(matrix, rank)
            (other, others), (twin, _) = peer[rank], again[rank]
            same = mine["fitted"] & other["fitted"]
            row: dict[str, Any] = {"data": name, "rank": rank, "cells": matrix.shape[0]}
            row["genes_in_common"] = int(same.sum())
            for key in ("components", "tpm", "scores", "usages"):
                pairs = cosines(mine[key], other[key])
                row |= {f"{key}_mean": pairs.mean(), f"{key}_min": pairs.min()}
            pairs = cosines(other["components"], twin["components"])
            row |= {"cnmf_twice_mean": pairs.mean(), "cnmf_twice_min": pairs.min()}
            row["above"] = int((cosines(mine["components"], other["components"]) >= 0.95).sum())
            row["above_cnmf_twice"] = int((pairs >= 0.95).sum())
            row |= {key: numbers[key] for key in ("silhouette_mean", "silhouette_min", "kept")}
            row |= {"seconds": seconds, "seconds_cnmf": others}
            row |= {"error": fit_error(matrix, mine), "error_cnmf": fit_error(matrix, other)}
            row["ari"] = adjusted_rand(labels, mine["usages"].argmax(0))
            row["ari_cnmf"] = adjusted_rand(labels, other["usages"].argmax(0))
            rows.append({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
            print(rows[-1], flush=True)
            with out.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    warnings.simplefilter("ignore", FutureWarning)
    compare(Path(sys.argv[1]))
