"""Several views of the same samples, and several data sets of the same features.

    python experiments/views/views.py mfeat tcga inmf solvers online

writes mfeat.csv, imputation.csv, tcga.csv, inmf.csv, solvers.csv and online.csv beside this file.
``mfeat`` also fits MOFA where mofapy2 is installed; without it, its committed line is left out.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans

import nmfnet
from nmfnet import metrics
from nmfnet.data.formats.rda import read_rda
from nmfnet.data.sources.registry import source

HERE = Path(__file__).parent
STARTS = 5
Row = dict[str, Any]


def clustered(W: np.ndarray, labels: np.ndarray, seed: int) -> tuple[float, float]:
    """Accuracy and mutual information of k-means on rows of norm 1."""
    rows = W / np.linalg.norm(W, axis=1, keepdims=True).clip(1e-12)
    found = KMeans(len(set(labels.tolist())), n_init=10, random_state=seed).fit_predict(rows)
    accuracy = metrics.clustering_accuracy(labels, found)
    return accuracy, metrics.normalized_mutual_information(labels, found)


def fitted(X: Any, k: int, seed: int, views: dict[str, Any] | None = None, **more: Any) -> Any:
    """NMF of a table, or joint NMF of it and others."""
    model = "nmf" if views is None else "joint_nmf"
    given = {} if views is None else {"views": views}
    return nmfnet.fit(X, model, n_components=k, seed=seed, figures=False, **given, **more)


def weights(model: Any) -> np.ndarray:
    """W of the best restart."""
    return model.factors["W"]()[int(model.best)].detach().cpu().numpy()


def summary(data: str, model: str, found: list[tuple[float, float]], seconds: float) -> Row:
    """A line of the table: means over starts, and the range of the accuracy."""
    accuracy, nmi = np.array(found).T
    return {
        "data": data,
        "model": model,
        "starts": len(found),
        "accuracy": f"{accuracy.mean():.3f}",
        "least": f"{accuracy.min():.3f}",
        "most": f"{accuracy.max():.3f}",
        "nmi": f"{nmi.mean():.3f}",
        "cpu_seconds": f"{seconds / len(found):.2f}",
    }


def compare(
    data: str, tables: dict[str, np.ndarray], labels: np.ndarray, k: int, starts: int
) -> list[Row]:
    """Every view alone, and all of them."""
    rows, (first, *others) = [], tables
    for name in tables:
        began = time.process_time()
        found = [
            clustered(weights(fitted(tables[name], k, seed)), labels, seed)
            for seed in range(starts)
        ]
        rows.append(summary(data, f"nmf on {name}", found, time.process_time() - began))
    began, views = time.process_time(), {name: tables[name] for name in others}
    models = [fitted(tables[first], k, seed, views) for seed in range(starts)]
    found = [clustered(weights(model), labels, seed) for seed, model in enumerate(models)]
    rows.append(summary(data, "joint_nmf, all views", found, time.process_time() - began))
    clusters = metrics.consensus_clusters(
        metrics.consensus_matrix(np.stack([weights(model) for model in models])), k
    )
    both = (
        metrics.clustering_accuracy(labels, clusters),
        (metrics.normalized_mutual_information(labels, clusters)),
    )
    rows.append(summary(data, f"consensus of these {starts} starts", [both], 0.0))
    rows += mofa(data, tables, labels, k)
    return rows


def mofa(data: str, tables: dict[str, np.ndarray], labels: np.ndarray, k: int) -> list[Row]:
    """MOFA2 with as many factors, where it is installed."""
    try:
        from mofapy2.run.entry_point import entry_point
    except ImportError:
        return []
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        entry = entry_point()
        entry.set_data_options(scale_views=True)
        entry.set_data_matrix([[table] for table in tables.values()], views_names=list(tables))
        entry.set_model_options(factors=k)
        entry.set_train_options(seed=1, iter=500, quiet=True)
        entry.build()
        entry.run()
        Z = entry.model.getExpectations()["Z"]["E"]
    found = [clustered(np.asarray(Z), labels, 0)]
    return [summary(data, "MOFA2 (mofapy2)", found, time.process_time() - began)]


def mfeat() -> None:
    """Four views of handwritten digits: clusters, and views that are missing."""
    matrix = source("mfeat-digits").read()
    tables = {"pix": matrix.values, **{n: v.values for n, v in matrix.views.items()}}
    rows = compare("mfeat-digits", tables, matrix.labels, 10, STARTS)
    rng = np.random.default_rng(0)
    lacking = {name: rng.random(len(matrix.labels)) < 0.3 for name in tables}
    none = np.all(list(lacking.values()), axis=0)
    lacking["pix"] &= ~none
    holes = {n: np.where(lacking[n][:, None], np.nan, table) for n, table in tables.items()}
    (_, x), *others = holes.items()
    began = time.process_time()
    model = fitted(x, 10, 0, dict(others))
    found = [clustered(weights(model), matrix.labels, 0)]
    rows.append(
        summary(
            "mfeat-digits", "joint_nmf, 30 % of views missing", found, time.process_time() - began
        )
    )
    write("mfeat.csv", rows)
    imputed = []
    for name, table in tables.items():
        rows_of, beside = lacking[name], {n: t for n, t in holes.items() if n not in ("pix", name)}
        own = {n: t[rows_of] for n, t in beside.items()}
        given = holes["pix"][rows_of] if name != "pix" else None
        if given is not None and np.isnan(given).any():  # X too may be missing
            seen = ~np.isnan(given)
            said = model.reconstruct(np.where(seen, given, 0), seen, views=own, view=name)
        else:
            said = model.reconstruct(given, views=own, view="x" if name == "pix" else name)
        size = np.linalg.norm(table[rows_of])
        means = np.nanmean(holes[name], axis=0)
        imputed.append(
            {
                "view": name,
                "rows": int(rows_of.sum()),
                "joint_nmf": f"{np.linalg.norm(table[rows_of] - said) / size:.3f}",
                "column_mean": f"{np.linalg.norm(table[rows_of] - means) / size:.3f}",
            }
        )
    write("imputation.csv", imputed)


def solvers() -> None:
    """Joint NMF, one start each, as NMF of the views side by side, and by multiplicative updates."""
    matrix = source("mfeat-digits").read()
    views = {name: view.values for name, view in matrix.views.items()}
    rows = []
    for seed, solver in itertools.product(range(3), ("hals", "mu")):
        began = time.process_time()
        model = fitted(matrix.values, 10, seed, views, solver=solver)
        rows.append(
            {
                "data": "mfeat-digits",
                "seed": seed,
                "solver": solver,
                "cpu_seconds": f"{time.process_time() - began:.2f}",
                "objective": f"{model.metrics['objective']:.6f}",
                "n_iter": model.metrics["n_iter"],
                "status": model.metrics["status"],
            }
        )
    write("solvers.csv", rows)


def tcga() -> None:
    """Three views of 150 breast cancers of three subtypes."""
    folder = Path(os.environ.get("NMFNET_DATA", "data")) / "breast-tcga-mixomics"
    train = read_rda(folder / "breast.TCGA.rda")["breast.TCGA"]["data.train"]
    tables = {}
    for name in ("mrna", "mirna", "protein"):
        table = np.asarray(train[name].value, float)
        table = (table - table.min(0)) / np.ptp(table, axis=0)
        tables[name] = table / np.linalg.norm(table)
    labels = np.asarray(train["subtype"].value)
    write("tcga.csv", compare("breast TCGA", tables, labels, 3, 10))


def planted(seed: int) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    """Two data sets of four components with shared features of their own; two have private ones in each.

    Returns X, the data set of every row, H (4 x 60) and V (2 x 4 x 60).
    """
    rng = np.random.default_rng(seed)
    H, V = np.zeros((4, 60)), np.zeros((2, 4, 60))
    for j in range(4):
        H[j, 10 * j : 10 * j + 10] = 0.5 + rng.exponential(size=10)
        H[j, :40] += 0.2 * rng.exponential(size=40)
    for i in range(2):
        for j in range(2):
            at = 40 + 10 * i + 5 * j
            V[i, 2 * i + j, at : at + 5] = 0.5 + rng.exponential(size=5)
    parts = [
        rng.dirichlet(np.full(4, 0.3), size=n) * rng.gamma(5, 0.2, size=(n, 1)) @ (H + V[i])
        for i, n in enumerate((120, 90))
    ]
    X = np.vstack(parts)
    X = np.clip(X + 0.02 * X.mean() * rng.normal(size=X.shape), 0, None)
    return X, ["a"] * 120 + ["b"] * 90, H, V


def mixed(seed: int) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    """As `planted`, with private features of every component in both, and mixtures of many components."""
    rng = np.random.default_rng(seed)
    H, V = np.zeros((4, 60)), np.zeros((2, 4, 60))
    H[:, :40] = rng.exponential(size=(4, 40)) * (rng.random((4, 40)) < 0.4)
    for i in range(2):
        at = slice(40 + 10 * i, 50 + 10 * i)
        V[i][:, at] = rng.exponential(size=(4, 10)) * (rng.random((4, 10)) < 0.5)
    codes = [rng.exponential(size=(n, 4)) * (rng.random((n, 4)) < 0.6) for n in (120, 90)]
    X = np.vstack([W @ (H + v) for W, v in zip(codes, V, strict=True)])
    X = np.clip(X + 0.02 * X.mean() * rng.normal(size=X.shape), 0, None)
    return X, ["a"] * 120 + ["b"] * 90, H, V


def inmf() -> None:
    """Shared and private parts of simulated data, for several weights of the private parts."""
    rows = []
    cases = [("separable", planted, weight) for weight in (5.0, 1.0, 0.1, 0.01)]
    for design, make, weight in [*cases, ("mixed", mixed, 0.1)]:
        found = []
        for seed in range(3):
            X, which, H, V = make(seed)
            began = time.process_time()
            model = nmfnet.fit(
                X, "inmf", covariates=which, n_components=4, n_restarts=3, figures=False,
                dtype="float64", private_weight=weight,
            )  # fmt: skip
            seconds = time.process_time() - began
            shared = model.components_
            order = linear_sum_assignment(-_cosine(H, shared))[1]
            own = [model.private_components[name][order] for name in "ab"]
            have = V.sum(-1) > 0  # components with private features
            private = [float(np.diag(_cosine(V[i], own[i]))[have[i]].mean()) for i in range(2)]
            plain = nmfnet.fit(X, n_components=4, n_restarts=3, figures=False).components_
            numbers = model.metrics
            found.append(
                [
                    float(np.diag(_cosine(H, shared[order])).mean()),
                    float(np.mean(private)),
                    float(shared[:, 40:].sum() / shared.sum()),
                    metrics.matched_cosine(plain, H),
                    numbers["alignment/before"],
                    numbers["alignment/after"],
                    float(numbers["converged"]),
                    seconds,
                ]
            )
        words = ["shared_cosine", "private_cosine", "private_features_in_shared", "nmf_cosine"]
        words += ["mixing", "mixing_aligned", "converged", "cpu_seconds"]
        means = np.mean(found, axis=0)
        rows.append(
            {
                "design": design,
                "private_weight": weight,
                **{w: f"{m:.3f}" for w, m in zip(words, means, strict=True)},
            }
        )
    write("inmf.csv", rows)


def cells(seed: int) -> tuple[np.ndarray, list[str]]:
    """Counts of 500 genes in 20,000 cells of two data sets, 20 components with private genes."""
    rng = np.random.default_rng(seed)
    H = rng.exponential(size=(20, 500)) * (rng.random((20, 500)) < 0.15)
    V = rng.exponential(size=(2, 20, 500)) * (rng.random((2, 20, 500)) < 0.03)
    W = rng.gamma(0.5, 1, size=(20_000, 20)) * (rng.random((20_000, 20)) < 0.4)
    X = np.vstack([W[:12_000] @ (H + V[0]), W[12_000:] @ (H + V[1])])
    return rng.poisson(X).astype(np.float32), ["a"] * 12_000 + ["b"] * 8_000


def online() -> None:
    """Objective of iNMF against passes over the rows, by minibatches and by all rows at once."""
    X, which = cells(0)
    sparse = csr_matrix(X)
    rows = []
    for solver, size, most in (("online", 256, 20), ("online", None, 100), ("mu", None, 300)):
        for seed, passes in itertools.product(range(3), (1, 2, 3, 5, 10, 20, 50, 100, 300)):
            if passes <= most:
                steps = passes * -(-len(X) // (size or len(X)))
                own = {"solver": solver, "batch_size": size, "max_iter": steps, "tol": 0.0}
                own |= {"seed": seed, "private_weight": 1.0, "n_components": 20}
                rows.append(_timed("cells", X, which, **own))
                if seed == 0 and passes == 20 and (size or solver == "mu"):
                    rows.append(_timed("cells, sparse", sparse, which, **own))
    for seed in range(3):
        X, which, *_ = planted(seed)
        for solver, size in (("online", 32), ("online", None), ("auto", None)):
            own = {"solver": solver, "batch_size": size, "max_iter": 2000, "dtype": "float64"}
            own |= {"seed": seed, "private_weight": 0.1, "n_components": 4}
            rows.append(_timed("separable", X, which, **own))
    write("online.csv", rows)


def _timed(design: str, X: Any, which: list[str], *, batch_size: int | None, **own: Any) -> Row:
    """Of one start in one thread; without a certificate."""
    began = time.process_time()
    model = nmfnet.fit(
        X, "inmf", covariates=which, batch_size=batch_size, certificate_tol=None, align=False,
        threads=1, figures=False, **own,
    )  # fmt: skip
    n = X.shape[0]
    numbers = model.metrics
    return {
        "design": design,
        "solver": own["solver"],
        "batch_size": batch_size or "all",
        "seed": own["seed"],
        "passes": numbers["n_iter"] // -(-n // (batch_size or n)),
        "objective": f"{numbers['objective']:.7g}",
        "cpu_seconds": f"{time.process_time() - began:.2f}",
    }


def _cosine(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(A, axis=1)[:, None] * np.linalg.norm(B, axis=1)
    return A @ B.T / np.maximum(size, 1e-12)


def write(name: str, rows: list[Row]) -> None:
    """A table beside this file, and on the terminal."""
    with (HERE / name).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(*row.values(), sep="  ", flush=True)


if __name__ == "__main__":
    parts = {part.__name__: part for part in (mfeat, tcga, inmf, solvers, online)}
    for name in sys.argv[1:] or parts:
        parts[name]()
