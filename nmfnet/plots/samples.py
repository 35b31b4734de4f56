"""Rows of the data beside rows that a model has drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.errors import UserError
from nmfnet.plots import style
from nmfnet.plots.arrays import matrix
from nmfnet.plots.mosaic import Grid, pictures

__all__ = ["samples"]

SHOWN = 30
"""Images of either kind."""


def samples(
    x: ArrayLike,
    drawn: ArrayLike,
    feature_names: Sequence[str] | None = None,
    kind: str = "generic",
    *,
    image_shape: tuple[int, int] | None = None,
) -> Figure:
    """Draw rows of the data beside rows drawn from a model.

    Images are drawn as such, 30 of either; two features as they are; more in the plane of the first
    two principal components of the data, which drawn rows are put into as well.

    Parameters
    ----------
    x : array, shape (n, f)
        Data.
    drawn : array, shape (m, f)
        Rows of the model.
    feature_names : sequence of str, optional
    kind : str
        ``image``, or anything else.
    image_shape : (int, int), optional
        Height and width of images.

    Raises
    ------
    UserError
        If drawn rows have other features than the data.
    """
    rows, made = matrix(x, "x"), matrix(drawn, "drawn")
    if rows.shape[1] != made.shape[1]:
        raise UserError(f"drawn has {made.shape[1]} features, and the data have {rows.shape[1]}.")
    parts = {"data": rows, "drawn": made}
    if kind == "image":
        return _images(parts, image_shape)
    return _clouds(parts, feature_names)


def _images(parts: dict[str, np.ndarray], image_shape: tuple[int, int] | None) -> Figure:
    some = {name: rows[np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(int)]
            for name, rows in parts.items()}  # fmt: skip
    grid = Grid.of(len(some["data"]), pictures(some["data"], image_shape).shape[1:], columns=6,
                   caption=0.02, width=3.3)  # fmt: skip
    across, down = grid.shape[1] * grid.scale, grid.shape[0] * grid.scale
    figure = style.new_figure(2 * across + 0.9, style.HEAD + down + 0.5)
    style.heading(figure, "Rows of the data, and rows that the model draws", "Same grey scale.")
    low, high = float(some["data"].min()), float(some["data"].max())
    grey = "gray_r" if np.mean(some["data"] <= low + 0.1 * (high - low)) > 0.25 else "gray"
    for number, (name, rows) in enumerate(some.items()):
        axes = grid.draw(
            figure, pictures(rows, image_shape), style.HEAD + 0.25, grey, (low, high), label=name,
            left=0.2 + number * (across + 0.45),
        )  # fmt: skip
        style.label_axes(axes, title=name)
    return figure


def _clouds(parts: dict[str, np.ndarray], feature_names: Sequence[str] | None) -> Figure:
    rows = parts["data"]
    if rows.shape[1] > 2:
        middle = rows.mean(0)
        plane = np.linalg.svd(rows - middle, full_matrices=False)[2][:2].T
        parts = {name: (one - middle) @ plane for name, one in parts.items()}
        names, words = ("component 1", "component 2"), "In the data's first principal components."
    else:
        given = feature_names or [f"feature {i + 1}" for i in range(rows.shape[1])]
        parts = {
            name: one if one.shape[1] == 2 else np.repeat(one, 2, 1) for name, one in parts.items()
        }
        names, words = (given[0], given[-1]), "As they are."
    every = np.concatenate(list(parts.values()))
    low, high = np.percentile(every, 0.5, axis=0), np.percentile(every, 99.5, axis=0)
    edge = 0.08 * np.where(high > low, high - low, 1)
    figure = style.new_figure(7.3, style.HEAD + 3.7)
    style.heading(figure, "Rows of the data, and rows that the model draws", words)
    for number, (name, one) in enumerate(parts.items()):
        axes = style.panel(
            figure, 0.7 + 3.4 * number, style.HEAD + 0.3, 2.8, 2.8, label=name, grid="both"
        )
        axes.scatter(one[:, 0], one[:, 1], s=6, linewidths=0, alpha=0.6,
                     color=style.SECOND if number else style.MAIN)  # fmt: skip
        axes.set_xlim(low[0] - edge[0], high[0] + edge[0])
        axes.set_ylim(low[1] - edge[1], high[1] + edge[1])
        style.label_axes(
            axes, x=style.shorten(names[0], 24), y="" if number else style.shorten(names[1], 24),
            title=f"{name} ({len(one)})",
        )  # fmt: skip
    return figure
