"""Probabilistic latent semantic indexing: documents as mixtures of topics, without priors."""

from __future__ import annotations

from typing import Annotated, final

import torch

from nmfnet.core.constraints import Simplex
from nmfnet.core.model import Parts
from nmfnet.kernels.topics import em_step, log_mixture, proportions
from nmfnet.models._documents import Documents, by_restart, counts
from nmfnet.settings.ranges import Range
from nmfnet.types import Batch, Float, Tensor


@final
class PLSI(Documents):
    r"""X ~ multinomial(W H) row by row, with rows of W and of H that sum to 1.

    ======  ====================================  ==============  ========================
    symbol  meaning                               code            shape
    ======  ====================================  ==============  ========================
    X       counts of words                       ``batch.x``     n_samples, n_features
    W       topics of a document, p(z | d)        ``W``           n_samples, n_components
    H       words of a topic, p(w | z)            ``H``           n_components, n_features
    ======  ====================================  ==============  ========================

    What is minimised is ``-Σ x log(W H)`` in nats, which is NMF under ``loss=kl`` (up to constants of X)
    where W times the lengths of the documents is NMF's W. EM updates W and H at once: they are the
    multiplicative updates of both, followed by rows of sum 1.

    W is a table with a row for every training document, so the number of parameters grows with them,
    and nothing is said of how a new document comes by its row. Its row is *folded in*: H is held, and W
    maximises the document's own likelihood. A document without words has equal shares.

    With ``temperature`` beta below 1 the parts of a word in the topics are ``(W H) ** beta`` over their
    sum, which holds back from fitting the training documents; the objective is the free energy
    ``-Σ x log(Σ_z (W_z H_z) ** beta) / beta``, which these steps never raise.

    Parameters
    ----------
    n_components : int, >= 1
    temperature : float in (0, 1]
        beta; 1 = EM.

    Source: Hofmann 1999, "Probabilistic latent semantic indexing" and "Probabilistic latent semantic
    analysis" (tempered EM); Gaussier & Goutte 2005 (the equivalence with NMF).

    Differs from the source: beta is given, not lowered by held-out likelihood.
    """

    inductive = False

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 20,
        temperature: Annotated[float, Range(above=0, most=1)] = 1.0,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.temperature = float(temperature)
        self.W = self.factor("W", "sample", "component", constraint=Simplex())
        self.H = self.factor("H", "component", "feature", constraint=Simplex())

    # ------------------------------------------------------------------ the model
    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        x, beta = counts(batch), self.temperature

        def of(W: Tensor, H: Tensor) -> Tensor:
            return -log_mixture(x, W**beta, H**beta) / beta

        return {"data": by_restart(of, self.encode(batch).double(), self.H().double())}

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        x = counts(batch)
        found = by_restart(lambda H: proportions(x, H, self.temperature), self.H().double())
        return found.to(self.precision)

    # ------------------------------------------------------------------ fit
    def sweep(self, batch: Batch, rate: float = 1.0) -> None:
        """One iteration of (tempered) EM."""
        x, W, H = counts(batch), self.W().double(), self.H().double()
        found = em_step(x, W, H, self.temperature)
        for factor, expected in ((self.W, found.gamma), (self.H, found.counts)):
            total = expected.sum(-1, keepdim=True)
            even = torch.full_like(expected, 1 / expected.shape[-1])  # without words
            factor.assign_(torch.where(total > 0, expected / total.clamp_min(1e-300), even))

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """The start of NMF, with rows of sum 1."""
        self.check_documents(batch)
        for factor, value in ((self.W, proposal["W"]), (self.H, proposal["H"])):
            kept = value.double().clamp_min(1e-12)
            factor.assign_(kept / kept.sum(-1, keepdim=True))
