"""Weights of the data on components that are given, and how sure they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from nmfnet.kernels.arrays import as_tensor
from nmfnet.kernels.extrapolation import begin
from nmfnet.kernels.matrix import matrix as prepared
from nmfnet.kernels.newton import newton
from nmfnet.kernels.refit import refit_W

__all__ = ["Intervals", "intervals", "refit_weights"]

FloatArray = npt.NDArray[np.float64]

STEPS, ROUNDS, TOL = 10, 100, 1e-8


def refit_weights(values: Any, components: Any, beta: float | None, mask: Any = None) -> FloatArray:
    """``argmin_{W >= 0} D(X | W H)`` for given components, a convex problem.

    Parameters
    ----------
    values : ndarray or csr_matrix, shape (n, f)
    components : array, shape (k, f)
        Non-negative for KL.
    beta : float or None
        1 = generalised Kullback-Leibler divergence (Poisson likelihood); anything else least
        squares.
    mask : ndarray or csr_matrix of bool, shape (n, f), optional
        True = observed.

    Returns
    -------
    ndarray, shape (n, k)
    """
    x = as_tensor(values, torch.float64)
    seen = None if mask is None else as_tensor(mask, torch.float64)
    H = as_tensor(components, torch.float64)
    if beta != 1 or bool((H < 0).any()):
        return refit_W(x, H, 2.0, 1.0, seen).numpy()
    totals = np.asarray(values.sum(axis=1), np.float64).reshape(-1, 1)
    mass = max(float(H.sum()), 1e-300)
    W = torch.as_tensor(np.repeat(np.maximum(totals, 1e-12) / mass, H.shape[0], axis=1))
    state, data = begin(W, H), prepared(x, seen)
    before = float("inf")
    for _ in range(ROUNDS):
        now = float(newton(state, data, STEPS, beta=1, fit_h=False))
        if before - now <= TOL * abs(now):
            break
        before = now
    found = state.W[0].numpy().copy()
    found[totals[:, 0] == 0] = 0.0
    found[found < 1e-9 * np.maximum(totals, 1.0)] = 0.0  # KL steps approach 0 and never reach it
    return np.asarray(found)


class Intervals(NamedTuple):
    """Bootstrap of the weights; each of shape (n, k).

    Attributes
    ----------
    low, high : ndarray
        Percentiles 2.5 and 97.5 over replicates, in the unit of X.
    present : ndarray
        Share of replicates in which the component has more than 1 % of the sample's total.
    """

    low: FloatArray
    high: FloatArray
    present: FloatArray


def intervals(draws: list[FloatArray]) -> Intervals:
    """Percentiles of the weights of replicates, each shape (n, k), components in one order."""
    stack = np.stack(draws)
    low, high = np.percentile(stack, (2.5, 97.5), axis=0)
    share = stack > 0.01 * stack.sum(axis=2, keepdims=True)
    return Intervals(low, high, share.mean(axis=0))
