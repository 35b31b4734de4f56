"""Trackers beside the run folder: ``logger=wandb``, ``tensorboard``, ``trackio``, ``mlflow``.

All are given the same keys: the columns of ``history.csv`` by iteration, then ``metrics.json``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from lightning.pytorch.loggers import Logger  # at run time: the config check reads annotations

from nmfnet.config import Plain
from nmfnet.errors import UserError
from nmfnet.loggers._pictures import picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Context(NamedTuple):
    """What a tracker needs to know of a run."""

    name: str
    folder: Path
    runs: Path
    config: Plain
    sweep: str | None = None


def wandb(
    context: Context,
    *,
    project: str = "nmfnet",
    mode: Literal["auto", "offline", "online"] = "auto",
    group: str | None = None,
    artifacts: bool = True,
) -> Logger:
    """Weights & Biases; offline unless there is a login, with all runs in one ``runs/wandb``.

    Look at offline runs with ``wandb leet runs`` or upload them with ``wandb sync``. The runs of a
    sweep are one ``group``; ``artifacts`` = keep factors and checkpoint with the run.

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
        group=group or context.sweep,
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
    return logger if artifacts else _without_artifacts(logger)


def _without_artifacts(logger: Logger) -> Logger:
    logger.nmfnet_artifacts = False  # type: ignore[attr-defined]
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


def trackio(context: Context, *, project: str = "nmfnet", group: str | None = None) -> Logger:
    """Trackio, with all runs in one ``runs/trackio``: ``TRACKIO_DIR=runs/trackio trackio show``.

    Raises
    ------
    UserError
        If trackio is not installed.
    """
    from nmfnet.loggers._trackio import Trackio

    where = str((context.runs / "trackio").absolute())
    os.environ.setdefault("TRACKIO_DIR", where)  # read when trackio is imported
    try:
        return Trackio(project, context.name, group or context.sweep, context.config)
    except ModuleNotFoundError as error:
        raise UserError(
            "logger=trackio needs the trackio package: pip install 'nmfnet[trackio]'"
        ) from error


def mlflow(
    context: Context, *, experiment: str = "nmfnet", tracking_uri: str | None = None
) -> Logger:
    """MLflow in ``runs/mlflow``: ``mlflow ui --backend-store-uri sqlite:///runs/mlflow/mlflow.db``.

    Raises
    ------
    UserError
        If mlflow is not installed.
    """
    from lightning.pytorch.loggers import MLFlowLogger

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")  # not how it makes its database
    where = (context.runs / "mlflow").absolute()
    if tracking_uri is None:
        where.mkdir(parents=True, exist_ok=True)
    try:
        logger = MLFlowLogger(
            experiment_name=experiment,
            run_name=context.name,
            tracking_uri=tracking_uri or f"sqlite:///{where}/mlflow.db",
            artifact_location=None if tracking_uri else str(where / "artifacts"),
            tags={"sweep": context.sweep} if context.sweep else None,
        )
        logger.log_hyperparams(flat(context.config))
    except ModuleNotFoundError as error:
        raise UserError(
            "logger=mlflow needs the mlflow package: pip install 'nmfnet[mlflow]'"
        ) from error
    return logger


def flat(config: Plain, path: str = "") -> dict[str, bool | int | float | str]:
    """A configuration as one table: ``model.n_components`` and so on, without folders."""
    table: dict[str, bool | int | float | str] = {}
    for key, value in config.items():
        if path or key not in ("logger", "runs", "run_dir", "choices", "data"):
            if isinstance(value, dict):
                table |= flat(value, f"{path}{key}.")
            elif value is not None:
                plain = isinstance(value, bool | int | float | str)
                table[f"{path}{key}"] = value if plain else str(value)
    return table if path else table | {k: str(v) for k, v in config.get("choices", {}).items()}


# ---------------------------------------------------------------------- the end of a run
KEPT = ("config.yaml", "metrics.json", "factors.npz", "model.ckpt")
"""Files of a run that go to trackers with artefacts."""


def log_result(
    loggers: Iterable[Logger],
    metrics: dict[str, Any],
    figures: dict[str, Figure],
    context: Context,
) -> None:
    """Final numbers, pictures and files to every tracker."""
    from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

    from nmfnet.loggers._trackio import Trackio

    numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _to_wandb(logger, numbers, figures, context)
        elif isinstance(logger, TensorBoardLogger):
            _to_tensorboard(logger, numbers, figures, context)
        elif isinstance(logger, Trackio):
            logger.log_result(numbers, figures)
        else:
            logger.log_metrics({key: float(value) for key, value in numbers.items()})
            if isinstance(logger, MLFlowLogger):
                run, client = logger.run_id, logger.experiment
                for file in [*(context.folder / name for name in KEPT), context.folder / "figures"]:
                    if file.exists():
                        client.log_artifact(run, str(file))


def _to_wandb(
    logger: Any, numbers: dict[str, Any], figures: dict[str, Figure], context: Context
) -> None:
    import wandb as package

    run = logger.experiment
    run.summary.update(numbers)
    run.log({f"figures/{name}": package.Image(picture(figure)) for name, figure in figures.items()})
    if getattr(logger, "nmfnet_artifacts", True):
        artifact = package.Artifact(context.name, type="run")
        for name in KEPT:
            if (context.folder / name).exists():
                artifact.add_file(str(context.folder / name), policy="immutable")
        run.log_artifact(artifact)


def _to_tensorboard(
    logger: Any, numbers: dict[str, Any], figures: dict[str, Figure], context: Context
) -> None:
    from torch.utils.tensorboard.summary import hparams

    writer = logger.experiment
    for name, figure in figures.items():
        writer.add_figure(f"figures/{name}", figure)
    final = {f"final/{key}": value for key, value in numbers.items()}
    for key, value in final.items():
        writer.add_scalar(key, value)
    for summary in hparams(flat(context.config), final):
        writer.file_writer.add_summary(summary)


def finish(loggers: Iterable[Logger], status: Literal["success", "failed"]) -> None:
    """Close every tracker, whatever happened: a sweep's next job must start a run of its own."""
    from lightning.pytorch.loggers import WandbLogger

    from nmfnet.loggers._trackio import Trackio

    for logger in loggers:
        logger.finalize(status)
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=0 if status == "success" else 1)
        elif isinstance(logger, Trackio):
            logger.close()
