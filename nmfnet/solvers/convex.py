"""``solver=convex_newton``: second-order steps for convex NMF and the linear autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch

from nmfnet.errors import UserError
from nmfnet.kernels.convex_newton import Table, convex_newton, table
from nmfnet.kernels.extrapolation import State, begin
from nmfnet.solvers.base import Solver, count_step
from nmfnet.types import Batch, Terms

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

    def __init__(self, *, n_inner: int = 10) -> None:
        super().__init__(n_inner=n_inner)
        self.state: State | None = None
        self.prepared: Table | None = None

    def check(self, model: Factorization, batch_size: int | None) -> None:
        if model.convex_pair() is None:
            raise UserError(
                "solver=convex_newton is for model=convex_nmf that is not tied and for a linear "
                f"model=autoencoder, not for {type(model).__name__} as configured: use solver=lbfgs"
            )
        if model.loss.beta not in (1, 2):
            raise UserError(
                "solver=convex_newton is for loss=kl, poisson or frobenius; for "
                f"loss={type(model.loss).__name__} use solver=lbfgs"
            )
        if bad := [n for n, f in model.factors.items() if not f.constraint.identity]:
            raise UserError(
                f"solver=convex_newton moves factor values directly and {', '.join(bad)} is under "
                "another constraint: use constraint=project, or solver=lbfgs"
            )
        if model.penalty_list:
            raise UserError("solver=convex_newton takes no penalty: use solver=lbfgs")
        self.needs_all_rows(batch_size)
        if model.world.size > 1 or model.device.type != "cpu":
            raise UserError("solver=convex_newton runs on a CPU in one process: use solver=mu")

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
            self.state = begin(g.mT if by_sample else g, h.mT if by_sample else h)
        with torch.no_grad():
            convex_newton(self.state, self.prepared, n_iter, beta=model.loss.beta, rows=live)
            for i in live:
                w_now, h_now = self.state.w[i], self.state.h[i]
                g[i] = w_now if by_sample else w_now.mT
                h[i] = h_now.mT if by_sample else h_now
            with model.restarts(live):
                return model.objective(batch)
