"""Hierarchies on equal terms: every model on the same rows, labels, starts and stopping rule.

    python experiments/neural_nmf/study.py synthetic
    python experiments/neural_nmf/study.py newsgroups
    python experiments/neural_nmf/study.py summary       # tables and figures from the files

Every restart is a seed: a model's row in the tables is the median over them.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nmfnet
from nmfnet import metrics
from nmfnet.core.model import Factorization
from nmfnet.data import LabelSplit, Matrix
from nmfnet.data.sources.registry import source
from nmfnet.kernels.arrays import as_tensor
from nmfnet.types import Batch

HERE = Path(__file__).parent
SEEDS = 8
DEPTHS = {1: ([9], "nine"), 2: ([9, 4], "four"), 3: ([9, 4, 2], "two")}
SUPERVISION = {"none": 0.0, "40 %": 0.6, "all": 0.0}
"""Share of labels hidden in the blocks; with "none" the models see no label at all."""

HIDDEN = 0.25
"""Share of labels hidden in the newsgroups, from every model."""

WEIGHT = 0.01
"""``label_weight`` of every model that learns from labels."""

BUDGET: dict[str, dict[str, Any]] = {
    "synthetic": {"max_iter": 5000, "dtype": "float64"},
    "newsgroups": {"max_iter": 1000, "dtype": "float32"},
}
"""The same for every model; otherwise the default stopping rule."""

SMOOTH = {
    "synthetic": {"solver": "gd"},
    "newsgroups": {"solver": "lbfgs", "solver.n_inner": 100},
}
"""Solver of the models that minimise one smooth function of all their parameters."""

Job = tuple[str, str, list[int], str, str, dict[str, Any]]
"""Data, its labels, ranks, supervision, name of the model, settings."""


def models(layers: list[int], supervised: bool) -> dict[str, dict[str, Any]]:
    """Settings of every model that takes part, by its name in the tables."""
    label = {"supervision": "l2", "label_weight": WEIGHT} if supervised else {}
    weight = {"label_weight": WEIGHT} if supervised else {"label_weight": 0.0}
    hierarchies: dict[str, dict[str, Any]] = {
        "hierarchical_nmf": {"model": "hierarchical_nmf", **weight},
        "neural_nmf": {"model": "neural_nmf", **label},
    }
    if not supervised:
        hierarchies["neural_nmf energy"] = {"model": "neural_nmf", "objective": "energy"}
        hierarchies["deep_nmf"] = {"model": "deep_nmf"}
    if len(layers) > 1:
        every = {"model": "neural_nmf", "objective": "every_layer"}
        hierarchies["neural_nmf every layer"] = every | label
    flat: dict[str, dict[str, Any]] = {"nmf": {"model": "nmf"}}
    if supervised:
        flat = {"semi_supervised_nmf": {"model": "semi_supervised_nmf", **weight}}
    found = {name: own | {"n_components": layers[-1]} for name, own in flat.items()}
    return found | {name: own | {"layers": layers} for name, own in hierarchies.items()}


def run(job: Job) -> list[dict[str, Any]]:
    """One row for each seed of a model."""
    data, labels, layers, supervision, name, settings = job
    torch.set_num_threads(1)
    matrix = source(data, labels=labels).read()
    assert matrix.labels is not None
    hidden = SUPERVISION[supervision] if data == "hierarchical_blocks" else HIDDEN
    own = dict(settings)
    if supervision != "none":
        own["labels"] = matrix.labels
        own |= {"split": "labels", "split.hidden": hidden} if hidden else {}
    started = time.process_time()
    fitted = nmfnet.fit(
        matrix.values,
        own.pop("model"),
        n_restarts=SEEDS,
        seed=0,
        threads=1,
        figures=False,
        **own,
    )
    seconds = time.process_time() - started
    seen = matrix.labels.copy()
    scored = matrix.labels.copy()
    if hidden:
        rows = LabelSplit(hidden=hidden)(matrix, 0).hidden_labels
        seen[rows] = -1
        scored[seen >= 0] = -1
    common = {
        "data": data,
        "layers": "-".join(map(str, layers)),
        "supervision": supervision,
        "model": name,
        "seconds": round(seconds, 2),
    }
    return [common | {"seed": i} | scores(fitted, i, matrix, seen, scored) for i in range(SEEDS)]


def factors(fitted: Factorization, i: int, matrix: Matrix) -> list[tuple[np.ndarray, np.ndarray]]:
    """W_l and H_l of every layer of one restart; the only layer of a flat model."""
    x = as_tensor(matrix.values, fitted.precision, torch.device("cpu"))
    batch = Batch(x, torch.arange(x.shape[0]))
    with torch.no_grad(), fitted.restarts(i):
        found = fitted.layers(batch) or [(fitted.encode(batch), fitted.components())]
        return [(W.detach().numpy(), H.detach().numpy()) for W, H in found]


def scores(
    fitted: Factorization, i: int, matrix: Matrix, seen: np.ndarray, scored: np.ndarray
) -> dict[str, Any]:
    """Error, recovered classes and accuracy of one restart."""
    layers = factors(fitted, i, matrix)
    W = layers[-1][0]
    numbers = metrics.layer_metrics(matrix.values, layers, matrix.hierarchy)
    result: dict[str, Any] = {
        "n_iter": int(fitted.n_iter[i]),
        "converged": bool(fitted.converged[i]),
        "lowest": i == int(fitted.best),
    }
    result["error"] = numbers[f"layer{len(layers)}/relative_error"]
    result["accuracy"] = metrics.readout_accuracy(W, seen, W, scored)
    result |= numbers
    if matrix.kind == "text":
        top = metrics.top_features(layers[-1][1], 10)
        result["npmi"] = float(metrics.npmi_coherence(top, matrix.values).mean())
        result["umass"] = float(np.nanmean(metrics.umass_coherence(top, matrix.values)))
        result["c_v"] = float(metrics.cv_coherence(top, matrix.values).mean())
        result["diversity"] = metrics.topic_diversity(metrics.top_features(layers[-1][1], 25))
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in result.items()}


def settings(study: str, own: dict[str, Any]) -> dict[str, Any]:
    """Budget and solver of a model."""
    smooth = own["model"] in ("neural_nmf", "semi_supervised_nmf")
    return BUDGET[study] | (SMOOTH[study] if smooth else {})


def synthetic() -> list[Job]:
    """Every depth, supervision and model on the blocks."""
    return [
        ("hierarchical_blocks", labels, layers, supervision, name, own | settings("synthetic", own))
        for layers, labels in DEPTHS.values()
        for supervision in SUPERVISION
        for name, own in models(layers, supervision != "none").items()
        if supervision == "none" or own.get("objective") != "every_layer"
    ]


def newsgroups() -> list[Job]:
    """[10, 6] on 200 posts; labels are the six topics, three quarters of them seen."""
    return [
        ("20news-neuralnmf", "super", [10, 6], supervision, name, own | settings("newsgroups", own))
        for supervision in ("none", "75 %")
        for name, own in models([10, 6], supervision != "none").items()
    ]


def measure(name: str, jobs: list[Job]) -> None:
    """Run the jobs in two processes and save one line for each seed."""
    began = time.perf_counter()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        rows = [row for part in pool.map(run, jobs) for row in part]
    write(HERE / f"{name}.csv", rows)
    cpu = sum({(r["layers"], r["supervision"], r["model"]): r["seconds"] for r in rows}.values())
    wall = round(time.perf_counter() - began, 1)
    times = {"wall_seconds": wall, "cpu_seconds_of_fits": round(cpu, 1), "processes": 2}
    (HERE / f"{name}_time.json").write_text(json.dumps(times, indent=2) + "\n")
    print(name, times)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """All columns of all rows."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a table as text."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def groups(rows: Iterable[dict[str, str]]) -> dict[tuple[str, str, str], list[dict[str, str]]]:
    """Rows by ranks, supervision and model, in the order of the file."""
    found: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault((row["layers"], row["supervision"], row["model"]), []).append(row)
    return found


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    """Numbers of a column; nan where there is none."""
    return np.array([float(row[name]) if row.get(name) else np.nan for row in rows])


