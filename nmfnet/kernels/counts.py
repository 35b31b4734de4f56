"""Log-likelihoods of counts, with all constants: nats per entry.

With mean mu, inverse dispersion theta (variance mu + mu²/theta) and ``t = log mu - log theta``,
``log NB = -theta softplus(t) - x softplus(-t) + log[Γ(x + theta) / (Γ(theta) Γ(x + 1))]``; the
zero-inflated one mixes it with a point mass at 0 of log odds ``pi``. No small number is added anywhere.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch.nn.functional import softplus

from nmfnet.types import Float, Tensor

LEAST_MEAN = 1e-8
"""Floor of means under a logarithm."""

LEAST_SHARE = 1e-10
"""Floor of shares of a row: of the row, so that no row is likelier for being small."""

LONGEST = 2.0
"""Most that a Newton step moves log theta."""

TRIALS = 5
"""Lengths that are tried for such a step, each a quarter of the one before."""

ROWS_LOOKED_AT = 50
"""Rows that say what kind of numbers a matrix holds."""


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
    large = theta.double()  # for 1e4, two log Γ of 8e4 whose difference float32 does not hold
    rising = torch.lgamma(x.double() + large) - torch.lgamma(large)
    return kernel + rising.to(kernel.dtype) - torch.lgamma(x + 1)


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


def multinomial(x: Tensor, x_hat: Tensor, mask: Tensor | None = None) -> Tensor:
    """Log-probability of the counts of a row given their total, spread over its entries.

    Parameters
    ----------
    x : Tensor, >= 0, shape (*r, n, f)
    x_hat : Tensor, >= 0, shape (*r, n, f)
        Shares of the row, up to a factor.
    mask : Tensor, shape (n, f), optional
        Sums go over the entries where it is not 0.

    Returns
    -------
    Tensor, shape (*r, n, f)
        Its sum over the observed entries of a row is the log-probability.
    """
    seen = torch.ones_like(x) if mask is None else (mask > 0).to(x.dtype)
    total = (x * seen).sum(-1, keepdim=True)
    share = x_hat / (x_hat * seen).sum(-1, keepdim=True).clamp_min(1e-30)
    coefficient = torch.lgamma(total + 1) * x / total.clamp_min(1e-30)
    return coefficient - torch.lgamma(x + 1) + x * share.clamp_min(LEAST_SHARE).log()


def better_dispersion(
    x: Float[Tensor, "*#r n f"],
    mean: Float[Tensor, "*r n f"],
    theta: Float[Tensor, "*r #n f"],
    weight: Float[Tensor, "n f"] | None,
    limits: tuple[float, float],
) -> Float[Tensor, "*r #n f"]:
    """Inverse dispersions of the features that have no smaller likelihood: a step of Newton's method.

    In log theta and in float64, shortened until the likelihood of the feature does not fall; a feature
    that no length helps keeps its theta.

    Parameters
    ----------
    weight : Tensor, shape (n, f), or None
        Of the entries, >= 0.
    limits : two floats
        Between which theta stays.

    Source: Lawless 1987, "Negative binomial and mixed Poisson regression", whose derivatives these are,
    by log theta.
    """
    x, mean, theta = x.double(), mean.double().clamp_min(LEAST_MEAN), theta.double()

    def summed(entries: Tensor) -> Tensor:
        return (entries if weight is None else weight * entries).sum(-2, keepdim=True)

    def value(at: Tensor) -> Tensor:
        return summed(
            torch.lgamma(x + at) - torch.lgamma(at) + at * at.log() - (x + at) * (mean + at).log()
        )

    a, b = x + theta, mean + theta
    slope = theta * summed(a.digamma() - theta.digamma() + theta.log() - b.log() + 1 - a / b)
    bend = torch.polygamma(1, a) - torch.polygamma(1, theta) + 1 / theta - 2 / b + a / b**2
    curve = slope + theta**2 * summed(bend)
    step = torch.where(curve < 0, -slope / curve, LONGEST * slope.sign()).clamp(-LONGEST, LONGEST)
    now, found, done = value(theta), theta, torch.zeros_like(theta, dtype=torch.bool)
    for _ in range(TRIALS):
        tried = (theta.log() + step).exp().clamp(*limits)
        good = ~done & (value(tried) >= now)
        found, done = torch.where(good, tried, found), done | good
        if bool(done.all()):
            break
        step = step / 4
    return found


def nature(x: Any) -> Literal["", "log", "scaled"]:
    """What a matrix of fractions seems to be made of: logarithms of counts, or scaled counts.

    The counts of a row, divided by its total, are multiples of the least of them, which is usually that
    of a single count; so are their logarithms, once undone.

    Parameters
    ----------
    x : ndarray or scipy sparse matrix, shape (n, f), or values of one
    """
    if getattr(x, "ndim", 1) != 2:
        return ""
    every = max(1, x.shape[0] // ROWS_LOOKED_AT)
    some = x[::every]
    rows = np.asarray(some.todense() if hasattr(some, "tocsr") else some, np.float64)
    positive = [row[row > 0] for row in rows]
    several = [row for row in positive if np.unique(row).size > 2]
    if not several:
        return ""
    if np.mean([_multiples(row) for row in several]) > 0.8:
        return "scaled"
    if max(row.max() for row in several) < 50:
        logs = [_multiples(np.expm1(row)) for row in several]
        return "log" if np.mean(logs) > 0.8 else ""
    return ""


def _multiples(row: np.ndarray) -> bool:
    """Whether numbers are whole multiples of the least of them, up to rounding in float32."""
    times = row / row.min()
    return bool((np.abs(times - np.round(times)) <= 0.01 + 1e-3 * times).all())
