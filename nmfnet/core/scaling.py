"""The scale of a reconstruction before a fit, and where it goes after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nmfnet.errors import UserError
from nmfnet.kernels.divergences import TINY
from nmfnet.kernels.rows import dense, row_blocks, take_rows
from nmfnet.types import Batch, Float, Tensor

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


def best_scale(model: Factorization, batch: Batch) -> Float[Tensor, "r 1 1"]:
    """The c > 0 that minimises ``||X - c X_hat||``, weighted, for the factors as they are.

    Where the best c is not positive, the c with which both have the same norm.
    """
    W = model.encode(batch)
    sums = torch.zeros(3, model.n_restarts, dtype=torch.float64, device=model.device)
    for rows in row_blocks(batch.x, model.n_restarts) if model.rows_independent else [slice(None)]:
        x, x_hat = dense(take_rows(batch.x, rows)), model.decode(W[..., rows, :])
        mask = None if batch.mask is None else dense(take_rows(batch.mask, rows))
        for total, (a, b) in zip(sums, ((x, x_hat), (x_hat, x_hat), (x, x)), strict=True):
            product = a * b if mask is None else mask * a * b
            total += product.sum((-2, -1), dtype=torch.float64)
    cross, fitted, data = sums
    scale = torch.where(cross > 0, cross, (data * fitted).sqrt()) / fitted.clamp_min(1e-300)
    return torch.where(scale > 0, scale, 1).to(model.precision)[:, None, None]


def size_of_rows(
    model: Factorization, batch: Batch, code: Float[Tensor, "*r n k"]
) -> Float[Tensor, "*r n 1"] | None:
    """What makes X_hat of a row, of all views, sum to its observed total; None where that is held.

    It is free where the loss knows only the shares in a row and nothing else holds the table of codes.
    """
    tables = list(model.code_factors().values())
    alone = len(tables) == 1 and model.linear and model.rows_independent
    own = model.inductive or model.overrides("terms") or model.overrides("row_terms")
    if not (model.loss.of_shares and alone) or own:
        return None
    (table,) = tables
    if not table.scales or any(model.factors[p.on] is table for p in model.penalty_list):
        return None
    said = model.outputs(code, batch)
    wanted = total = torch.zeros_like(code[..., :1])
    for name, view in batch.tables.items():
        seen = (dense(view.weights) > 0).to(code)
        wanted = wanted + (seen * dense(view.x)).sum(-1, keepdim=True)
        total = total + (seen * said[name].mean).sum(-1, keepdim=True)
    return torch.where(total > 0, wanted / total.clamp_min(TINY), 1)


@torch.no_grad()
def to_totals(model: Factorization, batch: Batch) -> None:
    """Give the codes of the training rows their size after the fit; the objective stays as it is."""
    if not model.loss.of_shares:
        return
    size = size_of_rows(model, batch, model.encode(batch))
    if size is not None:
        (table,) = model.code_factors().values()
        table.assign_(table() * size)


def check_normalise(model: Factorization, which: str | None) -> None:
    """Refuse ``normalize`` where no scale is free, or where it would change a penalty.

    Raises
    ------
    UserError
    """
    if which is None:
        return
    pair = model.scale_pair()
    if pair is None:
        raise UserError(
            f"normalize={which}: the scale of {type(model).__name__} as configured is not free: "
            "set normalize=null"
        )
    if fixed := [name for name, f in model.factors.items() if f in pair and not f.scales]:
        raise UserError(
            f"normalize={which} moves scale between two factors, and that of {fixed[0]} is fixed, by its "
            "constraint or because it is held: set normalize=null"
        )
    if model.penalty_list:
        raise UserError(
            f"normalize={which} would change the penalties, which depend on scale: set "
            "normalize=null or penalty=none"
        )


@torch.no_grad()
def normalise(model: Factorization, which: str | None, batch: Batch) -> None:
    """Move scale between W and H after the fit; X_hat, and so the objective, stay as they are.

    Parameters
    ----------
    which : {"H", "W", None}
        "H": every row of H sums to 1. "W": every column of W sums to 1. Zero ones stay zero.
    """
    pair = model.scale_pair()
    if which is None or pair is None:
        return
    d = model.components().sum(-1) if which == "H" else 1 / model.encode(batch).sum(-2)
    d = torch.where(torch.isfinite(d) & (d > 0), d, 1.0)
    left, right = pair
    left.assign_(left() * d.unsqueeze(-2))
    right.assign_(right() / d.unsqueeze(-1))
