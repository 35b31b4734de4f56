"""Topic models whose codes a network reads off the words: ProdLDA and ETM share all but the decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch.nn import functional as F

from nmfnet.core.constraints import Free
from nmfnet.core.laws import LogisticNormal
from nmfnet.core.model import Parts
from nmfnet.errors import UserError
from nmfnet.kernels.csr import csr_of
from nmfnet.kernels.sparse import times_components, transpose_of
from nmfnet.models._documents import Documents, by_restart
from nmfnet.models._layers import BatchNorm, axes_between, dropped, start_glorot
from nmfnet.types import Batch, Float, Tensor

HIDDEN_DRAW = 100
"""Number of the first noise of dropout; those before it are of the code."""


class AmortisedTopics(Documents, ABC):
    """Encoder, law and numbers of an amortised topic model; a subclass adds what decodes a code.

    Parameters
    ----------
    n_components, hidden, dropout, warm_up
        As in the subclasses.
    alpha : float, > 0
        Of the symmetric Dirichlet that the prior of the code stands for.
    """

    linear = False

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int,
        hidden: Sequence[int],
        dropout: float,
        warm_up: int,
        alpha: float,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        if n_components < 2:
            raise UserError(
                f"model.n_components={n_components}: {type(self).__name__} needs at least 2 topics; "
                "with one use model=unigram"
            )
        self.warm_up, self.dropout, self.alpha = warm_up, dropout, alpha
        widths = axes_between(self, hidden)[:-1]
        for i, (a, b) in enumerate(pairwise(widths), start=1):
            for name, rows in ((f"E{i}", a), (f"E{i}_bias", "one")):
                setattr(self, name, self.factor(name, rows, b, constraint=Free()))
        self.depth = len(widths) - 1
        self.M, self.V = (  # without a bias, which the normalisation has
            self.factor(name, widths[-1], "component", constraint=Free()) for name in ("M", "V")
        )
        self.norms = torch.nn.ModuleList(
            BatchNorm(self.n_restarts, n_components) for _ in ("M", "V")
        )

    # ------------------------------------------------------------------ the model
    def read(self, x: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        """What the encoder sees of the counts."""
        return x

    def law(self, batch: Batch) -> LogisticNormal:
        h = self.read(csr_of(batch.x))
        for i in range(1, self.depth + 1):
            h = F.softplus(_times(h, self.factors[f"E{i}"]()) + self.factors[f"E{i}_bias"]())
        h = dropped(self, h, self.dropout, HIDDEN_DRAW)
        mean, log_variance = (
            norm(_times(h, table()))
            for table, norm in zip((self.M, self.V), self.norms, strict=True)
        )
        return LogisticNormal(mean, log_variance, self.alpha)

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.law(batch).mean

    @abstractmethod
    def row_misfit(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        """``-Σ x log p`` over the words of every document, in nats."""

    # ------------------------------------------------------------------ fit and numbers
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Glorot's uniform weights, and biases of 0."""
        self.check_documents(batch)
        start_glorot(self)

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        rows = torch.stack([term.double() for term in self.row_terms(batch).values()]).sum(0)
        return {f"{part}/elbo": -float(rows.mean())}


def _times(h: Tensor, weights: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r n b"]:
    """``h weights``, where h may be sparse."""
    if not h.is_sparse_csr:
        return h @ weights
    pattern = transpose_of(h) if torch.is_grad_enabled() else None
    return by_restart(lambda w: times_components(h, w.mT, pattern), weights)
