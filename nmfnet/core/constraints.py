"""Where a factor lives: a parametrisation with its inverse, or a projection after each step.

Chosen with ``constraint=NAME``, or for one factor with ``constraint.W=NAME``. A constraint answers
questions (what is feasible, what is nearest, where are the bounds, may entries be scaled), and solvers
ask it instead of its class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, final

import torch
from torch import nn
from torch.nn import functional as F

from nmfnet.errors import UserError
from nmfnet.kernels.hull import nearest_on_simplex
from nmfnet.kernels.sparseness import nearest_of_sparseness
from nmfnet.settings.ranges import Positive, Share
from nmfnet.types import Tensor

FLOOR = 1e-12
"""Smallest value that the smooth parametrisations can be asked to represent."""

NON_NEGATIVE = (0.0, float("inf"))
ANY = (-float("inf"), float("inf"))


class Constraint(nn.Module, ABC):
    """Maps a raw parameter to a feasible value of the same shape.

    A subclass whose value is the raw parameter itself sets ``identity`` and overrides ``project_``;
    one that is a parametrisation overrides ``forward`` and ``right_inverse`` only.
    """

    identity: bool = False
    """Whether the value *is* the raw parameter (what in-place solvers need)."""

    bounds: tuple[float, float] | None = None
    """The least and largest entry where the feasible set is all that lies between; None = it is not."""

    row_sum: float | None = None
    """What rows sum to, where the feasible set is all rows >= 0 of that sum; None = it is not."""

    closed_under_scaling: bool = False
    """Whether a feasible value stays feasible when its entries are multiplied by numbers > 0."""

    convex: bool = True
    """Whether all between two feasible values is feasible."""

    one_in: Literal["", "row", "column"] = ""
    """What has only one entry that is not 0, so that components share nothing."""

    @abstractmethod
    def forward(self, raw: Tensor) -> Tensor:
        """The feasible value."""

    @abstractmethod
    def right_inverse(self, value: Tensor) -> Tensor:
        """A raw parameter whose value is ``value`` (feasible, else the nearest that is)."""

    def project_(self, raw: Tensor) -> None:
        """Bring the raw parameter back after a step; nothing to do for parametrisations."""

    def project(self, value: Tensor) -> Tensor:
        """The feasible value nearest to ``value``."""
        if not self.identity:
            return self(self.right_inverse(value))
        nearest = value.clone()
        self.project_(nearest)
        return nearest

    def of_axes(self, rows: str, columns: str) -> Constraint:
        """This constraint for a factor with these axes."""
        return self

    def balance(self, value: Tensor, neg: Tensor, pos: Tensor) -> Tensor:
        """What ``neg`` is weighed against in multiplicative updates towards this set: ``pos``."""
        return pos

    def violation(self, value: Tensor) -> Tensor:
        """Largest infringement, a scalar >= 0; 0 = feasible."""
        return (self.project(value) - value).abs().amax()

    @final
    def contains(self, value: Tensor, tol: float = 1e-5) -> bool:
        """Whether a value is feasible, up to ``tol``."""
        return bool(self.violation(value) <= tol)


class _NonNegative(Constraint, ABC):
    """All values that are >= 0, however they are represented."""

    bounds = NON_NEGATIVE
    closed_under_scaling = True

    def project(self, value: Tensor) -> Tensor:
        return value.clamp_min(0)

    def violation(self, value: Tensor) -> Tensor:
        return (-value).clamp_min(0).amax()


@final
class Project(_NonNegative):
    """value = raw, clamped at 0 after every step (projected gradient)."""

    identity = True

    def forward(self, raw: Tensor) -> Tensor:
        return raw

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(0)

    def project_(self, raw: Tensor) -> None:
        raw.clamp_(min=0)


@final
class Abs(_NonNegative):
    """value = |raw|. The variant behind the published AE-NMF results (Egendal et al. 2024)."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.abs()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(0)


@final
class ReLU(_NonNegative):
    """value = max(raw, 0). A weight that goes negative gets no gradient and stays dead."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.relu()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(0)


@final
class Softplus(_NonNegative):
    """value = log(1 + exp(raw)), strictly positive."""

    def forward(self, raw: Tensor) -> Tensor:
        return F.softplus(raw)

    def right_inverse(self, value: Tensor) -> Tensor:
        value = value.clamp_min(FLOOR)
        return value + torch.log(-torch.expm1(-value))


@final
class Square(_NonNegative):
    """value = raw². Zero is a stationary point of the gradient."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.square()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(0).sqrt()


