"""``solver=convex_newton``: second-order steps for convex NMF and the linear autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

import torch

from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.kernels.convex_newton import Table, convex_newton, table
from nmfnet.kernels.extrapolation import State, begin, place, rewind
from nmfnet.solvers.base import Solver, Task, count_step
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


@final
class ConvexNewton(Solver):
    """Newton steps in A and W of X ~ W A X, for loss=kl or poisson, and squared errors with a mask.

    Each factor in turn moves to a lower point of the loss's second-order expansion, found by
    coordinate descent, from a point beyond the last one. The objective at the end of a training step
    never exceeds that of the step before.

    Parameters
    ----------
    n_inner : int
        Iterations per training step.

    Source: Hsieh & Dhillon 2011 (second-order coordinate steps for KL), here on the weights of the
    samples.
    """

    name = "convex_newton"
    crawls = True

    def __init__(self, *, n_inner: int = 10) -> None:
        super().__init__(n_inner=n_inner)
        self.state: State | None = None
        self.prepared: Table | None = None

    def lacks(self, task: Task) -> Iterator[str]:
        model = task.model
        if model.convex_pair() is None:
            yield f"is for X ~ W (A X) with both factors free, which {type(model).__name__} is not"
        yield from task.losses(2, 1)
        yield from task.outside(NON_NEGATIVE)
        yield from task.fixed()
        yield from task.penalties()
        yield from task.minibatches()
        yield from task.processes()
        if model.device.type != "cpu":
            yield f"runs on a CPU, and this run is on the {model.device.type}"

    def rebase(self, model: Factorization, restart: int, objective: float) -> None:
        if self.state is not None:
            W, H = self._factors(model)
            place(self.state.W, W, [restart])
            place(self.state.H, H, [restart])
            rewind(self.state, [restart])
            self.state.memory[restart, 2] = torch.inf

    def _factors(self, model: Factorization) -> tuple[Tensor, Tensor]:
        """Code and basis of X, or of the transpose."""
        pair = model.convex_pair()
        assert pair is not None
        by_sample, code, basis = pair
        g, h = code.raw.data, basis.raw.data
        return (g.mT, h.mT) if by_sample else (g, h)

    def running(self) -> dict[str, Any]:
        return {"state": None if self.state is None else tuple(self.state)}

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        self.state = None if running["state"] is None else State(*running["state"])

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        pair = model.convex_pair()
        assert pair is not None
        assert model.loss.beta is not None
        by_sample, code, basis = pair  # of X, or with W, A of the transpose
        if self.prepared is None:
            x, mask = batch.x, batch.mask
            if by_sample:
                x, mask = x.mT, None if mask is None else mask.mT
            self.prepared = table(x, mask)
        g, h = code.raw.data, basis.raw.data
        if self.state is None:
            self.state = begin(*self._factors(model))
        with torch.no_grad():
            convex_newton(self.state, self.prepared, n_iter, beta=model.loss.beta, rows=live)
            for i in live:
                w_now, h_now = self.state.w[i], self.state.h[i]
                g[i] = w_now if by_sample else w_now.mT
                h[i] = h_now.mT if by_sample else h_now
            with model.restarts(live):
                return model.objective(batch)
