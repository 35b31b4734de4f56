"""One smooth problem with bounds, by SciPy's L-BFGS-B."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from nmfnet.types import Float, Tensor

STARTS = 10
"""Most times that the search begins anew, without its memory of curvature, where it stopped."""


def minimise_within(
    value: Callable[[Tensor], Tensor],
    start: Float[Tensor, "n k"],
    bounds: Sequence[tuple[float, float]],
    *,
    max_iter: int = 5000,
    tol: float = 1e-8,
) -> Float[Tensor, "n k"]:
    """``argmin value(point)`` with every column of the point within its bounds, in float64.

    Parameters
    ----------
    value : callable
        Point to one number, by operations that can be differentiated.
    start : Tensor of float64, shape (n, k)
    bounds : sequence of (low, high), one for each column
    max_iter : int
    tol : float
        It ends when an iteration lowers the value by no more than this, relative.

    Notes
    -----
    SciPy takes a fall for relative only where the value is above 1, and its first step for one of unit
    length. So the value is measured in what it is where a search begins, and the point in its root mean
    square at the start.

    Source: Byrd, Lu, Nocedal & Zhu 1995.
    """
    from scipy.optimize import minimize

    unit = float(start.square().mean().sqrt()) or 1.0

    def differentiated(flat: np.ndarray, size: float) -> tuple[float, np.ndarray]:
        with torch.inference_mode(False), torch.enable_grad():
            point = torch.from_numpy(flat * unit).to(start.device).reshape(start.shape)
            point.requires_grad_()
            f = value(point)
            (g,) = torch.autograd.grad(f, point)
        return float(f.detach()) / size, g.cpu().numpy().ravel() * (unit / size)

    options: Any = {"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": tol, "gtol": 0.0}
    limits = [(low / unit, high / unit) for low, high in bounds] * start.shape[0]
    reached = start.detach().cpu().numpy().ravel() / unit
    for _ in range(STARTS):
        before, _ = differentiated(reached, 1.0)
        size = abs(before) or 1.0
        found = minimize(
            differentiated,
            reached,
            args=(size,),
            jac=True,
            method="L-BFGS-B",
            bounds=limits,
            options=options,
        )
        reached = found.x
        if not found.fun < before / size - 1e-6:
            break
    return torch.from_numpy(reached * unit).to(start.device).reshape(start.shape)
