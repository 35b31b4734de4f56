"""Principal component analysis: the best low-rank fit of any sign around the mean."""

from __future__ import annotations

from typing import final

from nmfnet.core.constraints import Free
from nmfnet.core.model import Parts
from nmfnet.kernels.singular import leading_right
from nmfnet.models._linear_map import LinearMap
from nmfnet.types import Batch


@final
class PCA(LinearMap):
    r"""X ~ m + W H with W = (X - m) Hᵀ, m the mean row and H the leading directions of variance.

    ======  =========================================  ==============  ========================
    symbol  meaning                                    code            shape
    ======  =========================================  ==============  ========================
    X       data, of any sign                          ``batch.x``     n_samples, n_features
    m       mean of the training rows                  ``mean``        1, n_features
    H       principal axes, orthonormal                ``H``           n_components, n_features
    W       scores                                     ``encode``      n_samples, n_components
    ======  =========================================  ==============  ========================

    On photographs of faces the rows of H are the eigenfaces. The rank of X_hat is n_components + 1, so no
    svd of n_components fits better. Axes are ordered by the variance along them, and the largest entry of
    each is positive. New rows are projected.

    Parameters
    ----------
    n_components : int, 1 ... min(n_samples - 1, n_features)

    Source: Pearson 1901, "On lines and planes of closest fit to systems of points in space"; Turk &
    Pentland 1991, "Eigenfaces for recognition".
    """

    offset = 1
    what = "principal components"

    def __init__(self, parts: Parts, *, n_components: int = 5) -> None:
        n, f = parts.sizes
        super().__init__(parts, n_components=n_components, limit=min(n - 1, f))
        self.mean = self.factor("mean", "one", "feature", constraint=Free())

    def solve(self, batch: Batch) -> None:
        m = batch.x.double().mean(0, keepdim=True)
        self.factors["mean"].assign_(m)
        self.H.assign_(leading_right(batch.x.double() - m, self.n_components)[1])
