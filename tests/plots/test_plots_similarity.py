"""Pictures of likeness: cosines, matches, consensus."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from nmfnet.errors import UserError
from nmfnet.plots.similarity import (
    align_reference,
    consensus_matrix,
    cosine_heatmap,
    cosines,
    match,
)
from nmfnet.plots.spectra import LAYOUTS


def axes_of(figure: Figure, label: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_label() == label)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_cosines_and_matches(rng: np.random.Generator) -> None:
    reference = rng.random((5, 20))
    H = 3 * reference[[4, 0, 2]]
    cosine = cosines(H, reference)
    expected = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in reference] for a in H]
    np.testing.assert_allclose(cosine, expected)
    assert match(cosine)[1].tolist() == [4, 0, 2]
    assert cosines(np.zeros((1, 3)), np.ones((1, 3))).tolist() == [[0]]
    with pytest.raises(UserError, match="H has 3 features and the reference 4"):
        cosines(np.ones((1, 3)), np.ones((1, 4)))


def test_heat_map_follows_the_matches_and_frames_them(rng: np.random.Generator) -> None:
    reference = rng.random((6, 20))
    H = reference[[4, 0, 2]]
    names = [f"SBS{i}" for i in range(6)]
    figure = cosine_heatmap(H, reference, reference_names=names, kind="sbs96")
    axes = axes_of(figure, "cosine")
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert columns[:3] == ["SBS4", "SBS0", "SBS2"]
    chosen = [names.index(name) for name in columns]
    np.testing.assert_allclose(axes.images[0].get_array(), cosines(H, reference)[:, chosen])
    frames = next(c for c in axes.collections if c.get_label() == "matches").get_paths()
    assert [tuple(frame.vertices[0] + 0.5) for frame in frames] == [(0, 0), (1, 1), (2, 2)]
    assert "3 of 3 signatures match a reference with cosine ≥ 0.9" in texts(figure)
    assert "mean cosine 1.000" in texts(figure)


def test_more_components_than_references_and_large_references(rng: np.random.Generator) -> None:
    figure = cosine_heatmap(rng.random((60, 9)), rng.random((4, 9)))
    frames = next(c for c in axes_of(figure, "cosine").collections if c.get_label() == "matches")
    assert len(frames.get_paths()) <= 4
    figure = cosine_heatmap(rng.random((3, 9)), rng.random((300, 9)))
    assert axes_of(figure, "cosine").images[0].get_array().shape == (3, 9)
    assert "The 9 most similar of 300 references" in texts(figure)


def test_a_reference_table_is_joined_by_label(rng: np.random.Generator) -> None:
    import pandas as pd

    keys = LAYOUTS["sbs96"].keys
    values = rng.random((2, 96))
    spelled = [f"{key[2:5]} {key[0]}{key[2]}{key[6]}" for key in keys]
    table = pd.DataFrame(values, index=["SBS1", "SBS5"], columns=spelled)
    order = rng.permutation(96)
    aligned, names = align_reference(table, [keys[column] for column in order])
    np.testing.assert_array_equal(aligned, values[:, order])
    assert names == ["SBS1", "SBS5"]
    with pytest.raises(UserError, match="lacks 1 of 2 features, first 'gene'"):
        align_reference(table, [keys[0], "gene"])


def test_other_references_are_taken_as_they_are() -> None:
    values = np.eye(2)
    assert align_reference(values, ["a", "b"])[1] is None
    aligned, names = align_reference(SimpleNamespace(values=values, names=["x", "y"]), None)
    np.testing.assert_array_equal(aligned, values)
    assert names == ["x", "y"]


def test_consensus_puts_clusters_together() -> None:
    groups = np.array([0, 1, 0, 1, 1, 0])
    C = np.equal.outer(groups, groups).astype(float)
    figure = consensus_matrix(C, [f"s{i}" for i in range(6)], n_components=2)
    axes = axes_of(figure, "consensus")
    order = [int(label.get_text()[1:]) for label in axes.get_yticklabels()]
    np.testing.assert_array_equal(axes.images[0].get_array(), C[np.ix_(order, order)])
    assert (np.diff(groups[order]) != 0).sum() == 1
    assert "100% of the pairs" in texts(figure)


def test_consensus_is_thinned_and_checked() -> None:
    figure = consensus_matrix(np.eye(700))
    assert axes_of(figure, "consensus").images[0].get_array().shape == (600, 600)
    assert "600 of 700 samples" in texts(figure)
    consensus_matrix(np.ones((1, 1))).canvas.draw()
    for wrong in (np.ones((2, 3)), np.array([[1.0, 0.2], [0.4, 1.0]]), np.full((2, 2), 3.0)):
        with pytest.raises(UserError, match="must be square, symmetric and between 0 and 1"):
            consensus_matrix(wrong)
