"""Convolutive non-negative matrix factorisation: components that last several rows."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from torch.nn import functional as F

from nmfnet.core.model import Factorization, Parts
from nmfnet.core.scaling import best_scale
from nmfnet.errors import UserError
from nmfnet.kernels.multiplicative import Sums, nmf_sums_H, nmf_sums_W
from nmfnet.types import Batch, Float, Tensor

TEMPLATE_ROW = "template row"
"""The axis of the rows of all templates: tap t of component j is row ``j taps + t``."""


@final
class NMFD(Factorization):
    r"""X ~ Σ_t shift_t(W) T_t: every component is a template of ``taps`` rows, all entries >= 0.

    Rows of X follow each other in time (frames of a spectrogram). Row i of X_hat is
    ``Σ_j Σ_t W[i - t, j] T[j, t]``: where W[i, j] is large, template j starts.

    ======  ====================================  =============  ==============================
    symbol  meaning                               code           shape
    ======  ====================================  =============  ==============================
    X       data, rows in order                   ``batch.x``    n_samples, n_features
    W       when each template starts, how loud   ``W``          n_samples, n_components
    T       templates, one below the other        ``T``          n_components taps, n_features
    Σ_t T   the spectrum of each template         components     n_components, n_features
    ======  ====================================  =============  ==============================

    New rows are a clip of their own: its W minimises the loss over all rows together. Nothing is known
    before the first row, so the first ``taps - 1`` rows are explained by what starts in them. A template
    may come out shifted, with W shifted the other way.

    Parameters
    ----------
    n_components : int, >= 1
    taps : int, >= 1
        Rows of a template; 1 = NMF.

    Source: Smaragdis 2004, "Non-negative matrix factor deconvolution", eq. (3) (KL); O'Grady &
    Pearlmutter 2006 for other divergences.

    Differs from the source: time runs down the rows; W is updated by the sums over all taps at once, as
    the gradient has them, in place of the mean of the updates of single taps, so that the objective
    never rises.
    """

    inductive = False
    shardable = False
    rows_independent = False
    ordered = True
    linear = False

    def __init__(self, parts: Parts, *, n_components: int = 5, taps: int = 8) -> None:
        super().__init__(parts, n_components=n_components)
        if not 1 <= taps <= parts.sizes.n_samples:
            raise UserError(
                f"model.taps={taps}: it must be at least 1 and at most the {parts.sizes.n_samples} rows"
            )
        self.taps = taps
        self.axes[TEMPLATE_ROW] = n_components * taps
        self.W = self.factor("W", "sample", "component")
        self.T = self.factor("T", TEMPLATE_ROW, "feature")

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return self.sounding(W) @ self.T()

    def sounding(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n t"]:
        """How loud every row of every template is at a time, so that X_hat is this times T."""
        n, before = W.shape[-2], self.taps - 1
        padded = F.pad(W, (0, 0, before, 0))
        shifted = [padded[..., before - t : before - t + n, :] for t in range(self.taps)]
        return torch.stack(shifted, -1).flatten(-2)

    def sums(self, name: str, batch: Batch, beta: float) -> Sums:
        """Those of NMF; W[i] is heard in row t of its templates at time i + t."""
        S, T = self.sounding(self.encode(batch)), self.T()
        if name == "T":
            return nmf_sums_H(batch.x, S, T, beta, batch.mask)
        neg, pos = nmf_sums_W(batch.x, S, T, beta, batch.mask)
        return self._gathered(neg), self._gathered(pos.expand_as(neg))

    def _gathered(self, heard: Float[Tensor, "*r n t"]) -> Float[Tensor, "*r n k"]:
        n, taps = heard.shape[-2], self.taps
        later = F.pad(heard, (0, 0, 0, taps - 1))
        return sum((later[..., t : t + n, t::taps] for t in range(1, taps)), later[..., :n, ::taps])

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.T().unflatten(-2, (self.n_components, self.taps)).sum(-2)

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        self.W.assign_(self.uniform(self.W))
        self.T.assign_(self.uniform(self.T))
        self.T.assign_(self.T() * best_scale(self, batch))

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        W = rng.exponential(size=(40, 3)) * (rng.random((40, 3)) < 0.2)
        T = rng.exponential(size=(3, 8, 12))
        X = sum(np.pad(W, ((t, 0), (0, 0)))[:40] @ T[:, t] for t in range(8))
        return {"X": X + 0.1}
