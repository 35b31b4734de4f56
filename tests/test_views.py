"""Several tables of the same samples (``data=views``), and joint NMF on them."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kinds import QUIET, assert_restarts_are_runs, assert_resumes, relative, started
from shell import refusal, train

import nmfnet
from nmfnet.api import configuration
from nmfnet.core.objective import misfit
from nmfnet.data import InMemory, Views
from nmfnet.data.sources.registry import source as data_set
from nmfnet.run.train import train as run

fit = functools.partial(nmfnet.fit, model="joint_nmf", n_components=3, figures=False, threads=1)


def two(n: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """X and P of one W."""
    rng = np.random.default_rng(seed)
    W = rng.exponential(size=(n, 3))
    return W @ rng.exponential(size=(3, 12)) + 0.1, W @ rng.exponential(size=(3, 7)) + 0.1


def write(path: Path, names: list[str], columns: list[str], values: np.ndarray) -> str:
    lines = [",".join(["sample", *columns])]
    lines += [
        ",".join([name, *map(repr, map(float, row))])
        for name, row in zip(names, values, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, dict[str, str]]:
    """rna has the samples s0 ... s5; protein, the other way round, s7 and s5 ... s1."""
    X, P = two(8)
    samples = [f"s{i}" for i in range(8)]
    some = [7, 5, 4, 3, 2, 1]
    return {
        "rna": {
            "path": write(tmp_path / "rna.csv", samples[:6], [f"g{i}" for i in range(12)], X[:6]),
            "orientation": "samples_by_features",
        },
        "protein": {
            "path": write(
                tmp_path / "protein.csv",
                [f"p{i}" for i in range(7)],
                [samples[i] for i in some],
                P[some].T,
            ),
            "orientation": "features_by_samples",
        },
    }


# ---------------------------------------------------------------------- reading
def test_tables_are_joined_by_the_names_of_the_samples(tables):
    X, P = two(8)
    matrix = Views(views=tables).read()
    matrix.check()
    assert matrix.sample_names == ["s0", "s1", "s2", "s3", "s4", "s5", "s7"]
    np.testing.assert_array_equal(matrix.values[:6], X[:6])
    view = matrix.views["protein"]
    assert view.feature_names == [f"p{i}" for i in range(7)]
    np.testing.assert_array_equal(view.values[1:], P[[1, 2, 3, 4, 5, 7]])
    assert not matrix.mask[6].any()
    assert matrix.mask[:6].all()
    assert not view.mask[0].any()
    assert view.mask[1:].all()
    said = " ".join(matrix.notes())
    assert "X is the view 'rna'" in said
    assert "1 of 7 samples are not in the view 'rna' and have weight 0 there (first: s7)" in said
    assert "1 of 7 samples are not in the view 'protein'" in said
    assert set(matrix.sources) == {"rna.csv", "protein.csv"}


def test_every_view_has_its_scaling(tables):
    tables["rna"]["scaling"] = "minmax"
    matrix = Views(views=tables, scaling="frobenius").read()
    x, view = matrix.values[:6], matrix.views["protein"].values
    np.testing.assert_allclose((x.min(0), x.max(0)), (np.zeros(12), np.ones(12)), atol=1e-12)
    assert np.linalg.norm(view) == pytest.approx(1)
    both = Views(
        views=tables | {"rna": tables["rna"] | {"scaling": ["minmax", "frobenius"]}}
    ).read()
    np.testing.assert_allclose(both.values * np.linalg.norm(x), matrix.values)
    assert "over all samples" in " ".join(matrix.notes())


def test_a_view_that_outweighs_the_others_is_noted(tables):
    X, _ = two(8)
    plain = InMemory(X=X, views={"large": 100 * X}).read()
    assert "counts more; data.scaling=frobenius" in " ".join(plain.notes())
    assert "counts more" not in " ".join(InMemory(X=X, views={"like": X + 1}).read().notes())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protein": {"path": "nowhere.csv"}}, "nowhere.csv"),
        ({"protein": {"scaling": "max"}}, r"protein\.scaling='max' is unknown.*minmax"),
        ({"protein": {"orientatoin": "x"}}, r"a view has no such option.*orientation"),
        ({"rna": {"label_at": 40}}, r"label_at=40 is no column: the table has 12"),
        ({"protein": {"orientation": "samples_by_features"}}, "no sample in common"),
        ({"7up": {}}, "'7up' needs another name"),
    ],
)  # fmt: skip
def test_bad_views_are_refused_in_a_sentence(tables, change, message):
    for name, options in change.items():
        tables[name] = tables.get(name, tables["rna"]) | options
    with pytest.raises(nmfnet.UserError, match=message):
        Views(views=tables).read()


def test_names_that_occur_twice_are_refused(tables, tmp_path):
    X, _ = two(8)
    names = ["s0", "s1", "s1", *(f"s{i}" for i in range(3, 8))]
    tables["rna"]["path"] = write(tmp_path / "twice.csv", names, [f"g{i}" for i in range(12)], X)
    with pytest.raises(nmfnet.UserError, match="'s1' occurs 2 times in the view 'rna'"):
        Views(views=tables).read()
    with pytest.raises(nmfnet.UserError, match="needs its tables"):
        Views(views={}).read()


def test_negative_entries_of_a_view_are_refused():
    X, P = two()
    with pytest.raises(nmfnet.UserError, match=r"view p has 1 negative values.*>= 0"):
        fit(X, views={"p": np.where(np.arange(7) + 7 * np.arange(30)[:, None] == 8, -1, P)})
    with pytest.raises(nmfnet.UserError, match=r"view p has .* negative values, and loss=kl"):
        fit(X, views={"p": -P}, loss="kl")
    with pytest.raises(nmfnet.UserError, match="view 'p' has 29 rows and X has 30"):
        fit(X, views={"p": P[1:]})


def test_frames_are_joined_and_arrays_go_row_by_row():
    import pandas as pd

    X, P = two(6)
    names = [f"s{i}" for i in range(6)]
    frame = pd.DataFrame(X, index=names)
    shuffled = pd.DataFrame(P, index=names).iloc[[4, 0, 2]]
    joined = InMemory(X=frame, views={"p": shuffled}).read()
    assert joined.sample_names == names
    np.testing.assert_array_equal(joined.views["p"].values[[4, 0, 2]], P[[4, 0, 2]])
    np.testing.assert_array_equal(joined.views["p"].mask.any(1), [1, 0, 1, 0, 1, 0])
    P[3] = np.nan
    by_row = InMemory(X=X, views={"p": P}).read()
    np.testing.assert_array_equal(by_row.views["p"].mask.all(1), [1, 1, 1, 0, 1, 1])
    P[2, 1] = np.nan
    with pytest.raises(nmfnet.UserError, match="1 of 42 values are missing"):
        InMemory(X=X, views={"p": P}).read()
    X[2:4] = P[2:4] = np.nan
    with pytest.raises(nmfnet.UserError, match="2 of 6 samples have no observed value at all"):
        InMemory(X=X, views={"p": P}).read().check()


# ---------------------------------------------------------------------- the model
@pytest.mark.quick("kl")
@pytest.mark.parametrize("loss", ["frobenius", "kl", "itakura_saito"])
def test_joint_is_nmf_of_the_views_side_by_side(loss):
    """Same start, same solver: the same objective, fused and by autograd."""
    X, P = two()
    rng = np.random.default_rng(1)
    W, H, G = (rng.uniform(size=shape) for shape in ((30, 3), (3, 12), (3, 7)))
    own = {"n_components": 3, "solver": "mu", "init": "given", "loss": loss, "max_iter": 200}

    def objective(model: str, source: InMemory, given: dict, **more) -> float:
        cfg = configuration({"model": model, "dtype": "float64", **own, **more, **QUIET})
        return run(cfg, source, write=False, given=given).metrics["objective"]

    joint = InMemory(X=X, views={"p": P})
    start = {"W": W, "H": H, "H_p": G}
    stacked = objective("nmf", InMemory(X=np.hstack([X, P])), {"W": W, "H": np.hstack([H, G])})
    assert objective("joint_nmf", joint, start) == pytest.approx(stacked, rel=1e-10)
    generic = objective("joint_nmf", joint, start, **{"solver.fused": False})
    assert generic == pytest.approx(stacked, rel=1e-8)


@pytest.mark.quick("hals", "newton-hole")
@pytest.mark.parametrize(
    ("solver", "loss", "hole"),
    [
        pytest.param("hals", "frobenius", False, id="hals"),
        pytest.param("newton", "kl", False, id="newton"),
        pytest.param("newton", "frobenius", True, id="newton-hole"),
        pytest.param("newton", "kl", True, id="newton-kl-hole"),
    ],
)
def test_fast_solvers_work_on_the_views_side_by_side(solver, loss, hole):
    """Weight s of a view is NMF of ``c P`` with ``c**d = s``, to the same objective and factors."""
    X, P = two()
    seen = np.ones((30, 7))
    if hole:
        P[:4], seen[:4] = np.nan, 0
    rng, weight = np.random.default_rng(1), 2.0
    c = weight ** (1 / {"frobenius": 2, "kl": 1}[loss])
    W, H, G = (rng.uniform(size=shape) for shape in ((30, 3), (3, 12), (3, 7)))
    own = {"n_components": 3, "solver": solver, "init": "given", "loss": loss, "max_iter": 60}

    def fitted(model: str, source: InMemory, given: dict, **more):
        cfg = configuration({"model": model, "dtype": "float64", **own, **more, **QUIET})
        return run(cfg, source, write=False, given=given)

    mask = np.hstack([np.ones(X.shape), seen]) if hole else None
    stacked = InMemory(X=np.hstack([X, c * np.nan_to_num(P)]), mask=mask)
    one = fitted("nmf", stacked, {"W": W, "H": np.hstack([H, c * G])})
    joint = InMemory(X=X, views={"p": P})
    two_ = fitted("joint_nmf", joint, {"W": W, "H": H, "H_p": G}, weights={"p": weight})
    assert two_.metrics["solver"] == solver
    assert two_.metrics["objective"] == pytest.approx(one.metrics["objective"], rel=1e-10)
    np.testing.assert_allclose(two_.factors.W, one.factors.W, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        c * two_.factors.tables["H_p"], one.factors.H[:, 12:], rtol=1e-6, atol=1e-9
    )


def test_auto_takes_the_fast_solver_of_views():
    X, P = two()
    assert fit(X, views={"p": P}, max_iter=5).metrics["solver"] == "hals"
    P[:4] = np.nan
    assert fit(X, views={"p": P}, max_iter=5).metrics["solver"] == "newton"
    with pytest.raises(nmfnet.UserError, match="penalties of W alone beside several views"):
        fit(X, views={"p": P}, solver="newton", penalty="l1", **{"penalty.l1.on": "H"})


def test_a_view_of_weight_counts_more():
    """The objective is the weighted sum, and what counts more is explained better."""
    X, P = two()
    rng = np.random.default_rng(5)
    X, P = X + rng.exponential(size=X.shape), P + rng.exponential(size=P.shape)
    light, heavy = (fit(X, views={"p": P}, weights={"p": w}, seed=2) for w in (0.1, 10.0))
    assert heavy.metrics["view/p/r2"] > light.metrics["view/p/r2"] + 0.02
    assert heavy.metrics["view/x/r2"] < light.metrics["view/x/r2"]
    W = heavy.transform(X, views={"p": P})
    G = heavy.factors["H_p"]()[0].detach().numpy()
    value = 0.5 * ((X - W @ heavy.components_) ** 2).sum() + 5 * ((P - W @ G) ** 2).sum()
    assert heavy.metrics["objective"] == pytest.approx(value, rel=1e-3)
    for weights, message in (
        ({"q": 1}, "there is no such view; there are x"),
        ({"p": 0}, "above 0"),
        ({"p": float("nan")}, "above 0"),
    ):
        with pytest.raises(nmfnet.UserError, match=message):
            fit(X, views={"p": P}, weights=weights)


def test_views_have_losses_of_their_own():
    """The sum of half squares and KL; mu never raises it, and L-BFGS goes no lower."""
    X, P = two()
    own = {"loss": "by_view", "loss.views": {"p": "kl"}, "dtype": "float64"}
    fitted = fit(X, views={"p": P}, solver="mu", max_iter=200, **own)
    W, H, G = (fitted.factors[name]()[0].detach().numpy() for name in ("W", "H", "H_p"))
    x_hat, p_hat = W @ H, W @ G
    kl = (P * np.log(P / p_hat) - P + p_hat).sum()
    value = 0.5 * ((X - x_hat) ** 2).sum() + kl
    assert fitted.metrics["train/loss"] == pytest.approx(value, rel=1e-6)
    again = fitted.transform(X, views={"p": P})
    found = 0.5 * ((X - again @ H) ** 2).sum() + (P * np.log(P / (again @ G)) - P + again @ G).sum()
    assert found <= value * (1 + 1e-6)
    source = InMemory(X=X + 1, views={"p": P + 1})
    model, batch = started(source, model="joint_nmf", n_components=3, solver="mu", **own)
    model.solver.extrapolation = False
    last = np.inf
    for _ in range(20):
        terms = model.solver.step(model, batch, 1, [0])
        assert float(terms["data"]) <= last
        last = float(terms["data"])
    with pytest.raises(nmfnet.UserError, match=r"view p has .* negative values, and loss=kl"):
        fit(X, views={"p": -P}, constraint="free", **own)
    with pytest.raises(nmfnet.UserError, match=r"loss\.views\.q: there is no such view"):
        fit(X, views={"p": P}, loss="by_view", **{"loss.views": {"q": "kl"}})
    with pytest.raises(nmfnet.UserError, match=r"loss\.views\.p=zinb: a view takes frobenius, kl"):
        fit(X, views={"p": P}, loss="by_view", **{"loss.views": {"p": "zinb"}})


def test_variance_is_explained_by_component_and_view():
    """Of views of disjoint components, each is lost without its own."""
    rng = np.random.default_rng(0)
    W = rng.exponential(size=(40, 2))
    X, P = (np.outer(W[:, j], 0.5 + rng.random(8)) for j in (0, 1))
    fitted = fit(X, views={"p": P}, n_components=2, n_restarts=3, tol=1e-8)
    table = fitted.reports["views"]
    assert table["component"] == ["C1", "C2", "all components"]
    both = np.column_stack([table["x"], table["p"]])
    np.testing.assert_allclose(both[2], 1, atol=1e-3)
    own = both[:2].argmax(0)
    assert sorted(own) == [0, 1]
    assert both[own, [0, 1]].min() > 0.99
    assert both[own[::-1], [0, 1]].max() < 0.02
    assert fitted.metrics["view/p/r2"] == pytest.approx(table["p"][2])


def test_a_missing_view_is_imputed():
    X, P = two()
    fitted = fit(X, views={"p": P}, dtype="float64", max_iter=2000, tol=1e-9)
    assert relative(P, fitted.reconstruct(X, view="p")) < 0.05
    assert relative(X, fitted.reconstruct(None, views={"p": P}, view="x")) < 0.05
    with pytest.raises(nmfnet.UserError, match="without a view 'q'; it has p"):
        fitted.reconstruct(X, view="q")


def test_modalities_are_views():
    from types import SimpleNamespace

    import pandas as pd

    X, P = two(6)
    names = [f"s{i}" for i in range(6)]
    frames = {
        "rna": pd.DataFrame(X, index=names),
        "protein": pd.DataFrame(P, index=names).iloc[[4, 0, 2]],
    }
    matrix = InMemory(X=SimpleNamespace(obs_names=names, mod=frames)).read()
    np.testing.assert_array_equal(matrix.values, X)
    np.testing.assert_array_equal(matrix.views["protein"].values[[4, 0, 2]], P[[4, 0, 2]])
    assert "X is the modality 'rna'." in matrix.notes()


@pytest.mark.quick("kl")
@pytest.mark.parametrize("loss", ["frobenius", "kl"])
def test_what_a_sample_lacks_changes_nothing_of_others(loss):
    X, P = two()
    P[:4] = np.nan
    settings = {"loss": loss, "dtype": "float64", "max_iter": 1500}
    fitted = fit(X, views={"p": P}, **settings)
    W = fitted.factors["W"]()[0].detach().numpy()
    assert relative(X, W @ fitted.components_) < 0.05
    assert fitted.metrics["view/p/r2"] > 0.99
    assert fitted.metrics["view/x/r2"] > 0.99
    whole = fitted.transform(X, views={"p": P})
    full = fitted.transform(X, views={"p": np.where(np.isnan(P), 1.0, P)})
    np.testing.assert_allclose(whole[4:], full[4:], rtol=1e-10)
    assert not np.allclose(whole[:4], full[:4], rtol=1e-3)
    alone = fitted.transform(X[:4])  # the samples that have X only
    np.testing.assert_allclose(whole[:4], alone, rtol=1e-4, atol=1e-6)
    hidden = InMemory(X=X, views={"p": P}).read().views["p"]
    assert not hidden.values[:4].any()


@pytest.mark.slow
def test_codes_come_from_any_subset_of_the_views():
    X, P = two()
    fitted = fit(X, views={"p": P}, dtype="float64", max_iter=3000, tol=1e-9)
    G = fitted.factors["H_p"]()[0].detach().numpy()
    for W in (
        fitted.transform(X),
        fitted.transform(X, views={"p": P}),
        fitted.transform(None, views={"p": P}),
    ):
        assert relative(X, W @ fitted.components_) < 0.05
        assert relative(P, W @ G) < 0.05
    assert relative(X, fitted.reconstruct(None, views={"p": P})) < 0.05
    for views, message in (
        ({"q": P}, "without a view 'q'; it has p"),
        ({"p": P[:, 1:]}, "view p has 6 features, but this model was fitted on 7"),
        ({"p": P[1:]}, "view p has 29 rows, X has 30"),
        ({"p": -P}, "view p has 210 negative values"),
    ):
        with pytest.raises(nmfnet.UserError, match=message):
            fitted.transform(X, views=views)


@pytest.mark.slow
def test_transform_is_what_training_does():
    X, P = two()
    P[:4] = np.nan
    source = InMemory(X=X, views={"p": P})
    fitted = fit(X, views={"p": P}, dtype="float64", max_iter=3000, tol=1e-8)
    _, batch = started(source, model="joint_nmf", n_components=3)
    import torch

    with torch.no_grad(), fitted.restarts(0):
        trained = misfit(fitted, batch, fitted.encode(batch))
        again = misfit(fitted, batch, fitted.infer(batch))
    assert float(again) <= 1.001 * float(trained)
    assert float(trained) == pytest.approx(fitted.metrics["train/loss"], rel=1e-9)


def test_what_is_held_out_is_judged_alone():
    X, P = two()
    entries = fit(X, views={"p": P}, split="entries", max_iter=300, dtype="float64")
    assert "test/view/p/r2" not in entries.metrics
    per_entry = 2 * entries.metrics["test/loss"] / round(0.1 * X.size)
    assert per_entry == pytest.approx(entries.metrics["test/mse"], rel=1e-6)
    rows = fit(X, views={"p": P}, split="rows", max_iter=300)
    assert rows.metrics["test/view/p/r2"] > 0.9


def test_losses_with_parameters_are_refused():
    X, P = two()
    with pytest.raises(nmfnet.UserError, match="none for those of other views: use loss=frob"):
        fit(X, views={"p": P}, loss="negative_binomial")


def test_restarts_are_runs():
    X, P = two()
    P[:4] = np.nan
    assert_restarts_are_runs(InMemory(X=X, views={"p": P}), model="joint_nmf", n_components=3)


@pytest.mark.slow
def test_an_interrupted_run_continues(tmp_path):
    X, P = two()
    P[:4] = np.nan
    own = {"model": "joint_nmf", "n_components": 3}
    assert_resumes(InMemory(X=X, views={"p": P}), tmp_path, **own)


def test_saved_and_loaded_is_the_same(tmp_path):
    X, P = two()
    fitted = fit(X, views={"p": P}, max_iter=50, n_restarts=2, run_dir=tmp_path / "run")
    loaded = nmfnet.load(tmp_path / "run")
    for given in ({"X": X}, {"X": X, "views": {"p": P}}, {"X": None, "views": {"p": P}}):
        assert np.array_equal(fitted.transform(**given), loaded.transform(**given))
    with np.load(tmp_path / "run" / "factors.npz") as held:
        assert held["H_p"].shape == (3, 7)
        assert json.loads(str(held["axes"]))["H_p"] == ["component", "view p"]


def test_a_model_of_x_alone_says_so():
    X, P = two()
    cfg = configuration({"model": "nmf", "max_iter": 3, **QUIET})
    result = run(cfg, InMemory(X=X, views={"p": P}), write=False)
    assert "NMF explains X alone; it has no use for view p." in result.notes


# ---------------------------------------------------------------------- the command
def words(tables: dict[str, dict[str, str]]) -> list[str]:
    return [
        f"data.views.{name}.{key}={value}"
        for name, options in tables.items()
        for key, value in options.items()
    ]


def test_the_command(tables, tmp_path):
    done = train(
        "data=views", *words(tables), "data.scaling=frobenius", "model=joint_nmf",
        "model.n_components=2", "max_iter=20", "figures=false", "run_dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"view/x/r2", "view/protein/r2"} <= numbers.keys()
    assert "weight 0 there" in done.out
    written = (tmp_path / "run" / "views.csv").read_text().splitlines()
    assert written[0] == "component,x,protein"
    assert [line.split(",")[0] for line in written[1:]] == ["C1", "C2", "all components"]
    tables["protein"]["orientation"] = "samples_by_features"
    said = refusal("data=views", *words(tables), "model=joint_nmf", cwd=tmp_path)
    assert "no sample in common" in said


@pytest.mark.catalogue
def test_digits_are_told_apart_by_four_views():
    matrix = data_set("mfeat-digits").read()
    matrix.check()
    assert matrix.shape == (2000, 240)
    assert {name: view.shape[1] for name, view in matrix.views.items()} == {
        "fou": 76, "zer": 47, "fac": 216
    }  # fmt: skip
    assert np.bincount(matrix.labels).tolist() == [200] * 10
    for table in (matrix, *matrix.views.values()):
        assert np.linalg.norm(table.values) == pytest.approx(1)


def test_views_of_new_rows_are_joined_by_name_as_in_training():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.random((12, 6)), index=[f"s{i}" for i in range(12)])
    P = pd.DataFrame(rng.random((12, 4)), index=X.index)
    mixed = P.iloc[rng.permutation(12)]
    model = nmfnet.fit(X, "joint_nmf", views={"p": mixed}, n_components=2, max_iter=9, threads=1)
    wanted = model.transform(X, views={"p": P})
    assert np.array_equal(model.transform(X, views={"p": mixed}), wanted)
    with pytest.raises(nmfnet.UserError, match="not in view p"):
        model.transform(X, views={"p": mixed.rename({"s3": "t3"})})
