"""What hierarchical models share: ranks, products of layers, training one layer after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from nmfnet.core.inits import Init
from nmfnet.core.losses import Loss
from nmfnet.core.model import Factorization
from nmfnet.core.prelude import PATIENCE, Prelude
from nmfnet.errors import UserError
from nmfnet.kernels.extrapolation import begin
from nmfnet.kernels.hals import hals
from nmfnet.kernels.matrix import matrix
from nmfnet.kernels.multiplicative import Sums, nmf_sums_H, nmf_sums_W
from nmfnet.kernels.newton import newton
from nmfnet.kernels.nnls import nnls, nnls_rows, with_ridge
from nmfnet.kernels.refit import masked_nnls_rows
from nmfnet.kernels.rows import spans
from nmfnet.kernels.sparse import Transpose, sparse_sums
from nmfnet.types import Batch, Float, Tensor

STEP = 20
"""Iterations between two looks at the objective of a layer."""

EXACT = 1e-8
"""A layer with an objective below this part of its data's size is done."""


def level_axes(model: Factorization, shapes: Sequence[tuple[int, int]]) -> list[tuple[str, str]]:
    """Names of the axes of A in every layer, from wide to narrow; the model learns their sizes."""
    names = [f"layer {i}" for i in range(1, len(shapes))] + ["component"]
    model.axes |= {name: k for name, (k, _) in zip(names, shapes, strict=True)}
    return list(zip(names, ["feature", *names], strict=False))


def layer_shapes(
    layers: Sequence[int], n_components: int | None, n_features: int, init: Init
) -> list[tuple[int, int]]:
    """Shape ``(k_l, k_{l-1})`` of A in every layer, from wide to narrow; k_{-1} is ``n_features``.

    Parameters
    ----------
    layers : sequence of int, >= 1
        Ranks k_0, k_1, ...
    n_components : int, optional
        Takes the place of the last of ``layers``.
    n_features : int
    init : Init
        Of the model; with several layers it can only be random.

    Raises
    ------
    UserError
        For ranks that grow, that exceed the number of features, or are no positive numbers; for a
        start that is made for one factorisation where there are several layers.
    """
    widths = [*layers[:-1], n_components or layers[-1]] if layers else []
    if not widths or min(widths) < 1:
        raise UserError(
            f"model.layers={list(layers)}: give the rank of every layer, each at least 1, for "
            "example model.layers=[10,6]"
        )
    if widths[0] > n_features:
        raise UserError(
            f"model.layers={widths}: the first rank is above the number of features, "
            f"n_features={n_features}: lower it"
        )
    for i, (wide, narrow) in enumerate(pairwise(widths), start=2):
        if narrow > wide:
            raise UserError(
                f"model.layers={widths}: layer {i} has rank {narrow}, above that of the layer before "
                f"it, {wide}: ranks go from wide to narrow; set model.layers (and "
                "model.n_components, which is the last of them)"
            )
    if len(widths) > 1 and not init.layered:
        raise UserError(
            f"init={init.name} is for one factorisation and model.layers has {len(widths)} layers: "
            "use init=random"
        )
    return list(zip(widths, [n_features, *widths], strict=False))


def check_fused(solver: nn.Module, own_terms: bool) -> None:
    """Refuse multiplicative sums by autograd of X_hat for a model that minimises more than its misfit.

    Raises
    ------
    UserError
    """
    if own_terms and not getattr(solver, "fused", True):
        raise UserError("solver.fused=false knows the misfit of X_hat only: set solver.fused=true")


def products(layers: Sequence[Tensor]) -> list[Tensor]:
    """Components (*r, k_l, f) of every layer in the features: ``A_0``, ``A_1 A_0``, ..."""
    made: list[Tensor] = []
    for A in layers:
        made.append(A @ made[-1] if made else A)
    return made


def project(
    batch: Batch,
    A: Float[Tensor, "*r k f"],
    transpose: Transpose | None = None,
    near: Float[Tensor, "*r n k"] | None = None,
) -> Float[Tensor, "*r n k"]:
    """``q(X, A)``: the best non-negative weights of components A in the rows of X.

    Gram matrices have a ridge of ten roundings, without which the derivative overflows where
    components coincide. ``near``, the answer for similar components, is where the search begins.
    """
    if batch.mask is None or batch.x.is_sparse_csr:
        return nnls_rows(batch.x, A, None if near is None else near > 0, ridge_of(A), transpose)
    return masked_nnls_rows(batch.x, A, batch.mask, ridge_of(A))


def project_codes(
    S: Float[Tensor, "*r n j"], A: Float[Tensor, "*r k j"], near: Tensor | None = None
) -> Float[Tensor, "*r n k"]:
    """``q(S, A)`` for the weights S of the layer before, each restart with its own."""
    support = None if near is None else near > 0
    return nnls(with_ridge(A @ A.mT, ridge_of(A)), S @ A.mT, support)


def ridge_of(A: Tensor) -> float:
    """Ten roundings of A's type."""
    return 10 * torch.finfo(A.dtype).eps


