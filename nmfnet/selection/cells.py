"""``selection=programs``: gene expression programmes of single cells, by the consensus of many starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np

from nmfnet import metrics
from nmfnet.data.formats.layout import read_lines
from nmfnet.data.formats.memory import positions
from nmfnet.data.formats.raw import did_you_mean, is_sparse
from nmfnet.data.matrix import Matrix
from nmfnet.errors import UserError
from nmfnet.kernels.counts import nature
from nmfnet.metrics.cells import GENE_RULES, gene_scores, gene_variability, moments, per_cell
from nmfnet.selection.options import Resample, Selection
from nmfnet.selection.outcome import Selected
from nmfnet.selection.programs import Programs
from nmfnet.selection.resampling import are_counts
from nmfnet.selection.weights import refit_weights

__all__ = ["CellPrograms"]


@final
@dataclass(frozen=True, kw_only=True)
class CellPrograms(Selection):
    r"""Consensus NMF of cells by genes, counts in, and what its components mean for all genes.

    ======  =================================================  =======================
    symbol  meaning                                            shape
    ======  =================================================  =======================
    C       counts                                             n_cells, n_genes
    V       the genes of C that vary most, each divided by     n_cells, top_genes
            its standard deviation (divisor n - 1)
    H       median of a cluster of components of V ~ W H       n_components, top_genes
    T       C in transcripts per million                       n_cells, n_genes
    P       programmes: ``argmin_{P >= 0} ||T - U P||²``       n_components, n_genes
    U       usages: rows of ``argmin_{U >= 0} ||V_T - U P_V||  n_cells, n_components
            ²``, divided by their sums
    S       scores: ``argmin_S ||Z - U S||²``                  n_components, n_genes
    ======  =================================================  =======================

    ``V_T`` and ``P_V`` are T and P at the chosen genes, divided by the standard deviations there in T;
    Z is T with mean 0 and variance 1 by gene. P is first found with U from V and H. Every rank is
    fitted from many random starts; components without near neighbours among those of all starts are
    left out, and the others are clustered by k-means. Stability (silhouettes) is of all components.

    Parameters
    ----------
    genes : str
        Rule of the genes that vary most, ``fano`` or ``seurat`` (`nmfnet.metrics.gene_variability`); or
        a text file with a gene in each line.
    top_genes : int, >= 1
        How many a rule chooses.
    density : float, > 0
        Components with a larger mean distance to their neighbours are left out of the consensus, vectors
        scaled to length 1; 2 = none is.
    neighbours : float in (0, 1]
        How many neighbours are meant, as a share of the replicates.
    replicates : int, >= 2
        Starts of every rank.
    min_silhouette_min : float
        More than for resampled data: starts of the same data agree more easily.
    resample, restarts, held_out, ard, refine, intervals
        As in `nmfnet.selection.Selection`, and off by default.

    Source: Kotliar et al. 2019, "Identifying gene expression programs of cell-type identity and cellular
    activity with single-cell RNA-Seq", eLife 8:e43803 (cNMF).

    Differs from the source: a rank is suggested; every fit runs to its optimum; scores are by shares.
    """

    genes: str = "fano"
    top_genes: int = 2000
    density: float = 0.5
    neighbours: float = 0.3
    replicates: int = 20
    resample: Resample = "none"
    restarts: int = 1
    min_silhouette_min: float = 0.5
    held_out: Literal["auto", "thinning", "entries", "both", "none"] = "none"
    ard: int = 0
    refine: bool = False
    intervals: bool = False

    of_no_fit: ClassVar[tuple[str, ...]] = (*Selection.of_no_fit, "density", "neighbours")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_genes < 1:
            raise UserError(f"selection.top_genes={self.top_genes}: it must be >= 1")
        if self.density <= 0:
            raise UserError(f"selection.density={self.density:g}: it must be > 0")
        if not 0 < self.neighbours <= 1:
            raise UserError(f"selection.neighbours={self.neighbours:g}: it must be in (0, 1]")
        if self.genes not in GENE_RULES and not Path(self.genes).expanduser().is_file():
            raise UserError(
                f"selection.genes={self.genes!r} is neither {' nor '.join(GENE_RULES)} nor a file."
                f"{did_you_mean(self.genes, GENE_RULES)}"
            )

    # ------------------------------------------------------------------ before the fits
    def chosen(self, matrix: Matrix) -> tuple[Matrix, list[str]]:
        """The genes that vary most, each divided by its standard deviation."""
        notes = _counts_notes(matrix)
        at, said = self._genes(matrix)
        values = matrix.values[:, at]
        values = _scaled(values, _deviations(values))
        empty = int((np.asarray(values.sum(axis=1)).ravel() == 0).sum())
        if empty:
            notes.append(f"{empty} cells have no count in the chosen genes: their usages are 0.")
        names = [matrix.feature_names[i] for i in at]
        fitted = Matrix(
            values,
            matrix.sample_names,
            names,
            labels=matrix.labels,
            label_names=matrix.label_names,
            sources=matrix.sources,
            citation=matrix.citation,
        )
        return fitted, [*notes, said]

    def _genes(self, matrix: Matrix) -> tuple[np.ndarray, str]:
        """Places of the chosen genes, ascending, and what is said of the choice."""
        names = matrix.feature_names
        varies = moments(matrix.values)[1] > 0
        if self.genes not in GENE_RULES:
            file = Path(self.genes).expanduser()
            wanted = dict.fromkeys(line.strip() for line in read_lines(file) if line.strip())
            listed = np.sort(positions(names, list(wanted), "X", "gene"))
            if not varies[listed].any():
                raise UserError(
                    f"no gene of {file} has different counts in different cells: there is nothing to fit"
                )
            return listed[varies[listed]], f"{varies[listed].sum()} genes of {file} are fitted."
        score = gene_variability(matrix.values, self.genes)  # type: ignore[arg-type]
        score[~varies] = -np.inf
        count = min(self.top_genes, int(np.isfinite(score).sum()))
        if count == 0:
            raise UserError(
                "no gene has different counts in different cells: there is nothing to fit"
            )
        at = np.sort(np.argsort(-score, kind="stable")[:count])
        return (
            at,
            f"{count} of {len(names)} genes, which vary most (rule {self.genes}), are fitted.",
        )

    # ------------------------------------------------------------------ after the fits
    def consensus(
        self, H: np.ndarray, clusters: metrics.RestartClusters
    ) -> tuple[metrics.DenseClusters, dict[str, float]]:
        """Medians of clusters of the components that have near neighbours."""
        found = self._dense(H)
        return found, {"kept": float(found.kept.mean())}

    def _dense(self, H: np.ndarray) -> metrics.DenseClusters:
        return metrics.dense_consensus(H, density=self.density, neighbours=self.neighbours)

    def extend(self, result: Selected, matrix: Matrix) -> Programs:
        """Programmes over all genes, usages and scores of the suggested rank."""
        rank = result.ranks[result.n_components]
        place = {name: i for i, name in enumerate(matrix.feature_names)}
        at = np.array([place[name] for name in result.feature_names])
        tpm = per_cell(matrix.values)
        first = _shares(rank.weights)
        used = first.sum(axis=1) > 0
        tpm_used = tpm[np.flatnonzero(used)]
        programs = refit_weights(tpm_used.T, first[used].T, 2.0).T
        deviations = _deviations(tpm[:, at])
        usages = refit_weights(_scaled(tpm[:, at], deviations), programs[:, at] / deviations, 2.0)
        shares = _shares(usages)
        dense = self._dense(rank.replicates)
        few = int((dense.distances < self.density).sum())
        if few < dense.kept.sum():
            result.notes.append(
                f"only {few} components of rank {rank.n_components} have neighbours within "
                f"selection.density={self.density:g}: none was left out"
            )
        fitted = np.zeros(len(place), bool)
        fitted[at] = True
        return Programs(
            usages=shares,
            tpm=programs,
            scores=gene_scores(tpm_used, shares[used]),
            fitted=fitted,
            names=result.names,
            cells=matrix.sample_names,
            genes=matrix.feature_names,
            classes=None
            if matrix.labels is None
            else [(matrix.label_names or [])[i] if i >= 0 else "" for i in matrix.labels],
            distances=dense.distances,
            density=self.density,
        )


def _counts_notes(matrix: Matrix) -> list[str]:
    """Refuse what is no count; what is said of fractions."""
    values = matrix.values
    stored = values.data if is_sparse(values) else values
    choose = "give the counts themselves (of an h5ad often data.layer=counts or data.layer=raw)"
    if matrix.mask is not None:
        raise UserError("cell programmes need every entry: use data.missing=error and no mask")
    if (stored < 0).any():
        raise UserError(
            f"{int((stored < 0).sum())} values are negative, so X holds no counts (it may be "
            f"centred): {choose}"
        )
    if are_counts(values):
        return []
    guess = nature(values)
    if guess == "log":
        raise UserError(f"X looks like log(1 + counts / total), which is no count: {choose}")
    if guess == "scaled":
        return ["X looks like counts divided by the total of their cell: cells weigh alike."]
    return [f"{int((stored % 1 != 0).sum())} values are fractions, and are taken as counts."]


def _deviations(values: Any) -> np.ndarray:
    """Standard deviations of columns, divisor n - 1; 1 for columns of one value."""
    n = values.shape[0]
    found = np.sqrt(moments(values)[1] * n / max(1, n - 1))
    return np.where(found > 0, found, 1.0)


def _scaled(values: Any, deviations: np.ndarray) -> Any:
    inverse = 1.0 / deviations[None]
    return values.multiply(inverse).tocsr() if is_sparse(values) else values * inverse


def _shares(weights: np.ndarray) -> np.ndarray:
    """Rows divided by their sums; rows of zeros stay."""
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
