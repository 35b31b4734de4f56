"""A model and its data cut into the blocks of rows of several processes, and joined again."""

from __future__ import annotations

from nmfnet.config import Config
from nmfnet.core.distributed import World
from nmfnet.core.model import Factorization
from nmfnet.data.module import MatrixDataModule
from nmfnet.errors import UserError
from nmfnet.kernels.rows import take_rows
from nmfnet.kernels.sparse import transpose_of
from nmfnet.run.checkpoint import assemble
from nmfnet.types import Batch, Sizes, Tensor


def check_shardable(model: Factorization, batch_size: int | None, world: World) -> None:
    """Refuse what cannot be spread over processes.

    Raises
    ------
    UserError
    """
    kind = type(model).__name__
    if not model.shardable:
        raise UserError(
            f"trainer=ddp spreads rows over processes, and {kind} as configured ties rows to each "
            "other: use trainer=default, or another model"
        )
    tied = [p for p in model.penalty_list if not p.additive and model.factors[p.on].per_sample]
    if tied:
        raise UserError(
            f"trainer=ddp spreads rows over processes, and penalty={tied[0].name} on {tied[0].on} ties "
            "them to each other: use trainer=default, or another penalty"
        )
    if batch_size is not None:
        raise UserError("trainer=ddp works on all rows at once: set batch_size=null")
    if world.size > world.n_total:
        raise UserError(
            f"{world.size} processes for {world.n_total} rows: set trainer.devices lower"
        )


def shard(model: Factorization, cfg: Config, world: World, own: Batch) -> Factorization:
    """The block of a started model that belongs to this process, for its ``own`` rows."""
    rows = world.rows()
    sizes = Sizes(rows.stop - rows.start, model.sizes.n_features)
    part = assemble(cfg, sizes, world=world, axes=model.recipe["axes"])
    tables = _tables(model)
    cut = {
        key: value[..., rows, :] if key in tables else value
        for key, value in model.state_dict().items()
        if not key.startswith("solver.")  # it has not begun
    }
    part.load_state_dict(part.state_dict() | cut)
    part.units, part.penalties = model.units, model.penalties  # which know their graphs
    if model.transpose is not None:
        part.transpose = transpose_of(own.x)
    return part


def join(model: Factorization, part: Factorization) -> None:
    """Give the whole model what the blocks of all processes have come to."""
    tables = _tables(model)
    joined = {
        key: part.world.joined(value) if key in tables else value
        for key, value in part.state_dict().items()
        if not key.startswith("solver.")  # it has moved blocks
    }
    model.load_state_dict(model.state_dict() | joined)
    model.solver.attach(model)
    model.iteration = part.iteration


def block(datamodule: MatrixDataModule, world: World) -> Batch:
    """The training rows of this process, in tensors of their own."""
    rows, whole = world.rows(), datamodule.train
    own = whole.by_row(lambda tensor: take_rows(tensor, rows).clone())
    return own._replace(index=whole.index[: rows.stop - rows.start])


def _tables(model: Factorization) -> set[str]:
    raws = {id(factor.raw) for factor in model.factors.values() if factor.per_sample}
    named: dict[str, Tensor] = dict(model.named_parameters())
    return {name for name, parameter in named.items() if id(parameter) in raws}
