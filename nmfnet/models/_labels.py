"""Labels of some samples as a term of an objective."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F

from nmfnet.core.losses import Loss
from nmfnet.errors import UserError
from nmfnet.kernels.multiplicative import Sums, nmf_sums_H, nmf_sums_W
from nmfnet.models._hierarchy import size_of
from nmfnet.types import Batch, Float, Tensor


class Labels(NamedTuple):
    """Classes of the rows of a batch.

    Attributes
    ----------
    one_hot : Tensor, shape (n, c)
        Y; rows without a label are 0.
    seen : Tensor of 0 and 1, shape (n, 1)
        L: which rows have a label.
    """

    one_hot: Tensor
    seen: Tensor

    @property
    def n_seen(self) -> Tensor:
        """Number of labelled rows, at least 1."""
        return self.seen.sum().clamp_min(1)


def labels_of(batch: Batch, n_classes: int, dtype: torch.dtype) -> Labels | None:
    """Labels of the batch; None where it has none (new rows)."""
    given = batch.extra.get("labels")
    if given is None or n_classes == 0:
        return None
    seen = (given >= 0).to(dtype)[:, None]
    return Labels(F.one_hot(given.clamp_min(0), n_classes).to(dtype) * seen, seen)


def check_classes(batch: Batch, n_classes: int) -> None:
    """Refuse labels of which a class has none to learn from.

    Raises
    ------
    UserError
    """
    given = batch.extra["labels"]
    counts = torch.bincount(given[given >= 0], minlength=n_classes)
    if empty := (counts == 0).nonzero().flatten().tolist():
        raise UserError(
            f"{len(empty)} of {n_classes} classes have no labelled sample to learn from (first: "
            f"class number {empty[0] + 1}); {int(counts.sum())} of {len(given)} samples have a "
            "label: label more samples, hide fewer (split.hidden), or leave the class out"
        )


def squared_misfit(labels: Labels, scores: Float[Tensor, "*r n c"]) -> Float[Tensor, "*r"]:
    """``||L o (Y - scores)||² / ||L o Y||²``: 0 = right, 1 = what scores of 0 have."""
    error = labels.seen * (labels.one_hot - scores)
    return error.square().sum((-2, -1), dtype=torch.float64) / labels.n_seen


def cross_entropy(labels: Labels, scores: Float[Tensor, "*r n c"]) -> Float[Tensor, "*r"]:
    """Mean over labelled rows of ``-log softmax(scores)`` at the class, in nats."""
    terms = labels.one_hot * scores.log_softmax(-1)
    return -terms.sum((-2, -1), dtype=torch.float64) / labels.n_seen


def least_squares_readout(labels: Labels, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r k c"]:
    """B that minimises ``||L o (Y - W B)||`` with a ridge of 1e-6 of the mean diagonal."""
    S = (labels.seen * W).double()
    G = S.mT @ S
    ridge = 1e-6 * G.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-30)
    eye = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
    found = torch.linalg.solve(G + ridge[..., None, None] * eye, S.mT @ labels.one_hot.double())
    return found.to(W.dtype)


class LabelledFactor:
    """The term ``label_weight s D(L o Y | L o W B)`` of a model with a non-negative factor B.

    Parameters
    ----------
    n_classes : int
        0 = no labels: the term is not used.
    label_weight : float, >= 0
    loss : Loss

    Raises
    ------
    UserError
    """

    def __init__(self, n_classes: int, label_weight: float, loss: Loss) -> None:
        if label_weight < 0:
            raise UserError(f"model.label_weight={label_weight:g}: it must be >= 0")
        self.n_classes, self.weight = n_classes, label_weight
        self.used = n_classes > 0 and label_weight > 0
        if self.used and (loss.beta is None or loss.beta <= 0):
            raise UserError(
                "labels are zeros and ones, which this loss cannot compare: use loss=frobenius or "
                "loss=kl, or set model.label_weight=0"
            )

    def misfit(
        self, loss: Loss, batch: Batch, W: Float[Tensor, "*r n k"], B: Float[Tensor, "*r k c"]
    ) -> Float[Tensor, "*r"]:
        """The term, float64; 0 for rows without labels."""
        labels = self._labels(batch, W.dtype)
        seen = labels.seen.expand_as(labels.one_hot)
        rows = loss(labels.one_hot, W @ B, seen).sum(-1, dtype=torch.float64)
        return self._scale(batch, labels, loss.beta) * rows

    def sums(
        self,
        name: str,
        batch: Batch,
        W: Float[Tensor, "*r n k"],
        B: Float[Tensor, "*r k c"],
        beta: float,
    ) -> Sums:
        """Both multiplicative sums of the term for W, or for B (called H)."""
        labels = self._labels(batch, W.dtype)
        scale = self._scale(batch, labels, beta).to(W.dtype)
        weight = (scale * labels.seen).expand_as(labels.one_hot)
        rule = nmf_sums_W if name == "W" else nmf_sums_H
        return rule(labels.one_hot, W, B, beta, weight)

    def readout(self, batch: Batch, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r k c"]:
        """A positive B to start from."""
        B = least_squares_readout(self._labels(batch, W.dtype), W)
        return B.clamp_min(0) + 0.01 * B.abs().amax((-2, -1), keepdim=True)

    def _labels(self, batch: Batch, dtype: torch.dtype) -> Labels:
        labels = labels_of(batch, self.n_classes, dtype)
        assert labels is not None
        return labels

    def _scale(self, batch: Batch, labels: Labels, beta: float | None) -> Tensor:
        of_labels = labels.n_seen * (0.5 if beta == 2 else 1)
        return self.weight * size_of(batch.x, beta) / of_labels
