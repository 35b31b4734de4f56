"""Parts times code is a picture: what a linear model makes an image of."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.errors import UserError
from nmfnet.plots import mosaic, style
from nmfnet.plots.arrays import matrix
from nmfnet.plots.reconstruction import choose_rows, dense_rows, row_errors

__all__ = ["parts"]

_SIDE = 0.95
"""Inches of a single picture."""


def parts(
    H: ArrayLike,
    W: ArrayLike,
    x: Any,
    reconstruction: Any,
    image_shape: tuple[int, int] | None,
    *,
    cmap: str | None = None,
    max_parts: int = 49,
) -> Figure:
    """Draw ``parts x code = image`` for the image of which the error is the median one.

    Parameters
    ----------
    H : array, shape (k, h * w)
        Parts, signed or not; each is drawn on a scale of its own.
    W : array, shape (n, k)
        Codes.
    x : array, shape (n, h * w)
        Images.
    reconstruction : array, shape (n, h * w), or function of row numbers
    image_shape : (int, int)
    cmap : str, optional
        Colour map of the pixels (default: dark = large).
    max_parts : int
        Most parts that are drawn: those that do most in this image.

    Notes
    -----
    A cell of the code is the amount by which its part changes the image where it is strongest; parts and
    cells lie in the same order. What no code changes (the mean of a centred model) is drawn beside.

    Source: the layout is figure 1 of Lee & Seung 1999.
    """
    components, weights = matrix(H, "H"), np.asarray(W, dtype=float)
    rows = choose_rows(x.shape)
    if len(weights) != x.shape[0]:
        raise UserError(f"W has {len(weights):,} rows and x {x.shape[0]:,}: give a row for each.")
    seen = dense_rows(x, rows)
    fitted = reconstruction(rows) if callable(reconstruction) else np.asarray(reconstruction)[rows]
    errors = row_errors(seen, fitted)
    order = np.argsort(np.where(np.isfinite(errors), errors, np.inf), kind="stable")
    at = int(order[int(np.isfinite(errors).sum() - 1) // 2])
    largest = np.abs(components).max(1)
    amounts = weights[rows[at]] * largest
    rest = fitted[at] - weights[rows[at]] @ components
    shown = np.sort(np.argsort(-np.abs(amounts), kind="stable")[:max_parts])
    scaled = components[shown] / np.where(largest > 0, largest, 1)[shown, None]
    tiles = mosaic.pictures(scaled, image_shape)
    columns = int(np.ceil(np.sqrt(len(tiles))))
    grid = mosaic.Grid.of(len(tiles), tiles.shape[1:], columns=columns, caption=0.02, width=3.3)
    height = max(grid.shape[0] * grid.scale, 2 * _SIDE + 0.35)
    code = np.full(grid.rows * columns, np.nan)
    code[: len(shown)] = amounts[shown]
    moved = float(np.abs(rest).max()) > 1e-3 * float(np.abs(fitted[at]).max())
    top, pixels = style.HEAD + 0.18, cmap or style.GREYS
    left = 0.15 + grid.shape[1] * grid.scale
    figure = style.new_figure(left + 3.2 + (_SIDE + 0.35) * moved, top + height + 0.15)
    note = "" if len(shown) == len(largest) else f"The {len(shown)} parts that do most. "
    style.heading(
        figure,
        f"Parts, code and image: error {errors[at]:.3f}",
        f"{note}The image of median error.",
    )
    signed = bool(components.min() < 0 or weights.min() < 0)
    colours = style.DIVERGING if signed else pixels
    grid.draw(figure, tiles, top, colours, (-1.0 if signed else 0.0, 1.0), label="parts")
    wide, tall = figure.get_size_inches()
    middle = top + height / 2

    def sign(text: str) -> None:
        nonlocal left
        style.write(figure, (left + 0.17) / wide, 1 - middle / tall, text, ha="center", va="center")
        left += 0.35

    def picture(values: np.ndarray, where: float, colours: str, limits: Any, label: str) -> None:
        h, w = values.shape
        side = _SIDE * min(1.0, w / h), _SIDE * min(1.0, h / w)
        axes = style.panel(figure, left, where - side[1] / 2, *side, label=label)
        axes.imshow(
            values, cmap=style.colour_map(colours), vmin=limits[0], vmax=limits[1], aspect="auto"
        )
        axes.set(xticks=[], yticks=[])
        style.label_axes(axes, title=label)

    most = float(np.nanmax(np.abs(code))) or 1.0
    sign("×")
    limits = (-most if signed else 0.0, most)
    picture(code.reshape(-1, columns), middle, colours, limits, "code")
    left += _SIDE
    both = mosaic.pictures(np.stack([fitted[at], seen[at], rest]), image_shape)
    low, high = float(np.nanmin(both[:2])), float(np.nanmax(both[:2]))
    if moved:
        sign("+")
        picture(both[2], middle, pixels, (low, high), "constant")
        left += _SIDE
    sign("=")
    picture(both[0], middle - _SIDE / 2 - 0.12, pixels, (low, high), "sum")
    picture(both[1], middle + _SIDE / 2 + 0.12, pixels, (low, high), "original")
    return figure
