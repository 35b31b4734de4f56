"""Handing out the jobs of a sweep and collecting their records.

The parent composes every job's configuration and hands it to a worker as plain values, so a worker
needs no Hydra. Jobs are given out as places become free, never two for the same run folder at once.
A job whose process dies is tried once more, alone; the others go on.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from nmfnet.errors import UserError
from nmfnet.run.lock import locked
from nmfnet.run.terminal import Beat
from nmfnet.settings.ranges import Count
from nmfnet.settings.words import OF_HYDRA, to_plain
from nmfnet.sweep.jobs import Job, Record, read_record, settled
from nmfnet.sweep.summary import begin, check_first, first_refusal, resuming, summarise

POLL = 0.05
"""Seconds between looks at the running jobs."""

PATIENCE = 60.0
"""Seconds that running jobs have, after Ctrl-C, to leave a checkpoint."""

THREADS = ("OMP", "MKL", "OPENBLAS", "NUMBA")
"""Libraries that read ``NAME_NUM_THREADS`` when they are loaded."""


class Ticket(Protocol):
    """A job that was given out."""

    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> Record:
        """Its record; raises if its process died."""


class Jobs(Launcher, ABC):
    """Runs the jobs of a sweep; a Hydra launcher."""

    config: DictConfig
    context: HydraContext
    begun = False
    total: int | None = None
    """Jobs in all, where they are not all launched at once."""
    alone = False
    """Whether whoever calls this keeps other processes out of the folder of the sweep."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra."""
        self.config, self.context = config, hydra_context

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run one job per list of overrides; their records in the order given.

        Raises
        ------
        UserError
            If the launcher cannot work here, or the first job has a mistake in its configuration.
        """
        setup_globals()
        sweep = Path(self.config.hydra.sweep.dir).absolute()
        total = self.total or initial_job_idx + len(job_overrides)
        with first_refusal(sweep), nullcontext() if self.alone else locked(sweep):
            begin(sweep)
            jobs = [
                self.job(sweep, initial_job_idx + i, overrides, total)
                for i, overrides in enumerate(job_overrides)
            ]
            if not self.begun:
                self.prepare()
                check_first(jobs[0])
            self.begun = True
            return self._records(jobs)

    def _records(self, jobs: Sequence[Job]) -> Sequence[JobReturn]:
        """Run jobs, and say how each has ended."""
        records: dict[int, Record] = {}
        try:
            for record in self.run(jobs):
                say(record, jobs[0].of)
                records[record["job"]] = record
                if record["status"] == "interrupted":
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            self.stop()
            self._give_up(jobs)
        finally:
            self.close()
        return [_returned(records[job.number]) for job in jobs]

    def job(self, sweep: Path, number: int, overrides: Sequence[str], total: int) -> Job:
        """One job of so many, with its configuration."""
        cfg = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = str(number), number
        outer = HydraConfig.instance().cfg
        try:
            HydraConfig.instance().set_config(cfg)  # for ${hydra:job.num} and the like
            choices, words = cfg.hydra.runtime.choices, cfg.hydra.overrides.task
            words = tuple(word for word in words if word.partition("=")[0] not in OF_HYDRA)
            with open_dict(cfg):
                del cfg["hydra"]
            return Job(number, words, to_plain(cfg, choices), sweep, Path.cwd(), total)
        finally:
            HydraConfig.instance().cfg = outer

    def _give_up(self, jobs: Sequence[Job]) -> None:
        """After Ctrl-C: what was running is interrupted, the table so far, exit code 130."""
        for job in jobs:
            if (read_record(job.file) or {}).get("status") == "running":
                job.record("interrupted", error="interrupted")
        summarise(jobs[0].sweep)
        print(
            f"nmfnet: interrupted; {resuming(jobs[0].sweep)} goes on from here",
            file=sys.stderr,
        )
        sys.exit(130)

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> Iterator[Record]:
        """Records, as jobs end."""

    def prepare(self) -> None:
        """Refuse what cannot work here."""

    def stop(self) -> None:
        """Interrupt what is running and wait until it has ended."""

    def close(self) -> None:
        """Let go of workers."""


class Pool(Jobs):
    """Jobs side by side.

    Parameters
    ----------
    n_jobs : int or "auto"
        At most so many at a time; auto = as many as there are cores.
    threads : int or "auto"
        Threads of each; auto = the cores divided by ``n_jobs``.
    """

    together = False
    """Whether the death of one process takes the others with it."""

    queued = False
    """Whether another program decides when jobs run, and tells late that they have ended."""

    def __init__(
        self, n_jobs: Count | Literal["auto"] = "auto", threads: Count | Literal["auto"] = "auto"
    ) -> None:
        from nmfnet.run.cores import cores

        self.n_jobs = cores() if n_jobs == "auto" else n_jobs
        self.threads = max(1, cores() // max(1, self.n_jobs)) if threads == "auto" else threads
        self.running: dict[Ticket, Job] = {}

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a worker: its share of the cores."""
        return {f"{name}_NUM_THREADS": str(self.threads) for name in THREADS}

    @abstractmethod
    def submit(self, jobs: Sequence[Job]) -> Sequence[Ticket]:
        """Start some jobs."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Record]:
        waiting: list[Job] = []
        for job in jobs:
            record = settled(job)
            if record is None:
                waiting.append(job)
            else:
                yield record
        suspects: set[int] = set()
        beat = Beat()
        while waiting or self.running:
            started = self._next(waiting, suspects)
            if started:
                for job in started:
                    job.file.unlink(missing_ok=True)  # of an attempt before
                self.running |= dict(zip(self.submit(started), started, strict=True))
            for ticket in [t for t, job in self.running.items() if self._ended(t, job)]:
                job = self.running.pop(ticket)
                record = self._result(ticket, job, again=job.number not in suspects)
                if record is None:
                    suspects.add(job.number)
                    waiting.append(job)
                else:
                    yield record
            if self.running and beat.due() and jobs[0].cfg["progress"]:
                titles = "; ".join(job.title for job in self.running.values())
                told = f"nmfnet: at work on {titles}; {len(waiting)} waiting"
                print(told, file=sys.stderr, flush=True)
            time.sleep(POLL)

    def _next(self, waiting: list[Job], suspects: set[int]) -> list[Job]:
        """Jobs to start now, taken from ``waiting``; those that died before go last and alone."""
        taken: list[Job] = []
        busy = {job.folder for job in self.running.values()}
        alone = self.together and any(job.number in suspects for job in self.running.values())
        for job in list(waiting):
            if alone or len(self.running) + len(taken) >= self.n_jobs:
                break
            if job.folder in busy:
                continue
            if self.together and job.number in suspects:
                if taken or self.running:
                    continue
                alone = True
            busy.add(job.folder)
            taken.append(job)
            waiting.remove(job)
        return taken

    def _ended(self, ticket: Ticket, job: Job) -> bool:
        """Whether a job has ended; its record says so sooner than a busy queue does."""
        return (self.queued and _written(job) is not None) or ticket.done()

    def _result(self, ticket: Ticket, job: Job, *, again: bool) -> Record | None:
        """A job's record; None if its process died and it may be tried again."""
        if self.queued and (record := _written(job)) is not None:
            return record
        try:
            return ticket.result()
        except Exception as error:  # of every kind, by whatever runs the workers
            if (record := _written(job)) is not None:
                return record
            if again:
                return None
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            words = lines[0] if lines else type(error).__name__
            return job.record(
                "failed", error=f"its process died twice (out of memory? killed?): {words}"
            )

    def stop(self) -> None:
        """Interrupt what is running, and wait until it has left its checkpoints."""
        self.interrupt()
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and not all(ticket.done() for ticket in self.running):
            time.sleep(POLL)

    def interrupt(self) -> None:
        """Tell the workers to stop."""


# ---------------------------------------------------------------------- around them
def _written(job: Job) -> Record | None:
    """What a job wrote when it ended, if it has."""
    record = read_record(job.file)
    return None if record is None or record["status"] in ("running", "interrupted") else record


def needs_package(package: str, launcher: str) -> None:
    """Refuse a launcher whose package is not installed.

    Raises
    ------
    UserError
        Saying how to install it.
    """
    try:
        there = find_spec(package) is not None
    except ValueError:
        there = False
    if not there:
        raise UserError(
            f"launcher={launcher} needs the {package} package: pip install 'nmfnet[{package}]'"
        )


def say(record: Record, total: int) -> None:
    """One line per job, as it ends."""
    words = " ".join(word.lstrip("+") for word in record["overrides"])
    told = f"[{record['job']}] {words}: {record['status']} ({record['job'] + 1} of {total})"
    print(told, file=sys.stderr, flush=True)


def _returned(record: Record) -> JobReturn:
    """What Hydra's sweepers are given: the record."""
    return JobReturn(
        overrides=record["overrides"], status=JobStatus.COMPLETED, _return_value=record
    )
