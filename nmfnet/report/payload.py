"""What the page shows, as plain data: runs, groups, comparisons, curves, pictures, warnings."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nmfnet.report.collect import GROUPS, Run, settings, varied
from nmfnet.report.pairs import (
    Comparison,
    compare_methods,
    compared_methods,
)
from nmfnet.report.pictures import Album
from nmfnet.report.run import progress_of
from nmfnet.report.terms import Group, groups_of, refusals, size_of
from nmfnet.run.finished import notes_of
from nmfnet.run.measures import (
    Measure,
    measure,
    measures_of,
    number,
    unfinished_words,
    warnings_of,
)

__all__ = ["command_of", "payload"]

POINTS = 60
"""Points of a convergence curve in the page."""

COMPARED = 16
"""Numbers in which methods are compared over all sizes."""

COMPARED_BY_SIZE = 6
"""Numbers in which methods are compared for each number of components."""

ALL_PICTURES = 60
"""Up to this many runs, every run's pictures come before any rationing."""


def payload(every: list[Run], root: Path) -> dict[str, Any]:
    """Everything in the page.

    Parameters
    ----------
    every : list of Run
        As :func:`nmfnet.report.collect.collect` gives them.
    root : Path
        The folder they were found in; folders in the page are relative to it.
    """
    groups = groups_of(every)
    done = [run for group in groups for run in group.runs]
    numbers = measures_of(run.metrics for run in done)
    told, album = _columns(done), Album()
    figures = _figures(groups, album)
    flats = [settings(run) for run in done]
    common = {key: value for key, value in flats[0].items() if key not in told} if flats else {}
    common = {k: v for k, v in common.items() if all(flat.get(k) == v for flat in flats)}
    origins: dict[str, int] = {}
    names = Counter(run.name for run in done)
    rows: list[dict[str, Any]] = []
    for index, group in enumerate(groups):
        for run, method in zip(group.runs, group.methods, strict=True):
            row = _row(run, root, common, origins) | {"group": index, "method": method}
            unique = row["id"] if names[run.name] == 1 else str(run.folder)
            rows.append(row | {"id": unique, "figures": figures.get(id(run), {})})
    return {
        "folder": str(root),
        "settings": told,
        "common": common,
        "measures": [[m.key, m.words, m.better] for m in numbers],
        "groups": [_group(group, numbers) for group in groups],
        "refused": refusals(groups),
        "runs": rows,
        "origins": [json.loads(text) for text in origins],
        "images": album.images,
        "left_out": len(album.left_out),
        "lost": [_lost(run, root) for run in every if run.status != "done"],
        "notes": _notes(done),
    }


def _columns(done: list[Run]) -> list[str]:
    """Settings with a column of their own: model and size always, then all that vary."""
    always = ["model", "model.n_components"]
    told = [key for key in varied(done) if key not in always]
    told.sort(key=lambda key: (*GROUPS, "seed").index(key) if key in (*GROUPS, "seed") else 99)
    return always + told


def _row(run: Run, root: Path, common: dict[str, Any], origins: dict[str, int]) -> dict[str, Any]:
    origin = {k: v for k, v in run.origin.items() if k not in ("finished", "command", "seed")}
    text = json.dumps(origin, sort_keys=True, default=str)
    own = {key: value for key, value in settings(run).items() if key not in common}
    return {
        "id": run.name,
        "folder": _relative(run.folder, root),
        "settings": {key: _plain(value) for key, value in own.items()},
        "metrics": {k: _plain(v) for k, v in run.metrics.items() if isinstance(v, int | float)},
        "solver": str(run.metrics.get("solver", "")),
        "warnings": warnings_of(run.metrics),
        "history": _history(run.folder / "history.csv"),
        "command": command_of(run),
        "finished": str(run.origin.get("finished", "")).replace("T", " ").replace("+00:00", " UTC"),
        "origin": origins.setdefault(text, len(origins)),
    }


def command_of(run: Run) -> str:
    """The command that repeats a run; of a run from a sweep, that job alone where it is known."""
    words = list(run.overrides)
    if not words:
        given = run.origin.get("command") or []
        if not given:
            return ""
        script = Path(given[0]).name
        if script not in ("nmfnet-train", "train.py"):
            return f"made by {' '.join(map(str, given))}"
        words = [str(word) for word in given[1:]]
    words = [re.sub(r"^\++(?=[\w.]+=)", "", word) for word in words]
    return shlex.join(["nmfnet-train", *words])


def _history(file: Path) -> list[list[float | None]]:
    """Iterations, seconds and objective, at most ``POINTS`` of each, denser at the start."""
    try:
        with file.open() as stream:
            names = stream.readline().strip().split(",")
            columns = [names.index(name) for name in ("iteration", "seconds", "objective")]
            lines = stream.readlines()
        table = np.loadtxt(lines, delimiter=",", usecols=columns, ndmin=2) if lines else None
    except (OSError, ValueError):
        return []
    if table is None:
        return []
    steps = (
        np.geomspace(1, len(table), POINTS) if len(table) > POINTS else np.arange(len(table)) + 1
    )
    rows = table[np.unique(steps.astype(int)) - 1]
    digits = (9, 5, 7)
    return [
        [_rounded(x, n) for x in column] for column, n in zip(rows.T.tolist(), digits, strict=True)
    ]


