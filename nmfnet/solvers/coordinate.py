"""``solver=cd``: coordinate descent for convex NMF under the squared error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, final

import torch

from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.errors import UserError
from nmfnet.kernels.convex import compressed, convex_descent
from nmfnet.kernels.products import in_threads
from nmfnet.solvers.base import Solver, Task, count_step
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


@final
class CoordinateDescent(Solver):
    """Every entry of A and W in X ~ W A X to its optimum in turn; X may have any sign.

    The objective never increases. An iteration costs a few multiplicative ones and does the work of many.

    Parameters
    ----------
    sweeps : int, >= 1
        Passes over A, and over W, per iteration.
    n_inner : int
        Iterations per training step.

    Source: coordinate descent as in Hsieh & Dhillon 2011, here on the weights of the samples.
    """

    name = "cd"
    crawls = True

    def __init__(self, *, sweeps: int = 2, n_inner: int = 20) -> None:
        super().__init__(n_inner=n_inner)
        if sweeps < 1:
            raise UserError(f"solver.sweeps={sweeps}: it must be >= 1")
        self.sweeps = sweeps
        self.prepared: Tensor | None = None  # X as the sweeps read it

    def attach(self, model: Factorization) -> None:
        self.prepared = None

    def lacks(self, task: Task) -> Iterator[str]:
        model = task.model
        if model.convex_pair() is None:
            yield f"is for X ~ W (A X) with both factors free, which {type(model).__name__} is not"
        yield from task.losses(2)
        yield from task.outside(NON_NEGATIVE)
        yield from task.fixed()
        yield from task.penalties()
        yield from task.minibatches()
        yield from task.weights()
        yield from task.processes()
        if model.device.type != "cpu":
            yield f"runs on a CPU, and this run is on the {model.device.type}"

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        pair = model.convex_pair()
        assert pair is not None
        by_sample, A, W = pair
        if self.prepared is None:
            self.prepared = compressed(batch.x if by_sample else batch.x.mT)
        x = self.prepared

        def one(restart: int) -> None:
            a = A.raw.data[restart] if by_sample else A.raw.data[restart].mT
            w = W.raw.data[restart] if by_sample else W.raw.data[restart].mT
            new_A, new_W = convex_descent(x, a, w, n_iter, self.sweeps)
            a.copy_(new_A)
            w.copy_(new_W)

        in_threads(one, live)
        with torch.no_grad(), model.restarts(live):
            return model.objective(batch)
