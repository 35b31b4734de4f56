"""Trackers: what they hold, that each job is a run of its own, and that no network is needed."""

from __future__ import annotations

import contextlib
import csv
import json
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger
from shell import Done, environment, finished, start, the_run, train

from nmfnet.errors import UserError
from nmfnet.loggers import Context

RUN = ("data=planted", "model.n_components=3", "solver=mu", "max_iter=300", "tol=0")


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """No settings, no login and no network proxy of the machine that tests."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------------- tensorboard
def events(folder: Path) -> Any:
    """What TensorBoard reads from a run folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        reader = accumulator.EventAccumulator(str(folder))
        reader.Reload()
    return reader


def test_tensorboard_holds_curves_final_numbers_and_pictures(tmp_path):
    pytest.importorskip("tensorboard")
    done = train(*RUN, "logger=tensorboard", cwd=tmp_path)
    assert done.code == 0, done.err
    folder = the_run(tmp_path)
    assert list(folder.glob("events.out.tfevents.*"))
    reader, numbers = events(folder), json.loads((folder / "metrics.json").read_text())
    tags = reader.Tags()
    curve = reader.Scalars("objective")
    assert [event.step for event in curve] == [int(row["iteration"]) for row in history(folder)]
    assert [event.value for event in curve] == pytest.approx(
        [float(row["objective"]) for row in history(folder)], rel=1e-6
    )
    assert "seconds" in tags["scalars"]
    for key, value in numbers.items():
        if isinstance(value, str | list | None):
            continue
        assert reader.Scalars(f"final/{key}")[-1].value == pytest.approx(float(value), rel=1e-6)
    pictures = {f"figures/{path.stem}" for path in folder.glob("figures/*.png")}
    assert pictures
    assert pictures == set(tags["images"])


@pytest.mark.slow
def test_every_job_of_a_sweep_has_events_of_its_own(tmp_path):
    pytest.importorskip("tensorboard")
    done = train("-m", *RUN, "figures=false", "seed=1,2", "logger=tensorboard", cwd=tmp_path)
    assert done.code == 0, done.out
    for folder in tmp_path.glob("runs/nmf/*"):
        assert len(events(folder).Scalars("objective")) == len(history(folder))


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    from lightning.pytorch import loggers

    def missing(*args: Any, **options: Any) -> None:
        raise ModuleNotFoundError("no tensorboard")

    monkeypatch.setattr(loggers, "TensorBoardLogger", missing)
    done = train(*RUN, "logger=tensorboard", cwd=tmp_path)
    assert done.code == 2
    assert "nmfnet[tracking]" in done.err
    assert not list(tmp_path.iterdir())


def test_tensorboard_has_the_settings_beside_the_results(tmp_path):
    pytest.importorskip("tensorboard")
    done = train(*RUN, "figures=false", "logger=tensorboard", cwd=tmp_path)
    assert done.code == 0, done.err
    folder = the_run(tmp_path)
    reader = events(folder)
    told = reader.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"model.n_components" in told
    declared = reader.summary_metadata["_hparams_/experiment"].plugin_data.content
    assert b"final/train/relative_error" in declared
    assert str(tmp_path).encode() not in told


# ---------------------------------------------------------------------- csv and none
@pytest.mark.parametrize("choice", ["[csv]", "null"])
def test_without_a_tracker_there_is_the_history(choice, tmp_path):
    done = train(*RUN, "figures=false", f"logger={choice}", cwd=tmp_path)
    assert done.code == 0, done.err
    assert len(history(the_run(tmp_path))) == 3
    assert sorted(path.name for path in tmp_path.glob("runs/*")) == ["nmf"]


