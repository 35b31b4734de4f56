"""One run from configuration to results: the one place where the parts meet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from nmfnet.config import Config, read_choice, run_folder, run_id
from nmfnet.core.distributed import World
from nmfnet.core.model import Factorization
from nmfnet.core.objective import judged
from nmfnet.core.penalties import dodged
from nmfnet.core.prelude import never
from nmfnet.core.scaling import check_normalise, normalise, to_totals
from nmfnet.core.starting import initialise, take_wanted
from nmfnet.data.batches import OneBatch
from nmfnet.data.formats.raw import memory
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sources.known import Known
from nmfnet.data.sources.source import Source
from nmfnet.data.stream.module import StreamDataModule
from nmfnet.errors import UserError
from nmfnet.loggers import Context, finish, log_result
from nmfnet.plots import run_figures
from nmfnet.run.asked import Asked
from nmfnet.run.callbacks.after import AfterFit
from nmfnet.run.callbacks.convergence import Convergence
from nmfnet.run.callbacks.history import History
from nmfnet.run.callbacks.progress import ProgressBar
from nmfnet.run.callbacks.resuming import Resuming
from nmfnet.run.checkpoint import assemble, load, name_features, resumable, task_of
from nmfnet.run.clock import now
from nmfnet.run.evaluate import Factors, factors_of, run_metrics
from nmfnet.run.figures import Figures, run_of
from nmfnet.run.finished import finished
from nmfnet.run.leading import leading_lines
from nmfnet.run.lock import locked
from nmfnet.run.loop import Loop
from nmfnet.run.machine import device_of, threads
from nmfnet.run.quiet import quiet
from nmfnet.run.refuse import (
    check_links,
    check_loss,
    check_rows,
    check_streamed,
    note_constraint,
    note_init,
    note_undetermined,
    note_unused,
    note_views,
)
from nmfnet.run.scale import rescale
from nmfnet.run.sharding import block, check_shardable, join, shard
from nmfnet.run.stopping import stoppable
from nmfnet.run.terminal import Teller
from nmfnet.run.write import make_folder, tables, write_run
from nmfnet.settings.objects import build, locate
from nmfnet.solvers.base import total
from nmfnet.solvers.choice import check_solver

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


COPIES = 4
"""Of the factors: as parameters, as the solver moves them, as they are judged, and as arrays."""

WORTH_SAYING = 1_000_000_000
"""Bytes that factors may take without a word."""

NO_MEMORY = "(?i)out of memory|allocate memory|not enough memory|invalid size|overflow"
"""How torch's RuntimeErrors say that a tensor is too large."""


@dataclass
class Result:
    """A finished run.

    Attributes
    ----------
    folder : Path or None
        Where it is; None when nothing was written.
    metrics : mapping
        As in ``metrics.json``.
    model : Factorization
        Fitted, with ``transform`` and ``components_``.
    factors : Factors or None
        None for a run that was found finished.
    notes : list of str
        What the user should know about the data.
    found : bool
        True when the run was finished before.
    """

    folder: Path | None
    metrics: Mapping[str, Any]
    model: Factorization
    factors: Factors | None
    notes: list[str]
    found: bool = False

    @property
    def leading(self) -> list[str]:
        """Leading features of every component, a line each; not of images, whose pixels say nothing."""
        if self.folder is None or self.model.recipe.get("kind") == "image":
            return []
        return leading_lines(self.folder)


class NotFirst(Exception):
    """This process has done its part of a run that the first process goes on with."""


