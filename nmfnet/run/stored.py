"""Tables of keys and values in files: read whatever they hold, written as valid json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

__all__ = ["read_table", "without_nan", "write_json"]

DEEPEST, LARGEST = 50, 1_000_000
"""Levels and values of a table that is taken for one of ours."""


def read_table(file: Path) -> dict[str, Any]:
    """The mapping in a json or yaml file.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If it is no json or yaml, no mapping, or nested so deeply that readers of it would fail.
    """
    text = file.read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = json.loads(text) if file.suffix == ".json" else yaml.load(text, loader)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    if not isinstance(content, dict):
        raise ValueError("it holds no table of keys and values")
    _check_size(content)
    return content


def _check_size(content: Any) -> None:
    waiting, seen = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST or seen > LARGEST:
            raise ValueError("it is nested too deeply" if depth > DEEPEST else "it is too large")
        inner = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list):
            waiting += [(item, depth + 1) for item in inner]


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping; the file is there in whole or not at all."""
    text = json.dumps(without_nan(dict(content)), indent=2, allow_nan=False, default=str)
    partial = file.with_name(f"{file.name}.part")
    partial.write_text(f"{text}\n", encoding="utf-8")
    partial.replace(file)


def without_nan(value: Any) -> Any:
    """A value that json has: null for numbers that are infinite or undefined, at any depth."""
    if isinstance(value, dict):
        return {str(key): without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
