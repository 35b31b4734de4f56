"""Pictures of shares: what every sample is made of, and how far that is from the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.plots import style
from nmfnet.plots.arrays import names_for, spread_rows
from nmfnet.plots.weights import NAMED, layers_of, legend_of, stack

__all__ = ["against_truth", "proportions"]


def proportions(
    shares: ArrayLike,
    sample_names: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    kind: str = "generic",
    most_samples: int = 500,
) -> Figure:
    """Draw shares as stacked bars, a bar for every sample in the order of the data.

    Up to 60 samples are named. Samples of which nothing is known are left empty; beyond
    ``most_samples``, evenly spaced ones are drawn (the figure says so). Beyond ten components the small
    ones are joined.

    Parameters
    ----------
    shares : array, shape (n, k)
        In [0, 1]; rows sum to 1, or are NaN.
    sample_names, names : sequence of str, optional
        Of the samples and of the components.
    kind : str
        Kind of data, for the words on the axes.
    most_samples : int
        Most samples that are drawn.
    """
    values = np.asarray(shares, np.float64)
    field = style.words(kind)
    count, k = values.shape
    titles = names_for(names, k, "C", "components")
    samples = names_for(sample_names, count, f"{field.sample} ", f"{field.sample}s")
    empty = np.asarray(np.isnan(values).any(axis=1))
    layers, legend, colours = layers_of(np.where(empty[:, None], 0.0, values), titles)
    named = count <= NAMED
    bottom = 0.2 + (0.062 * min(16, max(map(len, samples))) if named else 0.2)
    rows_of_legend = -(-len(legend) // 6)
    figure = style.new_figure(7.2, style.HEAD + 2.1 + bottom + 0.17 * rows_of_legend)
    note = (
        f"{most_samples:,} evenly spaced {field.sample}s are drawn. "
        if count > most_samples
        else ""
    )
    if empty.any():
        note += f"Nothing is known of {style.plural(field.sample, int(empty.sum()))}, left empty."
    title = f"What {style.plural(field.sample, count)} "
    style.heading(figure, f"{title}{'is' if count == 1 else 'are'} made of", note)
    axes = style.panel(figure, 0.6, style.HEAD, 6.45, 1.8, label="shares")
    rows = spread_rows(count, most_samples)
    stack(axes, 100 * layers[rows], colours)
    axes.set_ylim(0, 100)
    style.label_axes(axes, x=f"{field.sample}s", y="share (%)")
    if named:
        texts = [style.shorten(sample, 16) for sample in samples]
        axes.set_xticks(range(count), texts, rotation=90)
    legend_of(figure, legend, colours)
    return figure


def against_truth(names: Sequence[str], found: ArrayLike, true: ArrayLike) -> Figure:
    """Draw found shares against true ones, a panel for every component.

    Parameters
    ----------
    names : sequence of str, length k
    found, true : array, shape (n, k)
        In [0, 1]; rows with NaN are left out.
    """
    a, b = np.asarray(found, np.float64), np.asarray(true, np.float64)
    seen = np.isfinite(a).all(1) & np.isfinite(b).all(1)
    a, b = a[seen], b[seen]
    across = min(4, len(names))
    down = -(-len(names) // across)
    side = 1.55
    figure = style.new_figure(
        0.7 + across * (side + 0.35), style.HEAD + 0.25 + down * (side + 0.45)
    )
    error = float(np.sqrt(np.mean((a - b) ** 2))) if a.size else float("nan")
    style.heading(figure, "Found against true shares", f"Root mean squared error {error:.3f}.")
    for j, name in enumerate(names):
        left = 0.55 + (j % across) * (side + 0.35)
        top = style.HEAD + 0.15 + (j // across) * (side + 0.45)
        axes = style.panel(figure, left, top, side, side, label=name, grid="both")
        axes.plot([0, 100], [0, 100], color=style.GREY, linewidth=0.8)
        axes.plot(100 * b[:, j], 100 * a[:, j], "o", color=style.MAIN, markersize=3, alpha=0.6)
        axes.set_xlim(-3, 103)
        axes.set_ylim(-3, 103)
        axes.set_xticks([0, 50, 100])
        axes.set_yticks([0, 50, 100])
        last = j + across >= len(names)
        style.label_axes(
            axes,
            x="true (%)" if last else "",
            y="found (%)" if j % across == 0 else "",
            title=style.shorten(name, 20),
        )
    return figure
