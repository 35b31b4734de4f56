"""An interrupted run, continued by the same command, ends as if nothing had happened: bit for bit."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

import nmfnet
from nmfnet.config import Config
from nmfnet.core.model import Factorization
from nmfnet.data import InMemory
from nmfnet.run.callbacks.history import History
from nmfnet.run.callbacks.resuming import Resuming
from nmfnet.run.stopping import Interrupted, Terminated
from nmfnet.run.train import Result, train
from nmfnet.settings.words import configuration

X = np.random.default_rng(0).gamma(0.5, size=(60, 4)) @ np.random.default_rng(1).gamma(
    0.5, size=(4, 15)
) + 0.1 * np.random.default_rng(2).random((60, 15))

RUNS: dict[str, dict[str, Any]] = {
    "hals": {"solver": "hals", "solver.n_inner": 5},
    "newton": {"solver": "newton", "loss": "kl", "solver.n_inner": 5},
    "mu": {"solver": "mu", "loss": "kl", "solver.n_inner": 5},
    "mu-convex": {"solver": "mu", "model": "convex_nmf", "solver.n_inner": 5},
    "anls": {"solver": "anls", "solver.n_inner": 5},
    "adam": {"solver": "adam", "solver.n_inner": 5, "solver.lr": 0.3},
    "gd": {"solver": "gd", "solver.n_inner": 5},
    "adam-minibatch": {"solver": "adam", "batch_size": 16},
    "adam-autoencoder": {"model": "deep_autoencoder", "model.hidden": [8], "solver.n_inner": 5},
    "lbfgs": {"solver": "lbfgs", "solver.n_inner": 5},
    "adam_lbfgs": {"solver": "adam_lbfgs", "solver.n_inner": 5, "solver.first": 20},
    "convex_newton": {"model": "convex_nmf", "solver": "convex_newton", "solver.n_inner": 5},
    "online": {"solver": "online", "batch_size": 16},
    "online-kl": {"solver": "online", "batch_size": 16, "loss": "kl"},
    "normalised": {"solver": "hals", "solver.n_inner": 5, "normalize": "H"},
}


def configured(folder: Path | None, **settings: Any) -> Config:
    base = {"n_components": 3, "n_restarts": 2, "max_iter": 60, "tol": 0.0, "figures": False}
    cfg = configuration({"progress": False, "logger": "none", **base, **settings})
    cfg.run_dir = None if folder is None else str(folder)
    cfg.data = {"sha256": InMemory(X=X).read().fingerprint()}
    return cfg


def run(folder: Path | None, x: np.ndarray = X, **settings: Any) -> Result:
    return train(configured(folder, **settings), InMemory(X=x), write=folder is not None)


def stopping(monkeypatch: pytest.MonkeyPatch, at: int, *, by_signal: bool) -> pytest.MonkeyPatch:
    """Interrupt the next run at an iteration, inside a callback or by Ctrl-C."""
    plain = History.on_train_epoch_end

    def on_train_epoch_end(self: History, trainer: L.Trainer, model: L.LightningModule) -> None:
        plain(self, trainer, model)
        if model.iteration >= at:
            if by_signal:
                signal.raise_signal(signal.SIGINT)
            else:
                raise KeyboardInterrupt

    monkeypatch.setattr(History, "on_train_epoch_end", on_train_epoch_end)
    return monkeypatch


def same(one: Result, other: Result) -> None:
    assert one.factors is not None
    assert other.factors is not None
    for name in ("all_W", "all_H"):
        a, b = getattr(one.factors, name), getattr(other.factors, name)
        assert np.array_equal(a, b), f"{name} differs by {np.abs(a - b).max():.2g}"
    a, b = ({k: v for k, v in r.metrics.items() if k != "seconds"} for r in (one, other))
    assert a == b


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.quick(
    "adam-False", "hals-False", "lbfgs-False", "mu-convex-False", "newton-False", "hals-True"
)
@pytest.mark.parametrize(
    ("name", "by_signal"),
    [
        *((name, False) for name in RUNS),
        ("hals", True),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in ("adam", "online")),
    ],
)
def test_a_continued_run_is_the_unbroken_run(name, by_signal, tmp_path, monkeypatch, capsys):
    settings = RUNS[name]
    unbroken = run(tmp_path / "unbroken", **settings)
    folder = tmp_path / "broken"
    for at in (17, 38) if by_signal else (22,):
        with monkeypatch.context() as patch:
            stopping(patch, at, by_signal=by_signal)
            with pytest.raises(Interrupted, match="continues it"):
                run(folder, **settings)
        stopped_at = nmfnet.load(folder).iteration
        assert at <= stopped_at < 60
        assert nmfnet.load(folder).components_.shape == (3, 15)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    capsys.readouterr()
    continued = run(folder, **settings)
    assert f"continuing at iteration {stopped_at}" in capsys.readouterr().err
    same(unbroken, continued)
    assert unbroken.model.iteration == continued.model.iteration >= 60
    timeless = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in history(of)]
        for of in (tmp_path / "unbroken", folder)
    ]
    assert timeless[0] == timeless[1]
    seconds = [float(row["seconds"]) for row in history(folder)]
    assert seconds == sorted(seconds)
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".png") == sorted(
        path.name for path in (tmp_path / "unbroken").iterdir()
    )


@pytest.mark.parametrize("solver", ["online", "adam"])
@pytest.mark.parametrize("batch", [1, 2, 5, 7])
def test_ctrl_c_between_two_minibatches(solver, batch, tmp_path, monkeypatch):
    """Four batches an epoch: the epoch goes on with the batches that it has not seen."""
    settings = {"solver": solver, "batch_size": 16, "max_iter": 24}
    unbroken = run(None, **settings)
    plain = Resuming.on_train_batch_end

    def on_train_batch_end(self, trainer, model, *others):
        if model.iteration == batch:
            signal.raise_signal(signal.SIGINT)
        plain(self, trainer, model, *others)

    with monkeypatch.context() as patch:
        patch.setattr(Resuming, "on_train_batch_end", on_train_batch_end)
        with pytest.raises(Interrupted, match=f"iteration {batch};.*continues it"):
            run(tmp_path, **settings)
    same(unbroken, run(tmp_path, **settings))


def test_a_restart_that_had_converged_stays_as_it_was(tmp_path, monkeypatch):
    settings = {"solver": "hals", "solver.n_inner": 5, "tol": 1e-2, "n_restarts": 6}
    unbroken = run(None, **settings)
    ends = sorted(unbroken.model.n_iter.tolist())
    assert ends[0] < ends[-1]
    with monkeypatch.context() as patch:
        stopping(patch, ends[0], by_signal=True)
        with pytest.raises(Interrupted):
            run(tmp_path, **settings)
    continued = run(tmp_path, **settings)
    same(unbroken, continued)
    assert continued.model.n_iter.tolist() == unbroken.model.n_iter.tolist()


def test_ctrl_c_after_training_only_finishes(tmp_path, monkeypatch):
    from nmfnet.run import train as module

    for settings in (RUNS["adam"], RUNS["normalised"]):
        folder = tmp_path / str(settings["solver"])
        unbroken = run(None, **settings)

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(module, "factors_of", interrupted)
            with pytest.raises(Interrupted, match="iteration 60"):
                run(folder, **settings)
        continued = run(folder, **settings)
        same(unbroken, continued)
        assert len(history(folder)) == 12


@pytest.mark.parametrize("limit", [{"trainer.max_steps": 9}, {"trainer.max_epochs": 9}])
def test_limits_of_lightning_count_what_came_before(limit, tmp_path, monkeypatch):
    settings = RUNS["mu"] | limit
    unbroken = run(None, **settings)
    assert unbroken.model.iteration == 45
    with monkeypatch.context() as patch:
        stopping(patch, 20, by_signal=True)
        with pytest.raises(Interrupted):
            run(tmp_path, **settings)
    same(unbroken, run(tmp_path, **settings))
    assert len(history(tmp_path)) == 9


def test_a_checkpoint_in_passing_survives_a_kill(tmp_path, monkeypatch):
    """What is killed without warning goes on from the last checkpoint, and the history with it."""
    settings = RUNS["adam"]
    unbroken = run(tmp_path / "unbroken", **settings)
    folder = tmp_path / "killed"

    class Killed(BaseException):
        pass

    plain = History.on_train_epoch_end

    def on_train_epoch_end(self, trainer, model):
        plain(self, trainer, model)
        resuming = next(c for c in trainer.callbacks if isinstance(c, Resuming))
        resuming.every = 0.0 if model.iteration == 20 else None
        if model.iteration == 35:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_end", on_train_epoch_end)
        with pytest.raises(Killed):
            run(folder, **settings)
    assert len(history(folder)) == 7
    assert nmfnet.load(folder).iteration == 20
    (folder / "model.ckpt.part").write_bytes(b"half a file")
    same(unbroken, run(folder, **settings))
    assert len(history(folder)) == len(history(tmp_path / "unbroken")) == 12


class Looking(L.Callback):
    """A user's own, who reads the components of a fit after every step."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Factorization)
        assert np.isfinite(pl_module.components_).all()


