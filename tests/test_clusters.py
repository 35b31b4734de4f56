"""Clusters: k-means, cuts by eigenvectors, tri-factorisations, and what they have to do with each
other."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from kinds import started
from shell import refusal, the_run, train
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.cluster import SpectralCoclustering as Coclustering
from sklearn.metrics import adjusted_rand_score as agreement

import nmfnet
from nmfnet.data import InMemory
from nmfnet.data.sources.registry import source
from nmfnet.solvers.loops import updates
from nmfnet.solvers.multiplicative import exponent_of
from nmfnet.types import Batch

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")


def fit(X: Any, model: str, **settings: Any):
    own = {"dtype": "float64", "figures": False, "threads": 1}
    return nmfnet.fit(X, model, **{**own, **settings})


def blocks(n: int = 60, groups: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    group = np.arange(n) % groups
    chance = np.where(group[:, None] == group, 0.6, 0.05)
    upper = np.triu(rng.random((n, n)) < chance, 1)
    return (upper | upper.T).astype(float), group


def normalised(A: np.ndarray) -> np.ndarray:
    root = np.sqrt(A.sum(1))
    return A / root[:, None] / root


def partition(clusters: np.ndarray) -> np.ndarray:
    P = np.eye(clusters.max() + 1)[clusters]
    return P / np.sqrt(P.sum(0))


def clusters_of(model, X) -> tuple[np.ndarray, np.ndarray | None]:
    """Of the training rows, and of features."""
    x = torch.from_numpy(X.toarray() if sp.issparse(X) else X)
    with torch.no_grad(), model.restarts(int(model.best)):
        rows = model.clusters(model.encode(Batch(x, torch.arange(len(x)))))
        columns = model.feature_clusters()
    return rows.numpy(), None if columns is None else columns.numpy()


# ---------------------------------------------------------------------- k-means
def points() -> tuple[np.ndarray, np.ndarray]:
    group = np.arange(40) % 4
    return 6 * np.eye(4, 5)[group] + np.random.default_rng(0).normal(size=(40, 5)), group


@pytest.mark.parametrize("sparse", [False, True])
def test_kmeans_is_the_factorisation_with_one_entry_per_row(sparse):
    X, group = points()
    given = sp.csr_matrix(X) if sparse else X
    fitted = fit(given, "kmeans", n_components=4, n_restarts=5)
    best = KMeans(4, n_init=20, random_state=0).fit(X)
    assert 2 * fitted.metrics["objective"] == pytest.approx(best.inertia_, rel=1e-9)
    assert fitted.metrics["converged"]
    W = fitted.transform(given)
    assert set(np.unique(W)) == {0, 1}
    assert (W.sum(1) == 1).all()
    assert agreement(group, W.argmax(1)) == 1
    P = partition(W.argmax(1))
    trace = np.trace(X @ X.T) - np.trace(P.T @ X @ X.T @ P)  # Ding, He & Simon
    assert 2 * fitted.metrics["objective"] == pytest.approx(trace, rel=1e-9)


def test_more_clusters_than_distinct_rows_are_copies():
    X = np.repeat(points()[0][:4], 3, 0)
    metrics = fit(X, "kmeans", n_components=6).metrics
    assert metrics["components/collapsed"] >= 2
    assert metrics["objective"] == pytest.approx(0, abs=1e-9)


def test_kmeans_follows_lloyd_from_given_centres():
    X, _ = points()
    H = X[:4]
    fitted = fit(X, "kmeans", n_components=4, H=H, init="given")
    rule = KMeans(4, init=H, n_init=1, tol=0).fit(X)
    np.testing.assert_allclose(fitted.components_, rule.cluster_centers_, rtol=1e-10)


# ---------------------------------------------------------------------- cuts
@pytest.mark.parametrize("sparse", [False, True])
def test_the_normalised_cut_is_that_of_scikit_learn(sparse):
    A, group = blocks()
    given = sp.csr_matrix(A) if sparse else A
    fitted = fit(given, "spectral", n_components=3, relaxation="normalized_cut")
    theirs = SpectralClustering(3, affinity="precomputed", random_state=0).fit_predict(A)
    rows, _ = clusters_of(fitted, A)
    assert agreement(rows, theirs) == 1 == agreement(rows, group)
    code, degrees = fitted.transform(given), A.sum(1)
    values, vectors = np.linalg.eigh(normalised(A))
    wanted = vectors[:, :-4:-1] / np.sqrt(degrees)[:, None]
    np.testing.assert_allclose(np.abs(code), np.abs(wanted), atol=1e-9)
    assert fitted.metrics["converged"]
    rest = 0.5 * (values**2).sum() - 0.5 * (values[-3:] ** 2).sum()
    assert fitted.metrics["objective"] == pytest.approx(rest, rel=1e-9)


def test_lanczos_finds_the_same_eigenvectors(monkeypatch):
    A, _ = blocks()
    dense = fit(A, "spectral", n_components=3)
    monkeypatch.setattr("nmfnet.models.spectral.DENSE", 1)
    for given in (A, sp.csr_matrix(A)):
        found = fit(given, "spectral", n_components=3)
        np.testing.assert_allclose(found.transform(given), dense.transform(A), atol=1e-7)


def test_a_new_node_lies_by_its_links():
    A, group = blocks()
    fitted = fit(A, "spectral", n_components=3)
    new = torch.from_numpy(fitted.transform((group == 1).astype(float)[None]))
    with torch.no_grad(), fitted.restarts(0):
        cluster = int(fitted.clusters(new)[0])
    assert cluster == np.bincount(clusters_of(fitted, A)[0][group == 1]).argmax()
    assert not fitted.transform(np.zeros((1, 60))).any()


def test_one_objective_has_three_relaxations_which_agree():
    """Ding, He & Simon: any sign is below H >= 0, which is below partitions; all find the blocks."""
    A, group = blocks(90)
    A = normalised(A)
    free = fit(A, "spectral", n_components=3, relaxation="kernel_kmeans")
    positive = fit(A, "sym_nmf", n_components=3, n_restarts=3)
    P = partition(group)
    hard = 0.5 * ((A - P @ P.T) ** 2).sum()
    values = [free.metrics["objective"], positive.metrics["objective"], hard]
    assert values == sorted(values)
    assert hard == pytest.approx(0.5 * ((A**2).sum() - 2 * np.trace(P.T @ A @ P) + 3), rel=1e-9)
    for fitted in (free, positive):
        assert agreement(group, clusters_of(fitted, A)[0]) == 1


@pytest.mark.parametrize("sparse", [False, True])
def test_co_clusters_are_those_of_scikit_learn(sparse):
    rng = np.random.default_rng(0)
    rows, columns = np.arange(60) % 4, np.arange(40) % 4
    X = rng.poisson(np.where(rows[:, None] == columns, 4.0, 0.3)).astype(float)
    fitted = fit(sp.csr_matrix(X) if sparse else X, "spectral_coclustering", n_components=4)
    theirs = Coclustering(4, random_state=0).fit(X)
    found = clusters_of(fitted, X)
    assert agreement(theirs.row_labels_, found[0]) == 1 == agreement(rows, found[0])
    assert agreement(theirs.column_labels_, found[1]) == 1
    np.testing.assert_array_equal(found[0] == found[0][0], np.isin(rows, rows[0]))
    assert fitted.metrics["converged"]
    Z = X / np.sqrt(X.sum(1))[:, None] / np.sqrt(X.sum(0))
    values = np.linalg.svd(Z)[1]
    assert fitted.metrics["objective"] == pytest.approx(0.5 * (values[3:] ** 2).sum(), rel=1e-9)


@pytest.mark.parametrize(
    ("model", "X", "settings", "message"),
    [
        ("kmeans", np.eye(3), {"n_components": 4}, "there are 3 samples"),
        ("kmeans", np.eye(3), {"n_components": 2, "loss": "kl"}, "use loss=frobenius"),
        ("kmeans", np.eye(3), {"n_components": 2, "mask": 1 - np.eye(3)}, "needs all entries"),
        ("spectral", np.ones((3, 2)), {"n_components": 2}, "needs a graph, and X is 3 x 2"),
        ("spectral", -np.ones((3, 3)), {"n_components": 2}, "a cut is of links >= 0"),
        ("spectral", np.ones((3, 3)), {"n_components": 3}, "only 1 eigenvalues"),
        ("spectral", np.triu(np.ones((3, 3))), {"n_components": 2}, "X is not symmetric"),
        ("spectral_coclustering", np.ones((3, 3)), {"n_components": 1}, "has 2 to 4 parts"),
        ("trifactor", np.ones((3, 4)), {"n_components": 5}, "the 3 samples"),
        ("nmf", np.ones((3, 4)), {"constraint.W": "orthogonal", "solver": "mu"}, "never moves.*ding"),
        ("nmf", np.ones((3, 4)), {"solver": "ding"}, "and none is"),
    ],
)  # fmt: skip
def test_what_has_no_clusters_is_refused_in_a_sentence(model, X, settings, message):
    with pytest.raises(nmfnet.UserError, match=message):
        fit(X, model, **settings)


def test_nodes_without_links_are_told():
    A, _ = blocks()
    A[7] = A[:, 7] = 0
    fitted = fit(A, "spectral", n_components=3)
    assert "1 nodes have no links" in " ".join(fitted.notes)
    assert not fitted.transform(A)[7].any()


# ---------------------------------------------------------------------- three factors
def table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three groups of rows, four of columns."""
    rng = np.random.default_rng(0)
    rows, columns = np.arange(45) % 3, np.arange(40) % 4
    means = np.array([[5, 1, 1, 3], [1, 5, 1, 3], [1, 1, 5, 0.3]])
    return rng.poisson(means[rows][:, columns]).astype(float), rows, columns


