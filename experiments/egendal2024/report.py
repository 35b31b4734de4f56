"""Tables and figures of the runs there are: ``python experiments/egendal2024/report.py``.

Reads ``published/`` and ``results/``; writes ``tables/*.csv`` and ``figures/*.png``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import (
    HERE,
    MODELS,
    catalogue,
    consistency_differences,
    consistency_rows,
    data_folder,
    error_differences,
    error_rows,
    read_csv,
    reference_rows,
    write_csv,
)

from nmfnet import metrics
from nmfnet.data.sources import egendal

COLOURS = {"nmf": "#33658a", "autoencoder": "#d1495b", "convex_nmf": "#8aa399"}
LABELS = {"nmf": "NMF", "autoencoder": "autoencoder", "convex_nmf": "convex NMF"}
Signatures = dict[tuple[str, str], np.ndarray]


def trained(terms: str) -> tuple[list[dict[str, Any]], Signatures]:
    """Rows of the runs, and signatures (runs, k, 96) of the splits that every model has."""
    table = read_csv(HERE / "results" / f"{terms}.csv")
    found: Signatures = {}
    for cohort in dict.fromkeys(r["cohort"] for r in table):
        models = list(dict.fromkeys(r["model"] for r in table if r["cohort"] == cohort))
        ids = {
            m: {r["run"] for r in table if (r["cohort"], r["model"]) == (cohort, m)} for m in models
        }
        common = sorted(set.intersection(*ids.values()))
        if len(common) < 5:
            continue
        with np.load(HERE / "results" / f"{terms}_{cohort}.npz") as kept:
            for model in models:
                found[cohort, model] = np.stack([kept[f"{model}_{i}"] for i in common])
    return table, found


def published() -> Signatures:
    """Signatures of the published runs."""
    folder = data_folder() / "egendal-2024"
    return {(c, m): egendal.load_components(folder, c, m) for c in egendal.COHORTS for m in MODELS}


def tables(terms: str) -> None:
    """The same tables for every tier."""
    table, signatures = trained(terms)
    if not table:
        return
    out = HERE / "tables"
    out.mkdir(exist_ok=True)
    write_csv(out / f"{terms}_errors.csv", error_rows(table))
    parts = ("train_mse", "test_mse")
    if ratios := [r for p in parts for r in error_differences(table, p)]:
        write_csv(out / f"{terms}_error_ratios.csv", ratios)
    if not signatures:
        return
    write_csv(out / f"{terms}_consistency.csv", consistency_rows(signatures))
    if differences := consistency_differences(signatures):
        write_csv(out / f"{terms}_consistency_differences.csv", differences)
    channels = catalogue("Ovary").feature_names
    write_csv(out / f"{terms}_reference.csv", reference_rows(signatures, channels))


def against_stored(terms: str) -> None:
    """Train errors of the same runs, ours and those of the stored factors: medians and their ratio."""
    stored = {
        (r["cohort"], r["model"], r["run"]): r["train_mse"]
        for r in read_csv(HERE / "published" / "runs.csv")
    }
    ours = {
        (r["cohort"], r["model"], r["run"]): r["train_mse"]
        for r in read_csv(HERE / "results" / f"{terms}.csv")
    }
    rows = []
    for cohort, model in dict.fromkeys(key[:2] for key in ours):
        keys = [key for key in ours if key[:2] == (cohort, model) and key in stored]
        if not keys:
            continue
        a, b = np.array([stored[k] for k in keys]), np.array([ours[k] for k in keys])
        rows.append(
            {"cohort": cohort, "model": model, "splits": len(keys)}
            | {"stored_median": float(np.median(a)), "ours_median": float(np.median(b))}
            | {"ratio_of_medians": float(np.median(b) / np.median(a))}
            | {"median_of_ratios": float(np.median(b / a)), "ours_lower": int((b < a).sum())}
        )
    if rows:
        write_csv(HERE / "tables" / f"{terms}_against_stored.csv", rows)


def _boxes(axes: Any, groups: dict[str, list[np.ndarray]], names: list[str]) -> None:
    """One box per model and group, side by side, with the values as points."""
    generator = np.random.default_rng(0)
    width = 0.8 / len(MODELS)
    for i, model in enumerate(MODELS):
        places = np.arange(len(names)) + (i - 1) * width
        drawn = axes.boxplot(
            groups[model],
            positions=places,
            widths=0.85 * width,
            showfliers=False,
            patch_artist=True,
        )
        for box in drawn["boxes"]:
            box.set(facecolor=COLOURS[model], alpha=0.55, edgecolor="#333333")
        for line in drawn["medians"]:
            line.set(color="black")
        for place, values in zip(places, groups[model], strict=True):
            shown = values if len(values) <= 60 else generator.choice(values, 60, replace=False)
            jitter = generator.uniform(-0.25, 0.25, len(shown)) * width
            axes.plot(place + jitter, shown, ".", ms=2.5, color=COLOURS[model], alpha=0.7)
        axes.plot([], [], "s", color=COLOURS[model], label=LABELS[model])
    axes.set_xticks(np.arange(len(names)), names)
    axes.spines[["top", "right"]].set_visible(False)


def consistency_figure(panels: dict[str, Signatures], path: Path) -> None:
    """Cosine of pairs of runs, per cohort and model, one panel per tier."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * len(panels), 3.6), layout="constrained")
    shared = None
    for i, (title, runs) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), i + 1, sharey=shared)
        shared = shared or axes
        cohorts = [c for c in egendal.COHORTS if (c, "nmf") in runs]
        groups = {
            m: [metrics.pair_values(metrics.pairwise_matched_cosine(runs[c, m])) for c in cohorts]
            for m in MODELS
        }
        names = [f"{c}\n{len(runs[c, 'nmf'])} runs" for c in cohorts]
        _boxes(axes, groups, names)
        axes.set_title(title, fontsize=10)
        if i == 0:
            axes.set_ylabel("mean matched cosine of two runs")
            axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=130)


