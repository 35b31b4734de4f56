"""Pictures of likeness: components against a reference, samples that cluster together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nmfnet.errors import UserError
from nmfnet.plots import style
from nmfnet.plots.arrays import matrix, names_for, spread_rows
from nmfnet.plots.spectra import channel_key

__all__ = [
    *(
        "align_reference",
        "consensus_matrix",
        "cosine_heatmap",
        "cosines",
        "links_by_cluster",
        "match",
    ),
]


def cosines(H: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """Return the cosine of every row of H with every row of the reference; 0 for rows of zeros.

    Parameters
    ----------
    H : array, shape (k, f)
        Components.
    reference : array, shape (r, f)
        Others, over the same features in the same order.

    Returns
    -------
    ndarray, shape (k, r)
        Between -1 and 1.
    """
    left, right = matrix(H, "H"), matrix(reference, "The reference")
    if left.shape[1] != right.shape[1]:
        raise UserError(
            f"H has {left.shape[1]} features and the reference {right.shape[1]}; "
            "both must hold the same features in the same order."
        )
    scaled = []
    for values in (left, right):
        norm = np.linalg.norm(values, axis=1, keepdims=True)
        scaled.append(np.divide(values, norm, out=np.zeros_like(values), where=norm > 0))
    return np.asarray(scaled[0] @ scaled[1].T)


def align_reference(
    reference: Any, feature_names: Sequence[str] | None
) -> tuple[np.ndarray, list[str] | None]:
    """Return a reference as an array in the order of the features, and its row names if it has any.

    Parameters
    ----------
    reference : pandas.DataFrame or array, shape (r, f)
        A table with feature labels as columns is joined by label (spellings of mutation channels
        are harmonised; columns the data lack are dropped). An array, or an object with an array
        ``values`` and a list ``names``, is taken as it is.
    feature_names : sequence of str, length f, optional
        Labels of the data's features.

    Raises
    ------
    UserError
        If the table lacks a feature of the data.
    """
    if hasattr(reference, "values") and not hasattr(reference, "columns"):
        return matrix(reference.values, "The reference"), [str(name) for name in reference.names]
    if feature_names is None or not hasattr(reference, "columns"):
        names = [str(name) for name in reference.index] if hasattr(reference, "columns") else None
        return matrix(reference, "The reference"), names
    place = {channel_key(str(name)): at for at, name in enumerate(reference.columns)}
    missing = [name for name in feature_names if channel_key(str(name)) not in place]
    if missing:
        raise UserError(
            f"The reference lacks {len(missing):,} of {len(feature_names):,} features, first "
            f"'{missing[0]}'; its columns start with '{reference.columns[0]}'. Both must use the "
            "same labels."
        )
    columns = [place[channel_key(str(name))] for name in feature_names]
    return matrix(reference, "The reference")[:, columns], [str(name) for name in reference.index]


def match(cosine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the one-to-one pairs (rows, columns) with the largest sum (Hungarian algorithm)."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-cosine)
    return rows, columns


def cosine_heatmap(
    H: ArrayLike,
    reference: ArrayLike,
    names: Sequence[str] | None = None,
    reference_names: Sequence[str] | None = None,
    *,
    kind: str = "generic",
    max_references: int = 30,
    max_components: int = 40,
) -> Figure:
    """Draw the cosine of each component with each reference; the one-to-one matches are framed.

    Components keep their order; references are ordered along their matches. Of a large reference
    only the matched and, for each component, the most similar ones are drawn.

    Parameters
    ----------
    H : array, shape (k, f)
        Components.
    reference : array, shape (r, f)
        Reference components over the same features in the same order.
    names, reference_names : sequence of str, optional
        Names of the rows (C1, ...) and columns (R1, ...).
    kind : str
        Kind of data, for the words of the title.
    max_references, max_components : int
        Most columns and rows that are drawn; the figure says so where it leaves some out.

    Raises
    ------
    UserError
        If the numbers of features differ or names do not fit.
    """
    cosine = cosines(H, reference)
    rows, columns = match(cosine)
    field = style.words(kind)
    k, r = cosine.shape
    labels = names_for(names, k, "C", f"{field.component}s")
    others = names_for(reference_names, r, "R", "reference components")
    mean = float(cosine[rows, columns].mean())
    partner = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    shown = np.arange(k)
    if k > max_components:
        best = cosine.max(axis=1)
        shown = np.sort(np.argsort(-best, kind="stable")[:max_components])
    most = min(max_references, max(8, 3 * len(shown)))
    order = _references(cosine[shown], [partner.get(int(row)) for row in shown], most)
    note = f"Framed: one-to-one matches, mean cosine {mean:.3f}."
    if len(order) < r:
        note += f" The {len(order)} most similar of {r:,} references."
    if k > max_components:
        note += f" The {max_components} best matched of {k:,} {field.component}s."
    cell_width, cell = float(np.clip(8.0 / len(order), 0.27, 0.5)), 0.235
    left = 0.3 + 0.07 * min(18, max(len(label) for label in labels))
    above = 0.15 + 0.07 * min(18, max(len(others[column]) for column in order))
    width, height = len(order) * cell_width, len(shown) * cell
    figure = style.new_figure(max(4.6, left + width + 0.15), style.HEAD + above + height + 0.5)
    good = int((cosine[rows, columns] >= 0.9).sum())
    title = f"{good} of {style.plural(field.component, k)} match a reference with cosine ≥ 0.9"
    style.heading(figure, title, note)
    axes = style.panel(figure, left, style.HEAD + above, width, height, label="cosine")
    values = cosine[shown][:, order]
    cmap, limits = style.heat_map(axes, values, most=1.0)
    axes.set_yticks(range(len(shown)), [style.shorten(labels[row], 18) for row in shown])
    axes.set_xticks(range(len(order)), [style.shorten(others[c], 18) for c in order], rotation=90)
    axes.xaxis.tick_top()
    pairs = [
        (y, order.index(partner[row])) for y, row in enumerate(shown.tolist()) if row in partner
    ]
    _frame(axes, pairs, values)
    top = style.size(figure)[1] - 0.32
    style.colour_scale(figure, 0.3, top, cmap=cmap, limits=limits, label="cosine")
    return figure


def _frame(axes: Axes, pairs: list[tuple[int, int]], values: np.ndarray) -> None:
    """Frame cells (row, column) and write their values."""
    box = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    frames = [box + np.array([column, row]) for row, column in pairs]
    drawn = PolyCollection(
        frames, facecolors="none", edgecolors=style.SECOND, linewidths=1.4, label="matches"
    )
    drawn.set_clip_on(False)
    axes.add_collection(drawn, autolim=False)
    for row, column in pairs:
        value = float(values[row, column])
        text = f"{value:.2f}".replace("0.", ".", 1)
        look: dict[str, Any] = {"size": style.SMALL, "ha": "center", "va": "center"}
        style.write(
            axes, column, row, text, colour="white" if abs(value) > 0.6 else style.INK, **look
        )


def _references(cosine: np.ndarray, partners: list[int | None], most: int) -> list[int]:
    """Choose and order references: matches in the components' order, then the next most similar."""
    order = [column for column in partners if column is not None]
    rest = [int(column) for column in np.argsort(-cosine.max(axis=0), kind="stable")]
    taken = set(order)
    order += [column for column in rest if column not in taken]
    return order[: max(most, len(taken))]


