"""Picture of a hierarchy: which topics of a layer make up each topic of the next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.plots import style
from nmfnet.plots.arrays import matrix, names_for

__all__ = ["topic_tree"]

LINE, COLUMN, GAP = 0.135, 2.05, 1.15
"""Inches: a line of text, a column of boxes, the space between columns."""


def topic_tree(
    layers: Sequence[ArrayLike],
    shares: Sequence[ArrayLike],
    feature_names: Sequence[str] | None = None,
    *,
    kind: str = "text",
    names: Sequence[Sequence[str]] | None = None,
    n_words: int = 6,
    least: float = 0.1,
) -> Figure:
    """Draw the topics of every layer as boxes, joined where one is made of another.

    Parameters
    ----------
    layers : sequence of arrays, shapes (k_l, f), from wide to narrow
        Components of every layer in terms of the features.
    shares : sequence of arrays, shapes (k_l, k_{l-1})
        Parts of each topic in the topics of the layer before, rows summing to 1 (from
        ``nmfnet.metrics.topic_tree``); one fewer than layers.
    feature_names : sequence of str, length f, optional
    kind : str
        What the components are called: ``text`` (topics) or any other kind of data.
    names : sequence of sequences of str, optional
        Captions of the boxes of every layer; 1.1, 1.2, ... without.
    n_words : int
        Leading features in a box.
    least : float
        Shares below this are not drawn. The largest of a topic always is.
    """
    found = [matrix(H, "H") for H in layers]
    words = names_for(feature_names, found[0].shape[1], "feature ", "features")
    rows = -(-n_words // 2) + 1
    box = (rows + 0.6) * LINE
    tallest = max(len(H) for H in found)
    height = tallest * (box + LINE)
    width = 0.3 + len(found) * COLUMN + (len(found) - 1) * GAP
    figure = style.new_figure(width, style.HEAD + height + 0.2)
    part = style.words(kind).component
    style.heading(
        figure,
        f"Which {part}s make up which, {len(found)} layers",
        f"Width and number of a line: share of the {part} on its right (from {least:.0%}).",
    )
    axes = style.panel(figure, 0, style.HEAD, width, height, label="tree")
    axes.set(xlim=(0, width), ylim=(height, 0))
    style.bare(axes)
    order = _orders([np.asarray(share, dtype=np.float64) for share in shares], len(found[0]))
    places = [_places(order_of, height) for order_of in order]
    for level, H in enumerate(found):
        left = 0.15 + level * (COLUMN + GAP)
        for topic, middle in enumerate(places[level]):
            caption = f"{level + 1}.{topic + 1}" if names is None else names[level][topic]
            top = np.argsort(-H[topic], kind="stable")[:n_words]
            leading = [style.shorten(words[i], 13) for i in top if H[topic, i] > 0]
            _box(axes, left, float(middle), box, caption, leading)
    for level, share in enumerate(shares):
        left = 0.15 + level * (COLUMN + GAP) + COLUMN
        _lines(axes, left, np.asarray(share), places[level], places[level + 1], least)
    return figure


def _orders(shares: list[np.ndarray], first: int) -> list[np.ndarray]:
    """An order of the topics of every layer in which few lines cross: by their main parent."""
    if not shares:
        return [np.arange(first)]
    order = [np.arange(len(shares[-1]))]
    for share in reversed(shares):
        rank = np.empty(len(share))
        rank[order[0]] = np.arange(len(share))
        weight = share.sum(0)
        centre = np.divide(rank @ share, weight, out=np.full(len(weight), 1e9), where=weight > 0)
        order.insert(0, np.argsort(centre, kind="stable"))
    return order


def _places(order: np.ndarray, height: float) -> np.ndarray:
    """Middle of the box of every topic, in inches from the top."""
    middle = np.empty(len(order))
    middle[order] = (np.arange(len(order)) + 0.5) * height / len(order)
    return middle


def _box(
    axes: Axes, left: float, middle: float, height: float, caption: str, leading: list[str]
) -> None:
    from matplotlib.patches import Rectangle

    corner = (left, middle - height / 2)
    axes.add_patch(
        Rectangle(corner, COLUMN, height, facecolor="#F4F5FA", edgecolor=style.GRID, linewidth=0.8)
    )
    line = middle - height / 2 + 0.8 * LINE
    style.write(axes, left + 0.06, line, style.shorten(caption, 28), bold=True, va="center")
    for i in range(0, len(leading), 2):
        line += LINE
        for j, word in enumerate(leading[i : i + 2]):
            style.write(axes, left + 0.06 + j * COLUMN / 2, line, word, va="center")


def _lines(
    axes: Axes,
    left: float,
    share: np.ndarray,
    wide: np.ndarray,
    narrow: np.ndarray,
    least: float,
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    for topic, parts in enumerate(share):
        colour = style.PALETTE[topic % len(style.PALETTE)]
        drawn = np.flatnonzero((parts >= least) | ((parts > 0) & (parts == parts.max())))
        for part in drawn:
            start, end = (left, wide[part]), (left + GAP, narrow[topic])
            bend = left + GAP / 2
            curve = Path(
                [start, (bend, start[1]), (bend, end[1]), end],
                [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4],
            )
            wide_line = 0.6 + 5 * float(parts[part])
            axes.add_patch(
                PathPatch(curve, fill=False, edgecolor=colour, linewidth=wide_line, alpha=0.6)
            )
            at = start[1] + 0.16 * (end[1] - start[1])
            style.write(axes, left + 0.32 * GAP, at, f"{100 * parts[part]:.0f}", va="center")
