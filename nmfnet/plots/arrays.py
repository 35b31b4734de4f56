"""Checks and choices on the arrays that are to be drawn; no drawing here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nmfnet.errors import UserError


def matrix(values: Any, name: str) -> np.ndarray:
    """Return a dense float64 matrix; refuse other dimensions, emptiness and non-finite values.

    Raises
    ------
    UserError
        If the array is not two-dimensional, has no entry, or holds NaN or infinity.
    """
    array = np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=float)
    if array.ndim != 2 or array.size == 0:
        raise UserError(
            f"{name} has shape {array.shape}; a picture needs a non-empty matrix (rows, columns)."
        )
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise UserError(
            f"{name} holds {bad:,} of {array.size:,} values that are NaN or infinite; "
            "nothing sensible can be drawn. Did the training diverge?"
        )
    return array


def names_for(names: Sequence[str] | None, count: int, prefix: str, what: str) -> list[str]:
    """Return the given names as strings, or ``prefix1, prefix2, ...``.

    Raises
    ------
    UserError
        If the number of names is not ``count``.
    """
    if names is None:
        return [f"{prefix}{number + 1}" for number in range(count)]
    if len(names) != count:
        raise UserError(f"{len(names):,} names were given for {count:,} {what}; give one for each.")
    return [str(name) for name in names]


def unit_rows(values: np.ndarray) -> np.ndarray:
    """Divide each row by the sum of its absolute values; rows of zeros stay zeros."""
    total = np.abs(values).sum(axis=1, keepdims=True)
    shares: np.ndarray = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    return shares


def component_shares(W: ArrayLike | None, H: np.ndarray) -> np.ndarray | None:
    """Return each component's share of the sum of W H, shape (k,); None without W or if signed."""
    if W is None:
        return None
    weights = matrix(W, "W")
    if weights.shape[1] != H.shape[0]:
        raise UserError(
            f"W has {weights.shape[1]} columns and H has {H.shape[0]} rows; "
            "both count the components and must agree."
        )
    if weights.min() < 0 or H.min() < 0:
        return None
    amount: np.ndarray = weights.sum(axis=0) * H.sum(axis=1)
    total = float(amount.sum())
    return np.asarray(amount / (total or 1.0))


class Chosen(NamedTuple):
    """Components to be drawn: numbers, names, shares (or None), and a note if some are left out."""

    rows: np.ndarray
    names: list[str]
    shares: np.ndarray | None
    note: str


def choose_components(
    H: np.ndarray,
    W: ArrayLike | None,
    names: Sequence[str] | None,
    most: int,
    word: str = "component",
) -> Chosen:
    """Choose at most ``most`` components, in order: the largest if W is known, else the first."""
    count = H.shape[0]
    labels = names_for(names, count, "C", f"{word}s")
    shares = component_shares(W, H)
    rows = np.arange(count)
    note = ""
    if count > most:
        if shares is not None:
            rows = np.sort(np.argsort(-shares, kind="stable")[:most])
        rows = rows[:most]
        which = "first" if shares is None else "largest"
        note = f"The {which} {most} of {count:,} {word}s are shown."
    return Chosen(
        rows, [labels[row] for row in rows], None if shares is None else shares[rows], note
    )


def spread_rows(count: int, most: int) -> np.ndarray:
    """Return at most ``most`` row numbers, evenly spaced over ``count`` rows."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(int)


def specific_features(H: np.ndarray, most: int) -> np.ndarray:
    """Order features by the component they belong to, keeping the most specific of each.

    A feature belongs to the component in which its share (rows of H scaled to sum 1) is largest.
    Its score is that share times the fraction of the feature that this component holds: abundant
    and specific features come first.

    Returns
    -------
    ndarray of int
        At most ``most`` feature numbers, grouped by component, best first within each.
    """
    share = np.abs(unit_rows(H))  # (k, f)
    owner = share.argmax(axis=0)
    top = share.max(axis=0)
    total = share.sum(axis=0)
    score = top * np.divide(top, total, out=np.zeros_like(top), where=total > 0)
    order = np.lexsort((-score, owner))
    if order.size <= most:
        return order
    each = max(1, most // H.shape[0])
    kept = [order[owner[order] == component][:each] for component in range(H.shape[0])]
    return np.concatenate(kept)[:most]
