"""``solver=lbfgs``: SciPy's L-BFGS-B on all parameters of a restart."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, final

import torch

from nmfnet.core.constraints import Project
from nmfnet.errors import UserError
from nmfnet.kernels.quasi_newton import Memory, empty, minimise
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
        self.units: list[Tensor] = []
        self.memories: list[Memory] = []

    def check(self, model: Factorization, batch_size: int | None) -> None:
        self.needs_all_rows(batch_size)
        self.needs_one_process(model, "solver=mu or solver=adam")

    def attach(self, model: Factorization) -> None:
        self.units, self.memories = [], []

    def running(self) -> dict[str, Any]:
        return {"units": self.units, "memories": [tuple(memory) for memory in self.memories]}

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        self.units = [unit.to(model.device) for unit in running["units"]]
        self.memories = [
            Memory(*(part.to(model.device) for part in memory)) for memory in running["memories"]
        ]

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        parameters = list(model.parameters())
        under = {id(f.raw) for f in model.factors.values() if isinstance(f.constraint, Project)}
        if not self.units:
            self._measure(model)
        collected: list[Terms] = []
        for restart in live:
            with model.restarts(restart):
                unit = self.units[restart]
                bounded = torch.cat(
                    [torch.full((p.numel(),), id(p) in under, device=p.device) for p in parameters]
                )
                slope = partial(_slope, model, batch, parameters, unit)
                point = _flat([p.detach() for p in parameters]) / unit
                memory = self.memories[restart]
                point, memory = minimise(slope, point, bounded, memory, n_iter, self.memory)
                self.memories[restart] = memory
                _put(parameters, point * unit)
                with torch.no_grad():
                    collected.append(model.objective(batch))
        return {name: torch.stack([terms[name] for terms in collected]) for name in collected[0]}

    def _measure(self, model: Factorization) -> None:
        """Unit of every entry of every restart: the root mean square of its parameter."""
        for restart in range(model.n_restarts):
            with model.restarts(restart):
                sizes = [p.detach().square().mean().sqrt() for p in model.parameters()]
                filled = [
                    torch.full_like(p.detach(), float(size) if size > 0 else 1.0)
                    for p, size in zip(model.parameters(), sizes, strict=True)
                ]
                self.units.append(_flat(filled))
                self.memories.append(empty(self.units[-1]))


def _slope(
    model: Factorization,
    batch: Batch,
    parameters: list[torch.nn.Parameter],
    unit: Tensor,
    point: Tensor,
) -> tuple[float, Tensor]:
    """Objective and gradient at a point in units."""
    _put(parameters, point * unit)
    with torch.enable_grad():
        objective = total(model.objective(batch))
    grads = torch.autograd.grad(objective, parameters, allow_unused=True)
    filled = [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)
    ]
    return float(objective.detach()), _flat(filled) * unit


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _put(parameters: list[torch.nn.Parameter], point: Tensor) -> None:
    start = 0
    for parameter in parameters:
        parameter.data.copy_(point[start : start + parameter.numel()].view(parameter.shape))
        start += parameter.numel()
