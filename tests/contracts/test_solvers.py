"""What every solver promises, for each file of ``conf/solver``: the same optimum, on equal terms."""

from __future__ import annotations

import csv
import functools
import inspect
import re

import numpy as np
import pytest
from making import config, planted, some_mask

import nmfnet
from nmfnet.config import options
from nmfnet.data import InMemory
from nmfnet.settings.objects import build

SOLVERS = [name for name in options("solver") if name != "auto"]
OF_NMF = [
    name
    for name in SOLVERS
    if name
    not in (
        *("cd", "convex_newton", "adam_early", "adam_deep", "exact", "weighted_als"),
        *("symmetric", "variational", "ding", "hull", "adversarial"),
    )
]  # for models with an encoder, a closed form, ridges, a graph, a bound, rows of sum 1, or players
EXACT = [
    name for name in OF_NMF if name not in ("adam", "adam_lbfgs", "adam_network", "als", "online")
]
"""Solvers whose objective cannot rise, and that go all the way."""

ROUGH = {"als": 1.05, "online": 1.05, "adam": 1.02, "adam_lbfgs": 1.02, "adam_network": 1.02}
"""How far above the best the others may end on easy data: als cuts negative entries off."""


def data() -> np.ndarray:
    rng = np.random.default_rng(0)
    return planted(40, 12)[0] + rng.uniform(0, 0.2, (40, 12))


def run(solver: str, X: np.ndarray | None = None, **own):
    chosen = {"batch_size": 10} if solver == "online" else {}
    return nmfnet.fit(
        data() if X is None else X,
        n_components=3, solver=solver, dtype="float64", figures=False,
        **{"tol": 1e-6, "max_iter": 1500, "n_restarts": 2, **chosen, **own},
    )  # fmt: skip


POISSON = pytest.param("poisson", marks=pytest.mark.slow)
"""KL and a constant of the data, by the same updates."""


@functools.cache
def best_plain(loss: str) -> float:
    """:func:`best` without options: one fit for all solvers."""
    return best(loss)


def best(loss: str, **own) -> float:
    """The objective of the reference solver of a loss, for which others have the same optimum."""
    solver = "hals" if loss == "frobenius" and "mask" not in own else "newton"
    return run(solver, loss=loss, **own).metrics["objective"]


def reached(solver: str, **own) -> float | None:
    """The objective that a solver ends with; None where it refuses the task."""
    try:
        return run(solver, **own).metrics["objective"]
    except nmfnet.UserError:
        return None


@pytest.mark.quick(
    "hals-frobenius",
    "newton-kl",
    "mu-kl",
    "anls-frobenius",
    "lbfgs-frobenius",
    "convex_newton-frobenius",
)
@pytest.mark.parametrize("loss", ["frobenius", "kl", POISSON])
@pytest.mark.parametrize("solver", SOLVERS)
def test_all_reach_the_same_optimum_of_nmf(solver, loss, tmp_path):
    """And by a history that never rises to a stationary point, where a solver promises that."""
    own = {"solver.lr": 0.1} if solver == "adam" else {}
    try:
        fitted = run(solver, loss=loss, run_dir=tmp_path, **own)
    except nmfnet.UserError:
        assert loss != "frobenius" or solver not in OF_NMF
        return
    assert 0.9999 <= fitted.metrics["objective"] / best_plain(loss) <= ROUGH.get(solver, 1.001)
    if solver not in EXACT:
        return
    with (tmp_path / "history.csv").open() as file:
        recorded = [float(row["objective"]) for row in csv.DictReader(file)]
    assert (np.diff(recorded) / recorded[:-1]).max() <= 1e-9
    assert fitted.metrics["kkt_residual"] < 1e-2
    assert recorded[-1] == pytest.approx(fitted.metrics["train/loss"], rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["L1", "L2"])
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_solvers_agree_under_penalties(penalty, loss):
    """On both factors: a penalty of one alone is void, since its scale can move to the other."""
    both = {
        f"penalty.on_{on}": {
            "_target_": f"nmfnet.core.penalties.{penalty}",
            "on": on,
            "weight": 0.2,
        }
        for on in "WH"
    }
    wanted = best(loss, **both)
    assert wanted > 1.05 * best(loss)
    for solver in ("hals", "newton", "lbfgs", "anls", "pgd", "mu"):
        value = reached(solver, loss=loss, **both)
        assert value is None or value == pytest.approx(wanted, rel=2e-3), solver


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_solvers_agree_with_missing_entries(loss):
    X, mask = data(), some_mask(40, 12)
    wanted = best(loss, X=X, mask=mask)
    for solver in SOLVERS:
        own = {"solver.lr": 0.1} if solver in ("adam", "adam_network", "adam_deep") else {}
        value = reached(solver, X=X, loss=loss, mask=mask, **own)
        assert value is None or 0.99 * wanted <= value <= 1.03 * wanted, solver


