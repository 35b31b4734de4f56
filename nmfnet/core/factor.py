"""One constrained matrix of a model, with the restart axis in front."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    axes : two str
        What its rows and its columns are: ``sample``, ``feature``, ``component``, ``class``, ``node``,
        ... Penalties, solvers and files ask these. A factor whose first axis is ``sample`` has a row
        for every training sample, and is spread over processes with X.
    """

    def __init__(
        self,
        n_restarts: int,
        rows: int,
        columns: int,
        constraint: Constraint,
        degree: int = 1,
        max_exponent: float = 1.0,
        axes: tuple[str, str] = ("", ""),
    ) -> None:
        super().__init__()
        self.constraint = constraint
        self.degree = degree
        self.max_exponent = max_exponent
        self.axes = axes
        self.frozen = False
        self.raw = nn.Parameter(torch.empty(n_restarts, rows, columns))
        self.held: Tensor | None = None
        with torch.no_grad():
            self.raw.copy_(constraint.right_inverse(torch.ones_like(self.raw)))

    @property
    def per_sample(self) -> bool:
        """Whether row i belongs to training sample i."""
        return self.axes[0] == "sample"

    def freeze(self) -> None:
        """Keep the value as it is: no solver moves it from here on."""
        self.frozen = True
        self.raw.requires_grad_(False)

    @contextmanager
    def at(self, value: Tensor) -> Iterator[None]:
        """Inside, the factor has this value instead of its own (gradients reach it)."""
        self.held = value
        try:
            yield
        finally:
            self.held = None

    def forward(self) -> Float[Tensor, "*r a b"]:
        return self.constraint(self.raw) if self.held is None else self.held

    @torch.no_grad()
    def assign_(self, value: Tensor) -> None:
        """Set the value (made feasible), broadcast over restarts (and rows)."""
        self.raw.copy_(self.constraint.right_inverse(value.to(self.raw)))
        self.project_()

    @torch.no_grad()
    def project_(self) -> None:
        """Project the raw parameter after a gradient step."""
        self.constraint.project_(self.raw)
