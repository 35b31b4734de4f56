"""The solvers that settle convex NMF, linear autoencoders and networks."""

from __future__ import annotations

import csv
from itertools import pairwise

import numpy as np
import pytest
import torch
from making import planted, some_mask

import nmfnet
from nmfnet.kernels.quasi_newton import Memory, minimise

MODELS = {
    "samples": {"model": "convex_nmf"},
    "features": {"model": "convex_nmf", "model.convex_axis": "features"},
    "autoencoder": {"model": "autoencoder"},
}


def data(n: int = 24, f: int = 10) -> np.ndarray:
    return planted(n, f)[0] + np.random.default_rng(0).uniform(0, 0.2, (n, f))


def fit(solver: str, X: np.ndarray | None = None, **own):
    settings = {"tol": 1e-6, "max_iter": 2000, "dtype": "float64", "figures": False, **own}
    return nmfnet.fit(data() if X is None else X, n_components=3, solver=solver, **settings)


@pytest.mark.quick("samples-kl", "autoencoder-frobenius")
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize("model", MODELS)
def test_convex_newton_ends_where_no_other_solver_goes_lower(model, loss):
    own = {**MODELS[model], "loss": loss, "n_restarts": 2}
    found = fit("convex_newton", **own)
    assert found.converged.all()
    assert found.metrics["kkt_residual"] < 1e-4
    assert all(float(factor().detach().min()) >= 0 for factor in found.factors.values())
    assert found.metrics["objective"] <= 1.001 * fit("mu", **own).metrics["objective"]


@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_convex_newton_never_rises(loss, tmp_path):
    fit("convex_newton", model="autoencoder", loss=loss, run_dir=tmp_path, **{"solver.n_inner": 1})
    with (tmp_path / "history.csv").open() as file:
        values = [float(row["objective_max"]) for row in csv.DictReader(file)]
    assert len(values) > 10
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(values))


@pytest.mark.parametrize("solver", ["convex_newton", "lbfgs"])
def test_a_restart_of_many_is_the_run_alone(solver):
    own = {"model": "autoencoder", "loss": "kl", "max_iter": 40, "tol": 0.0}
    many, alone = fit(solver, n_restarts=3, **own), fit(solver, n_restarts=1, **own)
    assert torch.equal(many.objectives[0], alone.objectives[0])


@pytest.mark.quick("samples-kl", "autoencoder-frobenius")
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
@pytest.mark.parametrize("model", MODELS)
def test_convex_newton_sees_nothing_under_the_mask(model, loss):
    X, mask = data(), some_mask(24, 10)
    own = {**MODELS[model], "loss": loss, "mask": mask, "max_iter": 60}
    one, two = (fit("convex_newton", np.where(mask, X, hidden), **own) for hidden in (0.0, 9.0))
    np.testing.assert_array_equal(one.components_, two.components_)
    other = fit("mu", X, **{**own, "max_iter": 2000})
    assert one.metrics["objective"] <= 1.01 * other.metrics["objective"]


def test_a_start_of_any_size_is_no_obstacle_under_kl():
    for scale in (1e-4, 1e4):
        own = {"model": "autoencoder", "loss": "kl", "model.draw": "uniform"}
        found = fit("convex_newton", scale * data(), **own)
        other = fit("convex_newton", data(), **own)
        assert found.metrics["objective"] <= 1.05 * scale * other.metrics["objective"]


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ({"model": "nmf"}, r"X ~ W \(A X\)"),
        ({"model": "autoencoder", "model.hidden": [4]}, "solver=lbfgs"),
        ({"model": "convex_nmf", "loss": "itakura_saito"}, "loss=kl"),
        ({"model": "convex_nmf", "constraint": "softplus"}, "constraint=project"),
        ({"model": "autoencoder", "batch_size": 5}, "batch_size=null"),
    ],
)
def test_convex_newton_refuses_what_it_cannot_do(own, why):
    with pytest.raises(nmfnet.UserError, match=why):
        fit("convex_newton", **own)


def test_auto_takes_the_fastest_for_convex_models():
    for loss, name in (("frobenius", "cd"), ("kl", "convex_newton")):
        for model in MODELS.values():
            assert fit("auto", loss=loss, max_iter=2, **model).solver.name == name