def consensus_matrix(
    C: ArrayLike,
    sample_names: Sequence[str] | None = None,
    *,
    n_components: int | None = None,
    max_samples: int = 600,
) -> Figure:
    """Draw how often each pair of samples fell into the same cluster, in clustered order.

    Source: Brunet et al. 2004 (consensus matrix, average linkage on 1 - consensus).

    Parameters
    ----------
    C : array, shape (n, n)
        Symmetric; share of restarts, between 0 and 1, in which two samples have the same largest
        component.
    sample_names : sequence of str, length n, optional
        Written where they fit (up to 60 samples).
    n_components : int, optional
        Number of components behind the matrix, for the title.
    max_samples : int
        With more samples, evenly spaced ones are clustered and drawn, and the figure says so.

    Raises
    ------
    UserError
        If the matrix is not square, not symmetric or not between 0 and 1.
    """
    values = matrix(C, "The consensus matrix")
    n = values.shape[0]
    proper = values.shape == (n, n) and values.min() >= -1e-9 and values.max() <= 1 + 1e-9
    if not proper or not np.allclose(values, values.T, atol=1e-6):
        raise UserError(
            f"The consensus matrix has shape {values.shape} and values from {values.min():.3g} to "
            f"{values.max():.3g}; it must be square, symmetric and between 0 and 1."
        )
    names = names_for(sample_names, n, "sample ", "samples")
    rows = spread_rows(n, max_samples)
    values = values[np.ix_(rows, rows)]
    order = _clustered(values)
    values = values[np.ix_(order, order)]
    named = n <= 60
    margin = 0.2 + (0.066 * min(18, max(map(len, names))) if named else 0.1)
    side = 4.6 if not named else max(2.6, 0.115 * n)
    figure = style.new_figure(max(4.4, margin + side + 0.2), style.HEAD + side + margin + 0.45)
    title = "Samples that cluster together"
    if n_components is not None:
        title += f", {style.plural('component', n_components)}"
    sure = float(np.mean(np.maximum(values, 1 - values) >= 0.95))
    note = f"{sure:.0%} of the pairs agree in at least 95 % of the restarts."
    if len(rows) < n:
        note += f" {len(rows)} of {n:,} samples, evenly spaced."
    style.heading(figure, title, note)
    axes = style.panel(figure, margin, style.HEAD, side, side, label="consensus")
    cmap, limits = style.heat_map(axes, np.clip(values, 0, 1), most=1.0)
    if named:
        texts = [style.shorten(names[rows[row]], 18) for row in order]
        axes.set_xticks(range(n), texts, rotation=90)
        axes.set_yticks(range(n), texts)
    else:
        axes.set(xticks=[], yticks=[])
        style.label_axes(axes, x="samples, clustered")
    top, text = style.size(figure)[1] - 0.32, "share of restarts in the same cluster"
    style.colour_scale(figure, 0.3, top, cmap=cmap, limits=limits, label=text)
    return figure


