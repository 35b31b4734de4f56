"""``solver=weighted_als``: one ridge regression after the other, with weights of single entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, final

import torch

from nmfnet.core.constraints import ANY, NON_NEGATIVE
from nmfnet.kernels.weighted import ridge_rows
from nmfnet.solvers.base import Solver, Task, collect, count_step
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

AXES: tuple[Literal["sample", "feature"], ...] = ("sample", "feature")


@final
class WeightedALS(Solver):
    """All factors of the samples to their optimum, then all of the features, in closed form.

    For models that say what these problems are (``model.ridge``). Only listed entries are visited. The
    objective never increases.

    Parameters
    ----------
    n_inner : int
        Sweeps per training step.

    Source: Zhou, Wilkinson, Schreiber & Pan 2008 (ALS-WR).
    """

    name = "weighted_als"

    def __init__(self, *, n_inner: int = 5) -> None:
        super().__init__(n_inner=n_inner)

    def lacks(self, task: Task) -> Iterator[str]:
        if not task.model.overrides("ridge"):
            kind = type(task.model).__name__
            yield f"is for models whose halves are ridge regressions, and {kind} is none"
        yield from task.minibatches()
        for name, factor in task.model.factors.items():
            own = factor.constraint
            if not own.identity or own.bounds not in (ANY, NON_NEGATIVE):
                said = type(own).__name__.lower()
                yield f"needs free or non-negative factors, and {name} is under constraint={said}"
            if factor.frozen and set(factor.axes) & set(AXES):
                yield f"moves every factor, and {name} is frozen"
        if task.model.penalty_list:
            yield "takes the model's own ridge alone, and there is a penalty"
        yield from task.processes()

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        collected: list[Terms] = []
        for restart in live:
            with torch.no_grad(), model.restarts(restart):
                for _ in range(n_iter):
                    sweep(model, batch)
                collected.append(model.objective(batch))
        return collect(collected)


def sweep(model: Factorization, batch: Batch) -> None:
    """All factors of the samples to their optimum, then all of the features, of one restart."""
    for axis in AXES:
        task = model.ridge(axis, batch)
        if task.floor is not None:
            task = task._replace(begin=held(model, axis))
        place(model, axis, ridge_rows(*task))


def held(model: Factorization, axis: str) -> Tensor:
    """The factors along an axis, side by side."""
    along = [f for f in model.factors.values() if axis in f.axes]
    return torch.cat([f() if f.axes[0] == axis else f().mT for f in along], -1)


def place(model: Factorization, axis: str, found: Tensor) -> None:
    """Set the factors along an axis, side by side in ``found``."""
    start = 0
    for factor in model.factors.values():
        if axis in factor.axes:
            along = factor.axes.index(axis)
            width = factor.raw.shape[along - 1]
            part = found[:, start : start + width]
            factor.assign_(part if along == 0 else part.mT)
            start += width
