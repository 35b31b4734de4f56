"""``solver=lbfgs``: SciPy's L-BFGS-B on all parameters of a restart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from nmfnet.core.constraints import ANY
from nmfnet.errors import UserError
from nmfnet.solvers.base import Solver, Task, collect, count_step
from nmfnet.solvers.descent import Problem
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


@final
class LBFGS(Solver):
    """Limited-memory BFGS with bounds, one restart after the other, in float64.

    Non-negativity under ``constraint=project`` is kept by bounds, so the method is exact for it; any
    other constraint is a parametrisation and needs none. The objective never increases. The memory
    starts anew with every training step, so ``n_inner`` should be large.

    Parameters
    ----------
    memory : int, >= 1
        Corrections kept.
    n_inner : int
        Iterations per training step.

    Source: Byrd, Lu, Nocedal & Zhu 1995 (SciPy's implementation).
    """

    name = "lbfgs"
    quasi_newton = True

    def __init__(self, *, memory: int = 10, n_inner: int = 200) -> None:
        super().__init__(n_inner=n_inner)
        if memory < 1:
            raise UserError(f"solver.memory={memory}: it must be >= 1")
        self.memory = memory

    def lacks(self, task: Task) -> Iterator[str]:
        yield from task.minibatches()
        for name, factor in task.model.factors.items():
            if factor.constraint.identity and factor.constraint.bounds is None:
                said = type(factor.constraint).__name__.lower()
                yield f"keeps bounds and nothing else, and {name} is under {said}"
        yield from task.processes()

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        collected: list[Terms] = []
        for restart in live:
            with model.restarts(slice(restart, restart + 1)):
                problem = Problem(model, batch)
                minimise(problem, [1.0] * len(problem.parameters), n_iter, memory=self.memory)
                with torch.no_grad():
                    collected.append(model.objective(batch))
        return collect(collected)


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
    """
    from scipy.optimize import minimize

    model, parameters = problem.model, problem.parameters
    limits = {
        id(f.raw): f.constraint.bounds for f in model.factors.values() if f.constraint.identity
    }
    bounds = [
        np.tile(np.array(limits.get(id(p)) or ANY) / scale, (p.numel(), 1))
        for p, scale in zip(parameters, scales, strict=True)
    ]
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
            bounds=np.concatenate(bounds),
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
