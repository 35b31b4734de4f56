"""Independent component analysis: codes as independent of each other as a linear map can make them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Literal, final

import numpy as np
import torch
from torch.nn.functional import softplus

from nmfnet.core.constraints import Free
from nmfnet.core.model import Parts
from nmfnet.errors import UserError
from nmfnet.kernels.singular import signs
from nmfnet.models._linear_map import LinearMap
from nmfnet.settings.ranges import Count, Positive
from nmfnet.types import Batch, Float, Tensor, Terms

OF_NORMAL = 0.3745672075
"""Mean of log cosh of a standard normal number."""


@final
class ICA(LinearMap):
    r"""X ~ m + W H with W = (X - m) E, and columns of W of variance 1 as independent as can be.

    ======  =========================================  ==============  ========================
    symbol  meaning                                    code            shape
    ======  =========================================  ==============  ========================
    X       mixtures, of any sign                      ``batch.x``     n_samples, n_features
    m       mean of the training rows                  ``mean``        1, n_features
    H       how each source is mixed                   ``H``           n_components, n_features
    E       how each source is found (the pseudo-      ``E``           n_features, n_components
            inverse of H, for the training rows)
    W       sources, of mean 0 and variance 1          ``encode``      n_samples, n_components
    ======  =========================================  ==============  ========================

    By scikit-learn's FastICA: X is centred, reduced to its principal components and whitened, and the
    rotation is sought that makes the sources least Gaussian. So X_hat is that of PCA; what differs is
    the basis. Sources have no order, scale or sign of their own: they are ordered by the variance that
    they explain, and the largest entry of a row of H is positive.

    The objective is the squared error less the negentropy of all sources over the rows,
    ``Σ_ij (mean_i log cosh W_ij - 0.3746)²``, the contrast that FastICA raises. The error is the same in
    all restarts, so the best restart is the one with the least Gaussian sources. A fixed point of FastICA
    is a rule: it is called converged if FastICA says so, and no descent judges it.

    Parameters
    ----------
    n_components : int, 1 ... min(n_samples - 1, n_features)
    algorithm : {"parallel", "deflation"}
        All sources at once, or one after the other.
    most : int, >= 1
        Iterations of FastICA at most.
    tol : float, > 0
        By how much the rotation may still turn (1 - |cosine|) where FastICA ends.

    Source: Hyvärinen 1999, "Fast and robust fixed-point algorithms for independent component analysis".
    """

    offset = 1
    one_optimum = False
    what = "sources"

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 5,
        algorithm: Literal["parallel", "deflation"] = "parallel",
        most: Count = 1000,
        tol: Positive = 1e-4,
    ) -> None:
        n, f = parts.sizes
        super().__init__(parts, n_components=n_components, limit=min(n - 1, f))
        self.algorithm, self.most, self.tol = algorithm, most, tol
        self.mean = self.factor("mean", "one", "feature", constraint=Free())
        self.E = self.factor("E", "feature", "component", constraint=Free())
        for factor in self.factors.values():
            factor.freeze()  # no descent may move what the rule has found
        self.unfinished: set[int] = set()

    def solve(self, batch: Batch) -> None:
        x = batch.x.double()
        self._check_rank(x)
        found = [self._fast_ica(x, restart) for restart in range(self.n_restarts)]
        for name, values in zip(("mean", "H", "E"), zip(*found, strict=True), strict=True):
            self.factors[name].assign_(torch.stack(values).to(x.device))

    def _check_rank(self, x: Float[Tensor, "n f"]) -> None:
        """Refuse more sources than X has directions: no scale gives the others variance 1."""
        rounding = float(x.norm()) * torch.finfo(self.precision).eps
        rank = int((torch.linalg.svdvals(x - x.mean(0)) > rounding).sum())
        if self.n_components > rank:
            raise UserError(
                f"model.n_components={self.n_components}: the samples lie in {rank} directions around "
                f"their mean, which allow for {rank} sources: "
                + ("lower it" if rank else "there is nothing to tell apart")
            )

    def _fast_ica(self, x: Float[Tensor, "n f"], restart: int) -> tuple[Tensor, Tensor, Tensor]:
        """m, H and E from the start of one restart."""
        from sklearn.decomposition import FastICA
        from sklearn.exceptions import ConvergenceWarning

        fast = FastICA(
            self.n_components,
            algorithm=self.algorithm,
            whiten="unit-variance",
            max_iter=self.most,
            tol=self.tol,
            random_state=int(self.streams[restart]) % 2**32,
            whiten_solver="svd",
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            fast.fit(x.cpu().numpy())
        if any(issubclass(one.category, ConvergenceWarning) for one in caught):
            self.unfinished.add(restart)
            warnings.warn(
                f"FastICA has not come to its end in {self.most} iterations of restart {restart}: raise "
                "model.most or model.tol, or take fewer components",
                stacklevel=2,
            )
        H, E = fast.mixing_.T, fast.components_.T
        order = np.argsort(-np.square(H).sum(1), kind="stable")  # sources have variance 1
        H, E = (torch.from_numpy(np.ascontiguousarray(t)) for t in (H[order], E[:, order]))
        sign = signs(H)
        return torch.from_numpy(fast.mean_)[None], H * sign, E * sign.mT

    def terms(self, batch: Batch) -> Terms:
        W = self.encode(batch).double()
        log_cosh = W.abs() + softplus(-2 * W.abs()) - math.log(2)
        negentropy = (log_cosh.mean(-2) - OF_NORMAL).square().sum(-1)
        return super().terms(batch) | {"contrast": -batch.x.shape[0] * negentropy}

    def ended(self, restart: int) -> bool:
        return restart not in self.unfinished

    def remarks(self, batch: Batch) -> Iterator[str]:
        yield (
            "What FastICA finds is a fixed point: converged says that it has come to its end, and no "
            "descent judges it."
        )
