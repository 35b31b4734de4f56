"""``solver=hull``: archetypes one after the other, each to its best place in the hull of the samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

import torch

from nmfnet.kernels.hull import Ahead, centred
from nmfnet.kernels.refit import simplex_rows
from nmfnet.solvers.base import Solver, Task, count_step
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


@final
class Hull(Solver):
    """Alternating least squares for X ~ W A X with rows of W and A on the simplex.

    All W to their optimum, then each archetype to the point of the samples' hull that is nearest to where
    the error would have it; both exact. An iteration begins beyond the last one's end, and begins anew
    where that raises the error, so that the objective never increases.

    Parameters
    ----------
    n_inner : int
        Passes over the archetypes per training step.

    Source: Cutler & Breiman 1994, "Archetypal analysis", section 3 (the alternation).
    """

    name = "hull"
    pace = 5.0

    def __init__(self, *, n_inner: int = 10) -> None:
        super().__init__(n_inner=n_inner)
        self.points: Tensor | None = None
        self.ahead: dict[int, Ahead] = {}

    def lacks(self, task: Task) -> Iterator[str]:
        model = task.model
        if model.convex_pair() is None:
            yield f"is for X ~ W (A X) with both factors free, which {type(model).__name__} is not"
        yield from task.losses(2)
        for name, factor in model.own_factors().items():
            if not (factor.constraint.identity and factor.constraint.row_sum == 1):
                said = type(factor.constraint).__name__.lower()
                yield f"needs constraint=simplex_project, and {name} is under constraint={said}"
                break
        yield from task.fixed()
        yield from task.penalties()
        yield from task.minibatches()
        yield from task.processes()
        yield from task.weights()

    def running(self) -> dict[str, Any]:
        return {"ahead": {restart: vars(ahead) for restart, ahead in self.ahead.items()}}

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        self.ahead = {restart: Ahead(**state) for restart, state in running["ahead"].items()}

    def rebase(self, model: Factorization, restart: int, objective: float) -> None:
        self.ahead.pop(restart, None)

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        pair = model.convex_pair()
        assert pair is not None
        by_sample, weights, code = pair
        assert by_sample
        if self.points is None:
            self.points = centred(model.mixed_rows(batch))
        with torch.no_grad():
            for restart in live:
                if restart not in self.ahead:
                    B = weights.raw[restart].double()
                    self.ahead[restart] = Ahead(B, B)
                ahead = self.ahead[restart]
                for _ in range(n_iter):
                    ahead.iterate(self.points)
                weights.raw[restart] = ahead.B
                code.raw[restart] = simplex_rows(self.points, ahead.B @ self.points)
            with model.restarts(live):
                return model.objective(batch)
