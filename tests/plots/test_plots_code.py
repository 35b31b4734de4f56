"""Codes of any sign in two dimensions, terms of an objective, dispersions."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from nmfnet.errors import UserError
from nmfnet.plots import Run, run_figures
from nmfnet.plots.code import code_map, dispersion_of_means, objective_terms
from nmfnet.plots.samples import samples

RNG = np.random.default_rng(0)


def points(figure, label):  # type: ignore[no-untyped-def]
    (axes,) = [axes for axes in figure.axes if axes.get_label() == label]
    found = [c.get_offsets() for c in axes.collections if isinstance(c, PathCollection)]
    return np.concatenate([np.asarray(part) for part in found])


def test_the_plane_of_the_codes_is_that_of_their_largest_variance():
    plane = RNG.normal(size=(40, 2)) * [5, 3]
    turned = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    code = np.hstack([plane, 0.01 * RNG.normal(size=(40, 4))]) @ turned
    kinds = ["a", None, *["b"] * 38]
    figure = code_map(code, {"labels": kinds, "batch": ["x", "y"] * 20}, by="pca")
    for label in ("code by labels", "code by batch"):
        drawn = points(figure, label)
        assert drawn.shape == (40, 2)
        assert drawn.var(0).sum() == pytest.approx(code.var(0).sum(), rel=1e-3)
    assert points(code_map(plane), "code by ").shape == (40, 2)
    with pytest.raises(UserError, match="labels has 2 classes for 40 samples"):
        code_map(code, {"labels": ["a", "b"]}, by="pca")


def test_terms_and_dispersions_are_drawn_as_they_are():
    history = {"iteration": [1, 2, 3], "term/data": [3.0, 2, 1], "term/kl": [0.0, 1, np.nan]}
    lines = [axes.lines[0].get_ydata() for axes in objective_terms(history).axes]
    np.testing.assert_array_equal(lines[0], [3, 2, 1])
    with pytest.raises(UserError, match="no columns iteration and term/NAME"):
        objective_terms({"iteration": [1]})
    theta, mean = RNG.gamma(2, 2, 30), RNG.gamma(2, 2, 30)
    mean[0] = 0  # never seen: no place on a log axis
    drawn = points(dispersion_of_means(theta, mean), "dispersion")
    np.testing.assert_allclose(drawn, np.column_stack([mean, theta])[1:])
    with pytest.raises(UserError, match="30 dispersions for 2 means"):
        dispersion_of_means(theta, [1, 2])


def test_a_run_draws_what_it_has():
    W = RNG.normal(size=(20, 2))
    history = {"iteration": [1], "seconds": [0.1], "objective": [1.0], "term/data": [1.0]}
    x = RNG.poisson(3, (20, 5))
    run = Run(W=W, x=x, said=lambda rows: x[rows] + 1.0, real_code=True, history=history)
    assert {"code", "reconstruction"} <= set(dict(run_figures(run)))
    assert "terms" not in dict(run_figures(run))  # one term is the objective itself
    more = Run(
        W=W, x=x, said=lambda rows: x[rows] + 1.0, real_code=True, dispersion=np.ones(5),
        history=history | {"term/kl": [2.0]}, labels=np.arange(20) % 2, batches={"b": ["x"] * 20},
    )  # fmt: skip
    assert list(more.groups) == ["labels", "b"]
    assert {"terms", "dispersion"} <= set(dict(run_figures(more)))


def test_drawn_rows_lie_in_the_plane_of_the_data():
    plane = RNG.normal(size=(50, 2)) * [5, 3]
    turned = np.linalg.qr(RNG.normal(size=(6, 6)))[0][:2]
    figure = samples(plane @ turned, 2 * plane @ turned)
    data, drawn = points(figure, "data"), points(figure, "drawn")
    assert data.var(0).sum() == pytest.approx(plane.var(0).sum(), rel=1e-6)
    np.testing.assert_allclose(drawn - drawn.mean(0), 2 * (data - data.mean(0)), atol=1e-9)
    np.testing.assert_array_equal(points(samples(plane, plane), "drawn"), plane)
    images = samples(plane @ turned, plane @ turned, kind="image", image_shape=(2, 3))
    assert [axes.get_label() for axes in images.axes] == ["data", "drawn"]
    with pytest.raises(UserError, match="drawn has 2 features"):
        samples(plane @ turned, plane)
