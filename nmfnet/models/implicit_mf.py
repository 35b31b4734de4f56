"""Matrix factorisation of choices: what is not listed was not chosen, which says a little."""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np
import torch

from nmfnet.core.constraints import Free
from nmfnet.core.model import Factorization, Parts
from nmfnet.kernels.sparse import entries_of, transpose_of, transposed, with_values
from nmfnet.kernels.weighted import Ridge
from nmfnet.models._listed import (
    by_ridge,
    by_row,
    check_choices,
    check_squares,
    choices,
    choices_of,
    counts_of,
)
from nmfnet.settings.ranges import NotNegative, Positive
from nmfnet.types import Batch, Float, Tensor, Terms


@final
class ImplicitMF(Factorization):
    r"""X ~ P Q, as 1 where an entry is listed and 0 everywhere else, listed entries weighing more.

    ======  ===========================================  ==========  ========================
    symbol  meaning                                      code        shape
    ======  ===========================================  ==========  ========================
    X       how often, or how strongly, > 0              ``batch.x`` n_samples, n_features
    P       what each sample (user) likes                ``P``       n_samples, n_components
    Q       what each feature (item) is                  ``Q``       n_components, n_features
    ======  ===========================================  ==========  ========================

    What is minimised is ``½ Σ c_uv (p_uv - p_u q_v)² + ½ l2 (|P|² + |Q|²)`` over **all** pairs:
    p = 1, c = 1 + alpha x_uv where an entry is listed, and p = 0, c = 1 elsewhere. All pairs together
    cost no more than the listed ones, as the Gram matrix of Q serves every row. X_hat orders the
    features of a row; it is no estimate of X. Held-out entries of a list
    were not chosen, as far as the training knows.
    A row without listed entries has the code 0, and so no order.

    Parameters
    ----------
    n_components : int, >= 1
    alpha : float, > 0
        Weight of a listed entry of 1 beside an absent one.
    l2 : float, >= 0
        Of P and Q, the same for every row.

    Source: Hu, Koren & Volinsky 2008, "Collaborative filtering for implicit feedback datasets",
    eqs. (3) and (4).
    """

    inductive = False
    sparse = True
    code = "real"
    estimates_x = False
    multilinear = False  # type: ignore[assignment]

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 32,
        alpha: Positive = 1.0,
        l2: NotNegative = 1.0,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        check_squares(parts)
        self.alpha, self.l2 = alpha, l2
        self.P = self.factor("P", "sample", "component", constraint=Free())
        self.Q = self.factor("Q", "component", "feature", constraint=Free())

    # ------------------------------------------------------------------ the model
    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.P()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.Q()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.Q()

    def decode_at(self, code: Float[Tensor, "*r n k"], batch: Batch) -> Float[Tensor, "*r e"]:
        return entries_of(batch.x, code, self.Q())

    def terms(self, batch: Batch) -> Terms:
        data = self.sparse_losses(batch, self.encode(batch)).sum(-1)
        own, shared = (t.double().square().sum((-2, -1)) for t in (self.encode(batch), self.Q()))
        share = batch.x.shape[0] / self.sizes.n_samples
        return {"data": data, "l2": 0.5 * self.l2 * (own + share * shared)}

    def sparse_losses(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        """Of all pairs: as if none were listed, then what the listed ones change."""
        x = choices_of(self, batch)
        said = entries_of(x, code, self.Q()).double()
        strength = 1 + self.alpha * x.values().double()
        Q, W = self.Q().double(), code.double()
        nothing = ((W @ (Q @ Q.mT)) * W).sum(-1)
        return 0.5 * (nothing + by_row(x, strength * (1 - said).square() - said.square()))

    # ------------------------------------------------------------------ how it is fitted
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Small normal numbers; 0 where nothing is listed."""
        check_choices(self, batch)
        rows, columns = counts_of(batch._replace(mask=choices_of(self, batch)))
        for factor, counts in ((self.P, rows[:, None]), (self.Q, columns)):
            factor.assign_(0.1 / self.n_components**0.5 * self.normal(factor) * (counts > 0))

    def ridge(self, axis: Literal["sample", "feature"], batch: Batch) -> Ridge:
        x, held = choices_of(self, batch), self.Q()
        if axis == "feature":
            pattern = self.transpose if batch.x.is_sparse_csr else None
            x, held = transposed(x, pattern or transpose_of(x)), self.encode(batch).mT
        held = held.double()
        strength = self.alpha * x.values().double()
        base = held @ held.mT + self.l2 * torch.eye(self.n_components).to(held)
        target = with_values(x, (1 + strength) / strength)
        return Ridge(target, with_values(x, strength), held, torch.zeros_like(held[:, 0]), base)

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """The ridge regression of every row on Q."""
        check_choices(self, batch)
        return by_ridge(self, batch)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        return choices(rng)
