"""The two sums of a multiplicative update for any differentiable reconstruction, by autograd.

The oracle for every fused rule, and the solver for a new model that has none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from nmfnet.types import Tensor

Split = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def generic_sums(
    reconstruct: Callable[[], Tensor],
    theta: Tensor,
    x: Tensor,
    split: Split,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``Jᵀ(mask neg)`` and ``Jᵀ(mask pos)`` with J the derivative of ``reconstruct()`` by theta.

    Parameters
    ----------
    reconstruct : callable
        Gives x_hat, shape (*r, n, f), and reads ``theta``.
    theta : Tensor, requires grad
        The factor whose update is wanted; J must be non-negative (a multilinear model of
        non-negative factors).
    x : Tensor, shape (n, f)
    split : callable
        ``Loss.split``: (x, x_hat) -> (neg, pos).
    mask : Tensor, shape (n, f), optional

    Returns
    -------
    tuple of Tensor, each of theta's shape

    Source: the double-backward construction; both sums are vector-Jacobian products.
    """
    with torch.enable_grad():
        x_hat = reconstruct()
    neg, pos = split(x, x_hat.detach())
    if mask is not None:
        neg, pos = neg * mask, pos * mask
    (sum_neg,) = torch.autograd.grad(x_hat, theta, neg.expand_as(x_hat), retain_graph=True)
    (sum_pos,) = torch.autograd.grad(x_hat, theta, pos.expand_as(x_hat))
    return sum_neg, sum_pos
