"""The tree of topics: every box with its words, a line for every share that counts."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.text import Text

from nmfnet.plots import Run, run_figures
from nmfnet.plots.tree import topic_tree


def texts(figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}


def test_boxes_words_and_lines() -> None:
    wide = np.eye(4, 8) + 0.1
    narrow = np.array([wide[0] + wide[1], wide[2] + wide[3]])
    shares = np.array([[0.5, 0.45, 0.05, 0.0], [0.0, 0.0, 0.3, 0.7]])
    names = [f"word{i}" for i in range(8)]
    figure = topic_tree([wide, narrow], [shares], names, n_words=2)
    axes = figure.axes[0]
    assert sum(isinstance(patch, Rectangle) for patch in axes.patches) == 6
    assert sum(isinstance(patch, PathPatch) for patch in axes.patches) == 4
    found = texts(figure)
    assert {"1.1", "1.4", "2.2", "word0", "word3", "50", "45", "70"} <= found
    assert "5" not in found
    assert "Which topics make up which, 2 layers" in found


def test_three_layers_and_a_topic_that_nothing_uses() -> None:
    rng = np.random.default_rng(0)
    layers = [rng.random((k, 6)) for k in (5, 3, 2)]
    first = np.full((3, 5), 0.25)
    first[:, 4] = 0
    figure = topic_tree(layers, [first, np.full((2, 3), 1 / 3)], kind="generic")
    assert "1.5" in texts(figure)
    assert "Which components make up which, 3 layers" in texts(figure)


def test_a_run_in_layers_draws_it() -> None:
    rng = np.random.default_rng(0)
    layers = [rng.random((3, 6)), rng.random((2, 6))]
    W = rng.random((4, 2))
    assert "tree" in dict(run_figures(Run(W=W, H=layers[-1], layers=layers)))
    assert "tree" not in dict(run_figures(Run(W=W, H=layers[-1], layers=layers[1:])))
