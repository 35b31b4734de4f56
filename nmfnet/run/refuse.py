"""What a run refuses once it knows its data and its model, before it begins."""

from __future__ import annotations

import torch

from nmfnet.config import Config, constraints_of, options, read_choice
from nmfnet.core.distributed import World
from nmfnet.core.model import Factorization
from nmfnet.core.starting import check_negative
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.stream.module import StreamDataModule
from nmfnet.errors import UserError
from nmfnet.types import Tensor

__all__ = [
    "check_links",
    "check_loss",
    "check_rows",
    "check_streamed",
    "note_constraint",
    "note_init",
    "note_undetermined",
    "note_unused",
    "note_views",
]


def check_rows(cfg: Config, datamodule: MatrixDataModule, model: Factorization) -> None:
    """Refuse single rows for a model whose rows lean on their neighbours."""
    if model.rows_independent:
        return
    kind = type(model).__name__
    if cfg.batch_size is not None:
        raise UserError(f"{kind} needs the neighbours of every row: set batch_size=null")
    if datamodule.test_sample_names:
        raise UserError(
            f"{kind} needs the neighbours of every row, so rows cannot be held out: use split=none or "
            "split=entries"
        )


def note_views(datamodule: MatrixDataModule, model: Factorization) -> None:
    """Say which views, and which covariates, the model has no factor for.

    Raises
    ------
    UserError
        For a loss of a view that is not there.
    """
    own = [axis for axis in datamodule.axes if axis.startswith("view ")]
    views = ["x", *(axis.removeprefix("view ") for axis in own)]
    if absent := [name for name in model.loss.named if name not in views]:
        raise UserError(
            f"loss.views.{absent[0]}: there is no such view; there are {', '.join(views)} "
            "(x is the first)"
        )
    used = {axis for factor in model.factors.values() for axis in factor.axes}
    unused = [axis for axis in own if axis not in used]
    if unused:
        datamodule.notes.append(
            f"{type(model).__name__} explains X alone; it has no use for {', '.join(unused)}."
        )
    if "covariate" in datamodule.axes and "covariate" not in used:
        datamodule.notes.append(
            f"{type(model).__name__} as configured does not read the covariates: model=vae and "
            "model=balsamico do."
        )


def note_unused(cfg: Config, datamodule: MatrixDataModule, model: Factorization) -> None:
    """Say which options of the model were set and have no effect with its other choices, or the data."""
    if not model.idle or cfg.model_name not in options("model"):
        return
    usual = read_choice("model", cfg.model_name)["model"]
    for name, beside in model.idle.items():
        if cfg.model[name] != usual[name]:
            datamodule.notes.append(f"model.{name}={cfg.model[name]} has no effect with {beside}.")


def note_init(cfg: Config, datamodule: MatrixDataModule, model: Factorization) -> None:
    """Say that a started model has taken nothing of the start that was asked for."""
    if not model.heeds_init and cfg.init != read_choice("init", "random"):
        datamodule.notes.append(
            f"init={model.init.name} has no effect with model={cfg.model_name}, which starts by a rule "
            "of its own."
        )


def note_constraint(cfg: Config, datamodule: MatrixDataModule, model: Factorization) -> None:
    """Say that a constraint was asked for of all factors, and each has one that belongs to the model."""
    general, _ = constraints_of(cfg.constraint)
    if not model.factors.heeds_general and general != read_choice("constraint", "project"):
        datamodule.notes.append(
            f"constraint={cfg.choices['constraint']} has no effect with model={cfg.model_name}, whose "
            "factors have constraints of their own."
        )


def note_undetermined(datamodule: MatrixDataModule, model: Factorization) -> None:
    """Say that held-out entries are predicted by weights that the known ones do not determine.

    A row or column with fewer known entries than components is fitted exactly by many weights, however
    large, unless a penalty chooses among them.
    """
    mask = datamodule.train.mask
    if datamodule.partition.held_out is None or mask is None or not model.bilinear:
        return
    if model.penalty_list:
        return
    (n, f), k = datamodule.sizes, model.n_components
    few = [int((known < k).sum()) for known in known_entries(mask)]
    if any(few):
        datamodule.notes.append(
            f"{few[0]} of {n} samples and {few[1]} of {f} features have fewer known entries than the {k} "
            "components, so that what is predicted of their held-out entries may be far off: add "
            "penalty=l2 penalty.l2.on=[W,H] penalty.l2.weight=1 (or 5), lower model.n_components, or use "
            "model=rsnmf or model=biased_mf."
        )


def known_entries(mask: Tensor) -> tuple[Tensor, Tensor]:
    """How many entries of every row and of every column have a weight."""
    if not mask.is_sparse_csr:
        seen = mask != 0
        return seen.sum(1), seen.sum(0)
    columns = torch.bincount(mask.col_indices(), minlength=mask.shape[1])
    return mask.crow_indices().diff(), columns


def check_loss(cfg: Config, model: Factorization) -> None:
    """Refuse a loss that was asked for and that the model has no use for."""
    if model.asks_loss or model.loss.unasked or model.loss.name in model.same_losses:
        return
    raise UserError(
        f"loss={cfg.choices.get('loss', model.loss.name)} is not used: "
        f"{type(model).__name__} has a likelihood of its own: leave loss out, or set loss=own"
    )


def check_streamed(
    cfg: Config, datamodule: StreamDataModule, model: Factorization, world: World
) -> None:
    """Refuse what needs all rows at once."""
    kind, encoded = type(model).__name__, model.inductive and cfg.normalize == "W"
    for refused, what, remedy in (
        (not model.shardable, f"{kind} as configured", "model=nmf or model=autoencoder"),
        (cfg.kkt_tol is not None, "kkt_tol", "kkt_tol=null"),
        (encoded, f"normalize=W of {kind}", "normalize=H"),
        (world.size > 1, "trainer=ddp", "trainer=default"),
    ):
        if refused:
            raise UserError(
                f"{what} needs all rows at once, and data=stream has none: use {remedy}"
            )
    check_negative(model, datamodule.matrix.scan.negative)


def check_links(datamodule: MatrixDataModule, model: Factorization) -> None:
    """Say that links of the samples are not used.

    Raises
    ------
    UserError
        For links that are held out from a model that says nothing about them.
    """
    explains = model.overrides("link_scores")
    given = not datamodule.streamed and "graph" in datamodule.train.context
    if given and not explains and not any(p.reads_graph for p in model.penalty_list):
        datamodule.notes.append(
            f"{type(model).__name__} as configured does not read the links between the samples: "
            "model=graph_ae and penalty=laplacian do."
        )
    if datamodule.partition.pairs and not explains:
        raise UserError(
            f"split=links holds links out, and {type(model).__name__} says nothing about links: use "
            "split=none, or a model of the graph (graph_ae, sym_nmf)"
        )
