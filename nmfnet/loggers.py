"""Trackers beside the run folder: ``logger=wandb`` and ``logger=tensorboard``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nmfnet.config import Plain
from nmfnet.errors import UserError

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from matplotlib.figure import Figure


class Context(NamedTuple):
    """What a tracker needs to know of a run."""

    name: str
    folder: Path
    runs: Path
    config: Plain


def wandb(
    context: Context,
    *,
    project: str = "nmfnet",
    mode: Literal["auto", "offline", "online"] = "auto",
    group: str | None = None,
) -> Logger:
    """Weights & Biases; offline unless there is a login, with all runs in one ``runs/wandb``.

    Look at offline runs with ``wandb beta leet runs`` or upload them with ``wandb sync``.
    """
    from lightning.pytorch.loggers import WandbLogger

    os.environ.setdefault("WANDB_SILENT", "true")
    offline = mode == "offline" or (mode == "auto" and not _logged_in())
    context.runs.mkdir(parents=True, exist_ok=True)
    logger = WandbLogger(
        project=project,
        name=context.name,
        save_dir=str(context.runs),
        offline=offline,
        group=group,
        config=context.config,
    )
    run = logger.experiment
    run.define_metric("iteration")
    run.define_metric("seconds")
    run.define_metric("*", step_metric="iteration")
    return logger


def _logged_in() -> bool:
    import wandb

    return bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)


def tensorboard(context: Context) -> Logger:
    """TensorBoard event files in the run folder: ``tensorboard --logdir runs``."""
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(context.folder, name=None, version="", default_hp_metric=False)
    except ModuleNotFoundError as error:
        raise UserError(
            "logger=tensorboard needs the tensorboard package: pip install 'nmfnet[tracking]'"
        ) from error


def log_result(
    loggers: Iterable[Logger], metrics: dict[str, Any], figures: dict[str, Figure]
) -> None:
    """Final numbers and pictures to every tracker, then close it."""
    numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb as package

            run = logger.experiment
            run.summary.update(numbers)
            run.log({f"figures/{name}": package.Image(figure) for name, figure in figures.items()})
        elif isinstance(logger, TensorBoardLogger):
            for name, figure in figures.items():
                logger.experiment.add_figure(f"figures/{name}", figure)
            for key, value in numbers.items():
                logger.experiment.add_scalar(f"final/{key}", value)
        else:
            logger.log_metrics(numbers)


def finish(loggers: Iterable[Logger], status: Literal["success", "failed"]) -> None:
    """Close every tracker, whatever happened: a sweep's next job must start a run of its own."""
    from lightning.pytorch.loggers import WandbLogger

    for logger in loggers:
        logger.finalize(status)
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=0 if status == "success" else 1)
