"""Codes of rows that a model without an encoder has not seen.

The code of a row minimises the model's own objective (its decoder, loss, penalties, constraints and
weights) with everything else frozen. Where that is a problem with a closed form or a fast rule (a
non-negative fit to given components) the answer of the rule is taken once it has been checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

from nmfnet.core.constraints import ANY, NON_NEGATIVE
from nmfnet.core.factor import Factor
from nmfnet.core.objective import row_losses
from nmfnet.core.penalties import Penalty
from nmfnet.core.scaling import size_of_rows
from nmfnet.errors import UserError
from nmfnet.kernels.bounded import minimise_within
from nmfnet.kernels.refit import refit_by_scoring, refit_W, simplex_rows
from nmfnet.kernels.rows import dense, take_rows
from nmfnet.kernels.spectral import minimise
from nmfnet.types import Batch, Float, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

Objective = Callable[[Batch], Terms]

SCALES = tuple(4.0**i for i in range(-8, 9))
"""Multiples of the mean training code, from the best of which the search starts."""

STARTS = 64
"""Codes of training rows that it may start from as well, where X_hat is not linear in the code."""

MOST = 5000
"""Steps of the search: 1000 leave the codes of nmfd a third above their optimum."""

TOL = 1e-10
"""A row is done when its objective falls by less, relative, for a while (see ``minimise``)."""

CHECKED = 64
"""Rows on which a fast answer is held against the model's own decoder."""


def fold_in(
    model: Factorization,
    batch: Batch,
    terms: Objective | None = None,
    tables: dict[str, Factor] | None = None,
    tol: float = TOL,
) -> Float[Tensor, "*r n k"]:
    """``argmin over the codes of the objective``, everything else frozen; rows by themselves.

    The objective is ``model.row_terms``, or the sum of ``terms`` where rows are not judged one by one.
    ``tables`` are the factors whose rows are found, if these are others than the codes. ``tol`` ends a
    descent, where one is needed (see ``minimise``).

    Raises
    ------
    UserError
        If the model has no per-sample factor that could say what a code may be.
    """
    tables = model.code_factors() if tables is None else tables
    if not tables:
        raise UserError(
            f"{type(model).__name__} has no encoder, and none of its factors has a row per sample: "
            "declare one with the axis 'sample', or give the model a method infer"
        )
    first = next(iter(tables.values())).raw
    if first.ndim > 2 and not rows_apart(model, tables, batch):
        alone = []
        for restart in range(first.shape[0]):
            with model.restarts(restart):
                alone.append(fold_in(model, batch, terms, tables, tol))
        return torch.stack(alone)
    with torch.no_grad():
        fast = None if terms or model.overrides("row_terms") else _by_rule(model, batch, tables)
    return _by_descent(model, batch, tables, terms, tol) if fast is None else fast


def penalties_on(model: Factorization, tables: dict[str, Factor], batch: Batch) -> list[Penalty]:
    """Penalties of the per-sample factors, as they are for these rows."""
    found = (penalty.of_rows(batch) for penalty in model.penalty_list if penalty.on in tables)
    return [penalty for penalty in found if penalty is not None]


def rows_apart(model: Factorization, tables: dict[str, Factor], batch: Batch) -> bool:
    """Whether the code of a row is found without those of other rows."""
    meet = any(penalty.between_rows for penalty in penalties_on(model, tables, batch))
    return model.rows_independent and not meet


