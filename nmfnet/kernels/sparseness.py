"""The nearest rows of a given sparseness (Hoyer's), in closed form."""

from __future__ import annotations

import torch

from nmfnet.types import Float, Tensor


def nearest_of_sparseness(
    value: Float[Tensor, "*r a b"], sparseness: float, norm: float | None
) -> Float[Tensor, "*r a b"]:
    """The nearest of all rows >= 0 of this sparseness, of any length or of one.

    The direction is that of ``max(v - t, 0)``, with the threshold t at which L1 / L2 is the q that the
    sparseness asks for. With i entries above it, of mean m and sum of squared deviations V, it is
    ``t = m - q √(V / (i (i - q²)))``. The ratio falls with t, so i is the first number of entries for
    which q can be reached.
    """
    q = value.shape[-1] ** 0.5 * (1 - sparseness) + sparseness
    v = value.double()
    shape = _above_threshold(v, q)
    tied = ~(shape > 0).any(-1, keepdim=True)
    if bool(tied.any()):
        largest = v == v.amax(-1, keepdim=True)  # any of them could be taken: the first ones
        in_order = torch.where(largest, -largest.cumsum(-1).double(), -1e6 * value.shape[-1])
        shape = torch.where(tied, _above_threshold(in_order, q), shape)
    unit = shape / shape.square().sum(-1, keepdim=True).sqrt()
    length = (v * unit).sum(-1, keepdim=True).clamp_min(0) if norm is None else norm
    return (length * unit).to(value.dtype)


def _above_threshold(v: Float[Tensor, "*r a b"], q: float) -> Float[Tensor, "*r a b"]:
    """``max(v - t, 0)`` for the t at which L1 / L2 of a row is q; zeros where ties leave no such t."""
    v = v - v.amax(-1, keepdim=True)  # little is then lost to rounding
    down = v.sort(-1, descending=True).values
    count = torch.arange(1, v.shape[-1] + 1, dtype=v.dtype, device=v.device)
    sums, squares = down.cumsum(-1), down.square().cumsum(-1)
    following = torch.cat([down[..., 1:], torch.full_like(down[..., :1], -torch.inf)], -1)
    l1 = sums - count * following  # of what is above the next entry
    l2 = (squares - 2 * following * sums + count * following.square()).clamp_min(0).sqrt()
    reached = (l1 > 0) & (count > q * q) & ((l1 >= q * l2) | (following == -torch.inf))
    last = reached.long().argmax(-1, keepdim=True)  # the first count that will do
    i, mean = last.to(v.dtype) + 1, sums.gather(-1, last) / (last + 1)
    entries = torch.arange(v.shape[-1], device=v.device) <= last
    spread = torch.where(entries, down - mean, 0).square().sum(-1, keepdim=True)
    return (v - mean + q * (spread / (i * (i - q * q))).sqrt()).clamp_min(0)
