"""The table of models, made from their yaml files and docstrings.

A preset of another model is described by the first comment of its yaml.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

import yaml

from nmfnet.config import conf_dir, options
from nmfnet.settings.objects import locate


class ModelLine(NamedTuple):
    """One model as a reader meets it."""

    name: str
    what: str
    source: str
    solver: str


def model_lines() -> list[ModelLine]:
    """Every choice of ``model=``, in alphabetical order; a preset has the source of its model."""
    read = {name: _read(name) for name in options("model")}
    plain = {raw["model"]["_target_"]: name for name, (raw, preset) in read.items() if not preset}
    lines = []
    for name, (raw, preset) in read.items():
        of = plain.get(raw["model"]["_target_"])
        line = _line(name, raw, preset)
        lines.append(line._replace(source=f"as `{of}`") if preset and of else line)
    return lines


def _read(name: str) -> tuple[dict[str, Any], str]:
    """A yaml file, and its first comment: nothing but of a preset."""
    text = (conf_dir() / "model" / f"{name}.yaml").read_text()
    preset = re.search(r"^# (?!@)(.*)$", text, re.MULTILINE)
    return yaml.safe_load(text), preset[1] if preset else ""


def _line(name: str, raw: dict[str, Any], preset: str) -> ModelLine:
    chosen = {
        key: value
        for entry in raw.get("defaults", [])
        if isinstance(entry, dict)
        for key, value in entry.items()
    }
    doc = inspect.getdoc(locate(raw["model"]["_target_"])) or ""
    what = preset or doc.split("\n\n")[0].replace("\n", " ")
    source = re.search(r"^Source: (.*?)(?=\n\n|\Z)", doc, re.DOTALL | re.MULTILINE)
    words = " ".join(source[1].split()).rstrip(".") if source else ""
    return ModelLine(name, what.rstrip("."), words, chosen.get("override /solver", "auto"))


def markdown() -> str:
    """The table of the README."""
    rows = ["| `model=` | what it is | default solver | source |", "|---|---|---|---|"]
    rows += [
        f"| `{line.name}` | {line.what} | `{line.solver}` | {line.source} |"
        for line in model_lines()
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown())
