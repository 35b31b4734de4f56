"""Nothing of a sweep is lost when its processes are killed, and resuming runs only what is missing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from shell import FAST, TRAIN, environment, finished, nmfnet, start, the_message, the_run, train
from test_sweep import rows_of, sweep_of, table_of

from nmfnet.run.lock import locked


def records_of(sweep: Path) -> dict[int, dict]:
    return {int(f.stem): json.loads(f.read_text()) for f in sweep.glob("jobs/*.json")}


def test_resuming_runs_what_failed_and_what_is_missing(tmp_path, monkeypatch):
    from nmfnet.run import train as module

    plain = module.run_metrics

    def sometimes(model, datamodule, *rest):
        if model.n_components == 3:
            raise ZeroDivisionError("a bug")
        return plain(model, datamodule, *rest)

    words = ("-m", *FAST, "model.n_components=2,3,4", "force=true")
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_metrics", sometimes)
        done = train(*words, cwd=tmp_path)
    assert done.code == 1
    sweep = sweep_of(tmp_path)
    assert done.out.splitlines()[-1].startswith("1 of 3 jobs failed: 1; nmfnet sweep resume runs/")
    records = records_of(sweep)
    assert "in sometimes" in records[1]["traceback"]
    (sweep / "jobs" / "0002.json").unlink()  # as if killed before it began
    folder = tmp_path / records[2]["run_dir"]
    (folder / "metrics.json").unlink()
    done = nmfnet("sweep", "resume", str(sweep.relative_to(tmp_path)), cwd=tmp_path)
    assert done.code == 0, done.err
    assert [line[2] for line in table_of(done.out)[1:]] == ["found", "done", "done"]
    touched = {Path(name).parts[2] for name in done.new if name.startswith("runs/nmf/")}
    assert touched == {Path(records[i]["run_dir"]).name for i in (1, 2)}
    assert sweep_of(tmp_path) == sweep
    assert [row["status"] for row in rows_of(sweep)] == ["found", "done", "done"]


def test_resuming_works_from_elsewhere_and_takes_settings(tmp_path):
    assert train("-m", *FAST, "seed=1,2", cwd=tmp_path).code == 0
    sweep = sweep_of(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = nmfnet("sweep", "resume", str(sweep), "seed=1,2,3", cwd=elsewhere)
    assert done.code == 0, done.err
    assert sorted(row["seed"] for row in rows_of(sweep)) == ["1", "2", "3"]
    assert list(elsewhere.iterdir()) == []


def test_a_sweep_in_the_folder_of_another_starts_anew(tmp_path):
    here = "hydra.sweep.dir=here"
    assert train("-m", *FAST, "seed=1,2,3", here, cwd=tmp_path).code == 0
    assert train("-m", *FAST, "seed=4,5", here, cwd=tmp_path).code == 0
    assert [row["seed"] for row in rows_of(tmp_path / "here")] == ["4", "5"]
    assert nmfnet("sweep", "resume", "here", cwd=tmp_path).code == 0


@pytest.mark.parametrize("search", [(), ("hparams_search=optuna", "hparams_search.n_trials=2")])
def test_a_sweep_that_was_killed_before_its_first_record_is_resumed(search, tmp_path):
    """Killed while the first job's configuration is checked, which imports torch."""
    if search:
        pytest.importorskip("optuna")
    die = (
        "import os\nfrom nmfnet.sweep.launchers import base\n"
        "base.check_first = lambda job: os.kill(os.getpid(), 9)\n" + TRAIN
    )
    done = finished(start("-m", *FAST, "seed=1,2", *search, cwd=tmp_path, code=die), tmp_path)
    assert done.code == -signal.SIGKILL
    sweep = sweep_of(tmp_path)
    assert records_of(sweep) == {}
    done = nmfnet("sweep", "resume", str(sweep), cwd=tmp_path)
    assert done.code == 0, done.err
    told = [record["status"] for record in records_of(sweep).values()]
    assert told[0] == "done"
    assert told[1] in ("done", "found")  # a search may draw a seed twice


def test_a_sweep_that_still_runs_is_not_resumed(tmp_path):
    assert train("-m", *FAST, "seed=1,2", cwd=tmp_path).code == 0
    sweep = sweep_of(tmp_path)
    file = sweep / "jobs" / "0001.json"
    told = {"job": 1, "status": "running", "pid": os.getpid(), "host": socket.gethostname()}
    told |= {"overrides": ["seed=2"], "run_dir": "runs/nmf/x"}
    file.write_text(json.dumps(told))
    message = the_message(nmfnet("sweep", "resume", str(sweep), cwd=tmp_path))
    assert f"job 1 of this sweep is still running (process {os.getpid()})" in message
    file.write_text(json.dumps(told | {"host": "elsewhere"}))
    assert nmfnet("sweep", "resume", str(sweep), cwd=tmp_path).code == 0


