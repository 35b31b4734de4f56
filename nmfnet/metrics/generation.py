"""How good the rows are that a model draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nmfnet.errors import UserError


class Coverage(NamedTuple):
    """Of drawn rows, where the truth is a set of modes.

    Attributes
    ----------
    modes : int
        Modes that a row at least is near.
    share : float
        Of the rows, in [0, 1], that are near any.
    """

    modes: int
    share: float


def energy_distance(a: ArrayLike, b: ArrayLike) -> float:
    """``2 E|a - b| - E|a - a'| - E|b - b'|`` of two clouds of rows; 0 only for the same.

    Means are over all pairs, a row with itself among them, so that two samples of one law are a little
    above 0. Everything is in the units of the rows.

    Raises
    ------
    UserError
        If the clouds have other features.

    Source: Székely & Rizzo 2013, "Energy statistics: a class of statistics based on distances".
    """
    import torch

    from nmfnet.kernels.energy import energy_distance as of_tensors

    one, two = np.asarray(a, np.float64), np.asarray(b, np.float64)
    _same_features(one, two)
    return float(of_tensors(torch.tensor(one), torch.tensor(two)))


def mode_coverage(rows: ArrayLike, centres: ArrayLike, radius: float) -> Coverage:
    """How many centres have a row within the radius, and how many rows are within that of one.

    Raises
    ------
    UserError
        If rows and centres have other features.
    """
    from scipy.spatial.distance import cdist

    one, two = np.asarray(rows, np.float64), np.asarray(centres, np.float64)
    _same_features(one, two)
    near = cdist(one, two) <= radius
    return Coverage(int(near.any(0).sum()), float(near.any(1).mean()))


def _same_features(one: np.ndarray, two: np.ndarray) -> None:
    if one.shape[1] != two.shape[1]:
        raise UserError(f"rows of {one.shape[1]} features and rows of {two.shape[1]}")
