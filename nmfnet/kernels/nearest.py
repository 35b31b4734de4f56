"""The nearest point of a curved surface: damped Gauss-Newton steps, row by row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd.functional import jvp

from nmfnet.types import Float, Tensor


def nearest(
    surface: Callable[[Tensor], Tensor],
    x: Float[Tensor, "*#r n f"],
    start: Float[Tensor, "*r n k"],
    *,
    ridge: float,
    max_iter: int = 50,
    tol: float = 1e-6,
) -> Float[Tensor, "*r n k"]:
    """``argmin_z |x - surface(z)|² + ridge |z|²``, a local one, of every row by itself.

    Parameters
    ----------
    surface : callable
        Codes (*r, n, k) to points (*r, n, f), row by row.
    ridge : float, > 0
    tol : float
        A row is done when a step has lowered its value by less than this, relative, or when no step
        as short as its rounding lowers it.

    Source: Levenberg 1944; Marquardt 1963, "An algorithm for least-squares estimation of nonlinear
    parameters". Steps pull rows of slightly different rounding together, where steps that hang on the
    one before would drive them apart.
    """
    unit = torch.eye(start.shape[-1], dtype=start.dtype, device=start.device)

    def value(z: Tensor) -> Tensor:
        return (x - surface(z)).square().sum(-1) + ridge * z.square().sum(-1)

    z, lowest = start, value(start)
    damping = torch.full_like(lowest, 1e-2)
    open_ = torch.ones_like(lowest, dtype=torch.bool)
    for _ in range(max_iter):
        slopes = torch.stack([jvp(surface, z, one.expand_as(z))[1] for one in unit], -1)
        curvature = slopes.mT @ slopes
        downhill = (slopes.mT @ (x - surface(z)).unsqueeze(-1)).squeeze(-1) - ridge * z
        size = curvature.diagonal(dim1=-2, dim2=-1).mean(-1) + ridge
        system = curvature + (ridge + damping * size)[..., None, None] * unit
        trial = z + torch.linalg.solve(system, downhill)
        new = value(trial)
        better = open_ & (new < lowest)
        open_ = open_ & ~(better & (lowest - new <= tol * lowest)) & (damping < 1e12)
        z = torch.where(better.unsqueeze(-1), trial, z)
        lowest = torch.where(better, new, lowest)
        damping = torch.where(better, damping / 5, damping * 5)
        if not bool(open_.any()):
            break
    return z
