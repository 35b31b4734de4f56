"""What a run says while it trains."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import nmfnet
from nmfnet.core.budget import Budget
from nmfnet.run.callbacks.convergence import Record
from nmfnet.run.callbacks.progress import expected_end
from nmfnet.run.terminal import Beat


def history(objective, steps: int) -> list[Record]:
    """Records of training steps of 100 iterations."""
    values = [objective(100 * i) for i in range(1, steps + 1)]
    falls = [float("nan"), *((a - b) / a for a, b in pairwise(values))]
    return [
        Record(100 * i, 0.1 * i, value, value, fall, 1)
        for i, (value, fall) in enumerate(zip(values, falls, strict=True), start=1)
    ]


def test_the_end_is_where_the_fall_meets_the_tolerance():
    """Objective 1 + 1/t: the relative fall of 100 iterations is about 100 / t², 1e-5 at t = 3162."""
    records = history(lambda t: 1 + 1 / t, 16)
    assert expected_end(records, Budget()) == pytest.approx(3162, rel=0.05)
    assert expected_end(records, Budget(max_iter=2000)) == 2000
    late = history(lambda t: 1 + 1 / t, 60)
    assert expected_end(late, Budget()) == late[-1].iteration  # it is already quiet


def test_no_end_is_made_up():
    assert expected_end(history(lambda t: 1 + 1 / t, 4), Budget()) is None  # too few steps
    assert expected_end(history(lambda t: 0.9 ** (t / 100), 30), Budget()) is None  # no slower
    assert expected_end(history(lambda t: 1 + 1 / t, 30), Budget(tol=0)) == 10_000


def test_a_pipe_gets_a_line_now_and_then(monkeypatch, capsys):
    X = [[1.0, 2.0, 3.0], [2.0, 1.0, 0.5], [0.1, 0.4, 0.2], [3.0, 1.0, 2.0]]
    wanted = {"n_components": 2, "solver": "mu", "max_iter": 300, "tol": 0, "progress": "auto"}
    nmfnet.fit(X, **wanted)
    assert capsys.readouterr().err == ""  # it took no 30 seconds
    monkeypatch.setattr(Beat, "due", lambda self: True)
    nmfnet.fit(X, **wanted)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        f"nmfnet: nmf: iteration {i} (at most 300)" for i in (100, 200, 300)
    ]


def test_work_after_the_training_says_how_far_it_is(monkeypatch, capsys):
    rng = np.random.default_rng(0)
    H = rng.dirichlet(np.ones(6), 2)
    X = rng.poisson(50 * rng.random((5, 2)) @ H).astype(float) + 1
    monkeypatch.setattr(Beat, "due", lambda self: True)
    wanted = {"bootstrap": 2, "resample": "counts", "scale": "components", "progress": "auto"}
    fitted = nmfnet.fit(X, "reference_nmf", H=H, **wanted)
    assert "proportions" in fitted.reports
    lines = capsys.readouterr().err.splitlines()
    said = "nmfnet: reference_nmf: counts drawn anew {} of 2 times"
    assert [line for line in lines if "drawn" in line] == [said.format(0), said.format(1)]
