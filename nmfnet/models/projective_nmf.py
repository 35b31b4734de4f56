"""Projective non-negative matrix factorisation."""

from __future__ import annotations

from typing import final

from nmfnet.core.model import Factorization, Parts
from nmfnet.core.scaling import best_scale
from nmfnet.kernels.convex import projective_sums
from nmfnet.kernels.multiplicative import Sums
from nmfnet.types import Batch, Float, Tensor


@final
class ProjectiveNMF(Factorization):
    r"""X ~ X Hᵀ H, with H >= 0: a linear autoencoder whose decoder is its encoder transposed.

    ======  ==================================  ==========  ======================
    symbol  meaning                             code        shape
    ======  ==================================  ==========  ======================
    X       data                                ``batch.x`` n_samples, n_features
    H       components, and encoder transposed  ``H``       n_components, n_features
    W       weights, X Hᵀ                       ``encode``  n_samples, n_components
    ======  ==================================  ==========  ======================

    H tends to rows that do not overlap, hence to a clustering of the features. A new row is
    encoded by one product.

    Parameters
    ----------
    n_components : int, >= 1

    Source: Yuan & Oja 2005; Yang & Oja 2010, "Linear and nonlinear projective NMF".

    Differs from the source: H occurs twice, so the multiplicative exponent is 1/3 (squared error) or
    1/2 (KL), for which the objective provably never increases, instead of 1 with renormalisation.
    """

    def __init__(self, parts: Parts, *, n_components: int = 5) -> None:
        super().__init__(parts, n_components=n_components)
        self.H = self.factor("H", "component", "feature", degree=2)

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return batch.x @ self.H().mT

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.H()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        self.H.assign_(proposal["H"])
        self.H.assign_(self.H() * best_scale(self, batch).sqrt())

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        return projective_sums(batch.x, self.H.raw, beta, batch.mask)