@final
class Exp(_NonNegative):
    """value = exp(raw), strictly positive: gradient descent on raw is multiplicative in value."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.exp()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(FLOOR).log()


class _OnSimplex(Constraint, ABC):
    """Rows that are >= 0 and sum to 1."""

    row_sum = 1.0

    def project(self, value: Tensor) -> Tensor:
        return nearest_on_simplex(value)

    def violation(self, value: Tensor) -> Tensor:
        return torch.maximum((-value).amax(), (value.sum(-1) - 1).abs().amax()).clamp_min(0)


@final
class Simplex(_OnSimplex):
    """value = softmax(raw) along the last axis: every row is positive and sums to 1."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.softmax(-1)

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.clamp_min(FLOOR).log()


@final
class SimplexProject(_OnSimplex):
    """value = raw, moved to the nearest point of the simplex after every step: exact zeros.

    Source: Duchi et al. 2008, "Efficient projections onto the l1-ball", figure 1.
    """

    identity = True

    def forward(self, raw: Tensor) -> Tensor:
        return raw

    def right_inverse(self, value: Tensor) -> Tensor:
        total = value.clamp_min(0).sum(-1, keepdim=True)
        return torch.where(total > 0, value.clamp_min(0) / total.clamp_min(FLOOR), value)

    def project_(self, raw: Tensor) -> None:
        raw.copy_(nearest_on_simplex(raw))


@final
class Orthogonal(Constraint):
    """value = raw >= 0 with one entry for every sample, or feature, that is not 0.

    Vectors >= 0 are orthogonal exactly when they do not overlap: every sample (row of W) or feature
    (column of H) belongs to one component, with a weight. After a step the largest entry stays, which
    is the nearest such value. A factor without samples and features has one entry in every row.

    Source: Ding, Li, Peng & Park 2006, section 2.
    """

    identity = True
    closed_under_scaling = True
    convex = False

    one_in: Literal["", "row", "column"] = "row"

    def of_axes(self, rows: str, columns: str) -> Constraint:
        items = ("sample", "feature")
        if rows in items or columns not in items:
            return self
        turned = Orthogonal()
        turned.one_in = "column"
        return turned

    @property
    def axis(self) -> int:
        """That of the components."""
        return -1 if self.one_in == "row" else -2

    def forward(self, raw: Tensor) -> Tensor:
        return raw

    def right_inverse(self, value: Tensor) -> Tensor:
        return self.project(value)

    def project_(self, raw: Tensor) -> None:
        first = raw.argmax(self.axis, keepdim=True)
        kept = raw.gather(self.axis, first).clamp_min(0)
        raw.zero_().scatter_(self.axis, first, kept)

    def balance(self, value: Tensor, neg: Tensor, pos: Tensor) -> Tensor:
        """``V Vᵀ neg``: where the components V are orthonormal it has the multipliers in it."""
        return value @ (value.mT @ neg) if self.axis == -1 else (neg @ value.mT) @ value


@final
class Hoyer(Constraint):
    r"""value = raw, moved after every step to the nearest rows >= 0 of one sparseness (or of zeros).

    The sparseness of a row v of d entries is ``(√d - |v|₁ / |v|₂) / (√d - 1)``: 0 where all entries are
    equal, 1 where only one is not 0. It fixes the ratio of the two norms. Rows of H are components
    (sparse parts), rows of W the codes of samples (few parts in each).

    Parameters
    ----------
    sparseness : float in (0, 1)
    norm : float, > 0, optional
        Length |v|₂ that rows have, too; None = any, so that scale is free as in plain NMF.

    Source: Hoyer 2004, "Non-negative matrix factorization with sparseness constraints", eq. (1); Thom
    & Palm 2013, "Sparse activity and sparse connectivity in supervised learning" (the projection is a
    threshold and a scale).

    Differs from the source: the threshold is computed in closed form, where Hoyer projects in turns; and
    rows are constrained, which for W are the samples and not the components.
    """

    identity = True
    convex = False

    def __init__(self, *, sparseness: Share = 0.75, norm: Positive | None = None) -> None:
        super().__init__()
        self.sparseness, self.norm = sparseness, norm

    def forward(self, raw: Tensor) -> Tensor:
        return raw

    def right_inverse(self, value: Tensor) -> Tensor:
        if value.shape[-1] < 2:
            raise UserError(
                "constraint=hoyer: the rows of a factor have a single entry, which has no sparseness: "
                "use constraint=project for it, or more components"
            )
        return value

    def project_(self, raw: Tensor) -> None:
        raw.copy_(nearest_of_sparseness(raw, self.sparseness, self.norm))


@final
class Free(Constraint):
    """value = raw, any sign: an ordinary weight."""

    identity = True
    bounds = ANY
    closed_under_scaling = True

    def forward(self, raw: Tensor) -> Tensor:
        return raw

    def right_inverse(self, value: Tensor) -> Tensor:
        return value

    def violation(self, value: Tensor) -> Tensor:
        return torch.zeros((), dtype=value.dtype, device=value.device)
