"""Lower bounds of the non-negative rank: the fewest terms w hᵀ, w >= 0 and h >= 0, that sum to X.

Two of them look only at which entries are zero: every term covers a rectangle of positive entries.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from nmfnet.errors import UserError

__all__ = ["RectangleCover", "fooling_set", "rectangle_cover", "support_of"]

ROWS = 12
"""Distinct rows of zeros and non-zeros of which all rectangles are listed (2 to this power)."""

ENTRIES = 400
"""Distinct positive entries up to which the largest fooling set is sought, and not just a large one."""

SECONDS = 20.0
"""For an integer programme: after that its best answer so far is taken, which is a bound as well."""


class RectangleCover(NamedTuple):
    """Fewest rectangles of positive entries that cover all of them.

    Attributes
    ----------
    size : int
        A lower bound of the non-negative rank.
    rows : int
        Distinct rows of the pattern that were looked at.
    of : int
        How many there are: the cover is exact where all were looked at.
    """

    size: int
    rows: int
    of: int


def support_of(X: Any, tol: float = 0.0) -> np.ndarray:
    """The pattern of entries above ``tol``, without rows and columns that are empty or repeated.

    Raises
    ------
    UserError
        For negative entries, and where no entry is positive.
    """
    values = np.asarray(X, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise UserError("the non-negative rank is that of a matrix of finite numbers")
    if negative := int((values < 0).sum()):
        raise UserError(f"X has {negative} negative values: only X >= 0 has a non-negative rank")
    pattern = values > tol
    if not pattern.any():
        raise UserError("all entries of X are 0: its rank and its non-negative rank are 0")
    for axis in (0, 1):
        pattern = np.unique(pattern, axis=axis)
        pattern = pattern.compress(pattern.any(1 - axis), axis=axis)
    return pattern


def fooling_set(pattern: np.ndarray) -> list[tuple[int, int]]:
    """Positive entries, no two of which can lie in one rectangle: X[i, l] X[k, j] = 0 for any two.

    The largest for few entries, a large one for many.

    Source: Cohen & Rothblum 1993, "Nonnegative ranks, decompositions, and factorizations of nonnegative
    matrices"; Fiorini et al. 2013, "Combinatorial bounds on nonnegative rank and extended formulations".
    """
    at = np.argwhere(pattern)
    together = pattern[np.ix_(at[:, 0], at[:, 1])]
    clash = together & together.T  # in one rectangle
    np.fill_diagonal(clash, False)
    return [(int(at[e, 0]), int(at[e, 1])) for e in _apart(clash)]


def _apart(clash: np.ndarray) -> list[int]:
    """Many numbers, no two of which clash: from each in turn the one with the fewest clashes left."""
    if len(clash) <= ENTRIES and (exact := _most_apart(clash)) is not None:
        return exact
    best: list[int] = []
    for first in range(min(len(clash), ENTRIES)):
        chosen, left = [first], ~clash[first]
        left[first] = False
        while left.any():
            open_ = np.flatnonzero(left)
            one = int(open_[clash[np.ix_(open_, open_)].sum(1).argmin()])
            chosen.append(one)
            left &= ~clash[one]
            left[one] = False
        best = max(best, chosen, key=len)
    return best


def _most_apart(clash: np.ndarray) -> list[int] | None:
    """The same as an integer programme: the most numbers, at most one of every pair that clashes."""
    pairs = np.argwhere(np.triu(clash))
    n = len(clash)
    if not len(pairs):
        return list(range(n))
    found = _solve(-np.ones(n), _incidence(pairs, n), -np.inf, 1)
    return None if found.x is None else np.flatnonzero(found.x > 0.5).tolist()


def rectangle_cover(pattern: np.ndarray) -> RectangleCover:
    """How many rectangles of positive entries it takes to cover all positive entries.

    Exact up to 12 distinct rows (or columns, if these are fewer); else of 12 rows, first those of a
    fooling set, which is a lower bound still.

    Source: Cohen & Rothblum 1993; Gregory & Pullman 1983, "Semiring rank: Boolean rank and nonnegative
    rank factorizations".
    """
    wide = pattern if pattern.shape[0] <= pattern.shape[1] else pattern.T
    of = len(wide)
    if of > ROWS:
        first = dict.fromkeys(row for row, _ in fooling_set(wide))
        chosen = [*first, *(row for row in range(of) if row not in first)][:ROWS]
        wide = support_of(wide[sorted(chosen)])
    n = len(wide)
    rectangles = set[tuple[bytes, bytes]]()
    for size in range(1, n + 1):
        for rows in combinations(range(n), size):
            columns = wide[list(rows)].all(0)
            if columns.any():  # as many rows as these columns allow
                rectangles.add((wide[:, columns].all(1).tobytes(), columns.tobytes()))
    sides = [tuple(np.frombuffer(side, bool) for side in one) for one in sorted(rectangles)]
    entries = np.argwhere(wide)
    covers = np.array([rows[entries[:, 0]] & columns[entries[:, 1]] for rows, columns in sides])
    found = _solve(np.ones(len(sides)), covers.T.astype(float), 1, np.inf)
    bound = found.fun if found.status == 0 else found.mip_dual_bound
    return RectangleCover(int(np.ceil(bound - 1e-6)), min(of, ROWS), of)


def _incidence(pairs: np.ndarray, n: int) -> Any:
    import scipy.sparse as sp

    where = np.repeat(np.arange(len(pairs)), 2), pairs.ravel()
    return sp.csr_matrix((np.ones(pairs.size), where), shape=(len(pairs), n))


def _solve(costs: np.ndarray, A: Any, least: float, most: float) -> Any:
    from scipy.optimize import Bounds, LinearConstraint, milp

    return milp(
        costs,
        integrality=np.ones(len(costs), dtype=int),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(A, least, most),
        options={"time_limit": SECONDS},
    )
