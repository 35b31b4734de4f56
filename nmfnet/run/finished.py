"""Finding a run that was finished before, without the seconds that importing torch takes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmfnet.config import Config, run_folder, run_id
from nmfnet.errors import UserError
from nmfnet.run.leading import leading_lines
from nmfnet.run.stored import read_table

STREAMED = (".npy", ".parquet")

FACTORS = "factors.npz"  # as in nmfnet.data.formats.factors, which takes long to import


@dataclass
class Finished:
    """A run that is already there: what it says of itself, as `nmfnet.run.train.Result` does."""

    folder: Path
    metrics: dict[str, Any]
    notes: list[str]
    leading: list[str]
    found: bool = True


def finished(cfg: Config) -> Finished | None:
    """The finished run of this configuration on the same data files, if there is one.

    Raises
    ------
    UserError
        If ``run_dir`` holds something else.
    """
    folder = run_folder(cfg)
    if cfg.force or not (folder / "metrics.json").is_file():
        return None
    try:
        stored = read_table(folder / "config.yaml")
        numbers = read_table(folder / "metrics.json")
        same = run_id(stored) == run_id(cfg.plain())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder} holds metrics.json but is not a whole run ({error}): choose another "
            "run_dir, or set force=true to replace it"
        ) from error
    if not same:
        raise UserError(
            f"run_dir={folder} holds a finished run of another configuration: choose another "
            "run_dir, or set force=true to replace it"
        )
    if changed_files(cfg, folder):
        return None
    origin = _origin(folder)
    leading = [] if origin.get("kind") == "image" else leading_lines(folder)
    return Finished(folder, numbers, notes_of(numbers, origin), leading)


def notes_of(metrics: Mapping[str, Any], origin: Mapping[str, Any]) -> list[str]:
    """What a run said of itself and its data; earlier versions kept it in ``provenance.json``."""
    notes = metrics.get("notes", origin.get("notes"))
    return [str(note) for note in notes] if isinstance(notes, list) else []


def _origin(folder: Path) -> dict[str, Any]:
    """``provenance.json``; nothing where it cannot be read."""
    try:
        return read_table(folder / "provenance.json")
    except (OSError, ValueError):
        return {}


def changed_files(cfg: Config, folder: Path) -> list[str]:
    """Files named in the configuration whose content is not what the run in ``folder`` read."""
    known = _origin(folder).get("data_files")
    if not isinstance(known, dict):
        return []
    reference = {"reference": cfg.model.get("reference")}
    return [
        name
        for name in (*_files(cfg.data), *_files(reference))
        if _sha256(Path(name).expanduser()) not in known.values()
    ]


def _files(node: Mapping[str, Any]) -> Iterator[str]:
    """Files of the user; those of the catalogue are checked when they are read."""
    if node.get("origin") is not None:
        return
    for value in node.values():
        if isinstance(value, Mapping):
            yield from _files(value)
        if not isinstance(value, str):
            continue
        path = Path(value).expanduser()
        if path.is_file():
            yield value
        elif (path / FACTORS).is_file():  # of a run, whose components are taken
            yield str(path / FACTORS)
        elif path.is_dir():  # of a matrix in several files
            yield from (str(file) for file in path.iterdir() if file.suffix in STREAMED)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