@pytest.mark.parametrize("way", ["kept", "looked at"])
@pytest.mark.parametrize("more", [{"batch_size": 16}, {"solver": "adam_deep", "split": "rows"}])
def test_a_fit_that_is_kept_or_looked_at_goes_on_as_it_was(way, more, tmp_path):
    """The batch norm of a network goes on with the means of its batches."""
    settings = {"model": "prodlda", "solver": "adam", "solver.n_inner": 1, "max_iter": 8, **more}
    alone = run(None, np.round(10 * X), **settings)
    cfg, source = configured(tmp_path, **settings), InMemory(X=np.round(10 * X))
    if way == "kept":
        same(alone, train(cfg.but(checkpoint_every=1e-9), source))
    else:
        same(alone, train(cfg, source, callbacks=[Looking()]))


def test_the_checkpoint_of_a_running_fit_holds_the_best_factors_and_the_running_ones(
    tmp_path, monkeypatch
):
    """Adam ends on the best parameters it had, and goes on from the last."""
    rough = {"n_restarts": 1, "solver.lr": 3.0, "solver.halve": False, "solver.n_inner": 1}
    with monkeypatch.context() as patch:
        stopping(patch, 8, by_signal=True)  # the best was at iteration 3
        with pytest.raises(Interrupted):
            run(tmp_path, **(RUNS["adam"] | rough))
    loaded = nmfnet.load(tmp_path)
    objective = 0.5 * ((X - loaded.inverse_transform(loaded.W()[0].detach())) ** 2).sum()
    assert objective == pytest.approx(float(loaded.objectives[0]), rel=1e-4)
    saved = torch.load(tmp_path / "model.ckpt", weights_only=True)
    running = saved["nmfnet"]["running"]["tensors"]
    assert not torch.equal(running["H.raw"], saved["state_dict"]["H.raw"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": 3}, "is of another configuration"),
        ({"x": X + 1}, "is of other data"),
        ({"damaged": True}, "cannot be read"),
        ({"resume": False}, ""),
        ({"force": True}, ""),
    ],
)
def test_what_cannot_or_should_not_be_continued_starts_again(
    change, reason, tmp_path, monkeypatch, capsys
):
    settings = dict(RUNS["mu"])
    with monkeypatch.context() as patch:
        stopping(patch, 20, by_signal=True)
        with pytest.raises(Interrupted):
            run(tmp_path, **settings)
    capsys.readouterr()
    change = dict(change)
    if change.pop("damaged", False):
        (tmp_path / "model.ckpt").write_bytes(b"PK\x03\x04")
    fresh = run(None, **settings, **{k: v for k, v in change.items() if k in ("seed", "x")})
    again = run(tmp_path, **settings, **change)
    said = capsys.readouterr().err
    assert said.count("nmfnet:") == (1 if reason else 0)
    assert reason in said
    same(fresh, again)
    assert json.loads((tmp_path / "metrics.json").read_text())["n_iter"] == 60


