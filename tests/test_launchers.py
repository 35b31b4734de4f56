"""Launchers: the same runs whoever runs them, cores shared out, and no job lost to another's death."""

from __future__ import annotations

import json
import os
import stat
import sys
import textwrap
from pathlib import Path

import pytest
from shell import FAST, refusal, train
from test_config import composed
from test_sweep import rows_of, sweep_of, table_of

from nmfnet.config import conf_dir, options
from nmfnet.run.cores import cores, most_threads
from nmfnet.sweep import launchers
from nmfnet.sweep.jobs import Job
from nmfnet.sweep.launchers import base


def statuses(folder: Path) -> list[str]:
    return [row["status"] for row in rows_of(sweep_of(folder))]


@pytest.fixture
def importable(tmp_path, monkeypatch):
    """A folder from which this process and its workers import."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def job(number: int, run: str, tmp_path: Path) -> Job:
    return Job(number, (), {"run_dir": run}, tmp_path, tmp_path)


# ---------------------------------------------------------------------- sharing out
class Counted:
    """A ticket that ends at the first look after ``steps`` looks."""

    def __init__(self, job: Job, steps: int, dies: bool) -> None:
        self.job, self.steps, self.dies = job, steps, dies

    def done(self) -> bool:
        self.steps -= 1
        return self.steps < 0

    def result(self) -> dict:
        if self.dies:
            raise RuntimeError("gone\nwith details")
        return {"job": self.job.number, "status": "done"}


class Watched(base.Pool):
    """A pool that runs nothing and notes which jobs were side by side."""

    together = True

    def prepare(self, n_jobs: int, dying: dict[int, int]) -> Watched:
        self.n_jobs, self.dying, self.seen = n_jobs, dying, []
        return self

    def submit(self, jobs):
        self.seen.append(
            [*(job.number for job in self.running.values()), *(j.number for j in jobs)]
        )
        tickets = []
        for one in jobs:
            dies = self.dying.get(one.number, 0) > 0
            self.dying[one.number] = self.dying.get(one.number, 0) - 1
            tickets.append(Counted(one, 1, dies))
        return tickets


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(base, "POLL", 0)
    monkeypatch.setattr(base, "settled", lambda job: None)
    return lambda n_jobs, dying=None: Watched().prepare(n_jobs, dying or {})


def test_places_are_filled_and_never_more(watched, tmp_path):
    pool = watched(3)
    jobs = [job(i, f"r{i}", tmp_path) for i in range(7)]
    assert sorted(r["job"] for r in pool.run(jobs)) == list(range(7))
    assert max(map(len, pool.seen)) == 3
    assert sum(len(seen) == 3 for seen in pool.seen) >= 2


def test_two_jobs_with_one_run_folder_wait_for_each_other(watched, tmp_path):
    pool = watched(4)
    jobs = [job(i, f"r{i % 2}", tmp_path) for i in range(4)]
    assert len(list(pool.run(jobs))) == 4
    assert all(len(seen) <= 2 for seen in pool.seen)


def test_a_job_whose_process_dies_is_tried_again_alone_then_given_up(watched, tmp_path):
    pool = watched(2, {0: 1, 2: 2})
    records = {r["job"]: r for r in pool.run([job(i, f"r{i}", tmp_path) for i in range(5)])}
    assert [records[i]["status"] for i in range(5)] == ["done", "done", "failed", "done", "done"]
    assert "died twice" in records[2]["error"]
    assert "gone" in records[2]["error"]
    assert [seen for seen in pool.seen if seen in ([0], [2])] == [[0], [2]]


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr("nmfnet.run.cores.cores", lambda: 8)
    for n_jobs, threads in ((1, 8), (2, 4), (3, 2), (8, 1), (20, 1)):
        pool = launchers.Joblib(n_jobs)
        assert pool.threads == threads
        assert set(pool.environment.values()) == {str(threads)}
    assert launchers.Joblib().n_jobs == 8
    assert launchers.Joblib(threads=3).threads == 3


def test_a_run_takes_the_threads_of_its_worker(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert most_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert most_threads() == cores() >= 1


# ---------------------------------------------------------------------- composition
@pytest.mark.parametrize("choice", options("launcher"))
def test_every_launcher_composes_and_takes_options(choice):
    """The yaml files are what the classes take, and launcher.X is hydra.launcher.X."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from nmfnet.settings.objects import build
    from nmfnet.settings.targets import target_problems
    from nmfnet.settings.words import open_keys

    words = [f"launcher={choice}"] + (["launcher.n_jobs=3"] if choice != "local" else [])
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = compose("train", open_keys(words), return_hydra_config=True)
    node = OmegaConf.to_container(cfg.hydra.launcher)
    assert list(target_problems(node, "launcher")) == []
    launcher = build(node)
    assert isinstance(launcher, base.Jobs)
    assert choice == "local" or launcher.n_jobs == 3
    assert "launcher" not in composed(*words)


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ("launcher=joblib launcher.n_job=3", "did you mean 'n_jobs'"),
        ("launcher=joblib launcher.n_jobs=0", ">= 1"),
        ("launcher=joblib launcher.threads=lots", "auto"),
        ("launcher=jobib", "did you mean 'joblib'"),
        ("launcher=slurm", "where sbatch is"),
        ("trainer=ddp", "launcher=joblib"),
        ("trainer=ddp launcher=joblib", "without -m"),
    ],
)
def test_what_cannot_be_launched_is_refused(words, fragment, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    if "slurm" in words:
        pytest.importorskip("submitit")
    message = refusal("-m", *FAST, "seed=1,2", *words.split(), cwd=tmp_path)
    assert fragment in message


@pytest.mark.parametrize(("choice", "package"), [("submitit_local", "submitit"), ("ray", "ray")])
def test_a_missing_package_is_named(choice, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    words = ("-m", *FAST, "seed=1,2", f"launcher={choice}")
    message = refusal(*words, cwd=tmp_path)
    assert f"nmfnet[{package}]" in message


def test_one_later_job_of_several_processes_costs_only_itself(tmp_path):
    done = train("-m", *FAST, "trainer=default,ddp", cwd=tmp_path)
    assert done.code == 1
    assert statuses(tmp_path) == ["done", "failed"]
    assert "without -m" in done.out


# ---------------------------------------------------------------------- really run
@pytest.mark.slow
def test_joblib_gives_the_same_runs_as_one_after_the_other(tmp_path):
    words = ("-m", *FAST, "seed=1,2,2", "model.n_components=2,200")
    assert train(*words, "init=nndsvd", "runs=a", cwd=tmp_path).code == 1
    parallel = ("launcher=joblib", "launcher.n_jobs=2", "runs=b")
    done = train(*words, "init=nndsvd", *parallel, cwd=tmp_path)
    assert done.code == 1
    assert len(done.err.splitlines()) == 6
    (here,), (there,) = tmp_path.glob("a/sweeps/*"), tmp_path.glob("b/sweeps/*")
    one, other = rows_of(here), rows_of(there)
    assert [row["status"] for row in one] == ["done", "done", "found", *["failed"] * 3]
    for a, b in zip(one, other, strict=True):
        assert a["status"] == b["status"]
        assert a["objective"] == b["objective"]
        assert a["error"] == b["error"]
    (run,) = {row["run_dir"] for row in other if row["seed"] == "1" and row["status"] == "done"}
    origin = json.loads((tmp_path / run / "provenance.json").read_text())
    assert origin["command"][0] == "nmfnet-train"
    assert "++seed=1" in origin["command"]
    assert origin["threads"] <= max(1, cores() // 2)


DYING = """
import os, signal, lightning

class Die(lightning.Callback):
    def on_train_start(self, trainer, pl_module):
        if pl_module.n_components == 3:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["joblib", "submitit_local"])
def test_a_killed_worker_costs_only_its_own_job(choice, tmp_path, importable):
    if choice == "submitit_local":
        pytest.importorskip("submitit")
    (importable / "dying.py").write_text(DYING)
    words = ("-m", *FAST, "model.n_components=2,3,4", "+callbacks.die._target_=dying.Die")
    done = train(*words, f"launcher={choice}", "launcher.n_jobs=2", cwd=tmp_path)
    assert done.code == 1
    assert [line[2] for line in table_of(done.out)[1:]] == ["done", "failed", "done"]
    assert "job 1 failed: its process died twice" in done.out
    assert "1 of 3 jobs failed: 1;" in done.out


SBATCH = """\
#!{python}
import os, re, subprocess, sys
script = sys.argv[-1]
text = open(script).read()
array = re.search(r"--array=(\\d+)-(\\d+)", text)
tasks = [f"{{i}}" for i in range(int(array[2]) + 1)] if array else [""]
for task in tasks:
    env = dict(os.environ, SLURM_JOB_ID="77", SLURM_NTASKS="1", SLURM_JOB_NUM_NODES="1",
               SLURM_NODEID="0", SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_JOB_NODELIST="n1")
    if task:
        env |= dict(SLURM_ARRAY_JOB_ID="77", SLURM_ARRAY_TASK_ID=task)
    subprocess.Popen(["bash", script], env=env, stdout=-3, stderr=-3, start_new_session=True)
print("Submitted batch job 77")
"""
SRUN = """\
#!{python}
import os, sys
words = sys.argv[1:]
start = next(i for i, word in enumerate(words) if word.startswith("/") and "python" in word)
os.execv(words[start], words[start:])
"""
SACCT = """\
#!{python}
print("JobID|State|NodeList")
for i in range(4):
    print(f"77_{{i}}|COMPLETED|n1")
print("77|COMPLETED|n1")
"""


@pytest.mark.slow
def test_slurm_is_given_an_array_with_its_options(tmp_path, monkeypatch):
    """A queue of a few lines stands in for Slurm: it runs what sbatch is handed."""
    pytest.importorskip("submitit")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT), ("scontrol", SACCT)):
        file = tools / name
        file.write_text(textwrap.dedent(text).format(python=sys.executable))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    asked = "partition=small account=lab memory_gb=3 minutes=17 threads=1 setup=[module\\ load\\ x]"
    words = [f"launcher.{word}" for word in asked.replace("\\ ", "~").split()]
    words = [word.replace("~", " ") for word in words]
    done = train("-m", *FAST, "seed=1,2", "launcher=slurm", *words, cwd=tmp_path)
    assert done.code == 0, done.err
    assert statuses(tmp_path) == ["done", "done"]
    scripts = (sweep_of(tmp_path) / "submitit").glob("*submission*.sh")
    text = next(text for text in (script.read_text() for script in scripts))
    for option in (
        "--partition=small",
        "--account=lab",
        "--mem=3GB",
        "--time=17",
        "--array=0-1%2",
    ):
        assert option in text
    assert "--cpus-per-task=1" in text
    assert "module load x" in text
    assert "export OMP_NUM_THREADS='1'" in text


@pytest.mark.slow
@pytest.mark.parametrize(("choice", "package"), [("submitit_local", "submitit"), ("ray", "ray")])
def test_a_queue_runs_where_it_is_installed(choice, package, tmp_path):
    pytest.importorskip(package, reason=f"{package} is not installed")
    parallel = (f"launcher={choice}", "launcher.n_jobs=2", f"runs={choice}")
    done = train("-m", *FAST, "seed=1,2,3", *parallel, cwd=tmp_path)
    assert done.code == 0, done.err
    assert [line[2] for line in table_of(done.out)[1:]] == ["done"] * 3
