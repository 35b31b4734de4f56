"""Relaxations of one problem, and what a graph adds to NMF: python experiments/graphs/relations.py.

Writes relations.csv and gnmf.csv beside this file; about two CPU minutes.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans

import nmfnet
from nmfnet import metrics
from nmfnet.data.sources.registry import source

HERE = Path(__file__).parent
QUIET = {"figures": False, "threads": 1, "progress": False}


def planted(n: int = 300, groups: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A planted block model: links within groups with probability .5, between them with .05."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) % groups
    upper = np.triu(rng.random((n, n)) < np.where(group[:, None] == group, 0.5, 0.05), 1)
    return (upper | upper.T).astype(float), group


def normalised(A: np.ndarray) -> np.ndarray:
    """``D^-1/2 A D^-1/2``."""
    root = np.sqrt(A.sum(1))
    return A / root[:, None] / root


def partition(clusters: np.ndarray) -> np.ndarray:
    """Columns of length 1 that say who is in which cluster."""
    P = np.eye(clusters.max() + 1)[clusters]
    return P / np.sqrt(np.maximum(P.sum(0), 1))


def clusters_of(model: Any, restart: int | None = None) -> np.ndarray:
    """Clusters of the training rows of a restart, the best by default."""
    with torch.no_grad(), model.restarts(int(model.best) if restart is None else restart):
        rows = torch.arange(model.sizes.n_samples)
        code = model.encode(nmfnet.types.Batch(model.training_rows, rows))
        return model.clusters(code).numpy()


def fit(X: np.ndarray, model: str, **settings: Any) -> tuple[Any, float]:
    """A fit, and the CPU seconds that it took."""
    began = time.process_time()
    fitted = nmfnet.fit(X, model, **QUIET, **settings)
    fitted.training_rows = torch.from_numpy(np.asarray(X, np.float32))
    return fitted, time.process_time() - began


def relations() -> pd.DataFrame:
    """One objective, ``½ ||A - H Hᵀ||²``: over H of any sign, over H >= 0, and over partitions."""
    sets = {"planted blocks": planted()}
    for name in ("graph-clusters", "digits-knn"):
        matrix = replace(source(name), normalize="none").read()
        sets[name] = matrix.values.toarray(), matrix.labels
    rows = []
    for name, (links, labels) in sets.items():
        k, A = len(np.unique(labels)), normalised(links)
        size = 0.5 * (A**2).sum()
        found = {
            "spectral, kernel_kmeans of D^-1/2 A D^-1/2": (
                A,
                "spectral",
                {"relaxation": "kernel_kmeans"},
            ),
            "spectral, njw": (links, "spectral", {}),
            "spectral, normalized_cut": (links, "spectral", {"relaxation": "normalized_cut"}),
            "sym_nmf": (A, "sym_nmf", {"n_restarts": 10, "max_iter": 2000}),
        }
        if len(A) < 1000:  # multiplicative updates: slow
            found["sym_trifactor"] = A, "sym_trifactor", {"n_restarts": 5, "max_iter": 2000}
        reference = None
        for what, (X, model, own) in found.items():
            fitted, seconds = fit(X, model, n_components=k, **own)
            clusters = clusters_of(fitted)
            reference = clusters if reference is None else reference
            P = partition(clusters)
            rows.append(
                {
                    "data": name,
                    "model": what,
                    "objective": fitted.metrics["objective"] / size,
                    "of its partition": 0.5 * ((A - P @ P.T) ** 2).sum() / size,
                    "accuracy": metrics.clustering_accuracy(labels, clusters),
                    "nmi": metrics.normalized_mutual_information(labels, clusters),
                    "ari with the first": metrics.adjusted_rand(reference, clusters),
                    "ended": fitted.metrics["status"],
                    "cpu_seconds": round(seconds, 1),
                }
            )
            print(rows[-1], flush=True)
            if model == "sym_nmf":
                each = [
                    metrics.clustering_accuracy(labels, clusters_of(fitted, i))
                    for i in range(fitted.n_restarts)
                ]
                values = 2 * fitted.objectives.numpy()
                print(
                    name, "sym_nmf ||A - WW'||^2", np.sort(values), "accuracies", each, flush=True
                )
                rows[-1]["accuracy of the starts"] = f"{min(each):.3f} to {max(each):.3f}"
                rows[-1]["starts within .05 %"] = int((values <= values.min() * 1.0005).sum())
                rows[-1]["squared error"] = float(values.min())
    return pd.DataFrame(rows)


def gnmf() -> pd.DataFrame:
    """NMF with and without a graph of nearest neighbours, rows of length 1 as in the source."""
    rows = []
    for name in ("digits", "orl-faces"):
        matrix = source(name).read()
        labels, X = (
            matrix.labels,
            matrix.values / np.linalg.norm(matrix.values, axis=1, keepdims=True),
        )
        k = len(np.unique(labels))
        for weight in (0, 1, 10, 100):
            graph = {
                "penalty": ["laplacian", "l2"],
                "penalty.laplacian.graph": "knn",
                "penalty.laplacian.weight": weight,
                "penalty.l2.on": "H",
            }
            for seed in range(5):
                own = {"n_components": k, "seed": seed, "solver": "mu", "max_iter": 1000}
                fitted, seconds = fit(X, "nmf", **own, **(graph if weight else {}))
                W = fitted.factors["W"]()[0].detach().numpy()
                W = W / np.maximum(np.linalg.norm(W, axis=1, keepdims=True), 1e-12)
                clusters = KMeans(k, n_init=10, random_state=seed).fit_predict(W)
                rows.append(
                    {
                        "data": name,
                        "weight": weight,
                        "seed": seed,
                        "nmi": metrics.normalized_mutual_information(labels, clusters),
                        "accuracy": metrics.clustering_accuracy(labels, clusters),
                        "nmi of the largest": fitted_nmi(fitted, labels),
                        "relative_error": fitted.metrics["train/relative_error"],
                        "ended": fitted.metrics["status"],
                        "cpu_seconds": round(seconds, 1),
                    }
                )
                print(rows[-1], flush=True)
        fitted, seconds = fit(X, "kmeans", n_components=k, n_restarts=10)
        clusters = clusters_of(fitted)
        rows.append(
            {
                "data": name,
                "weight": "kmeans of X",
                "seed": 0,
                "nmi": metrics.normalized_mutual_information(labels, clusters),
                "accuracy": metrics.clustering_accuracy(labels, clusters),
                "relative_error": fitted.metrics["train/relative_error"],
                "ended": fitted.metrics["status"],
                "cpu_seconds": round(seconds, 1),
            }
        )
    return pd.DataFrame(rows)


def fitted_nmi(fitted: Any, labels: np.ndarray) -> float:
    """Of clusters by the largest component."""
    W = fitted.factors["W"]()[0].detach().numpy()
    return metrics.normalized_mutual_information(labels, metrics.clusters_of(W))


if __name__ == "__main__":
    relations().to_csv(HERE / "relations.csv", index=False, float_format="%.5g")
    gnmf().to_csv(HERE / "gnmf.csv", index=False, float_format="%.4g")
