"""The energy distance of two clouds of points, in any number of dimensions."""

from __future__ import annotations

import torch

from nmfnet.types import Float, Tensor


def energy_distance(
    a: Float[Tensor, "*#r m f"], b: Float[Tensor, "*#r n f"]
) -> Float[Tensor, "*r"]:
    """``2 E|a - b| - E|a - a'| - E|b - b'|`` in float64; 0 for the same cloud, and above for others.

    Means are over all pairs of rows, a row with itself among them.

    Source: Székely & Rizzo 2013, "Energy statistics: a class of statistics based on distances".
    """
    a, b = a.double(), b.double()
    between, within_a, within_b = (
        torch.cdist(x, y).mean((-2, -1)) for x, y in ((a, b), (a, a), (b, b))
    )
    return 2 * between - within_a - within_b
