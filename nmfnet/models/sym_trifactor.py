"""Symmetric tri-factorisation: groups of the nodes of a graph, and how strongly groups are linked."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch

from nmfnet.core.model import Factorization, Parts
from nmfnet.core.scaling import best_scale
from nmfnet.kernels.graph import times_links
from nmfnet.kernels.multiplicative import Sums
from nmfnet.models._graphs import check_symmetric, largest
from nmfnet.types import Batch, Float, Int, Tensor


@final
class SymTriFactor(Factorization):
    r"""X ~ W S Wᵀ, with W, S >= 0 and S symmetric: groups of nodes, and links within and between them.

    ======  ==================================  ===========  ==========================
    symbol  meaning                             code         shape
    ======  ==================================  ===========  ==========================
    X       links between nodes, symmetric      ``batch.x``  n_samples, n_samples
    W       membership of the nodes in groups   ``W``        n_samples, n_components
    S       links between groups                ``S``        n_components, n_components
    S Wᵀ    components                          components   n_components, n_samples
    ======  ==================================  ===========  ==========================

    With S = I this is symmetric NMF, which has no room for groups whose nodes are linked with another
    group more than among themselves (a bipartite graph): their links are off the diagonal of S. The
    scale of W is that of S, and free. A new node gets the W that best explains its links to the nodes
    of the training, ``x ~ w S Wᵀ``.

    Parameters
    ----------
    n_components : int, >= 1
    assortative : bool
        Where S starts: at I + U(0, 0.1), for groups with links among themselves; False = at U(0, 1), for
        groups linked with others, which the other start does not find.

    Source: Ding, Li, Peng & Park 2006, section 5 (symmetric case); Wang, Li, Wang, Zhu & Ding 2011,
    "Community discovery using nonnegative matrix factorization", section 3.2.

    Differs from the source: W occurs twice, so its multiplicative updates have the exponent with which
    the objective provably never increases.
    """

    inductive = False
    sparse = True
    shardable = False

    def __init__(self, parts: Parts, *, n_components: int = 5, assortative: bool = True) -> None:
        super().__init__(parts, n_components=n_components)
        self.assortative = assortative
        self.W = self.factor("W", "sample", "component", degree=2)
        self.S = self.factor("S", "component", "component", of_x=1)

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.components()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self._S() @ self.W().mT

    def _S(self) -> Float[Tensor, "*r k k"]:
        """S as it counts: X is symmetric, so its two halves say the same."""
        S = self.S()
        return (S + S.mT) / 2

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        check_symmetric(batch.x, "sym_trifactor", self.transpose)
        self.W.assign_(self.uniform(self.W))
        drawn = self.uniform(self.S)
        drawn = (drawn + drawn.mT) / 2
        eye = torch.eye(self.n_components).to(drawn)
        self.S.assign_(eye + 0.1 * drawn if self.assortative else drawn)
        self.S.assign_(self.S() * best_scale(self, batch))

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        if beta != 2 or batch.mask is not None:
            return None
        x, W, S = batch.x, self.W.raw, self._S()
        linked, gram = times_links(x, W), W.mT @ W
        if name == "S":
            return W.mT @ linked, gram @ S @ gram
        return 2 * linked @ S, 2 * W @ (S @ gram @ S)

    def clusters(self, code: Float[Tensor, "*r n k"]) -> Int[Tensor, "*r n"] | None:
        return largest(code * self.components().sum(-1).unsqueeze(-2))

    def link_scores(
        self, code: Float[Tensor, "*r n k"], pairs: Int[Tensor, "m 2"]
    ) -> Float[Tensor, "*r m"]:
        left, right = (code[..., pairs[:, i], :] for i in (0, 1))
        return ((left @ self._S()) * right).sum(-1)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        group = np.arange(30) % 3
        links = np.array([[3.0, 0.1, 0.1], [0.1, 0.1, 2.0], [0.1, 2.0, 0.1]])[group][:, group]
        A = links * rng.uniform(0.5, 1.5, (30, 30))
        return {"X": A + A.T}
