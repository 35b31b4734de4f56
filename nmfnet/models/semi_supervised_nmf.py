"""Semi-supervised non-negative matrix factorisation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import torch

from nmfnet.core.factor import Factor
from nmfnet.core.inference import fold_in
from nmfnet.core.model import Factorization, Parts
from nmfnet.kernels.multiplicative import Sums
from nmfnet.models._hierarchy import check_fused, row_misfits, sums_of
from nmfnet.models._labels import LabelledFactor, check_classes
from nmfnet.types import Batch, Float, Tensor, Terms


@final
class SemiSupervisedNMF(Factorization):
    r"""X ~ W H and Y ~ W B on the labelled samples, with W, H, B >= 0.

    ======  ==============================================  ===========  ======================
    symbol  meaning                                         code         shape
    ======  ==============================================  ===========  ======================
    X       data                                            ``batch.x``  n_samples, n_features
    W       weights, a free row per sample                  ``W``        n_samples, n_components
    H       components                                      ``H``        n_components, n_features
    Y, L    one-hot classes; which samples have one         ``labels``   n_samples, n_classes
    B       classes in the components                       ``B``        n_components, n_classes
    ======  ==============================================  ===========  ======================

    The objective is ``D(X | W H) + label_weight s D(L o Y | L o W B)`` with D the loss and s the size
    of X over that of L o Y, so that a weight of 1 counts the relative errors of both alike. Without
    labels, or with weight 0, it is NMF. New rows are encoded without labels. The published
    orientation is the transpose: its A is Hᵀ, its S is Wᵀ, its B is Bᵀ.

    Parameters
    ----------
    n_components : int, >= 1
    label_weight : float, >= 0

    Source: Lee, Yoo & Choi 2010, "Semi-supervised nonnegative matrix factorization", eq. (5) to (8);
    its lambda is ``label_weight ||X||² / ||L o Y||²``.
    """

    inductive = False
    sparse = True

    def __init__(self, parts: Parts, *, n_components: int = 5, label_weight: float = 0.1) -> None:
        super().__init__(parts, n_components=n_components)
        self.W = self.factor("W", "sample", "component")
        self.H = self.factor("H", "component", "feature")
        if not parts.n_classes:
            self.unused("data without labels", "label_weight")
        self.labels = LabelledFactor(parts.n_classes, label_weight, self.loss)
        if self.labels.used:
            self.B = self.factor("B", "component", "class")
        check_fused(parts.solver, self.labels.used)
        self.bilinear = self.shardable = not self.labels.used

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.H()

    @property
    def has_own_scale(self) -> bool:
        """Labels count in units of the size of X."""
        return False

    def remarks(self, batch: Batch) -> Iterator[str]:
        if not self.labels.n_classes:
            yield "The data have no labels, and semi-supervised NMF without any is NMF."

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """New rows are encoded without labels."""
        return fold_in(self, batch)

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def scale_pair(self) -> tuple[Factor, Factor] | None:
        return None if self.labels.used else (self.W, self.H)

    def terms(self, batch: Batch) -> Terms:
        W = self.encode(batch)
        rows = row_misfits(self.loss, batch, W, self.H())
        terms = {"data": rows.sum(-1, dtype=torch.float64)}
        if self.labels.used:
            terms["labels"] = self.labels.misfit(self.loss, batch, W, self.B())
        return terms

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        W, H = self.factors["W"].raw, self.factors["H"].raw
        if name == "B":
            return self.labels.sums("H", batch, W, self.factors["B"].raw, beta)
        neg, pos = sums_of(name, batch, self.transpose, W, H, beta)
        if name == "W" and self.labels.used:
            more_neg, more_pos = self.labels.sums("W", batch, W, self.factors["B"].raw, beta)
            neg, pos = neg + more_neg, pos + more_pos
        return neg, pos

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        super().start(proposal, batch)
        if self.labels.used:
            check_classes(batch, self.labels.n_classes)
            self.B.assign_(self.labels.readout(batch, self.W()))
