"""Multiplicative updates: a factor times a power of two non-negative sums.

If ``d loss / d x_hat = pos - neg`` and ``J`` is the derivative of x_hat by a factor, then the two
sums ``Jᵀ(mask neg)`` and ``Jᵀ(mask pos)`` are all that an update needs:
``theta <- theta * (sum_neg / sum_pos) ** exponent``. Masks, weights, penalties, minibatches and rows
spread over processes all enter through these sums. The functions here give the sums in closed form for
the common models; :mod:`nmfnet.kernels.generic_mu` gives them for any model by autograd.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType

import torch

from nmfnet.kernels.compiled import INTERPRETED
from nmfnet.kernels.divergences import TINY, beta_split
from nmfnet.types import Float, Tensor

Sums = tuple[Tensor, Tensor]


def apply_update_(
    theta: Float[Tensor, "*r a b"], neg: Tensor, pos: Tensor, exponent: float
) -> Float[Tensor, "*r a b"]:
    """``theta *= (neg / pos) ** exponent`` in place, kept at or above TINY.

    ``neg`` is overwritten. A sum ``pos`` of 0 means that theta does not act on the data: it goes
    to TINY where neg is 0 too.
    """
    ratio = torch.div(neg, pos.clamp_min(TINY), out=neg if neg.shape == theta.shape else None)
    if exponent == 0.5:
        ratio.sqrt_()
    elif exponent != 1:
        ratio.pow_(exponent)
    return theta.mul_(ratio).clamp_min_(TINY)


def nmf_sums_W(
    x: Float[Tensor, "*#r n f"],
    W: Float[Tensor, "*r n k"],
    H: Float[Tensor, "*r k f"],
    beta: float,
    mask: Float[Tensor, "n f"] | None = None,
) -> Sums:
    """Both sums for W in X ~ W H, shapes (*r, n, k); ``pos`` may be (*r, 1, k), to broadcast.

    Source: Lee & Seung 2001 (beta = 2, 1); Févotte & Idier 2011, eq. (4.1) in general.
    """
    if beta == 2 and mask is None:
        return x @ H.mT, W @ (H @ H.mT)  # Gram form: the reconstruction is never formed
    if (kernels := kernels_for(x)) and kernels.usable(x, W, H, mask):
        return kernels.sums("W", x, W, H, beta, mask)
    neg, pos = weighted_split(x, W @ H, beta, mask)
    if pos is None:  # KL with nothing missing: a column sum
        return neg @ H.mT, H.sum(-1).unsqueeze(-2)
    return neg @ H.mT, pos @ H.mT


def nmf_sums_H(
    x: Float[Tensor, "*#r n f"],
    W: Float[Tensor, "*r n k"],
    H: Float[Tensor, "*r k f"],
    beta: float,
    mask: Float[Tensor, "n f"] | None = None,
) -> Sums:
    """Both sums for H in X ~ W H, shapes (*r, k, f); ``pos`` may be (*r, k, 1), to broadcast."""
    if beta == 2 and mask is None:
        return W.mT @ x, (W.mT @ W) @ H
    if (kernels := kernels_for(x)) and kernels.usable(x, W, H, mask):
        return kernels.sums("H", x, W, H, beta, mask)
    neg, pos = weighted_split(x, W @ H, beta, mask)
    if pos is None:
        return W.mT @ neg, W.sum(-2).unsqueeze(-1)
    return W.mT @ neg, W.mT @ pos


def kernels_for(x: Tensor) -> ModuleType | None:
    """The fused kernels for a tensor's device; None means the rules here, which are their oracle.

    On a GPU, where Triton is there (it comes with torch for CUDA), and on a CPU in Triton's
    interpreter. Not inside torch.compile, which makes its own.
    """
    if not (x.is_cuda or INTERPRETED) or torch.compiler.is_compiling():
        return None
    return _kernels()


@lru_cache(maxsize=1)
def _kernels() -> ModuleType | None:
    if find_spec("triton") is None:
        return None
    from nmfnet.kernels import triton_kernels

    return triton_kernels


def weighted_split(
    x: Float[Tensor, "*#r n f"],
    x_hat: Float[Tensor, "*r n f"],
    beta: float,
    mask: Float[Tensor, "n f"] | None,
) -> tuple[Tensor, Tensor | None]:
    """``mask * neg`` and ``mask * pos``; pos is None for KL without a mask, where it is all ones.

    The mask may hold weights. ``x_hat`` is overwritten for KL.
    """
    if beta == 1:
        ratio = torch.div(x, x_hat.clamp_min_(TINY), out=x_hat)
        return ratio if mask is None else ratio.mul_(mask), mask
    neg, pos = beta_split(x, x_hat, beta)
    return (neg, pos) if mask is None else (neg * mask, pos * mask)
