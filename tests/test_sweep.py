"""Sweeps: no job is lost, none is run twice, and one table tells how each ended."""

from __future__ import annotations

import csv
import json
import shlex
import signal
import time
from pathlib import Path

import pytest
import torch
from shell import FAST, finished, refusal, stamps, start, the_message, train

import nmfnet
from nmfnet.sweep.summary import resuming


def sweep_of(folder: Path) -> Path:
    """The only sweep below ``runs``."""
    (found,) = folder.glob("runs/sweeps/*")
    return found


def rows_of(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def table_of(out: str) -> list[list[str]]:
    """Lines of the printed table, heading first."""
    lines = out.splitlines()
    end = next(i for i, line in enumerate(lines) if line.startswith(("job 0", "job 1", "table")))
    return [line.split() for line in lines[:end]]


def test_a_sweep_gives_a_run_per_job_and_one_table(tmp_path):
    done = train("-m", *FAST, "model=nmf,convex_nmf", "model.n_components=2,3", cwd=tmp_path)
    assert done.code == 0
    rows = rows_of(sweep_of(tmp_path))
    assert [(row["model.n_components"], row["model"]) for row in rows] == [
        *(("2", "nmf"), ("2", "convex_nmf"), ("3", "nmf"), ("3", "convex_nmf")),
    ]
    for row in rows:
        numbers = json.loads((tmp_path / row["run_dir"] / "metrics.json").read_text())
        assert row["status"] == "done"
        assert row["error"] == ""
        numbers.pop("notes")  # sentences, which the page shows
        assert row["ended"] == numbers.pop("status")  # status is the job's
        assert {key: row[key] for key in numbers} == {
            k: "" if v is None else str(v) for k, v in numbers.items()
        }
        assert nmfnet.load(tmp_path / row["run_dir"]).n_components == int(row["model.n_components"])
    table = table_of(done.out)
    assert table[0][:4] == ["job", "model.n_components", "model", "status"]
    assert [line[1:4] for line in table[1:]] == [
        [row["model.n_components"], row["model"], "done"] for row in rows
    ]
    assert done.out.splitlines()[-1].endswith("sweep.csv")
    assert len(done.err.splitlines()) == 4


def test_a_failing_job_costs_no_other_and_is_named(tmp_path):
    words = (*FAST, "init=nndsvd", "model.n_components=2,200,0,3")
    done = train("-m", *words, cwd=tmp_path)
    assert done.code == 1
    assert [line[2] for line in table_of(done.out)[1:]] == ["done", "failed", "failed", "done"]
    assert "job 1 failed: init=nndsvd needs n_components <= min" in done.out
    assert "job 2 failed: model.n_components=0" in done.out
    assert "Traceback" not in done.out + done.err
    rows = rows_of(sweep_of(tmp_path))
    assert [row["status"] for row in rows] == ["done", "failed", "failed", "done"]
    assert "200" in rows[1]["error"]
    assert rows[1]["objective"] == ""
    assert len(list(tmp_path.glob("runs/nmf/*"))) == 2


def test_the_command_that_goes_on_is_one_for_the_shell(tmp_path):
    folder = tmp_path / "it's ours"
    assert shlex.split(resuming(folder)) == ["nmfnet", "sweep", "resume", str(folder)]


def test_the_same_sweep_runs_only_what_is_missing(tmp_path):
    words = (*FAST, "seed=1,2,3")
    assert train("-m", *words, cwd=tmp_path).code == 0
    missing = sorted(tmp_path.glob("runs/nmf/*"))[1]
    (missing / "metrics.json").unlink()
    before = stamps(tmp_path)
    done = train("-m", *words, cwd=tmp_path)
    assert done.code == 0
    status = [line[2] for line in table_of(done.out)[1:]]
    assert sorted(status) == ["done", "found", "found"]
    touched = {Path(name).parts[2] for name in done.new if name.startswith("runs/nmf/")}
    assert touched == {missing.name}
    assert set(before) <= set(stamps(tmp_path))


@pytest.mark.slow
def test_what_failed_is_tried_again(tmp_path, monkeypatch):
    words = ("-m", *FAST, "seed=1,2")

    def bug(*args, **options):
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr("nmfnet.run.train.run_metrics", bug)
        assert train(*words, cwd=tmp_path).code == 1
    done = train(*words, cwd=tmp_path)
    assert done.code == 0
    assert [line[2] for line in table_of(done.out)[1:]] == ["done", "done"]


def test_a_bug_in_a_job_keeps_its_traceback_in_the_record(tmp_path, monkeypatch):
    from nmfnet.run import train as module

    plain = module.run_metrics

    def sometimes(model, datamodule, *rest):
        if model.n_components == 3:
            raise ZeroDivisionError("a bug [with brackets]")
        return plain(model, datamodule, *rest)

    monkeypatch.setattr(module, "run_metrics", sometimes)
    done = train("-m", *FAST, "model.n_components=2,3,4", cwd=tmp_path)
    assert done.code == 1
    assert "job 1 failed: ZeroDivisionError: a bug [with brackets]" in done.out
    assert "/jobs" in done.out
    assert "Traceback" not in done.out + done.err
    record = json.loads((sweep_of(tmp_path) / "jobs" / "0001.json").read_text())
    assert "in sometimes" in record["traceback"]
    assert record["status"] == "failed"
    assert [row["status"] for row in rows_of(sweep_of(tmp_path))] == ["done", "failed", "done"]


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ("modle=nmf,convex_nmf", "did you mean 'model'"),
        ("model.n_componets=2,3", "did you mean 'n_components'"),
        ("model=nmf,convexnmf", "did you mean 'convex_nmf'"),
        ("model.n_components=many,3", "a whole number"),
        ("seed=1,2 run_dir=here", "runs=DIR"),
        ("seed=1,2 runs=/proc/x", "/proc/x"),
        ("seed=1,2 data.n_sampels=4", "did you mean 'n_samples'"),
    ],
)
def test_a_mistake_stops_a_sweep_at_once(words, fragment, tmp_path):
    assert fragment in refusal("-m", *FAST, *words.split(), cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_value_in_a_later_job_costs_that_job_only(tmp_path):
    done = train("-m", *FAST, "model.n_components=2,many,3", cwd=tmp_path)
    assert done.code == 1
    assert [line[2] for line in table_of(done.out)[1:]] == ["done", "failed", "done"]
    assert "must be a whole number" in done.out


def test_lists_are_values_of_a_sweep(tmp_path):
    done = train("-m", *FAST, "penalty=none,[l1,l2]", cwd=tmp_path)
    assert done.code == 0
    assert [line[1] for line in table_of(done.out)[1:]] == ["none", "[l1,l2]"]


def test_sweeps_go_where_runs_go(tmp_path):
    done = train("-m", *FAST, "seed=1,2", "runs=other", cwd=tmp_path)
    assert done.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]
    assert len(list(tmp_path.glob("other/sweeps/*/sweep.csv"))) == 1


