"""One run from configuration to results: the one place where the parts meet."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException

from nmfnet.callbacks.convergence import Convergence
from nmfnet.callbacks.history import History
from nmfnet.callbacks.progress import ProgressBar
from nmfnet.callbacks.resuming import Resuming
from nmfnet.checkpoint import assemble, load, resumable
from nmfnet.config import Plain, build, run_folder, run_id
from nmfnet.cores import most_threads
from nmfnet.data.batches import OneBatch, to_numpy
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.source import Source
from nmfnet.data.stream import Stream
from nmfnet.data.stream_module import StreamDataModule
from nmfnet.distributed import World
from nmfnet.errors import UserError
from nmfnet.evaluate import Factors, factors_of, layers_of, run_metrics
from nmfnet.factorization import Factorization
from nmfnet.finished import finished
from nmfnet.loggers import Context, finish, log_result
from nmfnet.provenance import provenance
from nmfnet.sharding import block, check_shardable, join, shard
from nmfnet.solvers.base import total

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from matplotlib.figure import Figure

SMALL_WORK = 20_000_000
"""Multiplications of an iteration below which one thread is faster than several."""


@dataclass
class Result:
    """A finished run.

    Attributes
    ----------
    folder : Path or None
        Where it is; None when nothing was written.
    metrics : dict
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
    metrics: dict[str, Any]
    model: Factorization
    factors: Factors | None
    notes: list[str]
    found: bool = False


class NotFirst(Exception):
    """This process has done its part of a run that the first process goes on with."""


class Interrupted(Exception):
    """Ctrl-C; the message says where the checkpoint is."""


def train(
    cfg: Plain,
    source: Source | None = None,
    *,
    write: bool = True,
    callbacks: Sequence[L.Callback] = (),
    sweep: str | None = None,
) -> Result:
    """Run one experiment.

    Parameters
    ----------
    cfg : dict
        Resolved and checked configuration.
    source : Source, optional
        Data in memory, instead of ``cfg["data"]``.
    write : bool
        False = leave no files.
    callbacks : sequence of lightning.Callback
        Called after the stopping rule; no part of the experiment, and so of the run's name.
    sweep : str, optional
        Name of the sweep that the run belongs to, for trackers.

    Raises
    ------
    UserError
        For input that cannot be used; nothing is written then.
    Interrupted
        After Ctrl-C, with a loadable checkpoint left in the run folder, from which the same call
        goes on.
    """
    folder = run_folder(cfg) if write else None
    if folder is not None and (before := finished(cfg)) is not None:
        return Result(folder, before.metrics, load(folder), None, [], found=True)
    anew = cfg["force"] or not cfg["resume"]
    cfg = {**cfg, "force": False, "resume": True}  # said to this command, not for good
    device = _device(cfg["device"])
    source = source or build(cfg["data"])
    kind = StreamDataModule if isinstance(source, Stream) else MatrixDataModule
    datamodule = kind(
        source,
        build(cfg["split"]),
        batch_size=cfg["batch_size"],
        dtype=getattr(torch, cfg["dtype"]),
        seed=cfg["seed"],
        device=device,
    )
    datamodule.setup()
    masked = datamodule.train.mask is not None
    world = World.of(cfg, datamodule.sizes.n_samples)
    batched = {**cfg, "batch_size": datamodule.batch_size}  # streams have one in any case
    classes = datamodule.n_classes
    model = assemble(batched, datamodule.sizes, masked=masked, world=world, n_classes=classes)
    model = model.to(device)
    if isinstance(datamodule, StreamDataModule):
        _check_streamed(cfg, datamodule, model, world)
    datamodule.check(model.loss.check)
    model.solver.check(model, datamodule.batch_size)
    model.check_normalise(cfg["normalize"])
    with _threads(cfg["threads"], datamodule, model), _quiet():
        if world.size > 1:
            check_shardable(model, cfg["batch_size"], world)
            model.world = World()  # this is the whole; its blocks come later
        model.initialise(datamodule.sample)
        model.recipe |= {"run_id": run_id(cfg), "data_sha256": datamodule.fingerprint}
        resumed = None if anew or folder is None or world.size > 1 else resumable(folder, model)
        return _fit(cfg, datamodule, model, folder, world, resumed, callbacks, sweep)