def test_orthogonal_factors_have_one_component_for_each_sample_and_feature():
    """Whichever way a factor lies."""
    same = np.arange(30)[:, None] % 3 == np.arange(9) % 3
    fitted = fit(same + 0.01, "nmf", n_components=3, constraint="orthogonal", max_iter=100)
    W, H = fitted.transform(same + 0.01), fitted.components_
    assert ((W > 0).sum(1) == 1).all()
    assert ((H > 0).sum(0) == 1).all()
    assert agreement(np.arange(9) % 3, H.argmax(0)) == 1


@pytest.mark.quick("both")
@pytest.mark.parametrize("orthogonal", ["F", "G", "both"])
def test_orthogonal_groups_of_samples_and_features(orthogonal):
    X, rows, columns = table()
    own = {"n_components": 3, "n_feature_components": 4, "n_restarts": 3}
    fitted = fit(X, "trifactor", orthogonal=orthogonal, **own)
    assert (fitted.metrics["solver"], fitted.metrics["status"]) == ("ding", "converged")
    F, G = (fitted.factors[n]()[int(fitted.best)].detach().numpy() for n in "FG")
    if orthogonal != "G":
        assert ((F > 0).sum(1) == 1).all()
        assert agreement(rows, F.argmax(1)) == 1
        np.testing.assert_allclose(fitted.transform(X), F, rtol=0.02, atol=1e-3)
    if orthogonal != "F":
        assert ((G > 0).sum(0) == 1).all()
        assert agreement(columns, G.argmax(0)) == 1
    if orthogonal == "both":  # S is F'XG' of orthonormal columns
        S = fitted.factors["S"]()[int(fitted.best)].detach().numpy()
        f, g = np.linalg.norm(F, axis=0), np.linalg.norm(G, axis=1)
        np.testing.assert_allclose(
            f[:, None] * S * g, (F / f).T @ X @ (G / g[:, None]).T, rtol=1e-3
        )