def test_auto_hands_over_what_crawls_and_a_restart_of_many_is_the_run_alone():
    own = {"model": "autoencoder", "loss": "frobenius", "max_iter": 1200, "tol": 0.0}
    many, alone = (fit("auto", n_restarts=r, **own) for r in (2, 1))
    assert many.solver.late == {0, 1}
    assert "lbfgs went on from cd in 2 restarts." in many.notes
    assert torch.equal(many.objectives[0], alone.objectives[0])
    by_cd = fit("cd", **{**own, "max_iter": 1000})
    assert float(alone.objectives[0]) <= float(by_cd.objectives[0])


def test_lbfgs_measures_factors_where_they_are():
    """The balance of W and H that a penalty asks for is far from that of the starts."""
    on_H = {"penalty": "orthogonal", "penalty.orthogonal.on": "H", "tol": 1e-4}
    found = fit("lbfgs", data(16, 8), n_restarts=2, **on_H)
    assert found.converged.all()
    one, two = found.objectives.tolist()
    assert one == pytest.approx(two, rel=1e-3)


def test_lbfgs_refuses_a_model_with_an_objective_for_every_layer():
    with pytest.raises(nmfnet.UserError, match="one objective"):
        fit("lbfgs", model="hierarchical_nmf", **{"model.layers": [4, 3]})


def test_adam_hands_its_best_point_over_and_the_objective_falls_from_there(tmp_path):
    own = {"model": "deep_autoencoder", "model.hidden": [8], "solver.first": 40, "tol": 0.0}
    own |= {"solver.n_inner": 10, "max_iter": 120}
    found = fit("adam_lbfgs", run_dir=tmp_path, **own)
    with (tmp_path / "history.csv").open() as file:
        rows = [(int(r["iteration"]), float(r["objective"])) for r in csv.DictReader(file)]
    handed = next(value for i, value in rows if i == 40)
    after = [value for i, value in rows if i > 40]
    assert all(b <= a for a, b in pairwise([handed, *after]))
    assert after[0] < handed
    assert found.metrics["objective"] == pytest.approx(after[-1], rel=1e-9)


def test_minimise_finds_the_bounded_minimum_of_a_quadratic():
    """Against the solution by trying every set of entries at 0."""
    rng = torch.Generator().manual_seed(0)
    A = torch.randn(6, 6, generator=rng, dtype=torch.float64)
    A, b = A @ A.mT + torch.eye(6), 3 * torch.randn(6, generator=rng, dtype=torch.float64)
    bounded = torch.tensor([True, True, True, True, False, False])

    def slope(point):
        return float(point @ A @ point / 2 - b @ point), A @ point - b

    best = float("inf")
    for held in range(16):
        free = torch.tensor([i >= 4 or not held >> i & 1 for i in range(6)])
        point = torch.zeros(6, dtype=torch.float64)
        point[free] = torch.linalg.solve(A[free][:, free], b[free])
        if (point[bounded] >= 0).all():
            best = min(best, slope(point)[0])
    start = torch.ones(6, dtype=torch.float64)
    point, memory = minimise(slope, start, bounded, Memory(), 300, 5)
    assert slope(point)[0] == pytest.approx(best, rel=1e-9)
    assert (point[bounded] >= 0).all()
    assert len(memory.steps) <= 5


def test_lbfgs_does_not_end_where_float32_tells_gradients_no_longer_apart():
    rng = np.random.default_rng(5)
    X = (
        rng.exponential(size=(25, 3))
        @ rng.exponential(size=(3, 9))
        * rng.uniform(0.8, 1.2, (25, 9))
    )
    own = {"penalty": ["min_volume", "l2"], "penalty.min_volume.weight": 2.0,
           "penalty.min_volume.delta": 0.01, "penalty.l2.on": "W"}  # fmt: skip
    found = [
        nmfnet.fit(X, n_components=3, loss="kl", seed=3, threads=1, dtype=dtype, **own)
        for dtype in ("float32", "float64")
    ]
    assert all("lbfgs went on" in fitted.notes[-1] for fitted in found)
    single, double = (fitted.metrics["objective"] for fitted in found)
    assert single == pytest.approx(double, rel=1e-4)
