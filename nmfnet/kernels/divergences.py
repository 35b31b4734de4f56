"""The beta divergences and the two non-negative halves of their derivative.

``d_beta(x | y)`` is half the squared error at beta = 2, the generalised Kullback-Leibler divergence
at beta = 1 and the Itakura-Saito divergence at beta = 0 (Févotte & Idier 2011, eq. 2.1).
"""

from __future__ import annotations

import torch

from nmfnet.types import Float, Tensor

TINY = 1e-16
"""Floor of reconstructions and multiplicative factors: products of two stay normal in float32."""

LEAST = 1e-30
"""Stands for 0 in a logarithm that is multiplied by 0."""


def beta_divergence(
    x: Float[Tensor, "*#r n f"],
    x_hat: Float[Tensor, "*r n f"],
    beta: float,
    mask: Float[Tensor, "n f"] | None = None,
) -> Float[Tensor, "*r n"]:
    """Divergence of each row: sum over the (observed) features of d_beta(x | x_hat).

    Parameters
    ----------
    x : Tensor, shape (n, f)
        Data; >= 0 for beta < 2, > 0 for beta <= 0.
    x_hat : Tensor, shape (*r, n, f)
        Reconstruction, >= 0 (any sign for beta = 2).
    beta : float
        2 half the squared error, 1 generalised Kullback-Leibler, 0 Itakura-Saito.
    mask : Tensor, shape (n, f), optional
        1 = observed, 0 = ignored.

    Returns
    -------
    Tensor, shape (*r, n), >= 0

    Source: Févotte & Idier 2011, "Algorithms for NMF with the beta-divergence", eq. (2.1).
    """
    d = beta_entries(x, x_hat, beta, mask)
    return (d if mask is None else d * mask).sum(-1)


def beta_entries(x: Tensor, x_hat: Tensor, beta: float, mask: Tensor | None) -> Tensor:
    """The divergence of every entry, as in :func:`beta_divergence`; finite where the mask is 0."""
    if beta == 2:
        return (
            (x - x_hat).square_().mul_(0.5) if not x_hat.requires_grad else 0.5 * (x - x_hat) ** 2
        )
    y = x_hat.clamp(min=TINY)
    if beta <= 0 and mask is not None:
        x = torch.where(mask > 0, x, 1)  # infinite at 0, and inf * 0 is not 0
    if beta == 1:
        return x * (x / y).clamp(min=LEAST).log() - x + y  # with a derivative where x = 0
    if beta == 0:
        ratio = x / y
        return ratio - ratio.log() - 1
    return (x**beta + (beta - 1) * y**beta - beta * x * y ** (beta - 1)) / (beta * (beta - 1))


def beta_split(
    x: Float[Tensor, "*#r n f"], x_hat: Float[Tensor, "*r n f"], beta: float
) -> tuple[Float[Tensor, "*r n f"] | Float[Tensor, "n f"], Float[Tensor, "*r n f"]]:
    """Halves of the derivative: d d_beta(x | y) / d y = pos - neg with both >= 0 for x, y >= 0.

    Returns
    -------
    neg, pos : Tensor, shape (*r, n, f)
        ``x y^(beta-2)`` and ``y^(beta-1)``.

    Source: Févotte & Idier 2011, section 3 (the multiplicative updates are ratios of the two).
    """
    if beta == 2:
        return x, x_hat
    y = x_hat.clamp(min=TINY)
    if beta == 1:
        return x / y, torch.ones_like(y)
    if beta == 0:
        inverse = y.reciprocal()
        return x * inverse * inverse, inverse
    return x * y ** (beta - 2), y ** (beta - 1)


def monotone_exponent(beta: float, degree: int = 1, penalty_degree: int = 0) -> float:
    """Power of neg / pos that is known never to increase divergence plus penalties.

    Parameters
    ----------
    beta : float
        Which divergence.
    degree : int, >= 1
        How often the factor occurs in the reconstruction: 1 when x_hat is linear in it, 2 for
        ``X Hᵀ H``. The reconstruction is a polynomial of that degree with coefficients >= 0.
    penalty_degree : int, >= 0
        Highest power of the factor in the penalties on it (1 for l1, 2 for l2).

    Returns
    -------
    float in (0, 1]

    Notes
    -----
    Majorise every term by a separable power of theta: ``a theta^top - b theta^bottom`` has its
    minimum at ``theta (neg / pos)^(1 / (top - bottom))``. For degree 1 and no penalty this gives
    1/(2 - beta), 1 and 1/(beta - 1) for beta below 1, in [1, 2] and above 2.

    Source: Févotte & Idier 2011, section 4; Yang & Oja 2011, "Unified development of multiplicative
    algorithms for linear and quadratic NMF", for degree 2.
    """
    top = degree * max(beta, 1.0)
    if beta <= 1:
        bottom = degree * (beta - 1)
    elif beta == 2 or degree == 1:
        bottom = min(beta - 1, 1.0)
    else:
        bottom = 0.0
    return 1 / (max(top, penalty_degree) - bottom)
