"""Where networks start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nmfnet.kernels.divergences import TINY
from nmfnet.models._hierarchy import layerwise
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
    weights: Factor, bias: Factor | None, h: Float[Tensor, "*r n w"], wanted: Float[Tensor, "r n k"]
) -> None:
    """Let a layer start so that it says of its input h about what is wanted, by ridge regression.

    From random weights some units of a code are 0 in all rows, and no slope brings them back.

    Source: Huang, Zhu & Siew 2006, "Extreme learning machine: theory and applications", without the
    ridge.
    """
    if bias is not None:
        mean, centre = h.mean(-2, keepdim=True), wanted.mean(-2, keepdim=True)
        h, wanted = h - mean, wanted - centre
    n, w = h.shape[-2:]
    least = (RIDGE * n * h.square().mean((-2, -1), keepdim=True)).clamp_min(TINY)
    ridge = least * torch.eye(min(n, w), dtype=h.dtype, device=h.device)
    if n < w:  # the same weights from the smaller equations
        weights.assign_(h.mT @ torch.linalg.solve(h @ h.mT + ridge, wanted))
    else:
        weights.assign_(torch.linalg.solve(h.mT @ h + ridge, h.mT @ wanted))
    if bias is not None:
        bias.assign_(centre - mean @ weights())


def raised(factor: Float[Tensor, "r a b"], least: float) -> Float[Tensor, "r a b"]:
    """A factor >= 0 with no entry below ``least`` times its mean."""
    return factor.clamp_min(least * factor.mean((-2, -1), keepdim=True))
