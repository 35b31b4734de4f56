"""Weights by class: which components belong to which kind of sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.errors import UserError
from nmfnet.plots import style
from nmfnet.plots.arrays import matrix, names_for, unit_rows

__all__ = ["class_codes", "class_means", "weights_by_class"]

_MANY, _MOST = 60, 40
"""Most classes and most components that are drawn."""


def class_codes(
    labels: Any, label_names: Sequence[str] | None = None
) -> tuple[np.ndarray, list[str]]:
    """Return each sample's class as a number into a list of names; -1 for samples without class.

    Parameters
    ----------
    labels : array, shape (n,)
        Text, or numbers. With ``label_names`` numbers point into the names, from 0, and negative
        ones are samples without class. NaN, None and the empty text are samples without class.
    label_names : sequence of str, optional
        Names, and order, of the classes; without it the labels are sorted.

    Raises
    ------
    UserError
        If a number points beyond the names.
    """
    given = np.asarray(labels)
    if given.dtype.kind in "iufb" and label_names is not None:
        codes = np.where(np.isfinite(given), given, -1).astype(int)
        if codes.size and codes.max() >= len(label_names):
            raise UserError(
                f"A label is {codes.max()} but only {len(label_names)} label_names were given; "
                "labels are numbers from 0 that point into the names."
            )
        return np.maximum(codes, -1), [str(name) for name in label_names]
    if given.dtype.kind in "iufb":
        values, codes = np.unique(given, return_inverse=True)
        names = [f"{value:g}" if given.dtype.kind == "f" else str(value) for value in values]
    else:
        texts = ["" if value is None or value != value else str(value) for value in given.tolist()]
        found, codes = np.unique(np.array(texts, dtype=str), return_inverse=True)
        names = [str(name) for name in found]
    if label_names is not None:
        listed = [str(name) for name in label_names]
        order = listed + [name for name in names if name not in listed]
        codes = np.array([order.index(name) for name in names], dtype=int)[codes]
        names = order
    absent = [code for code, name in enumerate(names) if name in ("", "nan")]
    return np.where(np.isin(codes, absent), -1, codes), names


def class_means(
    W: ArrayLike, labels: Any, label_names: Sequence[str] | None = None
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return classes, their mean normalised weights, and their sizes.

    Each sample's weights are divided by the sum of their absolute values first, so that every
    sample counts alike. Parameters as in `weights_by_class`.

    Returns
    -------
    names : list of str, length c
        In the order of ``label_names``, else sorted; empty classes left out.
    means : ndarray, shape (c, k)
    sizes : ndarray of int, shape (c,)
    """
    share = unit_rows(matrix(W, "W"))
    codes, names = _codes_for(share, labels, label_names)
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    kept = np.flatnonzero(sizes)
    means = np.stack([share[codes == code].mean(axis=0) for code in kept])
    return [names[code] for code in kept], means, sizes[kept]


