"""What the components of single cells mean for all genes, and its files and figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nmfnet.data.formats.hdf5 import write_h5ad
from nmfnet.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Programs"]

FloatArray = npt.NDArray[np.float64]

MARKERS, SHOWN = 50, 8
"""Genes of a programme in ``marker_genes.csv``, and on the terminal and in the figure."""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Programmes of cells over all genes; see `nmfnet.selection.cells.CellPrograms` for the equations.

    Attributes
    ----------
    usages : ndarray, shape (n_cells, k)
        Shares of the programmes in each cell; rows sum to 1, or to 0 for a cell without counts.
    tpm : ndarray, shape (k, n_genes)
        Transcripts per million of a cell that is all of one programme, >= 0.
    scores : ndarray, shape (k, n_genes)
        The same in standard deviations from the mean of the gene.
    fitted : ndarray of bool, shape (n_genes,)
        The genes that the components were fitted to.
    names, cells, genes : list of str
        Of programmes, cells and genes.
    classes : list of str or None
        Of the cells, where the data have them.
    distances : ndarray, shape (replicates, k)
        Mean distance of every component to its neighbours.
    density : float
        The largest with which one is kept.
    """

    usages: FloatArray
    tpm: FloatArray
    scores: FloatArray
    fitted: npt.NDArray[np.bool_]
    names: list[str]
    cells: list[str]
    genes: list[str]
    classes: list[str] | None
    distances: FloatArray
    density: float

    def markers(self, count: int) -> Iterator[tuple[int, list[int]]]:
        """Every programme with the genes of largest score, those above 0 only."""
        for k, row in enumerate(self.scores):
            order = np.argsort(-row, kind="stable")[:count]
            yield k, [int(gene) for gene in order if row[gene] > 0]

    def largest(self) -> list[str]:
        """The programme of largest usage of every cell; none ("") for a cell without counts."""
        return [self.names[row.argmax()] if row.any() else "" for row in self.usages]

    def lines(self) -> list[str]:
        """A line for every programme, with its share of all cells."""
        share = self.usages.mean(axis=0)
        return [
            f"{self.names[k]} ({share[k]:.0%}): "
            + ", ".join(f"{self.genes[gene]} {self.scores[k, gene]:.1f}" for gene in genes)
            for k, genes in self.markers(SHOWN)
        ]

    def write(self, folder: Path) -> list[str]:
        """Tables and ``programs.h5ad``; what there is to say of them."""
        import pandas as pd

        tables = {
            "usages": (self.usages, self.cells, "cell"),
            "programs_tpm": (self.tpm.T, self.genes, "gene"),
            "programs_scores": (self.scores.T, self.genes, "gene"),
        }
        for stem, (values, names, word) in tables.items():
            table = pd.DataFrame(values, pd.Index(names, name=word), self.names)
            table.to_csv(folder / f"{stem}.csv", float_format="%.6g")
        rows: list[dict[str, Any]] = [
            {
                "program": self.names[k],
                "rank": rank,
                "gene": self.genes[gene],
                "score": self.scores[k, gene],
                "tpm": self.tpm[k, gene],
                "fitted": bool(self.fitted[gene]),
            }
            for k, genes in self.markers(MARKERS)
            for rank, gene in enumerate(genes, start=1)
        ]
        markers = pd.DataFrame(rows)
        markers.to_csv(folder / "marker_genes.csv", index=False, float_format="%.6g")
        try:
            self._write_h5ad(folder / "programs.h5ad")
        except UserError as error:
            return [f"programs.h5ad was not written: {error}"]
        return []

    def _write_h5ad(self, file: Path) -> None:
        obs: dict[str, Sequence[Any]] = {"program": self.largest()}
        if self.classes is not None:
            obs["class"] = self.classes
        write_h5ad(
            file,
            obs,
            {"fitted": self.fitted},  # type: ignore[dict-item]
            (self.cells, self.genes),
            obsm={"X_programs": self.usages},
            varm={"programs_tpm": self.tpm.T, "programs_scores": self.scores.T},
            uns={
                "programs": {
                    "names": np.asarray(self.names, object),
                    "density": self.density,
                    "distances": self.distances,
                }
            },
        )

    def figures(self) -> dict[str, Figure]:
        """Marker genes of every programme, and the distances that decide what is kept."""
        from nmfnet.plots.programs import component_density, marker_genes

        genes = [genes for _, genes in self.markers(SHOWN)]
        return {
            "marker_genes": marker_genes(self.scores, genes, self.genes, self.names),
            "component_density": component_density(self.distances, self.density),
        }