# ---------------------------------------------------------------------- pictures
def _figures(groups: list[Group], album: Album) -> dict[int, dict[str, int]]:
    """Pictures of each run, the most telling first, until there is no more room."""
    found: dict[int, dict[str, int]] = {}
    best, per_size = _best(groups, sized=False), _best(groups, sized=True)
    rest = [run for group in groups for run in group.runs]
    if len(rest) <= ALL_PICTURES:
        best = rest
    for runs, names in ((per_size, ["components"]), (best, None), (rest, ["components"])):
        for run in runs:
            found.setdefault(id(run), {}).update(album.take(run.folder, names))
    for run in rest:
        found[id(run)] = album.take(run.folder)
    return found


def _best(groups: list[Group], *, sized: bool) -> list[Run]:
    """The best run of every method (and number of components) of every group."""
    best: dict[tuple[Any, ...], tuple[float, int, Run]] = {}
    for position, group in enumerate(groups):
        key, sign = group.main, -measure(group.main).better
        for i, (run, method) in enumerate(zip(group.runs, group.methods, strict=True)):
            size = size_of(run) if sized else None
            value = number(run.metrics, key)
            mark = (sign * value if math.isfinite(value) else math.inf, i, run)
            place = (position, method, size)
            best[place] = min(best.get(place, mark), mark, key=lambda m: m[:2])
    return [run for *_, run in best.values()]


# ---------------------------------------------------------------------- groups
def _group(group: Group, numbers: list[Measure]) -> dict[str, Any]:
    keys = [m.key for m in numbers if m.better and m.key != "converged"]
    keys.sort(key=lambda key: key != group.main)
    sizes = sorted({size for run in group.runs if (size := size_of(run)) is not None})
    compared = compare_methods(group, keys[:COMPARED])
    per_size = [
        [size, *_comparison(one)]
        for size in (sizes if len(sizes) > 1 else ())
        for one in compare_methods(group, keys[:COMPARED_BY_SIZE], size)
    ]
    methods = list(group.by_method())
    return {
        "id": group.key,
        "name": group.name,
        "terms": {k: _plain(v) for k, v in group.terms.items() if v is not None},
        "main": group.main,
        "methods": methods,
        "compared": [[None, *_comparison(one)] for one in compared] + per_size,
        "drawn": list(compared_methods(group)),
        "short": _short(group, compared, methods),
    }


def _comparison(one: Comparison) -> list[Any]:
    numbers = (one.mean, one.low, one.high, one.relative)
    counts = (one.n_pairs, one.n_seeds, one.n_unfinished)
    names = (one.key, one.method, one.reference)
    return [*names, *counts, *(_plain(number) for number in numbers), one.verdict]


def _short(group: Group, compared: list[Comparison], methods: list[str]) -> list[str]:
    """The group's result in a few sentences."""
    main = measure(group.main)
    scored = [run for run in group.runs if math.isfinite(number(run.metrics, group.main))]
    if not scored:
        return []
    best = min(scored, key=lambda run: -main.better * run.metrics[group.main])
    size = size_of(best)
    sized = "" if size is None else f" with {size} component{'s' * (size != 1)}"
    method = group.methods[next(i for i, run in enumerate(group.runs) if run is best)]
    value = best.metrics[group.main]
    found = [f"Best {main.words}: {method}{sized}, {value:.5g}."]
    reference = methods[0]
    against = [one for one in compared if one.key == group.main and one.reference == reference]
    say = {
        "better": f"Better than {reference}",
        "noise": f"No different from {reference} (noise)",
        "worse": f"Worse than {reference}",
        "one seed": f"Not told apart from {reference} (one seed: use seed=0,1,2)",
    }
    for verdict, start in say.items():
        words = [
            f"{one.method} ({one.relative:+.1%}{', not converged' * bool(one.n_unfinished)})"
            for one in against
            if one.verdict == verdict
        ]
        found += [f"{start}: {', '.join(words)}."] if words else []
    late = sum(bool(unfinished_words(run.metrics)) for run in group.runs)
    if late:
        found.append(
            f"{late} of {len(group.runs)} runs had not converged: longer ones would improve "
            "them, and a comparison with them may turn round."
        )
    return found


# ---------------------------------------------------------------------- what went wrong
def _lost(run: Run, root: Path) -> dict[str, Any]:
    return {
        "id": run.name,
        "folder": _relative(run.folder, root),
        "status": run.status,
        "problem": run.problem,
        "progress": progress_of(run.folder) if run.status == "running" else "",
        "traceback": run.traceback,
        "command": command_of(run),
        "settings": {key: _plain(value) for key, value in settings(run).items()},
    }


def _notes(done: Iterable[Run]) -> list[str]:
    """Notes on the data, each once, with the data set's name."""
    return list(
        dict.fromkeys(
            f"{run.choices.get('data', 'data')}: {note}"
            for run in done
            for note in notes_of(run.metrics, run.origin)
        )
    )


def _relative(folder: Path, root: Path) -> str:
    try:
        return str(folder.resolve().relative_to(root.resolve()))
    except ValueError:
        return str(folder)


def _plain(value: Any) -> Any:
    """A value for JSON; numbers with six digits, null for what is not finite."""
    if isinstance(value, float):
        return _rounded(value, 6)
    if isinstance(value, bool | int | str) or value is None:
        return value
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else str(value)


def _rounded(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short
