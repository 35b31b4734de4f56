"""Layers that hold r independent copies of themselves, one per restart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import nn
from torch.nn import functional as F

from nmfnet.core.factor import Factor
from nmfnet.core.model import Factorization
from nmfnet.errors import UserError
from nmfnet.types import Float, Tensor

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "softplus": F.softplus,
    "elu": F.elu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def softplus_inverse(y: Tensor) -> Tensor:
    """What softplus turns into y > 0."""
    return y + torch.log(-torch.expm1(-y))


BEFORE: dict[str, Activation] = {"relu": torch.clone, "softplus": softplus_inverse}
"""What an activation turns into y > 0, for those that reach any y."""


def axes_between(model: Factorization, hidden: Sequence[int]) -> list[str]:
    """Names of the layers' widths from the features to the components; the model learns their sizes.

    Raises
    ------
    UserError
        If a width is not at least 1.
    """
    if bad := [width for width in hidden if width < 1]:
        raise UserError(f"model.hidden has a width of {bad[0]}: every width must be >= 1")
    names = [f"hidden {i}" for i in range(1, len(hidden) + 1)]
    model.axes |= dict(zip(names, hidden, strict=True))
    return ["feature", *names, "component"]


@final
class BatchNorm(nn.Module):
    """Batch normalisation over the rows, separately for each restart and unit, with scale and shift.

    ``eps`` is added to the variance.

    Source: Ioffe & Szegedy 2015, algorithms 1 and 2.
    """

    def __init__(
        self, n_restarts: int, width: int, momentum: float = 0.1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.scale = nn.Parameter(torch.ones(n_restarts, 1, width))
        self.shift = nn.Parameter(torch.zeros(n_restarts, 1, width))
        self.register_buffer("mean", torch.zeros(n_restarts, 1, width))
        self.register_buffer("variance", torch.ones(n_restarts, 1, width))
        self.mean: Tensor
        self.variance: Tensor

    def forward(self, x: Float[Tensor, "*r n h"]) -> Float[Tensor, "*r n h"]:
        if self.training and x.shape[-2] > 1:
            variance, mean = torch.var_mean(x, -2, correction=0, keepdim=True)
            with torch.no_grad():
                self.mean.lerp_(mean.detach(), self.momentum)
                self.variance.lerp_(variance.detach(), self.momentum)
        else:
            mean, variance = self.mean, self.variance
        return (x - mean) * (variance + self.eps).rsqrt() * self.scale + self.shift


@contextmanager
def at_first(norms: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, norms take the statistics of the rows that come, for there were none before."""
    kept = [(norm, norm.momentum) for norm in norms if isinstance(norm, BatchNorm)]
    for norm, _ in kept:
        norm.momentum = 1.0
    try:
        yield
    finally:
        for norm, momentum in kept:
            norm.momentum = momentum


def affine(h: Tensor, weights: nn.ModuleList, biases: nn.ModuleList, layer: int) -> Tensor:
    """What goes into the activation of a layer; a network without biases has none of them."""
    h = h @ weights[layer]()
    return h + biases[layer]() if biases else h


def hidden_units(
    h: Float[Tensor, "n f"],
    weights: nn.ModuleList,
    biases: nn.ModuleList,
    act: Activation,
    norms: nn.ModuleList,
) -> Float[Tensor, "*r n w"]:
    """What the last layer of an encoder sees of X: every layer before it, its activation, its norm."""
    for i in range(len(weights) - 1):
        h = act(affine(h, weights, biases, i))
        h = norms[i](h) if norms else h
    return h


@final
class Affine(nn.Module):
    """``h weights + c covariates``, then a bias, or the norm, in which a bias would be lost."""

    def __init__(
        self, weights: Factor, bias: Factor | None, beside: Factor | None, norm: BatchNorm | None
    ) -> None:
        super().__init__()
        self.weights, self.bias, self.beside, self.norm = weights, bias, beside, norm

    def forward(self, h: Tensor, c: Tensor | None = None) -> Tensor:
        h = h @ self.weights()
        if self.beside is not None:
            assert c is not None
            h = h + c @ self.beside()
        if self.norm is not None:
            h = self.norm(h)
        return h if self.bias is None else h + self.bias()

    def shift(self, value: Tensor) -> None:
        """Set the bias."""
        assert self.bias is not None
        self.bias.assign_(value)


def start_glorot(model: Factorization) -> None:
    """Uniform weights of the size that keeps variances from layer to layer, and biases of 0.

    Source: Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural
    networks", eq. (16).
    """
    for factor in model.own_factors().values():
        bound = 0 if factor.axes[0] == "one" else (6 / sum(factor.raw.shape[1:])) ** 0.5
        factor.assign_(bound * (2 * model.uniform(factor) - 1))


def dropped(model: Factorization, h: Tensor, share: float, draw: int) -> Tensor:
    """Hidden units of which a training step leaves out a share, by the noise of its own ``draw``."""
    if not share or model.now is None:
        return h
    level = 2**0.5 * torch.erfinv(torch.tensor(2 * share - 1.0))
    stays = model.noise(h.shape[-2], h.shape[-1], draw=draw) > level.to(h)
    return h * stays / (1 - share)