def _check_streamed(
    cfg: Plain, datamodule: StreamDataModule, model: Factorization, world: World
) -> None:
    """Refuse what needs all rows at once."""
    kind, encoded = type(model).__name__, model.inductive and cfg["normalize"] == "W"
    for refused, what, remedy in (
        (not model.shardable, f"{kind} as configured", "model=nmf or model=autoencoder"),
        (cfg["kkt_tol"] is not None, "kkt_tol", "kkt_tol=null"),
        (encoded, f"normalize=W of {kind}", "normalize=H"),
        (world.size > 1, "trainer=ddp", "trainer=default"),
    ):
        if refused:
            raise UserError(
                f"{what} needs all rows at once, and data=stream has none: use {remedy}"
            )
    model.check_negative(datamodule.matrix.scan.negative)


def _fit(
    cfg: Plain,
    datamodule: MatrixDataModule,
    model: Factorization,
    folder: Path | None,
    world: World,
    before: Path | None,
    more: Sequence[L.Callback],
    sweep: str | None,
) -> Result:
    convergence = Convergence(datamodule.train)
    callbacks: list[L.Callback] = [convergence]
    first = world.rank == 0
    callbacks.append(History(folder / "history.csv" if folder and first else None, convergence))
    if first and _progress_wanted(cfg["progress"]):
        callbacks.append(ProgressBar(cfg["choices"].get("model", "model"), convergence))
    callbacks += [*(build(node) for node in cfg["callbacks"].values()), *more]
    kept = folder / "model.ckpt" if folder is not None and world.size == 1 else None

    def settle() -> None:
        _settle(model, datamodule, cfg["normalize"])

    resuming = Resuming(kept, cfg["checkpoint_every"], convergence, settle)
    callbacks.append(resuming)
    name = f"{cfg['choices'].get('model', 'model')}-{folder.name if folder else 'memory'}"
    context = Context(name, folder or Path(), Path(cfg["runs"]), cfg, sweep)
    loggers: list[Logger] = []
    whole = False
    try:
        for node in cfg["logger"].values() if folder and first else ():
            loggers.append(build(node, context))
        if folder is not None and first:
            _make(folder, keep=before is not None)
        trainer = build(
            {
                **cfg["trainer"],
                "accelerator": "gpu" if datamodule.device.type == "cuda" else "cpu",
                "callbacks": callbacks,
                "logger": loggers or False,
                "default_root_dir": folder,
            }
        )
        with _stoppable(trainer, model, resuming):
            if world.size > 1:
                _fit_in_parts(cfg, datamodule, model, trainer, convergence, world)
            else:
                trainer.fit(model, datamodule=datamodule, ckpt_path=before)
            settle()
            factors = factors_of(model, datamodule)
            numbers = run_metrics(model, datamodule, factors, convergence.seconds)
            if folder is not None:
                draw = cfg["figures"]
                figures = _figures(datamodule, model, factors, convergence) if draw else {}
                _write(cfg, datamodule, trainer, folder, numbers, factors, figures)
                best = {"best_restart": int(model.best)}
                log_result(loggers, numbers | best, figures, context)
        whole = True
    except MisconfigurationException as error:
        raise UserError(f"the trainer cannot be used as configured: {error}") from error
    finally:
        finish(loggers, "success" if whole else "failed")
    return Result(folder, numbers, model, factors, datamodule.notes)


def _fit_in_parts(
    cfg: Plain,
    datamodule: MatrixDataModule,
    model: Factorization,
    trainer: L.Trainer,
    convergence: Convergence,
    world: World,
) -> None:
    """Train on this process's rows only; the first process goes on with the whole, the others end."""
    part, rows = shard(model, cfg, world), block(datamodule, world)
    datamodule.release()
    convergence.batch = rows
    trainer.fit(part, train_dataloaders=OneBatch(rows))
    join(model, part)
    torch.distributed.destroy_process_group()
    if world.rank > 0:
        raise NotFirst
    datamodule.setup()
    trainer.strategy.connect(model)  # what is saved from here on is the whole


@contextmanager
def _stoppable(trainer: L.Trainer, model: Factorization, resuming: Resuming) -> Iterator[None]:
    """Keep the model when Ctrl-C comes; a full disk is the user's to mend."""
    try:
        try:
            yield
        finally:
            if trainer.interrupted:  # Lightning then leaves this out: the bar would stay
                for callback in trainer.callbacks:  # type: ignore[attr-defined]
                    callback.teardown(trainer, model, "fit")
    except (KeyboardInterrupt, SystemExit) as stop:  # Lightning turns the first into the second
        where = resuming.last_words(trainer, model)
        raise Interrupted(f"interrupted at iteration {model.iteration}{where}") from stop
    except OSError as error:
        if resuming.path is None or error.strerror is None:
            raise
        raise UserError(f"cannot write to {resuming.path.parent}: {error.strerror}") from error


