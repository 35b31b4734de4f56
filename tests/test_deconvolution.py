"""Shares of known components: exact answers, known mixtures, honest intervals, clear refusals."""

from __future__ import annotations

import csv
import json
import pickle
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize, nnls
from scipy.stats import t as student
from shell import train as nmfnet_train

import nmfnet
from nmfnet.data.sources.known import with_markers
from nmfnet.data.sources.registry import source
from nmfnet.kernels.criterion import few_by_criterion
from nmfnet.kernels.refit import simplex_rows
from nmfnet.kernels.stepwise import few_weights
from nmfnet.metrics import share_errors
from nmfnet.models._rules import fit_correlation, p_values, stepwise, support_vectors

QUIET = {"figures": False, "threads": 1, "dtype": "float64"}
SUM_TO_ONE = {"constraint.W": "simplex_project"}


def mixtures(n: int = 8, f: int = 60, k: int = 4, noise: float = 0.0, seed: int = 0):
    """Samples of sum-to-one mixtures of k profiles, some shares exactly 0."""
    rng = np.random.default_rng(seed)
    H = rng.gamma(0.5, 100, (k, f))
    W = rng.dirichlet(np.full(k, 0.5), n)
    W[W < 0.05] = 0
    W /= W.sum(1, keepdims=True)
    return W @ H * np.exp(noise * rng.standard_normal((n, f))), W, H


# ---------------------------------------------------------------------- the sum to one
@pytest.mark.parametrize("weighted", [False, True])
def test_nearest_point_of_the_polytope_satisfies_its_kkt_conditions(weighted):
    X, _, H = mixtures(noise=0.8)
    V = np.random.default_rng(1).exponential(size=X.shape) if weighted else np.ones(X.shape)
    mask = torch.from_numpy(V) if weighted else None
    W = simplex_rows(torch.from_numpy(X), torch.from_numpy(H), mask).numpy()
    np.testing.assert_allclose(W.sum(1), 1, atol=1e-12)
    assert W.min() >= 0
    assert (W == 0).any()
    slope = ((W @ H - X) * V) @ H.T
    level = (slope * W).sum(1, keepdims=True)  # the multiplier of the sum
    size = np.abs(X @ H.T).max()
    assert (slope - level).min() >= -1e-9 * size
    assert np.abs((slope - level) * W).max() <= 1e-9 * size


def test_samples_without_noise_are_solved_exactly():
    X, W, H = mixtures()
    found = nmfnet.fit(X, "reference_nmf", H=H, **QUIET, **SUM_TO_ONE)
    np.testing.assert_allclose(found.transform(X), W, atol=1e-8)
    assert found.metrics["converged"]
    free = nmfnet.fit(X, "reference_nmf", H=H, **QUIET)
    np.testing.assert_allclose(free.transform(X), W, atol=1e-8)


