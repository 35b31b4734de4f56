"""The table of models, made from their yaml files and docstrings.

A preset of another model is described by the first comment of its yaml.
"""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

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
    """Every choice of ``model=``, in alphabetical order."""
    return [_line(name) for name in options("model")]


def _line(name: str) -> ModelLine:
    text = (conf_dir() / "model" / f"{name}.yaml").read_text()
    raw, preset = yaml.safe_load(text), re.search(r"^# (?!@)(.*)$", text, re.MULTILINE)
    chosen = {
        key: value
        for entry in raw.get("defaults", [])
        if isinstance(entry, dict)
        for key, value in entry.items()
    }
    doc = inspect.getdoc(locate(raw["model"]["_target_"])) or ""
    what = preset[1] if preset else doc.split("\n\n")[0].replace("\n", " ")
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
