"""Pictures of training: the lines are the histories that were given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from nmfnet.errors import UserError
from nmfnet.plots.curves import convergence, convergence_many, objective_spread, rank_curve


def axes_of(figure: Figure, label: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_label() == label)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


@pytest.fixture
def history() -> dict[str, Any]:
    iteration = np.arange(0, 1000, 100.0)
    objective = 50 + 1e3 * np.exp(-iteration / 90)
    return {"iteration": iteration, "seconds": iteration / 1000, "objective": objective}


def test_two_panels_show_the_excess_over_the_best_value(history: dict[str, Any]) -> None:
    figure = convergence(history)
    left, right = figure.axes
    assert left.get_label() == "objective against iterations"
    assert right.get_label() == "objective against seconds"
    assert left.get_xlabel() == "iterations"
    assert right.get_xlabel() == "time (s)"
    assert left.get_yscale() == "log"
    value = history["objective"]
    expected = value / value.min() - 1
    for axes, x in ((left, history["iteration"]), (right, history["seconds"])):
        (line,) = axes.lines
        np.testing.assert_allclose(line.get_xdata(), x)
        np.testing.assert_allclose(line.get_ydata()[:-1], expected[:-1])
        assert np.isnan(line.get_ydata()[-1])  # the best value itself has no logarithm
    assert "1,050 → 50.05 after 900 iterations" in texts(figure)


def test_a_narrow_range_is_shown_as_it_is(history: dict[str, Any]) -> None:
    history["objective"] = np.linspace(11.0, 10.0, 10)
    left = convergence(history).axes[0]
    assert left.get_yscale() == "linear"
    np.testing.assert_allclose(left.lines[0].get_ydata(), history["objective"])
    assert left.get_ylabel() == "objective"


def test_restarts_are_a_band(history: dict[str, Any]) -> None:
    assert not convergence(history).axes[0].collections
    history["objective_min"] = history["objective"]
    history["objective_max"] = history["objective"] * 1.5
    left = convergence(history).axes[0]
    (band,) = left.collections
    top = band.get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(1.5 * 1050 / history["objective"].min() - 1)


def test_held_out_loss_has_its_own_row_and_may_have_gaps(history: dict[str, Any]) -> None:
    import pandas as pd

    history["test_loss"] = np.where(np.arange(10) % 3 == 0, 7.0, np.nan)
    figure = convergence(pd.DataFrame(history))
    assert len(figure.axes) == 4
    line = axes_of(figure, "held-out loss against iterations").lines[0]
    assert line.get_xdata().tolist() == [0, 300, 600, 900]
    assert line.get_ydata().tolist() == [7] * 4


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_short_histories_are_drawn(rows: int, history: dict[str, Any]) -> None:
    figure = convergence({name: values[:rows] for name, values in history.items()})
    figure.canvas.draw()
    assert ("no finite value" in texts(figure)) == (rows == 0)


def test_values_that_are_not_finite_are_left_out(history: dict[str, Any]) -> None:
    history["objective"][3] = np.inf
    history["objective"][5] = np.nan
    line = convergence(history).axes[0].lines[0]
    assert 300 not in line.get_xdata()
    assert len(line.get_xdata()) == 8


def test_time_has_a_unit_that_fits(history: dict[str, Any]) -> None:
    for scale, unit in ((0.01, "ms"), (1, "s"), (1000, "min"), (1e5, "h")):
        scaled = {**history, "seconds": history["seconds"] * scale}
        assert convergence(scaled).axes[1].get_xlabel() == f"time ({unit})"


def test_a_missing_column_is_named(history: dict[str, Any]) -> None:
    del history["seconds"]
    with pytest.raises(UserError, match="no column 'seconds'"):
        convergence(history)


def test_runs_share_one_axis_and_one_best_value(history: dict[str, Any]) -> None:
    worse = {**history, "objective": history["objective"] * 2}
    figure = convergence_many({"nmf": history, "autoencoder": worse})
    left = figure.axes[0]
    assert [line.get_label() for line in left.lines] == ["nmf", "autoencoder"]
    best = history["objective"].min()
    np.testing.assert_allclose(left.lines[1].get_ydata(), worse["objective"] / best - 1)
    assert "lowest at the end: nmf (50.05)" in texts(figure)
    assert {"nmf", "autoencoder"} <= {t.get_text() for t in figure.legends[0].get_texts()}
    with pytest.raises(UserError, match="No history"):
        convergence_many({})


def test_more_runs_than_colours_differ_by_dashes(history: dict[str, Any]) -> None:
    lines = convergence_many({f"run {i}": history for i in range(25)}).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 25


def test_rank_curve_sorts_and_marks_the_suggestion() -> None:
    table = {"n_components": [4, 2, 3], "error": [0.1, 0.5, 0.2], "stability": [0.4, 1.0, 0.9]}
    figure = rank_curve({**table, "stability_min": [0.0, 0.9, 0.8]}, suggested=3)
    error, stability = axes_of(figure, "error"), axes_of(figure, "stability")
    assert error.lines[0].get_xdata().tolist() == [2, 3, 4]
    assert error.lines[0].get_ydata().tolist() == [0.5, 0.2, 0.1]
    assert stability.lines[0].get_ydata().tolist() == [1.0, 0.9, 0.4]
    assert stability.lines[1].get_xdata() == [3, 3]
    assert len(stability.collections) == 1
    with pytest.raises(UserError, match="no column 'stability'"):
        rank_curve({"n_components": [1], "error": [1]})


def test_objective_spread_counts_restarts_near_the_best() -> None:
    figure = objective_spread([200.0, 100.0, np.nan, 100.05, 101.0])
    dots = axes_of(figure, "restarts").collections[0].get_offsets()
    np.testing.assert_allclose(dots, [[1, 0], [2, 0.05], [3, 1], [4, 100]])
    assert "2 of 4 restarts within 0.1 % of the best" in texts(figure)
    assert "1 without a finite objective" in texts(figure)
    with pytest.raises(UserError, match="None of 2 objectives is finite"):
        objective_spread([np.nan, np.inf])
