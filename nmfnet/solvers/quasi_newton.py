"""``solver=lbfgs``: SciPy's L-BFGS-B on all parameters of a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from nmfnet.core.constraints import Project
from nmfnet.errors import UserError
from nmfnet.solvers.base import Solver, count_step, total
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

    def check(self, model: Factorization, batch_size: int | None) -> None:
        self.needs_all_rows(batch_size)
        self.needs_one_process(model, "solver=mu or solver=adam")

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        collected: list[Terms] = []
        for restart in live:
            with model.restarts(restart):
                minimise(model, batch, n_iter, self.memory)
                with torch.no_grad():
                    collected.append(model.objective(batch))
        return {name: torch.stack([terms[name] for terms in collected]) for name in collected[0]}


def minimise(
    model: Factorization, batch: Batch, n_iter: int, memory: int = 10, most: int | None = None
) -> tuple[float, int]:
    """Move the one restart that the model now holds; its objective, and evaluations it took.

    Parameters
    ----------
    model : Factorization
    batch : Batch
    n_iter : int
        Iterations.
    memory : int
        Corrections kept.
    most : int, optional
        Evaluations of the objective; by default 20 per iteration.
    """
    from scipy.optimize import minimize

    parameters = list(model.parameters())
    bounded = {id(f.raw) for f in model.factors.values() if isinstance(f.constraint, Project)}
    lower = np.concatenate(
        [np.full(p.numel(), 0.0 if id(p) in bounded else -np.inf) for p in parameters]
    )
    options: Any = {"maxiter": n_iter, "maxfun": most or 20 * n_iter, "maxcor": memory}
    found = minimize(  # type: ignore[call-overload]
        lambda point: _value(model, batch, parameters, point),
        _flat([p.detach() for p in parameters]),
        jac=True,
        method="L-BFGS-B",
        bounds=np.stack([lower, np.full_like(lower, np.inf)], 1),
        options=options | {"ftol": 0.0, "gtol": 0.0},
    )
    _put(parameters, found.x)
    return float(found.fun), int(found.nfev)


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
