"""Latent semantic indexing: the truncated singular value decomposition of a term-document matrix."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from nmfnet.core.model import Parts
from nmfnet.kernels.singular import leading_right
from nmfnet.models._documents import documents
from nmfnet.models._linear_map import LinearMap
from nmfnet.types import Batch


@final
class LSI(LinearMap):
    r"""X ~ W H with W = X Hᵀ and H the leading right singular vectors of X, rows of length 1.

    ======  =========================================  ==============  ========================
    symbol  meaning                                    code            shape
    ======  =========================================  ==============  ========================
    X       counts or tf-idf, of any sign              ``batch.x``     n_samples, n_features
    H       directions, orthonormal, of either sign    ``H``           n_components, n_features
    W       coordinates of a document, U S             ``encode``      n_samples, n_components
    ======  =========================================  ==============  ========================

    No other matrix of the rank is nearer to X in squared error (Eckart & Young): a closed form, by
    scipy's sparse singular value decomposition. X is not centred, so the first direction is close to
    the mean document. The sign of a direction is such that its largest entry is positive. New
    documents are projected: they need no inference. Directions are ordered by their singular values,
    and are no distributions of words.

    Parameters
    ----------
    n_components : int, 1 ... min(n_samples, n_features)

    Source: Deerwester, Dumais, Furnas, Landauer & Harshman 1990, "Indexing by latent semantic analysis".
    """

    sparse = True
    instead = "model=plsi (counts under their likelihood) or model=nmf"

    def __init__(self, parts: Parts, *, n_components: int = 20) -> None:
        super().__init__(parts, n_components=n_components, limit=min(parts.sizes))

    def solve(self, batch: Batch) -> None:
        self.H.assign_(leading_right(batch.x, self.n_components)[1])

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        return documents(rng)