def test_with_s_of_one_three_factors_are_two():
    X, _, _ = table()
    rng = np.random.default_rng(1)
    left, right = (torch.from_numpy(rng.random(shape)) for shape in ((45, 3), (3, 40)))
    found = []
    for model, names in (("trifactor", "FG"), ("nmf", "WH")):
        fitted, batch = started(InMemory(X=X), model=model, n_components=3, solver="mu")
        for name, value in zip(names, (left, right), strict=True):
            fitted.factors[name].assign_(value)
        if model == "trifactor":
            fitted.factors["S"].assign_(torch.eye(3))
        exponents = {name: exponent_of(fitted, name) for name in names}
        with torch.no_grad(), fitted.restarts(0):
            updates(fitted, batch, [None] * 5, {}, exponents, True)
        found.append([fitted.factors[name]()[0] for name in names])
    for three, two in zip(*found, strict=True):
        torch.testing.assert_close(three, two, rtol=1e-10, atol=1e-12)


def test_links_between_groups_are_off_the_diagonal():
    """A bipartite graph, whose groups have no links within: symmetric NMF has no room for them."""
    rng = np.random.default_rng(0)
    group = np.arange(40) % 2
    upper = np.triu(rng.random((40, 40)) < np.where(group[:, None] != group, 0.6, 0.02), 1)
    A = (upper | upper.T).astype(float)
    fitted = fit(A, "sym_trifactor", n_components=2, n_restarts=5, assortative=False)
    two = fit(A, "sym_nmf", n_components=2)
    assert (
        agreement(group, clusters_of(fitted, A)[0]) == 1 > agreement(group, clusters_of(two, A)[0])
    )
    S = fitted.factors["S"]()[int(fitted.best)].detach()
    assert float(S.diagonal().sum()) < 0.1 * float(S.sum())
    assert fitted.metrics["objective"] < 0.9 * two.metrics["objective"]


