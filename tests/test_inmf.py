"""Integrative NMF: data sets of the same features, what they share, and codes that are aligned."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from kinds import QUIET, assert_restarts_are_runs, assert_resumes, run, started
from scipy.optimize import linear_sum_assignment, nnls
from shell import train

import nmfnet
from nmfnet.api import configuration
from nmfnet.core.objective import factor_sums
from nmfnet.data import InMemory, Stacked
from nmfnet.data.stream.source import Stream
from nmfnet.models._alignment import joint_clusters, mixing, quantile_aligned

SETS = ["a"] * 50 + ["b"] * 40
fit = functools.partial(
    nmfnet.fit, model="inmf", covariates=SETS, n_components=3, figures=False, threads=1
)


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X of two data sets, H with features of its own, and V: one component of each has private ones."""
    rng = np.random.default_rng(seed)
    H, V = np.zeros((3, 24)), np.zeros((2, 3, 24))
    for j in range(3):
        H[j, 6 * j : 6 * j + 6] = 0.5 + rng.exponential(size=6)
    for i in range(2):
        V[i, i, 18 + 3 * i : 21 + 3 * i] = 0.5 + rng.exponential(size=3)
    parts = [rng.dirichlet(np.full(3, 0.3), size=n) @ (H + V[i]) for i, n in enumerate((50, 40))]
    return np.vstack(parts), H, V


