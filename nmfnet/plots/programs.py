"""Pictures of the programmes of cells: their marker genes, and which components are near others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.errors import UserError
from nmfnet.plots import style
from nmfnet.plots.arrays import matrix, names_for

__all__ = ["component_density", "marker_genes"]

MOST = 60
"""Genes that are drawn."""

MOST_LETTERS = 16
"""Of a gene: as many as an identifier of Ensembl has."""


def marker_genes(
    scores: ArrayLike,
    genes: Sequence[Sequence[int]],
    gene_names: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw the scores of the marker genes of every programme in all programmes.

    Parameters
    ----------
    scores : array, shape (k, n_genes)
        Standard deviations from the mean of the gene.
    genes : sequence of k sequences of int
        Markers of every programme, the best first; each gene is drawn once.
    gene_names, names : sequence of str, optional
        Of genes and programmes.

    Raises
    ------
    UserError
        If there is no marker, or names do not fit.
    """
    values = matrix(scores, "The table of scores")
    k, f = values.shape
    labels = names_for(names, k, "C", "programmes")
    words = names_for(gene_names, f, "gene ", "genes")
    each = max(1, MOST // max(1, k))
    order = list(dict.fromkeys(gene for some in genes for gene in some[:each]))
    if not order:
        raise UserError("No gene has a positive score; there is nothing to draw.")
    left = 0.3 + 0.07 * min(18, max(map(len, labels)))
    below = 0.15 + 0.07 * min(MOST_LETTERS, max(len(words[gene]) for gene in order))
    width, height = max(4.0, 0.155 * len(order)), 0.235 * k
    figure = style.new_figure(left + width + 0.2, style.HEAD + height + below + 0.55)
    title = f"Marker genes of {style.plural('programme', k)}"
    note = f"The {min(each, max(map(len, genes)))} genes of largest score of each, drawn once."
    style.heading(figure, title, note)
    axes = style.panel(figure, left, style.HEAD, width, height, label="scores")
    cmap, limits = style.heat_map(axes, values[:, order])
    axes.set_yticks(range(k), [style.shorten(label, 18) for label in labels])
    axes.set_xticks(
        range(len(order)), [style.shorten(words[g], MOST_LETTERS) for g in order], rotation=90
    )
    top = style.size(figure)[1] - 0.32
    label = "score: standard deviations from the mean of the gene"
    style.colour_scale(figure, 0.3, top, cmap=cmap, limits=limits, label=label)
    return figure


def component_density(distances: ArrayLike, density: float) -> Figure:
    """Draw how near the components of all starts are to their neighbours.

    Parameters
    ----------
    distances : array, shape (replicates, k)
        Mean distance of every component to its neighbours, between vectors of length 1.
    density : float
        The largest with which a component is kept; drawn as a line.

    Raises
    ------
    UserError
        If there is no component.
    """
    values = matrix(distances, "The table of distances").ravel()
    most = max(float(values.max()), min(density, 1.5)) * 1.05
    heights, edges = np.histogram(values, bins=40, range=(0.0, most))
    figure = style.new_figure(5.2, style.HEAD + 2.4)
    kept = int((values < density).sum())
    title = f"{kept} of {style.plural('component', values.size)} near their neighbours"
    style.heading(figure, title, f"Dashed: selection.density={density:g}.", left=0.6)
    axes = style.panel(figure, 0.6, style.HEAD + 0.1, 4.4, 1.75, label="density", grid="y")
    centre = (edges[:-1] + edges[1:]) / 2
    style.bars(axes, heights, style.MAIN, at=centre, thickness=0.9 * (edges[1] - edges[0]))
    axes.set_xlim(0, most)
    axes.set_ylim(0, 1.08 * heights.max())
    if density <= most:
        axes.axvline(density, color=style.GREY, linestyle="--", linewidth=0.9)
    style.label_axes(axes, x="mean distance to the neighbours", y="components")
    return figure
