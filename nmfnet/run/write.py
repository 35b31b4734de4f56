"""What a run leaves in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from nmfnet.config import Config
from nmfnet.core.model import Factorization
from nmfnet.data.batches import to_numpy
from nmfnet.data.module import MatrixDataModule
from nmfnet.errors import UserError
from nmfnet.run.callbacks.convergence import Convergence
from nmfnet.run.evaluate import Factors, layers_of
from nmfnet.run.provenance import provenance
from nmfnet.run.stored import write_json

if TYPE_CHECKING:
    import lightning as L
    from matplotlib.figure import Figure

__all__ = ["figures_of", "make_folder", "write_run"]


def make_folder(folder: Path, *, keep: bool) -> None:
    """The run folder, without what is left there of another run (``keep``: than this one)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "history.csv").touch()
        left = () if keep else ("model.ckpt",)
        for name in ("metrics.json", "model.ckpt.part", "figures/*.png", *left):
            for old in folder.glob(name):
                old.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}: choose another run_dir or runs"
        ) from error


def write_run(
    cfg: Config,
    datamodule: MatrixDataModule,
    trainer: L.Trainer,
    folder: Path,
    numbers: dict[str, Any],
    factors: Factors,
    figures: dict[str, Figure],
) -> None:
    """Everything in the run folder; ``metrics.json`` last, since it says that the run is whole."""
    from nmfnet.plots import save

    (folder / "config.yaml").write_text(yaml.safe_dump(cfg.plain(), sort_keys=False))
    arrays = {
        **factors.tables,
        "axes": np.array(json.dumps(factors.axes)),
        "sample_names": np.array(datamodule.sample_names),
        "feature_names": np.array(datamodule.feature_names),
    }
    if factors.names is not None:
        arrays |= {"component_names": np.array(factors.names)}
    if factors.W_test is not None:
        arrays |= {
            "W_test": factors.W_test,
            "test_sample_names": np.array(datamodule.test_sample_names),
        }
    np.savez_compressed(folder / "factors.npz", **arrays)  # type: ignore[arg-type]
    trainer.save_checkpoint(folder / "model.ckpt")
    write_json(folder / "provenance.json", provenance(cfg, datamodule))
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        save(figure, folder / "figures" / f"{name}.png")
    write_json(folder / "metrics.json", numbers)


def figures_of(
    datamodule: MatrixDataModule, model: Factorization, factors: Factors, convergence: Convergence
) -> dict[str, Figure]:
    """The figures of a run, by the name of their file."""
    from nmfnet.plots import Run, run_figures

    matrix, rows, shown = datamodule.matrix, datamodule.train_rows, datamodule.rows_shown()
    x = to_numpy(datamodule.sample.x) if datamodule.streamed else matrix.values[rows]
    records = [record.row() for record in convergence.records]
    history = {key: np.array([r[key] for r in records]) for key in records[0]}
    run = Run(
        W=factors.W[shown],
        H=factors.H if model.has_components else None,
        x=None if model.learns_graph else x,
        x_hat=model.inverse_transform
        if model.rows_independent
        else model.inverse_transform(factors.W[shown]),
        mask=None if datamodule.train.mask is None else to_numpy(datamodule.train.mask),
        history=history,
        kind=matrix.kind,
        image_shape=matrix.image_shape,
        sample_names=[datamodule.sample_names[i] for i in shown],
        feature_names=datamodule.feature_names,
        labels=None if matrix.labels is None else matrix.labels[rows],
        label_names=matrix.label_names,
        reference=matrix.reference,
        restarts_objective=model.objectives.cpu().numpy(),
        layers=[H for _, H in layers_of(model, datamodule)],
    )
    return dict(run_figures(run))
