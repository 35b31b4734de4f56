"""What a rank selection leaves in its run folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml

from nmfnet import metrics
from nmfnet.config import Config
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sources.channels import recognise_channels
from nmfnet.errors import UserError
from nmfnet.run.association import write_associations
from nmfnet.run.leading import write_leading
from nmfnet.run.provenance import provenance
from nmfnet.run.signatures import (
    whole_mutations,
    write_activities,
    write_probabilities,
    write_signatures,
)
from nmfnet.run.stored import write_json
from nmfnet.selection.options import Selection
from nmfnet.selection.outcome import Selected
from nmfnet.selection.resampling import are_counts

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
        _catalogue(folder, result, datamodule)
        _intervals(folder, result)
        _reference(folder, result)
        write_leading(folder, result.components_, result.feature_names, result.names)
        if result.programs is not None:
            result.notes += result.programs.write(folder)
        if result.associations is not None:
            write_associations(folder, result.associations.rows)
        said = result.suggestion._asdict() | {"options": vars(options)}
        write_json(folder / "selection.json", said)
        write_json(folder / "provenance.json", provenance(cfg, datamodule))
        if cfg.figures:
            _figures(folder, cfg.figures, result, datamodule, options, clusters)
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
        "component_names": np.array(result.names),
    }
    best: dict[str, Any] = {"W": result.weights, "H": result.components_, **names}
    np.savez_compressed(folder / "factors.npz", **best)
    every: dict[str, Any] = {k: v for k, v in names.items() if k != "component_names"}
    for k, rank in result.ranks.items():
        every |= {
            f"H_{k}": rank.components.astype(np.float32),
            f"W_{k}": rank.weights.astype(np.float32),
            f"silhouettes_{k}": rank.silhouettes,
        }
    np.savez_compressed(folder / "ranks.npz", **every)


def _catalogue(folder: Path, result: Selected, datamodule: MatrixDataModule) -> None:
    """Signatures, activities and probabilities of mutations, as SigProfiler writes them.

    Activities are whole mutations where the data are.
    """
    features, names = result.feature_names, result.names
    if recognise_channels(features) is None:
        return
    W, H, samples = result.weights, result.components_, result.sample_names
    write_signatures(folder / "signatures.txt", H, features, names)
    activities = whole_mutations(W) if are_counts(datamodule.matrix.values) else W
    write_activities(folder / "activities.txt", activities, samples, names)
    if H.min() >= 0:
        file = folder / "mutation_probabilities.txt"
        write_probabilities(file, W, H, samples, features, names)


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


def _reference(folder: Path, result: Selected) -> None:
    silhouettes = result.ranks[result.n_components].silhouettes
    rows = [
        match._asdict()
        | {"sum_of_references": sums, "sum_cosine": found.cosine}
        | {"silhouette": float(silhouettes[i]), "share_of_data": float(result.shares[i])}
        for i, (match, sums, found) in enumerate(
            zip(result.matches, result.sums, result.decompositions, strict=True)
        )
    ]
    if rows:
        write_rows(folder / "assignment.csv", rows)


def _figures(
    folder: Path,
    wanted: str | Literal[True],
    result: Selected,
    datamodule: MatrixDataModule,
    options: Selection,
    clusters: np.ndarray,
) -> None:
    from nmfnet.plots import save_all
    from nmfnet.plots.components import components
    from nmfnet.plots.decomposition import decomposition
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
    if (known := result.reference) is not None:
        drawn["reference"] = cosine_heatmap(
            result.components_, known.values, result.names, known.names, kind=kind
        )
        drawn["decomposition"] = decomposition(
            result.components_,
            known.values,
            [(found.references, found.shares) for found in result.decompositions],
            matrix.feature_names,
            names=result.names,
            reference_names=known.names,
            kind=kind,
        )
    if clusters.shape[1] <= MOST_SAMPLES and len(clusters) > 1:
        shares = metrics.consensus_matrix(np.eye(result.n_components)[clusters])
        drawn["consensus"] = consensus_matrix(shares, n_components=result.n_components)
    if result.programs is not None:
        drawn |= result.programs.figures()
    save_all(drawn, folder / "figures", wanted)
