"""Components against phenotypes: the size of the effects, and which are beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nmfnet.plots import style

__all__ = ["associations"]

MOST = 40
"""Most phenotypes, and most components, that are drawn."""


def associations(rows: Sequence[Any]) -> Figure:
    """Draw effects as a heat map, with a dot where q < 0.05.

    Parameters
    ----------
    rows : sequence of Association
        As of :func:`nmfnet.metrics.associate`; those of the largest component are left out.
    """
    shown = [row for row in rows if row.component != "largest"]
    every = [list(dict.fromkeys(names)) for names in zip(*(row[:2] for row in shown), strict=True)]
    components, phenotypes = (names[:MOST] for names in every)
    effect = np.zeros((len(phenotypes), len(components)))
    sure = np.zeros(effect.shape, bool)
    for row in shown:
        if row.component in components and row.phenotype in phenotypes:
            at = phenotypes.index(row.phenotype), components.index(row.component)
            effect[at], sure[at] = row.effect, row.q < 0.05
    longest = max(len(style.shorten(name, 24)) for name in phenotypes)
    widest = max(len(style.shorten(name, 16)) for name in components)
    left = 0.25 + 0.07 * longest
    width, height = max(3.0, 0.34 * len(components)), 0.3 * len(phenotypes)
    figure = style.new_figure(
        max(4.8, left + width + 0.3),
        style.HEAD + 0.75 + height + (0.1 + 0.065 * widest if widest > 4 else 0),
    )
    fewest, most = (pick(row.n for row in rows) for pick in (min, max))
    among = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    note = f"In {among} samples that have a value."
    for word, names in zip(("components", "phenotypes"), every, strict=True):
        note += f" The first {MOST} of {len(names)} {word} are drawn." if len(names) > MOST else ""
    style.heading(figure, "What components go with", note)
    axes = style.panel(figure, left, style.HEAD + 0.4, width, height, label="effects")
    cmap, limits = style.heat_map(axes, effect, most=1.0)
    if limits[0] == 0:
        cmap, limits = style.SEQUENTIAL, (0.0, 1.0)
    places = np.argwhere(sure)
    dark = np.abs(effect[sure]) > 0.6
    axes.scatter(places[:, 1], places[:, 0], s=10, c=np.where(dark, "white", style.INK))
    axes.set_yticks(range(len(phenotypes)), [style.shorten(name, 24) for name in phenotypes])
    turned = 90 if widest > 4 else 0
    texts = [style.shorten(name, 16) for name in components]
    axes.set_xticks(range(len(components)), texts, rotation=turned)
    label = "effect; a dot where q < 0.05"
    style.colour_scale(figure, left, style.HEAD + 0.08, cmap=cmap, limits=limits, label=label)
    return figure
