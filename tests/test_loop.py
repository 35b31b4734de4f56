"""A fit in memory takes no Trainer and counts nothing that nobody asks for; its numbers are the same."""

from __future__ import annotations

import json
import pickle
import signal
import warnings
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning

import nmfnet
from nmfnet import metrics
from nmfnet.data import InMemory
from nmfnet.run.callbacks.convergence import Convergence
from nmfnet.run.callbacks.history import History
from nmfnet.run.stopping import Interrupted
from nmfnet.run.stored import without_nan
from nmfnet.run.terminal import Beat
from nmfnet.run.train import Result, train
from nmfnet.settings.words import configuration

X = np.random.default_rng(0).gamma(0.5, size=(60, 4)) @ np.random.default_rng(1).gamma(
    0.5, size=(4, 15)
) + 0.1 * np.random.default_rng(2).random((60, 15))

RUNS: dict[str, dict[str, Any]] = {
    "hals": {},
    "hals-converged": {"tol": 1e-4, "max_iter": 5000},
    "newton": {"loss": "kl", "n_restarts": 3},
    "mu-held-out": {"solver": "mu", "loss": "kl", "split": "entries"},
    "adam": {"solver": "adam", "solver.lr": 0.3},
    "adam-minibatch": {"solver": "adam", "batch_size": 16},
    "online": {"solver": "online", "batch_size": 16},
    "lbfgs": {"solver": "lbfgs"},
    "adam_lbfgs": {"solver": "adam_lbfgs", "solver.first": 20},
    "autoencoder": {"model": "deep_autoencoder", "model.hidden": [8], "split": "rows"},
    "vae": {"model": "vae", "model.hidden": [8]},
    "convex": {"model": "convex_nmf"},
    "out of time": {"time_limit": 1e-9},
    "normalised": {"normalize": "H", "dtype": "float64"},
}


def run(by_trainer: bool, **settings: Any) -> Result:
    own = {"n_components": 3, "n_restarts": 2, "max_iter": 60, "tol": 0.0, "progress": False}
    cfg = configuration({**own, **settings})
    callbacks = [L.Callback()] if by_trainer else []
    return train(cfg, InMemory(X=X), write=False, callbacks=callbacks)


@pytest.mark.quick("hals", "newton", "adam-minibatch", "out of time")
@pytest.mark.parametrize("name", RUNS)
def test_the_loop_gives_what_the_trainer_gives(name, monkeypatch):
    one = run(True, **RUNS[name])
    monkeypatch.setattr(L.Trainer, "fit", None)
    other = run(False, **RUNS[name])
    for key, tensor in one.model.state_dict().items():
        assert tensor.equal(other.model.state_dict()[key]), key
    numbers = [{**r.model.metrics, "seconds": 0} for r in (one, other)]
    assert repr(numbers[0]) == repr(numbers[1])  # the order included, and NaN
    rows = [r.model.plot.run.history for r in (one, other)]
    for key in rows[0].keys() - {"seconds"}:
        np.testing.assert_array_equal(rows[0][key], rows[1][key])
    assert "optimizers" not in vars(other.model)


def test_callbacks_and_options_of_the_trainer_are_for_the_trainer(monkeypatch):
    monkeypatch.setattr(L.Trainer, "fit", None)
    run(False)
    for settings in (
        {"trainer.max_steps": 2},
        {"callbacks.own": {"_target_": "lightning.Callback"}},
    ):
        with pytest.raises(TypeError, match="not callable"):
            run(False, **settings)


