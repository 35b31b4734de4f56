"""Spectral projected gradients for many small problems side by side."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nmfnet.types import Tensor

MEMORY = 5
"""Objectives, of which a step may not end above the largest."""

TRIALS = 25
"""Lengths that are tried for a step, each a third of the one before."""


def minimise(
    value: Callable[[Tensor], Tensor],
    project: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    max_iter: int = 1000,
    tol: float = 1e-10,
    patience: int = 4 * MEMORY,
) -> Tensor:
    """``argmin value(point)`` over a set, for every group of the point by itself.

    Parameters
    ----------
    value : callable
        Point (*g, ...) to objectives (*g): the leading axes are groups, of which none depends on
        another, so that each has a step length of its own and stops by itself.
    project : callable
        Point to the nearest feasible point.
    start : Tensor, shape (*g, ...)
    max_iter : int
    tol : float
        A group is done when its lowest objective has fallen by less than this, relative, ``patience``
        times in a row.
    patience : int
        Well above MEMORY: for so long an objective may lie above the lowest without being near the end.

    Returns
    -------
    Tensor, shape (*g, ...)
        The best point that every group has met.

    Source: Birgin, Martínez & Raydan 2000, algorithm 1 (SPG1), with Barzilai & Borwein's step lengths.
    """
    point = project(start)
    f, g = _differentiate(value, point)

    def spread(number: Tensor) -> Tensor:
        return number.reshape(*number.shape, *([1] * (point.ndim - number.ndim)))

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).flatten(f.ndim).sum(-1) if point.ndim > f.ndim else a * b

    size = inner(point, point).sqrt().clamp_min(1e-12)
    step = 0.1 * size / inner(g, g).sqrt().clamp_min(1e-300)
    past, best, lowest = [f], point, f
    quiet = torch.zeros_like(f)
    for _ in range(max_iter):
        share, bound = torch.ones_like(f), torch.stack(past).amax(0)
        resting = quiet >= patience
        for _trial in range(TRIALS):
            new = torch.where(spread(resting), point, project(point - spread(share * step) * g))
            f_new, g_new = _differentiate(value, new)
            moved = new - point
            good = (f_new <= bound + 1e-4 * inner(g, moved)) | resting
            if bool(good.all()):
                break
            share = torch.where(good, share, share / 3)
        new, f_new = torch.where(spread(good), new, point), torch.where(good, f_new, f)
        g_new = torch.where(spread(good), g_new, g)
        s, y = new - point, g_new - g
        curvature = inner(s, y)
        longer = torch.where(good, 3 * step, step * 3.0 ** (-TRIALS // 2))
        step = torch.where(curvature > 0, inner(s, s) / curvature.clamp_min(1e-300), longer)
        step = torch.where(step.isfinite() & (step > 0), step, 1e-3)
        point, f, g = new, f_new, g_new
        past = [*past[1 - MEMORY :], f]
        fallen = lowest - f
        quiet = torch.where(fallen > tol * lowest.abs(), 0, quiet + 1)
        best = torch.where(spread(fallen > 0), point, best)
        lowest = torch.minimum(lowest, f)
        if bool((quiet >= patience).all()):
            break
    return best


def _differentiate(value: Callable[[Tensor], Tensor], point: Tensor) -> tuple[Tensor, Tensor]:
    """Objectives of the groups (infinite where they are not numbers), and the gradient."""
    with torch.inference_mode(False), torch.enable_grad():
        at = point.detach().clone().requires_grad_()
        f = value(at)
        (g,) = torch.autograd.grad(f.sum(), at)
    return torch.where(f.isfinite(), f, torch.inf).detach(), torch.where(g.isfinite(), g, 0.0)
