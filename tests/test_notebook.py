"""A model in a notebook: what it shows of itself, its figures, its names, and the files beside it."""

from __future__ import annotations

import csv
import pickle

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import nmfnet
from nmfnet import UserError
from nmfnet.plots import FIGURES
from nmfnet.run.leading import leading_lines

WORDS = ["apple", "<b>", "cherry", "damson", "elder"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.random((30, 2)) @ rng.random((2, 5)) + 0.1, columns=WORDS)
    X.index = [f"s{i}" for i in range(30)]
    folder = tmp_path_factory.mktemp("run")
    model = nmfnet.fit(
        *(X, "nmf"), n_components=2, n_restarts=2, split="rows", figures="pdf", run_dir=folder
    )
    return X, model, folder


def test_dir_says_what_there_is():
    assert set(nmfnet.__all__) <= set(dir(nmfnet))
    assert all(getattr(nmfnet, name) is not None for name in dir(nmfnet))
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = nmfnet.fitt


def test_a_model_has_what_its_dir_says(fitted):
    _, model, folder = fitted
    for one in (model, nmfnet.load(folder)):
        assert all(hasattr(one, name) for name in dir(one))
    assert model.reports == {}


def test_a_model_shows_its_numbers(fitted):
    _, model, folder = fitted
    for shown in (repr(model), model._repr_html_(), repr(nmfnet.load(folder))):
        assert "24 samples × 5 features" in shown
        assert f"frobenius {model.metrics['train/loss']:.6g}" in shown
        assert f"{model.metrics['test/relative_error']:.4g}" in shown
        assert f"converged after {model.metrics['n_iter']:,} iterations" in shown
    assert model._repr_html_().count("<tr") == len(repr(model).splitlines()) - 1


def test_names_are_kept(fitted):
    X, model, folder = fitted
    loaded = nmfnet.load(folder)
    assert model.feature_names == loaded.feature_names == WORDS
    assert model.component_names == loaded.component_names == ["C1", "C2"]
    np.testing.assert_allclose(loaded.transform(X[WORDS[::-1]]), loaded.transform(X))


def test_figures_are_those_of_a_run(fitted):
    _, model, folder = fitted
    assert dir(model.plot) == sorted(FIGURES)
    drawn = {file.stem for file in (folder / "figures").iterdir() if file.suffix == ".pdf"}
    assert drawn == {"components", "reconstruction", "weights", "convergence", "restarts"}
    for name in drawn:
        figure = getattr(model.plot, name)()
        assert isinstance(figure, Figure)
        assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(AttributeError, match=r"no figure 'component': there are .*components"):
        model.plot.component()
    with pytest.raises(UserError, match="nothing to draw it from"):
        model.plot.weights_by_class()


def test_a_model_without_its_data_draws_what_it_can(fitted):
    X, model, folder = fitted
    for other in (nmfnet.load(folder), pickle.loads(pickle.dumps(model))):
        assert isinstance(other.plot.components(), Figure)
        assert isinstance(other.plot.convergence(), Figure)
        with pytest.raises(UserError, match=r"give rows, model\.plot\.weights\(X\)"):
            other.plot.weights()
        for name in ("weights", "reconstruction"):
            assert isinstance(getattr(other.plot, name)(X.iloc[:4]), Figure)


def test_leading_features_are_the_largest_of_each_component(fitted):
    _, model, folder = fitted
    with (folder / "top_features.csv").open() as file:
        rows = list(csv.DictReader(file))
    H = model.components_ / model.components_.sum(1, keepdims=True)
    for i, name in enumerate(model.component_names):
        mine = [row for row in rows if row["component"] == name]
        order = np.argsort(-H[i], kind="stable")[: len(mine)]
        assert [row["feature"] for row in mine] == [WORDS[j] for j in order]
        np.testing.assert_allclose([float(row["share"]) for row in mine], H[i, order], rtol=1e-4)
        held = H[i, order] / H[:, order].sum(0)
        np.testing.assert_allclose([float(row["of_feature"]) for row in mine], held, rtol=1e-4)
        assert leading_lines(folder)[i].startswith(f"{name}: {mine[0]['feature']} ")


def test_held_out_rows_are_explained_beyond_the_training_means(fitted):
    X, model, folder = fitted
    with np.load(folder / "factors.npz") as held:
        train = X.loc[held["sample_names"].tolist()]
        test = X.drop(train.index)
        left = ((test - held["W_test"] @ held["H"]) ** 2).to_numpy().sum()
    whole = ((test - train.mean()) ** 2).to_numpy().sum()
    assert model.metrics["test/explained_variance"] == pytest.approx(1 - left / whole, rel=1e-4)


def test_figures_of_no_kind_are_refused(fitted):
    with pytest.raises(UserError, match=r"figures=pdff: must be .*png.*did you mean 'pdf'"):
        nmfnet.fit(fitted[0], n_components=2, figures="pdff")


def test_data_frames_for_data_frames(fitted):
    X, _, _ = fitted
    estimator = nmfnet.Estimator(n_components=2).set_output(transform="pandas")
    W = estimator.fit_transform(X)
    assert list(W.columns) == list(estimator.get_feature_names_out())
    assert W.index.equals(X.index)
