"""Sweeps: many runs of which none is lost, and one table at the end."""

from __future__ import annotations

import csv
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from nmfnet.config import check_config, conf_dir
from nmfnet.errors import UserError
from nmfnet.run.lock import alive, check_free
from nmfnet.run.stored import read_table, write_json
from nmfnet.settings.targets import target_problems
from nmfnet.sweep.jobs import Job, Record, read_record, refuse_processes
from nmfnet.sweep.tables import overrides, print_sweep, print_zoo

COMMAND = "sweep.json"
"""File in the folder of a sweep with the command that made it."""

HERE = "hydra.sweep.dir"
"""The folder of a sweep, as one of its settings."""

ZOO = "zoo.json"
"""File in the folder of a sweep over models: which were chosen, and why the others were not."""


@contextmanager
def first_refusal(sweep: Path) -> Iterator[None]:
    """When a sweep is refused before its first job: remove what was written for it."""
    try:
        yield
    except Exception:
        if _begun_here(sweep) and not any((sweep / "jobs").glob("*.json")):
            for name in ("multirun.yaml", COMMAND, ZOO):
                (sweep / name).unlink(missing_ok=True)
            with suppress(OSError):  # not empty, or not ours
                for folder in (sweep, *sweep.parents[:2]):
                    folder.rmdir()
        raise


def _begun_here(sweep: Path) -> bool:
    """Whether the folder of a sweep was made by this very command, not by one to be resumed."""
    try:
        return read_table(sweep / COMMAND)["pid"] == os.getpid()
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError):
        return False


def check_first(job: Job) -> None:
    """Refuse a whole sweep for a mistake in its first job, which is most likely in every job.

    Raises
    ------
    UserError
        Saying what is wrong.
    """
    if job.cfg.get("run_dir"):
        raise UserError("run_dir is the folder of a single run: give a sweep runs=DIR")
    refuse_processes(check_config(job.cfg))


def begin(sweep: Path) -> None:
    """Note the command of a sweep before anything of it can be lost."""
    file = sweep / COMMAND
    if not file.exists():
        sweep.mkdir(parents=True, exist_ok=True)
        command = {"arguments": sys.argv[1:], "cwd": str(Path.cwd()), "pid": os.getpid()}
        write_json(file, command)


