"""Jobs handed to a queue: submitit (this machine or Slurm) and Ray."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from nmfnet.errors import UserError
from nmfnet.settings.ranges import Count, Natural, NotNegative, Positive
from nmfnet.sweep.jobs import Job, Record, in_worker
from nmfnet.sweep.launchers.base import Pool, Ticket, needs_package


class Submitit(Pool):
    """Every job a process of its own through submitit: on this machine, or queued by Slurm.

    Parameters
    ----------
    n_jobs, threads
        As for every pool; with Slurm ``threads`` is ``cpus_per_task``.
    cluster : {"local", "slurm"}
        Where.
    minutes : int
        Time limit of a job; a job that is stopped by it is queued again and goes on.
    partition, account, qos : str, optional
        As in ``sbatch``.
    memory_gb : float, optional
        Memory of a job.
    gpus : int
        GPUs of a job.
    setup : list of str
        Shell commands before a job, such as ``module load``.
    extra : dict, optional
        Any other option of ``sbatch``, by its long name.
    """

    def __init__(
        self,
        n_jobs: Count | Literal["auto"] = "auto",
        threads: Count | Literal["auto"] = "auto",
        cluster: Literal["local", "slurm"] = "local",
        minutes: Count = 1440,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        memory_gb: Positive | None = None,
        gpus: Natural = 0,
        setup: Sequence[str] = (),
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(n_jobs, threads)
        self.cluster, self.minutes, self.gpus = cluster, int(minutes), int(gpus)
        self.before, self.queued = list(setup), cluster == "slurm"
        asked = {"partition": partition, "account": account, "qos": qos}
        asked["mem"] = f"{memory_gb:g}GB" if memory_gb is not None else None
        self.slurm = {key: value for key, value in asked.items() if value is not None}
        self.extra = dict(extra or {})
        self.executor: Any = None
        self.given: list[Any] = []

    def prepare(self) -> None:
        super().prepare()
        name = "slurm" if self.cluster == "slurm" else "submitit_local"
        needs_package("submitit", name)
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise UserError(
                "launcher=slurm must run where sbatch is: on a login node of the cluster "
                "(launcher=joblib uses the cores of this machine)"
            )

    def _executor(self) -> Any:
        import submitit

        path = os.pathsep.join(word for word in sys.path if word)
        exports = [*self.environment.items(), ("PYTHONPATH", path)]
        setup = [*(f"export {key}='{value}'" for key, value in exports), *self.before]
        logs = Path(self.config.hydra.sweep.dir).absolute() / "submitit"
        if self.cluster == "local":
            local = submitit.LocalExecutor(logs)
            local.update_parameters(setup=setup, timeout_min=self.minutes, gpus_per_node=self.gpus)
            return local
        executor = submitit.SlurmExecutor(logs, max_num_timeout=1000)
        executor.update_parameters(
            setup=setup,
            time=self.minutes,
            cpus_per_task=self.threads,
            array_parallelism=self.n_jobs,
            job_name="nmfnet",
            **({"gpus_per_node": self.gpus} if self.gpus else {}),
            **self.slurm,
            additional_parameters=self.extra,
        )
        return executor

    def submit(self, jobs: Sequence[Job]) -> Sequence[Ticket]:
        self.executor = self.executor or self._executor()
        with self.executor.batch():
            tickets = [self.executor.submit(Queued(), job) for job in jobs]
        self.given += tickets
        return tickets

    def close(self) -> None:
        for ticket in self.given if self.cluster == "local" else ():
            ticket._process.wait()  # its record is written a moment before it ends

    def interrupt(self) -> None:
        for ticket in self.running:
            ticket.cancel(check=False)  # type: ignore[attr-defined]


class Queued:
    """A job in a queue; one that runs out of time is queued again and goes on."""

    def __call__(self, job: Job) -> Record:
        """Run it."""
        return in_worker(job)

    def checkpoint(self, job: Job) -> Any:
        """Called by submitit shortly before the time limit."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


class Ray(Pool):
    """Jobs as tasks of Ray: on this machine, or on the cluster at ``address``.

    Parameters
    ----------
    n_jobs, threads
        As for every pool.
    gpus : float
        GPUs of a job.
    address : str, optional
        Of a running Ray cluster, or auto; None starts Ray here. Folders must be shared.
    """

    def __init__(
        self,
        n_jobs: Count | Literal["auto"] = "auto",
        threads: Count | Literal["auto"] = "auto",
        gpus: NotNegative = 0,
        address: str | None = None,
    ) -> None:
        super().__init__(n_jobs, threads)
        self.gpus, self.address = gpus, address
        self.ray: Any = None

    def prepare(self) -> None:
        super().prepare()
        needs_package("ray", "ray")

    def _start(self) -> Any:
        import ray

        here = {} if self.address else {"num_cpus": self.n_jobs * self.threads}
        path = os.pathsep.join(word for word in sys.path if word)
        ray.init(
            address=self.address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {**self.environment, "PYTHONPATH": path}},
            **here,
        )
        return ray

    def submit(self, jobs: Sequence[Job]) -> Sequence[Ticket]:
        self.ray = self.ray or self._start()
        task = self.ray.remote(in_worker).options(
            num_cpus=self.threads, num_gpus=self.gpus, max_retries=0
        )
        return [RayTicket(self.ray, task.remote(job)) for job in jobs]

    def interrupt(self) -> None:
        for ticket in self.running:
            assert isinstance(ticket, RayTicket)
            self.ray.cancel(ticket.reference)

    def close(self) -> None:
        if self.ray is not None:
            self.ray.shutdown()


class RayTicket:
    """A task of Ray that was given out."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self.ray, self.reference = ray, reference

    def done(self) -> bool:
        """Whether it has ended."""
        return bool(self.ray.wait([self.reference], timeout=0)[0])

    def result(self) -> Record:
        """Its record."""
        return self.ray.get(self.reference)
