"""k-means: vector quantisation, the factorisation with a single 1 in each row of W."""

from __future__ import annotations

import warnings
from typing import Any, final

import numpy as np
import torch
from torch.nn import functional as F

from nmfnet.core.constraints import Free
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.csr import to_scipy
from nmfnet.models._graphs import nearest, seeds
from nmfnet.types import Batch, Float, Int, Tensor


@final
class KMeans(Factorization):
    r"""X ~ W H with a single 1 in each row of W: every sample is the centre of its cluster.

    ======  =========================================  ==============  ========================
    symbol  meaning                                    code            shape
    ======  =========================================  ==============  ========================
    X       data, of any sign                          ``batch.x``     n_samples, n_features
    H       centres of the clusters                    ``H``           n_components, n_features
    W       the nearest centre of a sample, 0 or 1     ``encode``      n_samples, n_components
    ======  =========================================  ==============  ========================

    The squared error is the sum of squared distances to the nearest centre, halved; with ``P = W (Wᵀ
    W)^-1/2`` it is ``½ (tr X Xᵀ - tr Pᵀ X Xᵀ P)``, so k-means maximises what symmetric NMF of X Xᵀ
    maximises with P >= 0 orthonormal. Each restart starts from k-means++ of its own and follows
    Lloyd's rule (of scikit-learn) to its end. A new sample goes to its nearest centre.

    Parameters
    ----------
    n_components : int, 1 ... n_samples
        Clusters.

    Source: Lloyd 1982, "Least squares quantization in PCM"; Arthur & Vassilvitskii 2007, "k-means++";
    Ding, He & Simon 2005, section 2 (as a factorisation).
    """

    sparse = True
    shardable = False
    signed = True
    code = "simplex"
    multilinear = False  # type: ignore[assignment]

    def __init__(self, parts: Parts, *, n_components: int = 5) -> None:
        super().__init__(parts, n_components=n_components)
        if n_components > parts.sizes.n_samples:
            raise UserError(
                f"model.n_components={n_components}: there are {parts.sizes.n_samples} samples, and no "
                "more clusters than these"
            )
        if parts.loss.beta != 2:
            raise UserError(
                f"loss={parts.loss.name}: k-means is of squared distances, so use loss=frobenius; for "
                "clusters of counts use model=mixture_of_unigrams"
            )
        self.H = self.factor("H", "component", "feature", constraint=Free())

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return F.one_hot(nearest(batch.x, self.H()), self.n_components).to(self.precision)

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.H()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        if batch.mask is not None:
            raise UserError(
                "model=kmeans needs all entries of X, and some are missing, held out or weighted: use "
                "model=nmf"
            )
        from sklearn.cluster import kmeans_plusplus

        x = _held(batch.x)
        drawn = [
            kmeans_plusplus(x, self.n_components, random_state=s) for s in seeds(self.generators)
        ]
        chosen = [rows if isinstance(rows, np.ndarray) else rows.toarray() for rows, _ in drawn]
        self.H.assign_(torch.from_numpy(np.stack(chosen)))

    def solve(self, batch: Batch) -> None:
        """Lloyd's rule from where every restart starts."""
        from sklearn.cluster import KMeans as Lloyd
        from sklearn.exceptions import ConvergenceWarning

        x, found = _held(batch.x), []
        for centres in self.H().cpu().numpy():
            most = self.budget.max_iter
            rule = Lloyd(self.n_components, init=centres, n_init=1, max_iter=most, tol=0.0)
            with warnings.catch_warnings():  # some centres are copies where rows are
                warnings.simplefilter("ignore", ConvergenceWarning)
                found.append(torch.from_numpy(rule.fit(x).cluster_centers_))
        self.H.assign_(torch.stack(found).to(batch.x.device))

    def clusters(self, code: Float[Tensor, "*r n k"]) -> Int[Tensor, "*r n"] | None:
        return code.argmax(-1)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"X": 4 * np.eye(3, 8)[np.arange(30) % 3] + rng.standard_normal((30, 8))}


def _held(x: Tensor) -> Any:
    return to_scipy(x) if x.is_sparse_csr else x.cpu().numpy()