def summarise(sweep: Path) -> int:
    """Print the table of a sweep, write ``sweep.csv``; returns the number of failed jobs."""
    found = [read_record(file) for file in sorted((sweep / "jobs").glob("*.json"))]
    records = [record for record in found if record is not None]
    if not records:
        return 0
    rows = [sweep_row(record) for record in records]
    with (sweep / "sweep.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    if (zoo := sweep / ZOO).exists():
        print_zoo(records, shown(sweep), read_table(zoo)["left_out"])
    else:
        print_sweep(records, shown(sweep))
    failed = [record["job"] for record in records if record["status"] == "failed"]
    if failed:
        print(
            f"{len(failed)} of {len(records)} jobs failed: {', '.join(map(str, failed))}; "
            f"{resuming(sweep)} runs what is missing"
        )
    return len(failed)


def shown(folder: Path) -> Path:
    """A folder as seen from here."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def resuming(sweep: Path) -> str:
    """The command that goes on with a sweep, as a shell takes it."""
    return shlex.join(["nmfnet", "sweep", "resume", str(shown(sweep))])


def sweep_row(record: Record) -> dict[str, Any]:
    """One line of ``sweep.csv``: the job, what was varied, how it ended, every metric."""
    row = {"job": record["job"], **overrides(record), "status": record["status"]}
    row |= {"error": record.get("error", ""), "run_dir": record["run_dir"]}
    numbers = dict(record.get("metrics", {}))
    return row | {"ended": numbers.pop("status", "")} | numbers


class Summary(Callback):
    """Hydra callback: a clean start, the table when a sweep has ended, exit code 1 for failures.

    Parameters
    ----------
    resume : bool
        Keep the records of jobs that are in the sweep's folder.
    """

    def __init__(self, resume: bool = False) -> None:
        self.resume = resume

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the options of the launcher and the search; forget an earlier sweep."""
        problems: list[str] = []
        for name, group in (("launcher", "launcher"), ("sweeper", "hparams_search")):
            node = OmegaConf.to_container(config.hydra[name], resolve=True)
            if isinstance(node, dict) and str(node.get("_target_")).startswith("nmfnet."):
                problems += target_problems(node, group)
        if problems:  # Hydra makes warnings of errors raised here
            print("nmfnet:", "\n  ".join(problems), file=sys.stderr)
            sys.exit(2)
        sweep = Path(config.hydra.sweep.dir)
        try:
            check_free(sweep)
        except UserError as error:
            print("nmfnet:", error, file=sys.stderr)
            sys.exit(2)
        goes_on = self.resume or (sweep / "study.db").exists()
        if not goes_on and (sweep / COMMAND).exists():  # an earlier sweep's folder
            for file in [*(sweep / "jobs").glob("[0-9]*.json"), sweep / COMMAND, sweep / ZOO]:
                file.unlink(missing_ok=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """The table."""
        if summarise(Path(config.hydra.sweep.dir)):
            sys.exit(1)


def resumed(folder: str, more: Sequence[str], *, trust: bool = False) -> tuple[list[str], Path]:
    """The command of a sweep again, for the jobs without results, and the folder to run it in.

    Parameters
    ----------
    folder : str
        Folder of the sweep, as ``runs/sweeps/2026-01-31_12-00-00-000000``.
    more : sequence of str
        Settings to add, such as ``launcher=joblib``.
    trust : bool
        Run whatever the sweep's file says; see :func:`foreign`.

    Returns
    -------
    list of str, Path
        Arguments of ``nmfnet-train``, and the folder that the sweep was started in.

    Raises
    ------
    UserError
        If it is not the folder of a sweep, the folder that it ran in is gone, it still runs, or it
        names code that is not nmfnet's and is not trusted.
    """
    sweep = Path(folder).absolute()
    try:
        command = read_table(sweep / COMMAND)
        arguments, cwd = list(command["arguments"]), Path(command["cwd"])
        if not all(isinstance(argument, str) for argument in arguments):
            raise TypeError("arguments are words")
        arguments = [word for word in arguments if not word.startswith(f"{HERE}=")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        there = (sweep / COMMAND).exists()
        why = f"its {COMMAND} is damaged" if there else f"it holds no {COMMAND}"
        raise UserError(
            f"{folder} cannot be resumed, {why}: give the folder of a sweep, as runs/sweeps/DATE"
        ) from error
    if (said := foreign(arguments)) is not None and not trust:
        raise UserError(
            f"{sweep / COMMAND} says {said}, which can run code that is not nmfnet's: if the sweep "
            "is yours, add --trust"
        )
    if not cwd.is_dir():
        raise UserError(f"the sweep ran in {cwd}, which is gone: change cwd in {sweep / COMMAND}")
    for file in sorted((sweep / "jobs").glob("*.json")):
        record = read_record(file) or {}
        if record.get("status") == "running" and _alive(record):
            raise UserError(
                f"job {record['job']} of this sweep is still running (process {record['pid']}): "
                f"wait for it or end it, or remove {shown(file)} if that is another program"
            )
    own = [f"{HERE}={sweep}", "++hydra.callbacks.sweep.resume=true"]
    return [*arguments, *more, *own], cwd


def foreign(arguments: list[str]) -> str | None:
    """The first argument of a stored command that can run more than nmfnet's own code, if any.

    Harmless are ``-m``, choices of nmfnet's groups, and values of keys that configure neither Hydra
    nor the shell of a job.
    """
    for argument in arguments:
        key, equals, value = argument.lstrip("+").partition("=")
        if argument in ("-m", "--multirun"):
            continue
        if (
            not equals
            or not re.fullmatch(r"[\w.]+", key)
            or key.partition(".")[0] == "hydra"
            or re.fullmatch(r"launcher\.(setup|extra|_target_|address)(\..*)?", key)
            or "_target_" in argument
            or (
                (conf_dir() / key).is_dir()
                and not re.fullmatch(r"([\w\[\],()* -]|\.(?!\.))*", value)
            )
        ):
            return argument
    return None


def _alive(record: Record) -> bool:
    """Whether the process that runs a job is there, as far as this machine can tell."""
    return record.get("host") == socket.gethostname() and alive(record.get("pid"))
