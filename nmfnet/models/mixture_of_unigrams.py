"""A mixture of unigrams: every document is about one topic."""

from __future__ import annotations

from typing import final

import torch

from nmfnet.core.constraints import Simplex
from nmfnet.core.model import Parts
from nmfnet.kernels.sparse import transpose_of, transposed
from nmfnet.models._documents import Documents, by_restart, counts
from nmfnet.settings.ranges import NotNegative
from nmfnet.types import Batch, Float, Tensor, Terms

SHARP = 20
"""Power of the uniform numbers of a start: each document begins mostly in one topic."""


@final
class MixtureOfUnigrams(Documents):
    r"""X ~ multinomial(H_z) row by row, with one topic z ~ pi for each document.

    ======  =======================================  ==============  ========================
    symbol  meaning                                  code            shape
    ======  =======================================  ==============  ========================
    X       counts of words                          ``batch.x``     n_samples, n_features
    pi      shares of the topics                     ``pi``          1, n_components
    H       words of a topic, rows of sum 1          ``H``           n_components, n_features
    q       p(z | document), the code                ``encode``      n_samples, n_components
    ======  =======================================  ==============  ========================

    The two-level model: a topic for each document, words for each topic. What is minimised is
    ``-Σ_i log Σ_z pi_z Π H_z^X_i`` in nats (``data``), and ``-pseudocount Σ log H`` (``prior``), by EM:
    q by Bayes' theorem, ``pi = mean of q``, ``H ∝ qᵀ X + pseudocount``, which never raises it. A
    restart begins from random memberships.

    ``reconstruct`` is the expected words for the length of each document; a document without words has
    the code pi.

    Parameters
    ----------
    n_components : int, >= 1
    pseudocount : float, >= 0
        Added to the expected count of every word in every topic; with 0 a new word in a document
        has no probability.

    Source: Nigam, McCallum, Thrun & Mitchell 2000, "Text classification from labeled and unlabeled
    documents using EM"; Blei, Ng & Jordan 2003, section 4.2.
    """

    linear = False

    def __init__(
        self, parts: Parts, *, n_components: int = 20, pseudocount: NotNegative = 1.0
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.pseudocount = pseudocount
        self.pi = self.factor("pi", "one", "component", constraint=Simplex())
        self.H = self.factor("H", "component", "feature", constraint=Simplex())

    # ------------------------------------------------------------------ the model
    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self._joint(counts(batch)).softmax(-1).to(self.precision)

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        return {"data": -self._joint(counts(batch)).logsumexp(-1)}

    def terms(self, batch: Batch) -> Terms:
        share = batch.x.shape[0] / self.sizes.n_samples  # so that parts of the rows add up
        prior = -share * self.pseudocount * self._log_H().sum((-2, -1))
        return {**super().terms(batch), "prior": prior}

    def _joint(self, x: Float[Tensor, "n f"]) -> Float[Tensor, "*r n k"]:
        """``log pi_z + Σ x log H_z``, log p(document, z)."""
        log_pi = self.pi.raw.double().log_softmax(-1)
        return log_pi + by_restart(lambda log: x @ log.mT, self._log_H())

    def _log_H(self) -> Float[Tensor, "*r k f"]:
        return self.H.raw.double().log_softmax(-1)

    # ------------------------------------------------------------------ fit
    def sweep(self, batch: Batch, rate: float = 1.0) -> None:
        """One iteration of EM."""
        x = counts(batch)
        self._maximise(x, self._joint(x).softmax(-1))

    def _maximise(self, x: Float[Tensor, "n f"], q: Float[Tensor, "n k"]) -> None:
        """``pi`` and ``H`` for given memberships."""
        pattern = self.transpose if self.transpose is not None else transpose_of(x)
        words = (transposed(x, pattern) @ q).mT + self.pseudocount
        total = words.sum(-1, keepdim=True)
        even = torch.full_like(words, 1 / words.shape[-1])  # of a topic without words
        self.pi.assign_(q.mean(0, keepdim=True))
        self.H.assign_(torch.where(total > 0, words / total.clamp_min(1e-300), even))

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        self.check_documents(batch)
        x, shape = counts(batch), (batch.x.shape[0], self.n_components)
        for i, generator in enumerate(self.generators):
            drawn = torch.rand(shape, generator=generator, dtype=torch.float64).to(x.device)
            with self.restarts(i):
                self._maximise(x, (SHARP * drawn).softmax(-1))