# ---------------------------------------------------------------------- rules
def test_support_vectors_ignore_scale_and_offset_of_a_sample():
    X, _, H = mixtures(noise=0.2)
    W = support_vectors(X, H, None)
    np.testing.assert_allclose(W.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(support_vectors(3 * X + 7, H, None), W, atol=1e-6)
    assert (support_vectors(np.full((1, X.shape[1]), 5.0), H, None) == 0).all()


@pytest.mark.parametrize("rule", ["optimum", "svr", "stepwise"])
def test_missing_features_are_as_if_they_were_left_out(rule):
    X, _, H = mixtures(noise=0.2)
    keep = np.arange(X.shape[1]) % 3 > 0
    less = nmfnet.fit(X[:, keep], "reference_nmf", H=H[:, keep], rule=rule, **QUIET)
    for weight in (1.0, 1e-6, 1e6):
        mask = np.broadcast_to(weight * keep, X.shape).copy()
        mask[0] = weight  # every feature is seen somewhere
        fitted = nmfnet.fit(X, "reference_nmf", H=H, rule=rule, mask=mask, **QUIET)
        for name in ("component_0001", "component_0004", "correlation"):
            found, expected = (m.reports["proportions"][name][1:] for m in (fitted, less))
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_rule_is_what_transform_does_and_no_descent_moves_it():
    X, W, H = mixtures(noise=0.1)
    fitted = nmfnet.fit(X, "reference_nmf", H=H, rule="svr", **QUIET)
    assert any("no descent judges it" in note for note in fitted.notes)
    kept = fitted.factors["W"]()[0].detach().numpy()
    np.testing.assert_allclose(kept, support_vectors(X, H, None), atol=1e-9)
    np.testing.assert_allclose(fitted.transform(X), kept, atol=1e-9)
    assert fitted.metrics["converged"]
    assert np.corrcoef(kept.ravel(), W.ravel())[0, 1] > 0.9
    with pytest.raises(nmfnet.UserError, match=r"solver=gd has nothing to move.*solver=exact"):
        nmfnet.fit(X, "reference_nmf", H=H, rule="svr", solver="gd", **QUIET)


def test_steps_find_the_few_components_that_there_are():
    rng = np.random.default_rng(3)
    H = rng.dirichlet(np.full(40, 0.2), 12)
    W = np.zeros((6, 12))
    for row in W:
        row[rng.choice(12, 3, replace=False)] = rng.uniform(100, 300, 3)
    found = stepwise(0.05, 0.01)(rng.poisson(W @ H).astype(float), H, None)
    assert ((found > 0) == (W > 0)).all()
    chosen, weights, error = few_weights(W[0] @ H, H, 1e-6, 1e-9, 12)
    assert error < 1e-9
    np.testing.assert_allclose(weights, W[0, chosen], rtol=1e-8)


def criterion_of(x, H, chosen, gamma, kept=()):
    """By scipy: the best weights on these rows of H, and what the criterion says of them."""
    rows, total = H[list(chosen)], x.sum()

    def lost(w):
        y = w @ rows + 1e-12 * x.mean()
        return (y - x * np.log(y)).sum(), rows @ (1 - x / y)

    start = np.full(len(rows), total / rows.sum())
    own = minimize(lost, start, jac=True, bounds=[(0, None)] * len(rows), tol=1e-14)
    paid = len(set(chosen) - set(kept))
    return own.fun + paid * (np.log(total) / 2 + gamma * np.log(len(H))), own.x


@pytest.mark.parametrize("kept", [(), (0, 3)], ids=["all cost", "two are free"])
def test_the_criterion_chooses_what_no_other_set_beats(kept):
    rng = np.random.default_rng(1)
    H = rng.dirichlet(np.full(20, 0.3), 6)
    W = rng.exponential(size=(5, 6)) * (rng.random((5, 6)) < 0.4) * 200 + [[40, 0, 0, 0, 0, 0]]
    X = rng.poisson(W @ H).astype(float)
    found = few_by_criterion(X, H, gamma=0.5, kept=np.isin(np.arange(6), kept))
    for x, w in zip(X, found, strict=True):
        sets = [s for m in range(1, 7) for s in combinations(range(6), m) if set(kept) <= set(s)]
        best = min(sets, key=lambda s: criterion_of(x, H, s, 0.5, kept)[0])
        chosen = tuple(np.flatnonzero(w))
        assert set(chosen) <= set(best)
        assert set(best) - set(chosen) <= set(kept)  # these may be 0
        np.testing.assert_allclose(
            w[list(best)], criterion_of(x, H, best, 0.5)[1], rtol=1e-3, atol=1e-2
        )


@pytest.mark.parametrize("rule", ["svr", "stepwise", "ebic"])
def test_a_model_with_a_rule_is_pickled_and_has_no_state_but_its_own(rule):
    H = np.random.default_rng(0).integers(1, 50, (3, 12)).astype(float)
    X = np.random.default_rng(1).integers(0, 5, (6, 3)) @ H
    fitted = nmfnet.fit(X, "reference_nmf", H=H, rule=rule, loss="kl", **QUIET)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    assert "always" not in fitted.state_dict()  # which run folders of before do not have


def test_weights_of_entries_count_in_the_criterion_as_repeated_columns():
    rng = np.random.default_rng(2)
    H = rng.dirichlet(np.full(15, 0.3), 5)
    X = rng.poisson(rng.exponential(100, (8, 5)) @ H).astype(float)
    times = rng.integers(0, 3, 15)
    found = few_by_criterion(X, H, np.broadcast_to(times * 1.0, X.shape))
    again = few_by_criterion(np.repeat(X, times, 1), np.repeat(H, times, 1))
    np.testing.assert_allclose(found, again, rtol=1e-5, atol=1e-4)


def test_few_signatures_by_the_criterion_are_what_transform_gives_too():
    rng = np.random.default_rng(3)
    H = pd.DataFrame(rng.dirichlet(np.full(40, 0.2), 12), [f"S{i}" for i in range(12)])
    W = np.zeros((6, 12))
    for row in W:
        row[rng.choice(12, 3, replace=False)] = rng.uniform(100, 300, 3)
    X = pd.DataFrame(rng.poisson(W @ H))
    own = {"rule": "ebic", "loss": "kl", "always": ["S0", "SBS99"], **QUIET}
    fitted = nmfnet.fit(X, "reference_nmf", H=H, **own)
    found = fitted.factors["W"]()[0].detach().numpy()
    assert ((found > 0) | (np.arange(12) == 0) >= (W > 0)).all()
    assert ((found > 0) & (np.arange(12) > 0) <= (W > 0)).all()
    np.testing.assert_allclose(fitted.transform(X), found, rtol=1e-6)
    assert any("SBS99" in note and "no place" in note for note in fitted.notes)
    assert (fitted.transform(0 * X) == 0).all()
    with pytest.raises(nmfnet.UserError, match=r"ebic.*no whole numbers.*stepwise"):
        nmfnet.fit(X + 0.5, "reference_nmf", H=H, **own)


def test_an_unknown_component_explains_what_the_known_ones_cannot():
    X, _, H = mixtures(n=20, k=3)
    known = H[:2]
    without = nmfnet.fit(X, "reference_nmf", H=known, **QUIET)
    beside = nmfnet.fit(X, "reference_nmf", H=known, unknown=1, tol=1e-6, **QUIET)
    assert np.array_equal(beside.components_[:2], known)
    assert beside.component_names[2] == "unknown 1"
    assert beside.metrics["train/relative_error"] < 0.05 * without.metrics["train/relative_error"]


# ---------------------------------------------------------------------- what is said of them
def test_p_values_count_ties_against_a_sample():
    null = np.array([0.0, 0.0, 0.5, 0.9])
    np.testing.assert_allclose(p_values(np.array([0.0, 0.5, 0.95, -1]), null), [1, 0.6, 0.2, 1])
    rows = np.array([[1.0, 2, 3], [1, 1, 1]])
    np.testing.assert_allclose(fit_correlation(rows, np.array([[2.0, 4, 6], [1, 2, 3]])), [1, 0])


def test_errors_of_shares():
    true = np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])
    found = np.vstack([true + np.array([0.1, -0.1]), [[np.nan, np.nan]]])
    errors = share_errors(found, np.vstack([true, [[0.5, 0.5]]]), ["a", "b"])
    assert errors["rmse"] == pytest.approx(0.1)
    assert errors["r/a"] == pytest.approx(1)


