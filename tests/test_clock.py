"""The clock of a run: what it counts, and what it leaves out."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest

import nmfnet
from nmfnet.core import prelude
from nmfnet.kernels import compiled
from nmfnet.run import clock


def test_seconds_of_compiling_are_taken_off(monkeypatch):
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: 12.0))
    for done, seconds in ((False, 12.0), (True, 7.0)):
        monkeypatch.setattr(clock, "_compiling", SimpleNamespace(done=done, duration=5.0))
        assert clock.now() == seconds


def heard():
    return clock._compiling.duration if clock._compiling.done else 0.0


def test_it_hears_numba_compile_and_load(tmp_path, monkeypatch):
    (tmp_path / "kernel_of_a_test.py").write_text("def total(x):\n    return x.sum()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    total = importlib.import_module("kernel_of_a_test").total
    for loaded in (0, 1):
        kernel = numba.njit(cache=True)(total)
        before = heard()
        kernel(np.ones(3))
        once = heard()
        assert once > before
        assert sum(kernel.stats.cache_hits.values()) == loaded
        kernel(np.ones(3))
        assert heard() == once


@pytest.fixture
def ticking(monkeypatch):
    """A clock on which nothing takes time but what a test says, and each look at it."""
    time = SimpleNamespace(now=0.0, look=0.0)

    def perf_counter() -> float:
        time.now += time.look
        return time.now

    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=perf_counter))
    monkeypatch.setattr(clock, "_compiling", SimpleNamespace(done=False))
    return time


X = np.random.default_rng(0).gamma(0.5, size=(20, 4)) @ np.random.default_rng(1).random((4, 12))


@pytest.mark.parametrize("model", ["nmf", "deep_nmf", "deep_autoencoder"])
def test_seconds_of_the_start_count(model, ticking, monkeypatch):
    kind = type(nmfnet.fit(X, model, max_iter=1))
    plain = kind.start

    def start(self, proposal, batch):
        ticking.now += 7
        plain(self, proposal, batch)

    monkeypatch.setattr(kind, "start", start)
    assert nmfnet.fit(X, model, max_iter=1).metrics["seconds"] == 7
    limited = nmfnet.fit(X, model, max_iter=10**6, tol=0, time_limit=7)
    assert limited.metrics["status"] == "budget"
    assert limited.iteration <= 100


@pytest.mark.parametrize("layers", [[6, 4], [6, 5, 4]])
def test_the_time_limit_ends_the_start(layers, ticking):
    """What it has come to is a model with the best codes for its components."""
    ticking.look = 1.0
    settings = {"model.layers": layers, "dtype": "float64", "loss": "kl", "solver": "mu"}
    model = nmfnet.fit(X, "deep_nmf", time_limit=4, **settings)
    assert model.metrics["status"] == "budget"
    assert model.metrics["n_iter"] == 1
    assert 0 < model.prelude.n_iter < 200
    assert any("cut it short" in note for note in model.notes)
    assert model.metrics["train/relative_error"] < 0.8
    whole = nmfnet.fit(X, "deep_nmf", max_iter=200, **settings)
    assert whole.prelude.n_iter > model.prelude.n_iter
    assert whole.metrics["objective"] < model.metrics["objective"]
    assert f"{whole.prelude.n_iter} iterations of its own" in " ".join(whole.notes)


def test_a_start_is_no_longer_than_it_may(monkeypatch):
    monkeypatch.setattr(prelude, "LOOSE", 0.0)
    model = nmfnet.fit(X, "deep_nmf", layers=[6, 4], tol=0, max_iter=1000, loss="kl")
    assert model.prelude.n_iter <= 2 * prelude.MOST
    assert nmfnet.fit(X, "deep_nmf", layers=[6, 4], max_iter=20).prelude.n_iter <= 40


def test_kernels_are_imported_before_it_starts():
    """All that are compiled by numba: Triton's are for a GPU, and vectors has none."""
    folder = Path(compiled.__file__).parent
    found = {file.stem for file in folder.glob("*.py") if "@njit" in file.read_text()}
    assert found <= {*clock.KERNELS, "vectors"}
    assert all(f"{compiled.__name__}.{name}" in sys.modules for name in clock.KERNELS)
