"""Convex non-negative matrix factorisation, which is the linear non-negative autoencoder."""

from __future__ import annotations

from typing import Literal, final

import torch

from nmfnet.core.factor import Factor
from nmfnet.core.model import Factorization, Parts
from nmfnet.core.scaling import best_scale
from nmfnet.kernels.convex import convex_sums_A, projective_sums, signed_convex_sums
from nmfnet.kernels.multiplicative import Sums, nmf_sums_W
from nmfnet.types import Batch, Float, Tensor


@final
class ConvexNMF(Factorization):
    r"""X ~ W A X with W, A >= 0: components are non-negative combinations of samples.

    With ``convex_axis: features`` the same model of the transpose, ``X ~ X G H``.

    ======  ======================================  ===========  ======================
    symbol  meaning                                 code         shape
    ======  ======================================  ===========  ======================
    X       data, of any sign under loss=frobenius  ``batch.x``  n_samples, n_features
    A       weights of the samples in components    ``A``        n_components, n_samples
    W       weights of the components in samples    ``W``        n_samples, n_components
    H = AX  components                              components   n_components, n_features
    G       encoder (``convex_axis: features``)     ``G``        n_features, n_components
    H       decoder (``convex_axis: features``)     ``H``        n_components, n_features
    ======  ======================================  ===========  ======================

    ``X G H`` is an autoencoder with encoder G and decoder H, no bias and no activation: see
    ``autoencoder`` with ``hidden: []``, which has the same loss, gradients and feasible set. The
    published AE-NMF takes the features as its rows, so in this orientation it is
    ``convex_axis: samples``.

    Parameters
    ----------
    n_components : int, >= 1
    convex_axis : {"samples", "features"}
        What the basis is tied to. "samples": H lies in the cone of the rows of X, and a new row gets
        the W that minimises the loss. "features": W = X G, so a new row is encoded by one product.
    tied : bool
        W = Aᵀ (samples) or H = Gᵀ (features): projective NMF, a strict subset.
    square_root : bool
        Exponent 1/2 under the squared error, the rule of the source; it is used in any case when X
        has negative entries. False: exponent 1, monotone too for X >= 0, about half the iterations.

    Source: Ding, Li & Jordan 2010, "Convex and semi-nonnegative matrix factorizations", section 3;
    Egendal et al. 2024 for the autoencoder.

    Differs from the source: the products are reassociated so that nothing of n x n is formed; KL uses
    the EM rule, which has no square root.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 5,
        convex_axis: Literal["samples", "features"] = "samples",
        tied: bool = False,
        square_root: bool = True,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        f = parts.sizes.n_features
        self.by_sample, self.tied, self.signed = convex_axis == "samples", tied, not tied
        self.inductive = self.shardable = not self.by_sample
        degree, power = 2 if tied else 1, 0.5 if square_root and self.loss.beta == 2 else 1.0
        if self.by_sample:
            self.A = self.factor("A", "component", "sample", degree=degree, max_exponent=power)
            if not tied:
                self.W = self.factor("W", "sample", "component", max_exponent=power)
            # H = A X depends on the training rows: kept, so that a saved model needs no data
            self.register_buffer("basis", torch.zeros(self.n_restarts, n_components, f))
            self.basis: Tensor
        else:
            self.G = self.factor("G", "feature", "component", degree=degree, max_exponent=power)
            if not tied:
                self.H = self.factor("H", "component", "feature", max_exponent=power)
        self.x: Tensor | None = None  # the training rows, while there are any
        self.negative_data = False

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        if not self.by_sample:
            return batch.x @ self.G()
        table = self.A().mT if self.tied else self.W()
        return table[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.components()

    def code_factors(self) -> dict[str, Factor]:
        return {"A": self.A} if self.by_sample and self.tied else super().code_factors()

    def components(self) -> Float[Tensor, "*r k f"]:
        if self.by_sample:
            if self.x is None:
                return self.basis
            A = self.A()
            x = self.x.to(A.dtype)  # codes are searched in float64
            # one by one, so that no bit depends on the other restarts
            return A @ x if A.ndim == 2 else torch.stack([a @ x for a in A])
        return self.G().mT if self.tied else self.H()

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        self.x, self.negative_data = batch.x, bool((batch.x < 0).any())
        weights = proposal["W"] / proposal["W"].sum(-2, keepdim=True).clamp_min(1e-12)
        values = {"A": weights.mT, "W": proposal["W"], "H": proposal["H"], "G": proposal["H"].mT}
        for name, factor in self.own_factors().items():
            factor.assign_(values[name])
            if self.negative_data:
                factor.max_exponent = 0.5
        last = list(self.own_factors().values())[-1]
        last.assign_(last() * best_scale(self, batch) ** (1 / last.degree))

    def scale_pair(self) -> tuple[Factor, Factor] | None:
        if self.tied:
            return None
        return (self.W, self.A) if self.by_sample else (self.G, self.H)

    def convex_pair(self) -> tuple[bool, Factor, Factor] | None:
        if self.tied:
            return None
        return (True, self.A, self.W) if self.by_sample else (False, self.G, self.H)

    def end(self, batch: Batch) -> None:
        if self.by_sample:
            self.basis.copy_(self.components())

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        # the features case is the samples case of the transpose: Xᵀ ~ Hᵀ (Gᵀ Xᵀ)
        x, mask = batch.x, batch.mask
        if not self.by_sample:
            x, mask = x.mT, None if mask is None else mask.mT
        A = self.A.raw if self.by_sample else self.G.raw.mT
        if self.tied:
            neg, pos = projective_sums(x.mT, A, beta, None if mask is None else mask.mT)
        else:
            W = self.W.raw if self.by_sample else self.H.raw.mT
            of = "A" if name in ("A", "G") else "W"
            if beta == 2 and self.negative_data:
                neg, pos = signed_convex_sums(x, W, A, of, mask)
            elif of == "A":
                neg, pos = convex_sums_A(x, W, A, beta, mask)
            else:
                neg, pos = nmf_sums_W(x, W, A @ x, beta, mask)
        return (neg, pos) if self.by_sample else (neg.mT, pos.mT)
