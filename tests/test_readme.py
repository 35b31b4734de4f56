"""The README says what the code does: its model table, its commands, its choices."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from nmfnet.config import options
from nmfnet.report.models import markdown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_models_is_the_one_the_docstrings_make():
    begin, end = "<!-- models: python -m nmfnet.report.models -->\n", "\n<!-- /models -->"
    assert README[README.index(begin) + len(begin) : README.index(end)] == markdown()


def test_the_comparison_has_the_numbers_of_its_file():
    with (ROOT / "experiments" / "first_run" / "sweep.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            train, test = (float(row[f"{part}/relative_error"]) for part in ("train", "test"))
            assert f"| `{row['model']}` | `{row['solver']}` | {train:.4f} | {test:.4f} |" in README


@pytest.mark.parametrize(
    "group", ["loss", "solver", "init", "penalty", "constraint", "split", "logger"]
)
def test_every_choice_is_listed(group):
    (line,) = [line for line in README.splitlines() if line.startswith(f"| `{group}=` |")]
    words = set(re.findall(r"`(\w+)`", line))
    assert set(options(group)) <= words


def listed(text: str) -> set[tuple[str, str]]:
    """Groups and choices of the tables of ``conf/README.md``."""
    found: set[tuple[str, str]] = set()
    group = ""
    for line in text.splitlines():
        if line.startswith("## "):
            words = re.match(r"## `(\w+)`", line)
            group = words[1] if words else ""
        elif cells := re.match(r"\| `([\w-]+)` \|(?: `([\w-]+)` \|)?", line):
            found.add((cells[1], cells[2]) if cells[2] else (group, cells[1]))
    return found


def test_the_page_of_choices_has_all_of_them_and_no_other():
    folders = [folder for folder in (ROOT / "conf").iterdir() if folder.is_dir()]
    there = {(folder.name, choice) for folder in folders for choice in options(folder.name)}
    assert listed((ROOT / "conf" / "README.md").read_text()) == there


@pytest.mark.parametrize("page", ["nmfnet/README.md", "experiments/README.md", "conf/README.md"])
def test_every_file_that_a_page_names_is_there(page):
    folder = (ROOT / page).parent
    text = (ROOT / page).read_text()
    named = {n for n in re.findall(r"`([\w/]+(?:\.py|\.yaml|/))`", text) if "NAME" not in n}
    linked = {name.partition("#")[0] for name in re.findall(r"\]\(([^)]+)\)", text)}
    run = set(re.findall(r"experiments/[\w/]+\.(?:py|sh)", text))
    rooms = [folder, *(folder / room for room in ("core", "solvers", "kernels"))]
    missing = [n for n in named | linked if not any((room / n).exists() for room in rooms)]
    missing += [n for n in run if not (ROOT / n).is_file()]
    assert [n for n in missing if not (ROOT / n).exists()] == []


def test_every_experiment_is_in_the_gallery():
    gallery = (ROOT / "experiments" / "README.md").read_text()
    for folder in (ROOT / "experiments").iterdir():
        if any(folder.glob("*.py")) or (folder / "README.md").is_file():
            assert f"[{folder.name}]({folder.name}/" in gallery


def test_pictures_are_small():
    pictures = list((ROOT / "experiments").rglob("*.png"))
    assert pictures
    assert [file for file in pictures if file.stat().st_size > 100_000] == []


def test_every_picture_and_page_it_names_is_there():
    for name in re.findall(r"\]\((experiments/[^)]+)\)", README):
        assert (ROOT / name.partition("#")[0]).is_file(), name
