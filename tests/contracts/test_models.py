"""What every model promises, for each file of ``conf/model`` and each solver that takes the model."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from _pytest.mark.structures import ParameterSet
from making import advance, batch_of, brings_data, make, planted, some_mask, values

import nmfnet
from nmfnet.config import conf_dir, options
from nmfnet.core.objective import row_losses
from nmfnet.data import Planted
from nmfnet.metrics import matched_cosine
from nmfnet.report.models import model_lines
from nmfnet.settings.objects import locate
from nmfnet.solvers.base import total

EVERY = options("model")
MODELS = [name for name in EVERY if not brings_data(name)]
"""Models of any non-negative matrix; the others are in test_examples.py."""

SOLVERS = [name for name in options("solver") if name != "auto"]
MARKS = {line.name: [] if line.solver == "auto" else [pytest.mark.slow] for line in model_lines()}
PATIENT = [pytest.param(name, marks=MARKS[name]) for name in MODELS]
"""Models, those trained by gradients among the slow tests."""

LOSSES = ["frobenius", "kl"]
TAKER = {
    name: "autoencoder" if name in ("cd", "adam_early", "adam_deep") else "nmf" for name in SOLVERS
}
"""A model for each solver that is in its quick tests: cd, adam_early and adam_deep need an encoder."""

MINIBATCH = {"online": 10}
"""Solvers that need a batch size, and one for them."""

fit = functools.partial(nmfnet.fit, n_components=3, figures=False, threads=1)


def data(n: int = 30, f: int = 12) -> np.ndarray:
    return planted(n, f)[0] + 0.1


def parts(k: int = 3, n: int = 60, f: int = 20, *, overlap: bool = False):
    """Planted components that do not overlap, with a pure sample of each."""
    rng = np.random.default_rng(0)
    W = rng.exponential(size=(n, k)) * (rng.random((n, k)) < 0.6)
    W[:k] = 2 * np.eye(k)
    H = rng.uniform(0.2, 1, (k, f))
    H *= rng.random((k, f)) < 0.6 if overlap else np.arange(f) % k == np.arange(k)[:, None]
    return W @ H, H


def settings(model: str, solver: str, loss: str) -> dict:
    own = {"model": model, "solver": solver, "loss": loss}
    return own | ({"batch_size": MINIBATCH[solver]} if solver in MINIBATCH else {})


@functools.cache
def accepts(model: str, solver: str, loss: str) -> bool:
    """Whether a solver takes a model; it refuses with a UserError that says what to use."""
    try:
        fit(data(), max_iter=1, **settings(model, solver, loss))
    except nmfnet.UserError as error:
        return not re.search(r"use |set |needs |is for ", str(error))
    return True


def pairs(turn: int) -> list[ParameterSet]:
    """Every second pair of a model and a solver, under one loss and the other in turn.

    Quick are each model with the solver that is chosen for it, and each solver with one model; all the
    others are among the slow tests, where a pair is in those of every other ``turn``.
    """
    places = itertools.product(enumerate(MODELS), enumerate(["auto", *SOLVERS]))
    in_turn = {
        (m, s, LOSSES[(i + j) % 2]) for (i, m), (j, s) in places if (i + j // 2 + turn) % 2 == 0
    }
    every = itertools.product(MODELS, ["auto", *SOLVERS], LOSSES)
    return [
        pytest.param(*names, marks=[] if _quick(*names) else [pytest.mark.slow])
        for names in every
        if names in in_turn or _quick(*names)
    ]


def _quick(model: str, solver: str, loss: str) -> bool:
    if solver == "auto":
        return loss == ("kl" if model == "nmf" else "frobenius")
    return model == TAKER[solver] and loss == ("kl" if solver in ("mu", "newton") else "frobenius")


def or_skip(model: str, solver: str, loss: str) -> dict:
    if not accepts(model, solver, loss):
        pytest.skip(f"solver={solver} refuses model={model} loss={loss}")
    return settings(model, solver, loss)


# ---------------------------------------------------------------------- training
@pytest.mark.parametrize(("model", "solver", "loss"), pairs(0))
def test_twenty_iterations_are_feasible_finite_and_no_worse_than_one(model, solver, loss):
    chosen = or_skip(model, solver, loss)
    first = fit(data(), max_iter=1, n_restarts=2, **chosen)
    last = fit(data(), max_iter=20, n_restarts=2, **chosen)
    assert torch.isfinite(last.objectives).all()
    ends = (last.objectives, first.objectives)
    if not last.solver.monotone:  # one start may rise for a while
        ends = tuple(objectives.sum() for objectives in ends)
    assert bool((ends[0] <= ends[1] * (1 + 1e-6)).all())
    for factor in last.factors.values():
        assert float(factor.constraint.violation(factor().detach())) == 0
    W = last.transform(data())
    assert W.shape == (30, 3)
    assert last.components_.shape == (3, 12)
    assert W.min() >= 0
    assert last.components_.min() >= 0 or last.signed


@pytest.mark.quick("nmf", "autoencoder")
@pytest.mark.parametrize("model", MODELS)
def test_some_solver_is_chosen_for_every_loss(model):
    for loss in options("loss"):
        try:
            found = fit(data(), model, loss=loss, max_iter=3)
        except nmfnet.UserError as error:  # it says why, and what to use
            signed = "any sign" in str(error) and loss != "frobenius"
            assert signed or loss not in ("frobenius", "kl", "poisson", "beta", "itakura_saito")
            assert "use " in str(error)
            continue
        assert found.metrics["solver"] in SOLVERS
        assert np.isfinite(found.metrics["objective"])


@pytest.mark.parametrize(("model", "solver", "loss"), pairs(1))
def test_same_seed_same_bits(model, solver, loss):
    chosen = or_skip(model, solver, loss)
    one, two, other = (
        fit(data(), max_iter=15, n_restarts=2, seed=seed, **chosen).components_
        for seed in (4, 4, 5)
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("model", "solver", "loss"), [pair for pair in pairs(2) if pair.values[1] not in MINIBATCH]
)
def test_three_restarts_are_three_runs(model, solver, loss):
    own = {**or_skip(model, solver, loss), "n_restarts": 3}
    together, batch = make(data(), **own)
    advance(together, batch, 12)
    for i in range(3):
        alone, _ = make(data(), **own, restarts=range(i, i + 1))
        advance(alone, batch, 12)
        for name, value in values(alone).items():
            # atol: Adam magnifies the rounding of gradients near 0, as of biases that a norm takes out
            torch.testing.assert_close(values(together)[name][i], value[0], rtol=1e-8, atol=1e-7)
        one, other = (training_output(m, batch) for m in (together, alone))
        torch.testing.assert_close(one[i], other[0], rtol=1e-8, atol=1e-9)


@torch.no_grad()
def training_output(model, batch):
    """X_hat, with norms that take the statistics of these rows."""
    return model.train().decode(model.encode(batch))


@pytest.mark.parametrize(("model", "solver", "loss"), pairs(3))
def test_masked_entries_are_ignored(model, solver, loss):
    """Whatever stands under the mask, every bit is the same; and a mask does change something."""
    chosen = {**or_skip(model, solver, loss), "max_iter": 10}
    X, mask = data(), some_mask(30, 12)
    try:
        found = [fit(np.where(mask, X, hidden), mask=mask, **chosen) for hidden in (0.0, 7.0)]
    except nmfnet.UserError as error:
        if re.search("leave entries out|the objective became", str(error)):
            return
        raise
    assert np.array_equal(found[0].components_, found[1].components_)
    assert found[0].metrics["objective"] == found[1].metrics["objective"]
    assert not np.array_equal(found[0].components_, fit(X, **chosen).components_)
    rows = [m.transform(np.where(mask, X, h), mask) for m, h in zip(found, (0.0, 7.0), strict=True)]
    assert np.array_equal(*rows)


# ---------------------------------------------------------------------- the fitted model
@pytest.mark.quick("nmf-kl", *(f"{model}-frobenius" for model in MODELS))
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_saved_and_loaded_is_the_same(model, loss, tmp_path):
    own = or_skip(model, "auto", loss)
    fitted = fit(data(), **own, n_restarts=3, max_iter=20, run_dir=tmp_path / "run")
    loaded = nmfnet.load(tmp_path / "run")
    fresh = planted(7, 12, seed=9)[0] + 0.1
    for X in (data(), fresh):
        assert np.array_equal(fitted.transform(X), loaded.transform(X))
        assert np.array_equal(fitted.reconstruct(X), loaded.reconstruct(X))
    assert np.array_equal(fitted.components_, loaded.components_)
    saved = torch.load(tmp_path / "run" / "model.ckpt", weights_only=True)
    assert saved["nmfnet"]["config"]["loss"]["_target_"].endswith(locate_name("loss", loss))
    with np.load(tmp_path / "run" / "factors.npz") as arrays:
        assert np.array_equal(arrays["H"], loaded.components_)
        np.testing.assert_allclose(
            loaded.inverse_transform(arrays["W"]), fitted.inverse_transform(arrays["W"])
        )


def locate_name(group: str, choice: str) -> str:
    return yaml.safe_load((conf_dir() / group / f"{choice}.yaml").read_text())["_target_"]


@pytest.mark.quick("nmf-frobenius", "nmf-kl", "autoencoder-frobenius", "convex_nmf-frobenius")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", PATIENT)
def test_transform_of_the_training_rows_is_w(model, loss, tmp_path):
    """Exactly where W is a function of the row; else the refit is no worse than the training W.

    With noise in X, so that a layer wider than the planted parts has one code for a row.
    """
    X = data() + np.random.default_rng(1).uniform(0, 0.3, data().shape)
    own = or_skip(model, "auto", loss)
    fitted = fit(X, **own, dtype="float64", max_iter=1500, run_dir=tmp_path / "run")
    with np.load(tmp_path / "run" / "factors.npz") as arrays:
        W = arrays["W"]
    again = fitted.transform(X)
    if fitted.inductive:
        np.testing.assert_allclose(again, W, rtol=1e-12, atol=0)
    batch = batch_of(X)
    with torch.no_grad(), fitted.restarts(int(fitted.best)):
        trained, refitted = (
            float(row_losses(fitted, batch, torch.from_numpy(w)).sum()) for w in (W, again)
        )
    assert refitted <= 1.001 * trained


@pytest.mark.parametrize("model", MODELS)
def test_new_rows_do_not_depend_on_each_other(model):
    fitted = fit(data(), model, dtype="float64", max_iter=50)
    fresh = planted(7, 12, seed=9)[0] + 0.1
    together = fitted.transform(fresh)
    for i in range(len(fresh)):
        alone = fitted.transform(fresh[i : i + 1])[0]
        np.testing.assert_allclose(alone, together[i], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_wrong_new_rows_are_refused(model):
    positive = accepts(model, "auto", "kl")
    fitted = fit(data(), model, loss="kl" if positive else "frobenius", max_iter=5)
    for bad, word in (
        (data()[:, :5], "features"),
        (np.full((2, 12), np.nan), "NaN"),
        *([(-data(), "negative")] if positive else []),
    ):
        with pytest.raises(nmfnet.UserError, match=word):
            fitted.transform(bad)


# ---------------------------------------------------------------------- truth
def exact(model: str) -> dict:
    """What lets a model keep what was planted: a hierarchy of one rank, and no smoothing."""
    node = yaml.safe_load((conf_dir() / "model" / f"{model}.yaml").read_text())["model"]
    own = {"layers": [3, 3], "smoothing": 0.0}
    return {key: value for key, value in own.items() if key in node}


@pytest.mark.quick(
    "nmf-frobenius",
    "projective_nmf-frobenius",
    "semi_supervised_nmf-frobenius",
    "convex_nmf-frobenius",
)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", PATIENT)
def test_planted_parts_are_recovered(model, loss):
    """Components without overlap, and a pure sample of each: every model can represent these."""
    X, H = parts()
    own = or_skip(model, "auto", loss)
    fitted = fit(X, **own, n_restarts=3, max_iter=1500, **exact(model))
    early = fitted.metrics["status"] == "stopped early"
    assert fitted.metrics["train/relative_error"] < (0.1 if early else 0.05)
    if all(factor.constraint.bounds[0] == 0 for factor in fitted.factors.values()):
        assert matched_cosine(fitted.components_, H) > 0.99  # of any sign they can be turned


@pytest.mark.slow
def test_overlapping_parts_need_a_decoder_of_their_own():
    """Measured limits. Projective NMF ties H to an encoder, so it cannot represent overlap (an error
    of 0.17, cosines of 0.89); the linear autoencoder needs columns of X that are pure (0.08)."""
    X, H = parts(overlap=True)
    errors = {}
    for model in ("nmf", "convex_nmf", "projective_nmf", "autoencoder"):
        fitted = fit(X, model, n_restarts=3, max_iter=2000)
        errors[model] = fitted.metrics["train/relative_error"]
        if model in ("nmf", "convex_nmf"):
            assert matched_cosine(fitted.components_, H) > 0.99
    assert max(errors["nmf"], errors["convex_nmf"]) < 1e-2
    assert 0.05 < errors["autoencoder"] < 0.1
    assert 0.15 < errors["projective_nmf"] < 0.25


@pytest.mark.parametrize("model", MODELS)
def test_objective_in_the_metrics_is_that_of_the_fitted_model(model):
    fitted = fit(data(), model, n_restarts=3, max_iter=40, dtype="float64")
    with torch.no_grad(), fitted.restarts(int(fitted.best)):
        terms = fitted.objective(batch_of(data()))
    assert fitted.metrics["objective"] == pytest.approx(float(total(terms)), rel=1e-9)
    if "data" in terms:  # a model trained layer by layer has no such term
        assert fitted.metrics["train/loss"] == pytest.approx(float(terms["data"]), rel=1e-9)
    assert int(fitted.best) == int(fitted.objectives.argmin())


# ---------------------------------------------------------------------- description
@pytest.mark.parametrize("model", EVERY)
def test_docstring_is_the_model_as_an_equation(model):
    node = yaml.safe_load((conf_dir() / "model" / f"{model}.yaml").read_text())["model"]
    text = inspect.getdoc(locate(node["_target_"])) or ""
    assert re.match(r"[A-Z] ~ .+", text.splitlines()[0])
    assert re.search(r"^symbol\s+meaning\s+code\s+shape$", text, re.MULTILINE)
    assert re.search(r"^Source: .*\d{4}", text, re.MULTILINE)
    for name in set(node) - {"_target_"}:
        assert re.search(rf"^{name} : ", text, re.MULTILINE), f"{name} is not described"


@pytest.mark.parametrize("group", ["model", "loss", "penalty", "init", "solver", "split"])
def test_yaml_values_are_the_defaults_of_the_signature(group):
    """One file of each class shows its defaults; further files of a class are presets."""
    shown: dict[str, bool] = {}
    for choice in options(group):
        node = yaml.safe_load((conf_dir() / group / f"{choice}.yaml").read_text())
        node = node.get(group, node) if node else {}
        if "_target_" not in node:
            continue
        signature = inspect.signature(locate(node["_target_"]))
        optional = {
            name: parameter.default
            for name, parameter in signature.parameters.items()
            if parameter.default is not parameter.empty
        }
        written = {key: value for key, value in node.items() if key != "_target_"}
        written = {key: None if value == {} else value for key, value in written.items()}
        required = {key for key, value in written.items() if value == "???"}
        assert set(written) - required == set(optional), f"{group}/{choice}.yaml"
        same = all(
            plain(optional[key]) == value for key, value in written.items() if key in optional
        )
        shown[node["_target_"]] = shown.get(node["_target_"], False) or same
    assert all(shown.values()), [target for target, same in shown.items() if not same]


def plain(value):
    return list(value) if isinstance(value, tuple) else value


# ---------------------------------------------------------------------- a model of one's own
THROWAWAY = '''
"""A model in a file of the user's."""

