"""Supervised non-negative matrix factorisation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import numpy as np
import torch

from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.rows import take_rows
from nmfnet.models._hierarchy import layerwise
from nmfnet.models._labels import check_classes
from nmfnet.types import Batch, Float, Tensor


@final
class SupervisedNMF(Factorization):
    r"""X ~ W [H_1; ...; H_C], with H_c learned from the samples of class c alone and then held; W >= 0.

    ======  ================================================  ===========  ======================
    symbol  meaning                                           code         shape
    ======  ================================================  ===========  ======================
    X       data                                              ``batch.x``  n_samples, n_features
    y       class of every training sample, -1 where unknown  ``labels``   n_samples
    H_c     types of class c, rows of sum 1                   ``H``        k_c, n_features
    W       weights of all types, without the class           ``W``        n_samples, n_components
    ======  ================================================  ===========  ======================

    Every class is factorised by itself, ``X_c ~ W_c H_c``; its types are stacked and held, and the
    weights of all samples on all types are found anew, as those of new samples are. So the class of a
    sample is read out of weights for which no class was needed, and the classes of held-out samples
    take no part in anything.

    Parameters
    ----------
    n_components : int, >= the number of classes
        Types of all classes together, shared out evenly; the first classes have one more where they must.

    Source: Cai, Gu & Kenney 2017, "Learning microbial community structures with supervised and
    unsupervised non-negative matrix factorization" (with ``loss=kl``).
    """

    inductive = False
    sparse = True
    shardable = False

    def __init__(self, parts: Parts, *, n_components: int = 6) -> None:
        if not parts.n_classes:
            raise UserError(
                "model=supervised_nmf learns types of every class, and the data have no labels: give "
                "data.label_column, data.labels, or labels= in Python; model=nmf needs none"
            )
        if n_components < parts.n_classes:
            raise UserError(
                f"model.n_components={n_components}: each of the {parts.n_classes} classes needs a type "
                f"of its own, so at least {parts.n_classes}"
            )
        super().__init__(parts, n_components=n_components)
        self.W = self.factor("W", "sample", "component")
        self.H = self.factor("H", "component", "feature")
        self.H.freeze()
        each, more = divmod(n_components, parts.n_classes)
        widths = [each + (c < more) for c in range(parts.n_classes)]
        self.component_classes = np.repeat(np.arange(parts.n_classes), widths).tolist()

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.H()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """The fits of the classes, which are what the model learns."""
        labels, classes = batch.extra["labels"], torch.tensor(self.component_classes)
        check_classes(batch, int(classes.max()) + 1)
        H = self.uniform(self.H)
        for c in classes.unique().tolist():
            rows = (labels == c).nonzero()[:, 0]
            own = batch.by_row(lambda t, at=rows: take_rows(t, at))  # type: ignore[misc]
            of_class = classes == c
            _, (A,) = layerwise(own, [H[:, of_class]], self.loss.beta, self.prelude.closely())
            H[:, of_class] = A
        self.H.assign_(H / H.sum(-1, keepdim=True).clamp_min(1e-30))
        self.W.assign_(proposal["W"])

    def remarks(self, batch: Batch) -> Iterator[str]:
        yield (
            "The components come from fits of the classes by themselves, which end as starts do; that "
            "the run converged is said of the weights."
        )

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Samples of two classes, each with types of its own."""
        H = rng.dirichlet(np.full(12, 0.4), 4)
        W = rng.exponential(size=(30, 4))
        labels = np.arange(30) % 2
        W[labels == 0, :2] *= 0.05
        W[labels == 1, 2:] *= 0.05
        return {"X": W @ H + 0.01, "labels": labels}