def test_clusters_are_in_the_run_folder(tmp_path):
    X, rows, columns = table()
    np.savetxt(tmp_path / "X.csv", X, delimiter=",")
    words = [
        "data=table",
        "data.path=X.csv",
        "data.orientation=samples_by_features",
        "model=trifactor",
        "model.orthogonal=both",
        "figures=false",
    ]
    done = train(*words, "model.n_components=3", "model.n_feature_components=4", cwd=tmp_path)
    assert done.code == 0, done.err
    for file, truth in (("clusters", rows), ("feature_clusters", columns)):
        with (the_run(tmp_path) / f"{file}.csv").open() as stream:
            found = [int(row["cluster"]) for row in csv.DictReader(stream)]
        assert agreement(truth, found) == 1
    assert "a cut of" in refusal(
        "model=spectral_coclustering", "model.n_components=1", *words[:3], cwd=tmp_path
    )


# ---------------------------------------------------------------------- published data
@pytest.mark.catalogue
def test_three_groups_of_points_are_cut():
    matrix = replace(source("graph-clusters"), normalize="none").read()
    for relaxation in ("njw", "normalized_cut"):
        fitted = fit(matrix.values, "spectral", n_components=3, relaxation=relaxation)
        assert agreement(matrix.labels, clusters_of(fitted, matrix.values)[0]) == 1


def test_no_sample_of_orthogonal_factors_is_better_off_elsewhere():
    X = np.random.default_rng(7).gamma(1, size=(18, 7))
    fitted = fit(X, "trifactor", n_components=3, orthogonal="F", dtype="float64", seed=1)
    F = fitted.factors["F"]()[0].detach().numpy()
    again = fitted.transform(X)
    assert (F.argmax(1) == again.argmax(1)).all()
    left, least = (((X - W @ fitted.components_) ** 2).sum() for W in (F, again))
    assert left <= least * (1 + 1e-3)
