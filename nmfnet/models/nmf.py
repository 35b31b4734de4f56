"""Non-negative matrix factorisation."""

from __future__ import annotations

from typing import final

import torch

from nmfnet.core.constraints import ANY
from nmfnet.core.factor import Factor
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.multiplicative import Sums, nmf_sums_H, nmf_sums_W
from nmfnet.kernels.nnls import least_squares
from nmfnet.kernels.sparse import entries_of, sparse_sums, transposed
from nmfnet.types import Batch, Float, Tensor


@final
class NMF(Factorization):
    r"""X ~ W H, with W >= 0 and H >= 0.

    ======  ==================================  ==========  ======================
    symbol  meaning                             code        shape
    ======  ==================================  ==========  ======================
    X       data                                ``batch.x`` n_samples, n_features
    W       weights, a free row per sample      ``W``       n_samples, n_components
    H       components                          ``H``       n_components, n_features
    ======  ==================================  ==========  ======================

    W is a table, so new rows get the W that minimises the loss for the fitted H. Under the squared error
    a factor may have any sign (``constraint.H=free``, semi-NMF), and then so may X.

    Parameters
    ----------
    n_components : int, >= 1

    Source: Lee & Seung 1999 and 2001; Paatero & Tapper 1994; Ding, Li & Jordan 2010 (semi-NMF).
    """

    inductive = False
    bilinear = True
    sparse = True

    def __init__(self, parts: Parts, *, n_components: int = 5) -> None:
        super().__init__(parts, n_components=n_components)
        self.W = self.factor("W", "sample", "component")
        self.H = self.factor("H", "component", "feature")
        free = [factor.constraint.bounds == ANY for factor in (self.W, self.H)]
        self.signed, self.code = any(free), "real" if free[0] else "nonnegative"
        if self.signed and not self.loss.real:
            raise UserError(
                f"a factor of any sign makes X_hat negative, and loss={self.loss.name} needs X_hat >= 0: "
                "use loss=frobenius, huber or l21, or constraint=project"
            )

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """A factor of any sign begins at its least squares: from the wrong sign the other falls to 0."""
        super().start(proposal, batch)
        free = [name for name, factor in self.factors.items() if factor.constraint.bounds == ANY]
        if len(free) != 1 or free[0] in self.given:
            return
        for restart in range(self.n_restarts):
            with self.restarts(restart):
                self._least_squares(free[0], batch)

    def _least_squares(self, name: str, batch: Batch) -> None:
        """Set a factor of the restart that the model now holds, of any sign, to where X_hat is best."""
        x, W, H = batch.x, self.W()[: batch.x.shape[0]], self.H()
        if name == "W":
            rows = least_squares(H @ H.mT, x @ H.mT)
            self.W.assign_(rows[torch.arange(self.sizes.n_samples, device=x.device) % len(rows)])
            return
        right = x.mT @ W if self.transpose is None else transposed(x, self.transpose) @ W
        self.H.assign_(least_squares(self.world.total(W.mT @ W), self.world.total(right)).mT)

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.H()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def decode_at(self, code: Float[Tensor, "*r n k"], batch: Batch) -> Float[Tensor, "*r e"]:
        return entries_of(batch.x, code, self.H())

    def scale_pair(self) -> tuple[Factor, Factor] | None:
        return self.W, self.H

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        x, mask, W, H = batch.x, batch.mask, self.factors["W"].raw, self.factors["H"].raw
        if x.is_sparse_csr:
            return sparse_sums(name, x, self.transpose, W, H, beta, mask is not None)
        return (nmf_sums_W if name == "W" else nmf_sums_H)(x, W, H, beta, mask)
