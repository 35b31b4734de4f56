"""The clock of a run: what it counts, and what it leaves out."""

from __future__ import annotations

from types import SimpleNamespace

import numba
import numpy as np

from nmfnet.run import clock


def test_seconds_of_compiling_are_taken_off(monkeypatch):
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: 12.0))
    for done, seconds in ((False, 12.0), (True, 7.0)):
        monkeypatch.setattr(clock, "_compiling", SimpleNamespace(done=done, duration=5.0))
        assert clock.now() == seconds


def test_it_hears_numba_compile():
    def heard():
        return clock._compiling.duration if clock._compiling.done else 0.0

    @numba.njit
    def fresh(x):
        return x.sum()

    before = heard()
    fresh(np.ones(3))
    compiled = heard()
    assert compiled > before
    fresh(np.ones(3))
    assert heard() == compiled