def _by_rule(
    model: Factorization, batch: Batch, tables: dict[str, Factor]
) -> Float[Tensor, "*r n k"] | None:
    """The non-negative fit to ``model.components()``, if that is what the model's objective asks."""
    beta, (factor, *more) = model.loss.row_beta, tables.values()
    alone = beta == model.loss.beta or not (penalties_on(model, tables, batch) or batch.views)
    if not alone or not rows_apart(model, tables, batch):
        return None
    if beta is None and not more and not batch.views:
        return _by_scoring(model, batch, factor)
    whole = None if beta is None or more else batch
    components = None if whole is None else model.components()
    if components is not None and batch.views:
        whole, components = _side_by_side(model, batch, components)
    if components is None or whole is None or beta is None or "component" not in factor.axes:
        return None
    on_W = penalties_on(model, tables, batch)
    if factor.constraint.row_sum == 1 and beta == 2 and not on_W:
        shares = simplex_rows(whole.x, components, whole.mask).to(components.dtype)
        return shares if _agrees(model, shares, components, batch) else None
    if factor.constraint.one_in == "row" and not on_W:
        single = _one_component(model, whole, components, beta)
        return single if _agrees(model, single, components, batch) else None
    if factor.constraint.bounds not in (NON_NEGATIVE, ANY):
        return None
    if factor.constraint.bounds == ANY:
        W = _unbounded(whole, components) if beta == 2 and not on_W else None
        return W if W is None or _agrees(model, W, components, batch) else None
    if (beta != 2 or on_W) and not _non_negative(whole, components):
        return None
    exponent = model.loss.exponent(1, max((p.degree for p in on_W), default=0))

    def penalty_sums(W: Tensor) -> tuple[Tensor | float, Tensor | float]:
        neg, pos = zip(*(p.split(W) for p in on_W), strict=True)
        return sum(neg), sum(pos)

    sums = penalty_sums if on_W else None
    W = refit_W(whole.x, components, beta, exponent, whole.mask, sums)
    return W if _agrees(model, W, components, batch) else None


def _by_scoring(
    model: Factorization, batch: Batch, factor: Factor
) -> Float[Tensor, "*r n k"] | None:
    """The non-negative fit of a likelihood that knows its expected curvature."""
    loss = model.loss
    if factor.constraint.bounds != NON_NEGATIVE or "component" not in factor.axes:
        return None
    if (
        penalties_on(model, model.code_factors(), batch)
        or not model.linear
        or not model.has_components
    ):
        return None
    components = model.components()
    if loss.information(components, components) is None or not _non_negative(batch, components):
        return None
    W = refit_by_scoring(batch.x, components, loss, loss.split, loss.information, batch.mask)
    W = W.to(components.dtype)
    return W if _agrees(model, W, components, batch) else None


def _side_by_side(
    model: Factorization, batch: Batch, components: Tensor
) -> tuple[Batch | None, Tensor | None]:
    """X and its views as one matrix, and their components; None where these are no tables."""
    found = model.side_by_side()
    if not batch.views.keys() <= found.keys():
        return None, None
    parts = [components, *(found[name]() for name in batch.views)]
    weights = {name: model.weight_of(name) for name in batch.tables}
    plain = not batch.masked and set(weights.values()) == {1.0}
    x = torch.cat([dense(view.x) for view in batch.tables.values()], -1)
    seen = [weights[name] * view.weights for name, view in batch.tables.items()]
    whole = Batch(x, batch.index, None if plain else torch.cat(seen, -1))
    return whole, torch.cat(parts, -1)


def _one_component(
    model: Factorization, batch: Batch, H: Tensor, beta: float
) -> Float[Tensor, "*r n k"]:
    """Of every row the one component, with its weight, that leaves the smallest loss."""
    exponent, found, losses = model.loss.exponent(1, 0), [], []
    for i in range(H.shape[-2]):
        weight = refit_W(batch.x, H[..., i : i + 1, :], beta, exponent, batch.mask)
        found.append(weight)
        alone = [weight if j == i else torch.zeros_like(weight) for j in range(H.shape[-2])]
        losses.append(row_losses(model, batch, torch.cat(alone, -1)))
    chosen = torch.stack(losses, -1).argmin(-1, keepdim=True)
    W = torch.cat(found, -1)
    return torch.zeros_like(W).scatter(-1, chosen, W.gather(-1, chosen))


def _unbounded(batch: Batch, H: Tensor) -> Float[Tensor, "*r n k"] | None:
    """Least squares with any sign, in float64; None where entries are left out."""
    if batch.mask is not None or batch.x.is_sparse_csr:
        return None
    right = batch.x.double().mT.expand(*H.shape[:-2], *batch.x.mT.shape)
    found = torch.linalg.lstsq(H.double().mT, right, driver="gelsd").solution.mT
    return found.to(H.dtype)


def _non_negative(batch: Batch, components: Tensor) -> bool:
    """Whether rows and components are such that multiplicative updates lead to the code."""
    x = batch.x.values() if batch.x.is_sparse_csr else batch.x
    return all(bool((values >= 0).all()) for values in (x, components))


def _agrees(model: Factorization, W: Tensor, components: Tensor, batch: Batch) -> bool:
    """Whether the decoder says of these codes what the rule took it to say."""
    few = W[..., :CHECKED, :]
    first = batch.by_row(lambda tensor: take_rows(tensor, slice(0, CHECKED)))
    meant = torch.cat([output.mean for output in model.outputs(few, first).values()], -1)
    said = few @ components
    close = (said - meant).abs().amax() <= 1e-4 * meant.abs().amax()
    return bool(close) and bool(W.isfinite().all())


