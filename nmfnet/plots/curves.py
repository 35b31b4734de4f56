"""Pictures of training: objective against iterations and seconds, ranks, restarts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from nmfnet.errors import UserError
from nmfnet.plots import style
from nmfnet.plots.arrays import spread_rows

__all__ = ["convergence", "convergence_many", "objective_spread", "rank_curve"]

_FLOOR = 1e-9
"""Smallest relative excess over the best value that is drawn: below lies rounding."""
_DASHES = ("-", "--", ":", "-.")


class _Trace(NamedTuple):
    """One curve, finite values only; ``low`` and ``high`` span the restarts."""

    iteration: np.ndarray
    seconds: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def best(self) -> float:
        return float(min(self.value.min(), self.low.min())) if self.value.size else np.nan


def _column(history: Any, name: str) -> np.ndarray:
    return np.atleast_1d(np.asarray(history[name], dtype=float))


def _trace(history: Any, column: str) -> _Trace:
    missing = [name for name in ("iteration", "seconds", column) if name not in history]
    if missing:
        raise UserError(
            f"The history has no column '{missing[0]}'; it needs iteration, seconds and {column}."
        )
    iteration, seconds = _column(history, "iteration"), _column(history, "seconds")
    value = _column(history, column)
    low, high = (
        _column(history, f"{column}_{end}") if f"{column}_{end}" in history else value
        for end in ("min", "max")
    )
    keep = np.flatnonzero(np.isfinite(value) & np.isfinite(iteration) & np.isfinite(seconds))
    keep = keep[spread_rows(len(keep), 4000)]
    return _Trace(iteration[keep], seconds[keep], value[keep], low[keep], high[keep])


class _Scale(NamedTuple):
    """How values are shown: as they are, or as relative excess over ``best`` on a log axis."""

    log: bool
    best: float
    unit: float

    @classmethod
    def of(cls, traces: list[_Trace]) -> _Scale:
        """Choose the log axis where the excess over the best value spans two decades or more."""
        filled = [trace for trace in traces if trace.value.size]
        if not filled:
            return cls(False, 0.0, 1.0)
        best = min(trace.best for trace in filled)
        scale = cls(True, best, abs(best) or 1.0)
        excess = np.concatenate([scale(trace.value) for trace in filled])
        excess = excess[np.isfinite(excess)]
        spans = excess.size >= 4 and excess.max() / excess.min() >= 100
        return scale if spans else cls(False, best, scale.unit)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if not self.log:
            return values
        excess = (values - self.best) / self.unit
        return np.where(excess > _FLOOR, excess, np.nan)


def _time_unit(seconds: float) -> tuple[float, str]:
    for unit, name in ((1e-3, "ms"), (1.0, "s"), (60.0, "min"), (3600.0, "h")):
        if seconds < 120 * unit or name == "h":
            return unit, name
    raise AssertionError("unreachable")


def _draw(axes: Axes, x: np.ndarray, trace: _Trace, scale: _Scale, look: dict[str, Any]) -> None:
    value = scale(trace.value)
    marker = "o" if np.isfinite(value).sum() < 3 else ""
    axes.plot(x, value, linewidth=1.4, marker=marker, markersize=3.5, **look)
    if not np.array_equal(trace.low, trace.high):
        low, high = scale(trace.low), scale(trace.high)
        floor = np.nanmin(value) if np.isfinite(value).any() else np.nan
        low = np.where(np.isfinite(low), low, floor)
        axes.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)


def _row(
    figure: Figure,
    traces: Mapping[str, _Trace],
    looks: Mapping[str, dict[str, Any]],
    top: float,
    name: str,
) -> None:
    """Draw two panels beside each other: against iterations and against seconds."""
    objective = name == "objective"
    scale = _Scale.of(list(traces.values())) if objective else _Scale(False, 0.0, 1.0)
    filled = [trace for trace in traces.values() if trace.value.size]
    longest = max((float(trace.seconds[-1]) for trace in filled), default=0.0)
    unit, unit_name = _time_unit(longest)
    most = max((float(np.abs(scale(trace.value)).max()) for trace in filled), default=0.0)
    for number, what in enumerate(("iterations", "seconds")):
        place = (0.95 + number * 3.2, top, 2.85, 2.1)
        axes = style.panel(figure, *place, label=f"{name} against {what}", grid="both")
        for label, trace in traces.items():
            x = trace.iteration if number == 0 else trace.seconds / unit
            _draw(axes, x, trace, scale, {"label": label, **looks[label]})
        y = f"{name} / best value − 1" if scale.log else name
        if scale.log:
            axes.set_yscale("log")
            axes.tick_params(which="minor", length=0)
        else:
            y = style.readable_axis(axes.yaxis, most, name)
        if number == 0:
            last = max((float(trace.iteration[-1]) for trace in filled), default=0.0)
            x_label = style.readable_axis(axes.xaxis, last, "iterations")
        else:
            x_label = style.readable_axis(axes.xaxis, longest / unit, f"time ({unit_name})")
            axes.set_yticklabels([])
        style.label_axes(axes, x=x_label, y=y if number == 0 else "")
        if not filled:
            axes.set(xticks=[], yticks=[])
            _say(axes, "no finite value recorded")


def _say(axes: Axes, text: str) -> None:
    style.write(axes, 0.5, 0.5, text, colour=style.GREY, ha="center", va="center", relative=True)


def _time(seconds: float) -> str:
    unit, name = _time_unit(seconds)
    return f"{seconds / unit:.3g} {name}"


def convergence(history: Any) -> Figure:
    """Draw how the objective of one run falls, against iterations and against time.

    Where the excess over the best value reached spans at least two decades it is shown, relative to
    that value, on a log axis; otherwise the objective itself on a linear axis.

    Parameters
    ----------
    history : pandas.DataFrame or mapping of str to array
        Columns ``iteration``, ``seconds``, ``objective`` (best restart); optionally
        ``objective_min`` and ``objective_max`` (range over restarts, a band) and ``test_loss``
        (second row of panels; NaN where it was not evaluated).

    Raises
    ------
    UserError
        If one of the three columns is missing.
    """
    trace = _trace(history, "objective")
    rows = {"objective": trace}
    if "test_loss" in history and np.isfinite(_column(history, "test_loss")).any():
        rows["held-out loss"] = _trace(history, "test_loss")
    figure = style.new_figure(7.2, style.HEAD + 2.7 * len(rows))
    title = "No iteration was recorded"
    if trace.value.size:
        first, last = (style.readable(float(trace.value[end])) for end in (0, -1))
        title = (
            f"Objective {first} → {last} after "
            f"{style.plural('iteration', int(trace.iteration[-1]))}, {_time(trace.seconds[-1])}"
        )
    band = not np.array_equal(trace.low, trace.high)
    note = "Line: best restart; band: range over the restarts. " if band else ""
    if _Scale.of([trace]).log:
        note += "Shown relative to the lowest value reached."
    style.heading(figure, title, note)
    for number, (name, drawn) in enumerate(rows.items()):
        looks = {"": {"color": (style.MAIN, style.SECOND)[number]}}
        _row(figure, {"": drawn}, looks, style.HEAD + 0.1 + 2.7 * number, name)
    return figure


def convergence_many(histories: Mapping[str, Any]) -> Figure:
    """Draw the objectives of several runs on shared axes, against iterations and against time.

    Parameters
    ----------
    histories : mapping of str to history
        Label of each run and its history as in `convergence`. On a log axis the excess is that over
        the best value of all runs. The objectives must be comparable (same data, same loss).

    Raises
    ------
    UserError
        If there is no run, or a history lacks a column.
    """
    if not histories:
        raise UserError("No history was given; pass at least one as {label: history}.")
    traces = {str(label): _trace(history, "objective") for label, history in histories.items()}
    colours = len(style.PALETTE)
    looks: dict[str, dict[str, Any]] = {
        label: {"color": style.PALETTE[i % colours], "linestyle": _DASHES[i // colours % 4]}
        for i, label in enumerate(traces)
    }
    lines = -(-len(traces) // 3)
    figure = style.new_figure(7.2, style.HEAD + 2.7 + 0.17 * lines)
    ends = {label: trace.value[-1] for label, trace in traces.items() if trace.value.size}
    title = f"Objective of {style.plural('run', len(traces))}"
    if ends:
        winner = min(ends, key=lambda label: ends[label])
        title += f"; lowest at the end: {winner} ({style.readable(float(ends[winner]))})"
    log = _Scale.of(list(traces.values())).log
    style.heading(figure, title, "Shown relative to the lowest value reached." if log else "")
    _row(figure, traces, looks, style.HEAD + 0.05, "objective")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        [style.shorten(label, 34) for label in labels],
        loc="lower left",
        bbox_to_anchor=(0.02, 0.0),
        ncols=3,
        frameon=False,
        fontsize=style.SMALL,
    )
    return figure


def rank_curve(
    table: Any,
    *,
    suggested: int | None = None,
    error_label: str = "relative error",
    stability_label: str = "stability",
) -> Figure:
    """Draw error and stability against the number of components.

    Parameters
    ----------
    table : pandas.DataFrame or mapping of str to array
        Columns ``n_components``, ``error``, ``stability``; optionally ``error_min``, ``error_max``,
        ``stability_min``, ``stability_max`` (bands). Rows in any order.
    suggested : int, optional
        Number of components to mark.
    error_label, stability_label : str
        What the two columns measure, with unit.

    Raises
    ------
    UserError
        If one of the three columns is missing.
    """
    for name in ("n_components", "error", "stability"):
        if name not in table:
            raise UserError(
                f"The table has no column '{name}'; it needs n_components, error, stability."
            )
    ranks = _column(table, "n_components")
    order = np.argsort(ranks, kind="stable")
    ranks = ranks[order]
    figure = style.new_figure(5.0, style.HEAD + 3.9)
    title = f"Choosing the number of components: {ranks.min():.0f} to {ranks.max():.0f}"
    note = "" if suggested is None else f"Dashed line: suggested number of components, {suggested}."
    style.heading(figure, title, note)
    drawn = (("error", error_label, style.SECOND), ("stability", stability_label, style.MAIN))
    for number, (name, label, colour) in enumerate(drawn):
        place = (0.7, style.HEAD + 0.2 + number * 1.75, 4.1, 1.4)
        axes = style.panel(figure, *place, label=name, grid="both")
        values = _column(table, name)[order]
        axes.plot(ranks, values, color=colour, marker="o", markersize=4, linewidth=1.4)
        if f"{name}_min" in table or f"{name}_max" in table:
            ends = (f"{name}_min", f"{name}_max")
            low, high = (_column(table, end)[order] if end in table else values for end in ends)
            axes.fill_between(ranks, low, high, color=colour, alpha=0.18, linewidth=0)
        if suggested is not None:
            axes.axvline(suggested, color=style.GREY, linestyle="--", linewidth=0.9)
        ticks = ranks[spread_rows(len(ranks), 12)]
        axes.set_xticks(ticks, [f"{rank:.0f}" for rank in ticks] if number else [""] * len(ticks))
        style.label_axes(axes, x="number of components" if number else "", title=label)
    return figure


def objective_spread(objectives: ArrayLike) -> Figure:
    """Draw the final objectives of all restarts, sorted, as percent above the best.

    Parameters
    ----------
    objectives : array, shape (r,)
        Final objective of each restart; NaN for one that failed.

    Raises
    ------
    UserError
        If no objective is finite.
    """
    given = np.asarray(objectives, dtype=float).ravel()
    values = np.sort(given[np.isfinite(given)])
    if not values.size:
        raise UserError(f"None of {given.size} objectives is finite; there is nothing to draw.")
    best = float(values[0])
    above = 100 * (values - best) / (abs(best) or 1.0)
    near = int((above <= 0.1).sum())
    figure = style.new_figure(5.0, style.HEAD + 2.6)
    title = f"{near:,} of {style.plural('restart', values.size)} within 0.1 % of the best"
    failed = given.size - values.size
    note = f"Best objective: {style.readable(best)}."
    note += f" {failed} without a finite objective are left out." if failed else ""
    style.heading(figure, title, note)
    axes = style.panel(figure, 0.75, style.HEAD + 0.05, 4.0, 2.0, label="restarts", grid="y")
    colours = np.where(above <= 0.1, style.MAIN, style.SECOND)
    axes.scatter(np.arange(1, values.size + 1), above, c=list(colours), s=14, linewidths=0)
    axes.set_xlim(0.3, values.size + 0.7)
    axes.set_ylim(-0.05 * max(above[-1], 0.1), 1.08 * max(above[-1], 0.1))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    style.label_axes(axes, x="restart, sorted", y="objective above the best (%)")
    return figure
