"""Components of a run against the phenotypes of its samples."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nmfnet.metrics import Association, Associations, associate

__all__ = ["said_of", "tested", "write_associations"]


def tested(
    W: np.ndarray, H: np.ndarray, names: list[str], phenotypes: Mapping[str, np.ndarray], seed: int
) -> Associations:
    """Every component against every phenotype of some samples, weights in units of the data."""
    return associate(W * np.abs(H).sum(1) if len(H) else W, phenotypes, names, seed=seed)


def said_of(found: Associations, n: int, held_out: bool) -> list[str]:
    """What the user should know of them."""
    sure = sum(row.q < 0.05 for row in found.rows)
    where = f"{n} held-out samples" if held_out else f"the {n} samples that were fitted"
    said = [
        *found.notes,
        f"Components against phenotypes (associations.csv), on {where}: {sure} of {len(found.rows)} "
        f"pairs have q < 0.05; of permuted phenotypes {100 * found.null:.2g} % of the p are below 0.05.",
    ]
    if not held_out:
        said.append(
            "These p are of samples that chose the components: experiment=associate tests on others."
        )
    return said


def write_associations(folder: Path, rows: Sequence[Association]) -> None:
    """Write ``associations.csv``, the smallest p first."""
    with (folder / "associations.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(Association._fields)
        for row in sorted(rows, key=lambda row: row.p):
            writer.writerow([v if isinstance(v, str) else f"{v:.6g}" for v in row])
