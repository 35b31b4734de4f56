"""Bayesian personalised ranking: what was chosen before what was not."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from torch.nn import functional as F

from nmfnet.core.constraints import Free
from nmfnet.core.model import Factorization, Parts
from nmfnet.kernels.sparse import entries_of, row_numbers
from nmfnet.models._listed import (
    by_row,
    check_choices,
    choices,
    choices_of,
    counts_of,
    others,
)
from nmfnet.settings.ranges import Count, NotNegative
from nmfnet.types import Batch, Float, Tensor


@final
class BPR(Factorization):
    r"""X ~ c + P Q in the order of each row: what is listed comes before what is not.

    ======  ===========================================  ==========  ========================
    symbol  meaning                                      code        shape
    ======  ===========================================  ==========  ========================
    X       stored, and > 0, where something was chosen  ``batch.x`` n_samples, n_features
    c       bias of each feature (item)                  ``c``       1, n_features
    P       what each sample (user) likes                ``P``       n_samples, n_components
    Q       what each feature is                         ``Q``       n_components, n_features
    ======  ===========================================  ==========  ========================

    The objective is the sum over the listed entries (u, v) of the mean over ``others`` features j of
    ``softplus(-(x̂_uv - x̂_uj))``, j drawn anew in every iteration and left out where u has listed it, and
    of ``½ l2 (|p_u|² + |q_v|² + |q_j|²) + ½ l2_bias (c_v² + c_j²)``. What ends a run and is reported is
    judged by the same few j every time. All listed entries count alike, whatever X says there.

    A row without listed entries has the code 0: for it the features are in the order of c.

    Parameters
    ----------
    n_components : int, >= 1
    others : int, >= 1
        Features that were not chosen, for each that was.
    l2 : float, >= 0
        Of P and Q, for every listed entry.
    l2_bias : float, >= 0
        Of c, likewise.

    Source: Rendle, Freudenthaler, Gantner & Schmidt-Thieme 2009, "BPR: Bayesian personalized ranking from
    implicit feedback", section 4.

    Differs from the source: a step is on all listed entries at once, and the other feature of an entry is
    the image of its own under a random permutation.
    """

    inductive = False
    sparse = True
    code = "real"
    estimates_x = False
    linear = False
    multilinear = False  # type: ignore[assignment]

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 32,
        others: Count = 4,
        l2: NotNegative = 0.02,
        l2_bias: NotNegative = 0.0,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.n_others, self.l2, self.l2_bias = others, l2, l2_bias
        self.P = self.factor("P", "sample", "component", constraint=Free())
        self.Q = self.factor("Q", "component", "feature", constraint=Free())
        self.c = self.factor("c", "one", "feature", constraint=Free())

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.P()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.Q() + self.c()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.Q()

    def decode_at(self, code: Float[Tensor, "*r n k"], batch: Batch) -> Float[Tensor, "*r e"]:
        code = torch.cat([code, torch.ones_like(code[..., :1])], -1)
        return entries_of(batch.x, code, torch.cat([self.Q(), self.c()], -2))

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        x = choices_of(self, batch)
        code, features = self.encode(batch), torch.cat([self.Q(), self.c()], -2).mT
        ridge = torch.full_like(features[..., :1, :], self.l2)
        ridge[..., -1] = self.l2_bias
        users, chosen = code[..., row_numbers(x), :], features[..., x.col_indices(), :]
        pull = self.l2 * users.square().sum(-1) + (ridge * chosen.square()).sum(-1)
        data = torch.zeros_like(pull)
        for draw in range(self.n_others):
            at, kept = others(self, x, draw)
            other = features.gather(-2, at.unsqueeze(-1).expand(*at.shape, features.shape[-1]))
            ahead = (users * (chosen - other)[..., :-1]).sum(-1) + (chosen - other)[..., -1]
            data = data + kept * F.softplus(-ahead) / self.n_others
            pull = pull + kept * (ridge * other.square()).sum(-1) / self.n_others
        return {"data": by_row(x, data), "l2": 0.5 * by_row(x, pull)}

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Small normal numbers; 0 where nothing is listed."""
        check_choices(self, batch)
        rows, columns = counts_of(batch._replace(mask=choices_of(self, batch)))
        self.c.assign_(torch.zeros_like(self.c.raw))
        for factor, counts in ((self.P, rows[:, None]), (self.Q, columns)):
            factor.assign_(0.1 / self.n_components**0.5 * self.normal(factor) * (counts > 0))

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """The codes that lower the objective most, all else held."""
        check_choices(self, batch)
        return super().infer(batch)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        return choices(rng)
