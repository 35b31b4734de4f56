"""Run folders and the records of sweeps, read into one list and one table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmfnet.config import NOT_THE_EXPERIMENT
from nmfnet.errors import UserError
from nmfnet.report.run import Run, Status, read_run, word
from nmfnet.run.lock import held
from nmfnet.run.stored import read_table

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Run", "collect", "read_run", "runs", "settings", "varied"]

GROUPS = ("model", "data", "loss", "solver", "init", "split", "penalty", "constraint")
"""Choices that every table names, varied or not."""

_HIDDEN = (*NOT_THE_EXPERIMENT, "trainer", "callbacks", "figures", "device")
_SKIPPED = ("wandb", "mlruns", "figures", "node_modules")


def runs(path: str | Path = "runs") -> DataFrame:
    """Every run below a folder, one row each; also those that failed or never ended.

    Parameters
    ----------
    path : str or Path
        A folder of runs, a single run's folder, or the folder of a sweep.

    Returns
    -------
    pandas.DataFrame
        ``folder``, ``status``, the choice in every group, ``n_components``, ``seed``, every other
        setting that is not the same in all runs, the numbers of ``metrics.json``, ``warnings`` and
        ``problem``. Runs that cannot be read are rows with status ``damaged`` or ``newer``.

    Raises
    ------
    UserError
        If there is no such folder, or no run in it.

    Examples
    --------
    >>> table = nmfnet.runs("runs")
    >>> table.groupby("model")["train/relative_error"].agg(["mean", "std", "count"])
    """
    import pandas as pd

    from nmfnet.run.measures import measures_of, warnings_of

    found = collect(path)
    numbers = [measure.key for measure in measures_of(run.metrics for run in found)]
    told = varied(found)
    rows = []
    for run in found:
        flat = settings(run)
        row: dict[str, Any] = {"folder": str(run.folder), "status": run.status}
        row |= {group: flat.get(group) for group in GROUPS}
        row["solver"] = run.metrics.get("solver", row["solver"])  # what auto chose
        row |= {"n_components": flat.get("model.n_components"), "seed": flat.get("seed")}
        row |= {key: flat.get(key) for key in told if key not in (*row, "model.n_components")}
        row |= {"ended": run.metrics.get("status")}
        row |= {key: run.metrics.get(key) for key in numbers}
        row |= {"warnings": "; ".join(warnings_of(run.metrics)), "problem": run.problem}
        rows.append(row)
    table = pd.DataFrame(rows)
    for key in numbers:
        if key != "converged":
            table[key] = pd.to_numeric(table[key], errors="coerce")
    return table


def collect(path: str | Path) -> list[Run]:
    """Every run below a folder and every failed job of the sweeps there, by folder name.

    A job counts as failed only while its run has no results: a later success clears it.

    Raises
    ------
    UserError
        If there is no such folder, or no run in it.
    """
    root = Path(path)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{root} {what}: give a folder that holds runs, such as runs/")
    folders, records = [], []
    for kind, folder in _walk(root):
        if kind == "run":
            folders.append(folder)
        else:
            records += list(_records(folder))
    if (root / "jobs").is_dir():  # the folder of a sweep: its runs are elsewhere
        folders += [record["folder"] for record in records]
    whole = {_key(folder): read_run(folder) for folder in folders if folder.is_dir()}
    found = list(_with_jobs(whole, records))
    if not found:
        raise UserError(
            f"no runs in {root}: a run is a folder with metrics.json, as nmfnet-train writes it"
        )
    return sorted(found, key=lambda run: str(run.folder))


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Folders that hold a run, and folders that hold the records of a sweep."""
    for place, inside, files in os.walk(root):
        here = Path(place)
        inside[:] = sorted(name for name in inside if name[0] != "." and name not in _SKIPPED)
        if "metrics.json" in files or ("history.csv" in files and _ours(here / "history.csv")):
            inside.clear()
            yield "run", here
        elif here.name == "jobs" and any(name.endswith(".json") for name in files):
            yield "jobs", here


def _ours(history: Path) -> bool:
    try:
        with history.open() as file:
            return file.readline().startswith(("iteration,", "\n")) or history.stat().st_size == 0
    except (OSError, UnicodeDecodeError):
        return False


