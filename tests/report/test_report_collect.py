from __future__ import annotations

import json
import os
import socket
from collections import Counter
from pathlib import Path

import pytest
from report_runs import begin, make_job, make_run, write_json, zoo

import nmfnet
from nmfnet import UserError
from nmfnet.report.collect import collect, settings, varied
from nmfnet.run.lock import locked


def test_table_has_a_row_per_run_with_what_varies_and_every_metric(tmp_path):
    zoo(tmp_path)
    table = nmfnet.runs(tmp_path)
    assert len(table) == 27
    assert set(table.status) == {"done"}
    assert set(table.model) == {"nmf", "convex_nmf", "ae"}
    assert sorted(table.n_components.unique()) == [2, 4, 8]
    assert sorted(table.seed.unique()) == [0, 1, 2]
    assert table["test/relative_error"].dtype == float
    assert table["test/relative_error"].notna().all()
    assert "max_iter" not in table  # the same in all runs
    assert (table.problem == "").all()


def test_varied_settings_become_columns_but_not_what_a_choice_implies(tmp_path):
    make_run(tmp_path, "a", config={"max_iter": 10})
    make_run(tmp_path, "b", config={"solver.lr": 0.1}, choices={"solver": "adam"})
    make_run(tmp_path, "c", config={"solver.lr": 0.1, "seed": 3}, choices={"solver": "adam"})
    assert set(varied(collect(tmp_path))) == {"max_iter", "solver", "seed"}
    make_run(tmp_path, "d", config={"solver.lr": 0.2}, choices={"solver": "adam"})
    assert set(varied(collect(tmp_path))) == {"max_iter", "solver", "seed", "solver.lr"}


def test_settings_that_change_nothing_are_left_out(tmp_path):
    make_run(tmp_path, "a", config={"runs": "here", "threads": 1})
    flat = settings(collect(tmp_path)[0])
    assert not {"runs", "run_dir", "threads", "logger", "choices"} & set(flat)
    assert flat["model.n_components"] == 4
    assert flat["split.test_fraction"] == 0.2


def test_failed_jobs_are_rows_and_a_later_success_clears_them(tmp_path):
    run = make_run(tmp_path, "ok")
    sweep = tmp_path / "sweeps" / "one"
    make_job(sweep, 0, run, "done", metrics={})
    make_job(sweep, 1, tmp_path / "nmf" / "gone", "failed", error="boom", traceback="Traceback ...")
    table = nmfnet.runs(tmp_path)
    failed = table[table.status == "failed"]
    assert failed.problem.tolist() == ["boom"]
    assert failed.seed.tolist() == [7]  # a number, as in finished runs
    make_run(tmp_path, "gone")
    assert set(nmfnet.runs(tmp_path).status) == {"done"}


def test_an_interrupted_job_is_no_failure(tmp_path):
    make_run(tmp_path, "ok")
    job = tmp_path / "nmf" / "gone"
    make_job(tmp_path / "sweeps" / "one", 0, job, "interrupted", error="at iteration 9")
    found = [(run.status, run.problem) for run in collect(tmp_path) if run.status != "done"]
    assert found == [("interrupted", "at iteration 9")]


def test_the_folder_of_a_sweep_leads_to_its_runs_also_after_a_move(tmp_path):
    make_run(tmp_path / "runs", "a")
    make_run(tmp_path / "runs", "other")
    sweep = tmp_path / "runs" / "sweeps" / "one"
    make_job(sweep, 0, tmp_path / "somewhere-else" / "nmf" / "a", "done")
    found = collect(sweep)
    assert [run.name for run in found] == ["nmf/a"]
    assert found[0].overrides == ("seed=7", "model=nmf")


