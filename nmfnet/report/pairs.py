"""How large a difference between two methods must be before it is more than noise.

Runs on equal terms are compared in pairs with the same number of components and the same seed,
which means the same held-out data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from nmfnet.report.run import Run
from nmfnet.report.terms import Group, size_of
from nmfnet.run.measures import measure, number

__all__ = ["MOST_METHODS", "Comparison", "compare_methods", "compared_methods", "paired_interval"]

RESOLUTION = 1e-4
"""Differences below this share of the value are noise: no stopping rule resolves them."""

MOST_METHODS = 12
"""Methods that are compared pair by pair; of more, the best of each model."""


@dataclass(frozen=True)
class Comparison:
    """One method against another in one number, over pairs of runs.

    Attributes
    ----------
    key : str
        The number.
    method, reference : str
    n_pairs, n_seeds, n_unfinished : int
        Pairs, different seeds among them, and pairs in which a run had not converged.
    mean : float
        Of ``method - reference`` over pairs, in the number's unit.
    low, high : float
        95 % interval of the mean; nan with fewer than two seeds.
    relative : float
        ``mean`` over the mean of the reference; nan where that is 0.
    """

    key: str
    method: str
    reference: str
    n_pairs: int
    n_seeds: int
    n_unfinished: int
    mean: float
    low: float
    high: float
    relative: float

    @property
    def verdict(self) -> str:
        """``noise`` when the interval covers zero, else ``better``, ``worse`` or the direction."""
        if abs(self.relative) < RESOLUTION or self.low <= 0 <= self.high:
            return "noise"
        if math.isnan(self.low):
            return "one seed"
        side = measure(self.key).better * (1 if self.mean > 0 else -1)
        return {1: "better", -1: "worse"}.get(side, "higher" if self.mean > 0 else "lower")


def paired_interval(
    values: Sequence[float], seeds: Sequence[Any], level: float = 0.95
) -> tuple[float, float, float]:
    """Mean of paired differences with an interval that treats seeds, not pairs, as independent.

    Parameters
    ----------
    values : sequence of float, length n
        Differences, one for each pair.
    seeds : sequence, length n
        The seed that both runs of a pair share. Pairs with one seed share their held-out rows, so
        the number of components is no independent repetition.
    level : float, default 0.95
        Share of such intervals that cover the truth, if differences are normal.

    Returns
    -------
    mean, low, high : float
        Bounds are nan with fewer than two seeds.

    Notes
    -----
    Standard error by the delete-one-seed jackknife (Efron & Tibshirani 1993, eq. 11.5) with the
    quantile of Student's t on (seeds - 1) degrees of freedom; with one pair a seed this is the
    paired t interval.
    """
    from scipy.special import stdtrit

    numbers, labels = np.asarray(values, np.float64), np.asarray([str(seed) for seed in seeds])
    mean, names = float(numbers.mean()), np.unique(labels)
    m = len(names)
    if m < 2:
        return mean, math.nan, math.nan
    without = np.array([numbers[labels != name].mean() for name in names])
    error = math.sqrt((m - 1) / m * float(((without - without.mean()) ** 2).sum()))
    half = float(stdtrit(m - 1, 0.5 + level / 2)) * error
    return mean, mean - half, mean + half


def compare_methods(group: Group, keys: Sequence[str], size: int | None = None) -> list[Comparison]:
    """Every method against every other of the group, in each number that both have.

    Parameters
    ----------
    group : Group
        With more than ``MOST_METHODS`` methods, the best of each model is compared.
    keys : sequence of str
        Numbers of ``metrics.json``.
    size : int, optional
        Only pairs with this many components; by default all.
    """
    tables = {name: _cells(runs) for name, runs in compared_methods(group).items()}
    found = []
    for reference, method in combinations(tables, 2):
        shared = [cell for cell in tables[method] if cell in tables[reference]]
        shared = [cell for cell in shared if size is None or cell[0] == size]
        for key in keys if shared else ():
            one = _compare(key, method, reference, tables, shared)
            found += [one] if one is not None else []
    return found


def _compare(
    key: str,
    method: str,
    reference: str,
    tables: Mapping[str, Mapping[tuple[Any, Any], list[Run]]],
    shared: list[tuple[Any, Any]],
) -> Comparison | None:
    pairs = [(_value(tables[method][c], key), _value(tables[reference][c], key), c) for c in shared]
    pairs = [pair for pair in pairs if math.isfinite(pair[0]) and math.isfinite(pair[1])]
    if not pairs:
        return None
    seeds = [cell[1] for *_, cell in pairs]
    mean, low, high = paired_interval([a - b for a, b, _ in pairs], seeds)
    base = float(np.mean([b for _, b, _ in pairs]))
    relative = mean / abs(base) if base else math.nan
    sides = [(*tables[method][cell], *tables[reference][cell]) for *_, cell in pairs]
    late = sum(any(run.metrics.get("converged") is False for run in runs) for runs in sides)
    counts = (len(pairs), len(set(seeds)), late)
    return Comparison(key, method, reference, *counts, mean, low, high, relative)


def compared_methods(group: Group) -> dict[str, list[Run]]:
    """The methods that are compared pair by pair."""
    every = group.by_method()
    if len(every) <= MOST_METHODS:
        return every
    best: dict[str, tuple[float, str]] = {}
    for name, runs in every.items():
        mark = (-measure(group.main).better * _value(runs, group.main), name)
        model = name.split(" ")[0]
        best[model] = min(best.get(model, mark), mark)
    keep = {name for _, name in sorted(best.values())[:MOST_METHODS]}
    return {name: runs for name, runs in every.items() if name in keep}


def _cells(runs: Iterable[Run]) -> dict[tuple[Any, Any], list[Run]]:
    """Runs by what a pair must share within a group: number of components and seed."""
    table: dict[tuple[Any, Any], list[Run]] = {}
    for run in runs:
        cell = (size_of(run), run.config.get("seed"))
        table.setdefault(cell, []).append(run)
    return table


def _value(runs: Sequence[Run], key: str) -> float:
    """A number of a run; the mean where the same run was made more than once."""
    values = [number(run.metrics, key) for run in runs]
    numbers = [value for value in values if math.isfinite(value)]
    return float(np.mean(numbers)) if numbers else math.nan