# ---------------------------------------------------------------------- wandb
def records(run: Path) -> Iterator[dict[str, Any]]:
    """What is in the log of an offline run, by wandb's own reader."""
    script = Path(sys.executable).with_name("wandb")
    done = subprocess.run(
        [str(script), "leet", "inspect", "--json", str(run)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    if done.returncode:
        pytest.skip(f"this wandb has no reader for offline runs: {done.stderr}")
    for line in done.stdout.splitlines():
        yield json.loads(line)


def offline_runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("runs/wandb/offline-run-*"))


@pytest.mark.slow
def test_wandb_offline_holds_curves_numbers_pictures_and_the_configuration(tmp_path):
    done = finished(start(*RUN, "logger=wandb", cwd=tmp_path), tmp_path)
    assert done.code == 0, done.err
    assert done.err == ""
    assert "wandb" not in done.out
    (run,) = offline_runs(tmp_path)
    text = json.dumps(list(records(run)))
    folder = the_run(tmp_path)
    for word in ("objective", "iteration", "seconds", "term/data", "train/loss", "n_components"):
        assert word in text
    for picture in folder.glob("figures/*.png"):
        assert f"figures/{picture.stem}" in text
    assert len(list(run.glob("files/media/images/figures/*.png"))) == len(
        list(folder.glob("figures/*.png"))
    )
    assert f"nmf-{folder.name}" in text


def wandb_runs(monkeypatch) -> list[Any]:
    """A list that fills with the runs wandb starts."""
    import wandb as package

    started: list[Any] = []
    plain = package.init

    def init(*args: Any, **options: Any) -> Any:
        started.append(plain(*args, **options))
        return started[-1]

    monkeypatch.setattr(package, "init", init)
    return started


@pytest.fixture
def wandb_warnings():
    """wandb and protobuf warn about themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("wandb_warnings")
def test_every_job_is_a_run_of_its_own_and_is_closed_even_when_it_fails(tmp_path, monkeypatch):
    from nmfnet.run import train as module

    plain, started = module.run_metrics, wandb_runs(monkeypatch)

    def sometimes(model, datamodule, *rest):
        if model.n_components == 3:
            raise ZeroDivisionError("a bug")
        return plain(model, datamodule, *rest)

    monkeypatch.setattr(module, "run_metrics", sometimes)
    words = (*RUN[:1], *RUN[2:], "figures=false", "model.n_components=2,3,4")
    done = train("-m", *words, "logger=wandb", cwd=tmp_path)
    assert done.code == 1, done.err
    assert len(offline_runs(tmp_path)) == 3
    assert len({run.id for run in started}) == 3
    assert all(run._is_finished for run in started)
    import wandb as package

    assert package.run is None
    assert [line.split()[2] for line in done.out.splitlines()[1:4]] == ["done", "failed", "done"]


@pytest.mark.slow
@pytest.mark.usefixtures("wandb_warnings")
def test_two_trackers_at_once(tmp_path):
    pytest.importorskip("tensorboard")
    done = train(*RUN, "figures=false", "logger=[wandb,tensorboard]", cwd=tmp_path)
    assert done.code == 0, done.err
    assert len(offline_runs(tmp_path)) == 1
    assert len(events(the_run(tmp_path)).Scalars("objective")) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("wandb_warnings")
def test_wandb_online_without_a_login_is_refused(tmp_path):
    done = train(*RUN, "logger=wandb", "logger.wandb.mode=online", cwd=tmp_path)
    assert done.code == 2
    assert "wandb login" in done.err
    assert "mode=offline" in done.err
    assert not list(tmp_path.glob("runs/nmf/*"))


def test_wandb_options_are_checked(tmp_path):
    done = train(
        *RUN, "logger=wandb", "logger.wandb.mode=off", "logger.wandb.projct=x", cwd=tmp_path
    )
    assert done.code == 2
    assert "auto, offline, online; did you mean 'offline'" in done.err
    assert "did you mean 'project'" in done.err


@pytest.mark.parametrize(
    ("variables", "netrc", "online"),
    [
        ({}, "", False),
        ({"WANDB_API_KEY": "x"}, "", True),
        ({"WANDB_API_KEY": "x", "WANDB_MODE": "offline"}, "", False),
        ({}, "machine api.wandb.ai login user password x\n", True),
        ({}, "machine other.org login user password x\n", False),
        ({"WANDB_BASE_URL": "https://w.other.org"}, "machine w.other.org login u password x", True),
        ({}, "not a netrc", False),
    ],
)
def test_online_only_with_a_login(variables, netrc, online, monkeypatch, tmp_path):
    from nmfnet.loggers import _logged_in

    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    (tmp_path / "netrc").write_text(netrc)
    (tmp_path / "netrc").chmod(0o600)
    assert _logged_in() is online


def test_trackers_that_were_started_are_closed_when_another_cannot(tmp_path, monkeypatch):
    closed: list[str] = []

    class Tracker(DummyLogger):
        def finalize(self, status: str) -> None:
            closed.append(status)

    def works(
        context: Context,
        *,
        project: str = "",
        mode: str = "",
        group: str | None = None,
        artifacts: bool = True,
    ) -> Logger:
        return Tracker()

    def fails(context: Context) -> Logger:
        raise UserError("no such server")

    monkeypatch.setattr("nmfnet.loggers.tensorboard", fails)
    monkeypatch.setattr("nmfnet.loggers.wandb", works)
    done = train(*RUN, "logger=[wandb,tensorboard]", cwd=tmp_path)
    assert done.code == 2
    assert "no such server" in done.err
    assert closed == ["failed"]
    assert not list(tmp_path.glob("runs/nmf/*"))


@pytest.mark.slow
def test_the_runs_of_a_sweep_are_a_group_and_keep_their_files(tmp_path):
    words = ("-m", *RUN, "figures=false", "seed=1,2", "logger=wandb")
    done = finished(start(*words, cwd=tmp_path), tmp_path)
    assert done.code == 0, done.err
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    for run in offline_runs(tmp_path):
        binary = next(run.glob("*.wandb")).read_bytes()
        assert sweep.name.encode() in binary
        assert b"factors.npz" in binary
        assert b"model.ckpt" in binary


# ---------------------------------------------------------------------- trackio and mlflow
@pytest.mark.slow
def test_trackio_holds_the_same_keys(tmp_path):
    pytest.importorskip("trackio")
    words = ("-m", *RUN, "figures=false", "seed=1,2", "logger=trackio")
    done = finished(start(*words, cwd=tmp_path), tmp_path)
    assert done.code == 0, done.err
    assert "Trackio" not in done.out + done.err
    with contextlib.closing(sqlite3.connect(tmp_path / "runs/trackio/nmfnet.db")) as table:
        logged = table.execute("select run_name, step, metrics from metrics order by id").fetchall()
    assert len({name for name, *_ in logged}) == 2
    folder = next(tmp_path.glob("runs/nmf/*"))
    mine = [(step, json.loads(row)) for name, step, row in logged if name.endswith(folder.name)]
    lines = history(folder)
    assert [step for step, _ in mine[:-1]] == [int(row["iteration"]) for row in lines]
    assert all(set(row) == set(lines[0]) for _, row in mine[:-1])
    numbers = json.loads((folder / "metrics.json").read_text())
    final = {k for k, v in numbers.items() if isinstance(v, int | float)}
    assert set(mine[-1][1]) == final | {"best_restart"}


@pytest.mark.slow
def test_mlflow_holds_the_same_keys_the_settings_and_the_files(tmp_path):
    pytest.importorskip("mlflow")
    done = finished(start("-m", *RUN, "seed=1,2", "logger=mlflow", cwd=tmp_path), tmp_path)
    assert done.code == 0, done.err
    assert "mlflow.store" not in done.err
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "runs/mlflow/mlflow.db")) as table:
        keys = {key for (key,) in table.execute("select distinct key from metrics")}
        params = dict(table.execute("select key, value from params"))
        groups = table.execute("select value from tags where key='sweep'").fetchall()
    folder = next(tmp_path.glob("runs/nmf/*"))
    numbers = json.loads((folder / "metrics.json").read_text())
    final = {k for k, v in numbers.items() if isinstance(v, int | float)}
    assert keys == set(history(folder)[0]) | final | {"best_restart"}
    assert params["model.n_components"] == "3"
    assert groups == [(sweep.name,)] * 2
    kept = {path.name for path in tmp_path.glob("runs/mlflow/artifacts/**/*")}
    assert {"factors.npz", "model.ckpt", "components.png"} <= kept


@pytest.mark.parametrize(("choice", "package"), [("trackio", "trackio"), ("mlflow", "mlflow")])
def test_a_missing_tracker_is_named(choice, package, tmp_path, monkeypatch):
    from lightning.pytorch import loggers

    def missing(*args: Any, **options: Any) -> None:
        raise ModuleNotFoundError("no mlflow")

    monkeypatch.setattr(loggers, "MLFlowLogger", missing)
    monkeypatch.setitem(sys.modules, package, None)
    done = train(*RUN, f"logger={choice}", cwd=tmp_path)
    assert done.code == 2
    assert f"nmfnet[{package}]" in done.err
    assert not list(tmp_path.glob("runs/nmf/*"))


@pytest.mark.slow
def test_the_sweep_of_the_readme_gives_twelve_runs_and_one_table(tmp_path):
    """Four models, three ranks, five restarts, wandb without an account or a network."""
    words = (
        "-m",
        "model=nmf,convex_nmf,projective_nmf,autoencoder",
        "model.n_components=4,8,16",
        "n_restarts=5",
        "logger=wandb",
        "max_iter=100",
        "figures=false",
    )
    done = finished(start(*words, cwd=tmp_path, code=NO_NETWORK), tmp_path)
    check_the_twelve(done, tmp_path)
    again = finished(start(*words, cwd=tmp_path, code=NO_NETWORK), tmp_path)
    assert again.code == 0
    assert again.out.count(" found ") == 12
    assert len(offline_runs(tmp_path)) == 12


NO_NETWORK = """
import socket
plain = socket.socket.connect
def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
        raise RuntimeError(f"network: {address}")
    return plain(self, address)
socket.socket.connect = connect
from nmfnet.cli import main
main()
"""
"""The command, in a process that fails when it connects to another machine."""


def check_the_twelve(done: Done, folder: Path) -> None:
    assert done.code == 0, done.out + done.err
    assert len(list(folder.glob("runs/*/*/metrics.json"))) == 12
    assert len(offline_runs(folder)) == 12
    table = [line.split() for line in done.out.splitlines()]
    assert table[0][:4] == ["job", "model", "model.n_components", "status"]
    assert len(table) == 14
    assert {(line[1], line[2], line[3]) for line in table[1:13]} == {
        (model, rank, "done")
        for model in ("nmf", "convex_nmf", "projective_nmf", "autoencoder")
        for rank in ("4", "8", "16")
    }
    assert "network" not in done.err
    for file in folder.glob("runs/*/*/metrics.json"):
        numbers = json.loads(file.read_text())
        assert numbers["n_restarts"] == 5
        assert numbers["train/relative_error"] >= numbers["floor/relative_error"] * (1 - 1e-6)
