"""Before the fits of a rank selection: the data, what is checked, what every fit needs to know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from nmfnet.config import Config
from nmfnet.data.formats.raw import shorten
from nmfnet.data.matrix import Matrix
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sources.channels import recognise_channels
from nmfnet.data.sources.source import Source
from nmfnet.data.splits import NoSplit
from nmfnet.errors import UserError
from nmfnet.selection.fits import Kind, Plan
from nmfnet.selection.options import Selection
from nmfnet.selection.resampling import are_counts
from nmfnet.settings.objects import build

__all__ = ["checked", "data_of", "plan_of", "unit_of"]


def data_of(cfg: Config, source: Source | None) -> tuple[MatrixDataModule, Matrix]:
    """The data, read and checked, and the samples held out; refuses what no selection can have."""
    source = source or build(cfg.data)
    if source.streamed:
        raise UserError("ranks=... needs the data in memory: use data=table, or single runs")
    if cfg.trainer.get("strategy") is not None:
        raise UserError("ranks=... shares its fits over processes: use selection.n_jobs=N instead")
    if "n_components" not in cfg.model:
        name = cfg.model_name
        raise UserError(f"ranks=...: model={name} has no option n_components to vary")
    datamodule = MatrixDataModule(
        source, NoSplit(), dtype=torch.float64, seed=cfg.seed, device=torch.device("cpu")
    )
    datamodule.setup()
    loss = build(cfg.loss)
    datamodule.check(lambda view: loss.for_view(view).check)
    matrix = datamodule.matrix
    partition = build(cfg.split)(matrix, cfg.seed)
    within = (partition.held_out, partition.predicted, partition.graph)
    if any(part is not None for part in within) or partition.hidden_labels.size:
        raise UserError(
            "ranks=... holds out counts or entries itself: use split=none, or split=rows to keep samples "
            "out of all fits"
        )
    values = matrix.values.astype(np.float64, copy=False)  # for probabilities that add up to 1
    matrix = replace(matrix, values=values)
    datamodule.matrix = _rows(matrix, partition.train_rows)
    if partition.test_rows.size:
        datamodule.notes.append(
            f"{partition.test_rows.size} of {matrix.shape[0]} samples are held out of every fit."
        )
    return datamodule, _rows(matrix, partition.test_rows)


def checked(matrix: Matrix, ranks: list[int], options: Selection) -> Matrix:
    """The samples that the fits use, after the checks that need the data."""
    if options.channels:
        _check_catalogue(matrix)
    totals = np.asarray(abs(matrix.values).sum(axis=1)).ravel()
    rows = np.flatnonzero(totals > 0) if are_counts(matrix.values) else np.arange(len(totals))
    n, f = len(rows), matrix.shape[1]
    if ranks[-1] > min(n, f):
        what = f"{n} samples" if n <= f else f"{f} features"
        raise UserError(
            f"ranks go up to {ranks[-1]}, but the data have {what}: lower ranks to at most "
            f"{min(n, f)}"
        )
    return _rows(matrix, rows)


def _check_catalogue(matrix: Matrix) -> None:
    if recognise_channels(matrix.feature_names) is None:
        raise UserError(
            f"The {len(matrix.feature_names)} features ({shorten(matrix.feature_names)}) are not a "
            "complete set of mutation channels: SBS96 (such as 'A[C>A]A'), SBS192, SBS288, SBS384, "
            "SBS1536, DBS78 ('AC>CA') and ID83 ('1:Del:C:0') are known. Is data.orientation right? "
            "For other data use experiment=rank_selection."
        )
    rows, columns = (matrix.values < 0).nonzero()
    if len(rows):
        row, column = rows[0], columns[0]
        raise UserError(
            f"{len(rows)} values are negative; a catalogue holds counts, or rates >= 0. The first "
            f"is {matrix.values[row, column]:g} in sample {matrix.sample_names[row]!r}, channel "
            f"{matrix.feature_names[column]!r}. For other data use experiment=rank_selection."
        )


def _rows(matrix: Matrix, rows: np.ndarray) -> Matrix:
    if len(rows) == matrix.shape[0]:
        return matrix
    return replace(
        matrix,
        values=matrix.values[rows],
        sample_names=[matrix.sample_names[i] for i in rows],
        labels=None if matrix.labels is None else matrix.labels[rows],
        mask=None if matrix.mask is None else matrix.mask[rows],
        phenotypes={name: values[rows] for name, values in matrix.phenotypes.items()},
        predefined_test=None,
        truth=None,
    )


def plan_of(
    cfg: Config, matrix: Matrix, options: Selection
) -> tuple[Plan, list[Kind], float | None]:
    """What the fits need, what is held out, and the beta of the loss."""
    beta = getattr(build(cfg.loss), "beta", None)
    counts = are_counts(matrix.values)
    rates = options.channels and not counts
    poisson = counts and beta == 1
    resampled = options.resample
    if resampled == "auto":
        resampled = "poisson" if poisson else "uniform"
    kinds: dict[str, list[Kind]] = {
        "thinning": ["thinning"],
        "entries": ["entries"],
        "both": ["thinning", "entries"],
        "none": [],
        "auto": ["thinning"] if poisson else ["entries"],
    }
    held = kinds[options.held_out]
    if rates:  # a count can be thinned, a rate cannot; `rates_note` says so
        held = ["entries"] if held else []
    if not counts:
        for key, used in (
            ("held_out=" + options.held_out, "thinning" in held),
            ("resample=" + resampled, resampled == "multinomial"),
            ("hypermutators=cap", options.hypermutators == "cap"),
        ):
            if used:
                raise UserError(
                    f"selection.{key} needs counts, and X has entries that are not whole numbers "
                    ">= 0: use held_out=entries, resample=uniform, hypermutators=keep"
                )
    alone = cfg.but(
        **{"ranks": None, "selection": {}, "logger": {}, "callbacks": {}, "run_dir": None},
        **{"figures": False, "progress": False, "force": True, "resume": False},
    )
    plain = replace(matrix, reference=None, truth=None)
    return Plan(alone, plain, options, resampled, beta), held, beta


def unit_of(held: list[Kind], beta: float | None) -> str:
    """What the held-out loss is, in words; empty without."""
    if not held:
        return ""
    what = "thinned counts" if held[0] == "thinning" else "entries"
    return f"loss of held-out {what}" + (" (half the deviance)" if beta == 1 else "")
