"""Mixtures of known composition: what deconvolution is judged by."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from nmfnet.data.formats.layout import read_lines
from nmfnet.data.formats.raw import numbered
from nmfnet.data.formats.rda import read_rda
from nmfnet.data.matrix import Matrix, Reference, Truth
from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.source import Source
from nmfnet.data.sources.table import Table
from nmfnet.errors import UserError

__all__ = ["CellMixtures", "TissueMixtures"]


@final
@dataclass(frozen=True, kw_only=True)
class TissueMixtures(Source):
    """Mixtures, their true shares and the pure profiles in one file of R.

    Parameters
    ----------
    origin : Origin
    file : str
        With a list of the matrices X (features by samples), A (samples by types) and S (features by
        types).
    name : str
        Of the list.
    """

    origin: Origin
    file: str
    name: str

    def read(self) -> Matrix:
        """X with the pure profiles as its reference, and the shares as its truth."""
        objects = read_rda(self.origin.path(self.file))
        if self.name not in objects:
            raise UserError(
                f"data.name={self.name!r} is not in {self.file}, which has {', '.join(objects)}."
            )
        X, A, S = (objects[self.name][part] for part in ("X", "A", "S"))
        types = S.axis_names(1) or numbered("type", S.value.shape[1])
        profiles = np.ascontiguousarray(S.value.T)
        return Matrix(
            np.ascontiguousarray(X.value.T),
            X.axis_names(1) or numbered("sample", X.value.shape[1]),
            X.axis_names(0) or numbered("feature", X.value.shape[0]),
            reference=Reference(profiles, types),
            truth=Truth(A.value, profiles, types),
            sources=self.origin.sources(self.file),
            citation=self.origin.citation,
        )


@final
@dataclass(frozen=True, kw_only=True)
class CellMixtures(Source):
    """Counts of mixtures of RNA, of which some are pure: these are added up to the reference.

    Parameters
    ----------
    origin : Origin
    counts : str
        Comma-separated counts, genes in rows and mixtures in columns.
    annotations : str
        Comma-separated table with a row for each mixture, its name first (without a heading, as R
        writes it).
    shares : mapping of type to column
        Columns of the annotations with the true share of each type.
    """

    origin: Origin
    counts: str
    annotations: str
    shares: Mapping[str, str]

    def read(self) -> Matrix:
        """The mixtures that are not pure, with the sums of the pure ones as reference."""
        table = Table(
            path=self.counts, orientation="features_by_samples", origin=self.origin
        ).read()
        shares, types = self._shares(table.sample_names), list(self.shares)
        pure = shares >= 1 - 1e-9
        if not pure.any(0).all():
            raise UserError(
                f"{self.annotations} has no pure sample of {types[pure.any(0).argmin()]}."
            )
        mixed = np.flatnonzero(~pure.any(1))
        counts = np.asarray(table.values)
        profiles = np.stack([counts[pure[:, j]].sum(0) for j in range(len(types))])
        remark = (
            f"{int(pure.any(1).sum())} pure samples are the reference; they are no mixtures, and so "
            "left out of X."
        )
        return replace(
            table,
            values=np.ascontiguousarray(counts[mixed]),
            sample_names=[table.sample_names[i] for i in mixed],
            reference=Reference(profiles, types),
            truth=Truth(shares[mixed], profiles, types),
            sources=self.origin.sources(self.counts, self.annotations),
            remarks=(*table.remarks, remark),
        )

    def _shares(self, names: list[str]) -> np.ndarray:
        """True shares of every sample, rows of sum 1 (the table has two digits)."""
        head, *rows = csv.reader(read_lines(self.origin.path(self.annotations)))
        if absent := [column for column in self.shares.values() if column not in head]:
            raise UserError(f"{self.annotations} has no column {absent[0]!r}: {', '.join(head)}.")
        at = [head.index(column) - len(head) for column in self.shares.values()]
        found = {row[0]: [float(row[i]) for i in at] for row in rows if row}
        if missing := [name for name in names if name not in found]:
            raise UserError(
                f"{self.annotations} has no row for {len(missing)} of {len(names)} samples (first: "
                f"{missing[0]!r})."
            )
        shares = np.array([found[name] for name in names])
        return np.asarray(shares / shares.sum(1, keepdims=True))
