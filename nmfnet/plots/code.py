"""Pictures of codes of any sign, of what an objective is made of, and of dispersions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.errors import UserError
from nmfnet.plots import style
from nmfnet.plots.arrays import matrix

__all__ = ["code_map", "dispersion_of_means", "objective_terms"]

FEWEST_FOR_UMAP = 30
"""Samples below which neighbours say little, and the principal components are drawn."""


def code_map(
    W: ArrayLike, groups: Mapping[str, Sequence[Any]] | None = None, *, by: str | None = None
) -> Figure:
    """Draw the codes of samples in two dimensions, a panel for every way to colour them.

    Parameters
    ----------
    W : array, shape (n, k)
        Codes, of any sign.
    groups : mapping of str to sequence of length n, optional
        Class of each sample by what the classes are ("labels", "batch"); None = no class.
    by : {"umap", "pca"}, optional
        How two dimensions are made of k: by UMAP where it is installed and there are 30 samples, else
        by principal components. Codes of two dimensions are drawn as they are.

    Raises
    ------
    UserError
        If there are not as many classes as samples.
    """
    code = matrix(W, "W")
    flat, axes_names = _flat(code, by)
    shown = dict(groups or {}) or {"": [""] * len(flat)}
    columns = len(shown)
    figure = style.new_figure(0.9 + 3.5 * columns, style.HEAD + 3.6)
    style.heading(
        figure,
        f"Codes of {style.plural('sample', len(flat))} in {code.shape[1]} dimensions",
        axes_names[2],
    )
    for number, (what, given) in enumerate(shown.items()):
        classes = np.array(["" if one is None else str(one) for one in given], dtype=object)
        if len(classes) != len(flat):
            raise UserError(f"{what} has {len(classes)} classes for {len(flat)} samples.")
        axes = style.panel(
            figure, 0.65 + 3.5 * number, style.HEAD + 0.2, 2.6, 2.6, label=f"code by {what}"
        )
        names, counts = np.unique(classes[classes != ""], return_counts=True)
        names = names[np.argsort(-counts, kind="stable")]
        own = {name: style.PALETTE[i] for i, name in enumerate(names[: len(style.PALETTE)])}
        rest = ~np.isin(classes, list(own))
        axes.scatter(
            flat[rest, 0],
            flat[rest, 1],
            s=7,
            color=style.OTHER if own else style.MAIN,
            linewidths=0,
        )
        for name, colour in own.items():
            at = classes == name
            axes.scatter(
                flat[at, 0],
                flat[at, 1],
                s=7,
                color=colour,
                linewidths=0,
                label=style.shorten(name, 14),
            )
        style.label_axes(axes, x=axes_names[0], y=axes_names[1] if number == 0 else "", title=what)
        axes.set_xticks([])
        axes.set_yticks([])
        if own:
            axes.legend(
                loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False,
                fontsize=style.SMALL, handletextpad=0.1, markerscale=1.6, borderaxespad=0.1,
            )  # fmt: skip
    return figure


def _flat(code: np.ndarray, by: str | None) -> tuple[np.ndarray, tuple[str, str, str]]:
    """Two columns, and the words for both and for how they were made."""
    n, k = code.shape
    if k <= 2:
        flat = np.column_stack([code, np.zeros((n, 2 - k))])
        return flat, ("code 1", "code 2" if k == 2 else "", "")
    if by is None:
        by = "umap" if n >= FEWEST_FOR_UMAP and find_spec("umap") else "pca"
    if by == "umap":
        made = import_module("umap").UMAP(random_state=0, n_jobs=1).fit_transform(code)
        return np.asarray(made), (
            "UMAP 1",
            "UMAP 2",
            "UMAP of the codes: neighbours count, not distances.",
        )
    centred = code - code.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    share = float((s[:2] ** 2).sum() / max((s**2).sum(), 1e-300))
    note = f"First two principal components of the codes: {style.percent(share)} of their variance."
    return u[:, :2] * s[:2], ("component 1", "component 2", note)


def objective_terms(history: Any) -> Figure:
    """Draw what an objective is made of, over the iterations: a panel for each term.

    Parameters
    ----------
    history : pandas.DataFrame or mapping of str to array
        Columns ``iteration`` and ``term/NAME``, as in ``history.csv``.

    Raises
    ------
    UserError
        If there is no term.
    """
    names = [str(key) for key in history if str(key).startswith("term/")]
    if not names or "iteration" not in history:
        raise UserError("The history has no columns iteration and term/NAME: nothing to draw.")
    figure = style.new_figure(0.5 + 3.2 * len(names), style.HEAD + 2.6)
    note = "Sums over the rows that are judged, of the best restart."
    style.heading(figure, "Terms of the objective", note)
    iteration = np.asarray(history["iteration"], dtype=float)
    for number, name in enumerate(names):
        values = np.asarray(history[name], dtype=float)
        axes = style.panel(
            *(figure, 0.75 + 3.2 * number, style.HEAD + 0.2, 2.4, 1.8),
            label=name, grid="both",
        )  # fmt: skip
        colour = style.PALETTE[number % len(style.PALETTE)]
        mark = "o" if np.isfinite(values).sum() < 3 else ""
        axes.plot(iteration, values, color=colour, linewidth=1.4, marker=mark, markersize=3.5)
        finite = values[np.isfinite(values)]
        most = float(np.abs(finite).max()) if finite.size else 1.0
        style.readable_axis(axes.xaxis, float(iteration.max()), "")
        y = style.readable_axis(axes.yaxis, most, "nats" if number == 0 else "")
        style.label_axes(axes, x="iterations", y=y, title=name.removeprefix("term/"))
    return figure


def dispersion_of_means(dispersion: ArrayLike, means: ArrayLike) -> Figure:
    """Draw the inverse dispersion of every feature against its mean, both on log axes.

    Parameters
    ----------
    dispersion : array, shape (f,)
        theta of the negative binomial: variance = mean + mean²/theta.
    means : array, shape (f,)
        Of the features over the samples.

    Raises
    ------
    UserError
        If there is not one for each feature.
    """
    theta, mean = np.ravel(np.asarray(dispersion, float)), np.ravel(np.asarray(means, float))
    if theta.shape != mean.shape:
        raise UserError(f"There are {theta.size} dispersions for {mean.size} means.")
    figure = style.new_figure(4.4, style.HEAD + 3.4)
    style.heading(
        figure,
        "Inverse dispersion of the features",
        "Points above the line: less than half of the variance is beyond Poisson's.",
    )
    axes = style.panel(figure, 0.8, style.HEAD + 0.15, 3.3, 2.6, label="dispersion", grid="both")
    seen = mean > 0
    axes.scatter(mean[seen], theta[seen], s=6, color=style.MAIN, linewidths=0, alpha=0.7)
    axes.set_xscale("log")
    axes.set_yscale("log")
    if seen.any():
        ends = np.array([mean[seen].min(), mean[seen].max()])
        axes.plot(ends, ends, color=style.SECOND, linewidth=1, zorder=0)
    axes.tick_params(which="minor", length=0)
    style.label_axes(
        axes, x="mean count of the feature", y="theta (variance = mean + mean² / theta)"
    )
    return figure
