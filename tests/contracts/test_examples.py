"""What models of other kinds of data promise, on the small example that each brings with it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from making import advance, brings_data, model_class, values

import nmfnet
from nmfnet.config import Config, options, read_choice
from nmfnet.core.model import Factorization
from nmfnet.core.objective import misfit
from nmfnet.core.starting import initialise
from nmfnet.data import NoSplit
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sources.known import Known
from nmfnet.run.certificate import Found
from nmfnet.run.checkpoint import assemble, task_of
from nmfnet.run.loop import make_steppable
from nmfnet.run.memory import hold, in_memory
from nmfnet.settings.words import configuration
from nmfnet.solvers.base import total
from nmfnet.solvers.choice import check_solver
from nmfnet.solvers.descent import Problem
from nmfnet.types import Batch

MODELS = [name for name in options("model") if brings_data(name)]
NEVER_NEW = ("labels", "W", "H")
"""What ``fit`` takes and ``transform`` does not."""

HEAVY = (
    *(
        "autorec",
        "avae",
        "bpr",
        "etm",
        "gan",
        "graph_ae",
        "lda",
        "mixture_of_unigrams",
        "neumf",
        "nnmf",
    ),
    *("plsi", "prodlda", "sorec", "vae"),
)
"""Models whose fits take seconds: a slow test each, and all that ``nmfnet check`` asks of them."""

EVERY = pytest.mark.parametrize(
    "model", [pytest.param(m, marks=[pytest.mark.slow] if m in HEAVY else []) for m in MODELS]
)
LIGHT = pytest.mark.parametrize("model", [m for m in MODELS if m not in HEAVY])


@functools.cache
def example(model: str) -> dict[str, Any]:
    made = model_class(model)
    return made.example(made, np.random.default_rng(0))  # type: ignore[arg-type]


def small(model: str) -> dict[str, Any]:
    """Three components, where a model has any number of them."""
    return {"n_components": 3} if "n_components" in read_choice("model", model)["model"] else {}


def fit(model: str, **settings: Any) -> Factorization:
    own = {**small(model), "figures": False, "threads": 1, **settings}
    return nmfnet.fit(**example(model), model=model, **own)


def rows(model: str) -> dict[str, Any]:
    """The example as ``transform`` takes it."""
    return {key: value for key, value in example(model).items() if key not in NEVER_NEW}


def data_of(model: str, cfg: Config | None = None) -> tuple[MatrixDataModule, dict[str, Any]]:
    """The example's data, and the factors that it gives."""
    cfg = cfg or configuration({"model": model})
    own = dict(example(model))
    factors = {key: own.pop(key) for key in ("W", "H") if key in own}
    source, given = hold(cfg, in_memory(**own), **factors)
    made = MatrixDataModule(
        source, NoSplit(), dtype=torch.float64, seed=0, device=torch.device("cpu"),
        known=Known.of(cfg.model),
    )  # fmt: skip
    made.setup()
    return made, given


def started(model: str, restarts: range, **settings: Any) -> tuple[Factorization, Batch]:
    cfg = configuration(
        {**small(model), "model": model, "dtype": "float64", "threads": 1, **settings}
    )
    data, given = data_of(model, cfg)
    made = assemble(
        cfg, data.sizes, restarts, masked=data.train.mask is not None,
        sparse=data.train.x.is_sparse_csr, axes=data.axes,
        given=given,
    )  # fmt: skip
    check_solver(made.solver, task_of(made))
    initialise(made, data.train)
    make_steppable(made)
    return made, data.train


@EVERY
def test_twenty_iterations_are_feasible_finite_and_no_worse_than_one(model):
    first = fit(model, n_restarts=2, max_iter=1)
    last = fit(model, n_restarts=2, max_iter=20 + first.warm_up)  # judged is what is trained
    assert torch.isfinite(last.objectives).all()
    if not last.solver.endless:  # a game may lose for a while
        assert bool((last.objectives <= first.objectives + 1e-6 * first.objectives.abs()).all())
    for factor in last.factors.values():
        assert factor.constraint.contains(factor().detach(), 1e-6)
    code = last.transform(**rows(model))
    assert len(code) == last.sizes.n_samples
    assert np.isfinite(code).all()
    assert last.code == "real" or code.min() >= 0
    if last.code == "simplex":
        np.testing.assert_allclose(code.sum(1), 1, atol=1e-5)
    if last.has_components:
        assert last.components_.shape[1] == last.sizes.n_features
    else:
        with pytest.raises(nmfnet.UserError, match="has no components"):
            _ = last.components_


