"""A map of topics: how far they are from each other, and how many words each has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.metrics import principal_coordinates, topic_distances
from nmfnet.plots import style
from nmfnet.plots.arrays import choose_components, matrix, names_for

__all__ = ["topic_map"]

WORDS = 3
"""Leading words beside a topic."""


def topic_map(
    H: ArrayLike,
    feature_names: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    W: ArrayLike | None = None,
    max_topics: int = 60,
) -> Figure:
    """Draw topics as circles: near where they have the same words, large where they have many.

    Places are principal coordinates of the Jensen-Shannon divergences between topics.

    Parameters
    ----------
    H : array, shape (k, f), >= 0
        Topics.
    feature_names : sequence of str, length f, optional
        Words.
    names : sequence of str, length k, optional
        Names of the topics; C1, C2, ... without.
    W : array, shape (n, k), optional
        Weights in units of the data: areas are each topic's share of them. Without, all are alike.
    max_topics : int
        Most topics that are drawn: the largest by W, without W the first; the figure says so.
    """
    values = matrix(H, "H")
    chosen = choose_components(values, W, names, max_topics, "topic")
    values = values[chosen.rows]
    words = names_for(feature_names, values.shape[1], "word ", "features")
    points = principal_coordinates(topic_distances(values))
    count = len(values)
    shares = np.full(count, 1 / count) if chosen.shares is None else np.asarray(chosen.shares)
    figure = style.new_figure(7.2, style.HEAD + 5.0)
    about = "Near = the same words (Jensen-Shannon, principal coordinates). "
    area = "" if chosen.shares is None else "Area = share of all words. "
    style.heading(figure, f"Map of {style.plural('topic', count)}", about + area + chosen.note)
    axes = style.panel(figure, 0.35, style.HEAD, 6.5, 4.6, label="topic map")
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=4000 * shares,
        color=style.MAIN,
        alpha=0.35,
        edgecolors=style.MAIN,
        zorder=2,
    )
    order = np.argsort(-values, axis=1, kind="stable")[:, :WORDS]
    for name, point, top in zip(chosen.names, points, order, strict=True):
        axes.text(
            point[0],
            point[1],
            name,
            fontsize=style.SMALL + 1,
            ha="center",
            va="center",
            weight="bold",
        )
        leading = ", ".join(style.shorten(words[j], 14) for j in top)
        axes.annotate(
            leading, point, (0, -9), textcoords="offset points", fontsize=style.SMALL,
            ha="center", va="center",
        )  # fmt: skip
    axes.margins(0.14)
    axes.axhline(0, color="#dddddd", lw=0.8, zorder=1)
    axes.axvline(0, color="#dddddd", lw=0.8, zorder=1)
    axes.set(xticks=[], yticks=[])
    return figure
