"""Where networks start from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from nmfnet.kernels.divergences import TINY
from nmfnet.models._hierarchy import layerwise
from nmfnet.models._layers import at_first
from nmfnet.types import Batch, Float, Tensor

if TYPE_CHECKING:
    from nmfnet.core.factor import Factor
    from nmfnet.core.model import Factorization

LEAST = 0.01
"""Smallest entry of a start, in units of the mean: at 0 a logarithm or a product has no way back."""

RIDGE = 0.1
"""Of a layer's equations, in units of their mean diagonal. Smaller ones are worse for other rows."""


def settled(
    model: Factorization, H: Float[Tensor, "r k f"], batch: Batch
) -> tuple[Float[Tensor, "r n k"] | None, Float[Tensor, "r k f"]]:
    """W and H of an NMF fitted from H, for a network to start from; rows of H of about norm 1.

    No row and no column of them is 0. Data with negative entries have no NMF, and components that were
    given are wanted as they are: None and H are returned then.
    """
    if model.init.given or bool((batch.x < 0).any()):
        return None, H
    codes, found = layerwise(batch, [H], model.loss.beta, model.prelude.closely())
    return raised(codes[0], LEAST), raised(found[0], LEAST)


def aim(
    model: Factorization,
    hidden: Callable[[], Float[Tensor, "*r n w"]],
    weights: Factor,
    bias: Factor | None,
    wanted: Float[Tensor, "r n k"],
    norms: Iterable[nn.Module],
) -> None:
    """Let a layer start so that it says of hidden units about what is wanted, by ridge regression.

    From random weights some units of a code are 0 in all rows, and no slope brings them back. Norms get
    the statistics of these rows. One restart after the other, so that none changes how others round.

    Source: Huang, Zhu & Siew 2006, "Extreme learning machine: theory and applications", without the
    ridge.
    """
    for i, y in enumerate(wanted):
        with model.restarts(slice(i, i + 1)), at_first(norms):
            h = hidden()
            x = h[0] if h.ndim == 3 else h
            if bias is not None:
                mean, centre = x.mean(0), y.mean(0)
                x, y = x - mean, y - centre
            found = _ridge(x, y)
            weights.assign_(found[None])
            if bias is not None:
                bias.assign_((centre - mean @ found)[None, None])


def _ridge(x: Float[Tensor, "n w"], y: Float[Tensor, "n k"]) -> Float[Tensor, "w k"]:
    n, w = x.shape
    least = (RIDGE * n * x.square().mean()).clamp_min(TINY)
    ridge = least * torch.eye(min(n, w), dtype=x.dtype, device=x.device)
    if n < w:  # the same weights from the smaller equations
        return x.mT @ torch.linalg.solve(x @ x.mT + ridge, y)
    return torch.linalg.solve(x.mT @ x + ridge, x.mT @ y)


def raised(factor: Float[Tensor, "r a b"], least: float) -> Float[Tensor, "r a b"]:
    """A factor >= 0 with no entry below ``least`` times its mean."""
    return factor.clamp_min(least * factor.mean((-2, -1), keepdim=True))
