"""Graph autoencoders: codes of nodes from which their links can be told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, final

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nmfnet.core.constraints import Free
from nmfnet.core.factor import Factor
from nmfnet.core.inference import fold_in
from nmfnet.core.laws import Law, Normal, Point
from nmfnet.core.model import JUDGED, Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.graph import (
    all_pairs_softplus,
    are_linked,
    at_pairs,
    inverse_root_degrees,
    linked_pairs,
    received,
    times_weights,
)
from nmfnet.kernels.rows import spans, take_rows
from nmfnet.kernels.sparse import row_numbers
from nmfnet.models._layers import axes_between, start_glorot
from nmfnet.types import Batch, Float, Int, Tensor, Terms

OTHERS = 100
"""Number of the random stream of the pairs without a link."""

NEW = 200
"""Of the first of the codes of new nodes."""


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

    ``transform`` gives the mean code of new nodes, from their features (``gcn``, ``mlp``), their links to
    the training nodes (``gcn``, ``table``) and those between them (``gcn``): ``transform(X, links=B,
    graph=A)``. The training nodes stay as they are; they do not see the new ones. Without links a node
    is encoded by ``gcn`` from its own features alone. ``table`` gives it the code that lowers its part of
    the objective most, all pairs of it with training nodes counted.

    Parameters
    ----------
    n_components : int, >= 1
    encoder : {"gcn", "mlp", "table"}
        Whether every layer averages over linked nodes, or Â = I: a code from the features alone; or M
        and S are tables with a row per node, and neither X nor ``hidden`` is read.
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
    ends_by_budget = "longer fits learn the training links by heart, and tell others less well"

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 16,
        encoder: Literal["gcn", "mlp", "table"] = "gcn",
        law: Literal["normal", "point"] = "normal",
        hidden: Sequence[int] = (32,),
        pairs: Literal["sampled", "exact"] = "sampled",
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.gcn, self.table, self.exact = encoder == "gcn", encoder == "table", pairs == "exact"
        self.inductive, self.reads_links = not self.table, encoder != "mlp"
        self.reads_graph = self.gcn
        *inwards, code = ["sample", "component"] if self.table else axes_between(self, hidden)
        self.E = nn.ModuleList(
            self.factor(f"E{i}", a, b, constraint=Free())
            for i, (a, b) in enumerate(pairwise(inwards), start=1)
        )
        last, degree = inwards[-1], 1 + self.table  # a table of codes decodes, too
        self.M = self.factor("M", last, code, constraint=Free(), degree=degree)
        self.S = None
        if law == "normal":
            self.S = self.factor("S", last, code, constraint=Free(), degree=degree)
        kept = {"n_links": torch.zeros(self.n_restarts, dtype=torch.long)}
        for name, factor in self.own_factors().items() if self.gcn else ():
            shape = self.n_restarts, parts.sizes.n_samples, factor.raw.shape[-1]
            kept[f"sent_{name}"] = torch.zeros(shape)
        for name, empty in kept.items():
            self.register_buffer(name, empty)
        self.n_links: Tensor
        self.kept = tuple(kept)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """A run of an earlier version has kept nothing of the links."""
        for name in self.kept:
            state_dict.setdefault(prefix + name, getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def law(self, batch: Batch) -> Law:
        if self.table:
            found = {
                name: table()[..., batch.index, :] for name, table in self.own_factors().items()
            }
        else:
            found = {name: got for name, _, got in self._layers(batch)}
        return Point(found["M"]) if self.S is None else Normal(found["M"], 2 * found["S"])

    def _layers(self, batch: Batch) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Of every layer what nodes send to those that they are linked with, and what they get."""
        links = batch.context.get("graph") if self.gcn else None
        outward = batch.extra.get("links") if self.gcn else None
        scale = inverse_root_degrees(*(a for a in (links, outward) if a is not None))
        h = batch.x
        for i, (name, weights) in enumerate(self.own_factors().items()):
            sent = scale * times_weights(h, weights(), self.transpose)
            theirs = None if outward is None else getattr(self, f"sent_{name}")
            got = received(scale, sent, links, outward, theirs)
            yield name, sent, got
            h = torch.relu(got) if i < len(self.E) else h

    def end(self, batch: Batch) -> None:
        """Keep what training nodes send to new ones, and how many links they have."""
        self.n_links.fill_(len(linked_pairs(self._graph(batch))))
        for name, sent, _ in self._layers(batch) if self.gcn else ():
            getattr(self, f"sent_{name}").copy_(sent)

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.law(batch).mean

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n n"]:
        """The probability that nodes with these codes are linked."""
        return torch.sigmoid(W @ W.mT)

    def code_factors(self) -> dict[str, Factor]:
        """The codes are means: deviations are no part of them."""
        return {"M": self.M} if self.table else {}

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        if "links" in batch.extra and not bool(self.n_links.any()):
            raise UserError(
                "links: this run is of an earlier version, which kept nothing of the links of training "
                "nodes: repeat the run, or leave links out"
            )
        if not self.table or bool((batch.index >= 0).all()):
            return self.law(batch).mean
        if "links" not in batch.extra:
            raise UserError(
                "graph_ae with encoder=table knows a new node by its links to the training nodes alone: "
                "give transform(X, links=B), with a row for each new node and a column for each training "
                "node"
            )
        found = []
        for rows in spans(batch.x.shape[0], JUDGED * self.sizes.n_samples):
            part = batch.by_row(lambda tensor, rows=rows: take_rows(tensor, rows))  # type: ignore[misc]
            found.append(fold_in(self, part, self.terms, tables=self.factors))
        return torch.cat(found, -2)[..., : self.n_components]

    def terms(self, batch: Batch) -> Terms:
        law = self.law(batch)
        if self.table and "links" in batch.extra:
            return self._joining(law, batch.extra["links"])
        links = self._graph(batch)
        pairs = batch.context.get("test links", linked_pairs(links))
        noises = self.draws(law, batch.x.shape[0]) if law.noise else [batch.x]
        drawn = [law.sample(eps) for eps in noises]
        found = torch.stack([self._misfit(z, pairs, links, batch) for z in drawn]).mean(0)
        return {"pairs": found, **self._divergence(law, len(pairs))}

    def _divergence(self, law: Law, m: Tensor | int) -> Terms:
        divergence = law.kl()
        if divergence is None:
            return {}
        weight = self.prior_weight * m / self.sizes.n_samples**2
        return {"kl": weight * divergence.sum(-1, dtype=torch.float64)}

    def _joining(self, law: Law, links: Float[Tensor, "b n"]) -> Terms:
        """What new nodes with these links to the training nodes add to the objective."""
        m, n = self.n_links, self.sizes.n_samples
        known = {name: table.constraint(table.raw) for name, table in self.factors.items()}
        theirs = Point(known["M"]) if self.S is None else Normal(known["M"], 2 * known["S"])
        noises = self.draws(theirs, n) if law.noise else [links]
        fresh = (self.noise(1, self.n_components, draw=NEW + i) for i in range(len(noises)))
        drawn = [(law.sample(e), theirs.sample(eps)) for e, eps in zip(fresh, noises, strict=True)]
        of_link, of_itself = (2 * m / (2 * m + n), m / (2 * m + n)) if self.exact else (1, 0)
        of_other = m / (n * (n - 1) // 2 - m).clamp_min(1)
        at = row_numbers(links), links.col_indices().long()
        found = []
        for z, others in drawn:
            scores = z @ others.mT
            linked = scores[..., *at]
            apart = F.softplus(scores).sum((-2, -1), dtype=torch.float64) - _sum(F.softplus(linked))
            own = _sum(F.softplus(-z.square().sum(-1)))
            found.append(of_link * _sum(F.softplus(-linked)) + of_itself * own + of_other * apart)
        return {"pairs": torch.stack(found).mean(0), **self._divergence(law, m)}

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

    def remarks(self, batch: Batch) -> Iterator[str]:
        if self.table:
            yield "encoder=table: the codes of the nodes are free, so X is not read."

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
