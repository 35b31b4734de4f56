"""Log-likelihoods of counts, with all constants: nats per entry.

With mean mu, inverse dispersion theta (variance mu + mu²/theta) and ``t = log mu - log theta``,
``log NB = -theta softplus(t) - x softplus(-t) + log[Γ(x + theta) / (Γ(theta) Γ(x + 1))]``; the
zero-inflated one mixes it with a point mass at 0 of log odds ``pi``. No small number is added anywhere.
"""

from __future__ import annotations

import torch
from torch.nn.functional import softplus

from nmfnet.types import Tensor

LEAST_MEAN = 1e-8
"""Floor of means under a logarithm."""


def negative_binomial(x: Tensor, mean: Tensor, theta: Tensor) -> Tensor:
    """Log-probability of every count under the negative binomial.

    Parameters
    ----------
    x : Tensor, >= 0
    mean : Tensor, >= 0
    theta : Tensor, > 0
        Inverse dispersion; infinity is the Poisson distribution.

    Source: Lopez et al. 2018 (scVI), supplementary note 2, in a form without cancellation.
    """
    t = mean.clamp_min(LEAST_MEAN).log() - theta.log()
    kernel = -theta * softplus(t) - x * softplus(-t)
    return kernel + torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)


def zero_inflated(x: Tensor, log_p: Tensor, log_p_zero: Tensor, pi: Tensor) -> Tensor:
    """Log-probability under a mixture with a point mass at 0.

    Parameters
    ----------
    x : Tensor, >= 0
    log_p, log_p_zero : Tensor
        Log-probability of x, and of 0, without the inflation.
    pi : Tensor
        Log odds of the point mass.

    Source: Eraslan et al. 2019 (DCA), eq. (1), with log odds for the probability.
    """
    inflated = torch.logaddexp(log_p_zero, pi) - softplus(pi)
    return torch.where(x == 0, inflated, log_p - softplus(pi))
