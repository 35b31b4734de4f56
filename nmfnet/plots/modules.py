"""Modules of features and samples, as blocks of the standardised matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.plots import style

__all__ = ["modules"]

FAR = 3.0
"""Standardised values at which the colours end."""

MOST = 400
"""Most features that are drawn."""


def modules(X: ArrayLike, found: Sequence[tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Draw the features of the modules, standardised, in the order of the modules.

    Parameters
    ----------
    X : array, shape (n, f)
    found : sequence of (feature scores, sample scores), shapes (f,) and (n,)
        0 = not in the module. Features and samples in several are drawn with the first.
    """
    x = np.asarray(X, np.float64)
    spread = x.std(0)
    z = (x - x.mean(0)) / np.where(spread > 0, spread, 1)
    scores = [(np.asarray(f, np.float64), np.asarray(s, np.float64)) for f, s in found]
    columns, starts = _order([f for f, _ in scores], x.shape[1])
    rows, _ = _order([s for _, s in scores], x.shape[0])
    inside = np.array([column for column in columns if any(f[column] for f, _ in scores)], int)
    step = max(1, -(-len(inside) // MOST))
    figure = style.new_figure(6.6, style.HEAD + 3.9)
    note = f"{len(inside):,} of {x.shape[1]:,} features and {x.shape[0]:,} samples, standardised"
    note += f"; every {step}th feature is drawn." if step > 1 else "."
    style.heading(figure, f"{style.plural('module', len(scores))} of features and samples", note)
    axes = style.panel(figure, 0.6, style.HEAD + 0.3, 5.8, 3.1, label="modules")
    if len(inside):
        shown = z[np.ix_(rows, inside[::step])].clip(-FAR, FAR)
        cmap, limits = style.heat_map(axes, np.minimum(shown, FAR), most=FAR)
        style.colour_scale(figure, 0.6, 0.62, cmap=cmap, limits=limits, label="deviations")
        for start in starts[1 : len(scores)]:
            axes.axvline(start / step - 0.5, color=style.INK, linewidth=0.6)
    axes.set_xticks([])
    axes.set_yticks([])
    style.label_axes(axes, x="features, by module", y="samples, by module")
    return figure


def _order(scores: list[np.ndarray], count: int) -> tuple[np.ndarray, list[int]]:
    """Members of the first module, of the second, ... and the rest; where each begins."""
    left = np.ones(count, bool)
    order: list[int] = []
    starts: list[int] = []
    for score in scores:
        starts.append(len(order))
        own = np.flatnonzero((score != 0) & left)
        order += own[np.argsort(-score[own], kind="stable")].tolist()
        left[own] = False
    return np.array(order + np.flatnonzero(left).tolist()), starts
