"""Where networks start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nmfnet.models._hierarchy import layerwise
from nmfnet.types import Batch, Float, Tensor

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

LEAST = 0.01
"""Smallest entry of a start, in units of the mean: at 0 a logarithm or a product has no way back."""


def settled_components(
    model: Factorization, H: Float[Tensor, "r k f"], batch: Batch
) -> Float[Tensor, "r k f"]:
    """H of an NMF fitted from H, for a decoder to start from; rows of about norm 1, none 0.

    Data with negative entries have no NMF, and components that were given are wanted as they are: H
    is returned then.
    """
    if model.init.given or bool((batch.x < 0).any()):
        return H
    _, found = layerwise(batch, [H], model.loss.beta, model.prelude.closely())
    return raised(found[0], LEAST)


def raised(factor: Float[Tensor, "r a b"], least: float) -> Float[Tensor, "r a b"]:
    """A factor >= 0 with no entry below ``least`` times its mean."""
    return factor.clamp_min(least * factor.mean((-2, -1), keepdim=True))
