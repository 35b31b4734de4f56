"""Latent Dirichlet allocation."""

from __future__ import annotations

from typing import Literal, final

import numpy as np
import torch

from nmfnet.core.constraints import Exp
from nmfnet.core.laws import Dirichlet
from nmfnet.core.model import Parts
from nmfnet.kernels.topics import concentrations, expected_log, log_mixture, prior_of
from nmfnet.models._documents import Documents, by_restart, counts
from nmfnet.settings.ranges import Positive
from nmfnet.types import Batch, Float, Tensor, Terms


@final
class LDA(Documents):
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

    A weight multiplies a count, and a missing entry counts as no word. ``train/perplexity_bound`` and
    ``test/perplexity_bound`` are exp(-bound / words) of whole documents with the topics held: an upper
    limit of their perplexity. ``reconstruct`` is the expected counts for the length of each document;
    ``inverse_transform`` is for documents of length 1.

    With minibatches (``batch_size``) Lambda moves by steps of falling length: online variational Bayes.

    Parameters
    ----------
    n_components : int, >= 1
    alpha : float, > 0, optional
        Prior of the topics of a document, the same for every topic; None = 1 / n_components.
    eta : float, > 0, optional
        Prior of the words of a topic; None = 1 / n_components.
    learn_priors : bool
        Whether alpha (one number for each topic) and eta (one for all words) are factors of the
        model, which every sweep sets to where the bound is highest; then ``alpha`` and ``eta`` are
        their start.

    Source: Blei, Ng & Jordan 2003, "Latent Dirichlet allocation", section 5 and appendix A.4.2 (Newton
    steps for the priors); Hoffman, Blei & Bach 2010 (algorithms 1 and 2, and the start).

    Differs from the source: the law of topics is Dirichlet, as in Hoffman et al.; priors are only
    learned if asked for.
    """

    incremental = True

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 20,
        alpha: Positive | None = None,
        eta: Positive | None = None,
        learn_priors: bool = False,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.priors = (alpha or 1 / n_components, eta or 1 / n_components)
        self.Lambda = self.factor("Lambda", "component", "feature", constraint=Exp())
        self.alpha = self.eta = None
        if learn_priors:
            self.alpha = self.factor("alpha", "one", "component", constraint=Exp())
            self.eta = self.factor("eta", "one", "one", constraint=Exp())

    # ------------------------------------------------------------------ the model
    def prior(self) -> tuple[Float[Tensor, "*r 1 k"], Float[Tensor, "*r 1 1"]]:
        """The priors alpha and eta, as they are now."""
        if self.alpha is not None and self.eta is not None:
            return self.alpha().double(), self.eta().double()
        lead = (*self.Lambda().shape[:-2], 1)
        one = torch.ones(*lead, 1, dtype=torch.float64, device=self.device)
        alpha, eta = self.priors
        return (alpha * one).expand(*lead, self.n_components), eta * one

    def law(self, batch: Batch) -> Dirichlet:
        return Dirichlet(self._documents(batch)[0].to(self.precision), self.prior()[0])

    @torch.no_grad()
    def _documents(self, batch: Batch) -> tuple[Float[Tensor, "*r n k"], Float[Tensor, "*r n"]]:
        """gamma, and ``Σ x log(T B)`` of every document there."""
        x, B, alpha = counts(batch), self._B(), self.prior()[0]
        if B.ndim == 2:
            found = [concentrations(x, B, alpha[0])]
            return found[0].gamma, found[0].logs
        found = [concentrations(x, b, a[0]) for b, a in zip(B, alpha, strict=True)]
        return torch.stack([one.gamma for one in found]), torch.stack([one.logs for one in found])

    def _B(self) -> Float[Tensor, "*r k f"]:
        return expected_log(self.Lambda().double()).exp()

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.law(batch).mean

    def components(self) -> Float[Tensor, "*r k f"]:
        Lambda = self.Lambda()
        return Lambda / Lambda.sum(-1, keepdim=True)

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        """The bound of every document, topics held."""
        gamma, logs = self._documents(batch)
        if torch.is_grad_enabled():
            x, T = counts(batch), expected_log(gamma).exp()
            logs = by_restart(lambda T, B: log_mixture(x, T, B), T, self._B())
        return {"data": -logs, "kl_theta": Dirichlet(gamma, self.prior()[0]).kl()}

    def terms(self, batch: Batch) -> Terms:
        terms = super().terms(batch)
        share = batch.x.shape[0] / self.sizes.n_samples  # so that parts of the rows add up
        topics = Dirichlet(self.Lambda().double(), self.prior()[1]).kl()
        return {**terms, "kl_topics": share * topics.sum(-1)}

    # ------------------------------------------------------------------ fit and numbers
    def sweep(self, batch: Batch, rate: float = 1.0) -> None:
        """``Lambda = eta + B ∘ (Tᵀ (X / (T B)))`` for the laws of the documents as Lambda has them."""
        x, B, (alpha, eta) = counts(batch), self._B(), self.prior()
        found = concentrations(x, B, alpha[0])
        whole = eta + self.sizes.n_samples / x.shape[0] * found.counts
        Lambda = self.Lambda().double().lerp(whole, rate)
        self.Lambda.assign_(Lambda)
        if self.alpha is not None and self.eta is not None:
            log_theta, log_H = (expected_log(table).mean(0) for table in (found.gamma, Lambda))
            best = prior_of(alpha[0], log_theta, x.shape[0])
            self.alpha.assign_(alpha.lerp(best[None], rate))
            best = prior_of(eta[0].expand_as(log_H), log_H, len(Lambda), symmetric=True)
            self.eta.assign_(eta.lerp(best[None, :1], rate))

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Lambda ~ Gamma(100, 1/100), as a sum of exponentials."""
        self.check_documents(batch)
        drawn = torch.zeros_like(self.Lambda.raw)
        for _ in range(100):
            drawn -= self.uniform(self.Lambda).clamp_min(1e-30).log()  # 1 is a number of float32
        self.Lambda.assign_(drawn / 100)
        for factor, value in zip((self.alpha, self.eta), self.priors, strict=True):
            if factor is not None:
                factor.assign_(torch.full_like(factor.raw, value))

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        bound = sum(float(term.double().sum()) for term in self.row_terms(batch).values())
        words = float(counts(batch).values().sum())
        return {f"{part}/perplexity_bound": float(np.exp(bound / words)) if words else float("nan")}