@pytest.mark.parametrize("by_trainer", [False, True])
def test_ctrl_c_comes_out_and_says_where(by_trainer, monkeypatch):
    plain, ended = History.on_train_epoch_end, []

    def on_train_epoch_end(self, trainer, model):
        plain(self, trainer, model)
        if model.iteration >= 40:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(History, "on_train_epoch_end", on_train_epoch_end)
    monkeypatch.setattr(History, "teardown", lambda *told: ended.append(told))
    with pytest.raises(KeyboardInterrupt, match="interrupted at iteration 40") as stop:
        run(by_trainer)
    assert isinstance(stop.value, Interrupted)
    assert len(ended) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_progress_is_told_by_either(monkeypatch, capsys):
    monkeypatch.setattr(Beat, "due", lambda self: True)
    for by_trainer in (False, True):
        run(by_trainer, progress=True)
    lines = [line.rsplit("  ", 1)[0] for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == 6
    assert lines[:3] == lines[3:]
    assert "iteration 20" in lines[0]


def test_numbers_are_computed_when_asked_for(monkeypatch, tmp_path):
    settings: dict[str, Any] = {"n_components": 3, "split": "rows", "seed": 1, "max_iter": 40}
    with monkeypatch.context() as patch:
        patch.setattr("nmfnet.run.callbacks.convergence.descend", None)
        patch.setattr(metrics, "svd_floor", None)
        result = train(configuration({"progress": False, **settings}), InMemory(X=X), write=False)
        assert result.metrics["converged"] is False
        assert result.metrics["objective"] == pytest.approx(result.metrics["train/loss"], rel=1e-5)
        with pytest.raises(TypeError, match="not callable"):
            _ = result.model.metrics
    with torch.inference_mode():
        numbers = result.model.metrics
    assert numbers["certificate/fall"] > 0
    before = result.model.components_
    nmfnet.fit(X, run_dir=tmp_path, figures=False, **settings)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written.pop("notes") == result.notes
    assert list(numbers) == list(written)
    assert without_nan({**numbers, "seconds": 0}) == {**written, "seconds": 0}
    np.testing.assert_array_equal(result.model.components_, before)
    assert pickle.loads(pickle.dumps(result.model)).metrics == numbers


def test_what_is_computed_later_has_the_threads_of_the_run(monkeypatch):
    seen: dict[str, int] = {}

    def floor(*given: Any) -> float:
        seen["floor"] = torch.get_num_threads()
        return 0.0

    fitted = nmfnet.fit(X, n_components=3, threads=1, max_iter=5)
    monkeypatch.setattr(metrics, "svd_floor", floor)
    torch.set_num_threads(2)
    assert dict(fitted.metrics)["floor/relative_error"] == 0
    assert seen == {"floor": 1}
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("max_iter", [20, 5000])
def test_an_estimator_asks_for_how_it_ended_and_no_more(max_iter, monkeypatch):
    monkeypatch.setattr(metrics, "fit_metrics", None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fitted = nmfnet.Estimator(n_components=3, max_iter=max_iter, tol=1e-4).fit(X)
    told = [str(one.message) for one in said if one.category is ConvergenceWarning]
    assert ["another descent still lowers" in one for one in told] == [True] * (max_iter == 20)
    assert fitted.reconstruction_err_ > 0
    with pytest.raises(TypeError, match="not callable"):
        _ = fitted.model_.metrics


@pytest.mark.parametrize("hold", [np.copy, csr_array])
@pytest.mark.parametrize("how", ["scaled", "reordered"])
def test_numbers_of_an_x_that_has_changed_are_not_made_up(hold, how):
    mine = hold(X)
    model = nmfnet.fit(mine, n_components=3, max_iter=20)
    stored = mine if hold is np.copy else mine.data
    stored[:] = 2 * stored if how == "scaled" else stored[::-1].copy()
    with pytest.warns(UserWarning, match="changed in place"):
        assert "train/loss" not in model.metrics
    assert model.metrics["n_iter"] == 20


@pytest.mark.parametrize("lost", [[1], [1, 2]])
def test_a_restart_that_is_lost_is_named_and_left_out(lost, monkeypatch):
    plain = Convergence._judge

    def judge(self: Convergence, model: Any, restart: int, value: float) -> None:
        plain(self, model, restart, float("nan") if restart in lost else value)

    monkeypatch.setattr(Convergence, "_judge", judge)
    found = run(False, n_restarts=3)
    assert f"{len(lost)} of 3 restarts ended without a finite objective" in found.notes[-1]
    assert len(found.factors.all_H) == 3 - len(lost)
    numbers = dict(found.model.metrics)
    assert ("stability/matched_cosine" in numbers) == (len(lost) == 1)
    assert np.isfinite(numbers["train/loss"])