def test_running_and_interrupted_runs(tmp_path):
    slow, killed = (begin(tmp_path / "nmf" / name) for name in ("slow", "killed"))
    os.utime(slow / "history.csv", (0, 0))
    ended = {"host": socket.gethostname(), "pid": os.getpid(), "started": "another process"}
    write_json(killed / "lock.json", ended)
    with locked(slow):
        states = {run.folder.name: run.status for run in collect(tmp_path)}
    assert states == {"slow": "running", "killed": "interrupted"}
    assert {run.status for run in collect(tmp_path)} == {"interrupted"}


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("metrics.json", "{", "metrics.json cannot be read"),
        ("metrics.json", "[1]", "metrics.json cannot be read"),
        ("metrics.json", "{}", "missing or empty"),
        ("config.yaml", "a: [", "config.yaml cannot be read"),
        ("config.yaml", "model: nmf", "missing or empty"),
        ("config.yaml", "\x00\x01", "config.yaml cannot be read"),
        ("provenance.json", "nonsense", "provenance.json cannot be read"),
    ],
)
def test_a_damaged_run_is_listed_and_not_fatal(tmp_path, file, text, said):
    make_run(tmp_path, "good")
    (make_run(tmp_path, "bad") / file).write_text(text)
    table = nmfnet.runs(tmp_path)
    assert sorted(table.status) == ["damaged", "done"]
    problem = table[table.status == "damaged"].problem.item()
    assert said in problem
    assert "bad" in problem


def test_a_run_of_a_newer_version_is_listed_and_not_fatal(tmp_path):
    make_run(tmp_path, "same", origin={"versions": {"nmfnet": "0.1.7"}})
    make_run(tmp_path, "newer", origin={"versions": {"nmfnet": "12.0.0"}})
    status = {run.folder.name: (run.status, run.problem) for run in collect(tmp_path)}
    assert status["same"] == ("done", "")
    assert status["newer"][0] == "newer"
    assert "12.0.0" in status["newer"][1]
    assert "upgrade" in status["newer"][1]


def test_odd_numbers_are_kept_as_missing(tmp_path):
    make_run(tmp_path, "a", metrics={"test/relative_error": None, "solver": "hals", "x": "y"})
    make_run(tmp_path, "b", metrics={"test/relative_error": float("nan"), "seconds": "long"})
    table = nmfnet.runs(tmp_path)
    assert table["test/relative_error"].isna().all()
    assert table.solver.tolist() == ["hals", "mu"]
    assert table.seconds.tolist()[0] == 1.5


def test_no_runs_no_folder_and_a_file_have_one_message_each(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    write_json(tmp_path / "empty" / "other.json", {})
    for path, said in (("empty", "no runs in"), ("nope", "does not exist"), ("file", "is a file")):
        with pytest.raises(UserError, match=said):
            nmfnet.runs(tmp_path / path)


def test_unreadable_records_of_a_sweep_are_not_fatal(tmp_path):
    make_run(tmp_path, "a")
    jobs = tmp_path / "sweeps" / "one" / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "0000.json").write_text("{")
    assert sorted(run.status for run in collect(tmp_path)) == ["damaged", "done"]


def test_each_file_of_many_runs_is_read_once(tmp_path, monkeypatch):
    first = make_run(tmp_path, "0", figures=())
    files = {file: (first / file).read_text() for file in ("config.yaml", "metrics.json")}
    for i in range(1, 50):
        folder = tmp_path / "nmf" / str(i)
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text.replace("seed: 0", f"seed: {i}"))
        (folder / "provenance.json").write_text(json.dumps({"data_sha256": "a"}))
    read: Counter[str] = Counter()
    original = Path.read_text

    def counted(self, *arguments, **options):
        read[str(self)] += 1
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", counted)
    assert len(nmfnet.runs(tmp_path)) == 50
    assert len(read) >= 150
    assert set(read.values()) == {1}


def test_jobs_that_run_or_were_pruned_are_told_apart(tmp_path):
    sweep = tmp_path / "sweeps" / "now"
    for number, (name, status) in enumerate((("a", "running"), ("b", "running"), ("c", "pruned"))):
        folder = tmp_path / "nmf" / name
        if name != "b":
            begin(folder)
        make_job(sweep, number, folder, status, error="behind" if status == "pruned" else "")
    with locked(tmp_path / "nmf" / "a"):
        states = {run.folder.name: run.status for run in collect(tmp_path)}
    assert states == {"a": "running", "b": "running", "c": "pruned"}
    for file in sweep.glob("jobs/*.json"):
        os.utime(file, (0, 0))
    states = {run.folder.name: run.status for run in collect(tmp_path)}
    assert states == {"a": "interrupted", "b": "interrupted", "c": "pruned"}