def _by_descent(
    model: Factorization,
    batch: Batch,
    tables: dict[str, Factor],
    terms: Objective | None,
    tol: float,
) -> Float[Tensor, "*r n k"]:
    """Descent on the codes in float64.

    By spectral projected gradients, each row with steps of its own; where rows lean on each other and
    are kept by bounds, by L-BFGS on all of them.
    """
    widths = [factor.raw.shape[-1] for factor in tables.values()]
    with in_float64(model):
        rows = batch.to(torch.float64)
        rows = rows._replace(index=torch.arange(rows.x.shape[0], device=rows.x.device))
        codes = torch.cat([factor().detach() for factor in tables.values()], -1)
        middle = codes.mean(-2)
        candidates = [scale * middle for scale in SCALES]
        apart = rows_apart(model, tables, rows)
        if apart and not model.linear:  # such an objective may have more than one lowest point
            some = torch.linspace(0, codes.shape[-2] - 1, min(STARTS, codes.shape[-2])).long()
            candidates += codes[..., some, :].unbind(-2)
        shape = (*middle.shape[:-1], rows.x.shape[0], middle.shape[-1])

        def project(code: Tensor) -> Tensor:
            parts = zip(tables.values(), code.split(widths, -1), strict=True)
            return torch.cat([factor.constraint.project(part) for factor, part in parts], -1)

        value = objective_of(model, rows, tables, terms)
        with torch.no_grad():
            tried = (project(candidate.unsqueeze(-2).expand(shape)) for candidate in candidates)
            start = next(tried)
            lowest = value(start).nan_to_num(torch.inf)
            for code in tried:
                cost = value(code).nan_to_num(torch.inf)
                better = (cost < lowest).reshape(*cost.shape, *([1] * (len(shape) - cost.ndim)))
                start, lowest = torch.where(better, code, start), torch.minimum(cost, lowest)
        limits = [factor.constraint.bounds for factor in tables.values()]
        if apart or None in limits:
            found = minimise(value, project, start, max_iter=MOST, tol=tol)
        else:
            pairs = zip(limits, widths, strict=True)
            bounds = [limit for limit, width in pairs if limit for _ in range(width)]
            found = minimise_within(value, start, bounds)
        with torch.no_grad():
            size = size_of_rows(model, rows, found) if tables == model.code_factors() else None
    return (found if size is None else found * size).to(model.precision)


def objective_of(
    model: Factorization, batch: Batch, tables: dict[str, Factor], terms: Objective | None
) -> Callable[[Tensor], Tensor]:
    """What a code costs: by row where rows do not meet, else of all rows of a restart."""
    apart = model.rows_independent and terms is None
    widths = [factor.raw.shape[-1] for factor in tables.values()]
    on_codes = penalties_on(model, tables, batch)
    by_row = apart and all(p.entrywise for p in on_codes)

    def value(code: Tensor) -> Tensor:
        held = dict(zip(tables, code.split(widths, -1), strict=True))
        with ExitStack() as stack:
            if terms or model.overrides("row_terms"):  # these look the codes up
                for name, part in held.items():
                    stack.enter_context(tables[name].at(part))
            if terms:
                total = torch.stack([t.double() for t in terms(batch).values()]).sum(0)
            elif model.overrides("row_terms"):
                total = torch.stack([t.double() for t in model.row_terms(batch).values()]).sum(0)
            else:
                total = row_losses(model, batch, code).double()
        if by_row:
            for p in on_codes:
                total = total + p(held[p.on].unsqueeze(-2))
            return total
        total = total if terms else total.sum(-1)
        return total + sum(p(held[p.on]) for p in on_codes)

    return value


@contextmanager
def in_float64(model: Factorization, *, moving: bool = False) -> Iterator[None]:
    """Inside, the parameters and buffers of the model are in float64.

    After it they are what they were before; ``moving``, what they have become, rounded.
    """
    tensors = [t for t in model.restart_tensors() if t.is_floating_point()]
    whole = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.double()
        yield
    finally:
        for tensor, data in zip(tensors, whole, strict=True):
            if moving:
                data.copy_(tensor.data)
            tensor.data = data
