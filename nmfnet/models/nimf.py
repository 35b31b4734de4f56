"""Quality of service from neighbours: matrix factorisation in which users lend each other their codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, final

import numpy as np
import torch

from nmfnet.core.constraints import Free
from nmfnet.core.model import Factorization, Parts
from nmfnet.core.objective import row_losses
from nmfnet.kernels.sparse import with_values
from nmfnet.models._listed import (
    check_squares,
    listed,
    ridge_codes,
    shrunk_means,
    some_of_each,
)
from nmfnet.settings.ranges import Count, NotNegative, Range
from nmfnet.types import Batch, Float, Tensor

SIZE = 0.1
"""Deviation of the factors at the start."""

RIDGE = 5.0
"""Of the biases of the services."""

COMMON = 2
"""Features that two rows must share to be similar."""


@final
class NIMF(Factorization):
    r"""X ~ mu + c + (alpha P + (1 - alpha) S P) Q, with S the weights of the nearest users.

    ======  ===========================================  ==============  ========================
    symbol  meaning                                      code            shape
    ======  ===========================================  ==============  ========================
    X       measured quality of service, any sign        ``batch.x``     n_samples, n_features
    S       correlations with the nearest users, sum 1   ``near``        n_samples, neighbours
    P       what each user adds                          ``P``           n_samples, n_components
    Q       what each service is                         ``Q``           n_components, n_features
    mu, c   mean, and bias of each service, held         ``level``       1, n_features
    ======  ===========================================  ==============  ========================

    The code of a user is ``alpha p_u + (1 - alpha) Σ_k s_uk p_k``: his own part and that of the users
    whose measurements of the same services, less mu + c, correlate best with his (Pearson, from two
    services on, only those > 0; weights sum to 1). A user without such neighbours has the code p_u. The
    objective is ``½ Σ w (x - x̂)² + ½ l2 (|P|² + |Q|²)`` over the listed entries. With ``alpha=1`` it is a
    plain factorisation. Response times are skewed: give their logarithms.

    A new row has no neighbours, and the code of its own ridge regression on Q.

    Parameters
    ----------
    n_components : int, >= 1
    alpha : float in (0, 1]
        Share of the user's own part.
    neighbours : int, >= 1
        Most neighbours of a user.
    l2 : float, >= 0

    Source: Zheng, Ma, Lyu & King 2013, "Collaborative web service QoS prediction via neighborhood
    integrated matrix factorization", eqs. (2), (5) and (8).

    Differs from the source: the mean and biases of the services are taken off first, also before rows are
    compared, since all users agree on which services are slow.
    """

    inductive = False
    rows_independent = False
    shardable = False
    code = "real"
    multilinear = False  # type: ignore[assignment]

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 10,
        alpha: Annotated[float, Range(above=0, most=1)] = 0.4,
        neighbours: Count = 10,
        l2: NotNegative = 1.0,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        check_squares(parts)
        self.alpha, self.neighbours, self.l2 = alpha, neighbours, l2
        self.P = self.factor("P", "sample", "component", constraint=Free())
        self.Q = self.factor("Q", "component", "feature", constraint=Free())
        self.level = self.factor("level", "one", "feature", constraint=Free())
        self.level.freeze()
        most = min(neighbours, parts.sizes.n_samples)
        size = (self.n_restarts, parts.sizes.n_samples, most)
        self.register_buffer("who", torch.zeros(size, dtype=torch.long))
        self.register_buffer("near", torch.zeros(size))
        self.who: Tensor
        self.near: Tensor

    # ------------------------------------------------------------------ the model
    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        P, near = self.P(), self.near.to(self.precision)
        who = self.who.reshape(-1, *near.shape[-2:])[0]  # the same for every restart
        lent = (near[..., None] * P[..., who, :]).sum(-2)
        alone = near.sum(-1, keepdim=True) == 0
        return torch.where(alone, P, self.alpha * P + (1 - self.alpha) * lent)[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.Q() + self.level()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.Q()

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        data = row_losses(self, batch, self.encode(batch))
        squares = (self.P().square().sum((-2, -1)) + self.Q().square().sum((-2, -1)))[..., None]
        return {
            "data": data,
            "l2": 0.5 * self.l2 / self.sizes.n_samples * squares.expand(data.shape),
        }

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """Ridge regression of what the level leaves on Q: rows without neighbours."""
        weight = torch.ones_like(batch.x) if batch.mask is None else batch.mask
        level = self.level().reshape(-1, batch.x.shape[1])[0]
        return ridge_codes(batch.x - level, weight, self.Q(), self.l2)

    # ------------------------------------------------------------------ how it is fitted
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """The level, the neighbours, and small normal numbers."""
        x, weight = listed(batch)
        mean = (weight.values() * x.values()).sum() / weight.values().sum()
        left, columns = x.values() - mean, x.col_indices().long()
        c = shrunk_means(left, weight.values(), columns, x.shape[1], RIDGE)
        self.level.assign_((mean + c)[None])
        near, who = nearest(
            with_values(x, left - c[columns]).to_dense(), weight.to_dense() > 0, self.who.shape[-1]
        )
        self.who.copy_(who.expand(self.who.shape))
        self.near.copy_(near.expand(self.near.shape))
        for factor in (self.P, self.Q):
            factor.assign_(SIZE * self.normal(factor))

    def remarks(self, batch: Batch) -> Iterator[str]:
        alone = int((self.near[0].sum(-1) == 0).sum())
        if alone:
            yield f"{alone} of {self.sizes.n_samples} rows have no neighbours and stand alone."

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Half of the logarithms of response times, of users in three places."""
        place = np.repeat(rng.normal(size=(3, 2)), 10, axis=0) + 0.2 * rng.normal(size=(30, 2))
        X = place @ rng.normal(size=(2, 12)) + rng.normal(size=12)
        mask = some_of_each(rng, 0.6, *X.shape)
        return {"X": X, "mask": mask}


def nearest(
    left: Float[Tensor, "n f"], seen: Tensor, most: int
) -> tuple[Float[Tensor, "n m"], Tensor]:
    """Weights and row numbers of the most similar rows; weights of a row sum to 1, or are all 0.

    Similar = a Pearson correlation > 0 over the features that both have, of which there are at least
    two; the means are those of all entries of a row.
    """
    seen = seen.double()
    left = left.double() * seen
    left = (left - left.sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp_min(1)) * seen
    square = left.square()
    size = ((square @ seen.mT) * (seen @ square.mT)).sqrt()
    alike = torch.where(size > 0, left @ left.mT / size.clamp_min(1e-300), 0)
    alike = torch.where(seen @ seen.mT >= COMMON, alike, 0).fill_diagonal_(0).clamp_min(0)
    near, who = alike.topk(most, -1)
    total = near.sum(-1, keepdim=True)
    return torch.where(total > 0, near / total.clamp_min(1e-300), 0), who