@pytest.mark.parametrize("solver", SOLVERS)
def test_options_out_of_range_are_refused(solver):
    node = config({"solver": solver}).solver
    for key in {"n_inner", "lr", "n_sub", "sweeps", "memory", "first"} & set(node):
        with pytest.raises(nmfnet.UserError, match=f"{key}=-1"):
            nmfnet.fit(data(), solver=solver, **{f"solver.{key}": -1})


@pytest.mark.parametrize("solver", SOLVERS)
def test_docstring_says_how_it_moves_and_where_from(solver):
    text = inspect.getdoc(type(build(config({"solver": solver}).solver))) or ""
    for key in set(config({"solver": solver}).solver) - {"_target_", "n_inner"}:
        assert re.search(rf"^\s*{key} : ", text, re.MULTILINE), f"{key} is not described"


@pytest.mark.slow
def test_more_iterations_never_end_worse():
    for solver in EXACT:
        short, long = (run(solver, tol=0.0, max_iter=n, n_restarts=1).metrics for n in (20, 200))
        assert short["n_iter"] == 20
        assert long["n_iter"] == 200
        assert long["objective"] <= short["objective"]


@pytest.mark.parametrize("shape", [(10, 6), (6, 10)], ids=["tall", "wide"])
def test_more_components_than_the_rank_of_x_are_no_obstacle(shape):
    """In single precision, where the normal equations have no inverse."""
    X = np.random.default_rng(0).poisson(3, shape) + 0.5
    for solver in ("hals", "anls"):
        fitted = nmfnet.fit(X, n_components=8, solver=solver, n_restarts=2, max_iter=300)
        assert fitted.metrics["train/relative_error"] < 1e-2, solver


@pytest.mark.slow
def test_equal_budget_and_rule_for_all():
    """No solver goes beyond the budget that it is given, or stops before a first window."""
    for solver in OF_NMF:
        fitted = run(solver, tol=0.0, max_iter=33, n_restarts=2)
        assert fitted.n_iter.tolist() == [33, 33] or solver == "online", solver
        assert not fitted.converged.any()


@pytest.mark.quick("hals-frobenius", "newton-kl", "mu-kl", "anls-frobenius", "lbfgs-kl")
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize("solver", OF_NMF)
def test_large_data_take_other_paths_to_the_same_place(monkeypatch, solver, loss):
    """Above some sizes no transpose is kept and rows come in blocks; nothing else changes."""
    own = {"loss": loss, "max_iter": 40, "n_restarts": 1, "tol": 0.0}
    wanted = reached(solver, **own)
    monkeypatch.setattr("nmfnet.kernels.matrix.SMALL", 10)
    monkeypatch.setattr("nmfnet.kernels.rows.BLOCK_ENTRIES", 50)
    found = reached(solver, **own)
    assert (found is None) == (wanted is None)
    assert found is None or found == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("init", ["random", "nndsvda", "kmeans"])
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_nothing_leaks_from_held_out_entries(loss, init):
    """Whatever the held-out entries are, the fit is the same to the last bit."""
    X = data()
    own = {
        "split": "entries",
        "split.fraction": 0.2,
        "loss": loss,
        "init": init,
        "max_iter": 30,
        "n_restarts": 1,
    }
    held = build({"_target_": "nmfnet.data.EntrySplit", "fraction": 0.2})(
        InMemory(X=X).read(), 0
    ).held_out
    one, two = run("auto", X, **own), run("auto", np.where(held, 9.0, X), **own)
    assert held.sum() > 50
    np.testing.assert_array_equal(one.components_, two.components_)
    assert one.metrics["train/loss"] == two.metrics["train/loss"]
    assert one.metrics["test/loss"] != two.metrics["test/loss"]