def train(
    cfg: Config,
    source: Source | None = None,
    *,
    write: bool = True,
    given: Mapping[str, Any] | None = None,
    callbacks: Sequence[L.Callback] = (),
    sweep: str | None = None,
    title: str | None = None,
) -> Result:
    """Run one experiment.

    Parameters
    ----------
    cfg : Config
        Resolved and checked configuration.
    source : Source, optional
        Data in memory, instead of ``cfg.data``.
    write : bool
        False = leave no files.
    given : mapping of str to array, optional
        Values that factors of the model start from; those in ``model.frozen`` keep them.
    callbacks : sequence of lightning.Callback
        Called after the stopping rule; no part of the experiment, and so of the run's name.
    sweep : str, optional
        Name of the sweep that the run belongs to, for trackers.
    title : str, optional
        What the run is called while it trains; by default the choice of the model.

    Raises
    ------
    UserError
        For input that cannot be used; nothing is written then. If another process is at work in the
        run folder.
    Interrupted, Terminated
        After Ctrl-C, or SIGTERM and SIGHUP, with a loadable checkpoint left in the run folder, from
        which the same call goes on.
    """
    folder = run_folder(cfg) if write else None
    if folder is not None and (before := finished(cfg)) is not None:
        return Result(folder, before.metrics, load(folder), None, [], found=True)
    forced, anew = cfg.force, cfg.force or not cfg.resume
    cfg = cfg.but(force=False, resume=True)  # said to this command, not for good
    datamodule = data_of(cfg, source)
    world = World.of(cfg.trainer, datamodule.sizes.n_samples)
    model = _made(cfg, datamodule, world, given or {})
    with threads(cfg.threads, datamodule, model), _calm(), _enough_memory(cfg, datamodule):
        if world.size > 1:
            check_shardable(model, cfg.batch_size, world)
            model.world = World()  # this is the whole; its blocks come later
        design = datamodule.matrix.design
        model.recipe["covariates"] = None if design is None else design.plain()
        model.recipe["covariate_names"] = None if design is None else design.names
        spent = _start(model, datamodule, world)
        check_loss(cfg, model)
        note_init(cfg, datamodule, model)
        datamodule.notes += model.remarks(datamodule.sample)
        name_features(model, datamodule.feature_names)
        if folder is not None:  # which tell whether a checkpoint is of this run
            model.recipe |= {"run_id": run_id(cfg.plain()), "data_sha256": datamodule.fingerprint}
        matrix = datamodule.matrix
        model.recipe |= {"kind": matrix.kind, "image_shape": matrix.image_shape}
        with locked(folder) if folder is not None and world.rank == 0 else nullcontext():
            if folder is not None and not forced and (before := finished(cfg)) is not None:
                # another process has just done it
                return Result(folder, before.metrics, load(folder), None, [], found=True)
            resumed = None if anew or folder is None or world.size > 1 else resumable(folder, model)
            return _fit(
                cfg, datamodule, model, spent, folder, world, resumed, callbacks, sweep, title
            )


def data_of(cfg: Config, source: Source | None = None) -> MatrixDataModule:
    """The data of a run, read, checked and split."""
    source = source or build(cfg.data)
    kind = StreamDataModule if source.streamed else MatrixDataModule
    datamodule = kind(
        source,
        build(cfg.split),
        batch_size=cfg.batch_size,
        dtype=getattr(torch, cfg.dtype),
        seed=cfg.seed,
        device=device_of(cfg.device),
        known=Known.of(cfg.model),
    )
    datamodule.setup()
    return datamodule


def _made(
    cfg: Config, datamodule: MatrixDataModule, world: World, given: Mapping[str, Any]
) -> Factorization:
    """The model of a run, held against its data and its solver, and not yet started."""
    _check_factors(cfg, datamodule)
    batched = cfg.but(batch_size=datamodule.batch_size)  # streams have one in any case
    batched = _numbered(batched, datamodule)
    with _enough_memory(cfg, datamodule):
        model = assemble(
            batched,
            datamodule.sizes,
            masked=datamodule.train.masked,
            sparse=datamodule.train.x.is_sparse_csr,
            axes=datamodule.axes,
            given=given,
            world=world,
        ).to(datamodule.device)
    if isinstance(datamodule, StreamDataModule):
        check_streamed(cfg, datamodule, model, world)
    datamodule.check(lambda view: model.loss.for_view(view).check)
    datamodule.notes += model.loss.remarks(datamodule.sampled())
    take_wanted(model)
    rescale(datamodule, model)
    if said := dodged(model.penalty_list, model.factors, model.scale_pair()):
        datamodule.notes.append(said)
    check_rows(cfg, datamodule, model)
    check_links(datamodule, model)
    note_views(datamodule, model)
    note_undetermined(datamodule, model)
    note_unused(cfg, datamodule, model)
    note_constraint(cfg, datamodule, model)
    check_solver(model.solver, task_of(model))
    check_normalise(model, cfg.normalize)
    return model


