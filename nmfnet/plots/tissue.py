"""Pictures of a tissue: how much of each component every spot has, where the spots lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.plots import style
from nmfnet.plots.arrays import names_for

__all__ = ["tissue"]

ACROSS, SIDE, MOST = 4, 1.6, 24
"""Maps in a row, the longer side of one in inches, and most maps that are drawn."""


def tissue(
    coordinates: ArrayLike, weights: ArrayLike, *, names: Sequence[str] | None = None
) -> Figure:
    """Draw a map for every component: samples where they lie, darker with more of it.

    The first coordinate runs to the right and the second down, as in an image of the tissue. Every map
    goes from 0 to its largest weight, which its title says; a ring marks the sample that has it.

    Parameters
    ----------
    coordinates : array, shape (n, 2)
    weights : array, shape (n, k)
        Rows of NaN are left out.
    names : sequence of str, optional
        Of the components.
    """
    places, values = np.asarray(coordinates, np.float64), np.asarray(weights, np.float64)
    seen = np.isfinite(values).all(1)
    places, values = places[seen], values[seen]
    k = values.shape[1]
    titles, drawn = names_for(names, k, "C", "components"), min(k, MOST)
    across, down = min(ACROSS, drawn), -(-drawn // ACROSS)
    low, span = places.min(0), np.maximum(np.ptp(places, axis=0), 1e-12)
    width, height = SIDE * span / span.max()
    step_x, step_y = max(width, 1.2) + 0.15, height + 0.3
    figure = style.new_figure(max(4.0, 0.3 + across * step_x), style.HEAD + 0.1 + down * step_y)
    note = "Each map from 0 (light) to its largest weight; the ring is the spot that has it."
    if drawn < k:
        note += f" The first {drawn} of {k} are drawn."
    style.heading(figure, f"Where the components are in {style.plural('spot', len(places))}", note)
    size = _dot(places, span, width, height)
    for j in range(drawn):
        left = 0.15 + (j % across) * step_x
        top = style.HEAD + 0.2 + (j // across) * step_y
        axes = style.panel(figure, left, top, width, height, label=titles[j])
        style.bare(axes)
        column = values[:, j]
        most = max(float(np.abs(column).max()), 1e-300)
        signed = bool(column.min() < 0)
        axes.scatter(
            places[:, 0], places[:, 1], c=column, s=size, linewidths=0,
            cmap=style.colour_map(style.DIVERGING if signed else style.SEQUENTIAL),
            vmin=-most if signed else 0, vmax=most,
        )  # fmt: skip
        best = int(column.argmax())
        axes.scatter(
            places[best, 0],
            places[best, 1],
            s=3 * size,
            facecolors="none",
            edgecolors=style.SECOND,
            linewidths=0.9,
        )
        margin = 0.03 * span
        axes.set_xlim(low[0] - margin[0], low[0] + span[0] + margin[0])
        axes.set_ylim(low[1] + span[1] + margin[1], low[1] - margin[1])
        said = f"{style.shorten(titles[j], 16)}, up to {style.readable(round(most, 3))}"
        style.label_axes(axes, title=said)
    return figure


def _dot(places: np.ndarray, span: np.ndarray, width: float, height: float) -> float:
    """Area in square points of a dot as wide as the usual distance between neighbours."""
    if len(places) < 2:
        return 9.0
    from scipy.spatial import KDTree

    apart = float(np.median(np.asarray(KDTree(places).query(places, 2)[0])[:, 1]))
    points = 72 * apart * min(width / span[0], height / span[1])
    return float(np.clip(points, 1.0, 12.0)) ** 2