def _codes_for(
    share: np.ndarray, labels: Any, label_names: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    if np.shape(labels) != (len(share),):
        raise UserError(
            f"labels have shape {np.shape(labels)} for {len(share):,} samples; "
            "give one for each sample."
        )
    codes, names = class_codes(labels, label_names)
    if not (codes >= 0).any():
        raise UserError("No sample has a class; there is nothing to compare.")
    return codes, names


def weights_by_class(
    W: ArrayLike,
    labels: Any,
    label_names: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    kind: str = "generic",
) -> Figure:
    """Draw mean normalised weights by class, and each component's spread in and out of its class.

    Parameters
    ----------
    W : array, shape (n, k)
        Weights, non-negative or signed; columns on comparable scales (rows of H of equal sum).
    labels, label_names
        Class of each sample, as in `class_codes`.
    names : sequence of str, length k, optional
        Names of the components.
    kind : str
        Kind of data, for the words on the axes.

    Raises
    ------
    UserError
        If the labels do not fit the samples or no sample has a class.
    """
    share = 100 * unit_rows(matrix(W, "W"))
    field = style.words(kind)
    count = share.shape[1]
    titles = [style.shorten(name, 14) for name in names_for(names, count, "C", "components")]
    codes, every = _codes_for(share, labels, label_names)
    classes, means, sizes = class_means(W, labels, label_names)
    keep = np.sort(np.argsort(-sizes, kind="stable")[:_MANY])
    shown, means, sizes = [classes[i] for i in keep], 100 * means[keep], sizes[keep]
    owner = means.argmax(axis=0)
    order = np.sort(np.argsort(-np.abs(means).max(axis=0), kind="stable")[:_MOST])
    k = len(order)
    left, width = 1.7, max(2.4, float(np.clip(6.4, 0.12 * k, 0.5 * k)))
    height = len(shown) * float(np.clip(4.0 / len(shown), 0.145, 0.26))
    widest = max(map(len, titles))
    turned = 90 if widest * 0.075 > width / k else 0
    bottom = (0.06 + 0.065 * widest if turned else 0.2) + 0.5
    figure = style.new_figure(max(4.6, left + width + 0.2), style.HEAD + height + 1.5 + bottom)
    title = f"{field.component.capitalize()} {field.weight}s in "
    title += f"{len(shown)} {'class' if len(shown) == 1 else 'classes'}"
    note = f"The {_MANY} largest of {len(classes)} classes. " if len(classes) > _MANY else ""
    note += f"The {k} largest of {count} {field.component}s. " if k < count else ""
    style.heading(figure, title, f"{note}Each {field.sample}'s {field.weight}s sum to 100 %.")
    axes = style.panel(figure, left, style.HEAD + 0.05, width, height, label="class means")
    rows = [f"{style.shorten(name, 20)} ({n:,})" for name, n in zip(shown, sizes, strict=True)]
    cmap, limits = style.heat_map(axes, means[:, order])
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks([])
    below = style.panel(
        figure, left, style.HEAD + 0.15 + height, width, 1.35, label="distribution", grid="y"
    )
    tops = [every.index(shown[owner[component]]) for component in order]
    _spread(below, share[:, order], codes, tops)
    below.set_xticks(range(k), [titles[component] for component in order], rotation=turned)
    style.label_axes(below, y=f"{field.weight} (%)")
    _legend(figure, below)
    top = style.size(figure)[1] - 0.32
    text = f"mean {field.weight} (%)"
    style.colour_scale(figure, 0.3, top, cmap=cmap, limits=limits, label=text)
    return figure


def _spread(axes: Axes, share: np.ndarray, codes: np.ndarray, tops: list[int]) -> None:
    """Draw, for each component, quartiles and 5-95 % range in its top class and in all others."""
    for colour, shift, own in ((style.MAIN, -0.15, True), (style.GREY, 0.15, False)):
        at, ranges = [], []
        for column, top in enumerate(tops):
            chosen = (codes == top) if own else (codes != top) & (codes >= 0)
            if chosen.any():
                at.append(column + shift)
                ranges.append(np.percentile(share[chosen, column], (5, 25, 50, 75, 95)))
        if not at:
            continue
        table = np.array(ranges)
        for start, end, width in ((0, 4, 0.8), (1, 3, 3.2)):
            lines = [[(x, row[start]), (x, row[end])] for x, row in zip(at, table, strict=True)]
            axes.add_collection(LineCollection(lines, colors=colour, linewidths=width))
        dots = {"color": "white", "edgecolors": colour, "linewidths": 0.9, "zorder": 3}
        axes.scatter(at, table[:, 2], s=11, **dots)  # type: ignore[arg-type]
    axes.autoscale_view()
    low, high = axes.get_ylim()
    axes.set(xlim=(-0.5, len(tops) - 0.5), ylim=(min(low, 0.0), max(high, 1e-6)))


def _legend(figure: Figure, axes: Axes) -> None:
    width, height = style.size(figure)
    texts = (
        ("its top class", style.MAIN),
        ("all other classes", style.GREY),
        ("median, quartiles,\n5–95 % range", style.INK),
    )
    bottom = axes.get_position().y1
    for number, (text, colour) in enumerate(texts):
        place = (0.15 / width, bottom - (0.02 + 0.16 * number) / height)
        style.write(figure, *place, text, size=style.SMALL, colour=colour, va="top")
