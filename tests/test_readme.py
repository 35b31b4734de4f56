"""The README says what the code does: its model table, its commands, its choices."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nmfnet.config import options
from nmfnet.report.models import markdown

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_table_of_models_is_the_one_the_docstrings_make():
    begin, end = "<!-- models: python -m nmfnet.report.models -->\n", "\n<!-- /models -->"
    assert README[README.index(begin) + len(begin) : README.index(end)] == markdown()


@pytest.mark.parametrize(
    "group", ["loss", "solver", "init", "penalty", "constraint", "split", "logger"]
)
def test_every_choice_is_listed(group):
    (line,) = [line for line in README.splitlines() if line.startswith(f"| `{group}=` |")]
    words = set(re.findall(r"`(\w+)`", line))
    assert set(options(group)) <= words


def test_every_picture_and_page_it_names_is_there():
    for name in re.findall(r"\]\((experiments/[^)]+)\)", README):
        assert (Path(__file__).parent.parent / name).is_file(), name
