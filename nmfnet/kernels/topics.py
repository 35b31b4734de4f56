"""Topics of documents: laws and shares of a document by a fixed point, on the stored entries of counts.

On a CPU the passes are compiled; the plain ones here are what they are tested against, and run on a GPU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from nmfnet.kernels.csr import rows_at
from nmfnet.kernels.sparse import (
    at_entries,
    row_numbers,
    row_sums,
    transpose_of,
    transposed,
    with_values,
)
from nmfnet.types import Float, Tensor

MOST = 100
"""Fixed-point iterations of a document."""

STILL = 1e-3
"""A document is done when its concentrations move by less than this in the mean."""

FOLDED = 2000
"""Most iterations of a document whose shares are points, which near their end slowly."""

SETTLED = 1e-5
"""Words by which these move in the mean when they are done."""

NEWTON = 100
"""Most Newton steps for the parameters of a prior."""


class Found(NamedTuple):
    """What is known of documents at their fixed points.

    Attributes
    ----------
    gamma : Tensor, shape (n, k)
    logs : Tensor, shape (n,)
        ``Σ x log(T B)`` of every document.
    counts : Tensor, shape (k, f)
        Expected words of every topic, ``B ∘ (Tᵀ (x / (T B)))``.
    """

    gamma: Tensor
    logs: Tensor
    counts: Tensor


def expected_log(concentration: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n k"]:
    """E log p for ``p ~ Dirichlet(concentration)``, row by row."""
    return torch.digamma(concentration) - torch.digamma(concentration.sum(-1, keepdim=True))


def shares(x: Float[Tensor, "n f"], T: Float[Tensor, "n k"], B: Float[Tensor, "k f"]) -> Tensor:
    """``x / (T B)`` at the stored entries of a CSR x."""
    return with_values(x, x.values() / mixture(x, T, B))


def mixture(x: Float[Tensor, "n f"], T: Float[Tensor, "n k"], B: Float[Tensor, "k f"]) -> Tensor:
    """``T B`` at the stored entries of a CSR x, shape (nnz,), > 0; differentiable."""
    return at_entries(x, T, B).clamp_min(torch.finfo(x.dtype).tiny)


def log_mixture(
    x: Float[Tensor, "n f"], T: Float[Tensor, "n k"], B: Float[Tensor, "k f"]
) -> Float[Tensor, " n"]:
    """``Σ x log(T B)`` of every row over the stored entries of a CSR x; differentiable in T and B."""
    logs: Tensor = _LogMixture.apply(x, T, B)
    return logs


class _LogMixture(torch.autograd.Function):
    """``Σ x log(T B)`` with its gradients ``(x / (T B)) Bᵀ`` and ``Tᵀ (x / (T B))``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, T: Tensor, B: Tensor) -> Tensor:
        ctx.x = x
        ctx.save_for_backward(T, B)
        return _expectations(x, T, B)[2]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor]:
        (T, B), x = ctx.saved_tensors, ctx.x
        weighted = with_values(x, x.values() * grads[0][row_numbers(x)])
        of_T, of_B, _ = _expectations(weighted, T, B)
        return None, of_T, of_B.mT


def concentrations(
    x: Float[Tensor, "n f"], B: Float[Tensor, "k f"], alpha: Float[Tensor, " k"]
) -> Found:
    """The law of the topics of every document: ``gamma = alpha + T ∘ ((x / (T B)) Bᵀ)``.

    T = exp E log theta. Every document is iterated by itself from gamma = 1 until it is still.

    Parameters
    ----------
    x : Tensor, sparse CSR of float64, shape (n, f)
    B : Tensor of float64, shape (k, f)
        exp E log of the topics.
    alpha : Tensor of float64, shape (k,), > 0
        Prior.

    Source: Blei, Ng & Jordan 2003, figure 6; Hoffman, Blei & Bach 2010, algorithm 1.
    """
    gamma = x.values().new_ones(x.shape[0], B.shape[0])
    if not x.is_cuda:
        found = _compiled(x, B, alpha, 0.0, STILL, MOST, gamma)
        scale = torch.digamma(gamma.sum(-1))  # of which T is exp digamma(gamma) without
        return found._replace(logs=found.logs - row_sums(x) * scale)
    live, part = torch.arange(x.shape[0], device=x.device), x
    for _ in range(MOST):
        before = gamma[live]
        T = expected_log(before).exp()
        gamma[live] = alpha + T * (shares(part, T, B) @ B.mT)
        moving = (gamma[live] - before).abs().mean(-1) >= STILL
        if not bool(moving.all()):
            live = live[moving]
            if not live.numel():
                break
            part = rows_at(part, moving.nonzero()[:, 0])
    return _at(x, expected_log(gamma).exp(), B, gamma)


