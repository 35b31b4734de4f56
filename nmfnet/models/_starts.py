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
    """H of the NMF that settles from H, for a decoder to start from; rows of about norm 1, none 0.

    Data with negative entries have no NMF, and components that were given are wanted as they are: H
    is returned then.
    """
    if model.init.given or bool((batch.x < 0).any()):
        return H
    rule = model.budget
    _, found = layerwise(batch, [H], model.loss.beta, rule.quiet, rule.max_iter)
    return found[0].clamp_min(LEAST * found[0].mean((-2, -1), keepdim=True))