def test_one_job_is_a_sweep_too(tmp_path):
    done = train("-m", *FAST, cwd=tmp_path)
    assert done.code == 0
    assert len(rows_of(sweep_of(tmp_path))) == 1


def test_ctrl_c_between_jobs_is_told(tmp_path, monkeypatch):
    """The jobs that ended before are in the table; the same command goes on."""
    from nmfnet.run import train as module

    plain = module.factors_of

    def interrupted(model, datamodule):
        if model.n_components == 3:
            raise KeyboardInterrupt
        return plain(model, datamodule)

    words = ("-m", *FAST, "model.n_components=2,3,4")
    with monkeypatch.context() as patch:
        patch.setattr(module, "factors_of", interrupted)
        done = train(*words, cwd=tmp_path)
    assert done.code == 130
    assert [line[2] for line in table_of(done.out)[1:]] == ["done", "interrupted"]
    assert "model.ckpt" in done.out
    assert done.err.splitlines()[-1].startswith("nmfnet: interrupted")
    (checkpoint,) = {path.parent for path in tmp_path.glob("runs/nmf/*/model.ckpt")} - {
        path.parent for path in tmp_path.glob("runs/nmf/*/metrics.json")
    }
    assert nmfnet.load(checkpoint).n_components == 3
    done = train(*words, cwd=tmp_path)
    assert done.code == 0
    assert [line[2] for line in table_of(done.out)[1:]] == ["found", "done", "done"]


def wait_for_steps(folder: Path, process, steps: int = 3) -> None:
    """Until a run has written some lines of its history."""
    for _ in range(600):
        files = list(folder.glob("runs/*/*/history.csv"))
        if any(len(file.read_text().splitlines()) > steps for file in files):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise TimeoutError("no training within a minute")


ENDLESS = ("data=planted", "tol=0", "model.n_components=3", "solver=mu", "figures=false")


@pytest.mark.slow
def test_ctrl_c_leaves_a_model_and_says_where(tmp_path):
    process = start(*ENDLESS, "max_iter=1000000000", cwd=tmp_path)
    wait_for_steps(tmp_path, process)
    process.send_signal(signal.SIGINT)
    done = finished(process, tmp_path)
    assert done.code == 130
    (file,) = tmp_path.glob("runs/nmf/*/model.ckpt")
    message = the_message(done, ("",))
    assert str(file.relative_to(tmp_path)) in message
    model = nmfnet.load(file.parent)
    assert model.components_.shape == (3, 50)
    assert model.components_.min() >= 0
    assert f"iteration {model.iteration};" in message
    assert torch.isfinite(model.objectives).all()
    assert sorted(path.name for path in file.parent.iterdir()) == ["history.csv", "model.ckpt"]


@pytest.mark.slow
def test_after_ctrl_c_the_same_command_runs_to_the_end(tmp_path):
    words = (*ENDLESS, "max_iter=30000")
    process = start(*words, cwd=tmp_path)
    wait_for_steps(tmp_path, process)
    process.send_signal(signal.SIGINT)
    assert finished(process, tmp_path).code == 130
    done = finished(start(*words, cwd=tmp_path), tmp_path)
    assert done.code == 0
    assert "finished before" not in done.out
    (file,) = tmp_path.glob("runs/nmf/*/metrics.json")
    assert json.loads(file.read_text())["n_iter"] == 30000


@pytest.mark.slow
def test_ctrl_c_ends_a_whole_sweep(tmp_path):
    process = start("-m", *ENDLESS, "max_iter=1000000000", "seed=1,2,3", cwd=tmp_path)
    wait_for_steps(tmp_path, process)
    process.send_signal(signal.SIGINT)
    done = finished(process, tmp_path)
    assert done.code == 130
    assert "interrupted" in done.out
    assert "\nnmfnet: interrupted; nmfnet sweep resume " in done.err
    assert len(list(tmp_path.glob("runs/nmf/*"))) == 1
    assert [row["status"] for row in rows_of(sweep_of(tmp_path))] == ["interrupted"]


@pytest.mark.slow
def test_early_ctrl_c_leaves_nothing(tmp_path):
    process = start(*FAST, cwd=tmp_path)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    done = finished(process, tmp_path)
    assert done.code == 130
    assert done.new == []
