"""Problems in which every row has weights of its own, and so normal equations of its own."""

from __future__ import annotations

from typing import NamedTuple

import torch

from nmfnet.kernels.csr import csr_of, rows_at
from nmfnet.kernels.rows import take_rows
from nmfnet.kernels.sparse import row_sums, with_values
from nmfnet.types import Float, Tensor

PAIR_ENTRIES = 4_000_000
"""Most entries of the products of pairs of components that are formed at once (32 MB)."""

FEW = 0.25
"""Below this share of weights that are not 0, a dense matrix is visited as a sparse one."""

SWEEPS, FEW_SWEEPS, CLOSE = 1000, 10, 1e-8
"""Of coordinate descent: most sweeps, those of a warm start, and the relative move that ends it."""

SINGULAR = 1e-11
"""Pivots at or below this multiple of the largest diagonal entry count as 0."""


def curvatures(
    weight: Float[Tensor, "*#r n f"], H: Float[Tensor, "*r k f"]
) -> Float[Tensor, "*r n k k"]:
    """``G_i = H diag(weight_i) Hᵀ`` for every row i.

    Parameters
    ----------
    weight : Tensor, shape (*r, n, f), or sparse CSR (n, f) beside H (k, f)
        Only stored entries are visited.
    H : Tensor, shape (*r, k, f)
    """
    k, f = H.shape[-2:]
    i, j = torch.triu_indices(k, k, device=H.device)
    step = max(1, PAIR_ENTRIES // max(1, f * H.shape[:-2].numel()))
    parts = [
        weight @ (H[..., a, :] * H[..., b, :]).mT
        for a, b in zip(i.split(step), j.split(step), strict=True)
    ]
    pairs = torch.cat(parts, -1)
    G = pairs.new_zeros(*pairs.shape[:-1], k, k)
    G[..., i, j] = pairs
    G[..., j, i] = pairs
    return G


class Ridge(NamedTuple):
    """Least squares on listed entries with a ridge: see `ridge_rows`."""

    x: Tensor
    weight: Tensor
    H: Tensor
    ridge: Tensor
    base: Tensor | None = None
    floor: Tensor | None = None
    begin: Tensor | None = None


class _Bound(NamedTuple):
    """How far down entries may go, and how they are taken there."""

    floor: Tensor
    sweeps: int
    begin: Tensor


def ridge_rows(
    x: Float[Tensor, "n f"],
    weight: Float[Tensor, "n f"],
    H: Float[Tensor, "k f"],
    ridge: Float[Tensor, " k"],
    base: Float[Tensor, "k k"] | None = None,
    floor: Float[Tensor, " k"] | None = None,
    begin: Float[Tensor, "n k"] | None = None,
) -> Float[Tensor, "n k"]:
    """``argmin_w Σ_j weight_j ((x_j - w H_j)² + Σ_c ridge_c w_c²)`` for every row: any sign, in float64.

    Parameters
    ----------
    x, weight : Tensor, shape (n, f), both dense or both CSR of one pattern
        weight >= 0; entries of x under a weight of 0 play no part.
    H : Tensor, shape (k, f)
    ridge : Tensor, shape (k,), >= 0
    base : Tensor, shape (k, k), optional
        Positive semi-definite; ``w base wᵀ`` is added for every row: a ridge that is the same for all
        rows, or the Gram matrix of all of H where absent entries are zeros.
    floor : Tensor, shape (k,), optional
        0 or -inf: no entry of w falls below.
    begin : Tensor, shape (n, k), optional
        Under a floor: where a few sweeps of coordinate descent begin; without it they go on to the end.

    Returns
    -------
    Tensor, shape (n, k)
        The least one of the minimisers, so 0 for a row without weight.

    Source: Zhou, Wilkinson, Schreiber & Pan 2008, "Large-scale parallel collaborative filtering for the
    Netflix prize", section 3.1 (the ridge counts once per listed entry).
    """
    x, weight, H, ridge = (t.to(torch.float64) for t in (x, weight, H, ridge))
    base = torch.zeros_like(H @ H.mT) if base is None else base.to(torch.float64)
    floor = torch.full_like(ridge, -torch.inf) if floor is None else floor.to(torch.float64)
    sweeps = SWEEPS if begin is None else FEW_SWEEPS
    begin = H.new_zeros(x.shape[0], len(H)) if begin is None else begin.to(H).clone()
    bound = _Bound(floor, sweeps, begin)
    if not weight.is_sparse_csr and float((weight != 0).double().mean()) < FEW:
        at = csr_of(weight != 0)
        x, weight = with_values(at, x[weight != 0]), with_values(at, weight[weight != 0])
    if weight.is_sparse_csr and weight.device.type == "cpu":
        return _stored_rows(x, weight, H, ridge, base, bound)
    return _all_rows(x, weight, H, ridge, base, bound)


def _stored_rows(
    x: Tensor, weight: Tensor, H: Tensor, ridge: Tensor, base: Tensor, bound: _Bound
) -> Tensor:
    """`ridge_rows` of a CSR matrix, compiled; rows without a unique answer by `_all_rows`."""
    from nmfnet.kernels.compiled.ridge import ridge_rows as compiled

    found = bound.begin
    done = torch.zeros(x.shape[0], dtype=torch.bool)
    compiled(
        *(t.contiguous().numpy() for t in (x.crow_indices(), x.col_indices())),
        *(t.contiguous().numpy() for t in (weight.values(), x.values(), H.mT, ridge, base, bound.floor)),
        SINGULAR, bound.sweeps, CLOSE, found.numpy(), done.numpy(),
    )  # fmt: skip
    left = (~done).nonzero()[:, 0]
    left = left[row_sums(rows_at(weight, left)) > 0]
    if len(left):
        found[left] = _all_rows(
            rows_at(x, left),
            rows_at(weight, left),
            H,
            ridge,
            base,
            bound._replace(begin=found[left]),
        )
    return found


def _all_rows(
    x: Tensor, weight: Tensor, H: Tensor, ridge: Tensor, base: Tensor, bound: _Bound
) -> Tensor:
    """`ridge_rows` by products with all rows, in blocks."""
    step = max(1, PAIR_ENTRIES // H.shape[0] ** 2)
    found = []
    for start in range(0, x.shape[0], step):
        rows = slice(start, min(start + step, x.shape[0]))
        seen, target = take_rows(weight, rows), take_rows(x, rows)
        counts = (seen @ torch.ones_like(H[:1]).mT)[:, :, None]
        wanted = _product(seen, target) @ H.mT
        G = curvatures(seen, H) + counts * torch.diag(ridge) + base
        if bool(bound.floor.isfinite().any()):
            found.append(_descend(G, wanted, bound._replace(begin=bound.begin[rows])))
        else:
            found.append(_solve(G, wanted))
    return torch.cat(found, -2)


def _product(weight: Tensor, x: Tensor) -> Tensor:
    """Entry by entry."""
    return with_values(x, weight.values() * x.values()) if x.is_sparse_csr else weight * x


def _descend(
    G: Float[Tensor, "n k k"], c: Float[Tensor, "n k"], bound: _Bound
) -> Float[Tensor, "n k"]:
    """``min w G_i w / 2 - c_i w`` with w >= floor, by coordinate descent on all rows at once."""
    w, diagonal = bound.begin.clone(), G.diagonal(dim1=-2, dim2=-1)
    for _ in range(bound.sweeps):
        before = w.clone()
        for a in range(c.shape[-1]):
            step = (c[:, a] - (G[:, a] * w).sum(-1)) / diagonal[:, a]
            step = torch.where(diagonal[:, a] > 0, step, 0)
            w[:, a] = torch.maximum(w[:, a] + step, bound.floor[a])
        if bool((w - before).abs().amax() <= CLOSE * w.abs().amax()):
            break
    return w


def _solve(G: Float[Tensor, "n k k"], c: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """``G_i s_i = c_i`` for positive semi-definite G, by least squares where one is singular."""
    lower, _ = torch.linalg.cholesky_ex(G)
    pivots = lower.diagonal(dim1=-2, dim2=-1).square().amin(-1)
    good = pivots > SINGULAR * G.diagonal(dim1=-2, dim2=-1).amax(-1)
    found = torch.empty_like(c)
    found[good] = torch.cholesky_solve(c[good, :, None], lower[good])[..., 0]
    inverse = torch.linalg.pinv(G[~good], rtol=SINGULAR, hermitian=True)
    found[~good] = (inverse @ c[~good, :, None])[..., 0]
    return found
