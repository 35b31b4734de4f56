"""Between which bounds the non-negative rank of a matrix lies (``nmfnet rank-bounds``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from nmfnet import metrics
from nmfnet.errors import UserError
from nmfnet.kernels.nnls import nnls
from nmfnet.types import Float, Tensor

EVERY = 50
"""Iterations after each of which the errors are looked at."""

MOST = 2000
"""Iterations at most."""

STILL = 1e-4
"""A best error that falls by less than this part of itself between two looks has ended above 0."""

BALANCING = 50
"""Rounds in which rows and columns are brought to the same size."""


class RankBounds(NamedTuple):
    """What is known of the non-negative rank: at least ``lower``, at most ``upper``.

    Attributes
    ----------
    shape : (int, int)
    rank : int
        The ordinary rank.
    fooling : int
        Entries of a fooling set.
    cover : RectangleCover
    errors : dict of int to float
        Least relative error over all starts, by number of components. It is that of X with every row
        and column divided by a number, which leaves the bounds as they are, so that small ones count.
    trivial : int
        Distinct directions of rows, or of columns: so many terms always do.
    tolerance : float
        A relative error below this is called exact.
    """

    shape: tuple[int, int]
    rank: int
    fooling: int
    cover: metrics.RectangleCover
    errors: dict[int, float]
    trivial: int
    tolerance: float

    @property
    def lower(self) -> int:
        """The largest of the lower bounds."""
        return max(self.rank, self.fooling, self.cover.size)

    @property
    def upper(self) -> int:
        """The fewest components with which an exact factorisation was found."""
        return min([*filter(self.exact, self.errors), self.trivial])

    def exact(self, k: int) -> bool:
        """Whether a factorisation into k components was found that nothing tells from X."""
        return k >= self.lower and self.errors[k] < self.tolerance


def rank_bounds(X: Any, starts: int = 50, tolerance: float = 1e-6, seed: int = 0) -> RankBounds:
    """Bounds of the non-negative rank of X.

    Parameters
    ----------
    X : array-like, shape (n, m), >= 0
    starts : int, >= 1
        Random starts of alternating non-negative least squares, in float64, for every number of
        components. That none is exact proves nothing: an upper bound is the number for which one is.
    tolerance : float, > 0
        Relative error below which a factorisation is exact.
    seed : int

    Raises
    ------
    UserError
        For negative values, or where all values are 0.
    """
    if starts < 1 or not tolerance > 0:
        raise UserError(
            f"starts={starts} and tolerance={tolerance:g}: needed are at least 1, and > 0"
        )
    pattern = metrics.support_of(X)
    values = np.asarray(X, np.float64)
    core = _directions(_directions(_balanced(values)).T).T
    bounds = RankBounds(
        shape=values.shape,  # type: ignore[arg-type]
        rank=int(np.linalg.matrix_rank(core)),
        fooling=len(metrics.fooling_set(pattern)),
        cover=metrics.rectangle_cover(pattern),
        errors={},
        trivial=min(core.shape),
        tolerance=tolerance,
    )
    x = torch.from_numpy(core / np.linalg.norm(core))
    for k in range(bounds.rank, bounds.trivial):
        bounds.errors[k] = least_error(x, k, starts, tolerance, seed)
        if bounds.exact(k):
            break
    return bounds


def least_error(x: Float[Tensor, "n f"], k: int, starts: int, tolerance: float, seed: int) -> float:
    """The least error of all starts of X ~ W H, relative to X of norm 1."""
    generator = torch.Generator().manual_seed(seed)
    W, H = (
        torch.rand(starts, *shape, generator=generator, dtype=torch.float64)
        for shape in ((x.shape[0], k), (k, x.shape[1]))
    )
    best = float("inf")
    for _ in range(0, MOST, EVERY):
        for _ in range(EVERY):
            W = nnls(H @ H.mT, x @ H.mT, W > 0)
            H = nnls(W.mT @ W, x.mT @ W, H.mT > 0).mT
        before, best = best, float((x - W @ H).square().sum((-2, -1)).min().sqrt())
        if best < tolerance or best > (1 - STILL) * before:
            break
    return best


def _balanced(values: np.ndarray) -> np.ndarray:
    """X without lines of zeros; every row and column divided by the geometric mean of what is not 0.

    What comes out is the same however rows and columns were multiplied before.
    """
    kept = values[values.any(1)][:, values.any(0)]
    there = kept > 0
    logs = np.log(kept, where=there, out=np.zeros_like(kept))
    for _ in range(BALANCING):
        for axis in (0, 1):
            logs -= logs.sum(axis, keepdims=True) / there.sum(axis, keepdims=True) * there
    return np.where(there, np.exp(logs), 0)


def _directions(table: np.ndarray) -> np.ndarray:
    """Rows that are no multiples of each other."""
    shares = np.round(table / table.sum(1, keepdims=True), 12)
    return table[np.sort(np.unique(shares, axis=0, return_index=True)[1])]


def lines(bounds: RankBounds) -> Iterator[tuple[str, str, str]]:
    """What is said of them: a bound, its value, how it was found."""
    n, m = bounds.shape
    cover = bounds.cover
    part = "" if cover.rows == cover.of else f", of {cover.rows} of {cover.of} distinct rows"
    yield "rank", f"{bounds.rank}", f"of the {n} x {m} matrix: at least"
    yield "fooling set", f"{bounds.fooling}", "entries, no two in one rectangle: at least"
    yield "rectangle cover", f"{cover.size}", f"rectangles of positive entries{part}: at least"
    yield "distinct directions", f"{bounds.trivial}", "of rows or columns: at most"
    for k, error in bounds.errors.items():
        if bounds.exact(k):
            said = "exact: at most"
        elif error < bounds.tolerance:
            said = "close to X, and not exact, as the bounds above show"
        else:
            said = "not exact, which proves nothing"
        yield f"{k} components", f"{error:.3g}", f"least relative error: {said}"
