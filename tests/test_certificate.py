"""``converged`` is proved: a descent of another kind finds no lower objective."""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from shell import the_run, train
from test_resume import run, same, stopping

import nmfnet
from nmfnet.core.budget import Budget
from nmfnet.errors import UserError
from nmfnet.kernels.arrays import as_tensor
from nmfnet.kernels.sparse import transpose_of
from nmfnet.run import certificate
from nmfnet.run.callbacks import convergence
from nmfnet.run.callbacks.convergence import LONG, Convergence, Restart
from nmfnet.run.certificate import Found, descend
from nmfnet.run.measures import unfinished_words, warnings_of
from nmfnet.run.stopping import Interrupted
from nmfnet.solvers.base import total
from nmfnet.solvers.descent import Problem
from nmfnet.types import Batch

Calls = list[tuple[int, int, float, float]]
"""Iteration, restart, relative fall and objective of every certificate in the course of training."""


def counts(scale: float, n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    weights = rng.lognormal(math.log(scale), 2, size=(n, 4))
    return rng.poisson(weights @ rng.dirichlet(np.full(96, 0.3), size=4)).astype(float)


def batch_of(X: Any, dtype: torch.dtype = torch.float32) -> Batch:
    x = as_tensor(X, dtype) if sp.issparse(X) else torch.as_tensor(X, dtype=dtype)
    return Batch(x, torch.arange(X.shape[0]))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made: Calls = []
    plain = convergence.descend

    def descend(model: Any, batch: Batch, restart: int, most: int, enough: Any = None) -> Found:
        found = plain(model, batch, restart, most, enough)
        if enough is not None:
            made.append((model.iteration, restart, found.fall, found.objective))
        return found

    monkeypatch.setattr(convergence, "descend", descend)
    return made


# ---------------------------------------------------------------------- what is quiet
def judged(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> list[int]:
    """Training steps after which a certificate was asked for."""
    model = nmfnet.fit(np.ones((6, 4)), n_components=1, max_iter=1)
    model.live, model.iteration = [0], 0
    rule = Convergence(batch_of(np.ones((6, 4))))
    rule.restarts, asked = [Restart()], []

    def none_lower(*_: Any) -> Found:
        asked.append(model.iteration // 20)
        return Found(values[0], 0.0)

    monkeypatch.setattr(convergence, "descend", none_lower)
    for value in values:
        model.iteration += 20
        rule._judge(model, 0, value)
        if asked:
            break
    return asked


def test_a_rise_is_not_quiet(monkeypatch):
    rising = [100.0 + i for i in range(LONG * 3)]
    assert judged(monkeypatch, rising) == []
    assert judged(monkeypatch, [100.0] * 4) == [4]


def test_rounding_is_no_rise(monkeypatch):
    jitter = [100.0 * (1 + 5e-7 * (-1) ** i) for i in range(8)]
    assert judged(monkeypatch, jitter) == [4] or judged(monkeypatch, jitter) == [5]


def test_a_fall_begins_the_count_again(monkeypatch):
    assert judged(monkeypatch, [100.0, 100.0, 100.0, 90.0, 90.0, 90.0, 90.0]) == [7]


def test_a_solver_that_goes_round_is_judged_in_the_end(monkeypatch):
    """Its objective never comes to rest; after five times the patience the certificate decides."""
    circle = [100.0] + [101.0 + i % 2 for i in range(40)]
    assert judged(monkeypatch, circle) == [1 + LONG * 3]


@pytest.mark.parametrize("held_out", [True, False])
def test_rows_held_out_end_a_run_after_the_patience_alone(held_out):
    """What rises for them has been learnt by heart; the training objective may yet fall again."""
    model = nmfnet.fit(np.ones((6, 4)), n_components=1, max_iter=1)
    model.live, model.iteration, model.solver.estimates = [0], 0, held_out
    rule = Convergence(batch_of(np.ones((6, 4))))
    rule.restarts = [Restart()]
    for value in (100.0, 90.0, 91.0, 90.5, 92.0, 93.0):
        model.iteration += 20
        if model.live:
            rule._judge(model, 0, value)
    assert (model.live, int(model.n_iter[0])) == (([], 100) if held_out else ([0], 120))
    assert float(model.objectives[0]) == 90.0


# ---------------------------------------------------------------------- what a certificate finds
@pytest.mark.slow
def test_an_autoencoder_under_kl_is_not_called_converged_halfway():
    """Adam halves its rate until nothing moves, above where others go."""
    X = counts(3.0)
    settings: dict[str, Any] = {"loss": "kl", "n_components": 4, "max_iter": 2500, "tol": 1e-2}
    hasty, model = (
        nmfnet.fit(X, "autoencoder", solver="adam", certificate_tol=tol, **settings)
        for tol in (None, 1e-3)
    )
    assert hasty.metrics["status"] == "stopped early"
    assert descend(hasty, batch_of(X), 0, 400).fall > 5e-3, "the case shows nothing"
    assert model.metrics["objective"] < hasty.metrics["objective"]
    further = descend(model, batch_of(X), 0, 400).fall
    assert further < 5e-3 or not model.metrics["converged"]


@pytest.mark.slow
def test_an_autoencoder_far_from_its_optimum_is_not_called_converged():
    X = counts(150.0)
    own = {"loss": "kl", "n_components": 4}
    model = nmfnet.fit(X, "autoencoder", solver="adam", max_iter=2500, **own)
    other = nmfnet.fit(X, "autoencoder", solver="mu", **own)
    assert other.metrics["objective"] < 0.97 * model.metrics["objective"], "the case shows nothing"
    assert model.metrics["status"] == "budget"
    assert model.metrics["certificate/fall"] > 1e-2
    assert "another solver" in unfinished_words(model.metrics)


@pytest.mark.quick("mu", "lbfgs", "pgd")
@pytest.mark.parametrize("solver", ["mu", "hals", "anls", "pgd", "gd", "lbfgs", "adam"])
def test_a_premature_stop_is_caught_and_training_goes_on_from_below(solver, calls):
    X = counts(30.0, n=60)
    settings: dict[str, Any] = {"solver": solver, "n_components": 4, "tol": 0.5, "window": 1}
    settings |= {"solver.n_inner": 2, "patience": 1, "max_iter": 400}
    hasty = nmfnet.fit(X, certificate_tol=None, **settings).metrics
    assert hasty["status"] == "stopped early"
    assert hasty["certificate/fall"] is None
    calls.clear()
    model = nmfnet.fit(X, **settings)
    failed = [call for call in calls if call[2] > 1e-3]
    assert failed, "nothing was premature"
    assert model.metrics["objective"] <= failed[-1][3] * (1 + 1e-5)
    assert model.metrics["objective"] < hasty["objective"]
    assert all(b[0] >= certificate.WAIT * a[0] for a, b in itertools.pairwise(calls))
    if model.metrics["converged"]:
        assert calls[-1][2] == model.metrics["certificate/fall"] <= 1e-3


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_what_has_converged_passes(loss, calls):
    X = counts(30.0, n=60)
    numbers = nmfnet.fit(X, loss=loss, n_components=3, dtype="float64", tol=1e-7).metrics
    assert numbers["status"] == "converged"
    assert numbers["converged"] is True
    assert numbers["certificate/fall"] < 1e-4
    assert numbers["certificate/kkt"] < 1e-4
    assert len(calls) >= 1


def test_each_restart_has_its_own_certificate(calls):
    settings: dict[str, Any] = {"n_components": 3, "solver": "mu", "loss": "kl", "tol": 1e-3}
    X = counts(30.0, n=60)
    together = nmfnet.fit(X, n_restarts=3, **settings)
    assert {call[1] for call in calls} == {0, 1, 2}
    alone = nmfnet.fit(X, n_restarts=1, **settings)
    assert together.n_iter[0] == alone.n_iter[0]
    torch.testing.assert_close(together.objectives[:1], alone.objectives, rtol=1e-5, atol=0)


@pytest.mark.slow
def test_the_layers_of_a_hierarchy_are_certified_one_by_one(calls):
    X = counts(30.0, n=60)
    settings: dict[str, Any] = {"layers": [6, 3], "n_components": 3, "tol": 0.5, "max_iter": 600}
    settings |= {"solver": "mu", "solver.n_inner": 2, "patience": 1, "window": 1}
    model = nmfnet.fit(X, "hierarchical_nmf", certificate_tol=1e-5, **settings)
    assert any(fall > 1e-5 for *_, fall, _ in calls)  # its start was settled less than that
    moved = [id(p) for stage in model.stages() for p in stage.parameters]
    assert sorted(moved) == sorted(id(p) for p in model.parameters())
    terms = model.objective(batch_of(X))
    counted = [name for stage in model.stages() for name in terms if name not in stage.left_out]
    assert sorted(counted) == sorted(terms)


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("penalty", ["none", "l2"])
def test_the_gradient_in_closed_form_is_that_of_autograd(loss, sparse, penalty):
    X = counts(3.0, n=30) + (0 if sparse else 1)  # autograd stops where X_hat is 0
    X[X.sum(1) == 0, 0] = 1
    X[0, X.sum(0) == 0] = 1
    given = sp.csr_matrix(X) if sparse else X
    settings: dict[str, Any] = {"loss": loss, "penalty": penalty, "n_components": 3}
    model = nmfnet.fit(given, solver="mu", max_iter=3, n_restarts=2, dtype="float64", **settings)
    batch = batch_of(given, torch.float64)
    model.transpose = transpose_of(batch.x) if sparse else None
    value, gradients = Problem(model, batch).differentiate()
    objective = total(model.objective(batch))
    wanted = torch.autograd.grad(objective.sum(), list(model.parameters()))
    torch.testing.assert_close(value, objective.detach())
    for found, expected in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_a_gradient_promises_at_least_what_a_descent_finds():
    X = counts(30.0, n=60)
    batch = batch_of(X, torch.float64)
    for n_iter in (20, 100, 1000):
        model = nmfnet.fit(X, loss="kl", solver="mu", dtype="float64", max_iter=n_iter, tol=0.0)
        problem = Problem(model, batch)
        value, gradients = problem.differentiate()
        before = [p.detach().clone() for p in model.parameters()]
        promise = float(problem.promise(problem.units(), gradients) / value)
        assert all(torch.equal(b, p) for b, p in zip(before, model.parameters(), strict=True))
        assert promise >= descend(model, batch, 0, 100).fall


# ---------------------------------------------------------------------- how a run ends
@pytest.mark.slow
def test_early_stopping_is_not_convergence(calls):
    settings: dict[str, Any] = {"solver": "adam_early", "n_components": 2, "tol": 0.5}
    numbers = nmfnet.fit(counts(30.0, n=60), "deep_autoencoder", **settings).metrics
    assert numbers["status"] == "stopped early"
    assert numbers["converged"] is False
    assert numbers["certificate/fall"] is None
    assert calls == []
    assert "stopped early" in unfinished_words(numbers)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"max_iter": 10}, "raise max_iter"),
        ({"time_limit": 1e-9}, "raise what ended it: time_limit"),
        ({"trainer.max_epochs": 1}, "raise what ended it: time_limit, trainer.max_epochs"),
    ],
)
def test_what_ended_a_run_is_what_is_to_be_raised(own, said):
    numbers = nmfnet.fit(counts(30.0, n=60), n_components=4, solver="mu", tol=0, **own).metrics
    assert said in unfinished_words(numbers)