def row_misfits(
    loss: Loss, batch: Batch, W: Float[Tensor, "*r n k"], H: Float[Tensor, "*r k f"]
) -> Float[Tensor, "*r n"]:
    """Loss of X ~ W H by rows, X dense or sparse."""
    if not batch.x.is_sparse_csr:
        return loss(batch.x, W @ H, batch.mask)
    if W.ndim == 2:
        return loss.sparse_rows(batch.x, W, H, batch.mask is not None)
    return torch.stack([row_misfits(loss, batch, w, h) for w, h in zip(W, H, strict=True)])


def size_of(x: Tensor, beta: float | None) -> Tensor:
    """``½ Σ x²`` for the squared error, ``Σ x^β`` in general: scales as the loss does, shape (*r,)."""
    power = 2 if beta is None else beta

    def part(values: Tensor) -> Tensor:
        return 0.5 * values.square() if power == 2 else values.clamp_min(1e-30).pow(power)

    if x.is_sparse_csr:
        return part(x.values()).sum().double()
    parts = [
        part(x[..., rows, :]).sum((-2, -1)).double()
        for rows in spans(x.shape[-2], x.shape[:-2].numel() * x.shape[-1])
    ]
    return torch.stack(parts).sum(0)


def layerwise(
    batch: Batch,
    starts: Sequence[Tensor],
    beta: float | None,
    prelude: Prelude,
    *,
    signed: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """Sequential NMF of every restart: ``X ~ S_0 A_0``, then ``S_0 ~ S_1 A_1``, and so on.

    Parameters
    ----------
    batch : Batch
    starts : sequence of Tensor
        First A of every layer, shapes (r, k_l, k_{l-1}).
    beta : float
        Divergence: 1 (KL) and 2 (squared error) as they are, any other as 2.
    prelude : Prelude
        When a layer ends. What is left when the time is over stays as drawn, with the best codes for it.
    signed : bool
        A of any sign (semi-NMF), by alternating exact least squares.

    Returns
    -------
    S, A : lists of Tensor
        Of every layer, shapes (r, n, k_l) and (r, k_l, k_{l-1}). Rows of every A have norm 1.
    """

    def settle(rows: Batch, start: Tensor) -> tuple[Tensor, Tensor]:
        if signed:
            return _settle_signed(rows.x, start, prelude)
        return _settle(rows, start, 1 if beta == 1 else 2, prelude)

    n_restarts = len(starts[0])
    rows = [batch] * n_restarts
    codes: list[Tensor] = []
    found: list[Tensor] = []
    for start in starts:
        settled = [settle(rows[i], start[i]) for i in range(n_restarts)]
        S, A = (torch.stack(part) for part in zip(*settled, strict=True))
        norms = A.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        codes.append(S * norms.mT)
        found.append(A / norms)
        rows = [Batch(own, batch.index) for own in codes[-1]]
    return codes, found


def _settle(batch: Batch, start: Tensor, beta: int, prelude: Prelude) -> tuple[Tensor, Tensor]:
    state = begin(project(batch, start).clamp_min(1e-6 * float(start.mean())), start)
    data = matrix(batch.x, batch.mask)
    before, calm = float("inf"), 0
    for _ in range(0, prelude.most, STEP):
        if prelude.out_of_time():
            break
        if beta == 2 and batch.mask is None:
            now = float(hals(state, data, STEP))
        else:
            now = float(newton(state, data, STEP, beta=beta))
        prelude.n_iter += STEP
        calm = calm + 1 if prelude.calm(before, now, STEP) else 0
        before = now
        if calm == PATIENCE or now <= EXACT * data.half_square:
            break
    return state.W[0].clone(), state.H[0].clone()


def _settle_signed(
    x: Float[Tensor, "n f"], start: Tensor, prelude: Prelude
) -> tuple[Tensor, Tensor]:
    """X ~ S A with S >= 0 and A free. Source: Ding, Li & Jordan 2010 (model); exact steps here."""
    A, before, calm = start - start.mean(), float("inf"), 0
    S = project_codes(x, A)
    for i in range(prelude.most):
        if prelude.out_of_time():
            break
        ridge = ridge_of(A)
        A = torch.linalg.solve(with_ridge(S.mT @ S, ridge), S.mT @ x)
        S = project_codes(x, A)
        prelude.n_iter += 1
        if i % STEP:
            continue
        now = float(size_of(x - S @ A, 2))
        calm = calm + 1 if prelude.calm(before, now, STEP) else 0
        before = now
        if calm == PATIENCE or now <= EXACT * float(size_of(x, 2)):
            break
    return S, A


def sums_of(
    name: str,
    batch: Batch,
    transpose: Transpose | None,
    W: Float[Tensor, "*r n k"],
    H: Float[Tensor, "*r k f"],
    beta: float,
) -> Sums:
    """Both multiplicative sums for W or H in X ~ W H, X dense or sparse."""
    if batch.x.is_sparse_csr:
        return sparse_sums(name, batch.x, transpose, W, H, beta, batch.mask is not None)
    return (nmf_sums_W if name == "W" else nmf_sums_H)(batch.x, W, H, beta, batch.mask)