def begun(cfg: Config, datamodule: MatrixDataModule) -> Factorization:
    """The model of a run at a start that takes no time: what :func:`train` refuses is refused here.

    Raises
    ------
    UserError
        As there.
    """
    model = _made(cfg, datamodule, World(), {})
    with threads(cfg.threads, datamodule, model), _calm(), _enough_memory(cfg, datamodule):
        initialise(model, datamodule.sample, lambda: True)
        check_loss(cfg, model)
    return model


def _start(model: Factorization, datamodule: MatrixDataModule, world: World) -> float:
    """Start every restart; the seconds that it took, of those that the run has.

    Processes make the same start, each for itself, which no clock must part.
    """
    began, limit = now(), model.budget.time_limit

    def over() -> bool:
        return limit is not None and now() - began >= limit

    initialise(model, datamodule.sample, over if world.size == 1 else never)
    return now() - began


def _numbered(cfg: Config, datamodule: MatrixDataModule) -> Config:
    """With the number of components that a model finds in the rows, where none is given."""
    if datamodule.streamed or cfg.model.get("n_components", 0) is not None:
        return cfg
    found = locate(cfg.model["_target_"]).number_for(datamodule.train, cfg.model)
    if found is None:
        return cfg
    number, said = found
    datamodule.notes.append(said)
    return cfg.but(model={**cfg.model, "n_components": number})


def _check_factors(cfg: Config, datamodule: MatrixDataModule) -> None:
    """Note what the factors of long lists take, and refuse what this machine cannot hold."""
    width = cfg.model.get("n_components")
    if not isinstance(width, int):
        return
    n, f = datamodule.sizes
    number = torch.finfo(getattr(torch, cfg.dtype)).bits // 8
    size = COPIES * cfg.n_restarts * (n + f) * width * number
    said = f"{n} samples and {f} features with {width} components take about {size / 1e9:.3g} GB"
    if size > memory():
        raise UserError(
            f"{said}, and this machine has {memory() / 1e9:.3g} GB: lower model.n_components or "
            "n_restarts, or leave out what is rare (data.min_per_column)"
        )
    if size > WORTH_SAYING:
        datamodule.notes.append(f"{said} of memory.")