def test_markers_are_what_no_other_component_has():
    H = np.full((3, 30), 10.0)
    H[0, 3:6], H[1, 10:13], H[2, 20:23] = 100, 80, 60
    matrix = nmfnet.data.Referred(of=nmfnet.data.InMemory(X=H), components=H).read()
    kept = with_markers(matrix, 3)
    names = [f"feature_{i:04d}" for i in (4, 5, 6, 11, 12, 13, 21, 22, 23)]
    assert kept.feature_names == names


def test_shares_of_cells_where_cells_differ_in_content(tmp_path):
    X, W, H = mixtures()
    names = list("abcd")
    content = dict(zip(names, [1.0, 2.0, 4.0, 0.5], strict=True))
    frame = pd.DataFrame(H, names)
    fitted = nmfnet.fit(
        X, "reference_nmf", H=frame.rename(columns=lambda j: f"feature_{j + 1:04d}"),
        content=content, run_dir=tmp_path / "run", **QUIET,
    )  # fmt: skip
    cells = W / np.array(list(content.values()))
    table = pd.read_csv(tmp_path / "run" / "proportions.csv", index_col=0)
    np.testing.assert_allclose(table[names], cells / cells.sum(1, keepdims=True), atol=1e-6)
    assert fitted.component_names == names


def frames():
    X, W, H = mixtures()
    names = [f"g{j}" for j in range(X.shape[1])]
    return pd.DataFrame(X, columns=names), W, pd.DataFrame(H, list("abcd"), names)