def test_a_run_at_the_end_of_its_budget_says_how_far_it_was_from_done(calls):
    X = counts(30.0, n=60)
    model = nmfnet.fit(X, n_components=4, solver="mu", max_iter=10)
    numbers = model.metrics
    assert numbers["status"] == "budget"
    assert numbers["certificate/fall"] > 1e-3
    assert calls == []
    with torch.no_grad():
        own = float(total(model.objective(batch_of(X))))
    assert own == pytest.approx(numbers["objective"], rel=1e-6)  # the result is the solver's
    assert f"{numbers['certificate/fall']:.1e}" in unfinished_words(numbers)
    old = {"converged": False, "n_iter": 7}
    assert warnings_of(old) == ["not converged in 7 iterations: raise max_iter"]
    assert warnings_of(old | {"certificate/fall": 0.0}) == warnings_of(
        old
    )  # nothing is left to say


@pytest.mark.quick("hals")
@pytest.mark.parametrize("solver", ["adam", "hals", "gd"])
def test_a_run_interrupted_after_a_certificate_continues_to_the_same_end(
    solver, calls, tmp_path, monkeypatch
):
    X = counts(30.0, n=60)
    settings: dict[str, Any] = {"solver": solver, "solver.n_inner": 2, "tol": 0.5, "patience": 1}
    settings |= {"max_iter": 200, "window": 1, "n_components": 4}
    unbroken = run(None, X, **settings)
    at = next(iteration for iteration, _, fall, _ in calls if fall > 1e-3) + 2
    assert at < unbroken.model.iteration
    with monkeypatch.context() as patch:
        stopping(patch, at, by_signal=True)
        with pytest.raises(Interrupted, match="continues it"):
            run(tmp_path, X, **settings)
    same(unbroken, run(tmp_path, X, **settings))


def test_the_command_says_how_a_run_ended(tmp_path):
    words = ("model.n_components=3", "figures=false", "progress=false")
    done = train(*words, "max_iter=300", cwd=tmp_path)
    assert done.code == 0, done.err
    numbers = json.loads((the_run(tmp_path) / "metrics.json").read_text())
    assert numbers["status"] == "converged"
    assert {"certificate/fall", "certificate/kkt"} <= set(numbers)
    assert re.search("^ended +converged *$", done.out, re.MULTILINE)


def test_a_tolerance_below_zero_is_refused():
    with pytest.raises(UserError, match="certificate_tol=-1"):
        Budget(certificate_tol=-1)


@pytest.mark.parametrize("model", ["nmf", "projective_nmf", "autoencoder"])
def test_an_x_of_zeros_is_fitted_and_said(model):
    fitted = nmfnet.fit(np.zeros((10, 6)), model, n_components=2)
    assert fitted.metrics["status"] == "converged"
    assert fitted.metrics["objective"] == 0
    assert any("zero in every feature" in note for note in fitted.notes)
