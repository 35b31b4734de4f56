"""Jobs on this machine: one after the other, or side by side."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from nmfnet.sweep.jobs import Job, Record, in_worker, run_job
from nmfnet.sweep.launchers.base import Jobs, Pool, Ticket


class Local(Jobs):
    """Jobs one after the other, in this process."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Record]:
        yield from map(run_job, jobs)


class Joblib(Pool):
    """Jobs side by side in worker processes of this machine (loky, as in joblib)."""

    together = True
    executor: Any = None

    def submit(self, jobs: Sequence[Job]) -> Sequence[Ticket]:
        from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

        def started() -> list[Ticket]:
            if self.executor is None:
                self.executor = ProcessPoolExecutor(
                    self.n_jobs,
                    initializer=_as_worker,
                    initargs=(os.getpid(),),
                    env=self.environment,
                )
            return [self.executor.submit(in_worker, job) for job in jobs]

        try:
            return started()
        except (BrokenProcessPool, RuntimeError):  # a worker died, and the others with it
            self.executor.shutdown(wait=False, kill_workers=True)
            self.executor = None
            return started()

    def interrupt(self) -> None:
        for pid in list(self.executor._processes or ()) if self.executor is not None else ():
            try:
                os.kill(pid, signal.SIGINT)
            except ProcessLookupError:
                continue

    def close(self) -> None:
        if self.executor is not None:
            self.executor.shutdown(wait=True, kill_workers=True)


def _as_worker(parent: int) -> None:
    """Leave the terminal's Ctrl-C to the parent, which passes it on once; end when it ends."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)  # the sweep was killed: when it is resumed, nobody else may write
