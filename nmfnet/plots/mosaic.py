"""Many small pictures as one image: a single artist, however many pictures there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from nmfnet.errors import UserError
from nmfnet.plots import style


def pictures(rows: np.ndarray, image_shape: tuple[int, int] | None) -> np.ndarray:
    """Reshape rows (m, h * w) to pictures (m, h, w), pixels row by row.

    Raises
    ------
    UserError
        If there is no shape or it does not have as many pixels as the rows have entries.
    """
    shape = () if image_shape is None else tuple(int(side) for side in image_shape)
    if len(shape) != 2 or shape[0] * shape[1] != rows.shape[1]:
        raise UserError(
            f"image_shape={image_shape} does not fit {rows.shape[1]} features; give (height, "
            f"width) with height * width = {rows.shape[1]}, or draw with kind='generic'."
        )
    return rows.reshape(-1, *shape)


def _columns(count: int, wanted: float) -> int:
    """Return a number of columns near ``wanted`` that leaves few holes in the last row."""
    near = range(max(1, int(wanted * 0.7)), min(count, int(np.ceil(wanted * 1.35))) + 1)
    return min(near, key=lambda c: (-count % c / count + 0.25 * abs(np.log(c / wanted)), c))


class Grid(NamedTuple):
    """Where each picture lies: tiles row by row, room for a caption above each.

    Lengths ``tile_*`` and ``gap_*`` are in pixels of the pictures; ``scale`` is inches a pixel.
    """

    tiles: int
    columns: int
    tile_height: int
    tile_width: int
    gap_above: int
    gap_right: int
    scale: float

    @classmethod
    def of(
        cls,
        count: int,
        shape: tuple[int, ...],
        *,
        columns: int | None = None,
        caption: float = 0.19,
        width: float = 7.2,
    ) -> Grid:
        """Lay out ``count`` pictures of this shape in at most ``width`` inches."""
        height, wide = shape
        if columns is None:
            columns = _columns(count, float(np.sqrt(1.6 * count * height / wide)))
        inches = float(np.clip(width / columns, 0.3, 1.1 * max(1.0, wide / height)))
        scale = inches / (wide * 1.06)
        return cls(
            *(count, columns, height, wide),
            gap_above=int(np.ceil(caption / scale)),
            gap_right=max(1, round(0.06 * wide)),
            scale=scale,
        )

    @property
    def rows(self) -> int:
        """Number of rows of tiles."""
        return -(-self.tiles // self.columns)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the whole mosaic in pixels."""
        return (
            self.rows * (self.tile_height + self.gap_above),
            self.columns * (self.tile_width + self.gap_right) - self.gap_right,
        )

    @property
    def letters(self) -> int:
        """How many letters of a caption fit above a tile."""
        return max(4, int(self.tile_width * self.scale / 0.068))

    def corner(self, number: int) -> tuple[int, int]:
        """Return the row and column of a tile's top left pixel in the mosaic."""
        row, column = divmod(number, self.columns)
        return (
            row * (self.tile_height + self.gap_above) + self.gap_above,
            column * (self.tile_width + self.gap_right),
        )

    def compose(self, images: np.ndarray) -> np.ndarray:
        """Put pictures (m, h, w) into one image; the gaps are NaN."""
        whole = np.full(self.shape, np.nan)
        for number, image in enumerate(images):
            top, left = self.corner(number)
            whole[top : top + self.tile_height, left : left + self.tile_width] = image
        return whole

    def figure_size(self, above: float, below: float) -> tuple[float, float]:
        """Return a figure size with these margins in inches."""
        height, width = self.shape
        return max(4.2, width * self.scale + 0.3), height * self.scale + above + below

    def draw(
        self,
        figure: Figure,
        images: np.ndarray,
        top: float,
        cmap: str,
        limits: tuple[float, float],
        *,
        label: str,
        left: float = 0.15,
    ) -> Axes:
        """Draw all pictures as one image with a hairline frame around each."""
        height, width = self.shape
        axes = style.panel(figure, left, top, width * self.scale, height * self.scale, label=label)
        style.bare(axes)
        axes.imshow(
            self.compose(images),
            cmap=style.colour_map(cmap),
            vmin=limits[0],
            vmax=limits[1],
            interpolation="nearest",
            aspect="auto",
        )
        corners = np.array([self.corner(number) for number in range(len(images))]) - 0.5
        box = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (self.tile_width, self.tile_height)
        frames = PolyCollection(
            list(corners[:, None, ::-1] + box),
            facecolors="none",
            edgecolors=style.OTHER,
            linewidths=0.5,
            clip_on=False,
        )
        axes.add_collection(frames, autolim=False)
        return axes

    def captions(self, axes: Axes, texts: Sequence[str]) -> None:
        """Write a caption above each tile."""
        for number, text in enumerate(texts):
            top, left = self.corner(number)
            y = top - 0.5 - 0.03 / self.scale
            style.write(axes, left - 0.4, y, text, size=style.SMALL, va="bottom")
