"""What the two tiers share: data, scores of one factorisation, csv files."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from nmfnet import metrics
from nmfnet.data.sources import egendal
from nmfnet.data.sources.registry import source

HERE = Path(__file__).parent
MODELS = ("nmf", "autoencoder", "convex_nmf")
PAIRS = (("nmf", "autoencoder"), ("autoencoder", "convex_nmf"), ("nmf", "convex_nmf"))


def data_folder() -> Path:
    """The folder with ``gel-sbs`` and ``egendal-2024``."""
    return Path(os.environ["NMFNET_DATA"])


def catalogue(cohort: str) -> egendal.Catalogue:
    """Counts of a cohort, patients in rows."""
    return egendal.load_catalogue(data_folder() / "gel-sbs", cohort)


def reference(channels: list[str]) -> tuple[np.ndarray, list[str]]:
    """Reference signatures of 2019 (COSMIC v3) with columns in the order of ``channels``."""
    known = source("sbs-reference-2020").read()
    place = {name: i for i, name in enumerate(known.feature_names)}
    return known.values[:, [place[name] for name in channels]], known.sample_names


def scores(x_train: np.ndarray, x_test: np.ndarray, W: np.ndarray, H: np.ndarray) -> dict[str, Any]:
    """Errors of exposures W (n_train, k) and signatures H (k, 96), the same for every model."""
    return {
        "train_mse": metrics.mse(x_train, metrics.Product(W, H)),
        "test_mse": metrics.refit_mse(x_test, H),
        "train_kl": metrics.kl(x_train, metrics.Product(W, H)),
        "collapsed": metrics.collapse_count(H),
    }


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows with the same keys; floats with 6 significant digits; in one move."""
    partial = path.with_suffix(".part")
    with partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()})
    partial.replace(path)


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Rows of a csv; what reads as a number is one."""
    if not path.exists():
        return []
    with path.open() as stream:
        return [{k: _number(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def consistency_rows(runs: dict[tuple[str, str], np.ndarray]) -> list[dict[str, Any]]:
    """Consistency of every cohort and model, from signatures (runs, k, 96)."""
    rows = []
    for (cohort, model), H in runs.items():
        found = metrics.consistency(H)._asdict()
        collapsed = sum(metrics.collapse_count(h) > 0 for h in H)
        rows.append({"cohort": cohort, "model": model, **found, "collapsed_runs": collapsed})
    return rows


def consistency_differences(runs: dict[tuple[str, str], np.ndarray]) -> list[dict[str, Any]]:
    """Paired differences of consistency on the same splits, with a jackknife and a bootstrap."""
    rows = []
    for cohort in dict.fromkeys(cohort for cohort, _ in runs):
        for a, b in PAIRS:
            if (cohort, a) not in runs or (cohort, b) not in runs:
                continue
            first, second = (metrics.pairwise_matched_cosine(runs[cohort, m]) for m in (a, b))
            mean, se = metrics.jackknife(first - second)
            low, high = metrics.bootstrap_interval(first - second)
            cross = float(metrics.cross_method_cosine(runs[cohort, a], runs[cohort, b]).mean())
            rows.append(
                {"cohort": cohort, "a": a, "b": b, "difference": mean, "se": se, "z": mean / se}
                | {"low": low, "high": high, "same_split_cosine": cross}
            )
    return rows


def error_differences(table: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    """Ratio of two models' errors split by split: median, its bootstrap interval, who is lower.

    Parameters
    ----------
    table : list of dict
        Rows with cohort, run, model and the error ``part``.
    """
    value = {(r["cohort"], r["model"], r["run"]): r[part] for r in table}
    rows = []
    for cohort in dict.fromkeys(r["cohort"] for r in table):
        for a, b in PAIRS:
            ids = sorted(i for c, m, i in value if (c, m) == (cohort, a))
            ids = [i for i in ids if (cohort, b, i) in value]
            if len(ids) < 2:
                continue
            ratio = np.array([value[cohort, b, i] / value[cohort, a, i] for i in ids])
            low, high = _median_interval(ratio)
            rows.append(
                {"cohort": cohort, "error": part, "a": a, "b": b, "splits": len(ids)}
                | {"median_ratio_b_to_a": float(np.median(ratio)), "low": low, "high": high}
                | {"a_lower": int((ratio > 1).sum()), "largest": float(ratio.max())}
            )
    return rows


def _median_interval(values: np.ndarray, n_bootstrap: int = 2000) -> tuple[float, float]:
    draws = np.random.default_rng(0).integers(0, len(values), (n_bootstrap, len(values)))
    low, high = np.quantile(np.median(values[draws], axis=1), (0.025, 0.975)).tolist()
    return low, high


def reference_rows(
    runs: dict[tuple[str, str], np.ndarray], channels: list[str]
) -> list[dict[str, Any]]:
    """Mean cosine with the reference, one to one and best match, and of the PAM consensus."""
    known, names = reference(channels)
    rows = []
    for (cohort, model), H in runs.items():
        matched = [metrics.match_reference(h, known, reference_names=names) for h in H]
        assigned = np.array([np.mean([m.assigned_cosine for m in run]) for run in matched])
        best = np.array([np.mean([m.best_cosine for m in run]) for run in matched])
        consensus = metrics.match_reference(
            metrics.consensus_medoids(H), known, reference_names=names
        )
        ordered = sorted(consensus, key=lambda m: -m.assigned_cosine)
        rows.append(
            {"cohort": cohort, "model": model, "mean": float(assigned.mean())}
            | {"median": float(np.median(assigned)), "min": float(assigned.min())}
            | {"max": float(assigned.max()), "best_match_mean": float(best.mean())}
            | {"consensus_mean": float(np.mean([m.assigned_cosine for m in consensus]))}
            | {"consensus": " ".join(f"{m.assigned}:{m.assigned_cosine:.3f}" for m in ordered)}
        )
    return rows


def error_rows(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, median and quartiles of the errors over runs."""
    rows = []
    for cohort, model in dict.fromkeys((r["cohort"], r["model"]) for r in table):
        own = [r for r in table if (r["cohort"], r["model"]) == (cohort, model)]
        row: dict[str, Any] = {"cohort": cohort, "model": model, "splits": len(own)}
        for part in ("train_mse", "test_mse"):
            values = np.array([r[part] for r in own], float)
            q25, median, q75 = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
            row |= {f"{part}_mean": float(values.mean()), f"{part}_median": median}
            row |= {f"{part}_q25": q25, f"{part}_q75": q75}
        rows.append(row)
    return rows
