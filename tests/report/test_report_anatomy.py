"""What models are made of: asked and tried, and the committed table says the same."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from nmfnet.config import options
from nmfnet.report.anatomy import Anatomy, anatomy, straight

GALLERY = Path(__file__).parents[2] / "experiments" / "gallery"


def committed() -> dict[str, Anatomy]:
    with (GALLERY / "map.csv").open(newline="") as file:
        heading, *rows = csv.reader(file)
    assert tuple(heading) == Anatomy._fields
    return {row[0]: Anatomy(*row) for row in rows}


def test_the_map_has_every_model_and_no_other():
    assert list(committed()) == options("model")


@pytest.mark.parametrize("name", options("model"))
@pytest.mark.quick("nmf", "pca", "vae")
def test_the_map_says_what_the_models_say(name):
    """If not: ``python experiments/gallery/map.py``."""
    assert anatomy(name) == committed()[name]


def test_leaves_are_those_of_the_papers():
    known = committed()
    assert known["nmf"][1:5] == ("table", "Point, >= 0", "H", "project")
    assert known["convex_nmf"].decoder == "A X"
    assert {known[name].encoder for name in ("pca", "svd", "lsi", "projective_nmf", "ica")} == {
        "linear, from D"
    }
    assert {known[name].encoder for name in ("vae", "dca", "etm", "unrolled_nmf")} == {"network"}
    assert known["vae"].code == "Normal, any sign"
    assert known["lda"].code == "Dirichlet, sum 1"
    assert known["ldvae"].decoder == "curve of H"
    assert (known["vae"].terms, known["dca"].terms) == ("kl", "")
    assert known["inmf"].decoder == "sum of tables"
    assert known["deep_nmf"].decoder == "product of tables"


def test_a_map_is_straight_if_the_middle_goes_to_the_middle():
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert straight(lambda x: 3 * x + 1, x)
    assert not straight(torch.relu, x)
    assert not straight(lambda x: x * x, x)
