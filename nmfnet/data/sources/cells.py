"""Counts of genes in single cells, and what kind each cell is."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from nmfnet.data.formats.layout import read_lines
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.source import Source, encode_labels
from nmfnet.data.sources.table import Table
from nmfnet.errors import UserError

__all__ = ["Cells"]


@final
@dataclass(frozen=True, kw_only=True)
class Cells(Source):
    """Cells by genes: the counts of the genes that vary most, with a class of each cell.

    Parameters
    ----------
    origin : Origin
    counts : str
        Comma-separated counts, genes in rows and cells in columns.
    annotations : str, optional
        Comma-separated table with a row for each cell, its name first (without a heading, as R writes
        it).
    labels : str, optional
        Column of the annotations with the classes.
    top_genes : int, >= 1, optional
        Keep the genes of which log(1 + counts at the median depth) has the largest variance; None = all.
    """

    origin: Origin
    counts: str
    annotations: str | None = None
    labels: str | None = None
    top_genes: int | None = 500

    def read(self) -> Matrix:
        """Read the counts, choose genes, join the classes."""
        if self.top_genes is not None and self.top_genes < 1:
            raise UserError(f"data.top_genes={self.top_genes} must be at least 1, or null for all.")
        table = Table(
            path=self.counts, orientation="features_by_samples", origin=self.origin
        ).read()
        counts, genes = np.asarray(table.values), table.feature_names
        remarks = table.remarks
        if self.top_genes is not None and self.top_genes < len(genes):
            depth = counts.sum(1, keepdims=True)
            spread = np.log1p(counts / np.maximum(depth, 1) * np.median(depth)).var(0)
            top = np.sort(np.argsort(-spread, kind="stable")[: self.top_genes])
            remarks = (*remarks, f"{len(top)} of {len(genes)} genes, which vary most, are used.")
            counts, genes = np.ascontiguousarray(counts[:, top]), [genes[i] for i in top]
        labels, label_names = None, None
        if self.annotations is not None and self.labels is not None:
            labels, label_names = encode_labels(self._classes(table.sample_names))
        return replace(
            table,
            values=counts,
            feature_names=genes,
            labels=labels,
            label_names=label_names,
            sources=self.origin.sources(self.counts, self.annotations),
            remarks=remarks,
        )

    def _classes(self, cells: list[str]) -> list[str]:
        assert self.annotations is not None
        head, *rows = csv.reader(read_lines(self.origin.path(self.annotations)))
        if self.labels not in head:
            raise UserError(
                f"data.labels={self.labels!r} is no column of {self.annotations}, which has "
                f"{', '.join(head)}."
            )
        from_end = head.index(self.labels) - len(head)  # rows begin with a name more than the head
        found = {row[0]: row[from_end] for row in rows if row}
        if absent := [cell for cell in cells if cell not in found]:
            raise UserError(
                f"{self.annotations} has no row for {len(absent)} of {len(cells)} cells (first: "
                f"{absent[0]!r})."
            )
        return [found[cell] for cell in cells]
