"""Tri-factorisation: samples and features are grouped at once, with a table of how groups go together."""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np
import torch
from torch.nn.functional import one_hot

from nmfnet.core.constraints import Orthogonal
from nmfnet.core.model import Factorization, Parts
from nmfnet.core.scaling import best_scale
from nmfnet.errors import UserError
from nmfnet.kernels.csr import to_scipy
from nmfnet.kernels.multiplicative import Sums, nmf_sums_H, nmf_sums_W
from nmfnet.kernels.sparse import sparse_sums
from nmfnet.models._graphs import largest, seeds
from nmfnet.types import Batch, Float, Int, Tensor

SOFT = 0.2
"""What is added to the 0 and 1 of a start, so that multiplicative updates can move all entries."""


@final
class TriFactor(Factorization):
    r"""X ~ F S G, all >= 0: groups of samples, groups of features, and how strongly they go together.

    ======  ==========================================  ===========  ==================================
    symbol  meaning                                     code         shape
    ======  ==========================================  ===========  ==================================
    X       data, >= 0                                  ``batch.x``  n_samples, n_features
    F       membership of the samples in their groups   ``F``        n_samples, n_components
    S       how groups go together                      ``S``        n_components, n_feature_components
    G       membership of the features in their groups  ``G``        n_feature_components, n_features
    S G     components                                  components   n_components, n_features
    ======  ==========================================  ===========  ==================================

    Orthogonal columns >= 0 do not overlap: with ``orthogonal: F`` every sample is in one group, with a
    weight, with ``G`` every feature. Then S carries what the groups share, and the two sides may have
    different numbers of groups, which is all that the third factor is needed for: without
    orthogonality it is absorbed by F or by G. The scale of F and G is that of S, and free. Restarts
    begin at two k-means, of the rows and of the columns of X, plus 0.2.

    A new sample gets the F that minimises the loss for the S G found; with orthogonal F one entry of
    it. The run folder has ``clusters.csv`` and ``feature_clusters.csv``.

    Parameters
    ----------
    n_components : int, >= 1
        Groups of samples.
    n_feature_components : int, >= 1, optional
        Groups of features; as many when None.
    orthogonal : {"none", "F", "G", "both"}
        Which factors are; ``constraint.F=orthogonal`` is the same.

    Source: Ding, Li, Peng & Park 2006, "Orthogonal nonnegative matrix tri-factorizations for clustering".

    Differs from the source: columns are orthogonal, of any length, and exactly so; see ``solver=ding``.
    """

    inductive = False
    sparse = True
    shardable = False

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 5,
        n_feature_components: int | None = None,
        orthogonal: Literal["none", "F", "G", "both"] = "none",
    ) -> None:
        super().__init__(parts, n_components=n_components)
        groups = n_components if n_feature_components is None else n_feature_components
        if groups < 1:
            raise UserError(f"model.n_feature_components={groups}: it must be at least 1")
        sides = (
            ("n_components", n_components, "samples"),
            ("n_feature_components", groups, "features"),
        )
        for (name, count, what), most in zip(sides, parts.sizes, strict=True):
            if count > most:
                raise UserError(
                    f"model.{name}={count}: a start sorts the {most} {what} into so many groups, so take "
                    "no more"
                )
        self.axes |= {"group": groups}
        of_F, of_G = (Orthogonal() if orthogonal in (name, "both") else None for name in ("F", "G"))
        self.F = self.factor("F", "sample", "component", constraint=of_F)
        self.S = self.factor("S", "component", "group", of_x=1)
        self.G = self.factor("G", "group", "feature", constraint=of_G, of_x=0)

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.F()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.components()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.S() @ self.G()

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        x = to_scipy(batch.x) if batch.x.is_sparse_csr else batch.x.cpu().numpy()
        drawn = [seeds(self.generators), seeds(self.generators)]
        for factor, table, own in ((self.F, x, drawn[0]), (self.G, x.T, drawn[1])):
            count = min(factor.raw.shape[1:])
            groups = torch.stack([_groups(table, count, seed) for seed in own]).to(batch.x)
            soft = groups if factor.constraint.one_in else groups + SOFT
            factor.assign_(soft if factor is self.F else soft.mT)
        self.S.assign_(torch.eye(*self.S.raw.shape[1:]) + SOFT * self.uniform(self.S).cpu())
        self.S.assign_(self.S() * best_scale(self, batch))

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        """Those of X ~ F (S G) and X ~ (F S) G; of S those of S G, times Gᵀ."""
        F_, S, G = self.F.raw, self.S.raw, self.G.raw
        if name == "F":
            return self._sums("W", batch, F_, S @ G, beta)
        if name == "G":
            return self._sums("H", batch, F_ @ S, G, beta)
        neg, pos = self._sums("H", batch, F_, S @ G, beta)
        return neg @ G.mT, pos.expand_as(neg) @ G.mT

    def _sums(self, name: str, batch: Batch, W: Tensor, H: Tensor, beta: float) -> Sums:
        x, mask = batch.x, batch.mask
        if x.is_sparse_csr:
            return sparse_sums(name, x, self.transpose, W, H, beta, mask is not None)
        return (nmf_sums_W if name == "W" else nmf_sums_H)(x, W, H, beta, mask)

    def clusters(self, code: Float[Tensor, "*r n k"]) -> Int[Tensor, "*r n"] | None:
        return largest(code * self.components().sum(-1).unsqueeze(-2))

    def feature_clusters(self) -> Int[Tensor, "*r f"] | None:
        sizes = (self.F() @ self.S()).sum(-2).unsqueeze(-1)
        return largest((sizes * self.G()).mT)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        same = np.arange(30)[:, None] % 3 == np.arange(12) % 3
        return {"X": rng.exponential(np.where(same, 3.0, 0.3)) + 0.01}


def _groups(table: Any, count: int, seed: int) -> Tensor:
    """Membership of the rows of a table in groups by one run of k-means, 0 or 1."""
    from sklearn.cluster import KMeans

    found = KMeans(count, n_init=1, random_state=seed).fit(table)
    return one_hot(torch.from_numpy(found.labels_).long(), count)