def test_sums_are_the_derivative_of_the_objective():
    X, *_ = planted()
    for mask in (None, np.random.default_rng(1).random(X.shape) < 0.8):
        source = InMemory(X=X + 0.1, covariates=SETS, mask=mask)
        model, batch = started(source, model="inmf", n_components=3, private_weight=2.0)
        value = sum(term.sum() for term in model.objective(batch).values())
        slopes = torch.autograd.grad(value, [f.raw for f in model.factors.values()])
        for name, slope in zip(model.factors, slopes, strict=True):
            neg, pos = factor_sums(model, name, batch)
            torch.testing.assert_close(pos - neg, slope, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_shared_and_private_parts_of_a_separable_design_are_found():
    X, H, V = planted()
    fitted = fit(X, private_weight=0.05, n_restarts=3, dtype="float64")
    assert fitted.metrics["converged"]
    found, own = fitted.components_, fitted.private_components
    order = linear_sum_assignment(-_cosine(H, found))[1]
    assert np.diag(_cosine(H, found[order])).min() > 0.99
    for i, name in enumerate("ab"):
        assert _cosine(V[i], own[name][order])[i, i] > 0.99
        assert fitted.metrics[f"dataset/{name}/relative_error"] < 0.05
    assert fitted.metrics["alignment/after"] > 0.8
    whole = fitted.reconstruct(X, covariates=SETS)
    assert np.linalg.norm(X - whole) < 0.05 * np.linalg.norm(X)


def _cosine(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(A, axis=1)[:, None] * np.linalg.norm(B, axis=1)
    return A @ B.T / np.maximum(size, 1e-12)


def test_new_rows_are_least_squares_of_their_data_set():
    X, *_ = planted()
    fitted = fit(X, private_weight=2.0, dtype="float64", max_iter=200)
    code = fitted.transform(X[[0, 60]], covariates=["a", "b"])
    for row, name, x in zip(code, "ab", X[[0, 60]], strict=True):
        V = fitted.private_components[name]
        both = np.hstack([fitted.components_ + V, np.sqrt(2) * V])
        wanted, _ = nnls(both.T, np.concatenate([x, np.zeros(24)]))
        np.testing.assert_allclose(row, wanted, rtol=1e-6, atol=1e-8)


def test_penalties_of_codes_count_for_new_rows_too():
    X, *_ = planted()
    on = "nmfnet.core.penalties.L1"
    own = {f"penalty.{f}": {"_target_": on, "on": f, "weight": 0.2} for f in ("W", "H")}
    fitted = fit(X, private_weight=1.0, dtype="float64", **own)
    code = fitted.factors["W"]()[0].detach().numpy()
    np.testing.assert_allclose(fitted.transform(X, covariates=SETS), code, atol=1e-3)


@pytest.mark.parametrize("solver", ["mu", "online"])
def test_a_sparse_x_is_fitted_as_a_dense_one(solver):
    X, *_ = planted()
    own = {"solver": solver, "dtype": "float64", "max_iter": 40}
    own |= {"batch_size": 30} if solver == "online" else {}
    one, other = fit(X, **own), fit(sp.csr_matrix(X), **own)
    np.testing.assert_allclose(one.components_, other.components_, rtol=1e-6, atol=1e-9)
    for name in ("objective", "train/relative_error", "dataset/a/private"):
        assert one.metrics[name] == pytest.approx(other.metrics[name], rel=1e-6)
    rows, which = X[[0, 60]], ["a", "b"]
    code = other.transform(sp.csr_matrix(rows), covariates=which)
    np.testing.assert_allclose(code, one.transform(rows, covariates=which), rtol=1e-6, atol=1e-9)


# ---------------------------------------------------------------------- minibatches
def test_a_step_with_all_rows_is_block_coordinate_descent():
    """W by least squares, row by row; a cycle over the rows of H, and one over those of every V_i."""
    X, *_ = planted()
    source, weight = InMemory(X=X + 0.1, covariates=SETS), 2.0
    model, batch = started(
        source, model="inmf", n_components=3, private_weight=weight, solver="online"
    )
    H = model.H()[0].detach().numpy().copy()
    V = model.V()[0].detach().numpy().reshape(2, 3, 24).copy()
    parts = [X[:50] + 0.1, X[50:] + 0.1]
    codes = []
    for x, v in zip(parts, V, strict=True):
        both = np.hstack([H + v, np.sqrt(weight) * v]).T
        codes.append(np.array([nnls(both, np.concatenate([row, np.zeros(24)]))[0] for row in x]))
    for j in range(3):
        slope = sum(w[:, j] @ (x - w @ (H + v)) for w, x, v in zip(codes, parts, V, strict=True))
        H[j] = np.maximum(0, H[j] + slope / sum(w[:, j] @ w[:, j] for w in codes))
    for w, x, v in zip(codes, parts, V, strict=True):
        for j in range(3):
            slope = w[:, j] @ (x - w @ (H + v) - weight * w @ v)
            v[j] = np.maximum(0, v[j] + slope / ((1 + weight) * w[:, j] @ w[:, j]))
    model.solver.step(model, batch, 1, [0])
    for factor, wanted in ((model.W, np.vstack(codes)), (model.H, H), (model.V, V)):
        found = factor()[0].detach().numpy().reshape(wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_minibatches_find_what_all_rows_find():
    X, H, V = planted()
    own = {"private_weight": 0.05, "n_restarts": 3, "dtype": "float64", "certificate_tol": None}
    whole = fit(X, **own)
    fitted = fit(X, solver="online", batch_size=30, max_iter=200, **own)
    assert 0.999 < fitted.metrics["objective"] / whole.metrics["objective"] < 1.01
    order = linear_sum_assignment(-_cosine(H, fitted.components_))[1]
    assert np.diag(_cosine(H, fitted.components_[order])).min() > 0.99
    for i, name in enumerate("ab"):
        assert _cosine(V[i], fitted.private_components[name][order])[i, i] > 0.99
    code = fitted.factors["W"]()[int(fitted.best)].detach().numpy()
    np.testing.assert_allclose(fitted.transform(X, covariates=SETS), code, atol=1e-9)


def test_a_data_set_without_a_row_in_a_batch_is_remembered():
    X, *_ = planted()
    model, batch = started(
        InMemory(X=X, covariates=SETS), model="inmf", n_components=3, solver="online"
    )
    model.solver.step(model, batch, 1, [0])
    model.solver.learn(model, batch.by_row(lambda tensor: tensor[:20]), 90, 1, [0])
    wanted = 70 / 90 * model.W()[0, 50:].mT @ batch.x[50:]
    torch.testing.assert_close(model.solver.B[0, 3:], wanted)


def test_minibatches_keep_the_promises_of_a_run(tmp_path):
    source = InMemory(X=planted()[0], covariates=SETS)
    own = {"model": "inmf", "n_components": 3, "solver": "online"}
    assert_restarts_are_runs(source, **own)
    assert_resumes(source, tmp_path, **own, batch_size=23)


def test_rows_on_disk_are_read_batch_by_batch(tmp_path, monkeypatch):
    """With the data sets from beside the file, as an h5ad has them."""
    X = planted()[0]
    np.save(tmp_path / "cells.npy", X)
    monkeypatch.setattr(Stream, "_covariates", lambda *_: {"donor": np.array(SETS)})
    words = {"data.path": str(tmp_path / "cells.npy"), "data.covariates": ["donor"]}
    words |= {"n_components": 3, "solver": "online", "batch_size": 23, "max_iter": 800}
    cfg = configuration({"model": "inmf", "data": "stream", "dtype": "float64", **QUIET, **words})
    found = run(cfg, write=False)
    whole = fit(X, dtype="float64", certificate_tol=None)
    assert found.metrics["objective"] == pytest.approx(whole.metrics["objective"], rel=0.01)
    code = found.model.transform(X, covariates={"donor": SETS})
    np.testing.assert_allclose(code, found.factors.W, atol=1e-9)


def test_minibatches_from_the_command_line(tmp_path):
    X, *_ = planted()
    features = [f"g{j}" for j in range(24)]
    words = []
    for name, part in (("a", X[:50]), ("b", X[50:])):
        own = write(tmp_path / f"{name}.csv", part, [f"s{i}" for i in range(len(part))], features)
        words += [f"data.tables.{name}.{key}={value}" for key, value in own.items()]
    done = train(
        "data=stacked", *words, "model=inmf", "model.n_components=3", "solver=online",
        "batch_size=32", "max_iter=60", "figures=false", "run_dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["solver"] == "online"
    code = np.load(tmp_path / "run" / "factors.npz")["W"]
    again = nmfnet.load(tmp_path / "run").transform(X, covariates={"dataset": SETS})
    np.testing.assert_allclose(again, code, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask": np.arange(90 * 24).reshape(90, 24) % 7 > 0}, "cannot leave entries out"),
        ({"penalty": "l1"}, "takes no penalty"),
        ({"loss": "kl"}, "of squared errors"),
        ({"constraint.W": "simplex"}, "needs non-negative"),
        ({"solver.forgetting": -1.0}, "forgetting=-1.0"),
    ],
)
def test_what_minibatches_refuse(settings, message):
    with pytest.raises(nmfnet.UserError, match=message):
        fit(planted()[0] + 0.1, solver="online", batch_size=30, **settings)


def test_what_inmf_refuses():
    X, *_ = planted()
    for settings, message in (
        ({"covariates": None}, "needs to know the data set of every sample"),
        ({"covariates": ["a"] * 90}, "two data sets or more"),
        ({"covariates": {"set": SETS, "depth": np.linspace(0.5, 1, 90)}}, "one covariate in text"),
        ({"loss": "kl"}, "of squared errors"),
        ({"private_weight": -1}, "private_weight"),
        ({"solver": "mu", "solver.fused": False}, "fused"),
    ):
        with pytest.raises(nmfnet.UserError, match=message):
            fit(X, **settings)
    assert "does not say what" in " ".join(fit(X, private_weight=0, max_iter=3).notes)


def test_quantiles_are_those_of_the_largest_data_set():
    """A monotone distortion of one data set is undone; small clusters stay, and it is said."""
    rng = np.random.default_rng(0)
    n = 200
    cluster = np.arange(2 * n) % 2
    W = rng.gamma(2, 0.1, size=(2 * n, 2))
    W[np.arange(2 * n), cluster] += 2 + rng.gamma(4, 0.3, size=2 * n)
    sets = np.repeat([0, 1], [n + 10, n - 10])
    W[sets == 1] = W[sets == 1] ** 1.5
    found = joint_clusters(W, sets)
    assert (found == cluster).mean() > 0.98
    aligned, moved = quantile_aligned(W, sets, cluster)
    assert moved.all()
    for c in (0, 1):
        one, other = (aligned[(sets == i) & (cluster == c)] for i in (0, 1))
        for q in (0.1, 0.5, 0.9):
            np.testing.assert_allclose(
                np.quantile(one, q, axis=0), np.quantile(other, q, axis=0), rtol=0.05
            )
    rows = (sets == 1) & (cluster == 0)
    order = np.argsort(W[rows, 0])
    assert (np.diff(aligned[rows, 0][order]) >= -1e-12).all()
    few = np.where(rows & (np.cumsum(rows) > 5), 1, cluster)
    _, moved = quantile_aligned(W, sets, few)
    assert not moved[rows & (few == 0)].any()
    assert moved[sets == 0].all()


def test_mixing_is_0_apart_and_1_together():
    rng = np.random.default_rng(0)
    W, sets = rng.normal(size=(300, 3)), np.repeat([0, 1], 150)
    assert mixing(W, sets) > 0.9
    assert mixing(W + 100 * sets[:, None], sets) == 0


# ---------------------------------------------------------------------- tables below each other
def write(path: Path, X: np.ndarray, names: list[str], features: list[str]) -> dict[str, str]:
    lines = [",".join(["", *features])]
    lines += [",".join([n, *map(str, row)]) for n, row in zip(names, X.tolist(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return {"path": str(path), "orientation": "samples_by_features"}


def test_data_sets_are_joined_by_feature(tmp_path):
    X, *_ = planted()
    features = [f"g{j}" for j in range(24)]
    back = np.arange(24)[::-1]
    tables = {
        "a": write(tmp_path / "a.csv", X[:50], [f"s{i}" for i in range(50)], features),
        "b": write(
            tmp_path / "b.csv",
            np.hstack([X[50:, back], np.ones((40, 1))]),
            [f"s{i}" for i in range(40)],
            [*(features[j] for j in back), "more"],
        ),
    }
    matrix = Stacked(tables=tables).read()
    matrix.check()
    np.testing.assert_array_equal(matrix.values, X)
    assert matrix.classes(np.arange(90))["dataset"] == SETS
    assert (matrix.sample_names[0], matrix.sample_names[50]) == ("a:s0", "b:s0")
    said = " ".join(matrix.notes())
    assert "1 of 25 features of the table 'b' are not in all tables" in said
    assert "DATASET:SAMPLE" in said
    words = [
        f"data.tables.{name}.{key}={value}"
        for name, own in tables.items()
        for key, value in own.items()
    ]
    done = train(
        "data=stacked", *words, "model=inmf", "model.n_components=3", "max_iter=50",
        "figures=false", "run_dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "mixing of the data sets, aligned" in done.out
    written = (tmp_path / "run" / "aligned.csv").read_text().splitlines()
    assert (written[0], len(written)) == ("sample,C1,C2,C3,cluster,moved", 91)
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"dataset/a/relative_error", "dataset/b/private", "alignment/after"} <= numbers.keys()


def test_bad_stacks_are_refused_in_a_sentence(tmp_path):
    X, *_ = planted()
    names, features = [f"s{i}" for i in range(50)], [f"g{j}" for j in range(24)]
    good = write(tmp_path / "a.csv", X[:50], names, features)
    other = write(tmp_path / "b.csv", X[:50], names, [f"h{j}" for j in range(24)])
    for tables, message in (
        ({}, "needs two tables or more"),
        ({"a": good}, "needs two tables or more"),
        ({"a": good, "b": {}}, r"data\.tables\.b needs a file"),
        ({"a": good, "b": other}, "no feature in common"),
        ({"a": good, "b": good | {"scaling": "none"}}, "a table has no such option"),
        ({"a": good, "b": good | {"path": "nowhere.csv"}}, r"table 'b': .*nowhere\.csv"),
    ):
        with pytest.raises(nmfnet.UserError, match=message):
            Stacked(tables=tables).read()
