"""``solver=auto``: the fastest solver that the model, loss, data and batch size allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, final

from nmfnet.solvers.adversarial import Adversarial
from nmfnet.solvers.alternating import ANLS, ProjectedGradient
from nmfnet.solvers.base import Solver, Task
from nmfnet.solvers.convex import ConvexNewton
from nmfnet.solvers.coordinate import CoordinateDescent
from nmfnet.solvers.descent import GradientDescent
from nmfnet.solvers.ding import Ding
from nmfnet.solvers.exact import Exact
from nmfnet.solvers.gradient import Adam
from nmfnet.solvers.hull import Hull
from nmfnet.solvers.multiplicative import Multiplicative
from nmfnet.solvers.online import Online
from nmfnet.solvers.pair import HALS, Newton
from nmfnet.solvers.relay import Relay
from nmfnet.solvers.symmetric import Symmetric
from nmfnet.solvers.variational import Variational
from nmfnet.solvers.weighted_als import WeightedALS
from nmfnet.types import Batch, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


ORDER: tuple[Callable[[], Solver], ...] = (
    *(Exact, Variational, Ding, HALS, ANLS, Symmetric, CoordinateDescent, Newton, WeightedALS),
    *(ConvexNewton, Hull, Multiplicative, partial(Online, n_sub=10), ProjectedGradient),
    *(Adversarial, GradientDescent),
)
"""Who is asked, one after the other."""


@final
class Auto(Solver):
    """The first solver that can do the task exactly.

    They are asked in this order: exact, variational, ding, hals, anls, symmetric, cd, newton,
    weighted_als, convex_newton, hull, mu, online, pgd, adversarial, gd and adam.

    Where cd, convex_newton or mu has not settled after a thousand iterations, or its certificate failed,
    lbfgs goes on, if it can. The one that begins is recorded as ``solver`` in ``metrics.json``. online is
    taken with ``n_sub=10``: ten updates of a batch's W save more passes over the data than they cost.
    """

    name = "auto"

    def __init__(self) -> None:
        super().__init__(n_inner=1)

    def chosen(self, task: Task) -> Solver:
        """The solver to use in this one's place."""
        for kind in ORDER:
            candidate = kind()
            if not candidate.exact(task) or any(candidate.lacks(task)):
                continue
            if candidate.crawls and not any((relay := Relay(candidate)).lacks(task)):
                return relay
            return candidate
        return Adam()

    def lacks(self, task: Task) -> Iterator[str]:
        yield from ()

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        raise RuntimeError("solver=auto was not replaced by the solver it stands for")
