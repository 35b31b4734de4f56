"""Who may be compared with whom, and how large a difference must be before it is more than noise.

Runs are on equal terms when data, split, loss, stopping rule, number of restarts and precision are
the same. They are compared in pairs with the same number of components and the same seed, which
means the same held-out data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from nmfnet.report.collect import Run, settings, varied
from nmfnet.report.measures import main_measure, measure

__all__ = [
    "Comparison",
    "Group",
    "compare_methods",
    "compared_methods",
    "differences",
    "groups_of",
    "paired_interval",
    "refusals",
    "size_of",
    "terms",
]

RULE = ("n_restarts", "max_iter", "tol", "window", "patience", "kkt_tol", "time_limit", "dtype")
"""Root keys that must agree: restarts, the stopping rule, the precision."""

RESOLUTION = 1e-4
"""Differences below this share of the value are noise: no stopping rule resolves them."""

_HELD_OUT = {
    "none": "nothing held out",
    "rows": "rows held out",
    "entries": "entries held out",
    "predefined": "published test rows held out",
}

MOST_METHODS = 12
"""Methods that are compared pair by pair; of more, the best of each model."""


def terms(run: Run) -> dict[str, Any]:
    """Everything that must agree before two runs may be compared, flat."""
    flat = settings(run)
    same = {key: flat.get(key) for key in ("data", "loss", "split")}
    same |= {key: value for key, value in flat.items() if key.startswith(("data.", "loss.", "split."))}
    same["data_sha256"] = run.origin.get("data_sha256")
    return same | {key: run.config.get(key) for key in RULE}


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys with different values in two mappings, and the two values (None where absent)."""
    keys = [*a, *(key for key in b if key not in a)]
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


# ---------------------------------------------------------------------- groups on equal terms
@dataclass
class Group:
    """Finished runs on equal terms.

    Attributes
    ----------
    name : str
        Data, loss, split, and whatever else tells this group from the others.
    terms : dict
        See :func:`terms`.
    runs : list of Run
    methods : list of str, one for each run
        Model, with those settings that vary between runs of that model.
    """

    name: str
    terms: dict[str, Any]
    runs: list[Run]
    methods: list[str]

    @property
    def main(self) -> str:
        """Key of the number by which the runs are ranked."""
        return main_measure(str(self.terms["loss"]), (run.metrics for run in self.runs))

    def by_method(self) -> dict[str, list[Run]]:
        """Runs of each method, methods by name (``nmf`` first)."""
        order = sorted(set(self.methods), key=lambda name: (name.split(" ")[0] != "nmf", name))
        return {
            name: [run for run, own in zip(self.runs, self.methods, strict=True) if own == name]
            for name in order
        }


def groups_of(every: Iterable[Run]) -> list[Group]:
    """Finished runs in groups on equal terms, the largest group first."""
    together: dict[str, list[Run]] = {}
    for run in every:
        if run.status == "done":
            together.setdefault(json.dumps(terms(run), sort_keys=True, default=str), []).append(run)
    found = [Group("", terms(members[0]), members, _methods(members)) for members in together.values()]
    found.sort(key=lambda group: -len(group.runs))
    telling = _telling(found)
    for group in found:
        group.name = _name(group, telling)
    return found


def _telling(groups: Sequence[Group]) -> list[str]:
    """Terms that tell apart groups on the same data; an option only beside the same choice."""
    keys: dict[str, None] = {}
    for a, b in combinations(groups, 2):
        gap = differences(a.terms, b.terms) if a.terms["data"] == b.terms["data"] else {}
        keys |= {key: None for key in gap if key.split(".")[0] == key or key.split(".")[0] not in gap}
    return list(keys)


def _methods(members: list[Run]) -> list[str]:
    """Name of each run's method: its model, and what varies between the runs of that model."""
    flats = {id(run): settings(run) for run in members}
    models = dict.fromkeys(run.choices.get("model", "?") for run in members)
    own: dict[str, list[str]] = {}
    for model in models:
        keys = varied([run for run in members if run.choices.get("model", "?") == model])
        own[model] = [key for key in keys if key not in ("seed", "model.n_components")]
    names = []
    for run in members:
        model, flat = run.choices.get("model", "?"), flats[id(run)]
        names.append(" ".join([model, *(f"{key}={_shown(flat.get(key))}" for key in own[model])]))
    return names


def _name(group: Group, telling: Sequence[str]) -> str:
    known = group.terms
    split = str(known["split"])
    words = [str(known["data"]), str(known["loss"])]
    words.append(_HELD_OUT.get(split, f"split {split}"))
    for key in telling:
        if key in known and key not in ("data", "loss", "split", "data_sha256"):
            words.append(f"{key}={_shown(known[key])}")
    if "data_sha256" in telling and not any(key.startswith("data.") for key in telling):
        words.append(f"data {str(known['data_sha256'])[:8]}")
    return " · ".join(words)


def _shown(value: Any) -> str:
    from nmfnet.config import shown

    return shown(value)


# ---------------------------------------------------------------------- paired comparison
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


def compare_methods(
    group: Group, keys: Sequence[str], size: int | None = None
) -> list[Comparison]:
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


def size_of(run: Run) -> int | None:
    """Number of components asked for."""
    size = (run.config.get("model") or {}).get("n_components")
    return size if isinstance(size, int) else None


def _cells(runs: Iterable[Run]) -> dict[tuple[Any, Any], list[Run]]:
    """Runs by what a pair must share within a group: number of components and seed."""
    table: dict[tuple[Any, Any], list[Run]] = {}
    for run in runs:
        cell = (size_of(run), run.config.get("seed"))
        table.setdefault(cell, []).append(run)
    return table


def _value(runs: Sequence[Run], key: str) -> float:
    """A number of a run; the mean where the same run was made more than once."""
    values = [run.metrics.get(key) for run in runs]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return float(np.mean(numbers)) if numbers else math.nan


# ---------------------------------------------------------------------- what is not compared
def refusals(groups: Sequence[Group], most: int = 20) -> list[str]:
    """Groups on the same data that may not be compared, and what differs between them."""
    found = []
    for a, b in combinations(groups, 2):
        if a.terms["data"] != b.terms["data"]:
            continue
        gap = differences(a.terms, b.terms)
        words = [f"{key}: {_shorter(x)} / {_shorter(y)}" for key, (x, y) in gap.items()]
        found.append(f"{a.name}  ≠  {b.name} — {'; '.join(words)}")
    rest = len(found) - most
    return found[:most] + ([f"and {rest} more"] if rest > 0 else [])


def _shorter(value: Any) -> str:
    text = _shown(value)
    return text if len(text) <= 24 else f"{text[:10]}…"
