"""What every model is made of, told by the models themselves: the leaves of one equation.

X ~ D(z) with z ~ q(z | E(X)): an encoder E, the law of the code z, a decoder D, a likelihood, what is
added to it, and a solver. Each model is put together on its own example and asked, or tried: whether a
map is linear is seen from three points, what it reads from its gradient. Nothing goes by names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nmfnet.config import Config, options, read_choice
from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.core.factor import Factor
from nmfnet.core.model import Factorization
from nmfnet.run.check import Case
from nmfnet.settings.objects import build
from nmfnet.settings.words import configuration
from nmfnet.types import Batch

__all__ = ["Anatomy", "anatomies", "anatomy"]

STRAIGHT = 1e-6
"""By how much, of its size, a linear map may miss the middle of two points."""

SETS = {"nonnegative": ">= 0", "simplex": "sum 1", "real": "any sign"}


class Anatomy(NamedTuple):
    """The leaves of a model with its default options, a word or two each.

    Attributes
    ----------
    encoder : str
        Where the code of a training row comes from: a table, a map of X, or the best for the decoder.
    code : str
        Its law and the set it is in.
    decoder, factors : str
        What X_hat is made of, and the sets that the factors are in (choices of ``constraint``).
    likelihood : str
        The loss; ``own`` where the model brings it, with the loss that says the same.
    terms : str
        What is added to it in the objective.
    solver : str
        The choice, or what ``auto`` chooses.
    """

    model: str
    encoder: str
    code: str
    decoder: str
    factors: str
    likelihood: str
    terms: str
    solver: str


def anatomies(names: Sequence[str] | None = None) -> Iterator[Anatomy]:
    """Those of some models, by default of every choice of ``model=``."""
    for name in options("model") if names is None else names:
        yield anatomy(name)


def anatomy(name: str) -> Anatomy:
    """What a choice of ``model=`` is made of."""
    cfg = configuration({"model": name, "dtype": "float64", "threads": 1})
    if isinstance(cfg.model.get("n_components"), int):
        cfg = cfg.but(model={**cfg.model, "n_components": 3})  # which any example has room for
    model, batch = Case(cfg, Path()).beginning
    model.solver.step(model, batch, 1, model.live)  # closed forms, and networks that start at 0
    model.eval()
    terms = [term for term in model.objective(batch) if term != "data"]
    sets = dict.fromkeys(_names("constraint")[type(f.constraint)] for f in _own(model))
    return Anatomy(
        name,
        encoder_of(model, batch),
        code_of(model, batch),
        decoder_of(model, batch),
        ", ".join(sorted(sets)),
        likelihood_of(model),
        ", ".join(terms),
        _solver_of(model, cfg),
    )


def encoder_of(model: Factorization, batch: Batch) -> str:
    """Where the code of a row comes from."""

    def code(x: Tensor) -> Tensor:
        return _code(model, batch._replace(x=x))

    if not model.inductive:
        return "table"
    reads, shared = read(model, lambda: code(batch.x)), _read_by_decoder(model, batch)
    if straight(code, batch.x):
        constant = torch.equal(code(batch.x), code(batch.x.flip(0)))
        return "constant" if constant else "linear map" if reads - shared else "linear, from D"
    if not reads or reads & shared:
        return "curved, from D"
    return "network" if model.rows_independent else "graph network"


def code_of(model: Factorization, batch: Batch) -> str:
    """The law of the code, and the set that it is in."""
    tables = model.code_factors().values()
    above = bool(tables) and all(f.constraint.bounds == NON_NEGATIVE for f in tables)
    kind = "nonnegative" if above and model.code == "real" else model.code
    return f"{_words(type(model.law(batch)).__name__)}, {SETS[kind]}"


def decoder_of(model: Factorization, batch: Batch) -> str:
    """What X_hat is made of."""

    def x_hat(code: Tensor) -> Tensor:
        return model.outputs(code, batch)["x"].mean

    if model.learns_graph:
        return "links of codes"
    code, reads = _code(model, batch).detach(), _read_by_decoder(model, batch)
    tables = [factor for factor in model.factors.values() if id(factor.raw) in reads]
    wide = [factor for factor in tables if "one" not in factor.axes]
    if not straight(x_hat, code):
        return "network" if len(wide) > 1 else "curve of H"
    if pair := model.convex_pair():
        return "A X" if pair[0] else "H"
    if len(wide) > 1:
        return "sum of tables" if _doubled(wide, lambda: x_hat(code)) else "product of tables"
    table = "H" if wide else "H, given or set"
    if not model.rows_independent:
        return f"{table}, rows mixed"
    return table if len(tables) == len(wide) else f"{table} and bias"


def likelihood_of(model: Factorization) -> str:
    """What is said of the misfit."""
    if model.asks_loss:
        return str(model.loss.name)
    return f"own ({model.same_losses[-1]})" if model.same_losses else "own"


# ---------------------------------------------------------------------- trying
def straight(of: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether a map takes the middle of two points, x and its rows upside down, to the middle."""
    with torch.no_grad():
        other = x.flip(-2)
        ends, middle = (of(x) + of(other)) / 2, of((x + other) / 2)
        return bool((middle - ends).abs().max() <= STRAIGHT * float(ends.abs().max()))


def _doubled(factors: Sequence[Factor], of: Callable[[], Tensor]) -> bool:
    """Whether a result doubles when all these factors do: it is a sum and no product of them."""
    with torch.no_grad():
        before = of()
        for factor in factors:
            factor.raw.mul_(2)
        after = of()
        for factor in factors:
            factor.raw.div_(2)
    return bool(torch.allclose(after, 2 * before))


def read(model: Factorization, of: Callable[[], Tensor]) -> set[int]:
    """``id`` of the parameters that a result changes with, by its gradient; none where it has none."""
    out = of()
    if not out.requires_grad:
        return set()
    known = model.trainable()
    weights = torch.linspace(0.5, 1.5, out.numel(), dtype=out.dtype).reshape(out.shape)
    found = torch.autograd.grad((out * weights).sum(), known, allow_unused=True)
    slopes = zip(known, found, strict=True)
    return {id(one) for one, slope in slopes if slope is not None and bool(slope.any())}


def _code(model: Factorization, batch: Batch) -> Tensor:
    return model.law(batch).mean


def _read_by_decoder(model: Factorization, batch: Batch) -> set[int]:
    code = _code(model, batch).detach()
    return read(model, lambda: model.outputs(code, batch)["x"].mean)


# ---------------------------------------------------------------------- words
def _own(model: Factorization) -> list[nn.Module]:
    return list(model.own_factors().values())


@cache
def _names(group: str) -> dict[type, str]:
    """Choices of a group by the class that they are of."""
    return {type(build(read_choice(group, name))): name for name in options(group)}


def _words(name: str) -> str:
    """``LogisticNormal`` as ``Logistic normal``."""
    return re.sub(r"(?<=[a-z])[A-Z]", lambda found: f" {found[0].lower()}", name)


def _solver_of(model: Factorization, cfg: Config) -> str:
    chosen = str(cfg.choices["solver"])
    return str(model.solver.name) if chosen == "auto" else chosen
