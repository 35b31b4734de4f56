"""Symmetric non-negative matrix factorisation."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from nmfnet.core.factor import Factor
from nmfnet.core.model import Factorization, Parts
from nmfnet.kernels.graph import at_pairs, times_links
from nmfnet.kernels.multiplicative import Sums
from nmfnet.models._graphs import check_symmetric, largest
from nmfnet.types import Batch, Float, Int, Tensor


@final
class SymNMF(Factorization):
    r"""X ~ W Wᵀ, with W >= 0: groups of the nodes of a graph.

    ======  ==================================  ==========  ======================
    symbol  meaning                             code        shape
    ======  ==================================  ==========  ======================
    X       links between nodes, symmetric      ``batch.x`` n_samples, n_samples
    W       membership of the nodes in groups   ``W``       n_samples, n_components
    ======  ==================================  ==========  ======================

    Relaxes the normalised cut and kernel k-means: with ``X = D^-1/2 A D^-1/2`` the largest entry of a
    row of W is the group of the node. A new node gets the W that best explains its links to the nodes
    of the training, ``x ~ w Wᵀ``.

    Parameters
    ----------
    n_components : int, >= 1

    Source: Ding, He & Simon 2005; Kuang, Yun & Park 2015, "SymNMF".

    Differs from the source: W occurs twice, so multiplicative updates have the exponent with which
    the objective provably never increases.
    """

    inductive = False
    sparse = True
    shardable = False

    def __init__(self, parts: Parts, *, n_components: int = 5) -> None:
        super().__init__(parts, n_components=n_components)
        self.W = self.factor("W", "sample", "component", degree=2)

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.W().mT

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.W().mT

    def clusters(self, code: Float[Tensor, "*r n k"]) -> Int[Tensor, "*r n"] | None:
        return largest(code)

    def symmetric_factor(self) -> Factor | None:
        return self.W

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        check_symmetric(batch.x, "sym_nmf", self.transpose)
        total = batch.x.values().sum() if batch.x.is_sparse_csr else batch.x.sum()
        mean = total / batch.x.shape[0] ** 2
        self.W.assign_(self.uniform(self.W) * 2 * (mean / self.n_components).sqrt())

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        if beta != 2 or batch.mask is not None:
            return None
        x, W = batch.x, self.W.raw
        return 2 * times_links(x, W), 2 * W @ (W.mT @ W)

    def link_scores(
        self, code: Float[Tensor, "*r n k"], pairs: Int[Tensor, "m 2"]
    ) -> Float[Tensor, "*r m"]:
        return at_pairs(code, pairs)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        W = (
            rng.exponential(size=(30, 3)) * (rng.random((30, 3)) < 0.5)
            + 3 * np.eye(3)[[0, 1, 2] * 10]
        )
        return {"X": W @ W.T}
