"""``solver=auto``: the fastest solver that the model, loss, data and batch size allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from nmfnet.errors import UserError
from nmfnet.solvers.base import Solver
from nmfnet.solvers.convex import ConvexNewton
from nmfnet.solvers.coordinate import CoordinateDescent
from nmfnet.solvers.gradient import Adam
from nmfnet.solvers.multiplicative import Multiplicative
from nmfnet.solvers.online import Online
from nmfnet.solvers.pair import HALS, Newton
from nmfnet.types import Batch, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


@final
class Auto(Solver):
    """The first of hals, cd, newton, convex_newton, mu, online and adam whose check accepts the run.

    The one chosen is recorded as ``solver`` in ``metrics.json``. online is taken with ``n_sub=10``:
    ten updates of a batch's W save more passes over the data than they cost.
    """

    name = "auto"

    def __init__(self) -> None:
        super().__init__(n_inner=1)

    def chosen(self, model: Factorization, batch_size: int | None, masked: bool) -> Solver:
        """The solver to use in this one's place."""
        online = Online(n_sub=10)
        second = (HALS(), CoordinateDescent(), Newton(), ConvexNewton())
        for candidate in (*second, Multiplicative(), online):
            if masked and not candidate.masks:
                continue
            try:
                candidate.check(model, batch_size)
            except UserError:
                continue
            return candidate
        return Adam()

    def check(self, model: Factorization, batch_size: int | None) -> None:
        """Never called: another solver is in place by then."""

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        raise RuntimeError("solver=auto was not replaced by the solver it stands for")
