"""Pictures of X beside its reconstruction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from nmfnet.errors import UserError
from nmfnet.plots.mosaic import Grid
from nmfnet.plots.reconstruction import choose_rows, dense_rows, reconstruction_examples, row_errors
from nmfnet.plots.spectra import LAYOUTS


def axes_of(figure: Figure, label: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_label() == label)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_row_errors_are_relative_and_skip_unobserved_entries() -> None:
    x = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, np.nan]])
    errors = row_errors(x, np.array([[3.0, 0.0], [1.0, 1.0], [1.0, 9.0]]))
    assert errors[0] == pytest.approx(0.8)
    assert np.isnan(errors[1])
    assert errors[2] == 0


def test_images_show_original_reconstruction_and_residual(rng: np.random.Generator) -> None:
    X = rng.random((9, 6)) + 1
    scale = 1 + np.arange(9)[::-1, None] / 10  # the last sample is fitted best
    figure = reconstruction_examples(X, X * scale, "image", image_shape=(2, 3))
    drawn = np.asarray(axes_of(figure, "images").images[0].get_array().filled(np.nan))
    residual = np.asarray(axes_of(figure, "residuals").images[0].get_array().filled(np.nan))
    grid = Grid.of(18, (2, 3), columns=9, caption=0.06)
    for column, row in enumerate(range(8, -1, -1)):
        for number, picture in ((column, X[row]), (9 + column, X[row] * scale[row])):
            top, left = grid.corner(number)
            tile = drawn[top : top + 2, left : left + 3]
            np.testing.assert_allclose(tile, picture.reshape(2, 3))
        top, left = grid.corner(column)
        expected = (X[row] * (1 - scale[row])).reshape(2, 3)
        np.testing.assert_allclose(residual[top : top + 2, left : left + 3], expected, atol=1e-12)


def test_spectra_show_observed_up_reconstructed_down_with_their_cosine(
    rng: np.random.Generator,
) -> None:
    layout = LAYOUTS["sbs96"]
    X, X_hat = rng.integers(0, 50, (1, 96)).astype(float), rng.random((1, 96)) * 50
    order = rng.permutation(96)
    names = [layout.keys[column] for column in order]
    figure = reconstruction_examples(
        *(X[:, order], X_hat[:, order], "sbs96"), feature_names=names, sample_names=["PD1"]
    )
    up, down = axes_of(figure, "PD1").collections
    tops = [path.vertices[:, 1].max() for path in up.get_paths()]
    bottoms = [path.vertices[:, 1].min() for path in down.get_paths()]
    np.testing.assert_allclose(tops, X[0])
    np.testing.assert_allclose(bottoms, -X_hat[0])
    cosine = X[0] @ X_hat[0] / np.linalg.norm(X[0]) / np.linalg.norm(X_hat[0])
    assert f"PD1  cosine {cosine:.3f}, {X.sum():,.0f} mutations" in texts(figure)


def test_generic_data_show_density_errors_and_three_samples(rng: np.random.Generator) -> None:
    X = rng.random((30, 8))
    X_hat = X + 0.3 * rng.random((30, 8))
    names = [f"s{i}" for i in range(30)]
    figure = reconstruction_examples(X, X_hat, sample_names=names, feature_names=list("abcdefgh"))
    errors = row_errors(X, X_hat)
    best, worst = names[errors.argmin()], names[errors.argmax()]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert f"best: {best}" in titles
    assert f"worst: {worst}" in titles
    density = 10 ** np.ma.masked_invalid(axes_of(figure, "density").images[0].get_array())
    assert density.sum() == pytest.approx(X.size)
    step = axes_of(figure, "errors").lines[0]
    np.testing.assert_allclose(step.get_xdata(), np.sort(errors))
    worst_row = X[errors.argmax()]
    dots = axes_of(figure, "worst sample").collections[1].get_offsets()
    np.testing.assert_allclose(dots[:, 1], X_hat[errors.argmax()][np.argsort(-worst_row)])


class OnlyRows:
    """A sparse matrix that refuses to become dense as a whole."""

    def __init__(self, table: Any) -> None:
        self.table, self.shape = table, table.shape

    def toarray(self) -> None:
        raise AssertionError("the whole matrix was densified")

    def __getitem__(self, rows: Any) -> Any:
        return self.table[rows]


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csr_array, sp.coo_matrix, sp.csc_matrix])
def test_sparse_data_give_the_same_rows(form: Any, rng: np.random.Generator) -> None:
    X = rng.poisson(0.3, (20, 7)).astype(float)
    rows = np.array([3, 11])
    np.testing.assert_array_equal(dense_rows(form(X), rows), X[rows])


def test_only_the_chosen_rows_are_made_dense() -> None:
    X = sp.random(5000, 3000, 0.001, format="csr", rng=np.random.default_rng(0))
    seen = []

    def decode(rows: np.ndarray) -> np.ndarray:
        seen.extend(rows)
        return np.zeros((len(rows), 3000))

    figure = reconstruction_examples(OnlyRows(X), decode, "text")
    assert seen == choose_rows(X.shape).tolist()
    assert len(seen) == 666
    assert "666 of 5,000 documents, evenly spaced." in texts(figure)


@pytest.mark.parametrize("kind", ["generic", "image", "sbs96"])
def test_hidden_entries_do_not_count(kind: str, rng: np.random.Generator) -> None:
    X = rng.random((4, 96)) + 1
    X_hat, mask = X.copy(), np.ones_like(X, dtype=bool)
    mask[:, 5] = False
    X_hat[:, 5] = 100
    options: dict[str, Any] = {"image_shape": (8, 12)}
    if kind == "sbs96":
        options["feature_names"] = LAYOUTS["sbs96"].keys
    figure = reconstruction_examples(X, X_hat, kind, mask=sp.csr_matrix(mask), **options)
    figure.canvas.draw()
    perfect = "median cosine 1.000" if kind == "sbs96" else "median relative error 0"
    assert perfect in texts(figure)


@pytest.mark.parametrize("kind", ["generic", "text", "image", "sbs96"])
@pytest.mark.parametrize(("value", "count"), [(0.0, 1), (-2.0, 2)])
def test_degenerate_data_can_be_drawn(kind: str, value: float, count: int) -> None:
    X = np.full((count, 96), value)
    options: dict[str, Any] = {"image_shape": (8, 12), "feature_names": LAYOUTS["sbs96"].keys}
    figure = reconstruction_examples(X, X, kind, **options)
    figure.canvas.draw()
    assert "nan" not in texts(figure)


def test_shapes_and_values_are_checked() -> None:
    with pytest.raises(UserError, match=r"X has shape \(2, 3\) and X_hat \(2, 2\)"):
        reconstruction_examples(np.ones((2, 3)), np.ones((2, 2)))
    with pytest.raises(UserError, match="X_hat holds 6 of 6 values that are NaN"):
        reconstruction_examples(np.ones((2, 3)), np.full((2, 3), np.nan))