from nmfnet.core.model import Factorization


class Scaled(Factorization):
    """X ~ 2 W H."""

    inductive = False

    def __init__(self, parts, *, n_components: int = 3):
        super().__init__(parts, n_components=n_components)
        self.W = self.factor("W", parts.sizes.n_samples, n_components)
        self.H = self.factor("H", n_components, parts.sizes.n_features)

    def encode(self, batch):
        return self.W()[..., batch.index, :]

    def decode(self, W):
        return 2 * W @ self.H()
'''


@pytest.mark.slow
def test_a_new_model_is_one_file_and_one_yaml(tmp_path, monkeypatch):
    """Picked up by the command line, trained by the generic solver, saved, and loaded again."""
    (tmp_path / "scaled.py").write_text(THROWAWAY)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "scaled.yaml").write_text(
        "# @package _global_\nmodel:\n  _target_: scaled.Scaled\n  n_components: 3\n"
    )
    here = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": here, "OMP_NUM_THREADS": "1"}
    words = [
        "--config-dir",
        str(tmp_path / "conf"),
        "model=scaled",
        "data=planted",
        "data.n_components=3",
    ]
    done = run_python(
        "from nmfnet.cli import main; main()", *words, "max_iter=3000", "figures=false", "run_dir=run",
        cwd=tmp_path, environment=environment,
    )  # fmt: skip
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["solver"] == "mu", done
    assert numbers["train/relative_error"] < 0.05
    assert numbers["truth/matched_cosine"] > 0.95
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(nmfnet.UserError, match=r"scaled\.Scaled.*trust"):
        nmfnet.load(tmp_path / "run")  # a checkpoint does not import what is not imported
    model = nmfnet.load(tmp_path / "run", trust=True)
    X = Planted(n_components=3).read().values
    found = np.linalg.norm(X - model.reconstruct(X)) / np.linalg.norm(X)
    assert found == pytest.approx(numbers["train/relative_error"], abs=0.02)


def run_python(script: str, *words: str, cwd: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