@contextmanager
def _enough_memory(cfg: Config, datamodule: MatrixDataModule) -> Iterator[None]:
    """Say what to lower when a run does not fit into memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or re.search(NO_MEMORY, str(error))):
            raise
        n, f = datamodule.sizes
        asked = f"n_restarts={cfg.n_restarts}"
        if "n_components" in cfg.model:
            asked += f", model.n_components={cfg.model['n_components']}"
        raise UserError(
            f"there is not enough memory for {n} x {f} values with {asked}: lower these, or use "
            "batch_size or data=stream"
        ) from error


def _fit(
    cfg: Config,
    datamodule: MatrixDataModule,
    model: Factorization,
    spent: float,
    folder: Path | None,
    world: World,
    before: Path | None,
    more: Sequence[L.Callback],
    sweep: str | None,
    title: str | None,
) -> Result:
    """Train a model that has its start: by the Trainer if anything asks for one, else by a bare loop."""
    convergence = Convergence(datamodule.train, spent, in_memory=not datamodule.streamed)
    callbacks: list[L.Callback] = [convergence]
    first = world.rank == 0
    callbacks.append(History(folder / "history.csv" if folder and first else None, convergence))
    if first and cfg.progress:
        callbacks.append(ProgressBar(title or cfg.model_name, convergence))
        model.tell = Teller(title or cfg.model_name)
    callbacks += [*(build(node) for node in cfg.callbacks.values()), *more]
    following = [step for step in callbacks if isinstance(step, AfterFit)]
    for step in following:
        step.ready(datamodule)
    kept = folder / "model.ckpt" if folder is not None and world.size == 1 else None
    resuming = Resuming(
        kept, cfg.checkpoint_every, convergence, lambda: _settle(model, datamodule, cfg.normalize)
    )
    callbacks.append(resuming)
    plain = not (cfg.callbacks or more) and cfg.trainer == read_choice("trainer", "default")
    if folder is None and plain and datamodule.device.type == "cpu":
        loop = Loop(callbacks)
        with stoppable(loop, model, resuming):
            loop.fit(model, datamodule)
            return _result(cfg, datamodule, model, None, convergence)
    name = f"{cfg.model_name}-{folder.name if folder else 'memory'}"
    context = Context(name, folder or Path(), Path(cfg.runs), cfg.plain(), sweep)
    with _hushed(), _tracked(cfg, context, folder is not None and first) as loggers:
        if folder is not None and first:
            make_folder(folder, keep=before is not None)
        trainer: L.Trainer = build(
            {
                **cfg.trainer,
                "accelerator": "gpu" if datamodule.device.type == "cuda" else "cpu",
                "callbacks": callbacks,
                "logger": loggers or False,
                "default_root_dir": folder,
            }
        )
        with stoppable(trainer, model, resuming):
            if world.size > 1:
                _fit_in_parts(cfg, datamodule, model, trainer, convergence, world)
            else:
                trainer.fit(model, datamodule=datamodule, ckpt_path=before)
            result = _result(cfg, datamodule, model, folder, convergence)
            for step in following:
                step.follow(datamodule, result)
            if folder is not None:
                figures = dict(run_figures(model.plot.run)) if cfg.figures else {}
                write_run(cfg, datamodule, trainer, result, figures)
                best = {"best_restart": int(model.best)}
                log_result(loggers, {**result.metrics, **best}, figures, context)
    return result


@contextmanager
def _tracked(cfg: Config, context: Context, asked: bool) -> Iterator[list[Logger]]:
    """The trackers that a run is told to; they are told as well how it ended."""
    loggers: list[Logger] = []
    whole = False
    try:
        for node in cfg.logger.values() if asked else ():
            loggers.append(build(node, context))
        yield loggers
        whole = True
    except MisconfigurationException as error:
        raise UserError(f"the trainer cannot be used as configured: {error}") from error
    finally:
        finish(loggers, "success" if whole else "failed")


def _result(
    cfg: Config,
    datamodule: MatrixDataModule,
    model: Factorization,
    folder: Path | None,
    convergence: Convergence,
) -> Result:
    """The state in which a run ends, and what there is to know of it."""
    _settle(model, datamodule, cfg.normalize)
    factors = factors_of(model, datamodule)
    model.recipe["component_names"] = factors.names
    model.plot = Figures(model, partial(run_of, datamodule, model, factors, convergence.records))
    model.reports = Asked(partial(tables, model, datamodule, factors))
    model.metrics = numbers = run_metrics(model, datamodule, factors, convergence)
    remarks = model.prelude.remark(), model.solver.remark(), convergence.remark(model)
    datamodule.notes.extend(remark for remark in remarks if remark)
    return Result(folder, numbers, model, factors, datamodule.notes)


def _fit_in_parts(
    cfg: Config,
    datamodule: MatrixDataModule,
    model: Factorization,
    trainer: L.Trainer,
    convergence: Convergence,
    world: World,
) -> None:
    """Train on this process's rows only; the first process goes on with the whole, the others end."""
    rows = block(datamodule, world)
    part = shard(model, cfg, world, rows)
    datamodule.release()
    convergence.batch = rows
    trainer.fit(part, train_dataloaders=OneBatch(rows))
    join(model, part)
    torch.distributed.destroy_process_group()
    if world.rank > 0:
        raise NotFirst
    notes = datamodule.notes
    datamodule.setup()
    datamodule.notes = notes  # of the start too
    trainer.strategy.connect(model)  # what is saved from here on is the whole


@torch.no_grad()
def _settle(model: Factorization, datamodule: MatrixDataModule, normalize: str | None) -> None:
    """The state in which a run ends; doing it again changes nothing."""
    if model.settled:
        return
    model.settled = True
    model.solver.finish(model, datamodule.blocks("train"))
    to_totals(model, datamodule.train)
    normalise(model, normalize, datamodule.train)
    model.end(datamodule.train)
    if datamodule.batch_size is not None or model.solver.estimates:
        # what was recorded is of some rows, or a sum of minibatches of different moments
        with judged(model):
            now = torch.stack([total(model.objective(b)) for b in datamodule.blocks("train")]).sum(
                0
            )
        model.objectives.copy_(torch.where(model.objectives.isfinite(), now, torch.inf))
        model.best.fill_(int(model.objectives.argmin()))


def _calm() -> AbstractContextManager[None]:
    """Without Lightning's and torch's words on sparse tensors."""
    return quiet((), module="lightning", messages=("Sparse CSR tensor support is in beta",))


def _hushed() -> AbstractContextManager[None]:
    """Without Lightning's advice, which is about training networks."""
    return quiet(("lightning.pytorch", "lightning.fabric"), module="lightning")
