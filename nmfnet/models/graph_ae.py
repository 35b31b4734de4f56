"""Graph autoencoders: codes of nodes from which their links can be told."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, final

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nmfnet.core.constraints import Free
from nmfnet.core.laws import Law, Normal, Point
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.graph import (
    all_pairs_softplus,
    are_linked,
    at_pairs,
    linked_pairs,
    propagate,
    times_weights,
)
from nmfnet.models._layers import axes_between, start_glorot
from nmfnet.types import Batch, Float, Int, Tensor, Terms

OTHERS = 100
"""Number of the random stream of the pairs without a link."""


@final
class GraphAE(Factorization):
    r"""A ~ σ(Z Zᵀ), with Z = Â relu(Â X E) M: the code of a node says which nodes it is linked with.

    ======  ======================================  ===========  ======================
    symbol  meaning                                 code         shape
    ======  ======================================  ===========  ======================
    X       features of the nodes                   ``batch.x``  n_samples, n_features
    A       links of the nodes, 0 or above          ``graph``    n_samples, n_samples
    Â       D^-1/2 (A + I) D^-1/2                   propagate    n_samples, n_samples
    E_l     weights of hidden layer l               ``E1``, ...  width in, width out
    M       weights of the mean of the code         ``M``        width in, n_components
    S       weights of the log of its deviation     ``S``        width in, n_components
    Z       code                                    ``law``      n_samples, n_components
    ======  ======================================  ===========  ======================

    With links l and others o, the objective is ``|l| (mean_l softplus(-z_i·z_j) + mean_o
    softplus(z_i·z_j))`` in nats (``pairs``), plus ``|l| / n² Σ_i KL(z_i)`` for a normal law (``kl``).
    What is minimised sees the training links only, and so does the encoder. Weights of links count in
    Â and nowhere else.

    ``transform`` gives the mean code. With ``encoder: gcn`` it needs the links of the rows,
    ``transform(X, graph=A)``; without a graph every row is a node without links, which is encoded by
    its own features alone.

    Parameters
    ----------
    n_components : int, >= 1
    encoder : {"gcn", "mlp"}
        Whether every layer averages over linked nodes, or Â = I: a code from the features alone.
    law : {"normal", "point"}
        Whether the code is a normal law (VGAE, VAE) or a point (GAE, AE).
    hidden : sequence of int
        Widths of the hidden layers; [] = a linear encoder.
    pairs : {"sampled", "exact"}
        Whether the others are as many random pairs as there are links, fresh in every iteration (and
        always the same where the model is judged), or all pairs without a link. Exact: a node counts
        as linked with itself.

    Source: Kipf & Welling 2016, "Variational graph auto-encoders"; Kipf & Welling 2017 for the layers.

    Differs from the source: means are taken over exactly the pairs that are summed, the objective is
    in nats times the number of links, and the exact sum is formed in blocks.
    """

    signed = True
    sparse = True
    shardable = False
    rows_independent = False
    linear = False
    has_components = False
    learns_graph = True
    multilinear = False  # type: ignore[assignment]
    code = "real"

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 16,
        encoder: Literal["gcn", "mlp"] = "gcn",
        law: Literal["normal", "point"] = "normal",
        hidden: Sequence[int] = (32,),
        pairs: Literal["sampled", "exact"] = "sampled",
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.gcn, self.exact = encoder == "gcn", pairs == "exact"
        *inwards, code = axes_between(self, hidden)
        last = inwards[-1]
        self.E = nn.ModuleList(
            self.factor(f"E{i}", a, b, constraint=Free())
            for i, (a, b) in enumerate(pairwise(inwards), start=1)
        )
        self.M = self.factor("M", last, code, constraint=Free())
        self.S = self.factor("S", last, code, constraint=Free()) if law == "normal" else None

    def law(self, batch: Batch) -> Law:
        links = batch.context.get("graph") if self.gcn else None

        def layer(h: Tensor, weights: nn.Module) -> Tensor:
            h = times_weights(h, weights(), self.transpose)
            return h if links is None else propagate(links, h)

        h = batch.x
        for weights in self.E:
            h = torch.relu(layer(h, weights))
        mean = layer(h, self.M)
        return Point(mean) if self.S is None else Normal(mean, 2 * layer(h, self.S))

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.law(batch).mean

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n n"]:
        """The probability that nodes with these codes are linked."""
        return torch.sigmoid(W @ W.mT)

    def terms(self, batch: Batch) -> Terms:
        law = self.law(batch)
        links = self._graph(batch)
        pairs = batch.context.get("test links", linked_pairs(links))
        noises = self.draws(law, batch.x.shape[0]) if law.noise else [batch.x]
        drawn = [law.sample(eps) for eps in noises]
        found = torch.stack([self._misfit(z, pairs, links, batch) for z in drawn]).mean(0)
        divergence = law.kl()
        if divergence is None:
            return {"pairs": found}
        weight = self.prior_weight * len(pairs) / batch.x.shape[0] ** 2
        return {"pairs": found, "kl": weight * divergence.sum(-1, dtype=torch.float64)}

    def _graph(self, batch: Batch) -> Tensor:
        links = batch.context.get("graph")
        if links is None:
            raise UserError(
                "graph_ae explains the links of a graph, and the data have none: use data=graph, a data "
                "set with links such as cora, or in Python nmfnet.fit(X, graph=A)"
            )
        return links

    def _misfit(
        self, z: Float[Tensor, "*r n k"], pairs: Tensor, links: Tensor, batch: Batch
    ) -> Float[Tensor, "*r"]:
        scores = at_pairs(z, pairs)
        linked, n, m = _sum(F.softplus(-scores)), z.shape[-2], len(pairs)
        if (held := batch.context.get("test others")) is not None:
            return linked + _sum(F.softplus(at_pairs(z, held)))
        if not self.exact:
            return linked + m * self._sampled(z, m, links)
        loops = _sum(F.softplus(-z.square().sum(-1)))
        others = all_pairs_softplus(z) - _sum(F.softplus(scores))
        return m * ((2 * linked + loops) / (2 * m + n) + others / max(1, n * (n - 1) // 2 - m))

    def _sampled(self, z: Float[Tensor, "*r n k"], m: int, links: Tensor) -> Float[Tensor, "*r"]:
        """Mean over random pairs, those left out that are linked."""
        n = z.shape[-2]
        uniform = torch.special.ndtr(self.noise(2, m, draw=OTHERS))
        i, j = (uniform * n).long().clamp_max(n - 1).unbind(-2)
        ends = (at.unsqueeze(-1).expand(*at.shape, z.shape[-1]) for at in (i, j))
        left, right = (z.gather(-2, at) for at in ends)
        kept = ~(are_linked(links, i, j) | (i == j))
        misfits = F.softplus((left * right).sum(-1)) * kept
        return _sum(misfits) / kept.sum(-1).clamp_min(1)

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        self._graph(batch)
        start_glorot(self)

    def link_scores(
        self, code: Float[Tensor, "*r n k"], pairs: Int[Tensor, "m 2"]
    ) -> Float[Tensor, "*r m"]:
        return at_pairs(code, pairs)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        groups = np.repeat(np.arange(3), 10)
        same = groups[:, None] == groups
        upper = np.triu(rng.random((30, 30)) < np.where(same, 0.6, 0.05), 1)
        X = rng.random((30, 12)) + np.eye(12)[4 * groups]
        return {"X": X, "graph": (upper | upper.T).astype(float)}


def _sum(values: Tensor) -> Tensor:
    return values.sum(-1, dtype=torch.float64)
