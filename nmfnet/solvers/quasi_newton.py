"""``solver=lbfgs``: SciPy's L-BFGS-B on all parameters of a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from nmfnet.core.constraints import ANY
from nmfnet.errors import UserError
from nmfnet.solvers.base import Solver, Task, count_step, total
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
        from scipy.optimize import minimize

        count_step(model)
        parameters = model.trainable()
        bounds = {
            id(factor.raw): factor.constraint.bounds
            for factor in model.factors.values()
            if factor.constraint.identity
        }
        collected: list[Terms] = []
        for restart in live:
            with model.restarts(restart):
                limits = [np.tile(bounds.get(id(p)) or ANY, (p.numel(), 1)) for p in parameters]
                options: Any = {"maxiter": n_iter, "maxfun": 20 * n_iter, "maxcor": self.memory}
                options |= {"ftol": 0.0, "gtol": 0.0}
                found = minimize(  # type: ignore[call-overload]
                    lambda point, parameters=parameters: _value(model, batch, parameters, point),
                    _flat([p.detach() for p in parameters]),
                    jac=True,
                    method="L-BFGS-B",
                    bounds=np.concatenate(limits),
                    options=options,
                )
                _put(parameters, found.x)
                with torch.no_grad():
                    collected.append(model.objective(batch))
        return {name: torch.stack([terms[name] for terms in collected]) for name in collected[0]}


def _value(
    model: Factorization, batch: Batch, parameters: list[torch.nn.Parameter], point: np.ndarray
) -> tuple[float, np.ndarray]:
    _put(parameters, point)
    with torch.enable_grad():
        objective = total(model.objective(batch))
    grads = torch.autograd.grad(objective, parameters, allow_unused=True)
    filled = [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)
    ]
    return float(objective.detach()), _flat(filled)


def _flat(tensors: list[Tensor]) -> np.ndarray:
    return torch.cat([tensor.reshape(-1) for tensor in tensors]).double().cpu().numpy()


def _put(parameters: list[torch.nn.Parameter], point: np.ndarray) -> None:
    start = 0
    for parameter in parameters:
        part = torch.from_numpy(point[start : start + parameter.numel()])
        parameter.data.copy_(part.reshape(parameter.shape))
        start += parameter.numel()