def error_figure(panels: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Training error over that of converged NMF on the same split."""
    from matplotlib.figure import Figure

    best = {
        (r["cohort"], r["run"]): r["train_mse"]
        for r in read_csv(HERE / "results" / "equal.csv")
        if r["model"] == "nmf"
    }
    figure = Figure(figsize=(4.4 * len(panels), 3.6), layout="constrained")
    shared = None
    for i, (title, table) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), i + 1, sharey=shared)
        shared = shared or axes
        ratio: dict[tuple[str, str], list[float]] = {}
        for r in table:
            if r["model"] in MODELS and (r["cohort"], r["run"]) in best:
                relative = r["train_mse"] / best[r["cohort"], r["run"]]
                ratio.setdefault((r["cohort"], r["model"]), []).append(relative)
        cohorts = [c for c in egendal.COHORTS if (c, "nmf") in ratio]
        groups = {m: [np.array(ratio.get((c, m), [np.nan])) for c in cohorts] for m in MODELS}
        _boxes(axes, groups, cohorts)
        axes.set_yscale("log")
        axes.set_yticks([1, 1.5, 2, 3, 5], ["1", "1.5", "2", "3", "5"])
        axes.minorticks_off()
        axes.axhline(1, color="#999999", lw=0.7, zorder=0)
        axes.set_title(title, fontsize=10)
        if i == 0:
            axes.set_ylabel("training error / converged NMF")
        if i == len(panels) - 1:
            axes.legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(path, dpi=130)


def signature_figure(cohort: str, runs: Signatures, path: Path) -> None:
    """Consensus signatures of the three models side by side, matched to those of NMF."""
    from matplotlib.figure import Figure

    from nmfnet.kernels.assignment import assign, cosine_matrix

    channels = catalogue(cohort).feature_names
    consensus = {m: metrics.consensus_medoids(runs[cohort, m]) for m in MODELS}
    first, k = consensus["nmf"], len(consensus["nmf"])
    figure = Figure(figsize=(12, 1.25 * k + 0.4), layout="constrained")
    palette = dict(
        zip(("C>A", "C>G", "C>T", "T>A", "T>C", "T>G"),
            ("#1ebff0", "#050708", "#e62725", "#cbcacb", "#a1cf64", "#edc8c5"), strict=True)
    )  # fmt: skip
    colours = [palette[name[2:5]] for name in channels]
    for j, model in enumerate(MODELS):
        pairs = assign(cosine_matrix(first, consensus[model]))
        for i, column, cosine in zip(pairs.rows, pairs.columns, pairs.scores, strict=True):
            axes = figure.add_subplot(k, 3, 3 * i + j + 1)
            axes.bar(np.arange(96), consensus[model][column], color=colours, width=0.8)
            axes.set(xticks=[], yticks=[], xlim=(-1, 96))
            axes.spines[["top", "right", "left"]].set_visible(False)
            if model != "nmf":
                axes.text(
                    0.99,
                    0.8,
                    f"cosine {cosine:.2f}",
                    transform=axes.transAxes,
                    ha="right",
                    fontsize=8,
                )
            if i == 0:
                axes.set_title(LABELS[model], fontsize=10)
    figure.supxlabel(
        "96 channels: C>A (blue)  C>G (black)  C>T (red)  T>A (grey)  T>C (green)  T>G (pink)",
        fontsize=8,
    )
    figure.savefig(path, dpi=100)


def main() -> None:
    """Every table and figure that the results allow."""
    (HERE / "figures").mkdir(exist_ok=True)
    for terms in ("published", "published_nmfnet", "equal", "ordinary", "network", "extensions"):
        tables(terms)
    against_stored("published")
    against_stored("published_nmfnet")
    tiers = {"published factors": published()}
    errors = {"published factors": read_csv(HERE / "published" / "runs.csv")}
    for title, terms in (("as published, trained again", "published"), ("equal terms", "equal")):
        table, signatures = trained(terms)
        whole = {
            k: v for k, v in signatures.items() if all((k[0], m) in signatures for m in MODELS)
        }
        tiers |= {title: whole} if whole else {}
        errors |= {title: table} if table else {}
    consistency_figure(tiers, HERE / "figures" / "consistency.png")
    error_figure(errors, HERE / "figures" / "errors.png")
    for cohort in egendal.COHORTS:
        if all((cohort, m) in tiers.get("equal terms", {}) for m in MODELS):
            signature_figure(
                cohort, tiers["equal terms"], HERE / "figures" / f"signatures_{cohort}.png"
            )


if __name__ == "__main__":
    main()
