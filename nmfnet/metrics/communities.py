"""From extreme spots of a tissue to communities of spots, their markers and what is known of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    *("distinct_anchors", "markers_of", "nearest_spots"),
    *("signature_scores", "stable_matching"),
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def nearest_spots(coordinates: npt.ArrayLike, spots: npt.ArrayLike, count: int) -> IntArray:
    """Numbers of the ``count`` spots nearest to each of ``spots``, itself first; the first at ties."""
    places = np.asarray(coordinates, np.float64)
    of = places[np.asarray(spots, int)]
    squares = ((of[:, None] - places[None]) ** 2).sum(-1)
    squares[np.arange(len(of)), np.asarray(spots, int)] = -1
    return np.asarray(np.argsort(squares, axis=1, kind="stable")[:, :count])


def distinct_anchors(coordinates: npt.ArrayLike, anchors: npt.ArrayLike, nearest: int) -> IntArray:
    """Groups of archetypes whose anchors are all among each other's ``nearest`` spots: a number of each.

    By complete linkage of the rank that one anchor has among the neighbours of the other (the larger of
    the two), cut at ``nearest``.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    spots = np.asarray(anchors, int)
    if len(spots) < 2:
        return np.zeros(len(spots), np.int64)
    order = nearest_spots(coordinates, spots, len(np.asarray(coordinates)))
    rank = np.argsort(order, axis=1)[:, spots].astype(np.float64)
    apart = np.maximum(rank, rank.T)
    np.fill_diagonal(apart, 0)
    tree = linkage(squareform(apart), "complete")
    return np.asarray(fcluster(tree, nearest - 1, "distance") - 1, np.int64)


def markers_of(
    values: npt.ArrayLike, inside: npt.ArrayLike, most: int, level: float = 0.05
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Features that are larger inside a set of rows than outside it, the surest first.

    By Wilcoxon's rank-sum test (normal approximation with ties) of every feature, one-sided; the
    false discovery rate over all features by Benjamini and Hochberg.

    Parameters
    ----------
    values : array, shape (n, f)
    inside : array of bool, shape (n,)
    most : int
        Features that are returned at most; none has a rate above ``level``.

    Returns
    -------
    features : ndarray of int, shape (m,)
    rates : ndarray, shape (m,)
        Of false discoveries.
    differences : ndarray, shape (m,)
        Of the means inside and outside.

    Source: Wilcoxon 1945; Mann & Whitney 1947; Benjamini & Hochberg 1995.
    """
    from scipy.stats import false_discovery_control, mannwhitneyu

    x, member = np.asarray(values, np.float64), np.asarray(inside, bool)
    a, b = x[member], x[~member]
    p = mannwhitneyu(a, b, alternative="greater", method="asymptotic").pvalue
    p = np.where(np.isnan(p), 1.0, p)  # of a constant feature
    rates, apart = false_discovery_control(p), a.mean(0) - b.mean(0)
    order = np.lexsort((-apart, p))
    kept = order[rates[order] < level][:most]
    return kept, rates[kept], apart[kept]


def signature_scores(values: npt.ArrayLike, members: list[IntArray]) -> FloatArray:
    """Mean z-score of the features of every set in every row, shape (n, number of sets).

    Features that are constant count as 0.
    """
    x = np.asarray(values, np.float64)
    spread = x.std(0)
    z = np.divide(x - x.mean(0), spread, out=np.zeros_like(x), where=spread > 0)
    return np.stack([z[:, columns].mean(1) for columns in members], axis=1)


def stable_matching(scores: npt.ArrayLike, least: float = -np.inf) -> dict[int, int]:
    """Pairs of rows and columns of which no two would rather have each other.

    Rows propose to columns in the order of their scores, and a column keeps the best that has asked.
    Scores of ``least`` or below are no pair: such a row, or column, would rather stay alone.

    Parameters
    ----------
    scores : array, shape (n, m)
        How much row and column suit each other; both judge by it.

    Returns
    -------
    dict of int to int
        From rows to columns; not all need be in it.

    Source: Gale & Shapley 1962, "College admissions and the stability of marriage", section 3.
    """
    suits: Any = np.asarray(scores, np.float64)
    held: dict[int, int] = {}  # by column
    free = list(range(len(suits)))[::-1]
    wishes = {row: np.argsort(suits[row], kind="stable").tolist() for row in free}
    while free:
        row = free.pop()
        while wishes[row]:
            column = wishes[row].pop()
            if not suits[row, column] > least:
                break
            rival = held.get(column)
            if rival is None or suits[row, column] > suits[rival, column]:
                held[column] = row
                free += [] if rival is None else [rival]
                break
    return {row: column for column, row in sorted(held.items(), key=lambda pair: pair[1])}
