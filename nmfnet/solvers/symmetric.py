"""``solver=symmetric``: coordinate sweeps for X ~ W Wᵀ under the squared error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

import torch

from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.errors import UserError
from nmfnet.kernels.symmetric import symmetric_hals
from nmfnet.solvers.base import Solver, Task, count_step, total
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

APART = 1e-3
"""The two factors are one when they differ by less than this, relative."""


@final
class Symmetric(Solver):
    """HALS on ``||X - W Hᵀ||² + weight ||W - H||²``, which makes W and H one factor.

    The weight starts at ``max(X)``, and grows by ``growth`` in every training step in which the factors
    are not yet one. A training step ends at the lowest ``||X - H Hᵀ||`` that any has ended at.

    Parameters
    ----------
    growth : float, >= 1
    n_inner : int
        Iterations per training step.

    Source: Zhu, Li, Liu & Li 2018 (SymHALS); Kuang, Yun & Park 2015 (the growing weight).

    Differs from the source: Kuang et al. start at ``max(X)²``, of an X whose entries are about 1. The
    weight has the unit of X, as W has that of its square root, and so the scale of X does not matter.
    """

    name = "symmetric"

    def __init__(self, *, growth: float = 1.1, n_inner: int = 20) -> None:
        super().__init__(n_inner=n_inner)
        if growth < 1:
            raise UserError(f"solver.growth={growth:g}: it must be >= 1")
        self.growth = growth
        self.pair: tuple[Tensor, Tensor] | None = None
        self.weight = torch.empty(0)

    def lacks(self, task: Task) -> Iterator[str]:
        model = task.model
        if model.symmetric_factor() is None:
            yield f"needs X ~ W Wᵀ with a free W, which {type(model).__name__} as configured is not"
        yield from task.losses(2)
        yield from task.outside(NON_NEGATIVE)
        yield from task.fixed()
        yield from task.minibatches()
        yield from task.weights()
        yield from task.processes()
        yield from task.penalties()

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        factor = model.symmetric_factor()
        assert factor is not None
        with torch.no_grad():
            if self.pair is None:
                self.pair = factor.raw.detach().clone(), factor.raw.detach().clone()
                largest = batch.x.values().max() if batch.x.is_sparse_csr else batch.x.max()
                self.weight = largest.expand(model.n_restarts).clone()
            W, H = self.pair
            found = symmetric_hals(batch.x, W[live], H[live], self.weight[live], n_iter)
            W[live], H[live] = found
            apart = (W - H).norm(dim=(-2, -1)) > APART * H.norm(dim=(-2, -1))
            grows = torch.zeros_like(apart)
            grows[live] = apart[live]
            self.weight[grows] *= self.growth
            with model.restarts(live):
                kept, before = factor.raw.data.clone(), model.objective(batch)
                factor.raw.data.copy_(H[live])
                after = model.objective(batch)
                lower = total(after) < total(before)
                factor.raw.data.copy_(torch.where(lower[:, None, None], H[live], kept))
                return {name: torch.where(lower, after[name], before[name]) for name in after}

    def running(self) -> dict[str, Any]:
        return {"pair": self.pair, "weight": self.weight}

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        W, H = running["pair"]
        self.pair, self.weight = (
            (W.to(model.device), H.to(model.device)),
            running["weight"].to(model.device),
        )
