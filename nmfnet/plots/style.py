"""One look for every figure: colours, sizes, and the few drawing steps that all of them share.

Figures use matplotlib's object interface (a ``Figure`` with an Agg canvas): no backend is chosen,
no ``pyplot`` state exists, no ``rcParams`` are changed. Positions are inches from the top left
corner, so that no layout engine has to run and a figure costs milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

TITLE, TEXT, SMALL = 10.0, 8.0, 7.0
"""Font sizes in points: figure title; panel titles and axis labels; ticks and notes."""

INK, GREY, GRID = "#222222", "#6E6E6E", "#E4E4E4"
PALETTE = (
    *("#332288", "#CC6677", "#117733", "#88CCEE", "#AA4499"),
    *("#DDCC77", "#44AA99", "#882255", "#999933", "#555555"),
)
"""Colours told apart with any common colour-vision deficiency (P. Tol's muted scheme)."""
MAIN, SECOND, OTHER = PALETTE[0], PALETTE[1], "#D0D0D0"
SEQUENTIAL, DIVERGING, GREYS = "Blues", "RdBu_r", "gray_r"

HEAD = 0.56
"""Height in inches that `heading` takes at the top of a figure."""


class Words(NamedTuple):
    """What a field calls the parts of a factorisation."""

    component: str
    weight: str
    sample: str
    feature: str
    amount: str


_SIGNATURE = Words("signature", "exposure", "sample", "channel", "mutations")
_WORDS = {
    "sbs96": _SIGNATURE,
    "dbs78": _SIGNATURE,
    "id83": _SIGNATURE,
    "sound": Words("component", "activation", "frame", "frequency", "loudness"),
    "text": Words("topic", "weight", "document", "word", "words"),
    "image": Words("part", "weight", "image", "pixel", "intensity"),
}
_GENERIC = Words("component", "weight", "sample", "feature", "amount")


def words(kind: str) -> Words:
    """Return the field's words for data of this kind (the general ones for an unknown kind)."""
    return _WORDS.get(kind, _GENERIC)


def plural(word: str, count: int) -> str:
    """Return ``"1 word"`` or ``"1,234 words"``."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def shorten(text: object, length: int, *, middle: bool = True) -> str:
    """Return at most ``length`` characters of a name, on one line, cut with an ellipsis.

    Names are cut in the middle, since they often differ at the end. Dollar signs are escaped: to
    matplotlib a pair of them means a formula.
    """
    line = " ".join(str(text).split())
    if len(line) > length:
        tail = length // 3 if middle and length >= 6 else 0
        end = line[len(line) - tail :] if tail else ""
        line = line[: max(1, length - 1 - tail)].rstrip() + "…" + end
    return re.sub(r"(?<!\\)\$", r"\$", line)


def readable(value: float) -> str:
    """Return a number with four digits: ``12,340``, ``0.001234``, ``1.234e+09``."""
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.4g}"
    digits = 0 if value == 0 else max(0, 3 - int(np.floor(np.log10(abs(value)))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal; tiny ones as ``<0.1%``."""
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


class Picture(Figure):
    """A figure that a notebook shows although no pyplot knows of it."""

    def _repr_png_(self) -> bytes:
        stream = BytesIO()
        self.savefig(stream, format="png", dpi=110)
        return stream.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure of this size in inches, outside pyplot."""
    figure = Picture(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def size(figure: Figure) -> tuple[float, float]:
    """Return width and height of a figure in inches."""
    width, height = figure.get_size_inches()
    return float(width), float(height)


def panel(
    figure: Figure,
    left: float,
    top: float,
    width: float,
    height: float,
    *,
    label: str,
    grid: str | None = None,
) -> Axes:
    """Add axes whose upper left corner lies at (left, top) inches from the figure's.

    ``label`` is the name by which the axes are found again (``axes.get_label()``); ``grid`` is
    ``"x"``, ``"y"``, ``"both"`` or None.
    """
    full_width, full_height = size(figure)
    rect = (
        left / full_width,
        1 - (top + height) / full_height,
        width / full_width,
        height / full_height,
    )
    axes = figure.add_axes(rect, label=label)
    axes.tick_params(labelsize=SMALL, length=2.5, width=0.6, color=GREY, labelcolor=INK, pad=2)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_linewidth(0.6)
        spine.set_color(GREY)
    if grid is not None:
        axes.grid(True, axis=grid, color=GRID, linewidth=0.6)  # type: ignore[arg-type]
        axes.set_axisbelow(True)
    return axes


def bare(axes: Axes) -> None:
    """Take ticks, spines and background from axes that show a picture."""
    axes.set_facecolor("none")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def write(
    where: Axes | Figure,
    x: float,
    y: float,
    text: str,
    *,
    size: float = TEXT,
    colour: str = INK,
    bold: bool = False,
    ha: str = "left",
    va: str = "baseline",
    turn: float = 0.0,
    relative: bool = False,
) -> None:
    """Write text at fractions of a figure, or in axes at data or (``relative``) fractions."""
    look: dict[str, Any] = {"fontsize": size, "color": colour, "ha": ha, "va": va, "rotation": turn}
    if relative and isinstance(where, Axes):
        look["transform"] = where.transAxes
    where.text(x, y, text, fontweight="bold" if bold else "normal", **look)


def heading(figure: Figure, title: str, note: str = "", left: float = 0.15) -> None:
    """Write the figure's title and, in grey below it, a note, in the top `HEAD` inches."""
    width, height = size(figure)
    characters = int((width - left) / (TITLE * 0.0083))
    text = shorten(title, characters, middle=False)
    write(figure, left / width, 1 - 0.12 / height, text, size=TITLE, bold=True, va="top")
    if note:
        characters = int((width - left) / (SMALL * 0.0073))
        text, top = shorten(note, characters, middle=False), 1 - 0.34 / height
        write(figure, left / width, top, text, size=SMALL, colour=GREY, va="top")


def label_axes(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Write axis labels and the panel's title (left aligned) in the common sizes."""
    axes.set_xlabel(x, fontsize=TEXT, color=INK, labelpad=3)
    axes.set_ylabel(y, fontsize=TEXT, color=INK, labelpad=3)
    if title:
        axes.set_title(title, fontsize=TEXT, color=INK, loc="left", pad=4)


def readable_axis(axis: Axis, largest: float, label: str) -> str:
    """Give an axis few ticks with thousands separators; return its label with the power of ten."""
    power = 0
    if np.isfinite(largest) and largest > 0 and not 1e-2 <= largest < 1e5:
        power = 3 * int(np.floor(np.log10(largest) / 3))
    scale = 10.0**power
    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / scale:,.6g}"))
    return label if power == 0 else f"{label} (×$10^{{{power}}}$)"


def colour_map(name: str) -> Colormap:
    """Return a colour map of 64 steps, missing values white.

    64 steps look continuous, and leave room in a PNG palette of 256 colours.
    """
    return colormaps[name].resampled(64).with_extremes(bad="white")


def heat_map(
    axes: Axes, values: np.ndarray, *, most: float | None = None
) -> tuple[str, tuple[float, float]]:
    """Draw a matrix as coloured cells without tick marks; return colour map and limits.

    Non-negative values run from 0 to ``most`` (default: the largest), signed ones from ``-most``.
    """
    most = most or float(np.abs(values).max()) or 1.0
    signed = bool(values.min() < 0)
    cmap, limits = (DIVERGING, (-most, most)) if signed else (SEQUENTIAL, (0.0, most))
    axes.imshow(
        values,
        cmap=colour_map(cmap),
        vmin=limits[0],
        vmax=limits[1],
        aspect="auto",
        interpolation="nearest",
    )
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return cmap, limits


def colour_scale(
    figure: Figure,
    left: float,
    top: float,
    *,
    cmap: str,
    limits: tuple[float, float],
    label: str,
    width: float = 0.9,
) -> Axes:
    """Draw a small horizontal colour scale with its label to the right; return its axes."""
    axes = panel(figure, left, top, width, 0.09, label="colour scale")
    low, high = limits
    ramp = np.linspace(0.0, 1.0, 128)[None]
    axes.imshow(ramp, cmap=colour_map(cmap), aspect="auto", extent=(0.0, 1.0, 0.0, 1.0))
    axes.set_yticks([])
    axes.set_xticks([0.0, 0.5, 1.0], [f"{v:.3g}" for v in (low, (low + high) / 2, high)])
    write(axes, 1.08, 0.5, label, size=SMALL, va="center", relative=True)
    return axes


def bars(
    axes: Axes,
    heights: np.ndarray,
    colours: str | Sequence[str],
    *,
    base: np.ndarray | float = 0.0,
    at: np.ndarray | None = None,
    thickness: float = 0.8,
    horizontal: bool = False,
    label: str = "",
) -> PolyCollection:
    """Draw bars as one collection (one artist however many bars there are)."""
    centre = np.arange(len(heights), dtype=float) if at is None else np.asarray(at, dtype=float)
    low = np.broadcast_to(np.asarray(base, dtype=float), heights.shape)
    across = np.stack([centre - thickness / 2, centre + thickness / 2], axis=1)[:, [0, 0, 1, 1]]
    along = np.stack([low, low + heights], axis=1)[:, [0, 1, 1, 0]]
    corners = np.stack([along, across] if horizontal else [across, along], axis=-1)
    drawn = PolyCollection(
        list(corners), facecolors=colours, edgecolors="none", label=label or "_bars"
    )
    axes.add_collection(drawn, autolim=False)
    return drawn
