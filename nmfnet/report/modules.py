"""``nmfnet modules``: modules of features and samples of a data set, as a table and a picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from nmfnet.data.matrix import Matrix
from nmfnet.errors import UserError
from nmfnet.kernels.isa import Module, isa

__all__ = ["write_modules"]

HEAD = ("module", "strength", "kind", "name", "score")


def write_modules(matrix: Matrix, output: str | Path, *, log: bool, **options: Any) -> list[Module]:
    """Find the modules of a matrix, and write ``modules.csv`` and ``modules.png`` into a folder.

    Parameters
    ----------
    matrix : Matrix
    output : str or Path
    log : bool
        Take log(1 + X) first.
    **options
        As for :func:`nmfnet.kernels.isa.isa`.

    Raises
    ------
    UserError
        Missing values, or values below 0 of which a logarithm is asked.
    """
    from nmfnet.plots import save
    from nmfnet.plots.modules import modules as draw

    if matrix.mask is not None:
        raise UserError("modules need all of X, and entries are missing or weighted: fill them in")
    X = matrix.values.toarray() if matrix.is_sparse else matrix.values
    if log and X.min() < 0:
        raise UserError(f"--log needs X >= 0, and {int((X < 0).sum())} values are negative")
    X = np.log1p(X) if log else X
    found = isa(X, **options)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "modules.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEAD)
        for number, module in enumerate(found, start=1):
            for kind, scores, names in (
                ("feature", module.features, matrix.feature_names),
                ("sample", module.samples, matrix.sample_names),
            ):
                for i in np.argsort(-np.abs(scores), kind="stable")[: (scores != 0).sum()]:
                    row = (number, f"{module.strength:.6g}", kind, names[i], f"{scores[i]:.6g}")
                    writer.writerow(row)
    save(draw(X, [(module.features, module.samples) for module in found]), folder / "modules.png")
    return found
