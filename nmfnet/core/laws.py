"""What the code of a row is: a point, or a distribution over points with a divergence to its prior.

A model says which by ``law(batch)``. ``mean`` is what ``transform`` returns; ``sample`` turns standard
normal noise into a code, so that gradients reach the parameters of the law.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np
import torch
from torch import distributions as D

from nmfnet.types import Float, Int, Tensor


class Law(ABC):
    """The distribution of the codes of some rows, independent of each other."""

    mean: Float[Tensor, "*r n k"]

    noise: int = 0
    """How many standard normal numbers a sample of a row needs; 0 = the law is its mean."""

    def sample(self, noise: Tensor) -> Float[Tensor, "*r n k"]:
        """A code of every row; ``noise`` is (*r, n or 1, k), and anything where there is none."""
        return self.mean

    @abstractmethod
    def kl(self) -> Float[Tensor, "*r n"] | None:
        """Divergence of the law of every row from its prior, in nats; None for a point."""

    def log_weight(self, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        """Logarithm of prior over law at sampled codes: what importance weights are made of."""
        raise NotImplementedError(f"{type(self).__name__} has no importance weights")


@final
class Point(Law):
    """A code without uncertainty: every factorisation, every plain autoencoder."""

    def __init__(self, mean: Float[Tensor, "*r n k"]) -> None:
        self.mean = mean

    def kl(self) -> None:
        """None: a point has no prior."""
        return


@final
class Normal(Law):
    """``N(mean, exp(log_variance))`` with a normal prior, coordinate by coordinate.

    Parameters
    ----------
    mean, log_variance : Tensor, shape (*r, n, k)
    prior : two Tensors or numbers
        Mean and standard deviation of the prior; they broadcast to the code. Default N(0, 1).

    Source: Kingma & Welling 2014, appendix B.
    """

    def __init__(
        self,
        mean: Float[Tensor, "*r n k"],
        log_variance: Float[Tensor, "*r n k"],
        prior: tuple[Tensor | float, Tensor | float] = (0.0, 1.0),
    ) -> None:
        self.mean, self.noise, self.prior = mean, mean.shape[-1], prior
        self.scale = (0.5 * log_variance.clamp(-12, 8)).exp()

    def sample(self, noise: Float[Tensor, "*#r #n k"]) -> Float[Tensor, "*r n k"]:
        return self.mean + self.scale * noise

    def kl(self) -> Float[Tensor, "*r n"]:
        own = D.Normal(self.mean, self.scale, validate_args=False)
        prior = D.Normal(*self._wide(), validate_args=False)
        return D.kl_divergence(own, prior).sum(-1)

    def log_weight(self, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        own = D.Normal(self.mean, self.scale, validate_args=False)
        prior = D.Normal(*self._wide(), validate_args=False)
        return (prior.log_prob(code) - own.log_prob(code)).sum(-1)

    def _wide(self) -> tuple[Tensor, Tensor]:
        middle, width = (torch.as_tensor(part).to(self.mean) for part in self.prior)
        return middle.expand_as(self.mean), width.expand_as(self.mean)


@final
class Joint(Law):
    """Two independent laws of a row: its code, and what else of the row is not known (its size).

    A sample has both side by side; ``mean`` is that of the code alone.
    """

    def __init__(self, code: Normal, beside: Normal) -> None:
        self.code, self.beside, self.mean = code, beside, code.mean
        self.noise = code.noise + beside.noise

    def sample(self, noise: Float[Tensor, "*#r #n k"]) -> Float[Tensor, "*r n k"]:
        own, other = noise.split([self.code.noise, self.beside.noise], -1)
        return torch.cat([self.code.sample(own), self.beside.sample(other)], -1)

    def kl(self) -> Float[Tensor, "*r n"]:
        return self.code.kl() + self.beside.kl()

    def log_weight(self, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        own, other = code.split([self.code.noise, self.beside.noise], -1)
        return self.code.log_weight(own) + self.beside.log_weight(other)


@final
class LogisticNormal(Law):
    """softmax of a normal, with the prior that stands for a Dirichlet(alpha).

    ``alpha`` is one number for all components, or one for each component of each row. ``mean`` is the
    softmax of the normal's mean, which is not the mean of the law but has no integral.

    Source: Srivastava & Sutton 2017 (ProdLDA), eq. (3): the Laplace approximation of the Dirichlet.
    """

    def __init__(
        self,
        mean: Float[Tensor, "*r n k"],
        log_variance: Float[Tensor, "*r n k"],
        alpha: float | Tensor = 1.0,
    ) -> None:
        k = mean.shape[-1]
        each = torch.as_tensor(alpha).to(mean).expand_as(mean)
        logs, inverse = each.log(), 1 / each
        middle = logs - logs.mean(-1, keepdim=True)
        variance = (1 - 2 / k) * inverse + inverse.mean(-1, keepdim=True) / k
        self.normal, self.noise = Normal(mean, log_variance, (middle, variance.sqrt())), k
        self.mean = mean.softmax(-1)

    def sample(self, noise: Float[Tensor, "*#r #n k"]) -> Float[Tensor, "*r n k"]:
        return self.normal.sample(noise).softmax(-1)

    def kl(self) -> Float[Tensor, "*r n"]:
        return self.normal.kl()


@final
class Dirichlet(Law):
    """``Dirichlet(concentration)`` with the prior Dirichlet(alpha).

    ``alpha`` is a number for all components, or one for each.

    Source: Blei, Ng & Jordan 2003, appendix A.1.
    """

    def __init__(self, concentration: Float[Tensor, "*r n k"], alpha: float | Tensor) -> None:
        self.concentration, self.alpha = concentration, alpha
        self.mean = concentration / concentration.sum(-1, keepdim=True)

    def kl(self) -> Float[Tensor, "*r n"]:
        prior = D.Dirichlet(self.alpha * torch.ones_like(self.concentration), validate_args=False)
        return D.kl_divergence(D.Dirichlet(self.concentration, validate_args=False), prior)


def standard_normal(
    streams: Int[Tensor, "*r"], shape: tuple[int, ...], *moment: int
) -> Float[Tensor, "*r ..."]:
    """Standard normal numbers in float64 that depend on the stream and the moment alone."""

    def of(stream: int) -> Tensor:
        seeds = np.random.SeedSequence([stream % 2**63, *moment])
        seed = int(seeds.generate_state(1, np.uint64)[0]) % 2**63
        source = torch.Generator().manual_seed(seed)
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    drawn = torch.stack([of(stream) for stream in streams.flatten().tolist()])
    return drawn.reshape(*streams.shape, *shape)
