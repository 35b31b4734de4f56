"""Non-smooth non-negative matrix factorisation: sparse parts and codes, a smoothing between them."""

from __future__ import annotations

from typing import Annotated, final

from nmfnet.core.model import Factorization, Parts
from nmfnet.kernels.multiplicative import Sums, nmf_sums_H, nmf_sums_W
from nmfnet.settings.ranges import Range
from nmfnet.types import Batch, Float, Tensor


@final
class NsNMF(Factorization):
    r"""X ~ W S B with S = (1 - θ) I + (θ / k) 1 1ᵀ, and W >= 0, B >= 0.

    ======  ====================================  ============  ==========================
    symbol  meaning                               code          shape
    ======  ====================================  ============  ==========================
    X       data                                  ``batch.x``   n_samples, n_features
    W       codes, a free row per sample          ``W``         n_samples, n_components
    S       smoothing, fixed                      ``S``         n_components, n_components
    B       sparse parts                          ``B``         n_components, n_features
    S B     what a unit of a code adds to X_hat   components    n_components, n_features
    ======  ====================================  ============  ==========================

    S mixes every code, or every part, with the mean of all. What is smoothed must be sharper to fit the
    same X, so W and B become sparse together, the more the larger θ is; the fit becomes worse. In files
    the sparse parts are ``B``, and ``H`` is S B.

    Parameters
    ----------
    n_components : int, >= 1
    smoothing : float in [0, 1)
        θ; 0 = NMF.

    Source: Pascual-Montano, Carazo, Kochi, Lehmann & Pascual-Marqui 2006, "Nonsmooth nonnegative matrix
    factorization (nsNMF)", eq. (5) and (6).
    """

    inductive = False

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 5,
        smoothing: Annotated[float, Range(0, below=1)] = 0.5,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.smoothing = smoothing
        self.W = self.factor("W", "sample", "component")
        self.B = self.factor("B", "component", "feature")

    def smooth(self, B: Float[Tensor, "*r k f"]) -> Float[Tensor, "*r k f"]:
        """S B, and (S Wᵀ)ᵀ = W S for the transpose."""
        return (1 - self.smoothing) * B + self.smoothing * B.mean(-2, keepdim=True)

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.components()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.smooth(self.B())

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        self.W.assign_(proposal["W"])
        self.B.assign_(proposal["H"])

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        x, mask, W, B = batch.x, batch.mask, self.W.raw, self.B.raw
        if name == "W":
            return nmf_sums_W(x, W, self.smooth(B), beta, mask)
        return nmf_sums_H(x, self.smooth(W.mT).mT, B, beta, mask)
