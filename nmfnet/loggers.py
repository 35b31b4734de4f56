"""Trackers beside the run folder: ``logger=wandb`` and ``logger=tensorboard``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from lightning.pytorch.loggers import Logger  # at run time: the config check reads annotations

from nmfnet.config import Plain
from nmfnet.errors import UserError

if TYPE_CHECKING:
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

    Look at offline runs with ``wandb leet runs`` or upload them with ``wandb sync``.

    Raises
    ------
    UserError
        If wandb refuses, for instance ``mode=online`` without a login.
    """
    import wandb as package
    from lightning.pytorch.loggers import WandbLogger

    os.environ.setdefault("WANDB_SILENT", "true")
    package.setup()  # reads that; a warning about Lightning's use of wandb would come before
    if mode == "auto":
        mode = "online" if _logged_in() else "offline"
    context.runs.mkdir(parents=True, exist_ok=True)
    logger = WandbLogger(
        project=project,
        name=context.name,
        save_dir=str(context.runs),
        mode=mode,
        group=group,
        config=context.config,
        settings=package.Settings(console="off"),
    )
    try:
        run = logger.experiment
    except package.Error as error:
        raise UserError(
            f"logger.wandb.mode={mode}: {error} Or set logger.wandb.mode=offline."
        ) from error
    run.define_metric("iteration")
    run.define_metric("seconds")
    run.define_metric("*", step_metric="iteration")
    return logger


def _logged_in() -> bool:
    """Whether wandb would find credentials, without asking wandb, which then fixes its settings."""
    import netrc
    from urllib.parse import urlparse

    if os.environ.get("WANDB_MODE", "online") != "online":
        return False
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    server = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(server) is not None
    except (OSError, netrc.NetrcParseError):
        return False


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
