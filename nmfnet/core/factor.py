"""The constrained matrices of a model, with the restart axis in front."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import nn

from nmfnet.core.constraints import Constraint
from nmfnet.errors import UserError
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
    of_x : {1, 0, -1}, optional
        The power of the components' unit in its entries, by which files bring them to the units of X:
        1 for what components are made of, -1 for what reads X. By default 1 where its columns are
        features, and -1 where its rows are.
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
        of_x: int | None = None,
    ) -> None:
        super().__init__()
        self.constraint = constraint
        self.degree = degree
        self.max_exponent = max_exponent
        self.axes = axes
        self.of_x = (axes[1] == "feature") - (axes[0] == "feature") if of_x is None else of_x
        self.frozen = False
        self.raw = nn.Parameter(torch.empty(n_restarts, rows, columns))
        self.held: Tensor | None = None
        with torch.no_grad():
            self.raw.copy_(constraint.right_inverse(torch.ones_like(self.raw)))

    @property
    def per_sample(self) -> bool:
        """Whether row i belongs to training sample i."""
        return self.axes[0] == "sample"

    @property
    def scales(self) -> bool:
        """Whether its rows and columns may be multiplied by any numbers > 0: neither held nor bounded."""
        return self.constraint.closed_under_scaling and not self.frozen

    @property
    def signed(self) -> bool:
        """Whether entries may be negative."""
        return self.constraint.bounds is not None and self.constraint.bounds[0] < 0

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


@final
class Factors(dict[str, Factor]):
    """The factors of a model by name; each is declared with the axes that the data and it have.

    ``general`` is the constraint of all factors, ``own`` those of single ones by name. ``heeds_general``
    says whether any factor is declared without a constraint of its own, so that ``general`` counts.
    """

    def __init__(
        self,
        n_restarts: int,
        axes: Mapping[str, int],
        general: Constraint,
        own: Mapping[str, Constraint],
    ) -> None:
        super().__init__()
        self.n_restarts, self.axes, self.general, self.own = n_restarts, axes, general, own
        self.heeds_general = False

    def declare(
        self,
        name: str,
        rows: str | int,
        columns: str | int,
        *,
        constraint: Constraint | None = None,
        degree: int = 1,
        max_exponent: float = 1.0,
        of_x: int | None = None,
    ) -> Factor:
        """Declare a factor of the model (assign the result to an attribute); see ``Factor``.

        Parameters
        ----------
        name : str
        rows, columns : str or int
            Its axes: ``"sample"``, ``"feature"``, ``"component"``, ``"class"``, ``"one"``, or another
            of ``self.axes``. A number stands for the axis of that size, where there is just one.
        constraint : Constraint, optional
            What ``constraint=`` says, by default; ``constraint.NAME=`` goes before both.
        degree, max_exponent, of_x
            As for ``Factor``.

        Raises
        ------
        UserError
            For an axis that the data do not have.
        """
        (a, height), (b, width) = self._axis(name, rows), self._axis(name, columns)
        self.heeds_general |= constraint is None
        made = Factor(
            self.n_restarts,
            height,
            width,
            (self.own.get(name) or constraint or self.general).of_axes(a, b),
            degree=degree,
            max_exponent=max_exponent,
            axes=(a, b),
            of_x=of_x,
        )
        self[name] = made
        return made

    def _axis(self, name: str, axis: str | int) -> tuple[str, int]:
        """Name and size of an axis."""
        if isinstance(axis, int):
            alike = [word for word, size in self.axes.items() if size == axis]
            return (alike[0] if len(alike) == 1 else "", axis)
        if axis not in self.axes:
            raise UserError(
                f"factor {name} has the axis {axis!r}, but the data and the model "
                f"have {', '.join(self.axes)}"
            )
        return axis, self.axes[axis]


@contextmanager
def only(tensors: Sequence[Tensor], index: int | slice | list[int]) -> Iterator[None]:
    """Inside, every tensor holds only these restarts: of a list a copy, written back at the end."""
    whole = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data[index]
        yield
    finally:
        for tensor, data in zip(tensors, whole, strict=True):
            if isinstance(index, list):
                data[index] = tensor.data
            tensor.data = data
