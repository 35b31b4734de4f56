"""Pictures of W: class means, stacks and heat maps hold the numbers that were given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from nmfnet.errors import UserError
from nmfnet.plots.classes import class_codes
from nmfnet.plots.weights import class_means, weights_by_class, weights_heatmap, weights_stack


def axes_of(figure: Figure, label: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_label() == label)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def tick_texts(axes: Axes, which: str) -> list[str]:
    return [label.get_text() for label in getattr(axes, f"get_{which}ticklabels")()]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_class_means_are_means_of_normalised_rows(rng: np.random.Generator) -> None:
    import pandas as pd

    W, labels = rng.random((40, 3)), rng.choice(["b", "a", "c"], 40)
    names, means, sizes = class_means(W, labels)
    expected = pd.DataFrame(W / W.sum(1, keepdims=True)).groupby(labels).mean()
    assert names == ["a", "b", "c"]
    np.testing.assert_allclose(means, expected)
    assert sizes.tolist() == [(labels == name).sum() for name in names]


def test_heat_map_cells_are_class_means_under_their_names(rng: np.random.Generator) -> None:
    W, labels = rng.random((40, 4)), rng.integers(0, 3, 40)
    figure = weights_by_class(W, labels, ["x", "y", "z"])
    axes = axes_of(figure, "class means")
    assert tick_texts(axes, "y") == [f"{n} ({(labels == i).sum()})" for i, n in enumerate("xyz")]
    _, means, _ = class_means(W, labels, ["x", "y", "z"])
    np.testing.assert_allclose(axes.images[0].get_array(), 100 * means)
    below = tick_texts(axes_of(figure, "distribution"), "x")
    assert below == [f"C{i + 1}" for i in range(W.shape[1])]  # in the order of every figure


def test_distribution_shows_median_in_and_out_of_the_top_class() -> None:
    W = np.array([[9.0, 1.0], [8.0, 2.0], [7.0, 3.0], [1.0, 9.0], [3.0, 7.0], [2.0, 8.0]])
    figure = weights_by_class(W, list("aaabbb"))
    inside, outside = axes_of(figure, "distribution").collections[2::3]
    np.testing.assert_allclose(inside.get_offsets()[:, 1], [80, 80])
    np.testing.assert_allclose(outside.get_offsets()[:, 1], [20, 20])


def test_labels_of_every_sort_are_understood() -> None:
    codes, names = class_codes([2, 0, -1, 2], ["x", "y", "z"])
    assert codes.tolist() == [2, 0, -1, 2]
    assert names == ["x", "y", "z"]
    assert class_codes([10.0, np.nan, 9.0])[1][:2] == ["9", "10"]
    assert class_codes([10.0, np.nan, 9.0])[0].tolist() == [1, -1, 0]
    assert class_codes([-1, 1, -1])[0].tolist() == [0, 1, 0]  # a class, not a missing one
    codes, names = class_codes(np.array(["b", None, "a", ""], dtype=object), ["b"])
    assert [names[code] if code >= 0 else None for code in codes] == ["b", None, "a", None]
    with pytest.raises(UserError, match="A label is 3 but only 3 label_names"):
        class_codes([3], ["x", "y", "z"])


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"labels have shape \(2,\) for 3 samples"):
        weights_by_class(np.ones((3, 2)), [0, 1])
    with pytest.raises(UserError, match="No sample has a class"):
        weights_by_class(np.ones((2, 2)), [-1, -1], ["x"])


def test_many_classes_and_components_are_thinned_with_a_note(rng: np.random.Generator) -> None:
    W = rng.random((2000, 90))
    figure = weights_by_class(W, rng.integers(0, 80, 2000))
    assert axes_of(figure, "class means").images[0].get_array().shape == (60, 40)
    assert "The 60 largest of 80 classes. The 40 largest of 90 components." in texts(figure)


def bar_table(axes: Axes) -> np.ndarray:
    """Heights of stacked bars: one row for each layer."""
    paths = [collection.get_paths() for collection in axes.collections]
    return np.array([[np.ptp(path.vertices[:, 1]) for path in layer] for layer in paths])


def test_stack_shows_amounts_and_shares_sorted_by_total(rng: np.random.Generator) -> None:
    W = rng.random((12, 3))
    figure = weights_stack(W, [f"s{i}" for i in range(12)], kind="sbs96")
    order = np.argsort(-W.sum(axis=1))
    amount, share = bar_table(axes_of(figure, "amount")), bar_table(axes_of(figure, "share"))
    assert tick_texts(axes_of(figure, "share"), "x") == [f"s{i}" for i in order]
    np.testing.assert_allclose(amount.sum(axis=0), W.sum(axis=1)[order])
    np.testing.assert_allclose(share.sum(axis=0), 100)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["C1", "C2", "C3"]
    np.testing.assert_allclose(amount, W[order].T)


def test_stack_joins_small_components(rng: np.random.Generator) -> None:
    W = rng.random((5, 14))
    W[:, 3] += 10
    figure = weights_stack(W)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "C4" in legend
    assert legend[:-1] == sorted(legend[:-1], key=lambda name: int(name[1:]))
    assert legend[-1] == "5 others"
    np.testing.assert_allclose(bar_table(axes_of(figure, "share")).sum(axis=0), 100)


def test_stack_cuts_an_outlier_and_writes_its_total() -> None:
    W = np.ones((21, 2))
    W[4] = 500.0
    figure = weights_stack(W)
    assert axes_of(figure, "amount").get_ylim()[1] < 3
    assert "1,000 ↑" in texts(figure)
    assert "1 sample up to 1,000 is cut" in texts(figure)


def test_stack_of_many_samples_is_thinned_and_sorted_by_the_largest_component() -> None:
    W = np.repeat(np.eye(3), 10_000, axis=0)[np.random.default_rng(0).permutation(30_000)]
    figure = weights_stack(W + 0.01)
    assert "500 evenly spaced samples of each order are drawn" in texts(figure)
    first = axes_of(figure, "share").collections[0]
    heights = np.array(first.get_paths()[0].vertices[:, 1])
    assert (np.abs(np.diff(heights)) > 50).sum() == 2  # one block, two edges
    assert len(first.get_paths()[0].vertices) < 3000


def test_stack_refuses_negative_weights() -> None:
    with pytest.raises(UserError, match="1 negative weights"):
        weights_stack(np.array([[1.0, -1.0]]))


def test_heat_map_orders_samples_by_their_largest_component() -> None:
    W = np.array([[0.2, 0.8], [0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    figure = weights_heatmap(W, list("abcd"), names=["p", "q"])
    axes = axes_of(figure, "weights")
    assert tick_texts(axes, "x") == ["b", "a", "d", "c"]
    assert tick_texts(axes, "y") == ["p", "q"]
    np.testing.assert_allclose(axes.images[0].get_array(), 100 * W[[1, 0, 3, 2]].T)


def test_heat_map_of_signed_weights_diverges(rng: np.random.Generator) -> None:
    low, high = axes_of(weights_heatmap(rng.normal(size=(9, 3))), "weights").images[0].get_clim()
    assert low == -high


@pytest.mark.parametrize("W", [np.zeros((3, 2)), np.ones((1, 1))])
def test_degenerate_weights_can_be_drawn(W: np.ndarray) -> None:
    for figure in (weights_stack(W), weights_heatmap(W), weights_by_class(W, [0] * len(W))):
        figure.canvas.draw()
        assert "nan" not in texts(figure)


def test_names_must_be_as_many_as_samples() -> None:
    with pytest.raises(UserError, match="1 names were given for 2 samples"):
        weights_stack(np.ones((2, 2)), ["a"])
