"""How far a point is from satisfying the Karush-Kuhn-Tucker conditions of theta >= 0."""

from __future__ import annotations

import torch

from nmfnet.kernels.divergences import TINY
from nmfnet.types import Float, Tensor


def kkt_residual(theta: Float[Tensor, "*r a b"], neg: Tensor, pos: Tensor) -> Float[Tensor, "*r"]:
    """Root mean square of ``min(theta / rms(theta), (pos - neg) / rms(pos))``.

    The gradient is pos - neg. The residual is dimensionless, does not change when X or a factor is
    scaled, and is 0 exactly where theta >= 0, gradient >= 0 and theta * gradient = 0.

    Source: the natural residual of a complementarity problem (Facchinei & Pang 2003, section 1.5).
    """

    def rms(v: Tensor) -> Tensor:
        return v.double().square().mean((-2, -1), keepdim=True).sqrt().clamp_min(TINY)

    pos = pos.expand_as(theta)
    slack = torch.minimum(theta / rms(theta), (pos - neg) / rms(pos))
    return rms(slack)[..., 0, 0]
