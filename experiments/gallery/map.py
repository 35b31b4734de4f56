"""One equation, many models: which leaves each is made of, as a table and a picture.

    python experiments/gallery/map.py

writes ``map.csv`` and ``map.png`` beside itself. Each model is put together on its own small example and
asked (``nmfnet.report.anatomy``).
"""

from __future__ import annotations

import csv
from itertools import groupby
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from nmfnet.plots.style import INK, PALETTE
from nmfnet.report.anatomy import Anatomy, anatomies

HERE = Path(__file__).parent
HEADINGS = {
    "model": "model",
    "encoder": "encoder E",
    "code": "code z: law, set",
    "decoder": "decoder D",
    "factors": "factors in",
    "likelihood": "likelihood",
    "terms": "added terms",
    "solver": "solver",
}
WIDTHS = (1.55, 1.05, 1.45, 1.25, 1.05, 1.25, 1.3, 1.0)
ROW, TOP, LEFT, DPI = 0.165, 0.85, 0.12, 110


def write(file: Path, rows: list[Anatomy]) -> None:
    """The table as csv."""
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Anatomy._fields)
        writer.writerows(rows)


def draw(file: Path, rows: list[Anatomy]) -> None:
    """The table as a picture: models that are alike stand together, equal leaves in one colour."""
    rows = sorted(rows, key=lambda row: (*_places(rows, row), row.model))
    width, height = sum(WIDTHS) + 2 * LEFT, TOP + ROW * len(rows) + LEFT
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    title = "x ~ p(x | D(z)),  z ~ q(z | E(x)):  minimise  - log p  +  added terms,  by a solver"
    axes.text(LEFT, 0.28, title, size=11, color=INK, va="center")
    x = LEFT
    for place, (field, wide) in enumerate(zip(Anatomy._fields, WIDTHS, strict=True)):
        values = [getattr(row, field) for row in rows]
        kinds = list(dict.fromkeys(values))
        count = "" if field == "model" else f" ({len({*kinds} - {''})})"
        axes.text(x + 0.04, TOP - 0.13, HEADINGS[field] + count, size=8, color=INK, weight="bold")
        y = TOP
        for value, run in groupby(values):
            tall = ROW * len(list(run))
            if place and value:
                tint = _tint(kinds.index(value))
                box = Rectangle((x, y), wide - 0.04, tall - 0.015, facecolor=tint, linewidth=0)
                axes.add_patch(box)
            axes.text(x + 0.05, y + tall / 2, value, size=7, color=INK, va="center")
            y += tall
        x += wide
    figure.canvas.draw()
    picture = Image.frombytes("RGBA", figure.canvas.get_width_height(), figure.canvas.buffer_rgba())
    picture.convert("RGB").quantize(64).save(file, optimize=True)


def _places(rows: list[Anatomy], row: Anatomy) -> list[int]:
    """Where a model stands: leaves that many models have come first."""
    told = []
    for field in Anatomy._fields[1:]:
        values = [getattr(other, field) for other in rows]
        common = sorted({*values}, key=lambda value: (-values.count(value), value))
        told.append(common.index(getattr(row, field)))
    return told


def _tint(number: int) -> tuple[float, ...]:
    """A light colour for each of many values."""
    strong = to_rgb(PALETTE[number % len(PALETTE)])
    share = 0.30 if number < len(PALETTE) else 0.15
    return tuple(1 - share * (1 - part) for part in strong)


if __name__ == "__main__":
    found = list(anatomies())
    write(HERE / "map.csv", found)
    draw(HERE / "map.png", found)
