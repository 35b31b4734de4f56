"""The two sums of a multiplicative update for any differentiable reconstruction, by autograd.

The oracle for every fused rule, and the solver for a new model that has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from nmfnet.kernels.rows import dense
from nmfnet.types import Output, Tensor, View

Halves = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor] | None]


def generic_sums(
    reconstruct: Callable[[], Mapping[str, Output]],
    theta: Tensor,
    views: Mapping[str, View],
    split: Callable[[str], Halves],
    weight: Callable[[str], float] = lambda view: 1.0,
) -> tuple[Tensor, Tensor]:
    """``Σ_v Jᵥᵀ(weight neg)`` and ``Σ_v Jᵥᵀ(weight pos)``, Jᵥ the derivative of view v by theta.

    Parameters
    ----------
    reconstruct : callable
        Gives X_hat of every view, each (*r, n, f_v), and reads ``theta``.
    theta : Tensor, requires grad
        The factor whose update is wanted; J must be non-negative (a multilinear model of
        non-negative factors).
    views : mapping of str to View
        X and weights of every view.
    split : callable
        ``Loss.split`` of a view by its name: (x, x_hat, mask) -> (neg, pos), which the mask is still
        to weigh.
    weight : callable
        How much a view counts, by its name.

    Returns
    -------
    tuple of Tensor, each of theta's shape

    Source: the double-backward construction; both sums are vector-Jacobian products.
    """
    with torch.enable_grad():
        outputs = reconstruct()
    means, negs, poss = [], [], []
    for name, output in outputs.items():
        view, x_hat = views[name], output.mean
        seen = None if view.mask is None else dense(view.mask)
        halves = split(name)(dense(view.x), x_hat.detach(), seen)
        assert halves is not None
        if seen is not None:
            halves = halves[0] * seen, halves[1] * seen
        means.append(x_hat)
        negs.append((weight(name) * halves[0]).expand_as(x_hat))
        poss.append((weight(name) * halves[1]).expand_as(x_hat))
    (neg,) = torch.autograd.grad(means, theta, negs, retain_graph=True)
    (pos,) = torch.autograd.grad(means, theta, poss)
    return neg, pos
