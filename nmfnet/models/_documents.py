"""What models of documents share: counts, their lengths, and what is said or refused of them."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from nmfnet.core.model import Factorization
from nmfnet.errors import UserError
from nmfnet.kernels.csr import csr_of
from nmfnet.kernels.sparse import row_sums, with_values
from nmfnet.types import Batch, Float, Output, Tensor

SAME = ("kl", "poisson", "multinomial")
"""Losses that are minus the log-likelihood of multinomial words, up to constants of X."""


def counts(batch: Batch) -> Float[Tensor, "n f"]:
    """The stored counts of the documents, times their weights, as CSR of float64."""
    x, mask = batch.x, batch.mask
    if mask is not None:
        x = with_values(x, x.values() * mask.values()) if x.is_sparse_csr else x * mask
    return csr_of(x).double()


def lengths(batch: Batch) -> Float[Tensor, "n 1"]:
    """Words of every document."""
    return row_sums(counts(batch)).unsqueeze(-1)


def by_restart(of: Callable[..., Tensor], *tables: Tensor) -> Tensor:
    """``of`` tables, for every restart where they have an axis of them."""
    if tables[0].ndim == 2:
        return of(*tables)
    return torch.stack([of(*each) for each in zip(*tables, strict=True)])


def documents(rng: np.random.Generator) -> dict[str, Any]:
    """Thirty short documents on three topics, as an example."""
    topics = rng.dirichlet(np.full(12, 0.2), size=3)
    theta = rng.dirichlet(np.full(3, 0.3), size=30)
    return {"X": np.stack([rng.multinomial(80, p) for p in theta @ topics]).astype(float)}


class Documents(Factorization, ABC):
    """What models of documents have: shares of words by topics, of which X_hat is the document's length.

    The likelihood is that of multinomial words, whatever of :data:`SAME` is asked for.
    """

    sparse = True
    shardable = False
    code = "simplex"
    multilinear = False  # type: ignore[assignment]
    same_losses = SAME

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """Expected shares of the words."""
        return W @ self.components()

    def outputs(self, code: Float[Tensor, "*r n k"], batch: Batch) -> dict[str, Output]:
        return {"x": Output(lengths(batch).to(code) * self.decode(code))}

    def check_documents(self, batch: Batch) -> None:
        """Refuse entries that are left out, negative ones, and documents without a single word.

        Raises
        ------
        UserError
        """
        kind = type(self).__name__
        if batch.mask is not None:
            raise UserError(
                f"{kind} cannot leave entries out: a document is all of its words; use model=nmf"
            )
        stored = _stored(batch)
        if negative := int((stored < 0).sum()):
            raise UserError(
                f"X has {negative} negative values and {kind} needs X >= 0: give counts of words"
            )
        if not bool(stored.any()):
            raise UserError(f"{kind} has nothing to learn from: none of the documents has a word")

    def remarks(self, batch: Batch) -> Iterator[str]:
        stored = _stored(batch)
        if count := int((stored != stored.round()).sum()):
            yield (
                f"{type(self).__name__} is a model of counts, and {count} values of X are fractions: "
                "they are taken as weights of words, and likelihoods are no longer those of words."
            )

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        return documents(rng)


def _stored(batch: Batch) -> Tensor:
    return batch.x.values() if batch.x.is_sparse_csr else batch.x
