"""Terms added to the loss: ``penalty=l1 penalty.weight=0.1 penalty.on=H``.

Every penalty is a function of one factor's value, so it can be used by gradient solvers (through
``forward``) and by multiplicative ones (through ``split``, which joins the two sums).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import nn

from nmfnet.errors import UserError
from nmfnet.types import Float, Tensor


class Penalty(nn.Module, ABC):
    """``weight`` times a function of the factor named ``on``.

    Parameters
    ----------
    on : str
        Name of a factor of the model (``W``, ``H``, ...).
    weight : float, >= 0
        In units of the loss, which is summed over rows: a penalty of W grows with the number of
        samples as the loss does, a penalty of H does not.
    """

    name: str
    degree: int
    convex: bool = True

    def __init__(self, *, on: str = "H", weight: float = 0.1) -> None:
        super().__init__()
        if weight < 0:
            raise UserError(f"penalty weight is {weight:g}: it must be >= 0")
        self.on = on
        self.weight = float(weight)

    @abstractmethod
    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        """The penalty of each restart."""

    @abstractmethod
    def normal(self, G: Float[Tensor, "*r k k"]) -> tuple[Float[Tensor, "*r k k"], float]:
        """What the penalty adds to the normal equations of the rows θ of W or Hᵀ.

        Returns
        -------
        quadratic : Tensor, shape like G
            Penalty = θ quadratic θᵀ / 2 + linear Σ θ for θ >= 0.
        linear : float
        """

    @abstractmethod
    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """``neg, pos >= 0`` with d penalty / d value = pos - neg, broadcastable to value."""


@final
class L1(Penalty):
    """``weight * Σ |v|``: sparsity."""

    name = "l1"
    degree = 1

    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        return self.weight * value.abs().sum((-2, -1))

    def normal(self, G: Float[Tensor, "*r k k"]) -> tuple[Float[Tensor, "*r k k"], float]:
        return torch.zeros_like(G), self.weight

    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        return 0.0, self.weight


@final
class L2(Penalty):
    """``weight / 2 * Σ v²``: ridge."""

    name = "l2"
    degree = 2

    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        return 0.5 * self.weight * value.square().sum((-2, -1))

    def normal(self, G: Float[Tensor, "*r k k"]) -> tuple[Float[Tensor, "*r k k"], float]:
        eye = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
        return (self.weight * eye).expand_as(G), 0.0

    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        return 0.0, self.weight * value


@final
class Orthogonal(Penalty):
    """``weight / 2 * Σ_{i≠j} (V Vᵀ)_ij``: pulls the components (rows) apart; >= 0 for V >= 0.

    For non-negative V it vanishes exactly when no two components overlap. The rows are compared of
    factors with a row per component (H, A), the columns of W, G and the encoder's E.

    Source: the overlap penalty of Cichocki & Phan 2009, section 5.
    """

    name = "orthogonal"
    degree = 2
    convex = False

    def _across(self, value: Tensor) -> Tensor:
        return value.mT if self.on[0] in "WGE" else value

    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        v = self._across(value)
        total = v.sum(-2).square().sum(-1)
        return 0.5 * self.weight * (total - v.square().sum((-2, -1)))

    def normal(self, G: Float[Tensor, "*r k k"]) -> tuple[Float[Tensor, "*r k k"], float]:
        eye = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
        return (self.weight * (1 - eye)).expand_as(G), 0.0

    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        v = self._across(value)
        others = self.weight * (v.sum(-2, keepdim=True) - v).clamp_min(0)
        return 0.0, self._across(others)


def check_names(penalties: tuple[Penalty, ...], factors: list[str]) -> None:
    """Refuse a penalty on a factor that the model does not have.

    Raises
    ------
    UserError
    """
    for penalty in penalties:
        if penalty.on not in factors:
            raise UserError(
                f"penalty={penalty.name} is on factor {penalty.on!r}, but this model's factors are "
                f"{', '.join(factors)}: set penalty.on to one of them"
            )