def floor(layers: str, values: Any) -> float:
    """Relative error of the SVD at the last rank: no factorisation is below it."""
    return metrics.svd_floor(values, int(layers.split("-")[-1]))


def table(header: list[str], lines: list[list[str]]) -> None:
    """Print a table in markdown."""
    for line in (header, ["---"] * len(header), *lines):
        print("| " + " | ".join(line) + " |")
    print()


def medians(rows: list[dict[str, str]], *names: str, digits: int = 2) -> list[str]:
    """Median over seeds of some columns; empty where a model has no such number."""
    found = [np.median(column(rows, name)) for name in names]
    return ["" if np.isnan(value) else f"{value:.{digits}f}" for value in found]


def converged(rows: list[dict[str, str]]) -> str:
    """How many seeds have settled within the budget."""
    return f"{sum(row['converged'] == 'True' for row in rows)}/{len(rows)}"


def summary() -> None:
    """Print the tables of the README and draw the figure."""
    X = source("hierarchical_blocks").read().values
    found = groups(read(HERE / "synthetic.csv"))
    lines = []
    for key, rows in found.items():
        error = column(rows, "error")
        ari = medians(rows, *(f"layer{i}/ari" for i in (1, 2, 3)))
        low, high = f"{error.min():.5f}", f"{error.max():.5f}"
        middle, accuracy = medians(rows, "error", digits=5), medians(rows, "accuracy", digits=3)
        lines.append([*key, *middle, low, high, *accuracy, " ".join(ari), converged(rows)])
    spread = ["error, median", "best", "worst"]
    own = ["ranks", "labels", "model"]
    table([*own, *spread, "accuracy", "ARI by layer", "settled"], lines)
    floors = {layers: floor(layers, X) for layers in ("9", "9-4", "9-4-2")}
    print("SVD:", {layers: round(value, 6) for layers, value in floors.items()}, "\n")
    draw(found, floors)
    if (HERE / "newsgroups.csv").is_file():
        lines = []
        for (_, supervision, model), rows in groups(read(HERE / "newsgroups.csv")).items():
            errors = medians(rows, "layer1/relative_error", "error", digits=4)
            accuracy = [
                *medians(rows, "accuracy", digits=3),
                f"{column(rows, 'accuracy').max():.3f}",
            ]
            topics = medians(rows, "npmi", "umass", "c_v", "diversity")
            chosen = [row for row in rows if row["lowest"] == "True"]
            errors += medians(chosen, "layer1/relative_error", "error", digits=4)
            lines.append([supervision, model, *errors, *accuracy, *topics, converged(rows)])
        scores = ["accuracy", "best", "NPMI", "UMass", "C_v", "diversity", "settled"]
        chosen_ones = ["chosen, layer 1", "last layer"]
        table([*own[1:], "error, layer 1", "last layer", *chosen_ones, *scores], lines)


