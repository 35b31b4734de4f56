"""W for given components: the non-negative fit of new rows."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nmfnet.kernels.csr import csr
from nmfnet.kernels.divergences import TINY
from nmfnet.kernels.multiplicative import apply_update_, nmf_sums_W
from nmfnet.kernels.nnls import nnls, nnls_rows, with_ridge
from nmfnet.kernels.rows import dense, row_blocks, take_rows
from nmfnet.kernels.sparse import at_entries, row_sums, sparse_sums, with_values
from nmfnet.kernels.weighted import curvatures
from nmfnet.types import Float, Tensor

PenaltySums = Callable[[Tensor], tuple[Tensor | float, Tensor | float]]

Split = Callable[[Tensor, Tensor], tuple[Tensor, Tensor] | None]
Information = Callable[[Tensor, Tensor], Tensor | None]

ROUGH = 5
"""Multiplicative updates before the first Newton step."""

TRIALS = 40
"""Lengths that are tried for a Newton step, each half of the one before."""

DAMP = (1e-10, 1e-4)
"""Relative size of what is added to a curvature that may be singular: at first, and at most."""


def refit_W(
    x: Float[Tensor, "n f"],
    H: Float[Tensor, "*r k f"],
    beta: float,
    exponent: float,
    mask: Float[Tensor, "n f"] | None = None,
    penalty_sums: PenaltySums | None = None,
    max_iter: int = 2000,
    tol: float = 1e-6,
) -> Float[Tensor, "*r n k"]:
    """``argmin_{W >= 0} D_beta(x | W H)`` (+ a penalty of W), a convex problem for beta in [1, 2].

    Exact for the squared error without penalty (non-negative least squares), by Newton steps for KL
    without penalty, else by multiplicative updates. The rows do not depend on each other.

    Parameters
    ----------
    x : Tensor, shape (n, f), dense or sparse CSR (with a mask of the same pattern)
    H : Tensor, shape (*r, k, f), >= 0 (any sign for the squared error)
    beta : float
        Divergence.
    exponent : float
        Power of the multiplicative update that is monotone for the divergence and penalty.
    mask : Tensor, shape (n, f), optional
    penalty_sums : callable, optional
        W -> (neg, pos) of the penalty's derivative.
    max_iter : int
        Most updates of a block of rows.
    tol : float
        A row is done when a multiplicative update changes its W by no more than this, relative to its
        sum; Newton steps end at the optimum.

    Returns
    -------
    Tensor, shape (*r, n, k), >= 0

    Source: Kim & Park 2011 for the squared error; the W half of Févotte & Idier 2011, eq. (4.1),
    from the best constant start, otherwise.
    """
    if beta == 2 and penalty_sums is None:
        return _least_squares(x, H, mask)
    if x.is_sparse_csr and H.ndim > 2:
        many = [refit_W(x, h, beta, exponent, mask, penalty_sums, max_iter, tol) for h in H]
        return torch.stack(many)
    if beta == 1 and penalty_sums is None:
        return _newton(x, H, mask, max_iter).to(H.dtype)
    blocks = []
    for rows in [slice(None)] if x.is_sparse_csr else row_blocks(x, H.shape[:-2].numel()):
        part, seen = take_rows(x, rows), None if mask is None else take_rows(mask, rows)
        W = _start(part, H)
        done = torch.zeros(W.shape[:-1], dtype=torch.bool, device=W.device)
        for _ in range(max_iter):
            before = W.clone()
            if part.is_sparse_csr:
                neg, pos = sparse_sums("W", part, None, W, H, beta, seen is not None)
            else:
                neg, pos = nmf_sums_W(part, W, H, beta, seen)
            if penalty_sums is not None:
                more_neg, more_pos = penalty_sums(W)
                neg, pos = neg + more_neg, pos + more_pos
            apply_update_(W, neg, pos, exponent)
            W[done] = before[done]  # so that no row depends on how long others take
            done |= (W - before).abs_().sum(-1) <= tol * W.sum(-1)
            if bool(done.all()):
                break
        blocks.append(W)
    return torch.cat(blocks, -2)


def _least_squares(
    x: Float[Tensor, "n f"], H: Float[Tensor, "*r k f"], mask: Float[Tensor, "n f"] | None
) -> Float[Tensor, "*r n k"]:
    """Non-negative least squares with products in float64: H may have dependent rows."""
    if x.is_sparse_csr and mask is None:
        x64 = csr(x.crow_indices(), x.col_indices(), x.values().double(), (x.shape[0], x.shape[1]))
        return nnls_rows(x64, H.double()).to(H.dtype)
    if mask is not None:
        return masked_nnls_rows(x, H.double(), mask).to(H.dtype)
    found = [nnls_rows(x[rows].double(), H.double()) for rows in row_blocks(x)]
    return torch.cat(found, -2).to(H.dtype)


def _newton(
    x: Float[Tensor, "n f"],
    H: Float[Tensor, "*r k f"],
    mask: Float[Tensor, "n f"] | None,
    max_iter: int,
) -> Float[Tensor, "*r n k"]:
    """KL: every row by itself goes to the optimum of its second-order expansion, or part of the way.

    In float64. The step is the non-negative least squares of the expansion, halved until the objective
    falls by a share of what the slope promises. A row that cannot move, or to which an expansion promises
    no more than 1e-13 of its objective (of the sums that it consists of), gets a more damped one: where
    components are nearly dependent the first is not accurate. It is done when no damping moves it.

    Source: Lee, Sun & Saunders 2014, "Proximal Newton-type methods for minimizing composite
    functions", algorithm 1, with the constraint in place of the composite term.
    """
    H = H.double()
    copies = H.shape[:-2].numel() * max(1, -(-(H.shape[-2] ** 2) // H.shape[-1]))
    found = []
    for rows in row_blocks(x, copies):
        part = take_rows(x, rows).to(H.dtype)
        seen = None if mask is None else take_rows(mask, rows).to(H.dtype)
        found.append(_newton_block(part, H, seen, max_iter))
    return torch.cat(found, -2)


def _newton_block(x: Tensor, H: Tensor, mask: Tensor | None, max_iter: int) -> Tensor:
    loads = (H.sum(-1)[..., None, :] if mask is None else mask @ H.mT).expand(
        *H.shape[:-2], x.shape[0], H.shape[-2]
    )
    weighted = _explicable(x if mask is None else _weighted(x, mask), H)
    W = _start(x, H)
    for _ in range(ROUGH):
        W = W * ((_ratio(weighted, W, H, 1) @ H.mT) / loads.clamp_min(TINY))

    def expand(W: Tensor) -> Expansion:
        slope = loads - _ratio(weighted, W, H, 1) @ H.mT
        return loads, slope, curvatures(_ratio(weighted, W, H, 2), H)

    return _descend(W, expand, lambda W: _value(weighted, W, H, loads), max_iter)


def refit_by_scoring(
    x: Float[Tensor, "n f"],
    H: Float[Tensor, "*r k f"],
    value: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    split: Split,
    information: Information,
    mask: Float[Tensor, "n f"] | None = None,
    max_iter: int = 500,
) -> Float[Tensor, "*r n k"]:
    """``argmin_{W >= 0} value(x, W H)`` by rows, with the expected curvature in Newton's place.

    In float64, as for KL in :func:`refit_W`; ``information`` is >= 0 also where the curvature of a
    negative binomial is not.

    Parameters
    ----------
    value : callable
        x, x_hat and mask to the loss of every row.
    split : callable
        x and x_hat to the two non-negative halves of the derivative by x_hat.
    information : callable
        x and x_hat to the second derivative by x_hat, as expected or what of it is >= 0.

    Source: Fisher scoring (McCullagh & Nelder 1989, section 2.5) with non-negative least squares.
    """
    H = H.double()
    copies = H.shape[:-2].numel() * max(1, -(-(H.shape[-2] ** 2) // H.shape[-1]))
    found = []
    for rows in row_blocks(x, copies):
        part = dense(take_rows(x, rows)).to(H.dtype)
        seen = None if mask is None else dense(take_rows(mask, rows)).to(H.dtype)
        found.append(_scored_block(part, H, value, split, information, seen, max_iter))
    return torch.cat(found, -2)


def _scored_block(
    x: Tensor,
    H: Tensor,
    value: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    split: Split,
    information: Information,
    mask: Tensor | None,
    max_iter: int,
) -> Tensor:
    def halves(x_hat: Tensor) -> tuple[Tensor, Tensor]:
        both = split(x, x_hat)
        assert both is not None
        neg, pos = (half if mask is None else half * mask for half in both)
        return neg.expand_as(x_hat) @ H.mT, pos.expand_as(x_hat) @ H.mT

    def expand(W: Tensor) -> Expansion:
        x_hat = (W @ H).clamp_min(TINY)
        neg, pos = halves(x_hat)
        bent = information(x, x_hat)
        assert bent is not None
        weights = bent.expand_as(x_hat).to(x_hat.dtype)
        return pos, pos - neg, curvatures(weights if mask is None else weights * mask, H)

    W = _start(x if mask is None else x * mask, H)
    for _ in range(ROUGH):
        neg, pos = halves(W @ H)
        W = W * (neg / pos.clamp_min(TINY))
    return _descend(W, expand, lambda W: value(x, W @ H, mask), max_iter, least=1e-10)


Expansion = tuple[Tensor, Tensor, Tensor]
"""The half of the slope that is >= 0, the slope, each (*r, n, k), and the curvature (*r, n, k, k)."""


def _descend(
    W: Float[Tensor, "*r n k"],
    expand: Callable[[Tensor], Expansion],
    valued: Callable[[Tensor], Tensor],
    max_iter: int,
    least: float = 1e-13,
) -> Float[Tensor, "*r n k"]:
    """Every row by itself down its expansions, damped more where they do not help."""
    value = valued(W)
    damp = torch.full_like(value, DAMP[0])
    eye = torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)
    for _ in range(max_iter):
        loads, slope, G = expand(W)
        size = G.diagonal(dim1=-2, dim2=-1).mean(-1) + loads.sum(-1) / W.sum(-1).clamp_min(TINY)
        G = G + (damp * size)[..., None, None] * eye
        wanted = (G @ W[..., None]).mT - slope[..., None, :]
        step = nnls(G, wanted, (W > 0)[..., None, :])[..., 0, :] - W
        promised = -(slope * step).sum(-1)
        moving = (promised > least * ((loads * W).sum(-1) + value.abs())) & (damp <= DAMP[1])
        share = moving.to(W.dtype)
        for _trial in range(TRIALS):
            new = W + share[..., None] * step
            reached = valued(new)
            moved = moving & (reached <= value - 1e-4 * share * promised)
            if bool((moved | ~moving).all()):
                break
            share = torch.where(moved, share, share / 2)
        W = torch.where(moved[..., None], new, W)
        value = torch.where(moved, reached, value)
        damp = torch.where(moved, damp, 100 * damp)
        if bool((damp > DAMP[1]).all()):
            break
    return W


def _weighted(x: Tensor, mask: Tensor) -> Tensor:
    return with_values(x, x.values() * mask.values()) if x.is_sparse_csr else x * mask


def _explicable(x: Tensor, H: Tensor) -> Tensor:
    """X without what no component has, of which every W has the same infinite misfit."""
    if x.is_sparse_csr:
        one = H.new_ones(x.shape[0], H.shape[-2])
        return with_values(x, x.values() * (at_entries(x, one, H) > 0))
    return x * (H.sum(-2) > 0)[..., None, :]


def _ratio(x: Tensor, W: Tensor, H: Tensor, power: int) -> Tensor:
    """``x / (W H)^power``, with the pattern of x."""
    if x.is_sparse_csr:
        return with_values(x, x.values() / at_entries(x, W, H).clamp_min(TINY) ** power)
    return x / (W @ H).clamp_min_(TINY) ** power


def _value(x: Tensor, W: Tensor, H: Tensor, loads: Tensor) -> Float[Tensor, "*r n"]:
    """KL by rows, without what does not depend on W; infinite where W leaves out what x has."""
    if x.is_sparse_csr:
        logs = row_sums(with_values(x, torch.xlogy(x.values(), at_entries(x, W, H))))
    else:
        logs = torch.xlogy(x, W @ H).sum(-1)
    return (loads * W).sum(-1) - logs


def masked_nnls_rows(
    x: Float[Tensor, "n f"],
    H: Float[Tensor, "*r k f"],
    mask: Float[Tensor, "n f"],
    ridge: float = 0.0,
) -> Float[Tensor, "*r n k"]:
    """Weighted least squares: every row has normal equations of its own; 0 = not observed."""
    k, f = H.shape[-2:]
    copies = H.shape[:-2].numel() * max(1, k * k // f)
    blocks = []
    for rows in row_blocks(x, copies):
        part, seen = (dense(take_rows(t, rows)).to(H.dtype) for t in (x, mask))
        G = with_ridge(curvatures(seen, H), ridge)  # (*r, m, k, k)
        products = ((part * seen) @ H.mT)[..., None, :]
        blocks.append(nnls(G, products)[..., 0, :])
    return torch.cat(blocks, -2)


def simplex_rows(
    x: Float[Tensor, "n f"], H: Float[Tensor, "*r k f"], mask: Float[Tensor, "n f"] | None = None
) -> Float[Tensor, "*r n k"]:
    """``argmin ||x - w H||²`` over rows w >= 0 that sum to 1; exact, in float64.

    There x - w H = -w D with the rows ``h_k - x`` of D, so w is the point of least norm in their
    convex hull. ``w D Dᵀ w`` gains a constant when c 1 1ᵀ is added, after which the minimum is a multiple
    of that of ``v (D Dᵀ + c 1 1ᵀ) v / 2 - sum v`` over v >= 0.

    Parameters
    ----------
    x : Tensor, shape (n, f), dense or sparse CSR
    H : Tensor, shape (*r, k, f), of any sign
    mask : Tensor, shape (n, f), optional
        Weights >= 0.

    Source: Wolfe 1976, "Finding the nearest point in a polytope"; Lawson & Hanson 1974, chapter 23, for
    the step to non-negative least squares.
    """
    H = H.double()
    k, f = H.shape[-2:]
    blocks = []
    for rows in row_blocks(x, H.shape[:-2].numel() * max(1, k * k // f)):
        part = dense(take_rows(x, rows)).to(H.dtype)
        if mask is None:
            G, seen = (H @ H.mT)[..., None, :, :], part
        else:
            weights = dense(take_rows(mask, rows)).to(H.dtype)
            G, seen = curvatures(weights, H), part * weights  # (*r, m, k, k)
        b = seen @ H.mT
        G = G - b[..., :, None] - b[..., None, :] + (seen * part).sum(-1)[:, None, None]
        size = G.diagonal(dim1=-2, dim2=-1).mean(-1)  # 0 = x is all the rows of H at once
        G = G + torch.where(size > TINY, size, 1)[..., None, None]
        v = nnls(G, torch.ones_like(b)[..., None, :])[..., 0, :]
        blocks.append(v / v.sum(-1, keepdim=True))
    return torch.cat(blocks, -2)


def _start(x: Float[Tensor, "n f"], H: Float[Tensor, "*r k f"]) -> Float[Tensor, "*r n k"]:
    """Equal weights with which W H has the sum of each row."""
    mass = H.sum((-2, -1)).clamp_min(TINY)[..., None, None]
    totals = (x @ torch.ones_like(H[..., :1, :]).mT).clamp_min(TINY)
    return (totals / mass).expand(*H.shape[:-2], x.shape[0], H.shape[-2]).clone()
