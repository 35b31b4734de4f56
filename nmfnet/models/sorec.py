"""Social recommendation: ratings, and whom users trust, from one table of users."""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np
import torch

from nmfnet.core.constraints import Free
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.rows import dense
from nmfnet.models._listed import some_of_each
from nmfnet.settings.ranges import NotNegative
from nmfnet.types import Batch, Float, Output, Tensor

VIEW = "trust"
"""The view that says who trusts whom."""

SIZE = 0.1
"""Deviation of the factors at the start."""


@final
class SoRec(Factorization):
    r"""X ~ low + (high - low) σ(U V) and C* ~ σ(U Z): ratings and trust share the users' factors.

    ======  =========================================  ======================  ========================
    symbol  meaning                                    code                    shape
    ======  =========================================  ======================  ========================
    X       ratings                                    ``batch.x``             n_samples, n_features
    C       > 0 where a user trusts another            the view ``trust``      n_samples, n_trusted
    C*      C times sqrt(d⁻_k / (d⁺_i + d⁻_k))         ``trust_of``            n_samples, n_trusted
    U       what each user likes                       ``U``                   n_samples, n_components
    V       what each item is                          ``V``                   n_components, n_features
    Z       what it takes to be trusted                ``Z``                   n_components, n_trusted
    low     smallest training rating                   ``low``                 1, 1
    span    the largest minus the smallest, held       ``span``                1, 1
    ======  =========================================  ======================  ========================

    With y the ratings from 0 to 1, ``y = (x - low) / span``, the objective is ``½ Σ w (y - σ(u v))²``
    over the listed ratings, plus ``½ trust Σ (c* - σ(u z))²`` over the listed links, plus ``½ l2 (|U|² +
    |V|² + |Z|²)``. d⁺_i is whom i trusts and d⁻_k how many trust k. Zeros of the view, and entries that
    are missing in it, are no links and say nothing. A new user has a code by his ratings, his links, or
    both.

    ``trust/rmse`` in the metrics is the error of σ(U Z) on the training links.

    Parameters
    ----------
    n_components : int, >= 1
    trust : float, >= 0
        Weight of the links; 0 = ratings alone.
    l2 : float, >= 0

    Source: Ma, Yang, Lyu & King 2008, "SoRec: social recommendation using probabilistic matrix
    factorization", eqs. (9) and (10).
    """

    inductive = False
    signed = True
    code = "real"
    linear = False
    has_components = False
    multilinear = False  # type: ignore[assignment]

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 10,
        trust: NotNegative = 10.0,
        l2: NotNegative = 0.1,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.weight, self.l2 = trust, l2
        if f"view {VIEW}" not in parts.axes:
            raise UserError(
                "model=sorec needs a view called trust, a table of who trusts whom: data=views with "
                "data.views.trust.path=FILE, or in Python nmfnet.fit(X, views={'trust': C})"
            )
        self.U = self.factor("U", "sample", "component", constraint=Free())
        self.V = self.factor("V", "component", "feature", constraint=Free())
        self.Z = self.factor("Z", "component", f"view {VIEW}", constraint=Free())
        self.low = self.factor("low", "one", "one", constraint=Free())
        self.span = self.factor("span", "one", "one", constraint=Free())
        self.trusted_by = self.factor("trusted_by", "one", f"view {VIEW}", constraint=Free())
        for held in (self.low, self.span, self.trusted_by):
            held.freeze()

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.U()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return self.low() + self.span() * torch.sigmoid(W @ self.V())

    def outputs(self, code: Float[Tensor, "*r n k"], batch: Batch) -> dict[str, Output]:
        return {"x": Output(self.decode(code)), VIEW: Output(torch.sigmoid(code @ self.Z()))}

    def trust_of(self, batch: Batch) -> tuple[Float[Tensor, "*r n t"], Float[Tensor, "n t"]]:
        """C* of rows, and 1 where there is a link; none for rows of which no links are known."""
        if VIEW not in batch.views:
            none = self.Z()[..., :1, :] * 0
            return none, none.reshape(-1, none.shape[-1])[:1].expand(batch.x.shape[0], -1)
        view = batch.views[VIEW]
        seen = dense(view.x) if view.mask is None else dense(view.x) * (dense(view.mask) > 0)
        links = (seen > 0).to(self.precision)
        degree = links.sum(-1, keepdim=True) + self.trusted_by()
        return seen * (self.trusted_by() / degree.clamp_min(1)).sqrt(), links

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        code = self.encode(batch)
        y = (batch.x - self.low()) / self.span()
        wrong = (y - torch.sigmoid(code @ self.V())).square()
        data = (wrong if batch.mask is None else wrong * batch.mask).sum(-1)
        wanted, links = self.trust_of(batch)
        trust = (links * (wanted - torch.sigmoid(code @ self.Z())).square()).sum(-1)
        shared = self.V().square().sum((-2, -1)) + self.Z().square().sum((-2, -1))
        pull = code.square().sum(-1) + (shared / self.sizes.n_samples)[..., None]
        return {"data": 0.5 * data, "trust": 0.5 * self.weight * trust, "l2": 0.5 * self.l2 * pull}

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Small normal numbers, the range of the ratings, and how many trust each user."""
        x = batch.x if batch.mask is None else batch.x[batch.mask > 0]
        low, high = float(x.min()), float(x.max())
        if low == high:
            raise UserError(f"model=sorec maps ratings to 0..1, and all of them are {low:g}")
        view = dense(batch.views[VIEW].x)
        if bool((view < 0).any()):
            raise UserError(
                "the view trust has negative entries: a link is > 0, and 0 says nothing"
            )
        for factor in (self.U, self.V, self.Z):
            factor.assign_(SIZE * self.normal(factor))
        self.low.assign_(torch.tensor([[low]], dtype=torch.float64))
        self.span.assign_(torch.tensor([[high - low]], dtype=torch.float64))
        self.trusted_by.assign_((view > 0).sum(0, keepdim=True))

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        if VIEW not in batch.views:
            return {}
        wanted, links = self.trust_of(batch)
        wrong = links * (wanted - torch.sigmoid(code @ self.Z())).square()
        prefix = "" if part == "train" else "test/"
        return {f"{prefix}trust/rmse": float((wrong.sum() / links.sum().clamp_min(1)).sqrt())}

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Users in two groups, who rate as their group does and trust within it."""
        U = np.repeat([[1.0, -1.0], [-1.0, 1.0]], 15, axis=0) + rng.normal(size=(30, 2)) * 0.3
        X = 1 + 4 / (1 + np.exp(-U @ rng.normal(size=(2, 12))))
        mask = some_of_each(rng, 0.5, *X.shape)
        trust = (rng.random((30, 30)) < np.where(U @ U.T > 0, 0.3, 0.02)).astype(float)
        return {"X": X, "mask": mask, "views": {VIEW: trust}}
