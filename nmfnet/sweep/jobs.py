"""One job of a sweep: what it is, how it is run, and its record, which says how it ended."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nmfnet.config import Config, Plain, check_config, root_is_sound, run_folder
from nmfnet.errors import UserError
from nmfnet.run.lock import Busy, wait_until_free
from nmfnet.run.stored import read_table, write_json

__all__ = ["Job", "Record", "in_worker", "read_record", "refuse_processes", "run_job", "settled"]

Record = dict[str, Any]
"""What ``jobs/NNNN.json`` holds: job, overrides, run_dir, status, and metrics or the error."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep, ``number`` (from 0) ``of`` so many, as plain values for any process."""

    number: int
    overrides: tuple[str, ...]
    cfg: Plain
    sweep: Path
    cwd: Path
    of: int = 1

    @property
    def title(self) -> str:
        """Which job of how many, and what it was given."""
        words = " ".join(word.lstrip("+") for word in self.overrides)
        return f"{self.number + 1} of {self.of} {words}".strip()

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.cwd / run_folder(Config.of(self.cfg))

    @property
    def file(self) -> Path:
        """Where its record is."""
        return self.sweep / "jobs" / f"{self.number:04d}.json"

    def record(self, status: str, **more: Any) -> Record:
        """A record that says how the job stands, written to its file."""
        record = {
            "job": self.number,
            "overrides": list(self.overrides),
            "run_dir": str(run_folder(Config.of(self.cfg))),
            "status": status,
            **more,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, record)
        return record


def run_job(job: Job) -> Record:
    """Train, or record why not; whatever happens, the job's file says so.

    Where another process, as of a second sweep, has the same run at work, its result is waited for.
    """
    while True:
        if (before := settled(job)) is not None:
            return before
        try:
            return _run(job)
        except Busy as busy:
            words = " ".join(word.lstrip("+") for word in job.overrides)
            told = f"[{job.number}] {words}: another process is at work on this run; waiting for it"
            print(told, file=sys.stderr, flush=True)
            wait_until_free(busy.folder)


def _run(job: Job) -> Record:
    """Train, and record how it ended; raises `Busy` where another process does the same."""
    job.record("running", pid=os.getpid(), host=socket.gethostname())
    from nmfnet.run.stopping import Interrupted, Terminated
    from nmfnet.run.train import train
    from nmfnet.sweep.search.pruning import Pruned, pruning

    try:
        cfg = check_config(job.cfg)
        refuse_processes(cfg)
        if cfg.ranks is not None:
            from nmfnet.selection.run import select

            result: Any = select(cfg)
        else:
            result = train(
                cfg,
                callbacks=pruning(job.sweep, job.number),
                sweep=job.sweep.name,
                title=job.title,
            )
    except Busy:
        raise
    except UserError as error:
        return job.record("failed", error=str(error))
    except Pruned as error:
        return job.record("pruned", error=str(error))
    except (Interrupted, Terminated) as error:
        return job.record("interrupted", error=str(error))
    except Exception as error:  # a bug in one job must not cost the others
        words = f"{type(error).__name__}: {error}"
        return job.record("failed", error=words, traceback=traceback.format_exc())
    return job.record("done", metrics=dict(result.metrics))


def settled(job: Job) -> Record | None:
    """The record of a job that needs no run: finished before, or in this sweep."""
    from nmfnet.run.finished import finished

    record = read_record(job.file)
    mine = record is not None and record.get("overrides") == list(job.overrides)
    done = mine and record is not None and record["status"] in ("done", "found")
    try:
        if not root_is_sound(job.cfg):
            return None
        cfg = Config(**job.cfg)
        before = finished(cfg.but(force=False) if done else cfg)
    except UserError:
        return None  # the run itself will say so
    if before is None:
        return None
    return job.record("found", metrics=before.metrics)


def in_worker(job: Job) -> Record:
    """:func:`run_job` in a process of its own, where Ctrl-C counts only while a job runs."""
    os.chdir(job.cwd)
    job = replace(job, cfg={**job.cfg, "progress": False})  # the parent tells of all of them
    sys.argv = ["nmfnet-train", *job.overrides]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return run_job(job)
    except KeyboardInterrupt:
        return job.record("interrupted", error="interrupted before it began")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def read_record(file: Path) -> Record | None:
    """A job's record, or None where there is none that can be read."""
    try:
        record = read_table(file)
    except (OSError, ValueError):
        return None
    return record if {"job", "overrides", "run_dir", "status"} <= set(record) else None


def refuse_processes(cfg: Config) -> None:
    """Refuse a job of several processes, whose second would run the sweep's command again.

    Raises
    ------
    UserError
        If the trainer has several devices.
    """
    devices = cfg.trainer.get("devices", 1)
    if devices not in (1, "1", [0]):
        raise UserError(
            f"trainer.devices={devices} spreads one run over processes, which a sweep (-m) cannot: "
            "take trainer=default and launcher=joblib, which runs several jobs at once, or run "
            "the jobs with trainer=ddp one command each, without -m"
        )
