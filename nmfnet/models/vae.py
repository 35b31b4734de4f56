"""Variational autoencoders: every row has a distribution of codes, which a network decodes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, final

import numpy as np
import torch
from torch import nn

from nmfnet.core.constraints import Free
from nmfnet.core.factor import Factor
from nmfnet.core.laws import Law, Normal, Point
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.types import Batch, Float, Output, Tensor


@final
class VAE(Factorization):
    r"""X ~ s softmax(D(z)) with z ~ N(m(X), v(X)), m and log v a network E; the prior of z is N(0, 1).

    ======  =============================================  =====================  ====================
    symbol  meaning                                        code                   shape
    ======  =============================================  =====================  ====================
    X       counts                                         ``batch.x``            n_samples, n_features
    s       size of a row: ``extra["size"]``, or its sum   ``size``               n_samples, 1
    E_l     weights of encoder layer l, on log(1 + X)      ``E1``, ...            width in, width out
    m       mean of the code                               ``M``                  width in, n_components
    log v   log of its variance                            ``V``                  width in, n_components
    z       code                                           ``law``                n_samples, n_components
    D_l     weights of hidden decoder layer l              ``D1``, ...            width in, width out
    H       last decoder weights                           ``H``                  width in, n_features
    pi      log odds of an extra zero, for ``loss=zinb``   ``P``                  width in, n_features
    ======  =============================================  =====================  ====================

    Every layer has a bias (``E1_bias``, ...), hidden ones are followed by relu. The objective is minus
    the evidence lower bound, ``Σ -E log p(x | z) + KL``, by one draw of z for every row and iteration
    in training and by eight fixed ones where it is judged. Under the squared error X_hat is D(z)
    itself and E reads X as it is.

    ``transform`` gives the mean code m. ``inverse_transform`` is for rows of size 1: shares;
    ``reconstruct`` knows the size of each row. Of a row with missing entries the size is such that
    X_hat sums to the observed total over the observed entries. With ``decoder: []`` the rows of H are
    the components, of any sign: what a unit of the code adds to the log of the mean (before softmax).
    ``train/loss`` is the loss at the mean code, ``train/elbo`` and ``test/elbo`` are the bound, in nats
    per row (for a loss that is no likelihood, up to its constants).

    Parameters
    ----------
    n_components : int, >= 1
    hidden : sequence of int
        Widths of the encoder's hidden layers, from the data inwards; [] = a linear encoder.
    decoder : sequence of int
        Widths of the decoder's hidden layers, from the code outwards; [] = a linear decoder.
    law : {"normal", "point"}
        Whether the code is a normal law, or a point without a prior.
    warm_up : int, >= 0
        Iterations over which the weight of the KL term rises to 1; nothing stops before.

    Source: Kingma & Welling 2014, "Auto-encoding variational Bayes"; Lopez et al. 2018 (scVI); Svensson
    et al. 2020 (LDVAE, the linear decoder); Eraslan et al. 2019 (DCA, the point).

    Differs from the source: no batch normalisation and no dropout, observed sizes, full batches with
    early stopping on held-out rows, and one dispersion per gene.
    """

    linear = False
    heads = ("dropout",)
    multilinear = False  # type: ignore[assignment]
    code = "real"

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 10,
        hidden: Sequence[int] = (128,),
        decoder: Sequence[int] = (128,),
        law: Literal["normal", "point"] = "normal",
        warm_up: int = 400,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        if warm_up < 0:
            raise UserError(f"model.warm_up={warm_up}: it must be >= 0 iterations")
        self.warm_up = warm_up if law == "normal" else 0
        self.counts = parts.loss.beta != 2  # else X_hat may be any number
        self.has_components = not decoder
        *inwards, code = ["feature", *self._widths("hidden", hidden), "component"]
        outwards = [code, *self._widths("decoder", decoder)]
        self.E = self._layers("E", inwards)
        self.M = self._layer("M", inwards[-1], code)
        self.V = self._layer("V", inwards[-1], code) if law == "normal" else None
        self.D = self._layers("D", outwards)
        self.H = self._layer("H", outwards[-1], "feature")
        asked = "dropout" in parts.loss.heads
        self.P = self._layer("P", outwards[-1], "feature") if asked else None

    def _widths(self, option: str, widths: Sequence[int]) -> list[str]:
        """Axes of hidden layers, by name."""
        if bad := [width for width in widths if width < 1]:
            raise UserError(f"model.{option} has a width of {bad[0]}: every width must be >= 1")
        names = [f"{option} {i}" for i in range(1, len(widths) + 1)]
        self.axes |= dict(zip(names, widths, strict=True))
        return names

    def _layers(self, name: str, axes: Sequence[str]) -> nn.ModuleList:
        return nn.ModuleList(
            self._layer(f"{name}{i}", a, b) for i, (a, b) in enumerate(pairwise(axes), start=1)
        )

    def _layer(self, name: str, width_in: str, width_out: str) -> _Affine:
        return _Affine(
            self.factor(name, width_in, width_out, constraint=Free()),
            self.factor(f"{name}_bias", "one", width_out, constraint=Free()),
        )

    # ------------------------------------------------------------------ the model
    def law(self, batch: Batch) -> Law:
        h = torch.log1p(batch.x) if self.counts else batch.x
        for layer in self.E:
            h = torch.relu(layer(h))
        return Point(self.M(h)) if self.V is None else Normal(self.M(h), self.V(h))

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.law(batch).mean

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """X_hat of rows of size 1."""
        return self._unsized(self._inner(W))

    def outputs(self, code: Float[Tensor, "*r n k"], batch: Batch) -> dict[str, Output]:
        h = self._inner(code)
        mean = self._unsized(h)
        if self.counts:
            mean = self.size(batch, mean) * mean
        heads = {} if self.P is None else {"dropout": self.P(h)}
        return {"x": Output(mean, heads)}

    def size(self, batch: Batch, share: Float[Tensor, "*r n f"]) -> Float[Tensor, "*#r n 1"]:
        """What every row sums to, were all of it observed."""
        if "size" in batch.extra:
            return batch.extra["size"].reshape(-1, 1)
        total = batch.x.sum(-1, keepdim=True)
        if batch.mask is None:
            return total
        return total / ((batch.mask > 0) * share).sum(-1, keepdim=True).clamp_min(1e-12)

    def _inner(self, h: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n h"]:
        for layer in self.D:
            h = torch.relu(layer(h))
        return h

    def _unsized(self, h: Float[Tensor, "*r n h"]) -> Float[Tensor, "*r n f"]:
        return self.H(h).softmax(-1) if self.counts else self.H(h)

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H.weights()

    # ------------------------------------------------------------------ fit and numbers
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Glorot's uniform weights; X_hat starts near the mean of the rows."""
        for name, factor in self.own_factors().items():
            bound = (6 / sum(factor.raw.shape[1:])) ** 0.5  # Glorot & Bengio 2010, eq. (16)
            scale = 0 if name.endswith("_bias") else bound
            factor.assign_(scale * (2 * self.uniform(factor) - 1))
        mean = batch.x.mean(-2, keepdim=True)
        if batch.mask is not None:
            seen = batch.mask > 0
            mean = (batch.x * seen).sum(-2, keepdim=True) / seen.sum(-2, keepdim=True)
        if self.counts:
            mean = mean.clamp_min(1e-3 * float(mean.mean())).clamp_min(1e-12).log()
        self.H.bias.assign_(mean)

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        entries = part == "test" and bool((batch.index >= 0).all())  # of rows that were trained on
        if self.V is None or entries:
            return {}
        rows = sum(term.double() for term in self.row_terms(batch).values())
        return {f"{part}/elbo": -float(torch.as_tensor(rows).mean())}

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        profiles = rng.dirichlet(np.full(12, 0.5), size=3)[np.arange(30) % 3]
        mean = rng.uniform(50, 150, (30, 1)) * (0.9 * profiles + 0.1 / 12)
        return {"X": rng.negative_binomial(3, 3 / (3 + mean)).astype(float)}


@final
class _Affine(nn.Module):
    """``h weights + bias``."""

    def __init__(self, weights: Factor, bias: Factor) -> None:
        super().__init__()
        self.weights, self.bias = weights, bias

    def forward(self, h: Tensor) -> Tensor:
        return h @ self.weights() + self.bias()
