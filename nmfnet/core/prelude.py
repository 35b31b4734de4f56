"""Fits of a part of a model that only make its start."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from nmfnet.core.budget import Budget

LOOSE = 1e-3
"""Relative fall per 100 iterations, at which a fit is good enough to start from."""

MOST = 200
"""Iterations of one fit."""

CLOSE, LONG = 1e-4, 1000
"""The same two for a fit that slower steps go on from, so that what it leaves is not made up for."""

PATIENCE = 3
"""Quiet looks in a row after which a fit ends."""


def never() -> bool:
    """No limit."""
    return False


@final
class Prelude:
    """When such fits end, and how many iterations they took.

    Training goes on from what they leave and has to prove that it settled, so they need not: one ends
    when its objective falls by no more than ``LOOSE`` of its value per 100 iterations (or by no more
    than the ``tol`` of the run), after ``MOST`` iterations, or when the time of the run is over. Where
    the steps that follow are much slower, a model asks for ``CLOSE`` and ``LONG`` instead. Their
    seconds count as those of training. Their iterations are of a part of the model, so they are not
    added to its own, and a note of the run says how many there were.

    Parameters
    ----------
    budget : Budget
        Of the run.
    over : callable
        Whether the time of the run is over.

    Attributes
    ----------
    n_iter : int
        Iterations of all fits so far.
    cut : bool
        Whether the time was over before they had ended.
    """

    def __init__(self, budget: Budget, over: Callable[[], bool] = never) -> None:
        self.budget = budget
        self.most, self.tol = min(MOST, budget.max_iter), max(LOOSE, budget.tol)
        self.over = over
        self.n_iter, self.cut = 0, False

    def closely(self) -> Prelude:
        """This one, with the limits for fits that slower steps go on from."""
        self.most, self.tol = min(LONG, self.budget.max_iter), max(CLOSE, self.budget.tol)
        return self

    def out_of_time(self) -> bool:
        """Whether the time of the run is over."""
        self.cut = self.cut or self.over()
        return self.cut

    def calm(self, before: float, now: float, n_iter: int) -> bool:
        """Whether an objective that fell from ``before`` to ``now`` in so many iterations hardly did."""
        return before < float("inf") and before - now <= self.tol * abs(before) * n_iter / 100

    def remark(self) -> str:
        """What the user should know of them."""
        if not self.n_iter:
            return ""
        said = f"The start took {self.n_iter:,} iterations of its own, which n_iter does not count."
        return f"{said} The time limit cut it short." if self.cut else said
