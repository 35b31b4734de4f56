"""The truncated singular value decomposition: the best low-rank fit of any sign."""

from __future__ import annotations

from typing import Literal, final

import torch

from nmfnet.core.model import Parts
from nmfnet.kernels.csr import to_scipy
from nmfnet.kernels.singular import leading_right, signs
from nmfnet.models._linear_map import LinearMap
from nmfnet.types import Batch


@final
class SVD(LinearMap):
    r"""X ~ W H with W = X Hᵀ = U S, and H the leading right singular vectors of X.

    ======  =========================================  ==============  ========================
    symbol  meaning                                    code            shape
    ======  =========================================  ==============  ========================
    X       data, of any sign                          ``batch.x``     n_samples, n_features
    H       directions, orthonormal, of either sign    ``H``           n_components, n_features
    W       coordinates, U S                           ``encode``      n_samples, n_components
    ======  =========================================  ==============  ========================

    No other matrix of the rank is nearer to X in squared error, so its error is the floor of every
    X ~ W H. X is not centred (:class:`~nmfnet.models.pca.PCA` centres it). Directions are ordered by
    their singular values, and the largest entry of each is positive. New rows are projected.

    Parameters
    ----------
    n_components : int, 1 ... min(n_samples, n_features)
    algorithm : {"lanczos", "randomized"}
        ``lanczos`` is exact. ``randomized`` is quicker for many components of a large X, and a little
        above the optimum where singular values fall slowly, in which case it is not called converged.

    Source: Eckart & Young 1936, "The approximation of one matrix by another of lower rank"; Halko,
    Martinsson & Tropp 2011 (randomized).
    """

    sparse = True

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 5,
        algorithm: Literal["lanczos", "randomized"] = "lanczos",
    ) -> None:
        super().__init__(parts, n_components=n_components, limit=min(parts.sizes))
        self.algorithm = algorithm

    def solve(self, batch: Batch) -> None:
        if self.algorithm == "lanczos":
            self.H.assign_(leading_right(batch.x, self.n_components)[1])
            return
        from sklearn.utils.extmath import randomized_svd

        x = batch.x.double()
        held = to_scipy(x) if x.is_sparse_csr else x.cpu().numpy()
        found = torch.from_numpy(randomized_svd(held, self.n_components, random_state=0)[2])
        self.H.assign_(found * signs(found))
