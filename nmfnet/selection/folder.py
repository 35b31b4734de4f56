"""What a rank selection leaves in its run folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from nmfnet import metrics
from nmfnet.config import Config
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sources.channels import CHANNELS, recognise_channels
from nmfnet.errors import UserError
from nmfnet.run.provenance import provenance
from nmfnet.run.stored import write_json
from nmfnet.selection.options import Selection
from nmfnet.selection.outcome import Selected

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_folder"]

MOST_SAMPLES = 4000
"""Above this no samples x samples consensus picture is drawn."""


def write_folder(
    cfg: Config,
    result: Selected,
    datamodule: MatrixDataModule,
    options: Selection,
    clusters: np.ndarray,
) -> None:
    """Tables, factors, figures; ``metrics.json`` last, since it says that the run is whole."""
    assert result.folder is not None
    folder = result.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").unlink(missing_ok=True)
        model = {**cfg.model, "n_components": result.n_components}
        stored = cfg.but(force=False, resume=True, model=model).plain()
        (folder / "config.yaml").write_text(yaml.safe_dump(stored, sort_keys=False))
        write_rows(folder / "rank_selection.csv", result.rows)
        _factors(folder, result)
        _catalogue(folder, result)
        _intervals(folder, result)
        _reference(folder, result, datamodule)
        said = result.suggestion._asdict() | {"options": vars(options)}
        write_json(folder / "selection.json", said)
        write_json(folder / "provenance.json", provenance(cfg, datamodule))
        if cfg.figures:
            _figures(folder, result, datamodule, options, clusters)
        write_json(folder / "metrics.json", result.metrics)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """A csv file with the keys of all rows as columns; numbers with nine digits."""
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()})


def _factors(folder: Path, result: Selected) -> None:
    """The suggested rank as in every run folder, and the consensus of every rank beside it."""
    names = {
        "sample_names": np.array(result.sample_names),
        "feature_names": np.array(result.feature_names),
    }
    best: dict[str, Any] = {"W": result.weights, "H": result.components_, **names}
    np.savez_compressed(folder / "factors.npz", **best)
    every: dict[str, Any] = dict(names)
    for k, rank in result.ranks.items():
        every |= {
            f"H_{k}": rank.components.astype(np.float32),
            f"W_{k}": rank.weights.astype(np.float32),
            f"silhouettes_{k}": rank.silhouettes,
        }
    np.savez_compressed(folder / "ranks.npz", **every)


def _catalogue(folder: Path, result: Selected) -> None:
    """``signatures.txt`` and ``activities.txt`` in the layout that SigProfiler reads and writes."""
    known = recognise_channels(result.feature_names)
    if known is None:
        return
    system, channels = known
    place = {channel: i for i, channel in enumerate(channels)}
    order = sorted(CHANNELS[system]) if system.startswith("SBS") else list(CHANNELS[system])
    head = "\t".join(result.names)
    lines = [f"MutationType\t{head}"]
    for channel in order:
        values = result.components_[:, place[channel]]
        lines.append("\t".join([channel, *(f"{value:.9g}" for value in values)]))
    (folder / "signatures.txt").write_text("\n".join(lines) + "\n")
    lines = [f"Samples\t{head}"]
    for name, row in zip(result.sample_names, np.rint(result.weights), strict=True):
        lines.append("\t".join([name, *(f"{value:.0f}" for value in row)]))
    (folder / "activities.txt").write_text("\n".join(lines) + "\n")


def _intervals(folder: Path, result: Selected) -> None:
    if result.intervals is None:
        return
    rows = [
        {
            "sample": sample,
            "component": name,
            "weight": float(result.weights[i, j]),
            "low": float(result.intervals.low[i, j]),
            "high": float(result.intervals.high[i, j]),
            "present": float(result.intervals.present[i, j]),
        }
        for i, sample in enumerate(result.sample_names)
        for j, name in enumerate(result.names)
    ]
    write_rows(folder / "intervals.csv", rows)


def _reference(folder: Path, result: Selected, datamodule: MatrixDataModule) -> None:
    known = datamodule.matrix.reference
    if known is None or not result.matches:
        return
    rows: list[dict[str, Any]] = []
    silhouettes = result.ranks[result.n_components].silhouettes
    total = result.weights.sum()
    for i, (match, sums) in enumerate(zip(result.matches, result.decompositions, strict=True)):
        parts = [
            f"{known.names[j]} {100 * share:.1f}%"
            for j, share in zip(sums.references, sums.shares, strict=True)
        ]
        rows.append(
            match._asdict()
            | {"sum_of_references": " + ".join(parts), "sum_cosine": sums.cosine}
            | {"silhouette": float(silhouettes[i])}
            | {"share_of_data": float(result.weights[:, i].sum() / total) if total > 0 else 0.0}
        )
    write_rows(folder / "assignment.csv", rows)


def _figures(
    folder: Path,
    result: Selected,
    datamodule: MatrixDataModule,
    options: Selection,
    clusters: np.ndarray,
) -> None:
    from nmfnet.plots import save
    from nmfnet.plots.components import components
    from nmfnet.plots.selection import rank_selection
    from nmfnet.plots.similarity import consensus_matrix, cosine_heatmap
    from nmfnet.plots.weights import weights_stack

    matrix = datamodule.matrix
    system = recognise_channels(matrix.feature_names)
    kind = system[0].lower() if system else matrix.kind
    kind = kind if kind in ("sbs96", "dbs78", "id83", "image", "text") else "generic"
    drawn: dict[str, Figure] = {
        "rank_selection": rank_selection(
            result.rows,
            suggested=result.n_components,
            thresholds=(options.min_silhouette_mean, options.min_silhouette_min),
        ),
        "components": components(
            result.components_,
            matrix.feature_names,
            kind,
            image_shape=matrix.image_shape,
            names=result.names,
            W=result.weights,
        ),
        "weights": weights_stack(
            result.weights, result.sample_names, names=result.names, kind=kind
        ),
    }
    if matrix.reference is not None and result.matches:
        drawn["reference"] = cosine_heatmap(
            result.components_, matrix.reference.values, result.names, matrix.reference.names,
            kind=kind,
        )  # fmt: skip
    if clusters.shape[1] <= MOST_SAMPLES and len(clusters) > 1:
        shares = metrics.consensus_matrix(np.eye(result.n_components)[clusters])
        drawn["consensus"] = consensus_matrix(shares, n_components=result.n_components)
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in drawn.items():
        save(figure, folder / "figures" / f"{name}.png")
