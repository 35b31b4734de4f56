"""Pictures of H: what each component is made of, in the layout of the data's field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from nmfnet.plots import mosaic, sound, spectra, style
from nmfnet.plots.arrays import (
    Chosen,
    choose_components,
    matrix,
    names_for,
    specific_features,
    unit_rows,
)

__all__ = ["components"]


def components(
    H: ArrayLike,
    feature_names: Sequence[str] | None = None,
    kind: str = "generic",
    *,
    image_shape: tuple[int, int] | None = None,
    names: Sequence[str] | None = None,
    W: ArrayLike | None = None,
    max_components: int = 36,
    shared_scale: bool = False,
    cmap: str | None = None,
    n_words: int | None = None,
    max_features: int = 60,
) -> Figure:
    """Draw the components in the layout of their field.

    Parameters
    ----------
    H : array, shape (k, f)
        Components, non-negative or signed.
    feature_names : sequence of str, length f, optional
        Channel labels (in any order: they are joined by label), words, genes.
    kind : str
        ``image`` (needs ``image_shape``), ``sbs96``, ``dbs78``, ``id83``, ``sound``, ``text`` (needs
        names) or anything else: a heat map. Of that, names that are all channels of one of the three
        systems of mutations choose their layout.
    image_shape : (int, int), optional
        Height and width of the pictures, whose pixels lie row by row in H.
    names : sequence of str, length k, optional
        Names of the components; C1, C2, ... without.
    W : array, shape (n, k), optional
        Non-negative weights: adds each component's share of the whole.
    max_components : int
        Most components that are drawn: the largest by W, without W the first; the figure says so.
    shared_scale : bool
        Images: one grey scale for all parts instead of one for each.
    cmap : str, optional
        Images: matplotlib colour map of the pixels (default: dark = large).
    n_words : int, optional
        Words for each topic: 10, and 7 beyond 24 topics, without.
    max_features : int
        Most features in the heat map.

    Raises
    ------
    UserError
        If shapes, names or channel labels do not fit together.
    """
    values = matrix(H, "H")
    chosen = choose_components(values, W, names, max_components, style.words(kind).component)
    values = values[chosen.rows]
    if kind == "image":
        return _images(values, chosen, image_shape, shared_scale, cmap)
    if kind == "sound":
        return sound.spectra_of(values, chosen, _captions(chosen, 60), feature_names)
    if kind == "text" and feature_names is not None:
        return _topics(values, chosen, feature_names, n_words)
    layout = spectra.LAYOUTS.get(kind) or spectra.find_layout(feature_names)
    if layout is not None:
        return _spectra(spectra.to_layout(values, feature_names, layout), chosen, layout)
    return _heat_map(values, chosen, feature_names, style.words(kind), max_features)


def _captions(chosen: Chosen, length: int) -> list[str]:
    if chosen.shares is None:
        return [style.shorten(name, length) for name in chosen.names]
    parts = [style.percent(share) for share in chosen.shares]
    return [
        f"{style.shorten(name, max(3, length - len(part) - 2))}  {part}"
        for name, part in zip(chosen.names, parts, strict=True)
    ]


def _images(
    values: np.ndarray,
    chosen: Chosen,
    image_shape: tuple[int, int] | None,
    shared_scale: bool,
    cmap: str | None,
) -> Figure:
    pictures = mosaic.pictures(values, image_shape)
    signed = bool(values.min() < 0)
    largest = np.abs(pictures).max(axis=(1, 2), keepdims=True)
    if shared_scale:
        largest = np.full_like(largest, largest.max())
    scaled = np.divide(pictures, largest, out=np.zeros_like(pictures), where=largest > 0)
    colours = style.DIVERGING if signed else cmap or style.GREYS
    limits = (-1.0, 1.0) if signed else (0.0, 1.0)
    grid = mosaic.Grid.of(len(scaled), pictures.shape[1:])
    figure = style.new_figure(*grid.figure_size(style.HEAD, 0.42))
    title = f"{style.plural('part', len(scaled))} as {'signed ' if signed else ''}images"
    share = "" if chosen.shares is None else "Beside the name: share of the reconstruction's sum. "
    style.heading(figure, title, share + chosen.note)
    axes = grid.draw(figure, scaled, style.HEAD, colours, limits, label="components")
    grid.captions(axes, _captions(chosen, grid.letters))
    of = "all parts" if shared_scale else "the part"
    text = f"pixel weight / largest of {of}"
    top = style.size(figure)[1] - 0.34
    style.colour_scale(figure, 0.3, top, cmap=colours, limits=limits, label=text)
    return figure


def _spectra(values: np.ndarray, chosen: Chosen, layout: spectra.Layout) -> Figure:
    values = 100 * unit_rows(values)
    count = len(values)
    row, gap = (0.85 if count <= 6 else 0.62 if count <= 14 else 0.48), 0.2
    left, width, top = 0.68, 9.6, style.HEAD + (0.16 if layout.above else 0.04)
    figure = style.new_figure(left + width + 0.12, top + 0.2 + count * (row + gap) + 0.42)
    title = f"{layout.kind.upper()}: {style.plural('signature', count)}"
    style.heading(figure, title, f"Each signature sums to 100 %. {chosen.note}")
    spectra.header(figure, layout, left=left, top=top, width=width)
    of = "" if chosen.shares is None else " of mutations"
    for number, (caption, heights) in enumerate(zip(_captions(chosen, 60), values, strict=True)):
        place = top + 0.2 + number * (row + gap) + gap
        axes = style.panel(figure, left, place, width, row, label=chosen.names[number], grid="y")
        spectra.spectrum(axes, heights, layout)
        low, high = min(0.0, 1.08 * heights.min()), 1.08 * heights.max()
        axes.set_ylim(low, high if high > low else low + 1)
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 4, 5, 10], min_n_ticks=2))
        axes.yaxis.set_major_formatter("{x:g}")
        style.write(axes, 0.0, 1.03, caption + of, bold=True, relative=True)
        if number == count - 1:
            spectra.channel_ticks(axes, layout)
    height = style.size(figure)[1]
    middle = 1 - (top + 0.2 + count * (row + gap) / 2) / height
    style.write(figure, 0.012, middle, "mutations (%)", turn=90, va="center")
    return figure


def _topics(
    values: np.ndarray, chosen: Chosen, feature_names: Sequence[str], wanted: int | None
) -> Figure:
    names = names_for(feature_names, values.shape[1], "word ", "features")
    values = 100 * unit_rows(values)
    count = len(values)
    n_words = min(wanted or (10 if count <= 24 else 7), values.shape[1])
    columns = min(4, count)
    pitch, line, left, column, bar = n_words + 2.2, 0.135, 0.15, 2.15, 1.1
    height = -(-count // columns) * pitch * line
    figure = style.new_figure(max(4.5, 2 * left + columns * column), style.HEAD + height + 0.4)
    title = f"{n_words} leading words of {style.plural('topic', count)}"
    tops = np.argsort(-np.abs(values), axis=1, kind="stable")[:, :n_words]
    first = np.abs(values[np.arange(count), tops[:, 0]])
    limit = float(min(first.max(), 2.5 * np.median(first))) or 1.0
    scale = "Bars share one scale" + (
        "; a number marks a cut bar. " if first.max() > limit else ". "
    )
    share = "" if chosen.shares is None else "Beside the name: share of all words. "
    style.heading(figure, title, share + scale + chosen.note)
    captions = _captions(chosen, 26)
    for start in range(columns):
        place = (left + start * column + bar, style.HEAD, column - bar - 0.12, height)
        axes = style.panel(figure, *place, label=f"topics, column {start + 1}", grid="x")
        axes.spines["left"].set_visible(False)
        axes.set(xlim=(0, limit), ylim=(height / line, 0), yticks=[])
        axes.locator_params(axis="x", nbins=3)
        style.label_axes(axes, x="share of topic (%)")
        for row, topic in enumerate(range(start, count, columns)):
            top = row * pitch + 0.6
            indent = -bar / (column - bar - 0.12) * limit
            style.write(axes, indent, top, captions[topic], bold=True, va="center")
            leading = [(names[word], values[topic, word]) for word in tops[topic]]
            _word_bars(axes, leading, top + 1.1, limit)
    return figure


def _word_bars(axes: Axes, leading: list[tuple[str, float]], top: float, limit: float) -> None:
    """Draw words and their bars downwards from ``top``; cut bars beyond ``limit`` get a number."""
    at = top + np.arange(len(leading))
    heights = np.array([height for _, height in leading])
    colours = [style.MAIN if height >= 0 else style.SECOND for height in heights]
    lengths = np.minimum(np.abs(heights), limit)
    style.bars(axes, lengths, colours, at=at, horizontal=True, thickness=0.74)
    look: dict[str, Any] = {"size": style.SMALL + 0.5, "va": "center_baseline", "ha": "right"}
    for position, (word, height) in zip(at, leading, strict=True):
        style.write(axes, -0.03 * limit, position, style.shorten(word, 18), **look)
        if abs(height) > limit:
            style.write(axes, 0.97 * limit, position, f"{height:.3g}", colour="white", **look)


def _heat_map(
    values: np.ndarray,
    chosen: Chosen,
    feature_names: Sequence[str] | None,
    field: style.Words,
    max_features: int,
) -> Figure:
    k, f = values.shape
    names = names_for(feature_names, f, f"{field.feature} ", "features")
    order = specific_features(values, max_features)
    share = unit_rows(values)[:, order]
    largest = np.abs(share).max(axis=0)
    relative = np.divide(share, largest, out=np.zeros_like(share), where=largest > 0)
    cell, line = float(np.clip(5.6 / k, 0.2, 0.55)), 0.135
    left, width, height = 1.75, max(2.2, k * cell), max(0.6, len(order) * line)
    figure = style.new_figure(max(5.2, left + width + 0.2), style.HEAD + 0.35 + height + 0.45)
    title = f"What sets {style.plural(field.component, k)} apart"
    if len(order) < f:
        what = f"The {len(order)} of {f:,} {field.feature}s most specific to a {field.component}."
    else:
        what = f"All {style.plural(field.feature, f)}, grouped by {field.component}."
    style.heading(figure, title, f"{what} {chosen.note}")
    axes = style.panel(figure, left, style.HEAD + 0.35, width, height, label="components")
    colours, limits = style.heat_map(axes, relative.T, most=1.0)
    labels = [style.shorten(names[feature], 26) for feature in order]
    axes.set_yticks(range(len(order)), labels)
    turned = 90 if max(map(len, chosen.names)) * 0.075 > cell else 0
    axes.set_xticks(range(k), [style.shorten(name, 12) for name in chosen.names], rotation=turned)
    axes.xaxis.tick_top()
    text = f"share in the {field.component} / {field.feature}'s largest"
    top = style.size(figure)[1] - 0.34
    style.colour_scale(figure, 0.3, top, cmap=colours, limits=limits, label=text)
    return figure
