"""Latent semantic indexing: the truncated singular value decomposition of a term-document matrix."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import scipy.sparse.linalg
import torch

from nmfnet.core.constraints import Free
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.csr import to_scipy
from nmfnet.models._documents import by_restart, documents
from nmfnet.types import Batch, Float, Tensor


@final
class LSI(Factorization):
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
    shardable = False
    signed = True
    code = "real"
    multilinear = False  # type: ignore[assignment]

    def __init__(self, parts: Parts, *, n_components: int = 20) -> None:
        super().__init__(parts, n_components=n_components)
        if n_components > min(parts.sizes):
            raise UserError(
                f"model.n_components={n_components}: X of {parts.sizes.n_samples} samples and "
                f"{parts.sizes.n_features} features has at most {min(parts.sizes)} singular vectors"
            )
        if parts.loss.beta != 2:
            raise UserError(
                f"loss={parts.loss.name}: LSI is least squares in closed form, so use loss=frobenius; "
                "for counts under their likelihood use model=plsi"
            )
        self.H = self.factor("H", "component", "feature", constraint=Free())

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        if not batch.x.is_sparse_csr:
            return batch.x @ self.H().mT
        return by_restart(lambda H: batch.x @ H.mT, self.H())

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.H()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def solve(self, batch: Batch) -> None:
        x, k = batch.x.double(), self.n_components
        if k < min(x.shape) and min(x.shape) > 2:
            held = to_scipy(x) if x.is_sparse_csr else x.cpu().numpy()
            first = np.random.default_rng(0).uniform(-1, 1, min(held.shape))
            _, values, found = scipy.sparse.linalg.svds(held, k=k, v0=first)
            V = torch.from_numpy(found[np.argsort(-values, kind="stable")].copy())
        else:
            V = torch.linalg.svd(x.to_dense(), full_matrices=False).Vh[:k]
        at = V.abs().argmax(-1, keepdim=True)
        self.H.assign_((V * V.gather(-1, at).sign()).to(x.device))

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        if batch.mask is not None:
            raise UserError(
                "LSI cannot leave entries out: a document is all of its words; use model=nmf"
            )

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        return documents(rng)