@LIGHT
def test_same_seed_same_bits(model):
    fits = [fit(model, n_restarts=2, max_iter=15, seed=seed) for seed in (4, 4, 5)]
    one, two, other = (fitted.transform(**rows(model)) for fitted in fits)
    assert np.array_equal(one, two)
    if model in ("kmeans", "supervised_nmf"):
        return  # what is run at once there goes on from a start that the seed makes
    if fits[0].solver.at_once:  # a closed form has one optimum, a fixed point nearly so
        np.testing.assert_allclose(one, other, atol=5e-3 * np.abs(one).max())
    else:
        assert not np.array_equal(one, other)


@LIGHT
def test_three_restarts_are_three_runs(model):
    together, batch = started(model, range(3), n_restarts=3)
    advance(together, batch, 12)
    for i in range(3):
        alone, _ = started(model, range(i, i + 1), n_restarts=3)
        advance(alone, batch, 12)
        for name, value in values(alone).items():
            torch.testing.assert_close(values(together)[name][i], value[0], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("model", ["sym_nmf", "joint_nmf", "biased_mf"])
def test_saved_and_loaded_is_the_same(model, tmp_path):
    fitted = fit(model, n_restarts=2, max_iter=20, run_dir=tmp_path / "run", figures=True)
    loaded = nmfnet.load(tmp_path / "run")
    assert np.array_equal(fitted.transform(**rows(model)), loaded.transform(**rows(model)))
    assert np.array_equal(fitted.reconstruct(**rows(model)), loaded.reconstruct(**rows(model)))
    for name, factor in fitted.factors.items():
        assert torch.equal(factor()[int(fitted.best)], loaded.factors[name]()[int(loaded.best)])


@pytest.mark.parametrize("model", ["sym_nmf", "reference_nmf", "biased_mf"])
def test_transform_of_the_training_rows_is_the_training_code(model, tmp_path):
    """Exactly where the code is a function of the row; else the refit is no worse."""
    fitted = fit(model, dtype="float64", max_iter=1500, run_dir=tmp_path / "run")
    with np.load(tmp_path / "run" / "factors.npz") as arrays:
        W = arrays["W"]
    again = fitted.transform(**rows(model))
    if fitted.inductive:
        np.testing.assert_allclose(again, W, rtol=1e-10, atol=1e-12)
    batch = data_of(model)[0].train
    with torch.no_grad(), fitted.restarts(int(fitted.best)):
        trained, refitted = (float(misfit(fitted, batch, torch.from_numpy(w))) for w in (W, again))
    rounding = 1e-12  # all that is left of an exact fit
    assert refitted <= trained + 1e-3 * abs(trained) + rounding


@LIGHT
def test_objective_in_the_metrics_is_that_of_the_fitted_model(model):
    fitted = fit(model, n_restarts=3, max_iter=40, dtype="float64")
    with torch.no_grad(), fitted.restarts(int(fitted.best)):
        terms = fitted.objective(data_of(model)[0].train)
    if not fitted.solver.estimates:
        assert fitted.metrics["objective"] == pytest.approx(float(total(terms)), rel=1e-9)
    drawn = fitted.asks_loss and "kl" in terms  # then the loss is that at the mean of the code
    if not drawn:
        loss = terms["data"] if "data" in terms and fitted.asks_loss else total(terms)
        assert fitted.metrics["train/loss"] == pytest.approx(float(loss), rel=1e-9)
    assert int(fitted.best) == int(fitted.objectives.argmin())


@LIGHT
def test_a_certificate_that_is_asked_for_later_starts_where_the_fit_ended(model, monkeypatch):
    """Not from what a model keeps for its readers once there are no training rows."""
    fitted, started = fit(model, max_iter=4), list[float]()

    def descend(one: Factorization, batch: Batch, restart: int, *more: Any) -> Found:
        one.eval()
        with one.restarts(slice(restart, restart + 1)), torch.no_grad():
            started.append(float(Problem(one, batch).value()))
        return Found(started[-1], 0.0)

    monkeypatch.setattr("nmfnet.run.callbacks.convergence.descend", descend)
    _ = fitted.metrics["certificate/fall"]
    if not started:
        pytest.skip("it was certified, or cannot be")
    assert started == [pytest.approx(float(fitted.objectives[fitted.best]), rel=1e-5)]
