"""Cosine similarity of components, and the one-to-one assignment that makes it largest (numpy).

Components carry no order, so every comparison of two factorisations starts here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Assignment", "assign", "cosine_matrix"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


class Assignment(NamedTuple):
    """A one-to-one assignment of rows to columns of a score matrix.

    Attributes
    ----------
    rows, columns : ndarray of int, shape (min(a, b),)
        The pairs ``(rows[i], columns[i])``; ``rows`` ascends.
    scores : ndarray, shape (min(a, b),)
        Their scores.
    """

    rows: IntArray
    columns: IntArray
    scores: FloatArray


def cosine_matrix(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """Cosine of every row of ``a`` with every row of ``b``: ``a_i . b_j / (|a_i| |b_j|)``.

    Parameters
    ----------
    a : array, shape (..., a, f)
        Components as rows; leading dimensions (restarts) broadcast against those of ``b``.
    b : array, shape (..., b, f)
        Components as rows.

    Returns
    -------
    ndarray, shape (..., a, b)
        In [-1, 1], no unit; [0, 1] for non-negative components. 0 where a component is all zero.
    """
    return _unit_rows(a) @ np.swapaxes(_unit_rows(b), -1, -2)


def _unit_rows(a: npt.ArrayLike) -> FloatArray:
    """Rows divided by their Euclidean norm (zero rows stay zero), safe for very small entries."""
    values = np.asarray(a, dtype=np.float64)
    peak = np.abs(values).max(axis=-1, keepdims=True, initial=0.0)
    scaled = np.divide(values, peak, out=np.zeros_like(values), where=peak > 0)
    norm = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return np.asarray(scaled / np.where(norm > 0, norm, 1.0))


def assign(scores: npt.ArrayLike) -> Assignment:
    """One-to-one assignment of rows to columns with the largest total score (Hungarian problem).

    Parameters
    ----------
    scores : array, shape (a, b)
        Finite scores, larger is better. With a != b the longer side keeps unassigned members.

    Returns
    -------
    Assignment
        ``min(a, b)`` pairs.

    Notes
    -----
    Source: Kuhn 1955; solved by the shortest augmenting path method (Crouse 2016) of scipy.
    """
    from scipy.optimize import linear_sum_assignment

    table = np.asarray(scores, dtype=np.float64)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return Assignment(rows, columns, table[rows, columns])
