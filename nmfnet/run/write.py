"""What a run leaves in its folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from nmfnet.config import Config
from nmfnet.core.model import Factorization
from nmfnet.data.module import MatrixDataModule
from nmfnet.errors import UserError
from nmfnet.run.association import write_associations
from nmfnet.run.evaluate import Factors
from nmfnet.run.leading import write_leading
from nmfnet.run.provenance import provenance
from nmfnet.run.sound import write_parts
from nmfnet.run.stored import write_json
from nmfnet.run.topics import write_topics
from nmfnet.run.views import component_table, explained_components

if TYPE_CHECKING:
    import lightning as L
    from matplotlib.figure import Figure

    from nmfnet.run.train import Result

__all__ = ["make_folder", "tables", "write_run"]


def make_folder(folder: Path, *, keep: bool) -> None:
    """The run folder, without what is left there of another run (``keep``: than this one)."""
    from nmfnet.plots import KINDS

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "history.csv").touch()
        figures = (f"figures/*{kind}" for kind in KINDS)
        left = () if keep else ("model.ckpt",)
        tables = (
            *("top_features", "feature_scores", "topics", "proportions", "notes", "*clusters"),
            *("communities", "markers", "signatures", "aligned", "views", "effects"),
            *("associations", "anchors", "shares", "profiles", "found_again"),
        )
        stale = ("metrics.json", "model.ckpt.part", "parts/*.wav", *(f"{t}.csv" for t in tables))
        for name in (*stale, *figures, *left):
            for old in folder.glob(name):
                old.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}: choose another run_dir or runs"
        ) from error


def _is_text(datamodule: MatrixDataModule) -> bool:
    return datamodule.matrix.kind == "text" and not datamodule.streamed


def write_run(
    cfg: Config,
    datamodule: MatrixDataModule,
    trainer: L.Trainer,
    result: Result,
    figures: dict[str, Figure],
) -> None:
    """Everything in the run folder; ``metrics.json`` last, since it says that the run is whole."""
    from nmfnet.plots import save_all

    folder, factors, numbers = result.folder, result.factors, dict(result.metrics)
    assert folder is not None
    assert factors is not None
    (folder / "config.yaml").write_text(yaml.safe_dump(cfg.plain(), sort_keys=False))
    arrays = {
        **factors.tables,
        "axes": np.array(json.dumps(factors.axes)),
        "sample_names": np.array(datamodule.sample_names),
        "feature_names": np.array(datamodule.feature_names),
        "component_names": np.array(factors.names),
    }
    if _is_text(datamodule):
        arrays["sample_sums"] = np.asarray(datamodule.values("train").sum(axis=1)).ravel()
    if factors.W_test is not None:
        arrays |= {
            "W_test": factors.W_test,
            "test_sample_names": np.array(datamodule.test_sample_names),
        }
    np.savez_compressed(folder / "factors.npz", **arrays)  # type: ignore[arg-type]
    if len(factors.H) > 1 and _is_text(datamodule):
        write_topics(folder, factors, datamodule)
    if factors.associations is not None:
        write_associations(folder, factors.associations.rows)
    for name, columns in result.model.reports.items():
        _write_table(folder / f"{name}.csv", columns)
    write_parts(folder, result.model, datamodule, factors)
    _write_clusters(folder, result.model, datamodule, factors)
    if len(factors.H):
        write_leading(folder, factors.H, datamodule.feature_names, factors.names)
    trainer.save_checkpoint(folder / "model.ckpt")
    write_json(folder / "provenance.json", provenance(cfg, datamodule))
    save_all(figures, folder / "figures", cfg.figures or True)
    write_json(folder / "metrics.json", numbers | {"notes": list(datamodule.notes)})


def tables(
    model: Factorization, datamodule: MatrixDataModule, factors: Factors
) -> dict[str, dict[str, Any]]:
    """Tables by name, columns by name, the first of which names the rows.

    A table of a model's own that holds numbers alone has a row for every training sample; ``views`` has
    one for every component.
    """
    found: dict[str, dict[str, Any]] = {}
    if model.overrides("tables_of"):
        code = torch.from_numpy(factors.W / model.units.code).to(model.device)
        with torch.no_grad(), model.restarts(int(model.best)):
            own = model.tables_of(code, datamodule.train, factors.names)
        samples = {"sample": datamodule.sample_names}
        found = {
            name: samples | columns
            if all(cells.dtype.kind in "fi" for cells in columns.values())
            else columns
            for name, columns in own.items()
        }
    explained = explained_components(model, datamodule, factors.W)
    return found | component_table(explained, factors.names)


def _write_clusters(
    folder: Path, model: Factorization, datamodule: MatrixDataModule, factors: Factors
) -> None:
    """Numbers of the clusters that a model sorts samples and features into, from 1 on; 0 = none."""
    code = torch.from_numpy(factors.W / model.units.code).to(model.device)
    with torch.no_grad(), model.restarts(int(model.best)):
        rows, columns = model.clusters(code), model.feature_clusters()
    for file, names, found, of in (
        ("clusters.csv", datamodule.sample_names, rows, "sample"),
        ("feature_clusters.csv", datamodule.feature_names, columns, "feature"),
    ):
        if found is not None:
            _write_table(folder / file, {of: names, "cluster": found.cpu().numpy() + 1})


def _write_table(file: Path, columns: dict[str, Any]) -> None:
    """A table of text and numbers."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([v if isinstance(v, str) else f"{v:.6g}" for v in row])