def test_a_frame_of_components_is_joined_by_name():
    X, W, H = frames()
    order = np.random.default_rng(0).permutation(H.shape[1])
    fitted = nmfnet.fit(X, "reference_nmf", H=H.iloc[:, order[:50]], **QUIET)
    np.testing.assert_allclose(fitted.transform(X[fitted.feature_names]), W, atol=1e-8)
    assert any(note.startswith("50 features are shared: 100%") for note in fitted.notes)


def test_an_association_that_types_make_vanishes_beside_their_shares():
    """Cases have more of one type; five genes are more active in them as well."""
    rng = np.random.default_rng(0)
    case = np.arange(100) % 2
    H = rng.gamma(0.7, 100, (3, 205)) + 5
    W = np.stack([rng.dirichlet([4 + 6 * c, 4, 4]) for c in case])
    X = W @ H * np.exp(0.15 * rng.standard_normal((100, 205)))
    X[case == 1, :5] *= 2
    found = nmfnet.fit(X, "reference_nmf", H=H, **QUIET, **SUM_TO_ONE).transform(X)

    def hits(beside) -> np.ndarray:
        design = np.hstack([case[:, None], beside])
        inverse = np.linalg.pinv(design)
        b, free = inverse @ X, len(X) - design.shape[1]
        error = ((X - design @ b) ** 2).sum(0) / free * (inverse[0] @ inverse[0])
        return np.abs(b[0]) / np.sqrt(error) > student.ppf(0.975, free)

    alone, corrected = hits(np.ones((100, 1))), hits(found)
    assert alone[5:].mean() > 0.5
    assert corrected[5:].mean() < 0.12
    assert corrected[:5].all()


# ---------------------------------------------------------------------- bad input
def test_unusable_profiles_are_refused_in_a_sentence():
    X, _, H = frames()
    for settings, said in (
        (
            {"H": H.rename(columns=lambda n: f"x{n}")},
            "shares 0 of its 60 features.*same kind of names",
        ),
        ({"H": H, "X": 50 * X, **SUM_TO_ONE}, "rows of X sum to .*set model.scale=both"),
        ({"H": H, "rule": "svr", "unknown": 1}, "says nothing of unknown components"),
        ({"H": H, "content": {"a": 1.0}}, "says nothing of 'b' .3 of 4"),
        ({"H": H.iloc[:1], "markers": 5}, "two known components at least"),
        ({"H": H, "add": 0.01, "remove": 0.02}, "remove must be below add"),
    ):
        data = settings.pop("X", X)
        with pytest.raises(nmfnet.UserError, match=said):
            nmfnet.fit(data, "reference_nmf", **settings, **QUIET)


def test_logarithms_are_refused_and_counts_are_not():
    X, _, H = mixtures(f=200)
    with pytest.raises(nmfnet.UserError, match=r"look like logarithms.*linear scale only"):
        nmfnet.fit(np.log2(X + 1), "reference_nmf", H=H, **QUIET)
    nmfnet.fit(np.log2(X + 1), "reference_nmf", H=H, logs="allow", **QUIET)
    nmfnet.fit(np.round(np.log2(X + 1)), "reference_nmf", H=H, **QUIET)
    shares, profiles = X / X.sum(1, keepdims=True), H / H.sum(1, keepdims=True)
    nmfnet.fit(shares, "reference_nmf", H=profiles, **QUIET)


def test_components_that_are_alike_are_named():
    X, _, H = frames()
    H.loc["b"] = H.loc["a"] * 1.01
    fitted = nmfnet.fit(X, "reference_nmf", H=H, **QUIET)
    assert any("a and b, cosine 1.0000" in note for note in fitted.notes)
    assert any("Condition number of the 4" in note for note in fitted.notes)


def test_a_sample_without_reads_has_no_shares(tmp_path):
    X, _, H = frames()
    X.iloc[2] = 0
    fitted = nmfnet.fit(
        X, "reference_nmf", H=H, run_dir=tmp_path / "run", bootstrap=3, permutations=5,
        **{**QUIET, "figures": True}, **SUM_TO_ONE,
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "run" / "proportions.csv", index_col=0)
    assert table.isna().all(axis=1).tolist() == [i == 2 for i in range(len(X))]
    assert table.notna().any(axis=1).sum() == len(X) - 1
    assert any("zero in every feature" in note for note in fitted.notes)
    assert (tmp_path / "run" / "figures" / "proportions.png").is_file()


