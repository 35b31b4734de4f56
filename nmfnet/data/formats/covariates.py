"""Covariates of samples (batch, donor, depth): tables of text and numbers as columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from nmfnet.data.formats.frames import as_rows
from nmfnet.data.formats.memory import positions
from nmfnet.data.formats.raw import MISSING, as_text, reading, shorten
from nmfnet.errors import UserError
from nmfnet.kernels.collinear import leading_columns

__all__ = ["Design", "columns_of"]

FEW = 12
"""Whole numbers with no more values than this could as well be names of classes."""


@final
@dataclass(frozen=True)
class Design:
    """How covariates become numbers: a column for each level of one in text, numbers as they are.

    Attributes
    ----------
    columns : tuple of (str, tuple of str or None)
        Name of every covariate and its levels; None = it is a number.
    """

    columns: tuple[tuple[str, tuple[str, ...] | None], ...]

    @classmethod
    def of(cls, table: Mapping[str, np.ndarray]) -> Design:
        """The design of the covariates that training samples have."""
        return cls(
            tuple(
                (name, None if cells.dtype == np.float64 else tuple(sorted(set(cells.tolist()))))
                for name, cells in table.items()
            )
        )

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> Design:
        """What `plain` gave."""
        return cls(tuple((name, None if many is None else tuple(many)) for name, many in plain))

    def plain(self) -> list[list[Any]]:
        """As lists, for a checkpoint."""
        return [[name, None if many is None else list(many)] for name, many in self.columns]

    @property
    def names(self) -> list[str]:
        """Of the columns of numbers."""
        return [
            column
            for name, many in self.columns
            for column in ([name] if many is None else [f"{name}={level}" for level in many])
        ]

    def encode(self, table: Mapping[str, np.ndarray]) -> np.ndarray:
        """The covariates of some samples, shape (n_samples, n_columns).

        Raises
        ------
        UserError
            A covariate that is missing, of another kind, or has a level that the design does not know.
        """
        if absent := [name for name, _ in self.columns if name not in table]:
            raise UserError(
                f"covariates has no column {absent[0]!r}, which the model was fitted with; it has "
                f"{shorten(list(table)) or 'none'}"
            )
        return np.concatenate(
            [self._one(name, many, table[name]) for name, many in self.columns], 1
        )

    @staticmethod
    def _one(name: str, many: tuple[str, ...] | None, cells: np.ndarray) -> np.ndarray:
        number = cells.dtype == np.float64
        if number != (many is None):
            was = "numbers" if many is None else "text"
            raise UserError(
                f"the covariate {name!r} was {was} in training, and these samples have "
                f"{'numbers' if number else 'text'}: give both as the same"
            )
        if many is None:
            return cells[:, None]
        if unknown := sorted(set(cells.tolist()) - set(many)):
            raise UserError(
                f"the covariate {name!r} is {unknown[0]!r} in {int((cells == unknown[0]).sum())} "
                f"samples, a level that no training sample has; it has {shorten(list(many))}: fit with "
                "samples of that level, or leave these out"
            )
        return (cells[:, None] == np.array(many, dtype=object)).astype(np.float64)

    def classes(self, values: np.ndarray) -> dict[str, list[str]]:
        """The level of each sample of every covariate in text, out of what `encode` gave."""
        found, start = {}, 0
        for name, many in self.columns:
            width = 1 if many is None else len(many)
            if many is not None:
                found[name] = [many[i] for i in values[:, start : start + width].argmax(1)]
            start += width
        return found

    def remarks(self, table: Mapping[str, np.ndarray]) -> list[str]:
        """What should be said of the covariates of the training samples."""
        said = []
        for name, many in self.columns:
            if many is not None and len(many) == 1:
                said.append(
                    f"The covariate {name!r} is {many[0]!r} in all samples: it tells a model nothing."
                )
            values = np.unique(table[name]) if many is None else np.zeros(0)
            if values.size == 1:
                said.append(
                    f"The covariate {name!r} is {values[0]:g} in all samples: it tells a model nothing."
                )
            elif many is None and values.size <= FEW and not (values % 1).any():
                said.append(
                    f"The covariate {name!r} has {values.size} whole values and is taken as a number: "
                    "give text if they are names."
                )
        return said + self._collinear(table)

    def _collinear(self, table: Mapping[str, np.ndarray]) -> list[str]:
        """Said of covariates that others determine; the last level of one in text is no news."""
        last = {f"{name}={many[-1]}" for name, many in self.columns if many is not None}
        names, values = self.names, self.encode(table)
        told = {*leading_columns(values), *np.flatnonzero(np.ptp(values, axis=0) == 0)}
        lost = [name for j, name in enumerate(names) if j not in told and name not in last]
        if not lost:
            return []
        return [
            f"The covariates before it determine {shorten(lost)}: what each of them does cannot be told "
            "apart."
        ]


def columns_of(given: Any, names: Sequence[str] | None, n: int) -> dict[str, np.ndarray]:
    """Covariates by name: float64 arrays of numbers, object arrays of text.

    Parameters
    ----------
    given : DataFrame, Series, mapping of str to sequence, or sequence of length n
        A DataFrame and a Series are joined by their index where the samples have names; a sequence is
        one covariate called ``covariate``.
    names : sequence of str or None
        Of the samples.
    n : int
        Samples.

    Raises
    ------
    UserError
        Another number of rows, samples without a row, or cells that are missing.
    """
    with reading("covariates", "a table with a row for each sample"):
        index = as_rows(given.index) if hasattr(given, "iloc") else None
        if hasattr(given, "columns"):
            found = {as_text(name): np.asarray(given[name]) for name in given.columns}
        elif isinstance(given, Mapping):
            found = {as_text(name): np.asarray(cells) for name, cells in given.items()}
        else:
            word = getattr(given, "name", None)
            found = {"covariate" if word is None else as_text(word): np.asarray(given)}
    if not found:
        raise UserError("covariates has no columns: give one at least, or leave covariates out")
    rows = None if names is None else positions(index, names, "covariates", "sample")
    by_name = rows is not None and index is not None and not np.array_equal(rows, np.arange(n))
    table = {}
    for name, cells in found.items():
        if cells.ndim != 1 or (cells.size != n and not by_name):
            raise UserError(
                f"the covariate {name!r} has the shape {cells.shape}, and there are {n} samples: give "
                "one value for each"
            )
        table[name] = _cells(name, cells[rows] if by_name else cells)
    return table


def _cells(name: str, cells: np.ndarray) -> np.ndarray:
    number = np.issubdtype(cells.dtype, np.number)
    read = cells.astype(np.float64) if number else np.array([as_text(c) for c in cells], object)
    missing = ~np.isfinite(read) if number else np.isin(read.astype(str), list(MISSING))
    if missing.any():
        raise UserError(
            f"the covariate {name!r} is missing in {int(missing.sum())} of {cells.size} samples (first: "
            f"row {int(np.flatnonzero(missing)[0]) + 1}): fill it in, or leave these samples out"
        )
    return read