def test_a_run_that_another_sweep_is_at_work_on_is_waited_for(tmp_path):
    assert train(*FAST, cwd=tmp_path).code == 0
    folder = the_run(tmp_path)
    numbers, later = folder / "metrics.json", tmp_path / "later.json"
    numbers.rename(later)
    other = contextlib.ExitStack()
    other.enter_context(locked(folder))

    def finish():
        later.rename(numbers)
        other.close()

    threading.Timer(1.0, finish).start()
    done = train("-m", *FAST, "model.n_components=3", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "another process is at work on this run; waiting for it" in done.err
    assert [row["status"] for row in rows_of(sweep_of(tmp_path))] == ["found"]


def test_a_folder_of_jobs_that_is_no_sweeps_is_left_alone(tmp_path):
    (tmp_path / "jobs").mkdir()
    mine = tmp_path / "jobs" / "0007.json"
    mine.write_text('{"my": "own"}')
    assert train("-m", *FAST, "seed=1,2", "hydra.sweep.dir=.", cwd=tmp_path).code == 0
    assert mine.read_text() == '{"my": "own"}'
    assert len(rows_of(tmp_path)) == 2


@pytest.mark.parametrize("content", [None, "{", "[]", '{"arguments": []}', '{"cwd": "/gone"}'])
def test_what_is_no_sweep_is_not_resumed(content, tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    if content is not None:
        (folder / "sweep.json").write_text(content)
    message = the_message(nmfnet("sweep", "resume", "sweep", cwd=tmp_path))
    why = "it holds no sweep.json" if content is None else "its sweep.json is damaged"
    assert f"sweep cannot be resumed, {why}" in message
    assert "runs/sweeps/DATE" in message


def test_a_sweep_whose_folder_is_gone_is_not_resumed(tmp_path):
    (tmp_path / "sweep.json").write_text('{"arguments": ["-m"], "cwd": "/gone/away"}')
    assert "/gone/away, which is gone" in the_message(nmfnet("sweep", "resume", ".", cwd=tmp_path))


@pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="states of processes as Linux tells"
)
def test_a_job_whose_process_has_ended_unnoticed_is_run_again(tmp_path):
    assert train("-m", *FAST, "seed=1,2", cwd=tmp_path).code == 0
    sweep = sweep_of(tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])  # nobody waits for it yet
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    told = {"job": 1, "status": "running", "pid": ended.pid, "host": socket.gethostname()}
    (sweep / "jobs" / "0001.json").write_text(json.dumps(told))
    done = nmfnet("sweep", "resume", str(sweep), cwd=tmp_path)
    assert done.code == 0, done.err
    assert {r["status"] for r in records_of(sweep).values()} == {"found"}
    ended.wait()


LONG = ("data=planted", "tol=0", "solver=mu", "figures=false", "max_iter=3000", "seed=1,2,3,4")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "joblib"])
def test_kill_9_loses_only_what_was_running(launcher, tmp_path):
    words = ("-m", *LONG, "model.n_components=3,8", f"launcher={launcher}")
    if launcher == "joblib":
        words += ("launcher.n_jobs=2",)
    process = start(*words, cwd=tmp_path)
    for _ in range(9000):
        done = [r for r in tmp_path.glob("runs/sweeps/*/jobs/*.json") if '"done"' in r.read_text()]
        if len(done) >= 3:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    workers = _descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    sweep = sweep_of(tmp_path)
    until = time.monotonic() + 60
    while any(_alive(pid) for pid in workers):  # one between two jobs may still begin another
        assert time.monotonic() < until, "workers outlive the sweep"
        time.sleep(0.1)
    before = records_of(sweep)
    whole = {r["run_dir"] for r in before.values() if r["status"] == "done"}
    assert len(whole) >= 3
    assert all((tmp_path / folder / "metrics.json").exists() for folder in whole)
    assert sum(r["status"] == "running" for r in before.values()) <= 2
    resume = "from nmfnet.commands import main; main()"
    done = finished(start("sweep", "resume", str(sweep), cwd=tmp_path, code=resume), tmp_path)
    assert done.code == 0, done.err
    after = records_of(sweep)
    assert len(after) == 8
    assert {r["status"] for r in after.values()} == {"found", "done"}
    assert whole <= {r["run_dir"] for r in after.values() if r["status"] == "found"}
    assert "OMP_NUM_THREADS" in environment()


def _descendants(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(word) for file in files for word in file.read_text().split()]
    return children + [far for child in children for far in _descendants(child)]


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_ctrl_c_stops_jobs_side_by_side_with_checkpoints(tmp_path):
    words = ("-m", *LONG, "max_iter=1000000000", "launcher=joblib", "launcher.n_jobs=2")
    process = start(*words, cwd=tmp_path)
    for _ in range(3600):
        files = list(tmp_path.glob("runs/*/*/history.csv"))
        if sum(len(file.read_text().splitlines()) > 3 for file in files) >= 2:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    done = finished(process, tmp_path)
    assert done.code == 130, done.err
    assert done.err.splitlines()[-1].startswith("nmfnet: interrupted; nmfnet sweep resume runs/")
    assert "Traceback" not in done.err
    assert [r["status"] for r in records_of(sweep_of(tmp_path)).values()] == ["interrupted"] * 2
    assert len(list(tmp_path.glob("runs/nmf/*/model.ckpt"))) == 2
