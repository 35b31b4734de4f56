"""Matrix factorisation with a network in place of the dot product: NNMF and NeuMF."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, final

import numpy as np
import torch
from torch.nn import functional as F

from nmfnet.core.constraints import Free
from nmfnet.core.inference import fold_in
from nmfnet.core.model import Factorization, Parts
from nmfnet.core.objective import row_losses
from nmfnet.errors import UserError
from nmfnet.kernels.rows import spans
from nmfnet.kernels.sparse import row_numbers
from nmfnet.models._dot_product import tuned_dot_product
from nmfnet.models._listed import (
    biases_of,
    by_row,
    check_choices,
    check_squares,
    choices,
    choices_of,
    listed,
    listed_losses,
    others,
)
from nmfnet.settings.ranges import Count, NotNegative
from nmfnet.types import Batch, Float, Int, Tensor

SIZE = 0.1
"""Deviation of the factors at the start."""

RIDGE = 5.0
"""Of the biases that it starts from."""

TOL = 1e-5
"""Of codes of new rows: the kinks of the network make steps short, and more of them find a thousandth."""


class Choices(NamedTuple):
    """Pairs of a row and a feature of which it is said whether they were chosen.

    Attributes
    ----------
    rows : Tensor of int64, shape (p,)
    columns : Tensor of int64, shape (*r, p)
    sign : Tensor, shape (p,)
        1 for what was chosen, -1 for what was not.
    kept : Tensor of bool, shape (*r, p)
        Whether the pair counts.
    """

    rows: Int[Tensor, " p"]
    columns: Int[Tensor, "*r p"]
    sign: Float[Tensor, " p"]
    kept: Tensor


@final
class NeuralMF(Factorization):
    r"""X ~ mu + b + c + f([p_u, q_v, p_u ∘ q_v]) (+ s_u · t_v), with a network f of every pair.

    ======  ==============================================  ============  ========================
    symbol  meaning                                         code          shape
    ======  ==============================================  ============  ========================
    X       ratings, or what was chosen                     ``batch.x``   n_samples, n_features
    mu      mean of the listed entries, held                ``mu``        1, 1
    b       bias of each sample (user)                      ``b``         n_samples, 1
    c       bias of each feature (item)                     ``c``         1, n_features
    P       what the network reads of a sample              ``P``         n_samples, n_components
    Q       what the network reads of a feature             ``Q``         n_components, n_features
    S, T    factors of the dot product (``dot: true``)      ``S``, ``T``  as P and Q
    f       relu layers, the last one linear                ``E1``, ...   width in, width out
    ======  ==============================================  ============  ========================

    With ``target: ratings`` the objective is ``½ Σ w_uv (x_uv - x̂_uv)²`` over the listed entries. With
    ``target: choices`` x̂ is the log odds that v was chosen by u (mu is 0): ``Σ softplus(-x̂_uv)`` over
    what is listed, and ``Σ softplus(x̂_uj)`` over ``others`` features j for each of these, drawn anew in
    every iteration, those left out that u has listed. Both times ``½ l2 (|p_u|² + |q_v|² + |s_u|² +
    |t_v|²) + ½ l2_bias (b_u² + c_v²)`` is added for every listed entry, and ``½ l2_network |E|²`` once.

    **The dot product beside it.** A run also fits the same pairs by a dot product of as many components
    whose ridge is chosen on a tenth of them (``biased_mf``; of choices ``implicit_mf``), and its numbers
    stand beside those of the network, as ``dot_product``: a network that is compared with a dot product
    nobody tuned looks better than it is.

    The code of a row is (P, S, b).

    Parameters
    ----------
    n_components : int, >= 1
    hidden : sequence of int
        Widths of the hidden layers; [] = a linear function of what is read, so also of p_u ∘ q_v.
    dot : bool
        Whether a dot product with tables of its own is added to the network.
    target : {"ratings", "choices"}
    others : int, >= 1
        Of choices: features that were not chosen, for each that was.
    l2 : float, >= 0
        Of the factors, for every listed entry.
    l2_bias : float, >= 0
        Of the biases, likewise.
    l2_network : float, >= 0
        Of the layers.

    Source: Dziugaite & Roy 2015, "Neural network matrix factorization" (``nnmf``); He et al. 2017,
    "Neural collaborative filtering", eqs. (7) and (12) (``neumf``).

    Differs from the source: biases of users and items stand outside the network in both. Dziugaite & Roy
    give the product tables of its own and move network and factors in turn; He et al. leave p ∘ q out of
    the network's input, and weigh the terms of s ∘ t, which T has here.
    """

    inductive = False
    sparse = True
    code = "real"
    linear = False
    has_components = False
    multilinear = False  # type: ignore[assignment]

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 10,
        hidden: Sequence[int] = (32,),
        dot: bool = False,
        target: Literal["ratings", "choices"] = "ratings",
        others: Count = 4,
        l2: NotNegative = 0.15,
        l2_bias: NotNegative = 0.05,
        l2_network: NotNegative = 1.0,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        if target == "ratings":
            check_squares(parts, "model.target=ratings")
        if bad := [width for width in hidden if width < 1]:
            raise UserError(f"model.hidden has a width of {bad[0]}: every width must be >= 1")
        if target == "ratings":
            self.unused("model.target=ratings", "others")
        self.choices, self.n_others, self.parts = target == "choices", others, parts
        self.estimates_x = not self.choices
        self.l2, self.l2_bias, self.l2_network = l2, l2_bias, l2_network
        widths = ["pair", *(f"hidden {i}" for i in range(1, len(hidden) + 1)), "one"]
        self.axes |= dict(zip(widths, (3 * n_components, *hidden), strict=False))
        free = Free()
        self.P = self.factor("P", "sample", "component", constraint=free)
        self.Q = self.factor("Q", "component", "feature", constraint=free)
        if dot:
            self.S = self.factor("S", "sample", "component", constraint=free)
            self.T = self.factor("T", "component", "feature", constraint=free)
        self.b = self.factor("b", "sample", "one", constraint=free)
        self.c = self.factor("c", "one", "feature", constraint=free)
        self.mu = self.factor("mu", "one", "one", constraint=free)
        self.mu.freeze()
        self.depth = len(widths) - 1
        for i, (a, z) in enumerate(pairwise(widths), start=1):
            setattr(self, f"E{i}", self.factor(f"E{i}", a, z, constraint=free))
            if i < self.depth:
                setattr(self, f"E{i}_bias", self.factor(f"E{i}_bias", "one", z, constraint=free))
        self.dot = dot
        self.held: dict[tuple[int, ...], Choices] | None = None

    # ------------------------------------------------------------------ the model
    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        tables = [self.P(), self.S(), self.b()] if self.dot else [self.P(), self.b()]
        return torch.cat(tables, -1)[..., batch.index, :]

    def columns(self) -> Float[Tensor, "*r f k"]:
        """Q, T and c as a row for every feature."""
        tables = [self.Q(), self.T(), self.c()] if self.dot else [self.Q(), self.c()]
        return torch.cat(tables, -2).mT

    def scorer(
        self, user: Float[Tensor, "*r e k"], item: Float[Tensor, "*r e k"]
    ) -> Float[Tensor, "*r e"]:
        """X_hat of pairs of codes of a row and of a feature."""
        k = self.n_components
        p, q = user[..., :k], item[..., :k]
        h = torch.cat([p, q, p * q], -1)
        for i in range(1, self.depth + 1):
            h = h @ self.factors[f"E{i}"]()
            if i < self.depth:
                h = torch.relu(h + self.factors[f"E{i}_bias"]())
        said = h[..., 0] + user[..., -1] + item[..., -1] + self.mu()[..., 0]
        return said + (user[..., k:-1] * item[..., k:-1]).sum(-1) if self.dot else said

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        items, found = self.columns(), []
        f, width = items.shape[-2:]
        for rows in spans(W.shape[-2], f * 3 * width * W.shape[:-2].numel()):
            some = W[..., rows, :]
            m = some.shape[-2]
            user = some.repeat_interleave(f, -2)
            item = items.repeat(*[1] * (items.ndim - 2), m, 1)
            said = self.scorer(user, item)
            found.append(said.reshape(*said.shape[:-1], m, f))
        return torch.cat(found, -2)

    def decode_at(self, code: Float[Tensor, "*r n k"], batch: Batch) -> Float[Tensor, "*r e"]:
        return self.scorer(
            code[..., row_numbers(batch.x), :], self.columns()[..., batch.x.col_indices(), :]
        )

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        code, items = self.encode(batch), self.columns()
        if self.choices:
            x = choices_of(self, batch)
            weight, data = torch.ones_like(x.values()), self._choice_losses(x, code, items)
        else:
            x, listed_weight = listed(batch)
            weight, data = listed_weight.values(), row_losses(self, batch, code)
        ridge = torch.full_like(items[..., :1, :], self.l2)
        ridge[..., -1] = self.l2_bias
        of_row, of_column = ((ridge * t.square()).sum(-1) for t in (code, items))
        pull = weight * (of_row[..., row_numbers(x)] + of_column[..., x.col_indices()])
        layers = [self.factors[f"E{i}"]().square().sum((-2, -1)) for i in range(1, self.depth + 1)]
        share = self.l2_network / self.sizes.n_samples * torch.stack(layers).sum(0)
        return {"data": data, "l2": 0.5 * (by_row(x, pull) + share[..., None])}

    def sparse_losses(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        return listed_losses(self, batch, code)

    def _choice_losses(self, x: Tensor, code: Tensor, items: Tensor) -> Float[Tensor, "*r n"]:
        rows, columns, sign, kept = self._choices(x)
        at = columns.unsqueeze(-1).expand(*columns.shape, items.shape[-1])
        said = self.scorer(code[..., rows, :], items.gather(-2, at))
        cost = kept * F.softplus(-sign * said)
        return by_row(x, cost.unflatten(-1, (-1, x.values().numel())).sum(-2))

    def _choices(self, x: Tensor) -> Choices:
        """What is listed, and ``others`` features for each; those of ``infer`` are drawn once."""
        restarts = tuple(self.streams.flatten().tolist())
        if self.held is not None and restarts in self.held:
            return self.held[restarts]
        listed = x.col_indices().long()
        drawn = [others(self, x, draw) for draw in range(self.n_others)]
        mine = listed.expand(drawn[0][0].shape)
        found = Choices(
            row_numbers(x).repeat(1 + self.n_others),
            torch.cat([mine, *(at for at, _ in drawn)], -1),
            torch.ones_like(x.values()).repeat(1 + self.n_others),
            torch.cat([torch.ones_like(drawn[0][1]), *(kept for _, kept in drawn)], -1),
        )
        found.sign[listed.numel() :] = -1
        if self.held is not None:
            self.held[restarts] = found
        return found

    # ------------------------------------------------------------------ how it is fitted
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Biases at their optimum, small normal factors, and Glorot's layers; then the dot product."""
        if self.choices:
            check_choices(self, batch)
        x, weight = (choices_of(self, batch), None) if self.choices else listed(batch)
        for name, factor in self.own_factors().items():
            size = SIZE if "component" in factor.axes else (2 / sum(factor.raw.shape[1:])) ** 0.5
            if name == "b" or factor.axes[0] == "one":  # biases
                size = 0.0
            factor.assign_(size * self.normal(factor))
        if weight is not None:
            mean, b, c = biases_of(x, weight, RIDGE)
            self.mu.assign_(mean.reshape(1, 1))
            self.b.assign_(b[:, None])
            self.c.assign_(c[None])
        pairs = batch._replace(x=x, mask=weight)
        plain = tuned_dot_product(self.parts, pairs, self.n_components, self.choices)
        self.beside = {"dot_product": plain}

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """The codes that lower the objective most, all else held."""
        if self.choices:
            check_choices(self, batch)
            self.held = {}
        try:
            return fold_in(self, batch, tol=TOL)
        finally:
            self.held = None

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        return choices(rng)
