"""Picture of components as sums of known ones: each above its sum, and the shares beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from nmfnet.errors import UserError
from nmfnet.plots import spectra, style
from nmfnet.plots.arrays import matrix, names_for, unit_rows

__all__ = ["decomposition"]

ROW, GAP, WIDTH, SHARES = 0.92, 0.24, 5.6, 3.0
"""Inches: height of a row and the space above it, width of a spectrum and of the bar of shares."""


def decomposition(
    H: ArrayLike,
    reference: ArrayLike,
    parts: Sequence[tuple[Sequence[int], Sequence[float]]],
    feature_names: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    reference_names: Sequence[str] | None = None,
    kind: str = "generic",
    max_components: int = 30,
) -> Figure:
    """Draw each component above the sum of references that it was written as.

    Upwards: the component, downwards: the sum, both in percent. Beside them: the share of every
    reference and the cosine of component and sum. Features that are no mutation channels of a known
    layout are not drawn, only the shares.

    Parameters
    ----------
    H : array, shape (k, f)
        Components, non-negative.
    reference : array, shape (m, f)
        Known components over the same features in the same order.
    parts : sequence of (rows, shares), length k
        Rows of the reference and their shares, which sum to 1 (as of `nmfnet.metrics.decompose`).
    feature_names, names, reference_names : sequence of str, optional
        Names of features, components (C1, ...) and references (R1, ...).
    kind : str
        Kind of data, for words and layout.
    max_components : int
        Only the first so many are drawn; the figure says so.

    Raises
    ------
    UserError
        If shapes or names do not fit together.
    """
    found, known = unit_rows(matrix(H, "H")), unit_rows(matrix(reference, "The reference"))
    if found.shape[1] != known.shape[1] or len(parts) != len(found):
        raise UserError(
            f"H has shape {found.shape}, the reference {known.shape}, and {len(parts)} sums were "
            "given: the features must be the same, and every component needs a sum."
        )
    field = style.words(kind)
    labels = names_for(names, len(found), "C", f"{field.component}s")
    others = names_for(reference_names, len(known), "R", "reference components")
    sums = np.stack([np.asarray(shares) @ known[list(rows)] for rows, shares in parts])
    cosines = [_cosine(h, total) for h, total in zip(found, sums, strict=True)]
    used = list(dict.fromkeys(row for rows, _ in parts for row in rows))
    colours = {
        row: style.PALETTE[i] if i < len(style.PALETTE) else style.OTHER
        for i, row in enumerate(used)
    }
    count = min(len(found), max_components)
    layout = spectra.LAYOUTS.get(kind) or spectra.find_layout(feature_names)
    left = 0.62 if layout is not None else 0.3 + 0.075 * min(14, max(map(len, labels)))
    beside = left if layout is None else left + WIDTH + 0.25
    row, top = (0.4 if layout is None else ROW), style.HEAD + 0.04
    top += 0.2 if layout is not None else 0.0
    top += 0.14 if layout is not None and layout.above else 0.0
    figure = style.new_figure(beside + SHARES + 0.9, top + count * (row + GAP) + 0.2)
    title = f"{style.plural(field.component, count)} as sums of {len(used)} known ones"
    note = "" if layout is None else f"Upwards the {field.component}, downwards the sum. "
    note += "" if count == len(found) else f"The first {count} of {len(found)}."
    style.heading(
        figure, title, f"{note}Beside: shares of the sum, and its cosine with what was found."
    )
    if layout is not None:
        place = spectra.to_layout(100 * found, feature_names, layout)
        mirrored = spectra.to_layout(100 * sums, feature_names, layout)
        spectra.header(figure, layout, left=left, top=top - 0.22, width=WIDTH)
    for i in range(count):
        above = top + i * (row + GAP) + GAP
        if layout is not None:
            axes = style.panel(figure, left, above, WIDTH, row, label=labels[i], grid="y")
            _mirror(axes, place[i], mirrored[i], layout)
            style.write(axes, 0.0, 1.03, style.shorten(labels[i], 40), bold=True, relative=True)
        bar = style.panel(
            figure,
            beside,
            above + (0 if layout is None else 0.26),
            SHARES,
            0.3,
            label=f"{labels[i]} sum",
        )
        caption = labels[i] if layout is None else ""
        _bar(bar, parts[i], others, colours, cosines[i], caption)
    if layout is not None:
        height = style.size(figure)[1]
        middle = 1 - (top + count * (row + GAP) / 2) / height
        style.write(figure, 0.012, middle, f"{field.amount} (%)", turn=90, va="center")
    return figure


def _mirror(axes: Axes, up: np.ndarray, down: np.ndarray, layout: spectra.Layout) -> None:
    spectra.spectrum(axes, up, layout)
    spectra.spectrum(axes, down, layout, down=True)
    most = 1.08 * max(float(up.max()), float(down.max())) or 1.0
    axes.set_ylim(-most, most)
    axes.axhline(0, color=style.INK, linewidth=0.6)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 4, 5, 10], min_n_ticks=3))
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")


def _bar(
    axes: Axes,
    part: tuple[Sequence[int], Sequence[float]],
    names: Sequence[str],
    colours: dict[int, str],
    cosine: float,
    caption: str,
) -> None:
    """One bar of shares with their names above, narrow ones' below, and the cosine at its end."""
    style.bare(axes)
    start, narrow = 0.0, []
    for row, share in zip(*part, strict=True):
        style.bars(
            axes,
            np.array([share]),
            [colours[row]],
            base=start,
            at=np.array([0.0]),
            horizontal=True,
        )
        text = style.shorten(f"{names[row]} {100 * share:.0f} %", 24)
        if len(text) * 0.072 < share * SHARES:
            style.write(axes, start + 0.01, 0.55, text, va="bottom")
        else:
            narrow.append(text)
        start += share
    style.write(axes, 1.0, -0.6, ", ".join(narrow), size=style.SMALL, ha="right", va="top")
    style.write(axes, 1.02, 0.0, f"cosine {cosine:.3f}", va="center")
    if caption:
        style.write(
            axes, -0.02, 0.0, style.shorten(caption, 14), bold=True, ha="right", va="center"
        )
    axes.set(xlim=(0, 1), ylim=(-0.5, 0.5))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0
