"""How every model starts: its parts are held against each other and the data, then drawn from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch

from nmfnet.core.constraints import ANY
from nmfnet.core.prelude import never
from nmfnet.errors import UserError
from nmfnet.kernels.rows import dense, take_rows
from nmfnet.kernels.sparse import transpose_of
from nmfnet.types import Batch, Tensor

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


def initialise(model: Factorization, batch: Batch, over: Callable[[], bool] = never) -> None:
    """Start every restart on the full training batch, or on a sample of it.

    Parameters
    ----------
    model : Factorization
    batch : Batch
    over : callable
        Whether the time of the run is over: it ends the fits that a start is made by.

    Raises
    ------
    UserError
        If the parts do not fit the sizes or each other.
    """
    model.init.check(model.n_components, *model.sizes, model.n_restarts)
    take_wanted(model)
    unknown = [name for name in model.frozen if name not in model.given]
    if model.init.empty and not model.given:
        raise UserError(
            f"init={model.init.name} has nothing to start from: give init.path=FILE.npz, or arrays in "
            "Python: nmfnet.fit(X, init='given', H=H)"
        )
    if unknown and not model.init.given:
        raise UserError(
            f"model.frozen={unknown[0]}: it needs a value: init=given init.path=FILE.npz, or in "
            f"Python nmfnet.fit(X, {unknown[0]}=array)"
        )
    for penalty in model.penalty_list:
        penalty.start(batch)
    _check_parts(model)
    check_sign(model, batch.x)
    for name, view in batch.views.items():
        check_sign(model, view.x, f"view {name}")
    if batch.x.is_sparse_csr:
        model.transpose = transpose_of(batch.x)
    drawn = [model.init(batch.x, model.n_components, g) for g in model.generators]
    W, H = (torch.stack(tables) for tables in zip(*drawn, strict=True))
    own = torch.arange(model.sizes.n_samples, device=W.device)
    if W.shape[1] < len(own):  # the batch is a sample: rows start from its W in turn
        W = W[:, own % W.shape[1]]
    with torch.no_grad():
        model.prelude.over = over
        proposed = _Proposed(W=W, H=H)
        model.start(proposed, batch)
        model.heeds_init = proposed.taken or (model.init.given and bool(model.given))
        model.prelude.over = never
        model.loss.start(batch)
        for name, value in model.given.items():
            model.factors[name].assign_(value.to(model.device))
        model.asks_loss = _asks_loss(model, batch)


class _Proposed(dict[str, Tensor]):
    """What ``init`` proposes; it knows whether a model has taken any of it."""

    taken = False

    def __getitem__(self, name: str) -> Tensor:
        self.taken = True
        return super().__getitem__(name)


def take_wanted(model: Factorization) -> None:
    """Take what ``init`` holds of the model's own factors as given, where nothing else is.

    Other models make of it what they make of any proposal.
    """
    held = model.init.values()
    own = {name: torch.from_numpy(held[name]) for name in held if name in model.factors}
    model.given = {**own, **model.given}


def _check_parts(model: Factorization) -> None:
    """Refuse names of factors that the model does not have, and heads that its decoder lacks."""
    _check_names(model, "constraint.", model.factors.own)
    _check_names(model, "the given ", model.given)
    for name, value in model.given.items():
        wanted = tuple(model.factors[name].raw.shape[1:])
        if tuple(value.shape[-2:]) != wanted:
            raise UserError(
                f"the given {name} has shape {tuple(value.shape[-2:])}, but this model and these "
                f"data need {wanted}, {' by '.join(model.factors[name].axes)}"
            )
        limits = model.factors[name].constraint
        if not limits.contains(value):
            raise UserError(
                f"the given {name} is not feasible under constraint={type(limits).__name__.lower()}: "
                f"mend the values, or set constraint.{name} to another"
            )
    if missing := [head for head in model.loss.heads if head not in model.heads]:
        raise UserError(
            f"loss={model.loss.name} needs the head {missing[0]!r} from the decoder, which "
            f"{type(model).__name__} does not give: use model=vae, or another loss"
        )


def _check_names(model: Factorization, where: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in model.factors:
            raise UserError(
                f"{where}{name}: {type(model).__name__} has no such factor; it has "
                f"{', '.join(model.factors)}"
            )


def hold_frozen(model: Factorization) -> None:
    """Hold the factors that ``model.frozen`` names.

    Raises
    ------
    UserError
        For a name that is no factor's.
    """
    _check_names(model, "model.frozen: ", model.frozen)
    for name in model.frozen:
        model.factors[name].freeze()


def _asks_loss(model: Factorization, batch: Batch) -> bool:
    """Whether the objective comes from ``loss=``, or the model has a likelihood of its own."""
    if not any(model.overrides(name) for name in ("terms", "row_terms", "row_misfit")):
        return True
    asked: list[object] = []
    few = batch
    if model.rows_independent:
        few = batch.by_row(lambda tensor: dense(take_rows(tensor, slice(0, 2))))
    handles = [
        part.register_forward_pre_hook(lambda *call: asked.append(call))
        for part in model.loss.modules()
    ]
    try:
        model.terms(few)
    finally:
        for handle in handles:
            handle.remove()
    return bool(asked)


def check_sign(model: Factorization, x: Tensor, where: str = "X") -> None:
    """As `check_negative`, of values."""
    values = x.values() if x.is_sparse_csr else x
    if values.numel() and float(values.min()) < 0:
        check_negative(model, int((values < 0).sum()), where)


def takes_any_sign(model: Factorization) -> bool:
    """Whether the parts of the model can explain negative values; the loss has its own say."""
    return model.signed or all(f.constraint.bounds == ANY for f in model.own_factors().values())


def check_negative(model: Factorization, negative: int, where: str = "X") -> None:
    """Refuse data with so many negative values, if the model cannot have any.

    Raises
    ------
    UserError
    """
    if negative and not takes_any_sign(model):
        raise UserError(
            f"{where} has {negative} negative values and {type(model).__name__} needs X >= 0: "
            "shift or clip the data, or use constraint=free loss=frobenius, or model=convex_nmf, "
            "which allow any sign"
        )
