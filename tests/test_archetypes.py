"""Archetypal analysis, and spots of a tissue to try it on."""

from __future__ import annotations

import functools
import itertools
import json

import numpy as np
import pytest
import torch
from kinds import QUIET, assert_restarts_are_runs, assert_resumes, relative
from shell import refusal, train

import nmfnet
from nmfnet.api import configuration
from nmfnet.data import InMemory
from nmfnet.data.sources.registry import source as data_set
from nmfnet.kernels.hull import Ahead, centred, nearest_in_hull
from nmfnet.kernels.refit import simplex_rows
from nmfnet.models.archetypes import furthest_sum
from nmfnet.run.train import train as run

fit = functools.partial(
    nmfnet.fit, model="archetypes", figures=False, threads=1, dtype="float64", max_iter=800
)


def simplex(n: int = 60, k: int = 4, f: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points within a simplex whose vertices are not among them, the shares, and the vertices."""
    rng = np.random.default_rng(0)
    vertices = 3 * rng.normal(size=(k, f))
    shares = rng.dirichlet(np.full(k, 0.5), n)
    shares[:k] = np.eye(k)
    return shares @ vertices, shares, vertices


def to_vertices(found: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Distance of every vertex from the nearest archetype."""
    return np.linalg.norm(found[:, None] - vertices, axis=2).min(0)


def test_planted_vertices_are_found_and_all_is_feasible():
    X, _, vertices = simplex()
    fitted = fit(X, n_components=4, n_restarts=2)
    assert to_vertices(fitted.components_, vertices).max() < 1e-4
    assert fitted.metrics["train/relative_error"] < 1e-6
    assert fitted.code == "simplex"
    for factor in fitted.factors.values():
        value = factor().detach()
        assert float(value.min()) >= 0
        torch.testing.assert_close(value.sum(-1), torch.ones_like(value[..., 0]), rtol=0, atol=1e-9)
    B, best = fitted.factors["B"]().detach(), int(fitted.best)
    np.testing.assert_allclose(B[best].numpy() @ X, fitted.components_, atol=1e-12)


def test_the_nearest_point_of_a_hull_is_that_of_all_weights():
    rng = np.random.default_rng(3)
    points, targets = torch.from_numpy(rng.normal(size=(40, 4))), rng.normal(size=(6, 4)) * 3
    exact = simplex_rows(torch.from_numpy(targets), points)
    for target, best in zip(torch.from_numpy(targets), exact, strict=True):
        for start in (torch.full((40,), 1 / 40), torch.eye(40)[7]):
            w = nearest_in_hull(target, points, start.double())
            assert float(w.min()) >= 0
            assert float(w.sum()) == pytest.approx(1, abs=1e-12)
            torch.testing.assert_close(w @ points, best @ points, rtol=0, atol=1e-6)


def test_hull_ends_below_joint_gradients_and_never_rises():
    X = simplex()[0] + 0.3 * np.random.default_rng(1).normal(size=(60, 6))
    points = centred(torch.from_numpy(X))
    B = torch.nn.functional.one_hot(torch.tensor([0, 1, 2]), 60).double()
    ahead, values = Ahead(B, B), []
    for _ in range(40):
        ahead.iterate(points)
        values.append(ahead.value)
    assert all(b <= a for a, b in itertools.pairwise(values))
    ours, joint = (fit(X, n_components=3, solver=s) for s in ("hull", "gd"))
    assert ours.metrics["objective"] <= 1.001 * joint.metrics["objective"]
    assert ours.metrics["converged"]


@pytest.mark.slow
def test_leading_components_are_archetypes_of_their_scores():
    X = simplex(f=9)[0] + 0.3 * np.random.default_rng(1).normal(size=(60, 9))
    mean = X.mean(0)
    U, S, V = np.linalg.svd(X - mean, full_matrices=False)
    scores = U[:, :3] * S[:3]
    ours, theirs = fit(X, n_components=4, leading=3), fit(scores, n_components=4)
    out = 0.5 * (S[3:] ** 2).sum()
    assert ours.metrics["objective"] - out == pytest.approx(theirs.metrics["objective"], rel=1e-5)
    same = to_vertices(ours.components_, theirs.components_ @ V[:3] + mean)
    assert same.max() < 1e-3 * np.abs(X).max()
    with pytest.raises(nmfnet.UserError, match="leading=3 is for loss=frobenius"):
        fit(np.abs(X), n_components=4, leading=3, loss="kl")


@pytest.mark.slow
def test_noise_keeps_archetypes_within_the_hull():
    rng = np.random.default_rng(1)
    X = simplex(n=40)[0]
    X = X + 0.3 * rng.normal(size=X.shape)
    fitted = fit(X, n_components=3)
    assert fitted.metrics["train/relative_error"] >= fitted.metrics["floor/relative_error"]
    assert fitted.components_.max(0) == pytest.approx(
        np.minimum(fitted.components_.max(0), X.max(0))
    )
    more = fit(X, n_components=5)
    assert more.metrics["train/loss"] < fitted.metrics["train/loss"]


@pytest.mark.slow
def test_as_many_archetypes_as_samples_explain_all():
    X = simplex(n=5)[0]
    assert fit(X, n_components=5).metrics["train/relative_error"] < 1e-6
    with pytest.raises(
        nmfnet.UserError, match=r"n_components=6: archetypes are samples.*there are 5"
    ):
        fit(X, n_components=6)


def test_furthest_sum_finds_the_corners():
    X, _, _ = simplex()
    for seed in range(5):
        chosen = furthest_sum(torch.from_numpy(X), 4, torch.Generator().manual_seed(seed))
        assert sorted(chosen.tolist()) == [0, 1, 2, 3]
    one = furthest_sum(torch.from_numpy(X), 1, torch.Generator().manual_seed(0))
    assert one.shape == (1,)
    every = furthest_sum(torch.from_numpy(X[:6]), 6, torch.Generator().manual_seed(0))
    assert sorted(every.tolist()) == list(range(6))


@pytest.mark.slow
def test_its_start_ends_no_higher_than_three_random_ones():
    rng = np.random.default_rng(2)
    X = simplex()[0] + 0.2 * rng.normal(size=(60, 6))
    own = {"model": "archetypes", "n_components": 4, "dtype": "float64", "max_iter": 800}
    cfg = configuration({**own, **QUIET})

    def objective(given: dict[str, np.ndarray]) -> float:
        return run(cfg, InMemory(X=X), write=False, given=given).metrics["objective"]

    ours = objective({})
    for _ in range(3):
        given = {"B": rng.dirichlet(np.ones(60), 4), "W": rng.dirichlet(np.ones(4), 60)}
        assert ours <= 1.001 * objective(given)


@pytest.mark.slow
@pytest.mark.quick("frobenius")
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_transform_is_what_training_does(loss):
    rng = np.random.default_rng(1)
    X = rng.dirichlet(np.full(3, 0.5), 40) @ rng.exponential(size=(3, 8))
    X = X * rng.uniform(0.9, 1.1, X.shape)
    fitted = fit(X, n_components=3, loss=loss)
    W = fitted.transform(X)
    np.testing.assert_allclose(W.sum(1), 1, atol=1e-9)
    assert W.min() >= 0
    trained = fitted.factors["W"]()[0].detach().numpy()
    np.testing.assert_allclose(W, trained, atol=2e-2)
    assert relative(X, fitted.reconstruct(X)) <= 1.001 * fitted.metrics["train/relative_error"]
    alone = fitted.transform(X[3:4])
    np.testing.assert_allclose(alone, W[3:4], atol=1e-5)
    with pytest.raises(nmfnet.UserError, match="features"):
        fitted.transform(X[:, 1:])


def test_restarts_are_runs():
    assert_restarts_are_runs(InMemory(X=simplex()[0]), model="archetypes", n_components=3)


@pytest.mark.slow
def test_an_interrupted_run_continues(tmp_path):
    X = simplex()[0] + np.random.default_rng(1).normal(size=(60, 6))
    assert_resumes(InMemory(X=X), tmp_path, model="archetypes", n_components=3)


@pytest.mark.slow
def test_saved_and_loaded_is_the_same(tmp_path):
    X = simplex()[0]
    fitted = fit(X, n_components=3, n_restarts=2, run_dir=tmp_path / "run")
    loaded = nmfnet.load(tmp_path / "run")
    assert np.array_equal(loaded.components_, fitted.components_)
    assert np.array_equal(loaded.transform(X + 0.1), fitted.transform(X + 0.1))
    with np.load(tmp_path / "run" / "factors.npz") as held:
        assert json.loads(str(held["axes"]))["B"] == ["component", "sample"]
        np.testing.assert_allclose(held["B"] @ X, held["H"], atol=1e-12)


def test_the_command(tmp_path):
    done = train(
        "data=planted", "data.n_samples=40", "model=archetypes", "model.n_components=3",
        "n_restarts=2", "max_iter=30", "figures=false", "run_dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["solver"] == "hull"
    said = refusal("data=planted", "model=archetypes", "solver=mu", cwd=tmp_path)
    assert "solver=mu needs a product of non-negative factors" in said
    assert "use " in said


@pytest.mark.slow
@pytest.mark.catalogue
def test_spots_are_cleaned_and_classified():
    matrix = data_set("her2st-h1").read()
    matrix.check()
    assert matrix.shape == (613, 2000)
    assert np.bincount(matrix.labels).sum() == 613
    assert len(matrix.label_names) == 7
    assert matrix.extra["coordinates"].shape == (613, 2)
    whole = data_set("her2st-h1", normalize=False, top_genes=None, min_spots=0).read()
    assert np.array_equal(whole.values, whole.values.astype(int))
    for options, message in (
        ({"min_counts": 1e9}, "leave no spot"),
        ({"top_genes": 0}, "top_genes=0"),
    ):
        with pytest.raises(nmfnet.UserError, match=message):
            data_set("her2st-h1", **options).read()


def test_the_number_of_archetypes_is_found_where_none_is_given():
    """A simplex of five corners has four directions, and two more corners explain nothing."""
    rng = np.random.default_rng(0)
    shares = np.vstack([np.eye(5), rng.dirichlet(np.ones(5), 150)])
    X = shares @ rng.normal(size=(5, 8))
    given = {"n_components": None, "dtype": "float64", "figures": False, "threads": 1}
    model = nmfnet.fit(X, "archetypes", **given)
    assert model.n_components == 5
    (said,) = (note for note in model.notes if "archetypes were chosen" in note)
    assert "5 archetypes were chosen: the intrinsic dimension is" in said
    assert "two more explain less" in said
    assert model.metrics["train/relative_error"] < 0.02
    with pytest.raises(nmfnet.UserError, match="n_components"):
        nmfnet.fit(X, "nmf", n_components=None)


@pytest.mark.parametrize("option", ["n_components", "leading"])
def test_what_compares_rows_by_all_entries_refuses_missing_ones(option):
    mask = np.ones((20, 5))
    mask[3, 2] = 0
    X = np.random.default_rng(0).random((20, 5))
    own = {"n_components": 3, "threads": 1} | {option: {"n_components": None, "leading": 2}[option]}
    with pytest.raises(nmfnet.UserError, match=f"model.{option}=.* compares rows by all their"):
        nmfnet.fit(X, "archetypes", mask=mask, **own)
    nmfnet.fit(X, "archetypes", mask=mask + 1, max_iter=10, **own)  # weights leave nothing out
