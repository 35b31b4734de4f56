"""Lists of (row, column, value): ratings, purchases, measurements of some pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.layout import DELIMITERS
from nmfnet.data.formats.raw import (
    check_file,
    check_memory,
    did_you_mean,
    file_sha256,
    shorten,
)
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.source import Source, natural
from nmfnet.errors import UserError, reason

__all__ = ["Triples"]

ENDINGS = (".csv", ".tsv", ".txt", ".data", ".dat", ".parquet")


@final
@dataclass(frozen=True, kw_only=True)
class Triples(Source):
    """A line per listed entry; whatever is not listed is missing, and not a zero.

    Parameters
    ----------
    path : str
        csv, tsv, txt, data, dat (also .gz) or parquet.
    row, column, value : str or int >= 1
        Columns of the file: who (a sample), what (a feature), and the number. Text is a name in the
        header; a number is a position, counted from 1, in a file without a header. Ids are names: 01
        and 1 are two.
    weight : str or int >= 1, optional
        Column with weights >= 0 of the entries.
    time : str or int >= 1, optional
        Column that says when: a number, larger = later. For split=time.
    scale : (float, float), optional
        Lowest and highest value that there can be; a list with any other is refused.
    at_least : float, optional
        Leave out entries of less; all that is left is listed as 1: what was chosen, nothing being said
        of the rest.
    duplicates : {"error", "mean"}
        Whether a pair that is listed twice is refused, or gets its (weighted) mean.
    min_per_column : int, >= 1
        Leave out features with fewer entries.
    sparse : bool, optional
        Keep values and mask as CSR of the listed entries; by default, unless they have weights.
    delimiter : str, optional
        Of text files; by default a comma in .csv, else a tab.
    """

    path: str
    row: str | int
    column: str | int
    value: str | int
    weight: str | int | None = None
    time: str | int | None = None
    scale: Sequence[float] | None = None
    at_least: float | None = None
    duplicates: Literal["error", "mean"] = "error"
    min_per_column: int = 1
    sparse: bool | None = None
    delimiter: str | None = None

    def check(self) -> None:
        check_file(self.path)

    def read(self) -> Matrix:
        """Samples and features in natural order of their names, mask = listed."""
        self._check()
        file = check_file(self.path)
        table = self._table(file)
        values, weights = self._numbers(table, file)
        times = None if self.time is None else _finite(table[self.time], self.time, file)
        (row_names, at_row), (column_names, at_column) = (
            self._ids(table, name, file) for name in (self.row, self.column)
        )
        del table
        kept = np.ones(values.size, dtype=bool)
        if self.at_least is not None:
            kept, values = values >= self.at_least, np.ones_like(values)
        kept &= (np.bincount(at_column[kept], minlength=len(column_names)) >= self.min_per_column)[
            at_column
        ]
        if not kept.any():
            raise UserError(
                f"data.min_per_column={self.min_per_column}"
                + ("" if self.at_least is None else f" and data.at_least={self.at_least:g}")
                + f" leaves no {self.column} of {file}."
            )
        samples, rows = _numbered(row_names, at_row[kept])
        features, columns = _numbered(column_names, at_column[kept])
        entries = _Entries(
            rows, columns, values[kept], weights[kept], None if times is None else times[kept],
            len(features),
        )  # fmt: skip
        remarks: tuple[str, ...] = ()
        if self.at_least is not None:
            remarks += (
                f"{kept.sum()} of {kept.size} entries are at least {self.at_least:g} and listed as 1; "
                "the others are left out.",
            )
        repeats = entries.repeats()
        if repeats.size:
            first = int(repeats[0])
            pair = (
                f"{self.row} {samples[rows[first]]!r}, {self.column} {features[columns[first]]!r}"
            )
            if self.duplicates == "error":
                raise UserError(
                    f"{file} lists {repeats.size} pairs again (first: {pair}). Remove the repeats, or "
                    "set data.duplicates=mean to average them."
                )
            remarks += (f"{repeats.size} pairs were listed again (first: {pair}) and averaged.",)
            entries = entries.averaged()
        shape = (len(samples), len(features))
        weighted = self.weight is not None
        dense = self.sparse is False or (self.sparse is None and weighted)
        if dense:
            check_memory(17 * shape[0] * shape[1], f"{file} as a dense table")
        known = entries.weights > 0 if weighted else np.ones(entries.values.size, dtype=bool)
        at = entries.rows[known], entries.columns[known]

        def placed(numbers: np.ndarray) -> Any:
            return sp.csr_matrix((numbers, at), shape=shape)

        listed = placed(entries.values[known])
        mask = placed(entries.weights[known] if weighted else known)
        return Matrix(
            listed.toarray() if dense else listed,
            samples,
            features,
            mask=mask.toarray() if dense else mask,
            times=None if entries.times is None else placed(entries.times[known]),
            sources={file.name: file_sha256(file)},
            remarks=remarks,
        )

    def _check(self) -> None:
        if self.duplicates not in ("error", "mean"):
            raise UserError(
                f"data.duplicates={self.duplicates!r} is unknown. Allowed: error, mean."
            )
        if self.min_per_column < 1:
            raise UserError(f"data.min_per_column={self.min_per_column}: it must be at least 1.")
        if self.scale is not None and not (len(self.scale) == 2 and self.scale[0] < self.scale[1]):
            raise UserError(
                f"data.scale={list(self.scale)}: give the lowest and the highest value, as in [1,5]."
            )
        if self.sparse and self.weight is not None:
            raise UserError(
                "data.sparse=true takes entries of one weight: leave data.weight out, or set "
                "data.sparse=false."
            )

    def _wanted(self) -> list[str | int]:
        """The columns asked for: all of them names, or all of them positions."""
        given = (self.row, self.column, self.value, self.weight, self.time)
        wanted = [column for column in given if column is not None]
        numbers = [column for column in wanted if isinstance(column, int)]
        if numbers and (len(numbers) < len(wanted) or min(numbers) < 1):
            raise UserError(
                "data.row, data.column, data.value, data.weight and data.time are all names of a header, "
                f"or all positions from 1 on in a file without one, not {', '.join(map(repr, wanted))}."
            )
        return wanted

    def _table(self, file: Path) -> Any:
        """The columns asked for, as text, with the line number of each row as the index."""
        import pandas as pd

        wanted = self._wanted()
        bare = isinstance(wanted[0], int)
        ending = next((s for s in reversed(file.suffixes) if s != ".gz"), "")
        if ending not in ENDINGS:
            raise UserError(
                f"{file}: data=triples reads {', '.join(ENDINGS)} (text also with .gz), not {ending!r}."
            )
        try:
            if ending == ".parquet":
                table = pd.read_parquet(file)
            else:
                separator = self.delimiter or ("," if ending == ".csv" else "\t")
                separator = DELIMITERS.get(separator.lower(), separator)
                table = pd.read_csv(
                    file,
                    sep=separator,
                    engine="python" if len(separator) > 1 else "c",  # MovieLens has "::"
                    header=None if bare else 0,
                    dtype=str,
                    keep_default_na=False,
                    encoding="utf-8-sig",
                )
        except pd.errors.EmptyDataError as error:
            raise UserError(f"{file} is empty.") from error
        except (ValueError, OSError) as error:  # also text that is not utf-8, and torn archives
            raise UserError(
                f"{file} cannot be read as a list of entries: {reason(error)}."
            ) from error
        known: list[str | int] = [str(name) for name in table.columns]
        if bare and ending != ".parquet":
            known = list(range(1, len(known) + 1))
        table.columns = pd.Index(known, dtype=object)
        table.index = pd.RangeIndex(1 if bare else 2, len(table) + (1 if bare else 2))
        options = ("row", "column", "value", "weight", "time")
        asked = [option for option in options if getattr(self, option) is not None]
        for option, name in zip(asked, wanted, strict=True):
            if name not in known:
                raise UserError(
                    f"data.{option}={name!r} is not a column of {file}. It has "
                    f"{shorten(known, 8)}.{did_you_mean(str(name), list(map(str, known)))} In a file "
                    "without a header, columns are numbers: data.row=1 data.column=2 data.value=3."
                )
        if table.empty:
            raise UserError(f"{file} has a header and no entries below it.")
        return table[list(dict.fromkeys(wanted))]

    def _ids(self, table: Any, name: str | int, file: Path) -> tuple[np.ndarray, np.ndarray]:
        """Names of rows or columns, and which of them every line has."""
        import pandas as pd

        cells = table[name]
        group, names = pd.factorize(cells if cells.dtype == object else cells.astype(object))
        known = np.array([str(found) for found in names], dtype=object)
        bad = group < 0 if not (known == "").any() else (group < 0) | (known == "")[group]
        empty = np.flatnonzero(bad)
        if empty.size:
            raise UserError(
                f"{file} has {empty.size} lines without {name!r} (first: line "
                f"{table.index[empty[0]]})."
            )
        return known, group

    def _numbers(self, table: Any, file: Path) -> tuple[np.ndarray, np.ndarray]:
        """Values and weights."""
        values = _finite(table[self.value], self.value, file)
        if self.scale is not None:
            low, high = self.scale
            outside = np.flatnonzero((values < low) | (values > high))
            if outside.size:
                raise UserError(
                    f"{outside.size} values in column {self.value!r} of {file} are outside "
                    f"data.scale=[{low:g},{high:g}] (first: {values[outside[0]]:g} in line "
                    f"{table.index[outside[0]]}). Correct them, or widen data.scale."
                )
        if self.weight is None:
            return values, np.ones_like(values)
        weights = _finite(table[self.weight], self.weight, file)
        bad = np.flatnonzero(weights < 0)
        if bad.size:
            raise UserError(
                f"{bad.size} weights in column {self.weight!r} of {file} are negative (first: "
                f"{weights[bad[0]]:g} in line {table.index[bad[0]]}): a weight is >= 0."
            )
        return values, weights


@dataclass(frozen=True)
class _Entries:
    """Entries by number of row and column."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    weights: np.ndarray
    times: np.ndarray | None
    n_columns: int

    def _keys(self) -> np.ndarray:
        return self.rows.astype(np.int64) * self.n_columns + self.columns

    def repeats(self) -> np.ndarray:
        """Positions of entries whose pair was listed before."""
        import pandas as pd

        return np.flatnonzero(pd.Series(self._keys()).duplicated().to_numpy())

    def averaged(self) -> _Entries:
        """One entry for each pair: the weighted mean, the sum of the weights, the last time."""
        _, first, group = np.unique(self._keys(), return_index=True, return_inverse=True)
        weights = np.bincount(group, self.weights)
        plain = np.bincount(group, self.values) / np.bincount(group)
        with np.errstate(invalid="ignore"):
            means = np.bincount(group, self.weights * self.values) / weights
        values = np.where(weights > 0, means, plain)
        times = None
        if self.times is not None:
            times = np.full(first.size, -np.inf)
            np.maximum.at(times, group, self.times)
        return _Entries(
            self.rows[first], self.columns[first], values, weights, times, self.n_columns
        )


def _finite(cells: Any, name: str | int, file: Path) -> np.ndarray:
    """Finite numbers of a column."""
    import pandas as pd

    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        lines = [str(cells.index[i]) for i in bad]
        header = " Line 1 looks like a header: then say its names." if lines == ["1"] else ""
        raise UserError(
            f"{bad.size} cells in column {name!r} of {file} are not finite numbers (first: "
            f"{str(cells.iloc[bad[0]])!r}; lines {shorten(lines, 3)}).{header}"
        )
    return numbers


def _numbered(names: np.ndarray, group: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The names in use in natural order (10 after 9), and the number of each entry's."""
    used = np.flatnonzero(np.bincount(group, minlength=len(names)))
    order = np.array(sorted(used.tolist(), key=lambda i: natural(str(names[i]))), dtype=np.int64)
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(order.size)
    return [str(names[i]) for i in order], place[group]
