"""Mutation spectra of the catalogue: tables of channels by genomes, in one or several parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from nmfnet.data.formats.raw import did_you_mean
from nmfnet.data.matrix import Matrix, Truth
from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.reference import with_reference
from nmfnet.data.sources.source import Source, encode_labels
from nmfnet.data.sources.table import Table
from nmfnet.errors import UserError

__all__ = ["Spectra"]


@final
@dataclass(frozen=True, kw_only=True)
class Spectra(Source):
    """Counts of mutations by channel and genome.

    Parameters
    ----------
    origin : Origin
    parts : mapping of part name to {"file": str, "name_columns": int, "name_separator": str}
        The tables of the data set, channels in rows; the last two keys may be left out.
    part : str, optional
        Which part to read; ``all`` puts the genomes of all parts below each other, with the part as
        class. May be None when there is only one.
    label_pattern : str, optional
        Regular expression that finds the class (tumour type) in the name of a genome.
    signatures, exposures : str, optional
        Files with the true factors of simulated data: channels x signatures, signatures x genomes.
    drop : sequence of str
        Names of genomes to leave out.
    reference : str, optional
        File or data set of known signatures; left out, with a note, where a part has other
        channels.
    """

    origin: Origin
    parts: Mapping[str, Mapping[str, Any]]
    part: str | None = None
    label_pattern: str | None = None
    signatures: str | None = None
    exposures: str | None = None
    drop: Sequence[str] = ()
    reference: str | None = None

    def read(self) -> Matrix:
        """Read the part, leave out what is to be dropped, join truth and reference by label."""
        names = self._chosen()
        tables = [self._table(**self.parts[name]).read() for name in names]
        matrix = tables[0] if len(tables) == 1 else _stack(tables, names)
        if self.drop:
            matrix = _without(matrix, list(self.drop))
        if self.signatures is not None and self.exposures is not None:
            matrix = self._with_truth(matrix, self.signatures, self.exposures)
        return self._with_reference(matrix)

    def _chosen(self) -> list[str]:
        known = list(self.parts)
        if self.part is None and len(known) == 1:
            return known
        if self.part == "all":
            return known
        if self.part not in known:
            raise UserError(
                f"data.part={self.part!r} is not a part of {self.origin.name}. Its parts: "
                f"{', '.join(known)}.{did_you_mean(str(self.part), known)}"
            )
        return [str(self.part)]

    def _table(self, file: str, name_columns: int = 1, name_separator: str = ":") -> Table:
        return Table(
            path=file,
            origin=self.origin,
            orientation="features_by_samples",
            name_columns=name_columns,
            name_separator=name_separator,
            label_pattern=self.label_pattern,
        )

    def _with_truth(self, matrix: Matrix, signatures: str, exposures: str) -> Matrix:
        unlabelled = replace(self, label_pattern=None)
        H = unlabelled._table(signatures, name_columns=2).read()
        W = unlabelled._table(exposures).read()
        rows = {name: i for i, name in enumerate(W.sample_names)}
        columns = {name: i for i, name in enumerate(W.feature_names)}
        weights = W.values[[rows[name] for name in matrix.sample_names]]
        weights = weights[:, [columns[name] for name in H.sample_names]]
        return replace(
            matrix,
            truth=Truth(weights, H.values, H.sample_names),
            sources={**matrix.sources, **H.sources, **W.sources},
        )

    def _with_reference(self, matrix: Matrix) -> Matrix:
        if self.reference is None or matrix.kind == "sbs96":
            return with_reference(matrix, self.reference)
        remark = (
            f"The reference {self.reference} has other channels than this part, so it is not used."
        )
        return replace(matrix, remarks=(*matrix.remarks, remark))


def _stack(tables: Sequence[Matrix], names: Sequence[str]) -> Matrix:
    """The samples of several tables with the same features; the table's name is the class."""
    features = tables[0].feature_names
    for table, name in zip(tables, names, strict=True):
        if table.feature_names != features:
            raise UserError(
                f"data.part=all: {name} has other features than {names[0]} ({table.shape[1]} and "
                f"{len(features)}). Choose one of: {', '.join(names)}."
            )
    labels, label_names = encode_labels(
        [name for table, name in zip(tables, names, strict=True) for _ in table.sample_names]
    )
    return replace(
        tables[0],
        values=np.concatenate([table.values for table in tables]),
        sample_names=[name for table in tables for name in table.sample_names],
        labels=labels,
        label_names=label_names,
        sources={file: digest for table in tables for file, digest in table.sources.items()},
    )


def _without(matrix: Matrix, drop: list[str]) -> Matrix:
    known = set(matrix.sample_names)
    absent = [name for name in drop if name not in known]
    if absent:
        raise UserError(
            f"data.drop: {len(absent)} of {len(drop)} names are not in the data (first: "
            f"{absent[0]!r}).{did_you_mean(absent[0], matrix.sample_names)}"
        )
    keep = [i for i, name in enumerate(matrix.sample_names) if name not in set(drop)]
    return replace(
        matrix,
        values=matrix.values[keep],
        sample_names=[matrix.sample_names[i] for i in keep],
        labels=None if matrix.labels is None else matrix.labels[keep],
        remarks=(*matrix.remarks, f"Left out on request: {', '.join(drop)}."),
    )
