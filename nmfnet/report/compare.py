"""``nmfnet compare RUN RUN``: settings, numbers and components of two runs side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nmfnet.data.formats.factors import read_factors
from nmfnet.errors import UserError
from nmfnet.report.collect import Run, read_run, settings
from nmfnet.report.terms import differences, in_words, terms, unequal
from nmfnet.run.measures import compared_as, measures_of

__all__ = ["RunComparison", "compare", "compare_runs", "finished_run"]


SEEDLESS = ("none", "predefined", "time")
"""Splits that hold the same out whatever the seed is."""


MINIMISED = ("train/loss", "test/loss", "objective")
"""Numbers in the unit of the loss, so that those of unlike losses have no ratio."""


class RunComparison(NamedTuple):
    """Two runs side by side.

    Attributes
    ----------
    settings : dict
        Settings that differ, and their two values.
    unequal : dict
        Those of the equal terms that differ (data, split, loss, stopping rule, ...); empty = the
        numbers may be compared.
    numbers : list of tuple
        Key, words, the two numbers, and the second over the first (nan where that says nothing).
    matched : list of tuple
        Component of the first run, of the second (counted from 1), and their cosine, best first.
    unmatched : str
        Why there is no ``matched``; empty otherwise.
    """

    settings: dict[str, tuple[Any, Any]]
    unequal: dict[str, tuple[Any, Any]]
    numbers: list[tuple[str, str, Any, Any, float]]
    matched: list[tuple[int, int, float]]
    unmatched: str


def compare(run_a: str | Path, run_b: str | Path) -> None:
    """Print how two finished runs differ.

    Raises
    ------
    UserError
        If one of the folders is not a finished run.
    """
    a, b = finished_run(run_a), finished_run(run_b)
    _print(a, b, compare_runs(a, b))


def finished_run(folder: str | Path) -> Run:
    """A run whose files are whole.

    Raises
    ------
    UserError
        With what is wrong with the folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise UserError(f"{path} is no folder: give the folder of a run, such as runs/nmf/1a2b3c")
    files = ("metrics.json", "history.csv", "config.yaml")
    if not any((path / name).is_file() for name in files):
        raise UserError(f"{path} holds no run: give a folder with metrics.json")
    run = read_run(path)
    if run.status == "running":
        raise UserError(f"{path} is still running: wait until it has written metrics.json")
    if run.status != "done":
        raise UserError(run.problem if str(path) in run.problem else f"{path} {run.problem}")
    return run


def compare_runs(a: Run, b: Run) -> RunComparison:
    """The comparison as data."""
    numbers, alike = [], _loss(a) == _loss(b)
    for one in measures_of([a.metrics, b.metrics]):
        x, y = a.metrics.get(one.key), b.metrics.get(one.key)
        ratio = _ratio(x, y) if alike or one.key not in MINIMISED else math.nan
        numbers.append((one.key, one.words, x, y, ratio))
    for key in {**a.metrics, **b.metrics}:
        x, y = a.metrics.get(key), b.metrics.get(key)
        if isinstance(x, str) or isinstance(y, str):
            numbers.append((key, key, x, y, math.nan))
    matched, why = _matched(a, b)
    gap = unequal(terms(a), terms(b))
    seeds, split = (a.config.get("seed"), b.config.get("seed")), terms(a)["split"]
    if gap.get("split") is None and split not in SEEDLESS and len({*seeds}) > 1:
        what = {"links": "links", "labels": "labels"}.get(split, "rows or entries")
        gap[f"seed (other {what} are held out)"] = seeds
    return RunComparison(differences(settings(a), settings(b)), gap, numbers, matched, why)


def _loss(run: Run) -> str:
    """The loss, or the model whose own it is."""
    return compared_as(str(settings(run).get("loss")), run.choices.get("model", "?"), {})


def _ratio(x: Any, y: Any) -> float:
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in (x, y)) or not x:
        return math.nan
    return float(y / x)


def _matched(a: Run, b: Run) -> tuple[list[tuple[int, int, float]], str]:
    from nmfnet.metrics import match_components

    try:
        (H_a, names_a), (H_b, names_b) = _components(a), _components(b)
    except UserError as error:
        return [], str(error)
    if sorted(names_a) != sorted(names_b):
        return [], "components are not over the same features"
    order = {name: i for i, name in enumerate(names_b)}
    if len(order) == len(names_b):
        H_b = H_b[:, [order[name] for name in names_a]]
    pairs = match_components(H_a, H_b)
    rows = zip(pairs.rows.tolist(), pairs.columns.tolist(), pairs.scores.tolist(), strict=True)
    return sorted(((i + 1, j + 1, score) for i, j, score in rows), key=lambda row: -row[2]), ""


def _components(run: Run) -> tuple[np.ndarray, list[str]]:
    held = read_factors(run.folder)
    if not len(held["H"]):
        raise UserError(f"{run.name} has no components")
    return held["H"], [str(name) for name in held["feature_names"]]


def _print(a: Run, b: Run, found: RunComparison) -> None:
    from rich.markup import escape
    from rich.table import Table

    from nmfnet.run.terminal import readable, wide_console
    from nmfnet.settings.hints import shown

    console = wide_console()

    def show(title: str, rows: Iterable[tuple[str, ...]], *more: str) -> None:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column(title)
        for heading in ("A", "B", *more):
            table.add_column(heading, justify="right")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)
        console.print()

    console.print(f"A  {escape(str(a.folder))}\nB  {escape(str(b.folder))}\n")
    if found.settings:
        show(
            "settings that differ",
            [(k, shown(x), shown(y)) for k, (x, y) in found.settings.items()],
        )
    else:
        console.print("The settings are the same.\n")
    rows = [
        (words, _cell(x, readable), _cell(y, readable), "" if math.isnan(r) else f"{r:.4g}")
        for _, words, x, y, r in found.numbers
    ]
    show("number", rows, "B / A")
    if found.matched:
        pairs = [(f"{score:.4f}", str(i), str(j)) for i, j, score in found.matched]
        show("cosine of matched components", pairs)
        mean = sum(score for *_, score in found.matched) / len(found.matched)
        console.print(f"mean cosine of matched components: {mean:.4f}")
    else:
        console.print(f"components not matched: {escape(found.unmatched)}")
    if found.unequal:
        console.print(
            f"\nnot on equal terms, so the numbers do not say which is better: "
            f"{escape(in_words(found.unequal))}",
            style="yellow",
            soft_wrap=True,
        )


def _cell(value: Any, readable: Any) -> str:
    return "" if value is None else str(readable(value))
