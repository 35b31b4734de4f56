"""Auxiliary variational autoencoder: shares of types in spots, from lists of the types' marker genes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, final

import numpy as np
import torch
from torch import nn

from nmfnet.core.constraints import Free
from nmfnet.core.laws import LogisticNormal
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.models._layers import Affine, axes_between, start_glorot
from nmfnet.settings.ranges import Natural, Positive
from nmfnet.types import Batch, Float, Output, Tensor

ENDS = (0.05, 0.99)
"""Quantiles of the spots at which a signature is said to be absent, and alone."""

LEAST = 0.01
"""Smallest share that a signature's score stands for, before shares are scaled to sum 1."""


@final
class AVAE(Factorization):
    r"""X ~ s softmax(D(c)) with c ~ Dirichlet(alpha A(X)), A by signatures and q(c) by a network E.

    ======  ========================================  =======================  ========================
    symbol  meaning                                   code                     shape
    ======  ========================================  =======================  ========================
    X       counts                                    ``batch.x``              n_samples, n_features
    S       known signatures: 1 at genes of a type    ``signatures``           n_components, n_features
    A       shares by the scores of the signatures    ``shares_by_signature``  n_samples, n_components
    s       sum of a row                              ``outputs``              n_samples, 1
    E_l     weights of encoder layer l, then relu     ``E1``, ...              width in, width out
    m       what E adds to the mean of log c          ``M``                    width in, n_components
    log v   log of its variance                       ``V``                    width in, n_components
    c       shares of the types in a spot, of sum 1   ``law``                  n_samples, n_components
    D_l     weights of hidden decoder layer l         ``D1``, ...              width in, width out
    H       last decoder weights                      ``H``                    width in, n_features
    ======  ========================================  =======================  ========================

    The score of a signature in a spot is the share of its genes in the spot's counts (each gene
    weighted as in S); it is 0 at its 5 % quantile over the training spots and 1 at its 99 % quantile, and
    scores are scaled to sum 1: A. The prior of c is the Dirichlet with mean A and concentration alpha,
    as a logistic normal by the Laplace approximation. The objective is minus the evidence lower bound, by
    one draw for every spot and iteration in training and by eight fixed ones where it is judged.

    With ``decoder: []`` X ~ s c softmax(H) instead: spots are mixtures of the types' profiles, the rows
    of softmax(H), which are the components. They start at the mean profiles of the spots weighted by A.

    Parameters
    ----------
    n_components : int, optional
        The signatures; by default what the reference has.
    reference : str, optional
        File or data set of the signatures by genes, >= 0, joined by name; only genes that it has are
        used, so it needs a column for each that should be explained. By default what the data come with.
    overlap : float in (0, 1]
        Least share of the reference's genes that the data must have.
    hidden : sequence of int
        Widths of the encoder's hidden layers.
    decoder : sequence of int
        Widths of the decoder's hidden layers; [] = mixtures of profiles.
    alpha : float, > 0
        Concentration of the prior: how many units of evidence the signatures are worth.
    warm_up : int, >= 0
        Iterations over which the weight of the KL term rises to 1; nothing stops before.

    Source: He et al. 2025, "Starfysh integrates spatial transcriptomic and histologic data to reveal
    heterogeneous tumor-immune hubs", methods (auxiliary variables by signatures, Dirichlet shares,
    negative binomial counts).

    Differs from the source: c is decoded itself, without a second normal code given c; a logistic normal
    in place of the Dirichlet; scores of signatures between quantiles in place of anchor spots; no image.
    """

    linear = False
    code = "simplex"
    multilinear = False  # type: ignore[assignment]
    named_components = True

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int | None = None,
        reference: str | None = None,
        overlap: float = 0.5,
        hidden: Sequence[int] = (256,),
        decoder: Sequence[int] = (),
        alpha: Positive = 10.0,
        warm_up: Natural = 100,
    ) -> None:
        known = parts.axes.get("reference")
        if known is None:
            raise UserError(
                "model=avae needs signatures: set model.reference=FILE or data.reference, or in Python "
                'nmfnet.fit(X, "avae", H=array)'
            )
        if n_components not in (None, known):
            raise UserError(
                f"model.n_components={n_components}, but the reference has {known} signatures: leave "
                "model.n_components out"
            )
        if known < 3:
            raise UserError(
                f"model=avae needs 3 signatures at least, and the reference has {known}"
            )
        super().__init__(parts, n_components=known)
        self.alpha, self.warm_up, self.has_components = alpha, warm_up, not decoder
        *inwards, code = axes_between(self, hidden)
        self.axes |= {f"decoder {i}": width for i, width in enumerate(decoder, start=1)}
        outwards = [code, *(f"decoder {i}" for i in range(1, len(decoder) + 1))]
        self.E, self.D = (
            nn.ModuleList(
                self._affine(f"{name}{i}", a, b) for i, (a, b) in enumerate(pairwise(axes), start=1)
            )
            for name, axes in (("E", inwards), ("D", outwards))
        )
        self.M, self.V = (self._affine(name, inwards[-1], code) for name in ("M", "V"))
        self.H = self._affine("H", outwards[-1], "feature", bias=bool(decoder))
        r, k, f = self.n_restarts, known, self.sizes.n_features
        for name, shape in {"signatures": (k, f), "low": (1, k), "high": (1, k)}.items():
            self.register_buffer(name, torch.ones(r, *shape))
        self.signatures: Tensor
        self.low: Tensor  # scores at which the signatures are absent
        self.high: Tensor

    def _affine(self, name: str, width_in: str, width_out: str, bias: bool = True) -> Affine:
        weights = self.factor(name, width_in, width_out, constraint=Free())
        shift = self.factor(f"{name}_bias", "one", width_out, constraint=Free()) if bias else None
        return Affine(weights, shift, None, None)

    # ------------------------------------------------------------------ the model
    def law(self, batch: Batch) -> LogisticNormal:
        h = torch.log1p(batch.x)
        for layer in self.E:
            h = torch.relu(layer(h))
        alpha = self.alpha * self.shares_by_signature(batch.x)
        logs = alpha.log()
        mean = logs - logs.mean(-1, keepdim=True) + self.M(h)
        return LogisticNormal(mean, self.V(h), alpha)

    def shares_by_signature(self, x: Float[Tensor, "n f"]) -> Float[Tensor, "*r n k"]:
        """A: what the signatures alone say of spots."""
        spread = (self.high - self.low).clamp_min(1e-12)
        scores = ((self._scores(x) - self.low) / spread).clamp_min(LEAST)
        return scores / scores.sum(-1, keepdim=True)

    def _scores(self, x: Float[Tensor, "n f"]) -> Float[Tensor, "*r n k"]:
        return (x / x.sum(-1, keepdim=True).clamp_min(1)) @ self.signatures.mT

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.law(batch).mean

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """Shares of the genes."""
        if self.has_components:
            return W @ self.components()
        for layer in self.D:
            W = torch.relu(layer(W))
        return self.H(W).softmax(-1)

    def outputs(self, code: Float[Tensor, "*r n k"], batch: Batch) -> dict[str, Output]:
        return {"x": Output(batch.x.sum(-1, keepdim=True) * self.decode(code))}

    def components(self) -> Float[Tensor, "*r k f"]:
        """Profiles of the types, rows of sum 1."""
        return self.H.weights().softmax(-1)

    def shares_of(self, code: Float[Tensor, "*r n k"], batch: Batch) -> Float[Tensor, "*r n k"]:
        seen = batch.x.sum(-1, keepdim=True) > 0
        return torch.where(seen, code.double(), torch.nan)

    # ------------------------------------------------------------------ fit and numbers
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Glorot's uniform weights, with which q(c) begins at its prior; profiles by the signatures."""
        known = batch.context["reference"]
        if bool((known < 0).any()) or bool((known.sum(-1) == 0).any()):
            raise UserError("model=avae needs signatures >= 0 of which none is empty")
        if empty := int((batch.x.sum(-1) == 0).sum()):
            raise UserError(
                f"{empty} samples have no counts, of which model=avae can say nothing: leave them out "
                "(data=spots does, by data.min_counts)"
            )
        start_glorot(self)
        self.signatures.copy_(known)
        scores = self._scores(batch.x)
        for held, q in zip((self.low, self.high), ENDS, strict=True):
            held.copy_(scores.quantile(q, dim=-2, keepdim=True))
        self.M.weights.assign_(torch.zeros_like(self.M.weights.raw))
        self.V.shift(-2 * torch.ones_like(self.low))
        shares = batch.x / batch.x.sum(-1, keepdim=True)
        floor = 0.1 * shares.mean(-2, keepdim=True) + 1e-8
        if self.has_components:
            A = self.shares_by_signature(batch.x).square()
            self.H.weights.assign_((A.mT @ shares / A.sum(-2)[..., None] + floor).log())
        else:
            self.H.shift(
                (shares.mean(-2, keepdim=True) + floor).log().expand(*self.low.shape[:-1], -1)
            )

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        rows = torch.stack([term.double() for term in self.row_terms(batch).values()]).sum(0)
        return {f"{part}/elbo": -float(rows.mean())}

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Spots of three types with four marker genes each, and these signatures."""
        signatures = np.kron(np.eye(3), np.ones(4))
        profiles = (0.05 + signatures) / (0.05 + signatures).sum(1, keepdims=True)
        mean = 300 * rng.dirichlet(np.ones(3), 30) @ profiles
        return {"X": rng.poisson(mean).astype(float), "H": signatures}
