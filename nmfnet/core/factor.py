"""One constrained matrix of a model, with the restart axis in front."""

from __future__ import annotations

from typing import final

import torch
from torch import nn

from nmfnet.core.constraints import Constraint
from nmfnet.types import Float, Tensor


@final
class Factor(nn.Module):
    """A constrained matrix of shape (r, rows, columns).

    ``factor()`` reads its value, ``factor.assign_(value)`` sets it, ``factor.project_()`` brings it
    back to the feasible set after a step. ``raw`` is the parameter that optimisers move; it holds
    unconstrained numbers, so read values with ``factor()`` only.

    Parameters
    ----------
    n_restarts, rows, columns : int, >= 1
    constraint : Constraint
    degree : int, >= 1
        How often the factor occurs in the reconstruction (2 in ``X Hᵀ H``).
    max_exponent : float in (0, 1]
        Cap on the exponent of multiplicative updates.
    per_sample : bool
        Whether row i belongs to training sample i: such a factor is spread over processes with X.
    """

    def __init__(
        self,
        n_restarts: int,
        rows: int,
        columns: int,
        constraint: Constraint,
        degree: int = 1,
        max_exponent: float = 1.0,
        per_sample: bool = False,
    ) -> None:
        super().__init__()
        self.constraint = constraint
        self.degree = degree
        self.max_exponent = max_exponent
        self.per_sample = per_sample
        self.raw = nn.Parameter(torch.empty(n_restarts, rows, columns))
        with torch.no_grad():
            self.assign_(torch.ones(columns))

    def forward(self) -> Float[Tensor, "*r a b"]:
        return self.constraint(self.raw)

    @torch.no_grad()
    def assign_(self, value: Tensor) -> None:
        """Set the value (made feasible), broadcast over restarts (and rows)."""
        self.raw.copy_(self.constraint.right_inverse(value.to(self.raw)))

    @torch.no_grad()
    def project_(self) -> None:
        """Project the raw parameter after a gradient step."""
        self.constraint.project_(self.raw)