def test_a_second_ctrl_c_does_not_wait_and_leaves_a_model_that_loads(tmp_path, monkeypatch):
    from nmfnet.solvers.multiplicative import Multiplicative

    plain = Multiplicative._iterate

    def _iterate(self, model, *others, **options):
        plain(self, model, *others, **options)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Multiplicative, "_iterate", _iterate)
        with pytest.raises(Interrupted, match=r"model as it was is in .*ckpt$"):
            run(tmp_path, **RUNS["mu"])
    assert nmfnet.load(tmp_path).components_.shape == (3, 15)
    same(run(None, **RUNS["mu"]), run(tmp_path, **RUNS["mu"]))


# ---------------------------------------------------------------------- what a caller sees
KINDS = [
    (signal.SIGINT, KeyboardInterrupt, Interrupted, None),
    (signal.SIGTERM, SystemExit, Terminated, 128 + signal.SIGTERM),
    (signal.SIGHUP, SystemExit, Terminated, 128 + signal.SIGHUP),
]


@pytest.mark.parametrize(("number", "kind", "own", "code"), KINDS)
def test_a_stopped_fit_stops_the_loop_of_the_caller(number, kind, own, code, tmp_path, monkeypatch):
    """``except Exception`` around a fit does not go on with the next one."""
    plain = History.on_train_epoch_end

    def on_train_epoch_end(self: History, trainer: L.Trainer, model: L.LightningModule) -> None:
        plain(self, trainer, model)
        if model.iteration == 10:
            signal.raise_signal(number)

    settings = RUNS["hals"]
    unbroken = run(None, **settings)
    begun = 0

    def impatient() -> None:
        nonlocal begun
        for _ in range(3):
            begun += 1
            try:
                run(tmp_path, **settings)
            except Exception:
                continue

    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_end", on_train_epoch_end)
        with pytest.raises(kind, match=r"interrupted at iteration 10;.*continues it") as stop:
            impatient()
    assert begun == 1
    assert isinstance(stop.value, own)
    assert getattr(stop.value, "code", None) == code
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    same(unbroken, run(tmp_path, **settings))


@pytest.mark.parametrize(("number", "kind", "own", "code"), KINDS[:2])
def test_so_does_one_that_writes_nothing(number, kind, own, code, monkeypatch):
    plain = History.on_train_epoch_end

    def on_train_epoch_end(self: History, trainer: L.Trainer, model: L.LightningModule) -> None:
        plain(self, trainer, model)
        signal.raise_signal(number)

    monkeypatch.setattr(History, "on_train_epoch_end", on_train_epoch_end)
    with pytest.raises(kind, match=r"^interrupted at iteration \d+$") as stop:
        nmfnet.fit(X, n_components=2, tol=0.0, max_iter=100_000)
    assert isinstance(stop.value, own)
    assert getattr(stop.value, "code", None) == code
