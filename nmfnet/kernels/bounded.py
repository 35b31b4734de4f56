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

    Source: Byrd, Lu, Nocedal & Zhu 1995.
    """
    from scipy.optimize import minimize

    def differentiated(flat: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.inference_mode(False), torch.enable_grad():
            point = torch.from_numpy(flat.copy()).to(start.device).reshape(start.shape)
            point.requires_grad_()
            f = value(point)
            (g,) = torch.autograd.grad(f, point)
        return float(f.detach()), g.cpu().numpy().ravel()

    options: Any = {"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": tol, "gtol": 0.0}
    limits = list(bounds) * start.shape[0]
    reached, before = start.detach().cpu().numpy().ravel(), np.inf
    for _ in range(STARTS):
        found = minimize(
            differentiated, reached, jac=True, method="L-BFGS-B", bounds=limits, options=options
        )
        reached = found.x
        if not found.fun < before - 1e-6 * abs(found.fun):
            break
        before = found.fun
    return torch.from_numpy(reached).to(start.device).reshape(start.shape)
