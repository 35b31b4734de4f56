"""Spatial transcriptomics: counts of genes in spots of a tissue, and where the spots lie."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from nmfnet.data.formats.layout import read_lines
from nmfnet.data.formats.raw import check_file, file_sha256, is_sparse
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.source import Source, encode_labels
from nmfnet.data.sources.table import Orientation, Table
from nmfnet.errors import UserError

__all__ = ["Spots"]


@final
@dataclass(frozen=True, kw_only=True)
class Spots(Source):
    """Spots by genes, cleaned as is usual: thin spots and rare genes out, log(1 + depth-normalised).

    Coordinates are kept in ``extra["coordinates"]``, shape (n_samples, 2).

    Parameters
    ----------
    counts : str
        Table of counts, of any format that `Table` reads.
    orientation : {"samples_by_features", "features_by_samples"}, optional
        What its rows and columns are, unless the file says it.
    coordinates : str, optional
        Table of name, x and y of the spots, or the name of an entry of ``obsm`` of an h5ad file. By
        default spots are called by their places, ``XxY`` (``10x24``).
    annotations : str, optional
        Table with the columns x, y (rounded to those of the spots) and label: classes of spots.
    min_counts : float, >= 0
        Spots with fewer counts in all are left out.
    min_spots : int, >= 0
        Genes that are seen in fewer spots are left out.
    normalize : bool
        log(1 + counts scaled to the median depth of the spots); False = the counts.
    top_genes : int, >= 1, optional
        Keep the genes whose values vary most.
    origin : Origin, optional
        Catalogue entry that the files belong to.
    """

    counts: str
    orientation: Orientation | None = "samples_by_features"
    coordinates: str | None = None
    annotations: str | None = None
    min_counts: float = 100
    min_spots: int = 10
    normalize: bool = True
    top_genes: int | None = 2000
    origin: Origin | None = None

    def read(self) -> Matrix:
        """Read the counts, clean them, join coordinates and classes."""
        if self.top_genes is not None and self.top_genes < 1:
            raise UserError(f"data.top_genes={self.top_genes} must be at least 1, or null for all.")
        table = Table(
            path=self.counts, orientation=self.orientation, coordinates=self.coordinates,
            origin=self.origin,
        ).read()  # fmt: skip
        counts, spots = table.values, table.sample_names
        counts = counts.toarray() if is_sparse(counts) else np.asarray(counts)
        if counts.min() < 0:
            raise UserError(
                f"{self.counts} has {int((counts < 0).sum())} negative values, and data.counts must be "
                "counts: use data=table for anything else."
            )
        deep = counts.sum(1) >= self.min_counts
        seen = (counts[deep] > 0).sum(0) >= max(self.min_spots, 1)
        if not deep.any() or not seen.any():
            raise UserError(
                f"data.min_counts={self.min_counts:g} data.min_spots={self.min_spots} leave no spot or "
                f"no gene of {counts.shape[0]} spots and {counts.shape[1]} genes: lower them."
            )
        values = counts[deep][:, seen]
        if self.normalize:
            depth = values.sum(1, keepdims=True)
            values = np.log1p(values / depth * np.median(depth))
        kept = np.flatnonzero(seen)
        if self.top_genes is not None and self.top_genes < len(kept):
            top = np.sort(np.argsort(-values.var(0), kind="stable")[: self.top_genes])
            values, kept = values[:, top], kept[top]
        names = [spot for spot, stays in zip(spots, deep, strict=True) if stays]
        if self.coordinates is None:
            places = np.array([_place(name) for name in names], np.float64)
        else:
            places = table.extra["coordinates"][deep]
        labels, label_names = self._labels(places)
        return replace(
            table,
            values=values,
            sample_names=names,
            feature_names=[table.feature_names[i] for i in kept],
            labels=labels,
            label_names=label_names,
            extra={"coordinates": places},
            sources=self._sources(table),
            remarks=(
                *table.remarks,
                f"{int((~deep).sum())} spots with fewer than {self.min_counts:g} counts were left out; "
                f"{len(kept)} of {counts.shape[1]} genes are used.",
            ),
        )

    def counted(self) -> Matrix:
        """Counts of all genes in the same spots."""
        return replace(self, normalize=False, top_genes=None).read()

    def _sources(self, table: Matrix) -> dict[str, str]:
        if self.origin is not None:
            return self.origin.sources(self.counts, self.annotations)
        if self.annotations is None:
            return table.sources
        file = check_file(self.annotations)
        return {**table.sources, file.name: file_sha256(file)}

    def check(self) -> None:
        if self.origin is None:
            check_file(self.counts)

    def _labels(self, places: np.ndarray) -> tuple[np.ndarray | None, list[str] | None]:
        if self.annotations is None:
            return None, None
        origin = self.origin
        file = check_file(self.annotations) if origin is None else origin.path(self.annotations)
        lines = csv.DictReader(read_lines(file), delimiter="\t")
        found = {}
        for line in lines:
            if line["label"]:
                found[round(float(line["x"])), round(float(line["y"]))] = line["label"]
        at = [(round(float(x)), round(float(y))) for x, y in places]
        return encode_labels([found.get(place, "") for place in at])


def _place(name: str) -> tuple[int, int]:
    """Coordinates out of the name of a spot."""
    match = re.fullmatch(r"(\d+)x(\d+)", name)
    if match is None:
        raise UserError(
            f"The spot {name!r} is not called by its place, such as '10x24': give "
            "data.coordinates=FILE (name, x, y), or =spatial for that entry of obsm of an h5ad file."
        )
    return int(match[1]), int(match[2])
