"""The table of systems in the gallery: commands compose, and pages and pictures say what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from nmfnet.commands import make_parser
from nmfnet.settings.words import configuration

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


class System(NamedTuple):
    """A row of the table."""

    what: str
    command: str
    picture: str
    verdict: str
    page: str


def systems() -> list[System]:
    text = (EXPERIMENTS / "README.md").read_text()
    part = text[text.index("\n## Systems\n") : text.index("\n## Fields\n")]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [System(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines[1:]]


EVERY = pytest.mark.parametrize("system", systems(), ids=lambda system: system.what)


def linked(cell: str) -> list[Path]:
    return [EXPERIMENTS / name for name in re.findall(r"\]\(([^)]+)\)", cell)]


def alternatives(words: list[str]) -> list[dict[str, object]]:
    """The settings of a command; of a sweep the first job, and every other value beside it."""
    given = {key: value for key, _, value in (word.partition("=") for word in words)}
    several = {
        key: [value] if value[0] in "[{" else value.split(",") for key, value in given.items()
    }
    first = {key: values[0] for key, values in several.items()}
    jobs = [first | {key: one} for key, values in several.items() for one in values[1:]]
    return [{k: yaml.safe_load(v) for k, v in job.items()} for job in (first, *jobs)]


@EVERY
def test_every_command_is_one(system):
    program, *words = shlex.split(re.findall(r"`([^`]+)`", system.command)[0])
    if program == "python":
        assert (EXPERIMENTS.parent / words[0]).is_file()
    elif program == "nmfnet":
        make_parser().parse_known_args(words)
    else:
        assert program == "nmfnet-train"
        settings = [word for word in words if word != "-m"]
        jobs = alternatives(settings)
        assert ("-m" in words) == (len(jobs) > 1 or "experiment=faces" in words)
        for job in jobs:
            configuration(job)


@EVERY
def test_every_page_and_picture_is_there(system):
    (page,) = linked(system.page)
    assert page.is_file()
    assert bool(system.picture) == bool(linked(system.picture))
    assert all(picture.is_file() for picture in linked(system.picture))


@EVERY
def test_the_page_has_the_numbers_of_the_verdict(system):
    """Decimals and numbers of three figures and more; counts of things are words or smaller."""
    page = linked(system.page)[0].read_text().replace(",", "")
    known = {abs(float(word)) for word in re.findall(r"\d*\.?\d+", page)}
    told = re.findall(r"\d*\.\d+|\d{3,}", system.verdict.replace(",", ""))
    assert [word for word in told if float(word) not in known] == []
    assert system.verdict