def draw(found: dict[tuple[str, str, str], list[dict[str, str]]], floors: dict[str, float]) -> None:
    """A dot for every seed: relative error of the last layer, one panel for each depth."""
    from nmfnet.plots import save, style

    names = list(dict.fromkeys((s, m) for _, s, m in found))
    height = 0.19 * len(names)
    figure = style.new_figure(9.2, style.HEAD + height + 0.5)
    style.heading(figure, "Relative error of the last layer, 8 seeds each", "Line: the SVD.")
    for i, (layers, least) in enumerate(floors.items()):
        axes = style.panel(figure, 2.35 + 2.3 * i, style.HEAD, 2.05, height, label=layers, grid="x")
        axes.axvline(least, color=style.GREY, linewidth=0.8)
        for row, (supervision, model) in enumerate(names):
            rows = found.get((layers, supervision, model), [])
            error = column(rows, "error")
            axes.scatter(
                error, np.full(len(error), row), s=14, alpha=0.6, linewidths=0,
                color=style.PALETTE[list(SUPERVISION).index(supervision)],
            )  # fmt: skip
        texts = (
            [f"{model}, labels: {supervision}" for supervision, model in names] if i == 0 else []
        )
        axes.set(
            ylim=(len(names) - 0.5, -0.5),
            yticks=range(len(names)),
            yticklabels=texts or [""] * len(names),
        )
        axes.locator_params(axis="x", nbins=4)
        style.label_axes(axes, x="||X - X_hat|| / ||X||", title=f"ranks {layers}")
    save(figure, HERE / "synthetic.png")


def tree() -> None:
    """The tree of topics of one Neural NMF of the newsgroups, the best of its seeds."""
    from nmfnet.plots import save
    from nmfnet.plots.tree import topic_tree

    matrix = source("20news-neuralnmf", labels="super").read()
    own = models([10, 6], True)["neural_nmf every layer"]
    own |= settings("newsgroups", own) | {"split": "labels", "split.hidden": HIDDEN}
    fitted = nmfnet.fit(
        matrix.values, own.pop("model"), labels=matrix.labels, n_restarts=2, threads=1,
        figures=False, **own,
    )  # fmt: skip
    layers = [H for _, H in factors(fitted.double(), int(fitted.best), matrix)]
    shares = metrics.topic_tree(layers)
    save(topic_tree(layers, shares, matrix.feature_names), HERE / "tree.png")


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what in ("synthetic", "newsgroups"):
        measure(what, synthetic() if what == "synthetic" else newsgroups())
    elif what == "summary":
        summary()
    elif what == "tree":
        tree()
    else:
        sys.exit(__doc__)