# ---------------------------------------------------------------------- jobs of sweeps
def _records(jobs: Path) -> Iterator[dict[str, Any]]:
    """Records of a sweep with the run folder each belongs to; unreadable ones as damaged."""
    for file in sorted(jobs.glob("*.json")):
        try:
            record = read_table(file)
            folder = _moved(Path(record["run_dir"]), jobs)
            yield {**record, "file": file, "folder": folder, "overrides": list(record["overrides"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = f"{file} cannot be read ({error})"
            yield {
                "file": file,
                "folder": file,
                "overrides": [],
                "status": "damaged",
                "error": problem,
            }


def _moved(folder: Path, jobs: Path) -> Path:
    """A run folder as recorded, or where it is now that the runs were moved or seen from afar."""
    if folder.is_dir():
        return folder
    tail = Path(*folder.parts[-2:])
    return next((up / tail for up in jobs.parents if (up / tail).is_dir()), folder)


def _with_jobs(whole: dict[str, Run], records: list[dict[str, Any]]) -> Iterator[Run]:
    """The runs with the overrides of their jobs, then the jobs that left no finished run."""
    lost: dict[str, Run] = {}
    for record in records:
        key, words = _key(record["folder"]), tuple(w.lstrip("+") for w in record["overrides"])
        going = record.get("status") == "running"
        if key in whole and (going or not _unfinished(whole[key], record)):
            whole[key] = replace(whole[key], overrides=words)
        elif record.get("status") not in ("done", "found"):
            said = record.get("status")
            status: Status = said if said in ("damaged", "interrupted", "pruned") else "failed"
            if going:  # not yet training
                status = "running" if held(record["file"]) else "interrupted"
            config = whole.pop(key).config if key in whole else {}
            error = record.get("error") or f"status: {record.get('status', 'unknown')}"
            trace = record.get("traceback") or ""
            lost[key] = Run(record["folder"], status, config, {}, {}, words, error, trace)
    yield from whole.values()
    yield from lost.values()


def _unfinished(run: Run, record: dict[str, Any]) -> bool:
    """Whether a run has no results and was not begun again after its job had ended."""
    if run.status != "running":
        return run.status == "interrupted"
    history = run.folder / "history.csv"
    return history.stat().st_mtime <= record["file"].stat().st_mtime


def _key(folder: Path) -> str:
    return str(folder.resolve())


# ---------------------------------------------------------------------- settings
def settings(run: Run) -> dict[str, Any]:
    """What was asked for, flat: the choice of every group, then ``group.key`` and root keys.

    Without what does not change the result (folders, trackers, threads; ``selection`` of a single
    run). A job that left no
    configuration has the settings of its command line.
    """
    if not run.config:
        words = (word.split("=", 1) for word in run.overrides if "=" in word)
        return {key: _as_yaml(value) for key, value in words if key not in _HIDDEN}
    flat: dict[str, Any] = {k: v for k, v in run.choices.items() if k in GROUPS}
    unused = () if run.config.get("ranks") is not None else ("selection",)
    for key, value in run.config.items():
        if key not in _HIDDEN and key not in unused:
            flat |= dict(_flat(value, key))
    return flat


def varied(every: list[Run]) -> list[str]:
    """Settings that are not the same in all runs, in the order of the configuration.

    An option of a group (``solver.lr``) counts only where it differs between runs with the same
    choice in that group: what a choice brings along is told by the choice.
    """
    flats = [settings(run) for run in every if run.config]
    seen: dict[str, dict[Any, set[str]]] = {}
    for flat in flats:
        for key, value in flat.items():
            group = key.split(".")[0]
            choice = flat.get(group) if group in GROUPS and group != key else None
            seen.setdefault(key, {}).setdefault(choice, set()).add(repr(value))
    return [key for key, values in seen.items() if any(len(v) > 1 for v in values.values())]


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in ("_target_", "origin"):
                yield from _flat(inner, f"{path}.{key}")
    else:
        yield path, word(value) if isinstance(value, list) else value


def _as_yaml(text: str) -> Any:
    """A value of the command line as yaml would read it, so that it equals one from a file."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "null": None}.get(text, text)
