"""Where a factor lives: a parametrisation with its inverse, or a projection after each step.

Chosen with ``constraint=NAME``. ``project`` (the raw parameter is the value, clamped after every
step) is the only one that multiplicative updates use; the others make any gradient method feasible.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import nn
from torch.nn import functional as F

from nmfnet.types import Tensor

FLOOR = 1e-12
"""Smallest value that the smooth parametrisations can be asked to represent."""


class Constraint(nn.Module, ABC):
    """Maps a raw parameter to a feasible value of the same shape."""

    identity: bool = False
    """True when the value *is* the raw parameter (what in-place solvers need)."""

    @abstractmethod
    def forward(self, raw: Tensor) -> Tensor:
        """The feasible value."""

    @abstractmethod
    def right_inverse(self, value: Tensor) -> Tensor:
        """A raw parameter whose value is ``value`` (feasible, else the nearest that is)."""

    def project_(self, raw: Tensor) -> None:
        """Bring the raw parameter back after a step; nothing to do for parametrisations."""

    def violation(self, value: Tensor) -> Tensor:
        """Largest infringement, a scalar; 0 = feasible."""
        return (-value).clamp_min(0).amax()


@final
class Project(Constraint):
    """value = raw, clamped at 0 after every step (projected gradient)."""

    identity = True

    def forward(self, raw: Tensor) -> Tensor:
        return raw

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(0)

    def project_(self, raw: Tensor) -> None:
        raw.clamp_(min=0)


@final
class Abs(Constraint):
    """value = |raw|. The variant behind the published AE-NMF results (Egendal et al. 2024)."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.abs()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(0)


@final
class ReLU(Constraint):
    """value = max(raw, 0). A weight that goes negative gets no gradient and stays dead."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.relu()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(0)


@final
class Softplus(Constraint):
    """value = log(1 + exp(raw)), strictly positive."""

    def forward(self, raw: Tensor) -> Tensor:
        return F.softplus(raw)

    def right_inverse(self, value: Tensor) -> Tensor:
        value = value.clamp_min(FLOOR)
        return value + torch.log(-torch.expm1(-value))


@final
class Square(Constraint):
    """value = raw². Zero is a stationary point of the gradient."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.square()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(0).sqrt()


@final
class Exp(Constraint):
    """value = exp(raw), strictly positive: gradient descent on raw is multiplicative in value."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.exp()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(FLOOR).log()


@final
class Simplex(Constraint):
    """value = softmax(raw) along the last axis: every row is non-negative and sums to 1."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.softmax(-1)

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(FLOOR).log()

    def violation(self, value: Tensor) -> Tensor:
        return torch.maximum((-value).amax(), (value.sum(-1) - 1).abs().amax()).clamp_min(0)


@final
class Free(Constraint):
    """value = raw, any sign: an ordinary weight."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw

    def right_inverse(self, value: Tensor) -> Tensor:
        return value

    def violation(self, value: Tensor) -> Tensor:
        return torch.zeros((), dtype=value.dtype, device=value.device)