def links_by_cluster(links: Any, clusters: ArrayLike, *, cells: int = 300) -> Figure:
    """Draw the links between nodes in the order of their clusters, the largest first.

    Parameters
    ----------
    links : array or scipy sparse matrix, shape (n, n)
        Weights >= 0; 0 = no link.
    clusters : array of int, shape (n,)
        Cluster of every node; -1 = none, drawn last.
    cells : int, >= 1
        With more nodes, a cell is the mean of the links of several.

    Raises
    ------
    UserError
        If there is not a cluster for every node.
    """
    from scipy.sparse import coo_matrix

    found, table = np.asarray(clusters), coo_matrix(links)
    n = len(found)
    if table.shape != (n, n):
        raise UserError(
            f"There are {n} clusters for links of shape {table.shape}: give one per node."
        )
    known, sizes = np.unique(found, return_counts=True)
    last = sorted(zip(known == -1, -sizes, known, strict=True))
    place = np.empty(n, dtype=int)
    order = np.concatenate([np.flatnonzero(found == name) for *_, name in last])
    place[order] = np.arange(n)
    side = min(n, cells)
    bins = place * side // n
    drawn = np.zeros((side, side))
    np.add.at(drawn, (bins[table.row], bins[table.col]), table.data)
    many = np.bincount(bins, minlength=side)
    drawn /= np.outer(many, many)
    width, margin = 4.4, 0.3
    figure = style.new_figure(width + 2 * margin, style.HEAD + width + 0.55)
    within = float(
        table.data[found[table.row] == found[table.col]].sum() / max(table.data.sum(), 1e-300)
    )
    note = f"{style.percent(within)} of the weight of the links is within clusters."
    style.heading(figure, f"Links between {n:,} nodes, by cluster", note)
    axes = style.panel(figure, margin, style.HEAD, width, width, label="links")
    cmap, limits = style.heat_map(
        axes, drawn, most=float(np.quantile(drawn[drawn > 0], 0.95)) or None
    )
    ends = np.cumsum([-size for _, size, _ in last])[:-1] * side / n - 0.5
    for end in ends:
        axes.axhline(end, color=style.INK, linewidth=0.5)
        axes.axvline(end, color=style.INK, linewidth=0.5)
    axes.set(xticks=[], yticks=[])
    style.label_axes(axes, x=f"nodes in {style.plural('cluster', len(known))}, the largest first")
    top, text = style.size(figure)[1] - 0.32, "mean weight of a link"
    style.colour_scale(figure, 0.3, top, cmap=cmap, limits=limits, label=text)
    return figure


def _clustered(consensus: np.ndarray) -> np.ndarray:
    """Return the order of the leaves of average-linkage clustering of ``1 - consensus``."""
    n = len(consensus)
    if n < 3:
        return np.arange(n)
    from scipy.cluster.hierarchy import leaves_list, linkage

    distance = np.clip(1 - consensus, 0, None)[np.triu_indices(n, 1)]
    return leaves_list(linkage(distance, method="average"))
