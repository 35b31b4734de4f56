"""Which columns of a design say something that the columns before them do not."""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-8
"""A column is a combination of others if less than this part of its length is left beside them."""


def leading_columns(values: np.ndarray) -> np.ndarray:
    """Numbers of the columns that are no combination of a constant and the columns before them.

    By Gram-Schmidt, in order, each column about its mean and by its own length.

    Parameters
    ----------
    values : ndarray, shape (n, c)

    Returns
    -------
    ndarray of int64
        Ascending.
    """
    kept: list[int] = []
    basis = np.zeros((len(values), 0))
    for j, column in enumerate(values.T.astype(np.float64)):
        rest = column - column.mean()
        own = np.linalg.norm(rest)
        for _ in range(2):  # once more, for what rounding has left
            rest = rest - basis @ (basis.T @ rest)
        size = np.linalg.norm(rest)
        if size > TOLERANCE * max(own, TOLERANCE * np.linalg.norm(column)):
            basis = np.column_stack([basis, rest / size])
            kept.append(j)
    return np.array(kept, dtype=np.int64)
