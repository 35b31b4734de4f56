"""Pictures of W: how much of each component every sample has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.errors import UserError
from nmfnet.plots import style
from nmfnet.plots.arrays import matrix, names_for, spread_rows, unit_rows
from nmfnet.plots.classes import class_means, weights_by_class

__all__ = ["class_means", "weights_by_class", "weights_heatmap", "weights_stack"]

NAMED, _MOST = 60, 40
"""Most samples whose names are written, and most components in a heat map."""


def _leading_order(share: np.ndarray) -> np.ndarray:
    """Order samples by their largest component, then by its share."""
    return np.lexsort((-share.max(axis=1), share.argmax(axis=1)))


def weights_stack(
    W: ArrayLike,
    sample_names: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    kind: str = "generic",
    most_samples: int = 500,
) -> Figure:
    """Draw weights as stacked bars: amounts above, shares below.

    Up to 60 samples both panels are sorted by total and named. More samples are sorted by total
    above and by their largest component below; beyond ``most_samples``, evenly spaced ones of each
    order are drawn (the figure says so). Components keep their order; beyond ten the small ones are
    joined.

    Parameters
    ----------
    W : array, shape (n, k)
        Non-negative weights, in units in which they may be added (rows of H scaled to sum 1).
    sample_names, names : sequence of str, optional
        Names of the samples and of the components.
    kind : str
        Kind of data, for the words on the axes.
    most_samples : int
        Most samples that are drawn.

    Raises
    ------
    UserError
        If a weight is negative (stacked bars would lie) or names do not fit.
    """
    weights = matrix(W, "W")
    if weights.min() < 0:
        raise UserError(
            f"W has {int((weights < 0).sum()):,} negative weights, which cannot be stacked; "
            "use weights_heatmap instead."
        )
    field = style.words(kind)
    count, k = weights.shape
    titles = names_for(names, k, "C", "components")
    samples = names_for(sample_names, count, f"{field.sample} ", f"{field.sample}s")
    layers, legend, colours = layers_of(weights, titles)
    share, total = unit_rows(layers), layers.sum(axis=1)
    by_total = np.argsort(-total, kind="stable")
    named = count <= NAMED
    by_leader = by_total if named else _leading_order(unit_rows(weights))
    ceiling, cut = _ceiling(total)
    bottom = 0.15 + (0.062 * min(16, max(map(len, samples))) if named else 0.15)
    figure = style.new_figure(7.2, style.HEAD + 3.55 + bottom + 0.17 * -(-len(legend) // 6))
    title = f"{field.weight.capitalize()}s of {style.plural(field.component, k)} "
    title += f"in {style.plural(field.sample, count)}"
    note = f"{most_samples:,} evenly spaced {field.sample}s of each order are drawn. "
    note = note if count > most_samples else ""
    if cut:
        larger = f"{style.plural(field.sample, cut)} up to {style.readable(total.max())}"
        note += f"Upper panel: {larger} {'is' if cut == 1 else 'are'} cut."
    style.heading(figure, title, note or "Above amounts, below shares.")
    panels = (("amount", layers, by_total, ceiling), ("share", 100 * share, by_leader, 100.0))
    for number, (label, values, order, most) in enumerate(panels):
        top = style.HEAD + 0.05 + 1.75 * number + (0.0 if named or not number else 0.1)
        axes = style.panel(figure, 0.8, top, 6.2, 1.55, label=label)
        rows = order[spread_rows(count, most_samples)]
        stack(axes, values[rows], colours)
        axes.set_ylim(0, most)
        sorted_by = "total" if label == "amount" or named else f"largest {field.component}"
        x = f"{field.sample}s, sorted by {sorted_by}"
        y = f"{field.weight} (%)"
        if label == "amount":
            y = style.readable_axis(axes.yaxis, most, field.amount)
            for place in range(cut if named else 0):
                text = f"{style.readable(total[rows[place]])} ↑"
                style.write(axes, place, most, text, size=style.SMALL, ha="center", va="bottom")
        style.label_axes(axes, x=x if number or not named else "", y=y)
        if named and number:
            texts = [style.shorten(samples[row], 16) for row in rows]
            axes.set_xticks(range(count), texts, rotation=90)
    legend_of(figure, legend, colours)
    return figure


def legend_of(figure: Figure, names: list[str], colours: list[str]) -> None:
    handles: list[Artist] = [PolyCollection([], facecolors=colour) for colour in colours]
    figure.legend(
        handles,
        [style.shorten(name, 14) for name in names],
        loc="lower left",
        bbox_to_anchor=(0.1, 0.0),
        ncols=6,
        frameon=False,
        fontsize=style.SMALL,
        handlelength=1.0,
        handleheight=0.8,
        columnspacing=1.2,
    )


def _ceiling(total: np.ndarray) -> tuple[float, int]:
    """Return the top of the axis and how many totals exceed it: outliers must not flatten all."""
    usual = total[total <= 4 * np.percentile(total, 90)]
    top = float(usual.max()) if usual.size else float(total.max())
    if total.max() <= 2 * top or top == 0:
        top = float(total.max())
    return 1.03 * top or 1.0, int((total > top).sum())


def layers_of(weights: np.ndarray, names: list[str]) -> tuple[np.ndarray, list[str], list[str]]:
    """Return weights, names and colours of the components that are drawn, in their own order.

    Large is a component with a large mean share, or a large share of the total: samples count alike
    in the first and amounts in the second: neither common nor massive components go missing.
    """
    amount = weights.sum(axis=0)
    size = unit_rows(weights).mean(axis=0) + amount / (amount.sum() or 1.0)
    most = len(style.PALETTE)
    if len(size) <= most:
        return weights, names, list(style.PALETTE[: len(size)])
    order = np.argsort(-size, kind="stable")
    large, small = np.sort(order[: most - 1]), order[most - 1 :]
    layers = np.column_stack([weights[:, large], weights[:, small].sum(axis=1)])
    legend = [names[j] for j in large] + [f"{len(small)} others"]
    return layers, legend, [*style.PALETTE[: most - 1], style.OTHER]


def stack(axes: Axes, values: np.ndarray, colours: list[str]) -> None:
    """Draw stacked bars, one polygon for each layer."""
    tops = np.cumsum(values, axis=1)
    count = len(values)
    gap = 0.08 if count <= NAMED else 0.0
    edges = np.stack([np.arange(count) - 0.5 + gap, np.arange(count) + 0.5 - gap], axis=1).ravel()
    base = np.zeros(count)
    for column, colour in enumerate(colours):
        top = tops[:, column]
        if gap:
            style.bars(axes, top - base, colour, base=base, thickness=1 - 2 * gap)
        else:
            axes.fill_between(
                edges, np.repeat(base, 2), np.repeat(top, 2), color=colour, linewidth=0
            )
        base = top
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_xticks([])


def weights_heatmap(
    W: ArrayLike,
    sample_names: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    kind: str = "generic",
    most_samples: int = 500,
) -> Figure:
    """Draw normalised weights as a heat map, samples ordered by their largest component.

    Parameters as in `weights_stack`; W may be signed (then the map is diverging). Components keep
    their order; of more than 40 the largest 40 are drawn.
    """
    share = 100 * unit_rows(matrix(W, "W"))
    field = style.words(kind)
    count, every = share.shape
    titles = names_for(names, every, "C", "components")
    samples = names_for(sample_names, count, f"{field.sample} ", f"{field.sample}s")
    order = _leading_order(np.abs(share))
    rows = order[spread_rows(count, most_samples)]
    columns = np.sort(np.argsort(-np.abs(share).sum(axis=0), kind="stable")[:_MOST])
    k = len(columns)
    most = float(np.percentile(np.abs(share[rows]).max(axis=1), 95))
    line = float(np.clip(3.6 / k, 0.13, 0.3))
    left = 0.3 + 0.065 * min(16, max(map(len, titles)))
    named = count <= NAMED
    bottom = 0.55 + (0.062 * min(16, max(map(len, samples))) if named else 0.25)
    figure = style.new_figure(7.2, style.HEAD + k * line + bottom)
    title = f"{style.plural(field.sample, count)} by their {field.component}s"
    note = f"{most_samples:,} evenly spaced ones are drawn. " if count > most_samples else ""
    note += f"The {k} largest of {every} {field.component}s. " if k < every else ""
    style.heading(
        figure, title, f"{note}Ordered by the {field.sample}'s largest {field.component}."
    )
    axes = style.panel(figure, left, style.HEAD, 7.05 - left, k * line, label="weights")
    cmap, limits = style.heat_map(axes, share[rows][:, columns].T, most=most)
    axes.set_yticks(range(k), [style.shorten(titles[column], 16) for column in columns])
    ticks = [style.shorten(samples[row], 16) for row in rows] if named else []
    axes.set_xticks(range(count) if named else [], ticks, rotation=90)
    if not named:
        style.label_axes(axes, x=f"{field.sample}s")
    top = style.size(figure)[1] - 0.32
    text = f"{field.weight} (% of the {field.sample}'s sum)"
    style.colour_scale(figure, 0.3, top, cmap=cmap, limits=limits, label=text)
    return figure