@torch.no_grad()
def _settle(model: Factorization, datamodule: MatrixDataModule, normalize: str | None) -> None:
    """The state in which a run ends; doing it again changes nothing."""
    if model.settled:
        return
    model.settled = True
    model.solver.finish(model, datamodule.train)
    model.normalise(normalize, datamodule.train)
    model.end(datamodule.train)
    if datamodule.batch_size is not None or model.solver.estimates:
        # what was recorded is of some rows, or a sum of minibatches of different moments
        model.eval()
        now = torch.stack([total(model.objective(b)) for b in datamodule.blocks("train")]).sum(0)
        model.objectives.copy_(torch.where(model.objectives.isfinite(), now, torch.inf))
        model.best.fill_(int(model.objectives.argmin()))


def _write(
    cfg: Plain,
    datamodule: MatrixDataModule,
    trainer: L.Trainer,
    folder: Path,
    numbers: dict[str, Any],
    factors: Factors,
    figures: dict[str, Figure],
) -> None:
    """Everything in the run folder; ``metrics.json`` last, since it says that the run is whole."""
    from nmfnet.plots import save

    (folder / "config.yaml").write_text(yaml.safe_dump(cfg, sort_keys=False))
    arrays = {
        "W": factors.W,
        "H": factors.H,
        "sample_names": np.array(datamodule.sample_names),
        "feature_names": np.array(datamodule.feature_names),
    }
    if factors.W_test is not None:
        arrays |= {
            "W_test": factors.W_test,
            "test_sample_names": np.array(datamodule.test_sample_names),
        }
    np.savez_compressed(folder / "factors.npz", **arrays)  # type: ignore[arg-type]
    trainer.save_checkpoint(folder / "model.ckpt")
    origin = json.dumps(provenance(cfg, datamodule), indent=2)
    (folder / "provenance.json").write_text(origin + "\n")
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        save(figure, folder / "figures" / f"{name}.png")
    partial = folder / "metrics.json.part"
    partial.write_text(json.dumps(without_nan(numbers), indent=2, allow_nan=False) + "\n")
    partial.replace(folder / "metrics.json")


def without_nan(numbers: dict[str, Any]) -> dict[str, Any]:
    """Numbers that json has: null for what is infinite or undefined."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in numbers.items()
    }


def _figures(
    datamodule: MatrixDataModule, model: Factorization, factors: Factors, convergence: Convergence
) -> dict[str, Figure]:
    from nmfnet.plots import run_figures

    matrix, rows, shown = datamodule.matrix, datamodule.train_rows, datamodule.rows_shown()
    x = to_numpy(datamodule.sample.x) if datamodule.streamed else matrix.values[rows]
    records = [record.row() for record in convergence.records]
    history = {key: np.array([r[key] for r in records]) for key in records[0]}
    return dict(
        run_figures(
            W=factors.W[shown],
            H=factors.H,
            x=x,
            x_hat=model.inverse_transform,
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
    )


def _make(folder: Path, *, keep: bool) -> None:
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


def _device(asked: str) -> torch.device:
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch finds no usable GPU: use device=auto or device=cpu")
    gpu = asked != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


@contextmanager
def _threads(
    asked: int | str, datamodule: MatrixDataModule, model: Factorization
) -> Iterator[None]:
    """Threads of torch during a run; matrices that fit the cache run faster on one."""
    before = torch.get_num_threads()
    if asked == "auto":
        asked = 1 if _work(model, datamodule) < SMALL_WORK else most_threads()
    if int(asked) < 1:
        raise UserError(f"threads={asked}: it must be auto or at least 1")
    torch.set_num_threads(int(asked))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _work(model: Factorization, datamodule: MatrixDataModule) -> int:
    """Multiplications of one iteration of one restart, up to a small factor."""
    n, f = datamodule.sizes
    shapes = [parameter.shape[1:] for parameter in model.parameters()]
    return sum(shape.numel() * (f if n in shape else n) for shape in shapes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice, which is about training networks."""
    noisy = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in noisy]
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        try:
            yield
        finally:
            for logger, level in zip(noisy, levels, strict=True):
                logger.setLevel(level)


def _progress_wanted(asked: bool | str) -> bool:
    import sys

    return sys.stderr.isatty() if asked == "auto" else bool(asked)
