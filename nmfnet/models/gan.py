"""Generative adversarial network: a generator of rows, and a critic that tells them from the data."""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np
import torch
from torch import nn

from nmfnet.core.constraints import Free
from nmfnet.core.factor import Factor
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.energy import energy_distance
from nmfnet.kernels.nearest import nearest
from nmfnet.settings.ranges import Count, NotNegative
from nmfnet.types import Batch, Float, Player, Tensor

DRAWN = 1000
"""Rows that are generated to judge by, and most rows of X that they are held against."""

RIDGE = 1e-3
"""Weight of ``|z|²`` beside the squared distance, in the search for the code of a row."""


@final
class GAN(Factorization):
    r"""X ~ G(z) with z ~ N(0, 1), G a network that a critic D cannot tell from the data.

    ======  ===========================================  ==================  =====================
    symbol  meaning                                      code                shape
    ======  ===========================================  ==================  =====================
    X       data                                         ``batch.x``         n_samples, n_features
    x       X with mean 0 and variance 1                 ``_standard``       n_samples, n_features
    z       code                                         ``encode``          n_samples, components
    G       generator of rows, of two hidden layers      ``generator``       components, n_features
    D       critic: how real a row looks                 ``critic``          n_features, 1
    x̂       between a row of the data and a generated    ``mix``             rows, n_features
    λ       weight of the gradient penalty               ``penalty_weight``  1
    ======  ===========================================  ==================  =====================

    The critic goes down ``E D(G(z)) - E D(x) + λ E (|∇ D(x̂)| - 1)²``, the generator ``-E D(G(z))``. This
    is a game, in which no objective falls, so that a run ends with its budget and never converges. What
    judges it, and chooses among restarts and moments, is the energy distance between a thousand
    generated rows, always of the same z, and the training rows (a thousand at most, evenly spaced), in
    standard deviations of the features. The objective is that, times the rows.

    There is no encoder and no likelihood. The code of a row is searched for: the z of the nearest
    generated row, ``min |x - G(z)|² + |z|²/1000``, from the best of a thousand draws.

    Parameters
    ----------
    n_components : int, >= 1
        Length of z.
    hidden : int, >= 1
        Units of every hidden layer of both networks.
    penalty_weight : float, >= 0
        λ.

    Source: Gulrajani, Ahmed, Arjovsky, Dumoulin & Courville 2017, "Improved training of Wasserstein
    GANs", algorithm 1; Goodfellow et al. 2014 (the game); Bora, Jalal, Price & Dimakis 2017 (the search).

    Differs from the source: λ = 1, since the networks are small; what is kept is the best moment.
    """

    code = "real"
    linear = False
    generative = True
    ends_by_budget = "the players of a game have no objective in common that could settle"
    has_components = False
    multilinear = False  # type: ignore[assignment]

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: Count = 4,
        hidden: Count = 64,
        penalty_weight: NotNegative = 1.0,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.penalty_weight = penalty_weight
        self.axes["hidden"] = hidden
        self.generator = _Network(self, "G", "component", "feature")
        self.critic = _Network(self, "D", "feature", "one")
        for name in ("centre", "spread"):
            self.register_buffer(name, torch.ones(self.n_restarts, 1, self.sizes.n_features))
        self.centre: Tensor
        self.spread: Tensor

    # ------------------------------------------------------------------ the model
    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return self.generator(W) * self.spread + self.centre

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """The z of the nearest generated row."""
        x, z = self._standard(batch.x), self.noise(DRAWN, self.n_components)
        best = torch.cdist(x, self.generator(z)).argmin(-1, keepdim=True)
        start = z.gather(-2, best.expand(*best.shape[:-1], self.n_components))
        return nearest(self.generator, x, start, ridge=RIDGE)

    def players(self) -> list[Player]:
        return [
            Player(list(self.critic.parameters()), self.critic_loss),
            Player(list(self.generator.parameters()), self.generator_loss),
        ]

    def critic_loss(self, batch: Batch) -> Float[Tensor, "*r"]:
        """How much more real generated rows look than the data, and how far slopes are from 1."""
        x, n = self._standard(batch.x), batch.x.shape[-2]
        with torch.no_grad():
            made = self.generator(self.noise(n, self.n_components, draw=1))
            share = torch.special.ndtr(self.noise(n, 1, draw=2))
            mix = share * x + (1 - share) * made
        mix.requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(mix).sum(), mix, create_graph=True)
        steepness = (slope.square().sum(-1) + 1e-12).sqrt()
        gap = self.critic(made) - self.critic(x)
        return gap.mean((-2, -1)) + self.penalty_weight * (steepness - 1).square().mean(-1)

    def generator_loss(self, batch: Batch) -> Float[Tensor, "*r"]:
        """Minus how real generated rows look."""
        made = self.generator(self.noise(batch.x.shape[-2], self.n_components, draw=1))
        return -self.critic(made).mean((-2, -1))

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r"]]:
        """What the game is judged by."""
        return {"energy": batch.x.shape[-2] * self._distance(batch, draw=0)}

    def _distance(self, batch: Batch, draw: int) -> Float[Tensor, "*r"]:
        every = -(-batch.x.shape[-2] // DRAWN)
        made = self.generator(self.noise(DRAWN, self.n_components, draw=draw))
        return energy_distance(made, self._standard(batch.x[..., ::every, :]))

    def _standard(self, x: Float[Tensor, "*#r n f"]) -> Float[Tensor, "*r n f"]:
        return (x - self.centre) / self.spread

    def components(self) -> Float[Tensor, "*r k f"]:
        raise UserError("model=gan has no components: its code has no unit with a row of its own")

    # ------------------------------------------------------------------ fit and numbers
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Weights as He et al. 2015 draw them for rectified units; features in their deviations."""
        if batch.mask is not None:
            raise UserError(
                "model=gan needs every entry of a row: leave the mask out, or fill X in"
            )
        for network in (self.generator, self.critic):
            for weights, bias in network.layers:
                weights.assign_(self.normal(weights) * (2 / weights.raw.shape[-2]) ** 0.5)
                bias.assign_(torch.zeros_like(bias.raw))
        x = batch.x.double()
        spread = x.std(0, correction=0)
        self.centre.copy_(x.mean(0))
        self.spread.copy_(torch.where(spread > 0, spread, 1))

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        """By rows that were not drawn to judge."""
        return {f"{part}/energy_distance": float(self._distance(batch, draw=3))}

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """A ring of eight normal laws."""
        angle = np.pi / 4 * rng.integers(8, size=80)
        ring = 2 * np.column_stack([np.cos(angle), np.sin(angle)])
        return {"X": ring + 0.05 * rng.normal(size=(80, 2))}


@final
class _Network(nn.Module):
    """Two hidden layers of rectified units between two axes, one set of weights for each restart."""

    def __init__(self, model: GAN, letter: str, start: str, end: str) -> None:
        super().__init__()
        axes = (start, "hidden", "hidden", end)
        self.layers: list[tuple[Factor, Factor]] = []
        for i in range(3):
            weights = model.factor(f"{letter}{i + 1}", axes[i], axes[i + 1], constraint=Free())
            bias = model.factor(f"{letter}{i + 1}_bias", "one", axes[i + 1], constraint=Free())
            self.layers.append((weights, bias))
        self.factors = nn.ModuleList(factor for layer in self.layers for factor in layer)

    def forward(self, x: Float[Tensor, "*r n a"]) -> Float[Tensor, "*r n b"]:
        first, *others = self.layers
        x = x @ first[0]() + first[1]()
        for weights, bias in others:
            x = torch.relu(x) @ weights() + bias()
        return x
