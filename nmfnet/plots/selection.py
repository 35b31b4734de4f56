"""The picture of a rank selection: every measure against the number of components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nmfnet.errors import UserError
from nmfnet.plots import style
from nmfnet.plots.arrays import spread_rows

__all__ = ["rank_selection"]

Rows = Sequence[Mapping[str, float]]

_WIDTH, _HEIGHT = 3.0, 1.45


def rank_selection(
    rows: Rows, *, suggested: int | None = None, thresholds: tuple[float, float] = (0.8, 0.2)
) -> Figure:
    """Draw stability, held-out loss, reconstruction and consensus of restarts, a panel each.

    Where neither of the second and the fourth has a number, the others are drawn alone.

    Parameters
    ----------
    rows : sequence of mappings
        The table ``rank_selection.csv``: ``n_components``, ``silhouette_mean``, ``silhouette_min``
        and any of ``worse`` with ``worse_se``, ``relative_error``, ``cosine_mean``,
        ``cophenetic``, ``dispersion``, ``ard``.
    suggested : int, optional
        Rank that is marked.
    thresholds : (float, float)
        Of the mean and of the smallest silhouette, drawn as lines.

    Raises
    ------
    UserError
        If there is no row.
    """
    if not rows:
        raise UserError("The table of ranks has no row; there is nothing to draw.")
    rows = sorted(rows, key=lambda row: row["n_components"])
    ranks = _column(rows, "n_components")
    makers = [_stability, _held_out, _reconstruction, _consensus]
    if not np.isfinite([_column(rows, "worse"), _column(rows, "cophenetic")]).any():
        makers = [_stability, _reconstruction]
    lines = len(makers) // 2
    height = style.HEAD + lines * (_HEIGHT + 0.45) + 0.35
    figure = style.new_figure(0.75 + 2 * _WIDTH + 0.8, height)
    title = f"{len(rows)} ranks, {ranks.min():.0f} to {ranks.max():.0f}"
    if suggested is not None:
        title += f": {suggested} suggested"
    note = "Dashed: the suggested rank. Dotted: what a stable rank needs. Filled: stable ranks."
    relevance = np.nan_to_num(_column(rows, "ard"))
    if relevance.any():
        note += " Triangles: what starts of ARD keep."
    style.heading(figure, title, note, left=0.75)
    stable = _column(rows, "stable") > 0
    for number, draw in enumerate(makers):
        down, across = divmod(number, 2)
        left = 0.75 + across * (_WIDTH + 0.7)
        top = style.HEAD + 0.25 + down * (_HEIGHT + 0.45)
        axes = style.panel(figure, left, top, _WIDTH, _HEIGHT, label=draw.__name__, grid="both")
        if draw is _stability:
            _stability(axes, ranks, rows, stable, thresholds)
        else:
            draw(axes, ranks, rows, stable)  # type: ignore[operator]
        if suggested is not None:
            axes.axvline(suggested, color=style.GREY, linestyle="--", linewidth=0.9, zorder=0)
        _relevance(axes, ranks, relevance)
        ticks = ranks[spread_rows(len(ranks), 12)]
        axes.set_xticks(ticks, [f"{rank:.0f}" for rank in ticks])
        axes.set_xlim(ranks.min() - 0.4, ranks.max() + 0.4)
        if down == lines - 1:
            axes.set_xlabel("number of components", fontsize=style.TEXT, color=style.INK)
    return figure


def _column(rows: Rows, name: str) -> np.ndarray:
    return np.array([row.get(name, np.nan) for row in rows], dtype=float)


def _line(
    axes: Axes, ranks: np.ndarray, values: np.ndarray, stable: np.ndarray, colour: str, label: str
) -> None:
    """A curve whose markers are filled at stable ranks."""
    axes.plot(ranks, values, color=colour, linewidth=1.3, label=label)
    for some, fill in ((stable, colour), (~stable, "white")):
        axes.scatter(
            ranks[some], values[some], s=16, c=fill, edgecolors=colour, linewidths=1.0, zorder=3
        )


def _key(axes: Axes) -> None:
    axes.legend(fontsize=style.SMALL, frameon=False, loc="best", handlelength=1.4)


def _relevance(axes: Axes, ranks: np.ndarray, share: np.ndarray) -> None:
    """A triangle at the foot of every rank that ARD keeps; its area is the share of starts."""
    some = share > 0
    axes.scatter(
        ranks[some], np.full(int(some.sum()), 0.04), s=50 * share[some], marker="^", c=style.INK,
        linewidths=0, transform=axes.get_xaxis_transform(), clip_on=False, zorder=4, label="_ard",
    )  # fmt: skip


def _stability(
    axes: Axes,
    ranks: np.ndarray,
    rows: Rows,
    stable: np.ndarray,
    thresholds: tuple[float, float],
) -> None:
    for name, colour, label, needed in (
        ("silhouette_mean", style.MAIN, "mean", thresholds[0]),
        ("silhouette_min", style.SECOND, "smallest", thresholds[1]),
    ):
        _line(axes, ranks, _column(rows, name), stable, colour, label)
        axes.axhline(needed, color=colour, linestyle=":", linewidth=0.9)
    low = min(-0.05, float(np.nanmin(_column(rows, "silhouette_min"))) - 0.05)
    axes.set_ylim(low, 1.05)
    style.label_axes(axes, title="stability of replicates: silhouette")
    _key(axes)


def _held_out(axes: Axes, ranks: np.ndarray, rows: Rows, stable: np.ndarray) -> None:
    worse, error = _column(rows, "worse"), _column(rows, "worse_se")
    if not np.isfinite(worse).any():
        _none(axes, "nothing was held out")
        return
    axes.errorbar(
        ranks, worse, yerr=error, color=style.MAIN, linewidth=0, elinewidth=0.9, capsize=2
    )
    _line(axes, ranks, worse, stable, style.MAIN, "")
    worst = float(np.nanmax(worse))
    scale = float(np.nanmedian(np.abs(worse[worse != 0]))) if (worse != 0).any() else 1.0
    if worst > 20 * max(scale, 1e-12) or worst > 50 * float(np.nanmax(error) or 1.0):
        linear = _linear(error)
        axes.set_yscale("symlog", linthresh=linear)
        powers = 10.0 ** np.arange(np.ceil(np.log10(2 * linear)), 300)  # clear of 0
        low, high = axes.get_ylim()
        axes.set_yticks([*-powers[-powers >= low][::-1], 0.0, *powers[powers <= high]])
    style.label_axes(axes, title="held-out loss above that of the best stable rank")


def _linear(error: np.ndarray) -> float:
    """Where a symmetric log axis is linear: up to a typical standard error."""
    some = error[np.isfinite(error) & (error > 0)]
    return float(np.median(some)) if some.size else 1.0


def _reconstruction(axes: Axes, ranks: np.ndarray, rows: Rows, stable: np.ndarray) -> None:
    _line(axes, ranks, _column(rows, "relative_error"), stable, style.MAIN, "relative error")
    _line(
        axes,
        ranks,
        1 - _column(rows, "cosine_mean"),
        stable,
        style.SECOND,
        "1 - cosine, sample mean",
    )
    axes.set_ylim(bottom=0)
    style.label_axes(axes, title="reconstruction by the consensus")
    _key(axes)


def _consensus(axes: Axes, ranks: np.ndarray, rows: Rows, stable: np.ndarray) -> None:
    if not np.isfinite(_column(rows, "cophenetic")).any():
        _none(axes, "one restart, or too many samples: no consensus")
        return
    _line(axes, ranks, _column(rows, "cophenetic"), stable, style.MAIN, "cophenetic correlation")
    _line(axes, ranks, _column(rows, "dispersion"), stable, style.SECOND, "dispersion")
    axes.set_ylim(top=1.03)
    style.label_axes(axes, title="consensus of restarts: samples")
    _key(axes)


def _none(axes: Axes, text: str) -> None:
    style.write(axes, 0.5, 0.5, text, colour=style.GREY, ha="center", relative=True)
    axes.set_yticks([])
