r"""Automatic relevance determination: NMF in which components that the data do not need go to zero.

``minimise D_beta(X | W H) / phi + sum_k [(|W_k|_1 + |H_k|_1 + b) / lambda_k + c log lambda_k]``

One relevance weight ``lambda_k`` is shared by column k of W and row k of H (exponential priors with
scale lambda_k, on which there is an inverse gamma prior). Its optimum is in closed form, W and H move
by multiplicative updates with ``phi / lambda_k`` added to the denominator, and the objective never
rises. A component that is not worth its price shrinks until lambda_k is at its bound ``b / c``.

Source: Tan & Févotte 2013, "Automatic relevance determination in nonnegative matrix factorization with
the beta-divergence", algorithm 2 (l1-ARD), eq. 26 (lambda) and 38 (b).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from nmfnet.kernels.divergences import beta_divergence, monotone_exponent
from nmfnet.kernels.multiplicative import Sums, apply_update_, nmf_sums_H, nmf_sums_W
from nmfnet.kernels.sparse import at_entries, sparse_row_losses, sparse_sums, transpose_of
from nmfnet.types import Float, Tensor

SHAPE = 5.0
"""Shape of the inverse gamma prior; the result hardly depends on it while it is small beside n + f."""

KEPT = 1e-3
"""A component is kept when its relevance is more than this share above the bound."""

EVERY = 10
"""Iterations between two looks at the relevance."""


class Prior(NamedTuple):
    """``b`` and ``c`` of the objective, and the dispersion ``phi`` that the misfit is divided by."""

    b: float
    c: float
    phi: float


class Relevance(NamedTuple):
    """What a fit has found.

    Attributes
    ----------
    W, H : Tensor, shapes (n, k), (k, f)
    weights : Tensor, shape (k,)
        ``lambda``, in the unit of sqrt(X).
    kept : Tensor of bool, shape (k,)
    n_iter : int
    converged : bool
    """

    W: Tensor
    H: Tensor
    weights: Tensor
    kept: Tensor
    n_iter: int
    converged: bool


def prior_of(mean: float, n: int, f: int, k: int, phi: float, shape: float = SHAPE) -> Prior:
    """The prior whose W H has the mean of the data.

    Parameters
    ----------
    mean : float, > 0
        Of the observed entries of X.
    n, f, k : int
        Samples, features, components.
    phi : float, > 0
        Dispersion: variance of an entry is ``phi * mean ** (2 - beta)``; 1 for Poisson counts under
        beta = 1, the noise variance under beta = 2.
    shape : float, > 2
    """
    b = math.sqrt((shape - 1) * (shape - 2) * mean / k)
    return Prior(b, n + f + shape + 1, phi)


def relevance(
    W: Float[Tensor, "n k"], H: Float[Tensor, "k f"], prior: Prior
) -> Float[Tensor, " k"]:
    """The optimal ``lambda`` for given factors, >= b / c."""
    return (W.sum(0) + H.sum(1) + prior.b) / prior.c


def ard_objective(
    x: Float[Tensor, "n f"],
    W: Float[Tensor, "n k"],
    H: Float[Tensor, "k f"],
    beta: float,
    prior: Prior,
    mask: Float[Tensor, "n f"] | None = None,
) -> Float[Tensor, ""]:
    """The objective at the optimal ``lambda``; x dense or sparse CSR (see ``ard``)."""
    if x.is_sparse_csr:
        misfit = sparse_row_losses(x, W, H, beta, mask is not None).sum()
    else:
        misfit = beta_divergence(x, W @ H, beta, mask).sum()
    return misfit / prior.phi + prior.c * (1 + relevance(W, H, prior).log()).sum()


def ard(
    x: Float[Tensor, "n f"],
    W: Float[Tensor, "n k"],
    H: Float[Tensor, "k f"],
    beta: float,
    prior: Prior | None,
    mask: Float[Tensor, "n f"] | None = None,
    *,
    max_iter: int = 20_000,
    tol: float = 1e-5,
) -> Relevance:
    """Fit from a start, which is not changed.

    Parameters
    ----------
    x : Tensor, shape (n, f), dense or sparse CSR
        >= 0; beta = 1 or 2 where it is sparse.
    W, H : Tensor, shapes (n, k), (k, f)
        Start, > 0; k is the largest number of components.
    beta : float
        As in :func:`nmfnet.kernels.divergences.beta_divergence`.
    prior : Prior or None
        None = plain NMF: everything is kept.
    mask : Tensor, shape (n, f), optional
        1 = observed; for a sparse x, given means that only the stored entries are.
    max_iter : int
    tol : float
        Stop when no relevance changes by more than this share in ``EVERY`` iterations.
    """
    W, H = W.clone(), H.clone()
    transpose = transpose_of(x) if x.is_sparse_csr else None
    exponent = monotone_exponent(beta, penalty_degree=0 if prior is None else 1)

    def sums(name: str) -> Sums:
        if transpose is not None:
            return sparse_sums(name, x, transpose, W, H, beta, mask is not None)
        return (nmf_sums_W if name == "W" else nmf_sums_H)(x, W, H, beta, mask)

    now = relevance(W, H, prior or Prior(0.0, 1.0, 1.0))
    iteration, change = 0, math.inf
    while iteration < max_iter and change > tol:
        before = now
        for _ in range(min(EVERY, max_iter - iteration)):
            price = 0.0 if prior is None else prior.phi / relevance(W, H, prior)  # (k,)
            neg, pos = sums("W")
            apply_update_(W, neg, pos + price, exponent)
            price = 0.0 if prior is None else (prior.phi / relevance(W, H, prior)).unsqueeze(1)
            neg, pos = sums("H")
            apply_update_(H, neg, pos + price, exponent)
            iteration += 1
        now = relevance(W, H, prior or Prior(0.0, 1.0, 1.0))
        change = float(((now - before).abs() / before).max())
    kept = torch.ones_like(now, dtype=torch.bool)
    if prior is not None:
        kept = now > (1 + KEPT) * prior.b / prior.c
    return Relevance(W, H, now, kept, iteration, change <= tol)


def dispersion(
    x: Float[Tensor, "n f"],
    W: Float[Tensor, "n k"],
    H: Float[Tensor, "k f"],
    beta: float,
    mask: Float[Tensor, "n f"] | None = None,
) -> float:
    """Pearson's estimate of ``phi`` from a fit without prior: 1 for Poisson, the variance at beta = 2.

    ``sum (x - x_hat)^2 / x_hat^(2 - beta)`` over observed entries, divided by the number of them
    minus the number of parameters, ``k (n + f - k)``.

    Source: McCullagh & Nelder 1989, section 4.5; Tan & Févotte 2013, section 2.2 (phi as the
    dispersion of a Tweedie distribution).
    """
    (n, f), k = x.shape, W.shape[1]
    if x.is_sparse_csr:
        values = x.values()
        at = at_entries(x, W, H).clamp_min(1e-12)
        if mask is not None:
            entries, chi2 = values.numel(), ((values - at) ** 2 * at ** (beta - 2)).sum()
        elif beta == 1:  # x^2 / y - 2 x + y, and y over all entries from the factors
            entries = n * f
            chi2 = (values**2 / at - 2 * values).sum() + W.sum(0) @ H.sum(1)
        else:
            entries, chi2 = n * f, 2 * sparse_row_losses(x, W, H, beta, masked=False).sum()
    else:
        x_hat = (W @ H).clamp_min(1e-12)
        terms = (x - x_hat) ** 2 * x_hat ** (beta - 2)
        chi2 = (terms if mask is None else terms * mask).sum()
        entries = n * f if mask is None else int((mask > 0).sum())
    return float(chi2) / max(entries - k * (n + f - k), 1)
