"""New rows for a fitted model, checked as its training data were."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nmfnet.core.starting import check_sign
from nmfnet.core.units import inside
from nmfnet.errors import UserError
from nmfnet.kernels.arrays import as_tensor
from nmfnet.kernels.rows import dense
from nmfnet.kernels.sparse import row_numbers, with_values
from nmfnet.types import Batch, Tensor, View

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


Reader = Callable[[Any, Any], tuple[Any, Any, Any]]
"""X and mask as a user gives them, to matrices with the columns in the order of the training data, and
the names of the rows."""

RowReader = Callable[..., Any]
"""A table beside X, the names of X's rows, and what it is called, to the table in the order of X;
``square`` where its columns are these rows as well."""

CovariateReader = Callable[[Any, Any, int], Any]
"""Covariates as a user gives them, the names of the rows and their number, to a table of numbers."""


def new_rows(
    model: Factorization,
    X: Any,
    mask: Any,
    graph: Any = None,
    links: Any = None,
    views: Mapping[str, Any] | None = None,
    covariates: Any = None,
) -> Batch:
    """A batch of rows that the model has not seen; arguments as for ``Factorization.transform``."""
    views, names = views or {}, None
    if X is None and views:
        held = {name: _new_view(model, name, view) for name, view in views.items()}
        rows = next(iter(held.values())).x.shape[0]
        x = torch.zeros(rows, model.sizes.n_features, dtype=model.precision, device=model.device)
        seen: Tensor | None = x
    else:
        if model.reader is not None:
            X, mask, names = model.reader(X, mask)
        if model.row_reader is not None:  # joined by name, as in training
            views = {k: model.row_reader(view, names, f"view {k}") for k, view in views.items()}
            graph = None if graph is None else model.row_reader(graph, names, "graph", square=True)
            links = None if links is None else model.row_reader(links, names, "links")
        held = {name: _new_view(model, name, view) for name, view in views.items()}
        x, seen = _new_table(model, X, mask, "X", model.sizes.n_features)
    for name, view in held.items():
        if view.x.shape[0] != x.shape[0]:
            raise UserError(f"view {name} has {view.x.shape[0]} rows, X has {x.shape[0]}")
    index = torch.full((x.shape[0],), -1, device=model.device)
    context = {} if graph is None else {"graph": _new_graph(model, graph, x.shape[0])}
    extra = _new_covariates(model, covariates, names, x)
    if links is not None:
        extra["links"] = _new_links(model, links, x.shape[0])
    return Batch(x, index, seen, extra=extra, context=context, views=held)


def _new_covariates(model: Factorization, given: Any, names: Any, x: Tensor) -> dict[str, Tensor]:
    read = any("covariate" in factor.axes for factor in model.factors.values())
    if given is None and read:
        known = ", ".join(name for name, _ in model.recipe["covariates"])
        raise UserError(
            f"the model was fitted with covariates ({known}), and these rows have none: give "
            "covariates=, a table with a row for each"
        )
    if given is None:
        return {}
    if model.covariate_reader is None:
        raise UserError("the model was fitted without covariates: leave covariates out")
    table = model.covariate_reader(given, names, x.shape[0])
    return {"covariates": as_tensor(table, model.precision, model.device)}


def _new_graph(model: Factorization, graph: Any, n: int) -> Tensor:
    if not any(part.reads_graph for part in (model, *model.penalty_list)):
        raise UserError(
            f"graph: {type(model).__name__} as configured reads no links between new rows: leave it out"
            + (" and give their links to the training rows (links=)" if model.reads_links else "")
        )
    links = as_tensor(graph, model.precision, model.device)
    if links.shape != (n, n):
        raise UserError(
            f"graph has shape {tuple(links.shape)}, but X has {n} rows: give it a row and a "
            "column for each"
        )
    return links if links.is_sparse_csr else links.to_sparse_csr()


def _new_links(model: Factorization, given: Any, n: int) -> Tensor:
    kind, links = type(model).__name__, as_tensor(given, model.precision, model.device)
    if not model.reads_links:
        raise UserError(
            f"links: {kind} as configured reads no links to the training rows: leave them out"
        )
    wanted = (n, model.sizes.n_samples)
    if links.shape != wanted:
        raise UserError(
            f"links has shape {tuple(links.shape)}, but it must be {wanted}: a row for each row of X, "
            "and a column for each row of the training"
        )
    weights = links.values() if links.is_sparse_csr else links
    if not bool((weights >= 0).all() & weights.isfinite().all()):
        raise UserError("links has weights that are negative, NaN or infinite: give 0 for no link")
    return links if links.is_sparse_csr else links.to_sparse_csr()


def unseen(model: Factorization, name: str, n: int) -> View:
    """A view of which n rows have nothing."""
    nothing = torch.zeros(n, _width(model, name), dtype=model.precision, device=model.device)
    return View(nothing, nothing)


def _width(model: Factorization, name: str) -> int:
    """Features of a view."""
    known = [axis.removeprefix("view ") for axis in model.axes if axis.startswith("view ")]
    if name not in known:
        raise UserError(
            f"the model was fitted without a view {name!r}; it has {', '.join(known) or 'none'}"
        )
    return model.axes[f"view {name}"]


def _new_view(model: Factorization, name: str, values: Any) -> View:
    width = _width(model, name)
    x = dense(as_tensor(values, model.precision, model.device))
    absent = x.isnan().all(-1, keepdim=True)
    mask = (~absent).expand(x.shape) if bool(absent.any()) else None
    return View(*_new_table(model, x, mask, f"view {name}", width))


def _new_table(
    model: Factorization, X: Any, mask: Any, what: str, n_features: int
) -> tuple[Tensor, Tensor | None]:
    """Values and weights, checked as training data are."""
    x = inside(model, X, model.units.data)
    if x.shape[1] != n_features:
        raise UserError(
            f"{what} has {x.shape[1]} features, but this model was fitted on {n_features}"
        )
    seen = None if mask is None else as_tensor(mask, model.precision, model.device)
    if seen is not None:
        if seen.shape != x.shape:
            raise UserError(f"mask has shape {tuple(seen.shape)}, {what} has {tuple(x.shape)}")
        x = _at_listed(x, seen) if seen.is_sparse_csr else torch.where(seen > 0, dense(x), 0)
    values = (x.values() if x.is_sparse_csr else x).cpu().numpy()
    if not np.isfinite(values).all():
        raise UserError(f"{what} has NaN or infinite entries: give a mask for missing ones")
    check_sign(model, x, what)
    names = [str(i) for i in range(max(x.shape))]
    whole = seen is None or seen.is_sparse_csr  # all that is stored is observed
    observed = None if seen is None or whole else seen.cpu().numpy()
    model.loss.for_view(what.removeprefix("view ")).check(values, names, names, what, observed)
    return x, seen


def _at_listed(x: Tensor, mask: Tensor) -> Tensor:
    """The entries of x that a sparse mask stores, with its pattern."""
    return with_values(mask, dense(x)[row_numbers(mask), mask.col_indices()])
