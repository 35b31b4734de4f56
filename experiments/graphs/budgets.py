"""Held-out links of Cora by encoder, law and budget, on one split.

python experiments/graphs/budgets.py [budgets.csv]
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

from links import NAMES, run, write

NAMES = {**NAMES, ("table", "point"): "table", ("table", "normal"): "table, normal"}

BUDGETS = (200, 2000)


def rows() -> Any:
    """Every run, with as many random pairs as there are links."""
    for budget, ((encoder, law), name) in itertools.product(BUDGETS, NAMES.items()):
        own = {"model.encoder": encoder, "model.law": law}
        yield {"max_iter": budget} | run(name, 0, model="graph_ae", max_iter=budget, **own)


if __name__ == "__main__":
    write(rows(), *(sys.argv[1:] or [Path(__file__).parent / "budgets.csv"]))
