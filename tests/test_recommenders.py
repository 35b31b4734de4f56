"""Networks, pairs, trust and neighbours in place of a plain factorisation of a list."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from shell import train as nmfnet_train
from test_ratings import ratings

import nmfnet
from nmfnet.errors import UserError
from nmfnet.kernels.csr import csr_of, entries_at
from nmfnet.metrics import ranking_metrics
from nmfnet.models._listed import biases_of, others
from nmfnet.models.nimf import nearest
from nmfnet.types import Batch

QUIET = {"figures": False, "threads": 1, "progress": False, "dtype": "float64"}


def fit(X, model, mask=None, *, sparse=True, **settings):
    """A fit of the listed entries."""
    if sparse:
        at = sp.csr_matrix(X != 0 if mask is None else mask)
        X = sp.csr_matrix((np.asarray(X)[at.nonzero()], at.indices, at.indptr), shape=at.shape)
        mask = None if mask is None else at
    return nmfnet.fit(X, model, mask=mask, n_components=2, **{**QUIET, "max_iter": 40, **settings})


def choices(seed=0):
    rng = np.random.default_rng(seed)
    group = rng.integers(2, size=(30, 1)) == rng.integers(2, size=16)
    X = (rng.random((30, 16)) < np.where(group, 0.5, 0.05)) * 1.0
    X[np.arange(30), np.arange(30) % 16] = 1
    return X


def values(model) -> dict[str, np.ndarray]:
    return {name: f()[int(model.best)].detach().numpy() for name, f in model.factors.items()}


def batch_of(X, mask=None) -> Batch:
    x = csr_of(torch.tensor(np.where(X if mask is None else mask, X, 0.0)))
    seen = None if mask is None else csr_of(torch.tensor(mask * 1.0))
    return Batch(x, torch.arange(len(X)), seen)


def softplus(x):
    return np.logaddexp(0, x)


# ---------------------------------------------------------------------- what they share
def test_biases_are_at_the_optimum_of_their_ridge_regression():
    X, mask = ratings()
    batch = batch_of(X, mask)
    mean, b, c = (part.numpy() for part in biases_of(batch.x, batch.mask, 3.0))
    left = np.where(mask, X - mean - b[:, None] - c, 0)
    assert mean == pytest.approx(X[mask].mean())
    np.testing.assert_allclose(left.sum(1), 3 * b, atol=1e-6)
    np.testing.assert_allclose(left.sum(0), 3 * c, atol=0.1)


def test_entries_are_left_out_of_a_sparse_matrix():
    X, mask = ratings(8, 6)
    x = csr_of(torch.tensor(np.where(mask, X, 0)))
    kept = torch.arange(x.values().numel()) % 3 > 0
    wanted = np.where(mask, X, 0)
    wanted[tuple(np.argwhere(mask)[~kept.numpy()].T)] = 0
    np.testing.assert_array_equal(entries_at(x, kept).to_dense(), wanted)


# ---------------------------------------------------------------------- autorec
@pytest.mark.quick("user")
@pytest.mark.parametrize("by", ["item", "user"])
def test_autorec_reads_what_biases_leave_of_listed_entries(by):
    X, mask = ratings()
    model = fit(X, "autorec", mask, l2=1.0, **{"model.by": by})
    v = values(model)
    code = model.transform(np.where(mask, X, np.nan), mask)
    b = v["b"] if by == "item" else code[:, -1:]
    left = np.where(mask, X - v["mu"] - b - v["c"], 0)
    np.testing.assert_allclose(left.sum(1), 5 * b[:, 0], atol=1e-6)  # the ridge of b
    if by == "item":
        said = v["mu"] + b + v["c"] + v["W"] @ np.tanh(v["V"] @ left + v["a"].T)
        trained = np.concatenate([v["W"], b], 1)
    else:
        said = v["mu"] + b + v["c"] + np.tanh(left @ v["V"] + v["a"]) @ v["W"]
        trained = code
    np.testing.assert_allclose(model.inverse_transform(trained), said, atol=1e-8)
    cost = 0.5 * ((X - said)[mask] ** 2).sum() + 0.5 * ((v["V"] ** 2).sum() + (v["W"] ** 2).sum())
    assert model.metrics["objective"] == pytest.approx(cost, rel=1e-8)


@pytest.mark.slow
def test_autorec_is_the_same_for_a_list_and_a_table():
    X, mask = ratings(20, 12)
    one, two = (fit(X, "autorec", mask, sparse=sparse, max_iter=15) for sparse in (True, False))
    for name, factor in one.factors.items():
        torch.testing.assert_close(factor(), two.factors[name](), rtol=1e-7, atol=1e-8)


@pytest.mark.quick("autorec")
@pytest.mark.parametrize("model", ["autorec", "nnmf"])
def test_what_is_not_listed_is_never_looked_at(model):
    X, mask = ratings(20, 12)
    wild = np.where(mask, X, 1e9)
    one, two = (fit(values, model, mask, sparse=False, max_iter=10) for values in (X, wild))
    assert one.metrics["objective"] == two.metrics["objective"]


# ---------------------------------------------------------------------- networks of pairs
def test_a_network_that_adds_up_products_is_the_dot_product():
    X, mask = ratings(12, 9)
    model = fit(X, "nnmf", mask, max_iter=1, hidden=[])
    with torch.no_grad():
        model.factors["E1"].assign_(torch.tensor([[0.0], [0], [0], [0], [1], [1]]))
    v = values(model)
    said = v["P"] @ v["Q"] + v["b"] + v["c"] + v["mu"]
    code = np.concatenate([v["P"], v["b"]], 1)
    np.testing.assert_allclose(model.inverse_transform(code), said, atol=1e-10)
    batch = batch_of(X, mask)
    with torch.no_grad(), model.restarts(0):
        at = model.decode_at(torch.tensor(code), batch)
    np.testing.assert_allclose(at, said[mask], atol=1e-10)


def test_the_numbers_of_a_tuned_dot_product_stand_beside_a_network():
    X, mask = ratings()
    model = fit(X, "nnmf", mask, max_iter=5, split="entries", seed=2)
    plain = model.beside["dot_product"]
    assert plain.l2 in (0.05, 0.1, 0.15, 0.2)
    for name in ("train/dot_product_rmse", "test/dot_product_rmse"):
        assert 0 < model.metrics[name] < X[mask].std()


@pytest.mark.slow
def test_the_ranking_of_a_tuned_dot_product_stands_beside_a_network():
    chosen = fit(choices(), "neumf", choices() > 0, max_iter=5, split="entries", seed=1)
    assert 0 <= chosen.metrics["ranking/dot_product_ndcg"] <= 1
    assert "test/dot_product_rmse" not in chosen.metrics


def test_command_line_prints_the_dot_product_beside_the_network(tmp_path):
    X, mask = ratings(30, 20)
    rows, columns = np.nonzero(mask)
    pd.DataFrame({"u": rows, "i": columns, "r": X[mask]}).to_csv(tmp_path / "r.csv", index=False)
    done = nmfnet_train(
        "model=nnmf", "data=triples", f"data.path={tmp_path / 'r.csv'}", "data.row=u",
        "data.column=i", "data.value=r", "split=entries", "max_iter=5", "model.n_components=2",
        f"run_dir={tmp_path / 'run'}", "figures=false", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "held-out relative error of a tuned dot product" in done.out
    assert "test/dot_product_rmse" in json.loads((tmp_path / "run" / "metrics.json").read_text())


# ---------------------------------------------------------------------- choices
def test_bpr_costs_what_pairs_in_the_wrong_order_cost():
    X = choices()
    model = fit(X, "bpr", max_iter=20, l2=0.1, **{"model.l2_bias": 0.05})
    v, batch = values(model), batch_of(X)
    u, i = X.nonzero()
    score = v["P"] @ v["Q"] + v["c"]
    data = pull = 0.0
    size_u, size_i = (v["P"] ** 2).sum(1), (v["Q"] ** 2).sum(0)
    with model.restarts(0):
        for draw in range(4):
            j, kept = (t.numpy() for t in others(model, batch.x, draw))
            assert not X[u, j][kept].any()
            assert X[u, j][~kept].all()
            data += (kept * softplus(score[u, j] - score[u, i])).sum() / 4
            pull += (kept * (0.1 * size_i[j] + 0.05 * v["c"][0, j] ** 2)).sum() / 4
    pull += (0.1 * (size_u[u] + size_i[i]) + 0.05 * v["c"][0, i] ** 2).sum()
    assert model.metrics["objective"] == pytest.approx(data + 0.5 * pull, rel=1e-9)


def test_neumf_costs_the_log_odds_of_what_was_chosen_and_of_others():
    X = choices()
    settings = {"l2": 0.0, "model.l2_bias": 0.0, "model.l2_network": 0.0}
    model = fit(X, "neumf", max_iter=3, **settings)
    v, batch = values(model), batch_of(X)
    score = model.inverse_transform(np.concatenate([v["P"], v["S"], v["b"]], 1))
    u, i = X.nonzero()
    cost = softplus(-score[u, i]).sum()
    with model.restarts(0):
        for draw in range(4):
            j, kept = (t.numpy() for t in others(model, batch.x, draw))
            cost += (kept * softplus(score[u, j])).sum()
    assert model.metrics["objective"] == pytest.approx(cost, rel=1e-8)


@pytest.mark.parametrize("model", ["bpr", "neumf"])
def test_ratings_that_are_no_choices_are_refused(model):
    mask = ratings(12, 9)[1]
    with pytest.raises(nmfnet.UserError, match=r"not > 0.*at_least"):
        fit(np.where(mask, -1.0, 0), model, mask)
    with pytest.raises(nmfnet.UserError, match=r"data\.sparse=true"):
        fit(choices(), model, choices() > 0, sparse=False)


@pytest.mark.slow
def test_bpr_orders_what_was_chosen_before_the_rest():
    X = choices(1)
    model = fit(X, "bpr", max_iter=200, **{"solver.lr": 0.05})
    score = model.inverse_transform(values(model)["P"])
    ahead = [(score[u, x > 0][:, None] > score[u, x == 0]).mean() for u, x in enumerate(X)]
    assert np.mean(ahead) > 0.8  # by chance 0.5


# ---------------------------------------------------------------------- what they learn
def preferences(seed=0):
    """Choices of 80 users among 50 items by what they like; known ones, held-out ones, log odds."""
    rng = np.random.default_rng(seed)
    odds = 2.5 * rng.normal(size=(80, 2)) @ rng.normal(size=(2, 50)) + rng.normal(size=50) - 1
    chosen = rng.random(odds.shape) < 1 / (1 + np.exp(-odds))
    known = chosen & (rng.random(odds.shape) < 0.7)
    known[np.arange(80), np.arange(80) % 50] = True
    return known * 1.0, sp.csr_matrix((chosen & ~known) * 1.0), odds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("bpr", {"solver.lr": 0.05, "max_iter": 200}),
        ("neumf", {"solver.lr": 0.02, "max_iter": 200, "model.hidden": [16], "model.others": 2}),
    ],
)
def test_choices_that_were_held_out_are_found_by_what_users_like(model, settings):
    known, held, odds = preferences()
    fitted = fit(known, model, **settings)

    def auc(scores):
        return ranking_metrics(lambda rows: scores[rows], sp.csr_matrix(known), held, 1.0)["auc"]

    popularity, oracle = auc(np.tile(known.sum(0), (80, 1))), auc(odds)
    with torch.no_grad(), fitted.restarts(0):
        found = auc(fitted.decode(fitted.encode(batch_of(known))).numpy())
    assert found > popularity + 0.5 * (oracle - popularity)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("autorec", {"l2": 0.1, "max_iter": 1000}),
        ("nnmf", {"l2": 0.01, "max_iter": 600, "model.hidden": [16], "model.l2_network": 0.1}),
    ],
)
def test_ratings_that_were_held_out_are_predicted_better_than_by_biases(model, settings):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 2)) @ rng.normal(size=(2, 50)) + rng.normal(size=50) + 3
    mask = rng.random(X.shape) < 0.4
    X += 0.1 * rng.normal(size=X.shape)
    fitted = fit(X, model, mask, **settings)
    mean, b, c = (
        part.numpy() for part in biases_of(batch_of(X, mask).x, batch_of(mask * 1.0).x, 1.0)
    )
    with torch.no_grad(), fitted.restarts(0):
        said = fitted.decode(fitted.encode(batch_of(X, mask))).numpy()
    ours, biases = (
        np.sqrt(np.mean((X - known)[~mask] ** 2)) for known in (said, mean + b[:, None] + c)
    )
    assert ours < 0.5 * biases


# ---------------------------------------------------------------------- trust
def social(seed=0):
    rng = np.random.default_rng(seed)
    U = np.repeat([[1.5, -1.5], [-1.5, 1.5]], 15, axis=0) + rng.normal(size=(30, 2)) * 0.2
    X = 1 + 4 / (1 + np.exp(-U @ rng.normal(size=(2, 12))))
    mask = rng.random(X.shape) < 0.5
    mask[:3] = False  # of these users nothing is known but whom they trust
    mask[3, 0] = mask[3, 1] = True
    trust = (rng.random((30, 30)) < np.where(U @ U.T > 0, 0.4, 0.02)) * 1.0
    trust[:3, :15] = 1
    return X, mask, trust


def test_sorec_shares_users_between_ratings_and_trust():
    X, mask, trust = social()
    model = fit(X, "sorec", mask, sparse=False, views={"trust": trust}, l2=0.2, max_iter=200)
    v = values(model)
    low, high = X[mask].min(), X[mask].max()
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    out, known = trust.sum(1, keepdims=True), trust.sum(0)
    wanted = trust * np.sqrt(known / np.maximum(out + known, 1))
    y = (X - low) / (high - low)
    cost = 0.5 * ((y - sigmoid(v["U"] @ v["V"]))[mask] ** 2).sum()
    cost += 5.0 * (((wanted - sigmoid(v["U"] @ v["Z"])) * (trust > 0)) ** 2).sum()
    cost += 0.1 * sum((v[name] ** 2).sum() for name in "UVZ")
    assert model.metrics["objective"] == pytest.approx(cost, rel=1e-8)
    assert model.metrics["trust/rmse"] < 0.2
    new = model.transform(None, views={"trust": trust[:3]})
    assert model.inverse_transform(new).min() >= low - 1e-9
    assert model.inverse_transform(new).max() <= high + 1e-9


def test_sorec_refuses_what_it_cannot_use():
    X, mask, trust = social()
    with pytest.raises(nmfnet.UserError, match="needs a view called trust"):
        fit(X, "sorec", sparse=False)
    with pytest.raises(nmfnet.UserError, match="negative"):
        fit(X, "sorec", mask, sparse=False, views={"trust": -trust})
    with pytest.raises(nmfnet.UserError, match="all of them are 3"):
        fit(0 * X + 3, "sorec", mask, sparse=False, views={"trust": trust})


# ---------------------------------------------------------------------- neighbours
def test_nearest_rows_are_those_that_correlate():
    rng = np.random.default_rng(0)
    place = np.repeat(rng.normal(size=(3, 40)), 4, axis=0)
    left = place + 0.1 * rng.normal(size=place.shape)
    seen = rng.random(left.shape) < 0.7
    near, who = nearest(torch.tensor(np.where(seen, left, 0)), torch.tensor(seen), 3)
    assert (who.numpy() // 4 == np.arange(12)[:, None] // 4).all()
    np.testing.assert_allclose(near.sum(1), 1)
    u, k = 0, int(who[0, 0])
    a, b = (np.where(seen[r], left[r] - left[r][seen[r]].mean(), 0) for r in (u, k))
    both = seen[u] & seen[k]
    ratio = (a * b)[both].sum() / np.sqrt((a[both] ** 2).sum() * (b[both] ** 2).sum())
    assert ratio > 0.9
    alone, _ = nearest(torch.eye(4).double(), torch.eye(4) > 0, 3)
    assert not alone.any()  # no two rows share two features


def test_nimf_lends_codes_of_neighbours():
    X, mask = ratings()
    model = fit(X, "nimf", mask, sparse=False, max_iter=60)
    v = values(model)
    near, who = model.near[0].numpy(), model.who[0].numpy()
    code = 0.4 * v["P"] + 0.6 * np.einsum("nm,nmk->nk", near, v["P"][who])
    code[near.sum(1) == 0] = v["P"][near.sum(1) == 0]
    said = model.inverse_transform(code)
    cost = 0.5 * ((X - said)[mask] ** 2).sum() + 0.5 * sum((v[n] ** 2).sum() for n in "PQ")
    assert model.metrics["objective"] == pytest.approx(cost, rel=1e-8)
    with pytest.raises(nmfnet.UserError, match="> 0 and <= 1"):
        fit(X, "nimf", mask, sparse=False, **{"model.alpha": 0.0})


@pytest.mark.parametrize("solver", ["lbfgs", "adam", "hals"])
def test_a_list_for_a_model_of_tables_is_refused_with_what_helps_whatever_the_solver(solver):
    X, mask = ratings()
    with pytest.raises(nmfnet.UserError, match=r"NIMF needs a dense X.* data\.sparse=false"):
        fit(X, "nimf", mask, solver=solver)


@pytest.mark.slow
def test_nimf_alone_is_a_plain_factorisation():
    X, mask = ratings()
    plain = fit(X, "nimf", mask, sparse=False, max_iter=300, tol=1e-8, **{"model.alpha": 1.0})
    level = values(plain)["level"]
    ours = fit(
        X - level, "biased_mf", mask, sparse=False, l2=1.0, max_iter=300, tol=1e-8,
        **{"model.biases": False, "model.l2_per": "row"},
    )  # fmt: skip
    assert plain.metrics["objective"] == pytest.approx(ours.metrics["objective"], rel=1e-3)


@pytest.mark.parametrize("name", ["implicit_mf", "bpr", "neumf"])
def test_what_takes_every_pair_as_chosen_or_not_names_the_split_that_leaves_pairs_out(name):
    chosen = np.random.default_rng(0).random((12, 6)) < 0.5
    with pytest.raises(UserError, match="split=none"):
        nmfnet.fit(chosen.astype(float), name, split="entries", n_components=2, max_iter=2)
