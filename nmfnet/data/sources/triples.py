"""Lists of (row, column, value): ratings, purchases, measurements of some pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.layout import DELIMITERS
from nmfnet.data.formats.raw import check_file, did_you_mean, file_sha256, shorten
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.source import Source, natural
from nmfnet.errors import UserError

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
        rows, columns = (self._ids(table, name, file) for name in (self.row, self.column))
        kept = _frequent(columns, self.min_per_column)
        if not kept.any():
            raise UserError(
                f"data.min_per_column={self.min_per_column} leaves no {self.column} of {file}."
            )
        remarks: tuple[str, ...] = ()
        (samples, at_row), (features, at_column) = _numbered(rows[kept]), _numbered(columns[kept])
        entries = _Entries(at_row, at_column, values[kept], weights[kept], len(features))
        repeats = entries.repeats()
        if repeats.size:
            first = int(repeats[0])
            pair = f"{self.row} {samples[at_row[first]]!r}, {self.column} {features[at_column[first]]!r}"
            if self.duplicates == "error":
                raise UserError(
                    f"{file} lists {repeats.size} pairs again (first: {pair}). Remove the repeats, or "
                    "set data.duplicates=mean to average them."
                )
            remarks = (f"{repeats.size} pairs were listed again (first: {pair}) and averaged.",)
            entries = entries.averaged()
        shape = (len(samples), len(features))
        weighted = self.weight is not None
        known = entries.weights > 0 if weighted else np.ones(entries.values.size, dtype=bool)
        at = entries.rows[known], entries.columns[known]
        listed: Any = sp.csr_matrix((entries.values[known], at), shape=shape)
        mask: Any = sp.csr_matrix((entries.weights[known] if weighted else known, at), shape=shape)
        if self.sparse is False or (self.sparse is None and weighted):
            listed, mask = listed.toarray(), mask.toarray()
        return Matrix(
            listed,
            samples,
            features,
            mask=mask,
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
        if self.sparse and self.weight is not None:
            raise UserError(
                "data.sparse=true takes entries of one weight: leave data.weight out, or set "
                "data.sparse=false."
            )

    def _wanted(self) -> list[str | int]:
        """The columns asked for: all of them names, or all of them positions."""
        given = (self.row, self.column, self.value, self.weight)
        wanted = [column for column in given if column is not None]
        numbers = [column for column in wanted if isinstance(column, int)]
        if numbers and (len(numbers) < len(wanted) or min(numbers) < 1):
            raise UserError(
                "data.row, data.column, data.value and data.weight are all names of a header, or all "
                f"positions from 1 on in a file without one, not {', '.join(map(repr, wanted))}."
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
            raise UserError(f"{file} cannot be read as a list of entries: {error}.") from error
        known: list[str | int] = [str(name) for name in table.columns]
        if bare and ending != ".parquet":
            known = list(range(1, len(known) + 1))
        table.columns = pd.Index(known, dtype=object)
        table.index = pd.RangeIndex(1 if bare else 2, len(table) + (1 if bare else 2))
        for option, name in zip(("row", "column", "value", "weight"), wanted, strict=False):
            if name not in known:
                raise UserError(
                    f"data.{option}={name!r} is not a column of {file}. It has "
                    f"{shorten(known, 8)}.{did_you_mean(str(name), list(map(str, known)))} In a file "
                    "without a header, columns are numbers: data.row=1 data.column=2 data.value=3."
                )
        if table.empty:
            raise UserError(f"{file} has a header and no entries below it.")
        return table[wanted]

    def _ids(self, table: Any, name: str | int, file: Path) -> np.ndarray:
        """Names of rows or columns."""
        cells = table[name]
        empty = np.flatnonzero((cells.isna() | (cells.astype(str) == "")).to_numpy())
        if empty.size:
            raise UserError(
                f"{file} has {empty.size} lines without {name!r} (first: line "
                f"{table.index[empty[0]]})."
            )
        return cells.astype(str).to_numpy(dtype=object)

    def _numbers(self, table: Any, file: Path) -> tuple[np.ndarray, np.ndarray]:
        """Values and weights."""
        values = _finite(table[self.value], self.value, file)
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
    n_columns: int

    def _keys(self) -> np.ndarray:
        return self.rows.astype(np.int64) * self.n_columns + self.columns

    def repeats(self) -> np.ndarray:
        """Positions of entries whose pair was listed before."""
        first = np.unique(self._keys(), return_index=True)[1]
        return np.setdiff1d(np.arange(self.rows.size), first)

    def averaged(self) -> _Entries:
        """One entry for each pair: the weighted mean, with the sum of the weights."""
        _, first, group = np.unique(self._keys(), return_index=True, return_inverse=True)
        weights = np.bincount(group, self.weights)
        plain = np.bincount(group, self.values) / np.bincount(group)
        with np.errstate(invalid="ignore"):
            means = np.bincount(group, self.weights * self.values) / weights
        values = np.where(weights > 0, means, plain)
        return _Entries(self.rows[first], self.columns[first], values, weights, self.n_columns)


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


def _frequent(names: np.ndarray, least: int) -> np.ndarray:
    """Whether each name occurs at least so often."""
    _, group, counts = np.unique(names, return_inverse=True, return_counts=True)
    return np.asarray(counts[group] >= least)


def _numbered(names: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The names in natural order (10 after 9), and the number of each."""
    unique, group = np.unique(names, return_inverse=True)
    order = sorted(range(unique.size), key=lambda i: natural(str(unique[i])))
    place = np.empty(unique.size, dtype=np.int64)
    place[order] = np.arange(unique.size)
    return [str(unique[i]) for i in order], place[group]
