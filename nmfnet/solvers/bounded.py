"""SciPy's L-BFGS-B on a problem of one restart: the independent descent of certificates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from nmfnet.core.constraints import ANY, NON_NEGATIVE
from nmfnet.solvers.descent import Problem
from nmfnet.types import Tensor

NON_POSITIVE = (-math.inf, 0.0)


def minimise(
    problem: Problem,
    scales: list[float],
    n_iter: int,
    *,
    memory: int = 10,
    most: int | None = None,
    enough: float = -math.inf,
) -> float:
    """Move a problem of one restart to the lowest point found, and give its objective.

    Parameters
    ----------
    problem : Problem
    scales : list of float
        Unit that each parameter is measured in.
    n_iter : int
        Iterations.
    memory : int
        Corrections kept.
    most : int, optional
        Evaluations of the objective; by default 20 per iteration.
    enough : float
        End below this objective.

    Entries under an l1 penalty of any sign keep theirs.

    Source: Byrd, Lu, Nocedal & Zhu 1995 (SciPy's implementation).
    """
    from scipy.optimize import minimize

    model, parameters = problem.model, problem.parameters
    limits = {
        id(f.raw): f.constraint.bounds for f in model.factors.values() if f.constraint.identity
    }
    bounds: list[tuple[float, float]] = []  # shared pairs: of an array SciPy makes objects
    for p, side, scale in zip(parameters, problem.sides(), scales, strict=True):
        if side is not None:
            bounds += [NON_NEGATIVE if up else NON_POSITIVE for up in (side > 0).flatten().tolist()]
            continue
        low, high = limits.get(id(p)) or ANY
        bounds += [(low / scale, high / scale)] * p.numel()
    start = _flat([p.detach() / s for p, s in zip(parameters, scales, strict=True)])

    lowest, least = start, math.inf
    most = problem.evaluations + (most or 20 * n_iter)

    def value(point: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal lowest, least
        if problem.evaluations >= most or least < enough:
            raise _Done  # SciPy would end its line search first
        _put(parameters, scales, point)
        objective, gradients = problem.differentiate()
        if float(objective) < least:
            lowest, least = point.copy(), float(objective)
        scaled = [g * s for g, s in zip(gradients, scales, strict=True)]
        return float(objective), _flat(scaled)

    options: Any = {"maxiter": n_iter, "maxfun": most, "maxcor": memory, "ftol": 0.0, "gtol": 0.0}
    with suppress(_Done):
        minimize(  # type: ignore[call-overload]
            value,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options=options,
        )
    _put(parameters, scales, lowest)
    return least


class _Done(Exception):
    """No more evaluations are wanted."""


def _flat(tensors: list[Tensor]) -> np.ndarray:
    return torch.cat([tensor.reshape(-1) for tensor in tensors]).double().cpu().numpy()


def _put(parameters: Sequence[Tensor], scales: list[float], point: np.ndarray) -> None:
    start = 0
    for parameter, scale in zip(parameters, scales, strict=True):
        part = torch.from_numpy(point[start : start + parameter.numel()] * scale)
        parameter.data.copy_(part.reshape(parameter.shape))
        start += parameter.numel()
