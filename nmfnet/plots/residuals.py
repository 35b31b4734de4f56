"""Residuals in units of known uncertainties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.plots import style
from nmfnet.plots.arrays import names_for

__all__ = ["scaled_residuals"]

SHOWN = 25
"""Most features that are drawn one by one."""

FAR = 3.0
"""Residuals beyond so many uncertainties are rare among normal ones."""

EDGES = np.linspace(-6.0, 6.0, 49)
"""Of the histogram; what lies beyond is counted in its last bars."""


def scaled_residuals(
    x: ArrayLike, x_hat: Any, weights: ArrayLike, feature_names: Sequence[str] | None = None
) -> Figure:
    """Draw (x - x_hat) / u: all of them beside a normal law, and the features that are fitted worst.

    Parameters
    ----------
    x : array, shape (n, f)
    x_hat : array, shape (n, f), or function from rows to rows of it
    weights : array, shape (n, f)
        1/u² of the uncertainties u; entries of weight 0 are left out.
    feature_names : sequence of str, length f, optional
    """
    scale = np.sqrt(np.asarray(weights, np.float64))
    said = x_hat(np.arange(len(scale))) if callable(x_hat) else x_hat
    z = np.where(scale > 0, (np.asarray(x, np.float64) - said) * scale, np.nan)
    names = names_for(feature_names, z.shape[1], "feature ", "features")
    seen = z[np.isfinite(z)]
    far = float(np.mean(np.abs(seen) > FAR))
    counted = np.isfinite(z).any(0)
    size = np.sqrt(np.nanmean(np.where(counted, z, 0.0) ** 2, axis=0))
    worst = np.argsort(-size, kind="stable")[:SHOWN][::-1]
    longest = max(len(style.shorten(names[i], 18)) for i in worst)
    left = 3.75 + 0.062 * longest
    figure = style.new_figure(left + 2.6, style.HEAD + 0.55 + max(1.8, 0.14 * len(worst)))
    note = f"{style.percent(far)} of {seen.size:,} lie beyond {FAR:g} uncertainties (normal: 0.3%)."
    style.heading(figure, "Residuals in units of their uncertainties", note)
    height = max(1.8, 0.14 * len(worst))
    axes = style.panel(figure, 0.6, style.HEAD + 0.1, 2.7, height, label="all residuals", grid="y")
    share, _ = np.histogram(np.clip(seen, EDGES[0], EDGES[-1]), EDGES)
    density = share / (share.sum() * np.diff(EDGES))
    middle = (EDGES[1:] + EDGES[:-1]) / 2
    style.bars(axes, density, style.MAIN, at=middle, thickness=float(np.diff(EDGES)[0]) * 0.92)
    normal = np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi)
    axes.plot(middle, normal, color=style.SECOND, linewidth=1.2, label="normal")
    axes.set_xlim(EDGES[0], EDGES[-1])
    axes.set_ylim(0, 1.08 * max(density.max(), normal.max()))
    axes.legend(fontsize=style.SMALL, frameon=False, loc="upper right", handlelength=1.2)
    style.label_axes(axes, x="residual / uncertainty", y="density")
    side = style.panel(figure, left, style.HEAD + 0.1, 2.4, height, label="by feature", grid="x")
    style.bars(side, size[worst], style.MAIN, horizontal=True, thickness=0.7)
    side.axvline(1.0, color=style.SECOND, linewidth=1.2)
    side.set_xlim(0, 1.08 * max(1.0, float(size[worst].max())))
    side.set_ylim(-0.6, len(worst) - 0.4)
    side.set_yticks(range(len(worst)), [style.shorten(names[i], 18) for i in worst])
    few = f" ({len(worst)} worst of {len(size)})" if len(size) > len(worst) else ""
    style.label_axes(side, x=f"root mean square{few}")
    return figure
