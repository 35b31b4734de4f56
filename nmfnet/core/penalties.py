"""Terms added to the loss: ``penalty=l1 penalty.weight=0.1 penalty.on=H``.

Every penalty is a function of one factor's value, so it can be used by gradient solvers (through
``forward``) and by multiplicative ones (through ``split``, which joins the two sums).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

import torch
from torch import nn

from nmfnet.core.factor import Factor
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

    entrywise: bool = False
    """Whether it is a sum over entries, so that kernels take it as a weight and rows do not meet."""

    linear: bool = False
    """Whether it is ``weight * Σ v`` for v >= 0."""

    quadratic: bool = False
    """Whether it is ``weight / 2 * Σ v²``."""

    between_components: bool = False
    """Whether it compares components, and so needs a factor with the axis ``component``."""

    def __init__(self, *, on: str = "H", weight: float = 0.1) -> None:
        super().__init__()
        if weight < 0:
            raise UserError(f"penalty weight is {weight:g}: it must be >= 0")
        self.on = on
        self.weight = float(weight)
        self.by_column = False

    @final
    def attach(self, factors: Mapping[str, Factor]) -> None:
        """Take up the factor that the penalty is on.

        Raises
        ------
        UserError
            If the model has no such factor, or if its axes are not what the penalty compares.
        """
        if self.on not in factors:
            raise UserError(
                f"penalty={self.name} is on factor {self.on!r}, but this model's factors are "
                f"{', '.join(factors)}: set penalty.on to one of them"
            )
        axes = factors[self.on].axes
        if self.between_components and "component" not in axes:
            fitting = [name for name, factor in factors.items() if "component" in factor.axes]
            raise UserError(
                f"penalty={self.name} compares components, and factor {self.on!r} has none (its axes "
                f"are {' by '.join(axes)}): set penalty.on to "
                f"{' or '.join(fitting) or 'a factor with the axis component'}"
            )
        self.by_column = axes[1] == "component" and axes[0] != "component"

    def _across(self, value: Tensor) -> Tensor:
        """The value with a row per component."""
        return value.mT if self.by_column else value

    @abstractmethod
    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        """The penalty of each restart."""

    @abstractmethod
    def normal(self, G: Tensor, value: Tensor) -> tuple[Float[Tensor, "*r k k"], float]:
        """What the penalty adds to the normal equations of the rows θ of W or Hᵀ.

        Parameters
        ----------
        G : Tensor, shape (*r, k, k)
            Their matrix without the penalty.
        value : Tensor, shape (*r, a, b)
            The factor as it is now.

        Returns
        -------
        quadratic : Tensor, shape like G
            Penalty = θ quadratic θᵀ / 2 + linear Σ θ for θ >= 0, or never above that and equal to
            it (up to a constant) at ``value``.
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
    entrywise = True
    linear = True

    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        return self.weight * value.abs().sum((-2, -1))

    def normal(self, G: Tensor, value: Tensor) -> tuple[Float[Tensor, "*r k k"], float]:
        return torch.zeros_like(G), self.weight

    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        return 0.0, self.weight


@final
class L2(Penalty):
    """``weight / 2 * Σ v²``: ridge."""

    name = "l2"
    degree = 2
    entrywise = True
    quadratic = True

    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        return 0.5 * self.weight * value.square().sum((-2, -1))

    def normal(self, G: Tensor, value: Tensor) -> tuple[Float[Tensor, "*r k k"], float]:
        eye = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
        return (self.weight * eye).expand_as(G), 0.0

    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        return 0.0, self.weight * value


@final
class Orthogonal(Penalty):
    """``weight / 2 * Σ_{i≠j} (V Vᵀ)_ij``: pulls the components (rows) apart; >= 0 for V >= 0.

    For non-negative V it vanishes exactly when no two components overlap. What is compared is the axis
    ``component`` of the factor: the rows of H, the columns of W.

    Source: the overlap penalty of Cichocki & Phan 2009, section 5.
    """

    name = "orthogonal"
    degree = 2
    between_components = True
    convex = False

    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        v = self._across(value)
        total = v.sum(-2).square().sum(-1)
        return 0.5 * self.weight * (total - v.square().sum((-2, -1)))

    def normal(self, G: Tensor, value: Tensor) -> tuple[Float[Tensor, "*r k k"], float]:
        eye = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
        return (self.weight * (1 - eye)).expand_as(G), 0.0

    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        v = self._across(value)
        others = self.weight * (v.sum(-2, keepdim=True) - v).clamp_min(0)
        return 0.0, self._across(others)


@final
class MinVolume(Penalty):
    """``weight * log det(I + V Vᵀ / delta)``: pulls the components (rows) towards each other and 0.

    The determinant is the squared volume that the components span, so among factorisations that fit
    alike the one with the tightest cone wins, which makes components identifiable where X has no
    pure samples. Natural logarithm; >= 0. It grows with the scale of the components, so give that scale
    to the other factor (a constraint, a penalty of W, or an encoder of fixed scale), else it only
    shrinks this one. The components are along the axis ``component`` of the factor: the rows of H, the
    columns of W.

    Parameters
    ----------
    on, weight
        As for every penalty.
    delta : float, > 0
        Squared length below which a component has no volume.

    Source: Fu, Huang, Sidiropoulos & Ma 2019, eq. (16); Pancotti et al. 2024 (MUSE-XAE) use
    ``1e-3 log10 det(V Vᵀ + I)`` on the decoder, which is weight 4.3e-4 and delta 1.

    Differs from the source: divided by delta inside, which is a constant, so that it is never negative.
    """

    name = "min_volume"
    degree = 3
    between_components = True
    """Its majoriser has a quadratic term and a logarithmic one, which lowers the monotone exponent of the
    squared error to 1/2 as a cubic would; for the other divergences this is cautious."""

    def __init__(self, *, on: str = "H", weight: float = 0.1, delta: float = 1.0) -> None:
        super().__init__(on=on, weight=weight)
        if delta <= 0:
            raise UserError(f"penalty.min_volume.delta={delta:g}: it must be > 0")
        self.delta = float(delta)

    def _gram(self, v: Float[Tensor, "*r k b"]) -> Float[Tensor, "*r k k"]:
        eye = torch.eye(v.shape[-2], dtype=v.dtype, device=v.device)
        return eye + v @ v.mT / self.delta

    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        return self.weight * torch.logdet(self._gram(self._across(value)))

    def normal(self, G: Tensor, value: Tensor) -> tuple[Float[Tensor, "*r k k"], float]:
        """The tangent of the logarithm, which is concave in V Vᵀ."""
        inverse = torch.linalg.inv(self._gram(self._across(value)))
        return 2 * self.weight / self.delta * inverse, 0.0

    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        v = self._across(value)
        slope = 2 * self.weight / self.delta * torch.linalg.inv(self._gram(v))
        neg, pos = slope.neg().clamp_min(0) @ v, slope.clamp_min(0) @ v
        return self._across(neg), self._across(pos)
