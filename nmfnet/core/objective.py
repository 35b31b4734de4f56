"""What any model minimises, and its derivative: losses of rows, multiplicative sums, KKT residual."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.kernels.generic_mu import generic_sums
from nmfnet.kernels.optimality import kkt_residual
from nmfnet.kernels.rows import blocks, dense
from nmfnet.kernels.sparse import transposed
from nmfnet.types import Batch, Float, Tensor

if TYPE_CHECKING:
    from nmfnet.core.factor import Factor
    from nmfnet.core.model import Factorization
    from nmfnet.kernels.multiplicative import Sums


@contextmanager
def judged(model: Factorization) -> Iterator[None]:
    """Inside, the model is as it is judged (batch norm by its running means); then as it was before."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def row_losses(
    model: Factorization, batch: Batch, code: Float[Tensor, "*r n k"]
) -> Float[Tensor, "*r n"]:
    """Loss of every row, all views together; in blocks of rows where X_hat would be large.

    Not in the steps of an optimiser: what they differentiate is kept whole in any case, and layers may
    normalise over the rows.
    """
    if batch.x.is_sparse_csr and model.sparse:
        return model.sparse_losses(batch, code)
    if not model.rows_independent or (model.training and torch.is_grad_enabled()):
        return _block(model, batch, code)
    parts = [
        _block(model, rows, code[..., at, :]) for at, rows in blocks(batch, code.shape[:-2].numel())
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _block(
    model: Factorization, batch: Batch, code: Float[Tensor, "*r n k"]
) -> Float[Tensor, "*r n"]:
    total = None
    for name, output in model.outputs(code, batch).items():
        view = batch.tables[name]
        mask = None if view.mask is None else dense(view.mask)
        heads = output.heads
        if model.loss.by_row:
            heads = {**heads, **{word: batch.extra[word] for word in model.loss.by_row}}
        loss = model.loss.for_view(name)(dense(view.x), output.mean, mask, heads)
        weight = model.weight_of(name)
        loss = loss if weight == 1 else weight * loss
        total = loss if total is None else total + loss
    assert total is not None
    return total


@torch.no_grad()
def improve_loss(model: Factorization, batch: Batch) -> None:
    """A step of the parameters of the loss, X_hat held; of a sparse X by blocks of features."""
    if batch.x.is_sparse_csr:
        turn = model.transpose
        assert turn is not None
        columns = transposed(batch.x, turn)
        seen = None if batch.mask is None else transposed(batch.mask, turn)
        model.loss.improve_sparse(columns, model.encode(batch), model.components(), seen)
        return
    x_hat = model.outputs(model.encode(batch), batch)["x"].mean
    mask = None if batch.mask is None else dense(batch.mask)
    model.loss.improve(dense(batch.x), x_hat, mask)


def misfit(
    model: Factorization, batch: Batch, code: Float[Tensor, "*r n k"]
) -> Float[Tensor, "*r"]:
    """What the model's own likelihood says of rows with these codes, penalties left out."""
    if model.asks_loss:
        return row_losses(model, batch, code).sum(-1, dtype=torch.float64)
    tables = model.code_factors()
    if model.inductive or not tables:
        terms = model.terms(batch)
    else:
        rows = batch._replace(index=torch.arange(batch.x.shape[0], device=batch.x.device))
        widths = [factor.raw.shape[-1] for factor in tables.values()]
        with ExitStack() as stack:
            for factor, part in zip(tables.values(), code.split(widths, -1), strict=True):
                stack.enter_context(factor.at(part))
            terms = model.terms(rows)
    return torch.stack([term.double() for term in terms.values()]).sum(0)


def kkt(model: Factorization, batch: Batch) -> Float[Tensor, "*r"] | None:
    """Largest KKT residual over the factors, per restart; None where it is not defined."""
    if not moves_values(model, NON_NEGATIVE):
        return None
    residuals = [
        kkt_residual(factor.raw.detach(), *factor_sums(model, name, batch))
        for name, factor in model.factors.items()
        if not factor.frozen
    ]
    return torch.stack(residuals).amax(0) if residuals else None


def moves_values(model: Factorization, bounds: tuple[float, float]) -> bool:
    """Whether the factors can be moved in place within bounds, by the two sums."""
    loose = [f.constraint for f in model.factors.values()]
    own = all(c.identity and c.bounds == bounds for c in loose)
    return model.multilinear and model.loss.splits and not model.of_loss and own


def factor_sums(model: Factorization, name: str, batch: Batch, *, fused: bool = True) -> Sums:
    """The two sums of a factor, penalties included: in closed form, or by autograd."""
    factor, beta, sums = model.factors[name], model.loss.beta, None  # the innermost loop
    if fused and beta is not None:
        if torch.is_grad_enabled():
            with torch.no_grad():
                sums = model.sums(name, batch, beta)
        else:
            sums = model.sums(name, batch, beta)
    if sums is None:
        apart = batch.x.is_sparse_csr and model.rows_independent
        parts = blocks(batch, model.n_restarts) if apart else iter([(slice(None), batch)])
        sums = _sums_of(model, factor, next(parts)[1])
        for _, part in parts:
            more = _sums_of(model, factor, part)
            sums = sums[0] + more[0], sums[1] + more[1]
    neg, pos = sums
    if model.world.size > 1 and not factor.per_sample:
        neg, pos = model.world.total(neg), model.world.total(pos)
    for penalty in model.penalty_list if len(model.penalties) else ():
        if penalty.on == name:
            more_neg, more_pos = penalty.split(factor.raw.detach())
            neg, pos = neg + more_neg, pos + more_pos
    return neg, pos


def _sums_of(model: Factorization, factor: Factor, batch: Batch) -> Sums:
    """The two sums by autograd, with X_hat of the rows formed."""
    return generic_sums(
        lambda: model.outputs(model.encode(batch), batch),
        factor.raw,
        batch.tables,
        lambda view: model.loss.for_view(view).split,
        model.weight_of,
    )


def sum_gradients(model: Factorization) -> None:
    """Add up the gradients of shared factors over processes."""
    own = {id(factor.raw) for factor in model.factors.values() if factor.per_sample}
    for parameter in model.parameters():
        if parameter.grad is not None and id(parameter) not in own:
            parameter.grad = model.world.total(parameter.grad)


def normal_equations(model: Factorization, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
    """``G (*r, k, k)`` and ``C (*r, rows, k)`` of the rows of W or Hᵀ under the squared error.

    Only for models that are ``bilinear``: X ~ W H, both factors free.
    """
    x, W, H = batch.x, model.factors["W"].raw.detach(), model.factors["H"].raw.detach()
    if name == "W":
        G, C = H @ H.mT, x @ H.mT
    else:
        G = model.world.total(W.mT @ W)
        C = model.world.total(transposed(x, model.transpose) @ W if model.transpose else x.mT @ W)
    for penalty in model.penalty_list:
        if penalty.on == name:
            quadratic, linear = penalty.normal(G, model.factors[name].raw.detach())
            G, C = G + quadratic, C - linear
    return G, C
