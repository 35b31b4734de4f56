"""Profiles of components from samples drawn anew: which are found again, and how far they move."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.metrics._checks import as_dense

__all__ = ["Profiles", "drawn_rows", "mapped_components", "profiles_of_draws"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

ENDS = (5.0, 50.0, 95.0)
"""Percentiles over draws."""


class Profiles(NamedTuple):
    """Components of the data, and of draws of their samples.

    Attributes
    ----------
    shares : ndarray, shape (k, f)
        Components of the data, rows sum to 1.
    low, middle, high : ndarray, shape (k, f)
        Percentiles 5, 50 and 95 of the components that were mapped to them, rows of which sum to 1; NaN
        where none was.
    found : ndarray, shape (k,)
        Share of the draws in which a component was mapped to this one, in [0, 1].
    unmapped : float
        Share of all components of all draws that were mapped to none.
    """

    shares: FloatArray
    low: FloatArray
    middle: FloatArray
    high: FloatArray
    found: FloatArray
    unmapped: float


def drawn_rows(n: int, block: int, rng: np.random.Generator) -> IntArray:
    """Rows in blocks of neighbours, each block drawn with replacement, until there are n.

    Parameters
    ----------
    n : int
        Rows that there are.
    block : int, 1 <= block <= n
        Rows of a block: about as many as are alike, where the rows are a series in time.
    rng : numpy.random.Generator

    Source: Künsch 1989.
    """
    if not 1 <= block <= n:
        raise UserError(f"a block of {block} rows cannot be drawn from {n}: give 1 to {n}")
    starts = rng.integers(0, n - block + 1, -(-n // block))
    return (starts[:, None] + np.arange(block)).ravel()[:n]


def mapped_components(base: Any, drawn: Any, least: float = 0.6) -> tuple[IntArray, FloatArray]:
    """To which component each one of a draw belongs: that with the most correlated weights.

    Parameters
    ----------
    base : array, shape (n, k)
        Weights of the data, at the rows that were drawn.
    drawn : array, shape (n, l)
        Weights of the draw, at the same rows.
    least : float
        Correlation from which on a component belongs to another.

    Returns
    -------
    ndarray of int, shape (l,)
        -1 = to none. Several may belong to one.
    ndarray, shape (l,)
        The correlations, 0 where weights are constant.

    Source: Norris et al. 2014 (EPA PMF 5.0); Paatero et al. 2014.
    """
    one, other = (_unit(as_dense(word, W, 2)) for word, W in (("base", base), ("drawn", drawn)))
    correlation = one.T @ other
    at = correlation.argmax(0)
    highest = correlation[at, np.arange(len(at))]
    return np.where(highest >= least, at, -1), highest


def _unit(W: FloatArray) -> FloatArray:
    """Columns less their mean, of length 1 (constant ones are 0)."""
    centred = W - W.mean(0)
    size = np.linalg.norm(centred, axis=0)
    tiny = 1e-12 * np.linalg.norm(W, axis=0)
    return np.divide(centred, size, out=np.zeros_like(centred), where=size > tiny)


def profiles_of_draws(
    W: Any, H: Any, draws: Iterable[tuple[IntArray, Any, Any]], least: float = 0.6
) -> Profiles:
    """Compare the components of the data with those of draws.

    Parameters
    ----------
    W : array, shape (n, k)
    H : array, shape (k, f)
        Non-negative.
    draws : iterable of (rows, W, H)
        The rows that were drawn, and the factors that were fitted to them.
    least : float
        See `mapped_components`. Where several components of a draw belong to one, the most correlated
        is its profile.

    Raises
    ------
    UserError
        There are no draws.
    """
    base, shares = as_dense("W", W, 2), _shares(H)
    profiles, lost, all_of_them = [], 0, 0
    for rows, codes, components in draws:
        at, highest = mapped_components(base[rows], codes, least)
        drawn = _shares(components)
        profile = np.full_like(shares, np.nan)
        for j in np.argsort(highest):
            if at[j] >= 0:
                profile[at[j]] = drawn[j]
        profiles.append(profile)
        lost, all_of_them = lost + int((at < 0).sum()), all_of_them + len(at)
    if not profiles:
        raise UserError("there are no draws: give at least one")
    stack = np.stack(profiles)
    seen = np.asarray(np.isfinite(stack).all(2))
    low, middle, high = ends = np.full((3, *shares.shape), np.nan)
    for i in range(len(shares)):
        if seen[:, i].any():
            ends[:, i] = np.percentile(stack[seen[:, i], i], ENDS, axis=0)
    return Profiles(shares, low, middle, high, seen.mean(0), lost / all_of_them)


def _shares(H: Any) -> FloatArray:
    """Rows divided by their sums (zero rows stay zero)."""
    components = as_dense("H", H, 2)
    total = components.sum(1, keepdims=True)
    return np.divide(components, total, out=np.zeros_like(components), where=total > 0)
