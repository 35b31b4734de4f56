"""Hierarchical NMF: NMF of the weights of NMF."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import final

import torch
from torch import nn

from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.core.factor import Factor
from nmfnet.core.inference import fold_in, penalties_on
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.multiplicative import Sums
from nmfnet.kernels.refit import refit_W
from nmfnet.models._hierarchy import (
    check_fused,
    layer_shapes,
    layerwise,
    level_axes,
    products,
    row_misfits,
    size_of,
    sums_of,
)
from nmfnet.models._labels import LabelledFactor, check_classes
from nmfnet.models._starts import raised
from nmfnet.types import Batch, Float, Stage, Tensor, Terms

LEAST = 1e-6
"""Smallest entry of the start, in units of the mean: a product has no way back from 0."""


@final
class HierarchicalNMF(Factorization):
    r"""X ~ S_0 A_0, S_0 ~ S_1 A_1, ...: each layer factorises the weights of the one before, all >= 0.

    ======  =======================================  ================  ======================
    symbol  meaning                                  code              shape
    ======  =======================================  ================  ======================
    X       data                                     ``batch.x``       n_samples, n_features
    A_0     components of the first, widest layer    ``A0``            k_0, n_features
    A_l     components of layer l in those of l - 1  ``A1``, ...       k_l, k_{l-1}
    S_l     weights of layer l, a row per sample     ``S0``, ...       n_samples, k_l
    W       S_L, the weights of the last layer       ``encode``        n_samples, n_components
    H       A_L ... A_0                              ``components``    n_components, n_features
    B       classes in the last components, Y ~ S_L B  ``B``           n_components, n_classes
    ======  =======================================  ================  ======================

    No layer sees a deeper one: S_{l-1} is data to layer l, so the fixed points are those of training
    one layer after the other. The start is that training, each layer until it hardly falls
    (`nmfnet.core.prelude`: its seconds count, its iterations do not); then all layers move in every
    iteration, from wide to narrow, until all have settled. The objective is the sum over layers of the
    loss of S_{l-1} ~ S_l A_l, in units of the size of X over that of S_{l-1}; it may rise while S_{l-1}
    still moves. X_hat is S_L A_L ... A_0. New rows get their weights in the same way, layer after layer,
    without labels.

    Parameters
    ----------
    layers : sequence of int, >= 1
        Ranks from wide to narrow.
    n_components : int, optional
        Takes the place of the last of ``layers``.
    label_weight : float, >= 0
        Of the labels in the last layer, which is semi-supervised NMF then; as in
        ``semi_supervised_nmf``. 0 = unsupervised.

    Source: Gao et al. 2019, "Neural nonnegative matrix factorization for
    hierarchical multilayer topic modeling" (CAMSAP), the baseline there; Cichocki & Zdunek 2006
    (multilayer NMF).

    Differs from the source: S_{l-1} is taken with rows of A_{l-1} of norm 1. How X ~ S_0 A_0 shares
    out its scale is arbitrary, and without this the next layer would depend on it.
    """

    inductive = False
    sparse = True

    def __init__(
        self,
        parts: Parts,
        *,
        layers: Sequence[int] = (10, 5),
        n_components: int | None = None,
        label_weight: float = 0.0,
    ) -> None:
        shapes = layer_shapes(layers, n_components, parts.sizes.n_features, parts.init)
        super().__init__(parts, n_components=shapes[-1][0])
        self.depth = len(shapes)
        if self.loss.beta is None:
            raise UserError(
                f"the layers share units only under a beta divergence, which loss={self.loss.name} is "
                "not: use loss=frobenius, kl, poisson, itakura_saito or beta"
            )
        for i, (narrow, wide) in enumerate(level_axes(self, shapes)):
            self.factor(f"S{i}", "sample", narrow)
            self.factor(f"A{i}", narrow, wide)
        if not parts.n_classes:
            self.unused("data without labels", "label_weight")
        self.labels = LabelledFactor(parts.n_classes, label_weight, self.loss)
        if self.labels.used:
            self.factor("B", "component", "class")
        self.tables = nn.ModuleDict(self.factors)
        check_fused(parts.solver, own_terms=True)
        self.shardable = False

    def code_factors(self) -> dict[str, Factor]:
        last = f"S{self.depth - 1}"
        return {last: self.factors[last]}

    @property
    def has_own_scale(self) -> bool:
        """Layers and labels count in units of the size of X."""
        return False

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """Weights of the last layer, found layer after layer: no layer sees a deeper one."""
        if self.factors["S0"].raw.ndim > 2:
            alone = []
            for restart in range(self.n_restarts):
                with self.restarts(restart):
                    alone.append(self.infer(batch))
            return torch.stack(alone)
        with ExitStack() as found:
            for i in range(self.depth):
                found.enter_context(self.factors[f"S{i}"].at(self._weights(i, batch)))
            return self.codes()[-1]

    def _weights(self, i: int, batch: Batch) -> Float[Tensor, "n k"]:
        """S_i of any rows, given those of the layers before."""
        own, beta = {f"S{i}": self.factors[f"S{i}"]}, self.loss.beta
        assert beta is not None
        plain = own[f"S{i}"].constraint.bounds == NON_NEGATIVE
        if not plain or penalties_on(self, own, batch):
            return fold_in(self, batch, partial(self._layer_terms, i), own)
        rows = batch if i == 0 else Batch(self.code_of(i - 1), batch.index)
        return refit_W(rows.x, self.factors[f"A{i}"](), beta, self.loss.exponent(1, 0), rows.mask)

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.codes()[-1][..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.components()

    def components(self) -> Float[Tensor, "*r k f"]:
        return products(self.stack())[-1]

    def norms(self, i: int) -> Float[Tensor, "*r 1 k"]:
        """Norm of every row of A_i."""
        return self.factors[f"A{i}"]().norm(dim=-1).clamp_min(1e-30).unsqueeze(-2)

    def stack(self) -> list[Tensor]:
        """A_0, ..., A_L with rows of norm 1."""
        return [self.factors[f"A{i}"]() / self.norms(i).mT for i in range(self.depth)]

    def codes(self) -> list[Tensor]:
        """S_0, ..., S_L for rows of A of norm 1."""
        return [self.code_of(i) for i in range(self.depth)]

    def code_of(self, i: int) -> Tensor:
        """S_i for rows of A_i of norm 1."""
        return self.factors[f"S{i}"]() * self.norms(i)

    def layers(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.codes(), products(self.stack()), strict=True))

    def terms(self, batch: Batch) -> Terms:
        terms: Terms = {}
        for i in range(self.depth):
            terms |= self._layer_terms(i, batch)
        if self.labels.used:
            last = self.factors[f"S{self.depth - 1}"]()[..., batch.index, :]
            terms["labels"] = self.labels.misfit(self.loss, batch, last, self.factors["B"]())
        return terms

    def _layer_terms(self, i: int, batch: Batch) -> Terms:
        """Misfit of layer i to the weights of the one before, which are data to it."""
        S, A = self.code_of(i)[..., batch.index, :], self.stack()[i]
        if i == 0:
            return {"layer1": row_misfits(self.loss, batch, S, A).sum(-1, dtype=torch.float64)}
        data = self.code_of(i - 1)[..., batch.index, :].detach()
        misfit = self.loss(data, S @ A).sum(-1, dtype=torch.float64)
        unit = size_of(batch.x, self.loss.beta) / size_of(data, self.loss.beta).clamp_min(1e-30)
        return {f"layer{i + 1}": unit * misfit}

    def stages(self) -> list[Stage]:
        terms = [f"layer{i + 1}" for i in range(self.depth)]
        found = []
        for i, term in enumerate(terms):
            last = self.labels.used and i == self.depth - 1
            names = [f"S{i}", f"A{i}", *(["B"] if last else [])]
            own = {term, "labels"} if last else {term}
            raws = [self.factors[name].raw for name in names]
            found.append(Stage(raws, frozenset({*terms, "labels"} - own)))
        return found

    def _layer(self, name: str, batch: Batch) -> tuple[Batch, Tensor, Tensor]:
        """Data and factors of the layer that a factor belongs to."""
        i = int(name[1:])
        S, A = self.factors[f"S{i}"].raw, self.factors[f"A{i}"].raw
        if i == 0:
            return batch, S, A
        return Batch(self.codes()[i - 1].detach(), batch.index), S, A

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        last = self.factors[f"S{self.depth - 1}"].raw
        if name == "B":
            return self._label_sums("H", batch, last, beta)
        rows, S, A = self._layer(name, batch)
        transpose = self.transpose if rows is batch else None
        neg, pos = sums_of("W" if name[0] == "S" else "H", rows, transpose, S, A, beta)
        if self.labels.used and name == f"S{self.depth - 1}":
            more_neg, more_pos = self._label_sums("W", batch, last, beta)
            neg, pos = neg + more_neg, pos + more_pos
        return neg, pos

    def _label_sums(self, name: str, batch: Batch, W: Tensor, beta: float) -> Sums:
        """Of the label term, in the units of the last layer's own sums."""
        neg, pos = self.labels.sums(name, batch, W, self.factors["B"].raw, beta)
        if self.depth == 1:
            return neg, pos
        data = self.codes()[self.depth - 2]
        share = (size_of(data, beta) / size_of(batch.x, beta)).to(W.dtype)[..., None, None]
        return share * neg, share * pos

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        if self.labels.used:
            check_classes(batch, self.labels.n_classes)
        if self.depth == 1:
            S, A = proposal["W"], proposal["H"]
            self.factors["S0"].assign_(S)
            self.factors["A0"].assign_(A)
        else:
            drawn = [self.uniform(self.factors[f"A{i}"]) for i in range(self.depth)]
            codes, found = layerwise(batch, drawn, self.loss.beta, self.prelude.closely())
            for i, (S, A) in enumerate(zip(codes, found, strict=True)):
                self.factors[f"S{i}"].assign_(raised(S, LEAST))
                self.factors[f"A{i}"].assign_(raised(A, LEAST))
        if self.labels.used:
            last = self.factors[f"S{self.depth - 1}"]()
            self.factors["B"].assign_(self.labels.readout(batch, last))

    def end(self, batch: Batch) -> None:
        """The objective can have been lower before: record that of the factors as they are."""
        now = torch.stack(list(self.objective(batch).values())).sum(0)
        self.objectives.copy_(torch.where(self.objectives.isfinite(), now, torch.inf))
        self.best.fill_(int(self.objectives.argmin()))
