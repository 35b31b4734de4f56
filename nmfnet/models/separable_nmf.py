"""Separable NMF: components that are rows of the data, found without a search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, final

import numpy as np
import torch

from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.separable import extreme_rays, successive_projections
from nmfnet.types import Batch, Float, Tensor

RULES = {"spa": successive_projections, "xray": extreme_rays}


@final
class SeparableNMF(Factorization):
    r"""X ~ W H with H = X[K], rows of X themselves, and W >= 0.

    ======  =========================================  ==============  ========================
    symbol  meaning                                    code            shape
    ======  =========================================  ==============  ========================
    X       data                                       ``batch.x``     n_samples, n_features
    K       anchors: which rows of X                   ``anchors``     n_components
    H       those rows                                 ``H``           n_components, n_features
    W       weights, a free row per sample             ``W``           n_samples, n_components
    ======  =========================================  ==============  ========================

    Where every component has a pure sample (the pixel of one material, the document on one topic), the
    pure samples are found exactly, in polynomial time and without restarts; near that, nearly so. Where
    no sample is pure, the fit is worse than that of plain NMF. Given K, the rows of W minimise the loss.
    Which rows were chosen is in ``anchors.csv`` of the run folder. For anchor features (words of one
    topic alone) transpose X.

    Parameters
    ----------
    n_components : int, >= 1
    rule : {"spa", "xray"}
        Successive projections, or extreme rays; both look at rows divided by their sums.

    Source: Gillis & Vavasis 2014, "Fast and robust recursive algorithms for separable nonnegative matrix
    factorization" (spa); Kumar, Sindhwani & Kambadur 2013 (xray); Arora et al. 2012 (separability).
    """

    inductive = False
    shardable = False

    def __init__(
        self, parts: Parts, *, n_components: int = 5, rule: Literal["spa", "xray"] = "spa"
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.rule = RULES[rule]
        self.W = self.factor("W", "sample", "component")
        self.H = self.factor("H", "component", "feature")
        self.H.freeze()  # rows of X, which no descent may move
        self.register_buffer("anchors", torch.zeros(self.n_restarts, n_components).long())
        self.anchors: Tensor

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.H()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        if batch.mask is not None:
            raise UserError(
                "SeparableNMF cannot leave entries out: a component is a whole row of X; use model=nmf"
            )
        if self.given:
            raise UserError("SeparableNMF takes its components from X: use model=nmf to give any")
        self.W.assign_(proposal["W"])
        self.H.assign_(proposal["H"])

    def solve(self, batch: Batch) -> None:
        self.anchors.copy_(self.rule(batch.x, self.n_components))
        self.H.assign_(batch.x[self.anchors[0]])
        super().solve(batch)

    def tables_of(
        self, code: Float[Tensor, "*r n k"], batch: Batch, names: Sequence[str]
    ) -> dict[str, dict[str, np.ndarray]]:
        chosen = self.anchors if self.anchors.ndim == 1 else self.anchors[0]
        component = np.zeros(batch.x.shape[0], dtype=int)
        component[chosen.cpu().numpy()] = np.arange(1, self.n_components + 1)
        return {"anchors": {"component": component}}

    def remarks(self, batch: Batch) -> Iterator[str]:
        if self.n_restarts > 1:
            yield f"SeparableNMF has one answer: its {self.n_restarts} restarts are the same."

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        W = np.concatenate([np.eye(3), rng.dirichlet(np.ones(3), 27)])
        return {"X": W @ rng.exponential(size=(3, 12)) + 0.001 * rng.random((30, 12))}
