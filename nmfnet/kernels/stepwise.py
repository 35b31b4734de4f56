"""Non-negative least squares with few components, by steps that add and remove them; numpy, float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def few_weights(
    h: FloatArray, known: FloatArray, add: float, remove: float, most: int
) -> tuple[list[int], FloatArray, float]:
    """Few rows of ``known`` whose non-negative sum is near h.

    The row that lowers the relative error most is added while it does so by more than ``add`` (the first
    one always); after each, rows whose loss costs no more than ``remove`` are taken out.

    Parameters
    ----------
    h : ndarray, shape (f,), not zero
    known : ndarray, shape (m, f)
    add, remove : float
        Thresholds on ``||h - sum|| / ||h||``; ``0 <= remove < add``, so that it ends.
    most : int
        Rows in a sum.

    Returns
    -------
    chosen : list of int
    weights : ndarray, shape (len(chosen),), >= 0
    error : float
        ``||h - sum|| / ||h||``.

    Source: after Díaz-Gay et al. 2023 (SigProfilerAssignment), add and remove penalties.
    """
    chosen: list[int] = []
    error = 1.0
    while len(chosen) < most:
        tried = {j: _error(h, known, [*chosen, j]) for j in range(len(known)) if j not in chosen}
        if not tried:
            break
        best = min(tried, key=tried.__getitem__)
        if chosen and error - tried[best] <= add:
            break
        chosen, error = [*chosen, best], tried[best]
        chosen = _pruned(h, known, chosen, remove)
        error = _error(h, known, chosen)
    return chosen, _weights(h, known, chosen), error


def _pruned(h: FloatArray, known: FloatArray, chosen: list[int], remove: float) -> list[int]:
    while len(chosen) > 1:
        whole = _error(h, known, chosen)
        without = {j: _error(h, known, [i for i in chosen if i != j]) for j in chosen}
        least = min(without, key=without.__getitem__)
        if without[least] - whole > remove:
            break
        chosen = [i for i in chosen if i != least]
    return chosen


def _weights(h: FloatArray, known: FloatArray, chosen: list[int]) -> FloatArray:
    from scipy.optimize import nnls

    return np.asarray(nnls(np.ascontiguousarray(known[chosen].T), h)[0])


def _error(h: FloatArray, known: FloatArray, chosen: list[int]) -> float:
    rest = h - _weights(h, known, chosen) @ known[chosen]
    return float(np.linalg.norm(rest) / np.linalg.norm(h))
