"""Tables of this page from run folders: ``python tables.py RUNS OUT``."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nmfnet import metrics
from nmfnet.data.sources.registry import source

TRUTH = ("sbs-syn-scenario8", "sbs-syn-many-types")
NAMED = ("SBS1", "SBS2", "SBS3", "SBS5", "SBS8", "SBS13", "SBS40")


def main() -> None:
    """One row per run, and one per run and rank where the truth is known."""
    roots, out = sys.argv[1:-1], Path(sys.argv[-1])
    files = sorted(path for root in roots for path in Path(root).rglob("metrics.json"))
    folders = [path.parent for path in files if (path.parent / "rank_selection.csv").exists()]
    alone = [folder for folder in folders if len(ranks_of(folder)) == 1]
    several = [folder for folder in folders if folder not in alone]
    known = sorted(map(one_rank, alone), key=lambda row: (row["data"], -row["tol"], row["refine"]))
    write(out / "refined.csv", known)
    write(out / "runs.csv", [run_row(folder) for folder in several])
    write(out / "ranks_truth.csv", [row for folder in several for row in truth_rows(folder)])
    write(out / "breast_named.csv", [row for folder in folders for row in named_rows(folder)])


def about(folder: Path) -> dict[str, Any]:
    """What a run was: data, model, seed."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    choices = config["choices"]
    data = choices.get("data")
    if data == "table":
        data = Path(config["data"]["path"]).stem
    return {"data": data, "model": choices["model"], "seed": config["seed"]}


def truth_of(name: str) -> Any:
    """True signatures, or None."""
    known = [data for data in TRUTH if name.startswith(data)]
    return source(known[0]).read().truth if known else None


def ranks_of(folder: Path) -> list[dict[str, str]]:
    """What was measured at every rank."""
    with (folder / "rank_selection.csv").open() as file:
        return list(csv.DictReader(file))


def one_rank(folder: Path) -> dict[str, Any]:
    """A run at a given rank: how closely it was fitted, and whether its consensus was refined."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    how = {"tol": config["tol"], "refine": config["selection"]["refine"]}
    return about(folder) | how | run_row(folder)


def run_row(folder: Path) -> dict[str, Any]:
    """The suggestion and its numbers."""
    numbers = json.loads((folder / "metrics.json").read_text())
    said = json.loads((folder / "selection.json").read_text())
    tried = [row["n_components"] for row in ranks_of(folder)]
    row = about(folder) | {
        "ranks": f"{tried[0]}..{tried[-1]} ({len(tried)})",
        "replicates": said["options"]["replicates"],
        "suggested": numbers["n_components"],
        "stable": " ".join(map(str, said["stable"])),
        "silhouette_mean": numbers["stability/silhouette_mean"],
        "silhouette_min": numbers["stability/silhouette_min"],
        "cosine": numbers["train/cosine"],
        "fits": numbers["fits"],
        "seconds_of_training": numbers["seconds"],
    }
    truth = truth_of(row["data"])
    if truth is not None:
        with np.load(folder / "factors.npz") as arrays:
            row |= against(arrays["H"], truth.H)
    return row


def against(H: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Recovery of true signatures at cosine .9, and the smallest matched cosine."""
    found = metrics.recovery(H, true)
    pairs = metrics.match_components(H, true)
    cosines = {"mean_cosine": float(pairs.scores.mean()), "min_cosine": float(pairs.scores.min())}
    return {key: found[key] for key in ("tp", "ppv", "tpr", "f1")} | cosines


def truth_rows(folder: Path) -> list[dict[str, Any]]:
    """Recovery at every rank."""
    said = about(folder)
    truth = truth_of(said["data"])
    if truth is None:
        return []
    rows = ranks_of(folder)
    with np.load(folder / "ranks.npz") as arrays:
        return [
            said
            | {key: row[key] for key in ("n_components", "silhouette_mean", "silhouette_min")}
            | {key: row[key] for key in ("worse", "worse_se", "seconds")}
            | against(arrays[f"H_{row['n_components']}"], truth.H)
            for row in rows
        ]


def named_rows(folder: Path) -> list[dict[str, Any]]:
    """Cosines of every signature of the breast genomes with the usual suspects."""
    said = about(folder)
    if said["data"] != "sbs21-breast":
        return []
    matrix = source("sbs21-breast").read()
    assert matrix.reference is not None
    place = [matrix.reference.names.index(name) for name in NAMED]
    apobec = matrix.reference.values[[place[1], place[5]]].mean(axis=0, keepdims=True)
    with np.load(folder / "factors.npz") as arrays:
        H = arrays["H"]
    cosines = metrics.component_cosines(H, matrix.reference.values[place])
    both = metrics.component_cosines(H, apobec)[:, 0]
    sums = metrics.decompose(H, matrix.reference.values)
    return [
        said
        | {"signature": i + 1}
        | {name: float(value) for name, value in zip(NAMED, line, strict=True)}
        | {"SBS2+SBS13": float(both[i])}
        | {
            "sum": " + ".join(
                f"{matrix.reference.names[j]} {share:.0%}"
                for j, share in zip(sums[i].references, sums[i].shares, strict=True)
            ),
            "sum_cosine": sums[i].cosine,
        }
        for i, line in enumerate(cosines)
    ]


def write(file: Path, rows: list[dict[str, Any]], digits: int = 5) -> None:
    """A csv file; numbers with so many digits."""
    if not rows:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(k for row in rows for k in row)))
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: f"{v:.{digits}g}" if isinstance(v, float) else v for k, v in row.items()}
            )


if __name__ == "__main__":
    main()
