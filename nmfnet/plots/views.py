"""Pictures of several views of the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.plots import style
from nmfnet.plots.arrays import names_for

__all__ = ["explained_by_view"]


def explained_by_view(
    explained: Mapping[str, ArrayLike],
    names: Sequence[str] | None = None,
    *,
    max_components: int = 30,
) -> Figure:
    """Draw how much of the variance of every view is lost without each component.

    Parameters
    ----------
    explained : mapping of view name to array, shape (k + 1,)
        Shares of the variance, at most 1: without each component, and last what all explain.
    names : sequence of str, length k, optional
        Of the components.
    max_components : int
        Most components that are drawn, those with the largest shares; the figure says so where it
        leaves some out.
    """
    views = list(explained)
    values = np.stack([np.asarray(explained[view], np.float64) for view in views])
    shares, total = values[:, :-1], values[:, -1]
    titles = names_for(names, shares.shape[1], "C", "components")
    best = np.argsort(-shares.max(0), kind="stable")[:max_components]
    shown = np.sort(best)
    note = "Share of the variance of a view that is lost without the component, in percent."
    if len(shown) < len(titles):
        note += f" The {len(shown)} largest of {len(titles):,} components."
    labels = [
        f"{style.shorten(view, 14)}  (all: {100 * all_:.0f} %)"
        for view, all_ in zip(views, total, strict=True)
    ]
    cell, left = 0.36, 0.3 + 0.075 * max(map(len, labels))
    above = 0.15 + 0.07 * min(12, max(len(titles[j]) for j in shown))
    width, height = cell * len(shown), 0.3 * len(views)
    figure = style.new_figure(max(5.6, left + width + 0.2), style.HEAD + above + height + 0.6)
    style.heading(
        figure,
        f"What {style.plural('component', len(titles))} explain of {style.plural('view', len(views))}",
        note,
    )
    axes = style.panel(figure, left, style.HEAD + above, width, height, label="explained variance")
    drawn = 100 * shares[:, shown]
    cmap, limits = style.heat_map(axes, drawn)
    axes.set_yticks(range(len(views)), labels)
    axes.set_xticks(range(len(shown)), [style.shorten(titles[j], 12) for j in shown], rotation=90)
    axes.xaxis.tick_top()
    for row, column in np.ndindex(*drawn.shape):
        value = float(drawn[row, column])
        colour = "white" if abs(value) > 0.6 * max(map(abs, limits)) else style.INK
        style.write(
            axes,
            column,
            row,
            f"{value:.0f}",
            colour=colour,
            size=style.SMALL,
            ha="center",
            va="center",
        )
    top = style.size(figure)[1] - 0.36
    style.colour_scale(figure, left, top, cmap=cmap, limits=limits, label="% of the variance")
    return figure
