"""The clock of a run: what it counts, and what it leaves out."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import numba
import numpy as np

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
