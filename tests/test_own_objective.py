"""A model owns its objective: what is fitted, reported, stopped and transformed is one thing."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from making import planted

import nmfnet
from nmfnet.core.constraints import Constraint, Free
from nmfnet.core.model import Factorization
from nmfnet.core.penalties import MinVolume, Orthogonal
from nmfnet.kernels.counts import negative_binomial

fit = __import__("functools").partial(nmfnet.fit, figures=False, threads=1)


def relative(X, X_hat) -> float:
    return float(np.linalg.norm(X - X_hat) / np.linalg.norm(X))


# ---------------------------------------------------------------------- models of a user
class Offset(Factorization):
    """X ~ W H + b, with a row b that all samples share."""

    inductive = False

    def __init__(self, parts, *, n_components: int = 3):
        super().__init__(parts, n_components=n_components)
        self.W = self.factor("W", "sample", "component")
        self.H = self.factor("H", "component", "feature")
        self.b = self.factor("b", "one", "feature")

    def encode(self, batch):
        return self.W()[..., batch.index, :]

    def decode(self, W):
        return W @ self.H() + self.b()


class Counts(Factorization):
    """X ~ NB(W H, theta), with a likelihood of its own and a learned dispersion."""

    inductive = False

    def __init__(self, parts, *, n_components: int = 3):
        super().__init__(parts, n_components=n_components)
        self.W = self.factor("W", "sample", "component")
        self.H = self.factor("H", "component", "feature")
        self.theta = self.factor("theta", "one", "feature", constraint=Free())

    multilinear = False  # type: ignore[assignment]

    def encode(self, batch):
        return self.W()[..., batch.index, :]

    def decode(self, W):
        return W @ self.H()

    def terms(self, batch):
        x_hat = self.decode(self.encode(batch))
        log_p = negative_binomial(batch.x, x_hat, self.theta().exp().clamp(1e-4, 1e4))
        return {"data": -log_p.sum((-2, -1), dtype=torch.float64)}


class TopTwo(Constraint):
    """At most two entries of a row, and those >= 0."""

    identity = True

    def forward(self, raw):
        return raw

    def right_inverse(self, value):
        return value.clamp_min(0)

    def project_(self, raw):
        raw.clamp_(min=0)
        least = raw.topk(2, -1).values[..., -1:]
        raw.mul_(raw >= least)


@pytest.fixture(autouse=True)
def own_models(monkeypatch):
    """The classes of this file where a configuration finds them."""
    module = types.ModuleType("own_models")
    for thing in (Offset, Counts, TopTwo):
        setattr(module, thing.__name__, thing)
    monkeypatch.setitem(sys.modules, "own_models", module)


def own(name: str, X: np.ndarray, **settings):
    """Fit one of the models above."""
    from nmfnet.api import configuration
    from nmfnet.data import InMemory
    from nmfnet.run.train import train

    cfg = configuration({"progress": False, "figures": False, "threads": 1, **settings})
    cfg.model = {"_target_": f"own_models.{name}", "n_components": 3}
    result = train(cfg, InMemory(X=X), write=False)
    result.model.metrics = result.metrics
    return result.model


def test_an_offset_is_part_of_transform():
    X = planted(40, 12)[0] + np.arange(12) + 1.0
    fitted = own("Offset", X, max_iter=3000, dtype="float64")
    trained = fitted.metrics["train/relative_error"]
    assert trained < 5e-3
    assert relative(X, fitted.reconstruct(X)) <= 1.01 * trained + 1e-6


def test_a_likelihood_of_its_own_is_the_only_number():
    rng = np.random.default_rng(0)
    mean = rng.gamma(2, 2, (60, 3)) @ rng.gamma(1, 1, (3, 10))
    X = rng.negative_binomial(2, 2 / (2 + mean)).astype(float)
    fitted = own("Counts", X, solver="lbfgs", max_iter=400, split="rows", seed=1)
    assert fitted.metrics["train/loss"] == pytest.approx(fitted.metrics["objective"], rel=1e-5)
    assert fitted.metrics["train/loss"] < 5000  # nats; squared errors would be ten times that
    per_row = {part: fitted.metrics[f"{part}/loss"] for part in ("train", "test")}
    assert 0.5 < per_row["test"] / 12 / (per_row["train"] / 48) < 2
    with pytest.raises(nmfnet.UserError, match="loss=kl is not used"):
        own("Counts", X, loss="kl", max_iter=3)


@pytest.mark.parametrize("solver", ["mu", "gd", "adam", "auto"])
def test_a_projection_is_called(solver):
    X = planted(30, 12)[0] + 0.1
    from nmfnet.api import configuration
    from nmfnet.data import InMemory
    from nmfnet.run.train import train

    cfg = configuration({"progress": False, "figures": False, "solver": solver, "max_iter": 50})
    cfg.constraint = {"_target_": "own_models.TopTwo"}
    model = train(cfg, InMemory(X=X), write=False).model
    for factor in model.factors.values():
        assert int((factor().detach() > 0).sum(-1).max()) <= 2
    assert int((model.transform(X) > 0).sum(-1).max()) <= 2


def test_a_projection_that_bounds_cannot_say_is_refused_by_lbfgs():
    with pytest.raises(nmfnet.UserError, match=r"keeps bounds.*use .*solver=gd"):
        fit(planted(20, 8)[0], constraint="simplex_project", solver="lbfgs")


# ---------------------------------------------------------------------- constraints in transform
@pytest.mark.parametrize("constraint", ["simplex", "simplex_project"])
def test_transform_keeps_the_constraint(constraint):
    X = planted(30, 12)[0] + 0.1
    own = {"constraint.W": constraint, "solver": "gd", "max_iter": 500, "dtype": "float64"}
    fitted = fit(X, n_components=3, **own)
    W = fitted.transform(X)
    np.testing.assert_allclose(W.sum(1), 1, atol=1e-6)
    assert W.min() >= 0
    trained = fitted.metrics["train/relative_error"]
    assert relative(X, fitted.reconstruct(X)) <= 1.001 * trained
    everywhere = fit(X, n_components=3, solver="adam", constraint="simplex", max_iter=200)
    np.testing.assert_allclose(everywhere.transform(X).sum(1), 1, atol=1e-5)


def test_signed_factors_have_signed_codes():
    X = planted(30, 12)[0] + 0.1
    fitted = fit(X, n_components=3, solver="als", **{"solver.project": False})
    assert fitted.transform(X).min() < 0
    assert relative(X, fitted.reconstruct(X)) == pytest.approx(
        fitted.metrics["train/relative_error"], rel=1e-3
    )
    assert fitted.metrics["train/relative_error"] == pytest.approx(
        fitted.metrics["floor/relative_error"], rel=1e-3
    )


def test_signed_data_are_taken_without_signs_to_keep():
    X = np.random.default_rng(0).normal(size=(30, 8))
    fitted = fit(X, n_components=3, constraint="free", solver="gd", max_iter=2000)
    assert fitted.metrics["train/relative_error"] == pytest.approx(
        fitted.metrics["floor/relative_error"], rel=1e-3
    )


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_more_components_than_the_data_have(loss):
    """The answer of ill-conditioned normal equations is as good as the fit."""
    rng = np.random.default_rng(3)
    X = rng.random((40, 2)) @ rng.random((2, 12)) * 100
    fitted = fit(X, n_components=8, loss=loss)
    W = fitted.transform(X)
    assert np.isfinite(W).all()
    assert relative(X, W @ fitted.components_) <= fitted.metrics["train/relative_error"] + 1e-4


# ---------------------------------------------------------------------- starts, weights, axes
@pytest.mark.parametrize("init", ["random", "nndsvdar", "kmeans"])
@pytest.mark.parametrize("model", ["nmf", "autoencoder", "convex_nmf"])
def test_float32_and_float64_start_alike(model, init):
    X = planted(30, 12)[0] + 0.1
    starts = [
        fit(X, model, init=init, max_iter=1, solver="gd", dtype=dtype, **{"n_components": 3})
        for dtype in ("float32", "float64")
    ]
    for name, factor in starts[0].factors.items():
        torch.testing.assert_close(
            factor().double(), starts[1].factors[name]().double(), rtol=1e-2, atol=1e-3
        )


def test_penalties_ask_the_axis_and_not_the_letter():
    """The same matrix as a table of samples and as one of components: the names do not matter."""
    from nmfnet.core.constraints import Project
    from nmfnet.core.factor import Factor

    value = torch.rand(1, 5, 3)
    for name in ("S", "E", "G", "H", "Emission"):
        across, along = Orthogonal(on=name), MinVolume(on=name)
        tall = Factor(1, 5, 3, Project(), axes=("sample", "component"))
        wide = Factor(1, 3, 5, Project(), axes=("component", "feature"))
        for penalty in (across, along):
            penalty.attach({name: tall})
            by_column = penalty(value)
            penalty.attach({name: wide})
            torch.testing.assert_close(penalty(value.mT), by_column)
    nodes = Factor(1, 5, 3, Project(), axes=("one", "feature"))
    with pytest.raises(nmfnet.UserError, match=r"has none.*set penalty\.on to H"):
        Orthogonal(on="b").attach({"b": nodes, "H": wide})


def test_an_axis_that_the_data_lack_is_refused():
    class Wrong(Offset):
        def __init__(self, parts, *, n_components: int = 3):
            super().__init__(parts, n_components=n_components)
            self.factor("Z", "planet", "component")

    sys.modules["own_models"].Wrong = Wrong  # type: ignore[attr-defined]
    with pytest.raises(nmfnet.UserError, match="axis 'planet', but the data and the model have"):
        own("Wrong", planted(20, 8)[0])


def test_advice_names_solvers_that_take_the_task():
    X = planted(30, 12)[0] + 0.1
    with pytest.raises(nmfnet.UserError) as refused:
        fit(X, n_components=3, solver="anls", penalty="orthogonal")
    named = [word.removeprefix("solver=").rstrip(",") for word in str(refused.value).split()]
    named = [n for n, w in zip(named, str(refused.value).split(), strict=True) if "solver=" in w]
    assert named[0] == "anls"
    assert "mu" in named
    for solver in named[1:]:
        fit(X, n_components=3, solver=solver, penalty="orthogonal", max_iter=2)


# ---------------------------------------------------------------------- given and frozen factors
@pytest.mark.parametrize("loss", ["frobenius", "kl", "poisson"])
def test_a_given_h_is_held(loss):
    X, _, H = planted(30, 12)
    fitted = fit(X, loss=loss, H=H, dtype="float64")
    assert np.array_equal(fitted.components_, H)
    assert fitted.metrics["solver"] == "exact"
    assert fitted.metrics["train/relative_error"] < 1e-3
    again = nmfnet.project(X, H, loss=loss, dtype="float64", threads=1, figures=False)
    np.testing.assert_allclose(again @ H, X, atol=1e-2 * X.max())


def test_a_given_start_moves():
    X, _, H = planted(30, 12)
    fitted = fit(X, init="given", H=H + 0.3, n_components=H.shape[0])
    assert not np.allclose(fitted.components_, H + 0.3)
    assert fitted.metrics["train/relative_error"] < 0.05


def test_a_given_h_of_another_shape_is_refused():
    X, _, H = planted(30, 12)
    with pytest.raises(
        nmfnet.UserError, match=r"given H has shape \(\d+, 7\).*component by feature"
    ):
        fit(X, H=H[:, :7])
    with pytest.raises(nmfnet.UserError, match="given H has shape"):
        fit(X, "nmf", n_components=2, H=np.vstack([H, H]))
    with pytest.raises(nmfnet.UserError, match="NaN"):
        fit(X, H=np.full_like(H, np.nan))
    with pytest.raises(
        nmfnet.UserError, match=r"model\.frozen: Q: NMF has no such factor; it has W, H"
    ):
        fit(X, **{"model.frozen": ["Q"]})


def test_a_loss_without_its_head_is_refused():
    with pytest.raises(nmfnet.UserError, match="needs the head 'dropout'"):
        fit(np.ones((8, 5)), n_components=2, loss="zinb")


def test_every_factor_is_written(tmp_path):
    X = np.random.default_rng(0).poisson(4.0, (30, 8)).astype(float)
    fit(X, n_components=2, loss="negative_binomial", max_iter=50, run_dir=tmp_path / "run")
    with np.load(tmp_path / "run" / "factors.npz") as held:
        assert held["dispersion"].shape == (1, 8)
        assert '"dispersion": ["one", "feature"]' in str(held["axes"])
    loaded = nmfnet.load(tmp_path / "run")
    assert loaded.factors["dispersion"].axes == ("one", "feature")
