"""``solver=lbfgs``: limited-memory BFGS with bounds on all parameters of a restart."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, final

import torch

from nmfnet.core.constraints import ANY, NON_NEGATIVE
from nmfnet.core.inference import in_float64
from nmfnet.kernels.quasi_newton import Memory, minimise
from nmfnet.settings.ranges import Count
from nmfnet.solvers.base import Solver, Task, count_step, total
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

LARGE = 10_000_000
"""Entries of X, above which there is no copy of it in float64."""

ROUGH = 1e-3
"""Relative fall in a training step up to which a restart goes on in float64."""

RELATIVE = (1e-2, 3.0)
"""Smallest and largest unit of an entry, in units of its parameter's root mean square."""


@final
class LBFGS(Solver):
    """Limited-memory BFGS with bounds, one restart after the other, on any device.

    Non-negativity under ``constraint=project`` is kept by bounds, so the method is exact for it; any
    other constraint is a parametrisation and needs none. The objective never increases. Factors are
    measured in units of their root mean square, anew in every training step: in those of a start that
    has little in common with where it leads, a descent crawls. No step changes them by more than a
    tenth in the mean: a network's units would die in longer ones. Where a training step lowers the
    objective by little it goes on in float64, unless X is large: differences of gradients, of which it
    learns the curvature, are mostly rounding in float32 where steps become short.

    Parameters
    ----------
    memory : int, >= 1
        Corrections kept.
    n_inner : int
        Iterations per training step.

    Source: Nocedal 1980 (the recursion); Bertsekas 1982 (bounds, by two-metric projection).
    """

    name = "lbfgs"
    pace = 5.0

    def __init__(self, *, memory: Count = 10, n_inner: Count = 200) -> None:
        super().__init__(n_inner=n_inner)
        self.memory = memory
        self.relative: dict[int, Tensor] = {}  # units of entries, in those of their parameters
        self.memories: dict[int, Memory] = {}  # of the parameters themselves, without units
        self.reached: dict[int, float] = {}  # the objective after the last training step
        self.fine: set[int] = set()  # restarts that go on in float64

    def lacks(self, task: Task) -> Iterator[str]:
        yield from task.minibatches()
        yield from task.stages()
        yield from task.players()
        for name, factor in task.model.factors.items():
            own = factor.constraint
            if own.identity and own.bounds not in (NON_NEGATIVE, ANY):
                said = type(own).__name__.lower()
                yield f"keeps bounds and nothing else, and {name} is under {said}"
        if task.sparse and not task.model.sparse:
            yield "needs a dense X, and this one is sparse"
        yield from task.processes()

    def attach(self, model: Factorization) -> None:
        self.relative, self.memories, self.reached, self.fine = {}, {}, {}, set()

    def running(self) -> dict[str, Any]:
        return {
            "relative": self.relative,
            "memories": {restart: tuple(memory) for restart, memory in self.memories.items()},
            "reached": self.reached,
            "fine": sorted(self.fine),
        }

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        device = model.device
        self.reached, self.fine = running.get("reached", {}), set(running.get("fine", ()))
        self.relative = {i: unit.to(device) for i, unit in running.get("relative", {}).items()}
        self.memories = {
            i: Memory(*(tuple(vector.to(device) for vector in part) for part in memory))
            for i, memory in running["memories"].items()
            if i in self.relative  # older checkpoints have memories in units of the start
        }

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        exact = batch.to(torch.float64) if self.fine & set(live) else batch
        collected: list[Terms] = []
        for restart in live:
            if restart not in self.memories:
                self.measure(model, restart)
            with model.restarts(restart):
                if restart not in self.fine:
                    terms = self._descend(model, batch, restart, n_iter)
                else:
                    with in_float64(model, moving=True):
                        terms = self._descend(model, exact, restart, n_iter)
            self._refine(model, batch, restart, float(total(terms)))
            collected.append(terms)
        return {name: torch.stack([terms[name] for terms in collected]) for name in collected[0]}

    def _descend(self, model: Factorization, batch: Batch, restart: int, n_iter: int) -> Terms:
        """Some iterations of the restart that the model holds."""
        parameters = model.trainable()
        sizes = [torch.full_like(p.detach(), _size(p.detach())) for p in parameters]
        unit = _flat(sizes) * self.relative[restart]
        under = {
            id(factor.raw)
            for factor in model.factors.values()
            if factor.constraint.identity and factor.constraint.bounds == NON_NEGATIVE
        }
        bounded = torch.cat(
            [torch.full((p.numel(),), id(p) in under, device=p.device) for p in parameters]
        )
        slope = partial(_slope, model, batch, parameters, unit)
        point = _flat([p.detach() for p in parameters]) / unit
        memory = self.memories[restart].scaled(1 / unit)
        point, memory = minimise(slope, point, bounded, memory, n_iter, self.memory)
        self.memories[restart] = memory.scaled(unit)
        _put(parameters, point * unit)
        with torch.no_grad():
            return model.objective(batch)

    def _refine(self, model: Factorization, batch: Batch, restart: int, objective: float) -> None:
        """Go on in float64 where a step has lowered the objective by little."""
        before, self.reached[restart] = self.reached.get(restart), objective
        x = batch.x.values() if batch.x.is_sparse_csr else batch.x
        if restart in self.fine or model.precision == torch.float64 or x.numel() > LARGE:
            return
        if before is not None and before - objective <= ROUGH * abs(before):
            self.fine.add(restart)
            self.memories[restart] = Memory()

    def rebase(self, model: Factorization, restart: int, objective: float) -> None:
        if restart in self.memories:
            self.memories[restart] = Memory()

    def measure(
        self, model: Factorization, restart: int, slopes: list[Tensor] | None = None
    ) -> None:
        """Set the unit of every entry of a restart, in that of its parameter.

        Parameters
        ----------
        model : Factorization
        restart : int
        slopes : list of Tensor, optional
            Sizes of the gradient by each parameter that were seen so far: an entry with slopes above
            those of its parameter gets a smaller unit.
        """
        units = [torch.ones_like(p.detach()[restart]) for p in model.trainable()]
        for unit, slope in zip(units, slopes or (), strict=slopes is not None):
            relative = slope[restart] / slope[restart].mean().clamp_min(1e-30)
            unit *= relative.clamp_min(1e-30).rsqrt().clamp(*RELATIVE)
        self.relative[restart] = _flat(units)
        self.memories[restart] = Memory()


def _size(values: Tensor) -> float:
    """Root mean square; 1 for zeros."""
    return float(values.square().mean().sqrt()) or 1.0


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
