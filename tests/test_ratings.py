"""Lists of ratings, and matrix factorisation with biases on the listed entries."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from shell import train as nmfnet_train

import nmfnet
from nmfnet.api import configuration
from nmfnet.core.inference import fold_in
from nmfnet.core.reading import new_rows
from nmfnet.core.starting import initialise
from nmfnet.data import (
    ColdSplit,
    EntrySplit,
    NoSplit,
    RowSplit,
    TimeSplit,
    Triples,
)
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sources.source import Held
from nmfnet.kernels.weighted import ridge_rows
from nmfnet.run.checkpoint import assemble, task_of
from nmfnet.run.train import train
from nmfnet.solvers.base import total
from nmfnet.solvers.choice import check_solver

COLUMNS = {"row": "user", "column": "item", "value": "rating"}
QUIET = {"figures": False, "threads": 1, "progress": False}


def ratings(n: int = 40, f: int = 25, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ratings of rank 2 with biases, and which of them are listed."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2)) @ rng.normal(size=(2, f)) * 0.5
    X += 3 + rng.normal(size=(n, 1)) * 0.4 + rng.normal(size=f) * 0.4
    X += rng.normal(size=(n, f)) * 0.1
    mask = rng.random((n, f)) < 0.5
    mask[np.arange(n), np.arange(n) % f] = True
    return X, mask


def listed(X, mask, *, sparse=True):
    """The matrix that a list of these entries is read as."""
    from nmfnet.data.matrix import Matrix

    held = sp.csr_matrix(mask)
    values = sp.csr_matrix((X[mask], held.indices, held.indptr), shape=X.shape)
    return Matrix(
        values if sparse else np.where(mask, X, 0.0),
        [f"u{i}" for i in range(len(X))],
        [f"i{j}" for j in range(X.shape[1])],
        mask=held if sparse else mask,
    )


def run(matrix, **settings):
    own = {"model": "biased_mf", "n_components": 2, "dtype": "float64", **QUIET, **settings}
    result = train(configuration(own), Held(matrix), write=False)
    result.model.metrics = result.metrics
    return result.model


def codes(model) -> np.ndarray:
    """P and b of the training rows."""
    return torch.cat([model.P()[0], model.b()[0]], -1).detach().numpy()


def write(folder, text, name="r.csv"):
    file = folder / name
    file.write_text(text)
    return str(file)


# ---------------------------------------------------------------------- data=triples
def test_only_what_is_listed_is_observed(tmp_path):
    text = "item,user,rating,when\nb,10,4.5,x\na,9,0,x\na,10,2,x\nc,01,1,x\n"
    matrix = Triples(path=write(tmp_path, text), **COLUMNS).read()
    matrix.check()
    assert matrix.sample_names == ["01", "9", "10"]
    assert matrix.feature_names == ["a", "b", "c"]
    assert matrix.is_sparse
    np.testing.assert_array_equal(
        matrix.mask.toarray(), [[False, False, True], [True, False, False], [True, True, False]]
    )
    np.testing.assert_array_equal(matrix.values.toarray(), [[0, 0, 1], [0, 0, 0], [2, 4.5, 0]])
    dense = Triples(path=write(tmp_path, text), sparse=False, **COLUMNS).read()
    np.testing.assert_array_equal(dense.values, matrix.values.toarray())
    np.testing.assert_array_equal(dense.mask, matrix.mask.toarray())


def test_tabs_and_parquet_are_the_same_list(tmp_path):
    frame = pd.DataFrame({"user": [1, 2, 2], "item": ["x", "x", "y"], "rating": [1.0, 2.0, 3.0]})
    frame.to_csv(tmp_path / "r.csv", index=False)
    frame.to_csv(tmp_path / "r.tsv.gz", index=False, sep="\t")
    frame.to_parquet(tmp_path / "r.parquet")
    prints = {
        Triples(path=str(tmp_path / name), **COLUMNS).read().fingerprint()
        for name in ("r.csv", "r.tsv.gz", "r.parquet")
    }
    assert len(prints) == 1


def test_repeats_are_refused_or_averaged_by_weight(tmp_path):
    file = write(tmp_path, "user,item,rating,w\na,x,1,1\na,x,4,2\nb,x,2,1\n")
    with pytest.raises(nmfnet.UserError, match=r"lists 1 pairs again.*user 'a', item 'x'.*mean"):
        Triples(path=file, **COLUMNS).read()
    matrix = Triples(path=file, duplicates="mean", **COLUMNS).read()
    np.testing.assert_array_equal(matrix.values.toarray(), [[2.5], [2]])
    assert "averaged" in matrix.notes()[0]
    weighted = Triples(path=file, duplicates="mean", weight="w", **COLUMNS).read()
    np.testing.assert_array_equal(weighted.values, [[3], [2]])
    np.testing.assert_array_equal(weighted.mask, [[3], [1]])


def test_rare_columns_are_left_out(tmp_path):
    file = write(tmp_path, "user,item,rating\na,x,1\nb,x,2\nb,y,3\n")
    assert Triples(path=file, min_per_column=2, **COLUMNS).read().feature_names == ["x"]
    with pytest.raises(nmfnet.UserError, match=r"min_per_column=9 leaves no item"):
        Triples(path=file, min_per_column=9, **COLUMNS).read()


BAD = [
    ("", {}, "empty"),
    ("user,item,rating\n", {}, "header and no entries"),
    ("user,item,ratings\na,x,1\n", {}, r"data.value='rating' is not a column.*Did you mean"),
    ("user,item,rating\na,x,1\nb,y,good\nc,y,?\n", {}, r"2 cells.*'good'; lines '3', '4'"),
    ("user,item,rating\na,x,\n", {}, "not finite"),
    ("user,item,rating\na,x,inf\n", {}, "not finite"),
    ("user,item,rating\n,x,1\n", {}, r"without 'user' \(first: line 2\)"),
    ("user,item,rating,w\na,x,1,-1\n", {"weight": "w"}, r"1 weights.*negative.*-1 in line 2"),
    ("user,item,rating,w\na,x,1,nan\n", {"weight": "w"}, r"column 'w'.*not finite"),
    ("user,item,rating,w\na,x,1,1\n", {"weight": "w", "sparse": True}, "data.sparse=false"),
    ("user,item,rating\na,x,1\n", {"duplicates": "first"}, "Allowed: error, mean"),
    ("user,item,rating\na,x,1\n", {"min_per_column": 0}, "at least 1"),
]


@pytest.mark.parametrize(("text", "options", "words"), BAD, ids=[words[:20] for *_, words in BAD])
def test_bad_lists_are_refused_in_a_sentence(tmp_path, text, options, words):
    with pytest.raises(nmfnet.UserError, match=words):
        Triples(path=write(tmp_path, text), **COLUMNS, **options).read()


def test_another_format_is_refused(tmp_path):
    with pytest.raises(nmfnet.UserError, match=r"not '\.npz'"):
        Triples(path=write(tmp_path, "x", "r.npz"), **COLUMNS).read()


# ---------------------------------------------------------------------- the optimum
@pytest.mark.quick("sparse")
@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
def test_solvers_agree_on_the_optimum(sparse):
    X, mask = ratings()
    found = {}
    for solver in ("auto", "lbfgs", "gd"):
        fitted = run(listed(X, mask, sparse=sparse), solver=solver, tol=1e-8, max_iter=5000)
        found[fitted.metrics["solver"]] = fitted.metrics["objective"]
    assert set(found) == {"weighted_als", "lbfgs", "gd"}
    assert max(found.values()) / min(found.values()) < 1 + 1e-4


def test_sparse_and_dense_are_one_problem():
    X, mask = ratings()
    one, two = (run(listed(X, mask, sparse=sparse), max_iter=10) for sparse in (True, False))
    for name, factor in one.factors.items():
        torch.testing.assert_close(factor(), two.factors[name](), rtol=1e-8, atol=1e-9)


def test_weights_count_as_often_as_they_say():
    X, mask = ratings(12, 8)
    fitted = run(listed(X, mask), max_iter=30)
    weights = np.where(mask, 2.0, 0.0)
    code = fitted.transform(X, weights)
    np.testing.assert_allclose(code, fitted.transform(X, mask), rtol=1e-8)
    weights[:, 0] *= 3
    assert not np.allclose(code, fitted.transform(X, weights))


def test_a_full_mask_without_ridge_and_biases_is_the_svd():
    X = np.random.default_rng(0).normal(size=(30, 12))
    fitted = nmfnet.fit(
        X, "biased_mf", n_components=3, biases=False, l2=0.0, tol=1e-9, dtype="float64", **QUIET
    )
    error, floor = (fitted.metrics[f"{k}/relative_error"] for k in ("train", "floor"))
    assert error == pytest.approx(floor, abs=1e-4)
    with_biases = nmfnet.fit(X, "biased_mf", n_components=3, l2=0.0, l2_bias=0.0, **QUIET)
    assert (
        with_biases.metrics["train/relative_error"] >= with_biases.metrics["floor/relative_error"]
    )


@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
def test_restarts_are_the_runs_alone(sparse):
    X, mask = ratings()
    cfg = configuration({"model": "biased_mf", "n_components": 2, "n_restarts": 3, **QUIET})
    data = MatrixDataModule(
        Held(listed(X, mask, sparse=sparse)), NoSplit(), dtype=torch.float64, seed=0,
        device=torch.device("cpu"),
    )  # fmt: skip
    data.setup()

    def advanced(restarts):
        model = assemble(cfg, data.sizes, restarts, masked=True, sparse=sparse).double()
        check_solver(model.solver, task_of(model))
        initialise(model, data.train)
        optimizer = model.configure_optimizers()
        model.optimizers = lambda: SimpleNamespace(optimizer=optimizer, step=optimizer.step)
        terms = model.solver.step(model, data.train, 4, list(range(len(restarts))))
        return model, total(terms)

    together, values = advanced(range(3))
    for i in range(3):
        alone, value = advanced(range(i, i + 1))
        assert float(value) == pytest.approx(float(values[i]), rel=1e-9)
        for name, factor in alone.factors.items():
            ours = together.factors[name]()[i]
            torch.testing.assert_close(ours, factor()[0], rtol=1e-7, atol=1e-9)


# ---------------------------------------------------------------------- new rows
def test_codes_of_new_rows_minimise_the_objective_and_those_of_training_rows_are_theirs():
    X, mask = ratings()
    fitted = run(listed(X, mask), tol=1e-10)
    code = fitted.transform(X, mask)
    trained = codes(fitted)
    np.testing.assert_allclose(code, trained, atol=1e-4)
    batch = new_rows(fitted, X, mask)
    with fitted._fitted():
        generic = fold_in(fitted, batch, fitted.terms if fitted.overrides("terms") else None)
    np.testing.assert_allclose(code, generic.numpy(), atol=1e-6)
    sparse = fitted.transform(*(getattr(listed(X, mask), name) for name in ("values", "mask")))
    np.testing.assert_allclose(sparse, code, atol=1e-10)
    np.testing.assert_allclose(
        fitted.inverse_transform(code), fitted.reconstruct(X, mask), rtol=1e-10
    )
    assert fitted.components_.shape == (3, X.shape[1])


def test_a_row_without_entries_gets_the_biases():
    X, mask = ratings()
    fitted = run(listed(X, mask), max_iter=20)
    nothing = np.zeros((1, X.shape[1]))
    assert not fitted.transform(nothing, nothing).any()
    expected = (fitted.mu() + fitted.c())[0].detach().numpy()
    np.testing.assert_allclose(fitted.reconstruct(nothing, nothing), expected)


@pytest.mark.parametrize("solver", ["weighted_als", "gd", "adam"])
def test_cold_columns_are_counted_and_get_the_biases(solver):
    """A film that only held-out users have rated: its factors stay 0."""
    X, mask = ratings(30, 10)
    held = RowSplit(test_fraction=0.2)(listed(X, mask), 0).test_rows
    mask[:, 4] = np.isin(np.arange(30), held)
    mask[:, 5] |= ~mask.any(1)
    fitted = run(listed(X, mask), split="rows", solver=solver, max_iter=20)
    assert not fitted.Q()[..., 4].any()
    assert not fitted.c()[..., 4].any()
    share = mask[held, 4].sum() / mask[held].sum()
    assert fitted.metrics["test/cold_share"] == pytest.approx(share)


def test_absent_zeros_of_a_sparse_matrix_are_not_guessed():
    X, mask = ratings()
    values = listed(X, mask).values
    with pytest.raises(nmfnet.UserError, match=r"which of its entries are listed.*data=triples"):
        nmfnet.fit(values, "biased_mf", **QUIET)
    fitted = run(listed(X, mask), max_iter=5)
    with pytest.raises(nmfnet.UserError, match="which of its entries are listed"):
        fitted.transform(values)


def test_other_losses_and_negative_ridges_are_refused():
    X, _ = ratings()
    for name in ("biased_mf", "rsnmf"):  # one class: its sentence names neither
        with pytest.raises(nmfnet.UserError, match=r"^the model fits .*loss=frobenius"):
            nmfnet.fit(X, name, loss="kl", **QUIET)
    with pytest.raises(nmfnet.UserError, match=r"model\.l2=-1"):
        nmfnet.fit(X, "biased_mf", l2=-1.0, **QUIET)
    with pytest.raises(nmfnet.UserError, match=r"weighted_als is for models whose halves"):
        nmfnet.fit(abs(X), "nmf", solver="weighted_als", **QUIET)


# ---------------------------------------------------------------------- held-out entries
def test_held_out_entries_change_no_bit_of_the_training():
    X, mask = ratings()
    matrix = listed(X, mask)
    held = EntrySplit(fraction=0.1)(matrix, 3).held_out.toarray()
    spoilt = listed(np.where(held, 1e9, X), mask)
    one, two = (run(m, split="entries", seed=3, max_iter=20) for m in (matrix, spoilt))
    for name, factor in one.factors.items():
        assert torch.equal(factor(), two.factors[name]())
    assert one.metrics["train/loss"] == two.metrics["train/loss"]
    assert two.metrics["test/rmse"] > 1e6 > one.metrics["test/rmse"]


def test_scores_are_of_clipped_predictions_on_the_held_out_entries():
    X, mask = ratings()
    matrix = listed(X, mask)
    fitted = run(matrix, split="entries", seed=1, max_iter=30)
    held = EntrySplit(fraction=0.1)(matrix, 1).held_out.toarray()
    seen = mask & ~held
    said = fitted.inverse_transform(codes(fitted))
    wrong = (np.clip(said, X[seen].min(), X[seen].max()) - X)[held]
    assert fitted.metrics["test/rmse"] == pytest.approx(np.sqrt((wrong**2).mean()), rel=1e-9)
    assert fitted.metrics["test/mae"] == pytest.approx(np.abs(wrong).mean(), rel=1e-9)
    assert fitted.metrics["test/cold_share"] == 0


# ---------------------------------------------------------------------- from the command line
def test_command_line_from_a_list_to_a_loaded_model(tmp_path):
    X, mask = ratings()
    rows, columns = np.nonzero(mask)
    pd.DataFrame({"user": rows, "item": columns, "rating": X[mask]}).to_csv(
        tmp_path / "r.csv", index=False
    )
    done = nmfnet_train(
        "model=biased_mf", "data=triples", f"data.path={tmp_path / 'r.csv'}", "data.row=user",
        "data.column=item", "data.value=rating", "split=entries", "n_restarts=2", "max_iter=20",
        "model.n_components=2", f"run_dir={tmp_path / 'run'}", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["solver"] == "weighted_als"
    assert 0 < numbers["test/rmse"] < X.std()
    model = nmfnet.load(tmp_path / "run")
    with np.load(tmp_path / "run" / "factors.npz") as held:
        assert held["P"].shape == (40, 2)
        assert held["Q"].shape == (2, 25)
        assert held["b"].shape == (40, 1)
        said = held["P"] @ held["Q"] + held["b"] + held["c"] + held["mu"]
        np.testing.assert_allclose(model.inverse_transform(held["W"]), said, rtol=1e-5)


def test_ridge_of_an_axis_is_solved_by_the_factors_at_the_optimum():
    X, mask = ratings()
    matrix = listed(X, mask)
    fitted = run(matrix, tol=1e-10)
    data = MatrixDataModule(
        Held(matrix), NoSplit(), dtype=torch.float64, seed=0, device=torch.device("cpu")
    )
    data.setup()
    with torch.no_grad(), fitted.restarts(0):
        found = ridge_rows(*fitted.ridge("feature", data.train))
        torch.testing.assert_close(found, fitted._columns(), rtol=1e-3, atol=1e-4)


@pytest.mark.catalogue
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_movielens_beats_the_biases_on_held_out_ratings(seed):
    """The biases alone, with the best of their ridges, reach 0.868, 0.864 and 0.858."""
    from nmfnet.data.sources.registry import source

    fitted = run(
        source("movielens-latest-small", sparse=True).read(),
        n_components=20, split="entries", seed=seed, max_iter=40, dtype="float32",
    )  # fmt: skip
    assert fitted.metrics["test/rmse"] < 0.856


# ---------------------------------------------------------------------- the kernels
@pytest.mark.parametrize("kind", ["per entry", "per row", "non-negative"])
def test_compiled_ridge_regressions_are_those_of_all_rows(kind):
    X, mask = ratings(40, 30)
    mask[0, 2:] = False  # rows with fewer entries than components take another way
    matrix = listed(X, mask)
    x, weight = (torch.tensor(m.toarray()).double() for m in (matrix.values, matrix.mask))
    weight *= torch.rand(
        weight.shape, dtype=weight.dtype, generator=torch.Generator().manual_seed(0)
    )
    H = torch.randn(5, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ridge = torch.full((5,), 0.3, dtype=torch.float64)
    options = {
        "per entry": (ridge, None, None),
        "per row": (0 * ridge, torch.diag(ridge), None),
        "non-negative": (ridge, None, torch.zeros(5, dtype=torch.float64)),
    }[kind]
    csr = [
        t.to_sparse_csr() for t in (torch.where(weight > 0, x, 0) + 1e-300 * (weight > 0), weight)
    ]
    one, two = ridge_rows(*csr, H, *options), ridge_rows(x, weight, H, *options)
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)
    w = one.clone().requires_grad_()
    pull = weight.sum(1)[:, None] * options[0] if kind != "per row" else ridge
    cost = (weight * (x - w @ H).square()).sum() + (pull * w.square()).sum()
    slope = torch.autograd.grad(cost, w)[0]
    if kind == "non-negative":
        assert one.min() == 0
        assert slope[one == 0].min() > -1e-6
        slope = slope[one > 0]
    assert slope.abs().max() < 1e-5


def test_entries_of_a_product_have_the_right_gradient():
    from nmfnet.kernels.sparse import at_entries

    X, mask = ratings(6, 5)
    x = torch.tensor(np.where(mask, X, 0)).to_sparse_csr()
    tables = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((6, 3), (3, 5))]
    assert torch.autograd.gradcheck(lambda W, H: at_entries(x, W, H), tables)


# ---------------------------------------------------------------------- what is measured
def test_a_list_is_measured_as_the_same_dense_table():
    from nmfnet import metrics

    X, mask = ratings()
    x, said = listed(X, mask).values, X + np.random.default_rng(1).normal(size=X.shape)
    means = metrics.feature_means(X, mask)
    found = metrics.listed_metrics(x, said[mask], means, (-99.0, 99.0))
    whole = metrics.fit_metrics(X, said, mask)
    for name, value in whole.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, equal_nan=True)
    clipped = metrics.listed_metrics(x, said[mask], means, (2.0, 3.0))
    assert clipped["rmse"] == pytest.approx(
        np.sqrt(((said[mask].clip(2, 3) - X[mask]) ** 2).mean())
    )


def test_rankings_count_all_features_but_those_of_the_training():
    from nmfnet import metrics

    score = np.array([[5.0, 4, 3, 2, 1, 0], [0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]])
    known = sp.csr_matrix(np.array([[1.0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]]))
    held = sp.csr_matrix(np.array([[0.0, 4, 0, 4, 0, 0], [0, 0, 4, 0, 0, 0], [0, 0, 1, 0, 0, 0]]))
    found = metrics.ranking_metrics(lambda rows: score[rows], known, held, 3.0, at=2)
    # row 0: places 1 and 3 of 5; row 1: all alike, so place 3 of 5; row 2 wants nothing
    assert found["ndcg"] == pytest.approx((1 / (1 + 1 / np.log2(3)) + 0) / 2)
    assert found["recall"] == pytest.approx((0.5 + 0) / 2)
    assert found["map"] == pytest.approx((0.5 + 0) / 2)
    assert found["auc"] == pytest.approx(((1 + 2 / 3) / 2 + 0.5) / 2)
    assert metrics.ranking_metrics(lambda rows: score[rows], known, held, 9.0) == {}


# ---------------------------------------------------------------------- what is held out
def test_the_latest_entries_are_held_out(tmp_path):
    file = write(
        tmp_path,
        "user,item,rating,when\na,x,1,10\na,y,2,20\na,z,3,30\nb,x,4,90\nb,y,5,80\nc,x,1,5\n",
    )
    matrix = Triples(path=file, time="when", **COLUMNS).read()
    held = TimeSplit(fraction=0.34)(matrix, 0).held_out.toarray()
    np.testing.assert_array_equal(held, [[0, 0, 0], [1, 1, 0], [0, 0, 0]])
    held = TimeSplit(fraction=0.34, by="row")(matrix, 0).held_out.toarray()
    np.testing.assert_array_equal(held, [[0, 0, 1], [1, 0, 0], [0, 0, 0]])
    with pytest.raises(nmfnet.UserError, match=r"data\.time"):
        TimeSplit()(Triples(path=file, **COLUMNS).read(), 0)


def test_lists_that_are_too_short_to_hold_anything_out_are_refused(tmp_path):
    first = "user,item,rating,when\na,x,1,10\n"
    several = Triples(path=write(tmp_path, first + "b,y,2,20\n"), time="when", **COLUMNS).read()
    with pytest.raises(nmfnet.UserError, match=r"split\.by=row needs two entries of a row"):
        TimeSplit(by="row")(several, 0)
    single = Triples(path=write(tmp_path, first), time="when", **COLUMNS).read()
    with pytest.raises(nmfnet.UserError, match="needs two entries at least"):
        TimeSplit()(single, 0)
    with pytest.raises(nmfnet.UserError, match="needs two rows"):
        ColdSplit()(single, 0)


def test_users_of_the_test_part_alone_are_cold_and_get_the_mean_and_the_bias():
    X, mask = ratings()
    matrix = listed(X, mask)
    held = ColdSplit(fraction=0.2)(matrix, 0).held_out
    cold = np.flatnonzero(held.getnnz(axis=1))
    assert cold.size == 8
    assert (held.toarray()[cold] == mask[cold]).all()
    few = ColdSplit(fraction=0.2, keep=3)(matrix, 0).held_out
    assert (mask.sum(1) - few.getnnz(axis=1))[cold].max() == 3
    fitted = run(matrix, split="cold_rows", **{"split.fraction": 0.2}, max_iter=20)
    assert fitted.metrics["test/cold_share"] == 1
    assert not fitted.P()[0, cold].any()
    assert not fitted.b()[0, cold].any()
    seen = mask & ~held.toarray()
    said = (fitted.mu() + fitted.c())[0, 0].detach().numpy().clip(X[seen].min(), X[seen].max())
    wrong = (said - X)[held.toarray()]
    assert fitted.metrics["test/rmse"] == pytest.approx(np.sqrt((wrong**2).mean()), rel=1e-9)


# ---------------------------------------------------------------------- other models of a list
def test_choices_cost_what_all_pairs_cost_and_their_optimum_is_one():
    X = (np.random.default_rng(0).random((20, 12)) < 0.3) * 2.0
    X[np.arange(20), np.arange(20) % 12] = 2
    fitted = run(listed(X, X > 0), model="implicit_mf", n_components=3, l2=0.5, tol=1e-10)
    P, Q = fitted.P()[0].detach().numpy(), fitted.Q()[0].detach().numpy()
    weight = 1 + fitted.alpha * X
    cost = 0.5 * (weight * ((X > 0) - P @ Q) ** 2).sum()
    cost += 0.25 * ((P**2).sum() + (Q**2).sum())
    assert fitted.metrics["objective"] == pytest.approx(cost, rel=1e-9)
    slope = -(weight * ((X > 0) - P @ Q)) @ Q.T + 0.5 * P
    assert abs(slope).max() < 1e-3 * abs(P).max()
    assert fitted.metrics["status"] == "converged"
    assert "train/rmse" not in fitted.metrics
    with pytest.raises(nmfnet.UserError, match=r"not > 0.*at_least"):
        run(listed(X - 2 * (X > 0), X > 0), model="implicit_mf", n_components=3)


def test_soft_impute_is_at_the_minimum_of_the_nuclear_norm():
    """The gradient at the listed entries lies in the subdifferential of l2 times the norm."""
    X, mask = ratings()
    fitted = run(
        listed(X, mask), model="soft_impute", n_components=8, l2=2.0, tol=1e-9, max_iter=3000
    )
    Z = (fitted.P()[0] @ fitted.Q()[0]).detach().numpy()
    level = (fitted.level()[0] + fitted.b()[0]).detach().numpy()
    gap = np.where(mask, X - Z - level, 0)
    U, values, V = np.linalg.svd(Z)
    rank = (values > 1e-2 * values[0]).sum()
    assert 0 < rank < 8
    assert np.linalg.svd(gap)[1][0] == pytest.approx(2.0, rel=1e-2)
    np.testing.assert_allclose(U[:, :rank].T @ gap @ V[:rank].T, 2 * np.eye(rank), atol=2e-2)


def test_non_negative_factors_settle_where_a_descent_within_bounds_does():
    X, mask = ratings()
    X = X - X.min() + 1
    found = {
        solver: run(
            listed(X, mask), model="rsnmf", n_components=2, solver=solver, tol=1e-8, max_iter=3000
        )
        for solver in ("auto", "lbfgs")
    }
    assert found["auto"].metrics["solver"] == "weighted_als"
    assert min(f().min() for f in (found["auto"].P, found["auto"].Q)) >= 0
    ours, theirs = (fitted.metrics["objective"] for fitted in found.values())
    assert ours == pytest.approx(theirs, rel=1e-3)


MORE = [
    ({"scale": [1, 5]}, r"1 values.*outside data\.scale=\[1,5\] \(first: 7 in line 3\)"),
    ({"scale": [5, 1]}, "lowest and the highest"),
    ({"at_least": 9.0}, r"at_least=9 leaves no item"),
    ({"time": "item"}, r"column 'item'.*not finite"),
]


@pytest.mark.parametrize(("options", "words"), MORE, ids=[words[:12] for _, words in MORE])
def test_what_a_list_cannot_be_is_refused(tmp_path, options, words):
    file = write(tmp_path, "user,item,rating\na,x,1\nb,y,7\n")
    with pytest.raises(nmfnet.UserError, match=words):
        Triples(path=file, **COLUMNS, **options).read()


def test_ratings_become_choices(tmp_path):
    file = write(tmp_path, "user,item,rating\na,x,1\nb,y,4\nb,x,5\n")
    matrix = Triples(path=file, at_least=4.0, **COLUMNS).read()
    assert matrix.sample_names == ["b"]
    np.testing.assert_array_equal(matrix.values.toarray(), [[1, 1]])
    assert "2 of 3 entries are at least 4" in matrix.notes()[0]


def test_command_line_ranks_choices_with_ids_of_text(tmp_path):
    X, mask = ratings(30, 20)
    rows, columns = np.nonzero(mask)
    names = pd.DataFrame({
        "user": [f"Ann {i}" for i in rows], "item": [f"é/{j}" for j in columns],
        "rating": X[mask], "when": np.arange(rows.size),
    })  # fmt: skip
    names.to_csv(tmp_path / "r.csv", index=False)
    done = nmfnet_train(
        "model=implicit_mf", "data=triples", f"data.path={tmp_path / 'r.csv'}", "data.row=user",
        "data.column=item", "data.value=rating", "data.time=when", "data.at_least=3", "split=time",
        "model.n_components=3", f"run_dir={tmp_path / 'run'}", "figures=false", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 < numbers["ranking/auc"] < 1
    assert "test/rmse" not in numbers
    assert nmfnet.load(tmp_path / "run").feature_names[0].startswith("é/")


def test_factors_that_do_not_fit_are_refused_before_they_are_made(monkeypatch):
    X, mask = ratings()
    monkeypatch.setattr("nmfnet.run.train.memory", lambda: 1000)
    with pytest.raises(nmfnet.UserError, match=r"40 samples and 25 features with 2 comp.*1e-06 GB"):
        run(listed(X, mask))


def test_a_run_says_that_held_out_entries_are_not_determined():
    """Three components for rows with two known entries: any weights fit, unless a penalty chooses."""
    rng = np.random.default_rng(0)
    X, mask = rng.random((12, 9)) + 1, np.zeros((12, 9), bool)
    mask[:, :2] = mask[:4] = True
    options = {"mask": mask, "n_components": 3, "split": "entries", "max_iter": 5}
    options["split.fraction"] = 0.01  # one entry
    said = "8 of 12 samples and 0 of 9 features have fewer known entries than the 3 components"
    assert any(said in note for note in nmfnet.fit(X, **options).notes)
    ridge = {"penalty": "l2", "penalty.l2.on": ["W", "H"]}
    assert not any("fewer known" in note for note in nmfnet.fit(X, **options, **ridge).notes)
    whole = nmfnet.fit(X, n_components=3, split="entries", max_iter=5)
    assert not any("fewer known" in note for note in whole.notes)