def proportions(
    x: Float[Tensor, "n f"], H: Float[Tensor, "k f"], power: float = 1.0
) -> Float[Tensor, "n k"]:
    """Shares of given topics in documents by EM: ``theta ∝ T ∘ ((x / (T B)) Bᵀ)``.

    T = theta ** power, B = H ** power. A document without words has equal shares.

    Parameters
    ----------
    x : Tensor, sparse CSR of float64, shape (n, f)
    H : Tensor of float64, shape (k, f), >= 0
    power : float in (0, 1]
        Inverse temperature.

    Source: Hofmann 1999, "Probabilistic latent semantic indexing", section 3.2 (folding in).
    """
    k, words = H.shape[0], row_sums(x)[:, None]
    gamma = (words / k).expand(x.shape[0], k).contiguous()
    B, none = H**power, x.values().new_zeros(k)
    if not x.is_cuda:
        gamma = _compiled(x, B, none, power, SETTLED, FOLDED, gamma).gamma
    else:
        for _ in range(FOLDED):
            T = gamma**power
            before, gamma = gamma, T * (shares(x, T, B) @ B.mT)
            if bool(((gamma - before).abs().mean(-1) < SETTLED).all()):
                break
    total = gamma.sum(-1, keepdim=True)
    return torch.where(total > 0, gamma / total.clamp_min(1e-300), 1 / k)


def em_step(
    x: Float[Tensor, "n f"], theta: Float[Tensor, "n k"], H: Float[Tensor, "k f"], power: float
) -> Found:
    """Expected words of every topic, in each document (``gamma``) and of each word (``counts``).

    Of a word in a document topic j has the part ``(theta_j H_j) ** power`` over their sum.
    """
    T, B = theta**power, H**power
    of_T, of_B, logs = _expectations(x, T, B)
    return Found(T * of_T, logs, B * of_B.mT)


def _expectations(x: Tensor, T: Tensor, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(x / (T B)) Bᵀ`` (n, k), ``(x / (T B))ᵀ T`` (f, k) and ``Σ x log(T B)`` (n,)."""
    if x.is_cuda:
        found = mixture(x, T, B)
        logs = row_sums(with_values(x, x.values() * found.log()))
        over = x.values() / found
        turned = transposed(x, transpose_of(x), over)
        return with_values(x, over) @ B.mT, turned @ T, logs
    from nmfnet.kernels.compiled import documents

    out, logs = torch.empty_like(T), T.new_empty(T.shape[0])
    counts = T.new_zeros(x.shape[1], T.shape[1])
    passed = (T.contiguous(), B.mT.contiguous(), out, counts, logs)
    documents.expectations(*_arrays(x), *(t.detach().numpy() for t in passed))
    return out, counts, logs


def prior_of(
    alpha: Float[Tensor, " k"], log: Float[Tensor, " k"], n: float, *, symmetric: bool = False
) -> Float[Tensor, " k"]:
    """The Dirichlet parameters that make ``n`` draws with this mean of log p most likely.

    A concave problem, by Newton steps in linear time, halved until the likelihood rises.

    Parameters
    ----------
    alpha : Tensor of float64, shape (k,), > 0
        To begin with.
    log : Tensor of float64, shape (k,)
        Mean of (expected) log p over the draws.
    n : float
        Number of draws.
    symmetric : bool
        Whether all entries of alpha are the same number.

    Source: Blei, Ng & Jordan 2003, appendices A.2 and A.4.2; Huang 2005, "Maximum likelihood estimation
    of Dirichlet distribution parameters".
    """
    k = alpha.numel()
    log = log.mean().expand(k) if symmetric else log

    def value(alpha: Tensor) -> Tensor:
        return torch.lgamma(alpha.sum()) - torch.lgamma(alpha).sum() + ((alpha - 1) * log).sum()

    now = value(alpha)
    for _ in range(NEWTON if n else 0):
        slope = torch.digamma(alpha.sum()) - torch.digamma(alpha) + log
        own, shared = -torch.polygamma(1, alpha), torch.polygamma(1, alpha.sum())
        if symmetric:
            step = -slope.mean() / (own.mean() + k * shared) * torch.ones_like(alpha)
        else:
            offset = (slope / own).sum() / (1 / shared + (1 / own).sum())
            step = (offset - slope) / own
        moved, share = alpha, 1.0
        while share > 1e-10:
            moved = alpha + share * step
            if bool((moved > 0).all()) and bool(value(moved) >= now):
                break
            moved, share = alpha, share / 2
        before, now, alpha = now, value(moved), moved
        if float(now - before) <= 1e-12 * abs(float(now)):
            break
    return alpha


def _at(x: Tensor, T: Tensor, B: Tensor, gamma: Tensor) -> Found:
    """What is known of documents with these T, by plain products."""
    _, of_B, logs = _expectations(x, T, B)
    return Found(gamma, logs, B * of_B.mT)


def _compiled(
    x: Tensor, B: Tensor, alpha: Tensor, power: float, still: float, most: int, gamma: Tensor
) -> Found:
    from nmfnet.kernels.compiled import documents

    turned = B.mT.contiguous()
    stats, logs = torch.zeros_like(turned), gamma.new_empty(gamma.shape[0])
    numbers: tuple[Any, ...] = (float(power), float(still), int(most))
    tables = (turned, alpha.contiguous())
    documents.fixed_points(
        *_arrays(x), *(t.detach().numpy() for t in tables), *numbers,
        *(t.numpy() for t in (gamma, stats, logs)),
    )  # fmt: skip
    return Found(gamma, logs, B * stats.mT)


def _arrays(x: Tensor) -> tuple[Any, Any, Any]:
    return x.crow_indices().numpy(), x.col_indices().numpy(), x.values().detach().numpy()
