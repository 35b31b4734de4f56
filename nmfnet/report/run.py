"""One run folder, read as far as its files can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nmfnet.config import Plain
from nmfnet.run.lock import LOCK, held
from nmfnet.run.stored import read_table

__all__ = ["Run", "Status", "progress_of", "read_run", "word"]

Status = Literal["done", "running", "interrupted", "failed", "pruned", "damaged", "newer"]


@dataclass(frozen=True)
class Run:
    """One run, or one job of a sweep that left no run.

    Attributes
    ----------
    folder : Path
        The run folder (of a failed job: where it would have been).
    status : str
        ``done``; ``running`` or ``interrupted`` (no results yet); ``failed`` (a job of a sweep);
        ``pruned`` (stopped early by a search); ``damaged`` (files that cannot be read); ``newer``
        (written by a later nmfnet).
    config, metrics, origin : dict
        ``config.yaml``, ``metrics.json`` and ``provenance.json``; empty where there is none.
    overrides : tuple of str
        What the sweep's job was given on the command line; empty for a single run.
    problem, traceback : str
        What went wrong; empty when nothing did.
    """

    folder: Path
    status: Status
    config: Plain = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    problem: str = ""
    traceback: str = ""

    @property
    def name(self) -> str:
        """The last two parts of the folder: MODEL/RUN_ID."""
        return "/".join(self.folder.parts[-2:])

    @property
    def choices(self) -> dict[str, str]:
        """Choice made in every group of the configuration."""
        made = self.config.get("choices")
        return {k: word(v) for k, v in made.items()} if isinstance(made, Mapping) else {}


def read_run(folder: Path) -> Run:
    """A run as far as its files can be read; what cannot be is said in ``problem``."""
    status: Status = "done"
    problems: list[str] = []
    config = _read(folder / "config.yaml", problems)
    metrics = _read(folder / "metrics.json", problems)
    origin = _read(folder / "provenance.json", problems)
    if metrics is None and not (folder / "metrics.json").exists():
        problems = []
        status = "running" if held(folder / LOCK) else "interrupted"
        if status == "interrupted":
            problems = ["ended before it wrote its results: the same command runs it again"]
    elif problems or not metrics or not _whole(config):
        why = "config.yaml or metrics.json is missing or empty: repeat the run with force=true"
        problems, status = problems or [f"{folder}: {why}"], "damaged"
    elif _newer(origin or {}):
        theirs = (origin or {})["versions"]["nmfnet"]
        problems, status = [f"{folder} was written by nmfnet {theirs}: upgrade nmfnet"], "newer"
    return Run(
        folder, status, config or {}, metrics or {}, origin or {}, problem="; ".join(problems)
    )


def _whole(config: Mapping[str, Any] | None) -> bool:
    """Whether a configuration has the two tables that every reader of it relies on."""
    return all(isinstance((config or {}).get(key), Mapping) for key in ("model", "choices"))


def _read(file: Path, problems: list[str]) -> dict[str, Any] | None:
    """A yaml or json file that holds a mapping; None, and a line in ``problems``, otherwise."""
    try:
        return read_table(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        line = str(error).splitlines()[0]
        problems.append(f"{file} cannot be read ({line}): repeat the run with force=true")
        return None


def progress_of(folder: Path) -> str:
    """How far a run that is training has come, by the last line of its history; "" before the first."""
    try:
        with (folder / "history.csv").open() as stream:
            head = stream.readline().strip().split(",")
            last = [line for line in stream if line.endswith("\n")][-1].strip().split(",")
        told = dict(zip(head, map(float, last), strict=True))
        return (
            f"iteration {told['iteration']:,.0f}, objective {told['objective']:.6g}, "
            f"{told['seconds']:.0f} s"
        )
    except (OSError, ValueError, KeyError, IndexError):
        return ""


def _newer(origin: Mapping[str, Any]) -> bool:
    from nmfnet import __version__

    theirs = (origin.get("versions") or {}).get("nmfnet")
    return isinstance(theirs, str) and _minor(theirs) > _minor(__version__)


def _minor(version: str) -> tuple[int, ...]:
    numbers = [part for part in version.split(".")[:2] if part.isdigit()]
    return tuple(int(part) for part in numbers)


def word(value: Any) -> str:
    """A choice, or several, as one word."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