# ---------------------------------------------------------------------- the command
def test_command_line(tmp_path):
    X, W, H = frames()
    X.index = [f"s{i}" for i in range(len(X))]
    X.T.to_csv(tmp_path / "bulk.tsv", sep="\t")
    H.T.to_csv(tmp_path / "types.csv")
    pd.DataFrame(W, X.index, list("abcd")).iloc[::-1].to_csv(tmp_path / "truth.csv")
    done = nmfnet_train(
        "experiment=deconvolve", "data=table", f"data.path={tmp_path / 'bulk.tsv'}",
        "data.orientation=features_by_samples", f"model.reference={tmp_path / 'types.csv'}",
        f"data.truth={tmp_path / 'truth.csv'}", "model.bootstrap=5", "model.permutations=9",
        f"run_dir={tmp_path / 'run'}", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["truth/rmse"] < 1e-6
    with (tmp_path / "run" / "proportions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == list(X.index)
    np.testing.assert_allclose([[float(row[t]) for t in "abcd"] for row in rows], W, atol=1e-6)
    assert {row["p"] for row in rows} == {"0.1"}
    assert all(
        (tmp_path / "run" / "figures" / f"{n}.png").is_file() for n in ("proportions", "truth")
    )


# ---------------------------------------------------------------------- published mixtures
def errors(name: str, **settings) -> dict[str, float]:
    matrix = source(name).read()
    model = nmfnet.fit(
        pd.DataFrame(matrix.values, columns=matrix.feature_names), "reference_nmf",
        H=pd.DataFrame(matrix.reference.values, matrix.reference.names, matrix.feature_names),
        **QUIET, **settings,
    )  # fmt: skip
    W = model.factors["W"]()[0].detach().numpy()
    return share_errors(W / W.sum(1, keepdims=True), matrix.truth.W, matrix.truth.names)


@pytest.mark.slow
@pytest.mark.catalogue
def test_rat_tissues():
    exact = errors("ratmix3", **SUM_TO_ONE)
    assert exact["r"] >= 0.99
    assert exact["rmse"] <= 0.037
    assert errors("ratmix3", rule="svr", markers=100)["r"] >= 0.985


@pytest.mark.catalogue
@pytest.mark.slow
def test_rna_of_cell_lines_needs_markers():
    assert errors("sc-mixology-rnamix", markers=100, scale="both")["r"] >= 0.90
    assert errors("sc-mixology-rnamix", scale="both")["r"] < 0.75


@pytest.mark.catalogue
def test_scipy_agrees_on_rat_tissues():
    matrix = source("ratmix3").read()
    H = matrix.reference.values
    W = nmfnet.fit(matrix.values, "reference_nmf", H=H, **QUIET).transform(matrix.values)
    expected = np.array([nnls(H.T, row)[0] for row in matrix.values])
    np.testing.assert_allclose(W, expected, atol=1e-6)


@pytest.mark.slow
def test_chance_gives_the_p_values_that_it_should(tmp_path):
    """Samples of values drawn from a pool hold nothing: 5 % of them may look as if they did."""
    rng = np.random.default_rng(0)
    pool = mixtures(n=50, f=100, noise=0.3)[0].ravel()
    H = mixtures(n=50, f=100)[2]
    X = rng.choice(pool, (2000, 100))
    nmfnet.fit(
        X, "reference_nmf", H=H, permutations=2000, run_dir=tmp_path / "run", **QUIET, **SUM_TO_ONE
    )
    p = pd.read_csv(tmp_path / "run" / "proportions.csv")["p"]
    assert 0.03 <= (p < 0.05).mean() <= 0.07


@pytest.mark.slow
def test_intervals_cover_the_truth(tmp_path):
    rng = np.random.default_rng(1)
    H = rng.gamma(2, 50, (4, 300))
    W = rng.dirichlet(np.full(4, 3), 60)
    X = np.clip(W @ H + 20 * rng.standard_normal((60, 300)), 0, None)
    nmfnet.fit(
        X, "reference_nmf", H=H, bootstrap=200, run_dir=tmp_path / "run", **QUIET, **SUM_TO_ONE
    )
    table = pd.read_csv(tmp_path / "run" / "proportions.csv")
    names = [f"component_{i + 1:04d}" for i in range(4)]
    low, high = (table[[f"{n} {end}" for n in names]].to_numpy() for end in ("low", "high"))
    assert 0.80 <= ((low <= W) & (high >= W)).mean() <= 0.99
