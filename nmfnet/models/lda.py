"""Latent Dirichlet allocation."""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np
import torch

from nmfnet.core.constraints import Exp
from nmfnet.core.laws import Dirichlet
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.csr import csr_of
from nmfnet.kernels.sparse import row_sums, transpose_of, transposed, with_values
from nmfnet.kernels.topics import concentrations, expected_log, mixture, shares
from nmfnet.types import Batch, Float, Output, Tensor, Terms


@final
class LDA(Factorization):
    r"""X ~ multinomial(theta H) row by row, with theta ~ Dirichlet(alpha) and rows of H ~ Dirichlet(eta).

    ======  ==============================================  =============  ========================
    symbol  meaning                                         code           shape
    ======  ==============================================  =============  ========================
    X       counts of words                                 ``batch.x``    n_samples, n_features
    theta   topics of a document, its mean is the code      ``law``        n_samples, n_components
    gamma   theta ~ Dirichlet(gamma) given the document     ``law``        n_samples, n_components
    H       words of a topic, mean of Dirichlet(Lambda)     ``components`` n_components, n_features
    Lambda  concentrations of the topics, > 0               ``Lambda``     n_components, n_features
    T, B    exp E log theta, exp E log H                                   as theta, H
    ======  ==============================================  =============  ========================

    What is minimised is minus the evidence lower bound of mean-field variational Bayes, in nats:
    ``-Σ x log(T B)`` over the stored entries (``data``), the divergences of the laws of theta
    (``kl_theta``) and of the topics (``kl_topics``) from their priors. gamma is where the bound of its
    document is highest, found by a fixed point from gamma = 1, so that the objective is a function of
    Lambda alone; its gradient needs no derivative of gamma (envelope theorem).

    A weight multiplies a count, and a missing entry counts as no word. ``train/perplexity`` and
    ``test/perplexity`` are exp(-bound / words) of whole documents with the topics held: an upper limit
    of their perplexity. ``reconstruct`` is the expected counts for the length of each document;
    ``inverse_transform`` is for documents of length 1.

    Parameters
    ----------
    n_components : int, >= 1
    alpha : float, > 0, optional
        Prior of the topics of a document; None = 1 / n_components.
    eta : float, > 0, optional
        Prior of the words of a topic; None = 1 / n_components.

    Source: Blei, Ng & Jordan 2003, "Latent Dirichlet allocation", section 5; Hoffman, Blei & Bach 2010
    (algorithm 1, and the start).

    Differs from the source: the priors are given, not fitted; the law of topics is Dirichlet, as in
    Hoffman et al.
    """

    sparse = True
    shardable = False
    code = "simplex"
    multilinear = False  # type: ignore[assignment]

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 20,
        alpha: float | None = None,
        eta: float | None = None,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        for name, value in (("alpha", alpha), ("eta", eta)):
            if value is not None and value <= 0:
                raise UserError(
                    f"model.{name}={value:g}: it must be > 0, or null for 1/n_components"
                )
        self.alpha = 1 / n_components if alpha is None else alpha
        self.eta = 1 / n_components if eta is None else eta
        self.Lambda = self.factor("Lambda", "component", "feature", constraint=Exp())

    # ------------------------------------------------------------------ the model
    def law(self, batch: Batch) -> Dirichlet:
        return Dirichlet(self._gamma(batch).to(self.precision), self.alpha)

    @torch.no_grad()
    def _gamma(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        x, Lambda = _counts(batch), self.Lambda().double()

        def of(Lambda: Tensor) -> Tensor:
            return concentrations(x, expected_log(Lambda).exp(), self.alpha)

        return of(Lambda) if Lambda.ndim == 2 else torch.stack([of(one) for one in Lambda])

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.law(batch).mean

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """Expected shares of the words."""
        return W @ self.components()

    def outputs(self, code: Float[Tensor, "*r n k"], batch: Batch) -> dict[str, Output]:
        length = row_sums(_counts(batch)).unsqueeze(-1)
        return {"x": Output(length.to(code) * self.decode(code))}

    def components(self) -> Float[Tensor, "*r k f"]:
        Lambda = self.Lambda()
        return Lambda / Lambda.sum(-1, keepdim=True)

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        """The bound of every document, topics held."""
        x, gamma, Lambda = _counts(batch), self._gamma(batch), self.Lambda().double()

        def of(gamma: Tensor, Lambda: Tensor) -> Tensor:
            found = mixture(x, expected_log(gamma).exp(), expected_log(Lambda).exp())
            return -row_sums(with_values(x, x.values() * found.log()))

        if Lambda.ndim == 2:
            data = of(gamma, Lambda)
        else:
            data = torch.stack([of(*pair) for pair in zip(gamma, Lambda, strict=True)])
        return {"data": data, "kl_theta": Dirichlet(gamma, self.alpha).kl()}

    def terms(self, batch: Batch) -> Terms:
        terms = super().terms(batch)
        share = batch.x.shape[0] / self.sizes.n_samples  # so that parts of the rows add up
        topics = Dirichlet(self.Lambda().double(), self.eta).kl()
        return {**terms, "kl_topics": share * topics.sum(-1)}

    # ------------------------------------------------------------------ fit and numbers
    def sweep(self, batch: Batch) -> None:
        """``Lambda = eta + B ∘ (Tᵀ (X / (T B)))`` for the laws of the documents as Lambda has them."""
        x = _counts(batch)
        B = expected_log(self.Lambda().double()).exp()
        T = expected_log(concentrations(x, B, self.alpha)).exp()
        transpose = self.transpose or transpose_of(x)
        expected = transposed(x, transpose, shares(x, T, B).values()) @ T
        self.Lambda.assign_(self.eta + B * expected.mT)

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Lambda ~ Gamma(100, 1/100), as a sum of exponentials."""
        if batch.mask is not None:
            raise UserError(
                "LDA cannot leave entries out: a document is all of its words; use model=nmf"
            )
        drawn = torch.zeros_like(self.Lambda.raw)
        for _ in range(100):
            drawn -= torch.log1p(-self.uniform(self.Lambda))
        self.Lambda.assign_(drawn / 100)

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        bound = sum(float(term.double().sum()) for term in self.row_terms(batch).values())
        words = float(_counts(batch).values().double().sum())
        return {f"{part}/perplexity": float(np.exp(bound / words)) if words else float("nan")}

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        topics = rng.dirichlet(np.full(12, 0.2), size=3)
        theta = rng.dirichlet(np.full(3, 0.3), size=30)
        return {"X": np.stack([rng.multinomial(80, p) for p in theta @ topics]).astype(float)}


def _counts(batch: Batch) -> Float[Tensor, "n f"]:
    """The stored counts of the documents, times their weights, in float64."""
    x, mask = batch.x, batch.mask
    if mask is not None:
        x = with_values(x, x.values() * mask.values()) if x.is_sparse_csr else x * mask
    return csr_of(x).double()
