"""Spectral co-clustering: samples and features are the two sides of a graph that is cut."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log2
from typing import Any, final

import numpy as np
import torch

from nmfnet.core.constraints import Free
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.graph import times_weights
from nmfnet.kernels.singular import leading_right
from nmfnet.kernels.sparse import row_numbers, row_sums, with_values
from nmfnet.models._graphs import (
    centres_of,
    check_links,
    inverse_root,
    nearest,
    row_squares,
    seeds,
)
from nmfnet.types import Batch, Float, Int, Tensor


@final
class SpectralCoclustering(Factorization):
    r"""A ~ U H with A = R X C - u₁ v₁ᵀ, R and C the inverse roots of the sums of rows and of columns.

    ======  ==================================================  ===========  =======================
    symbol  meaning                                             code         shape
    ======  ==================================================  ===========  =======================
    X       links of samples with features, >= 0                ``batch.x``  n_samples, n_features
    R, C    D^-1/2 of rows and of columns                       ``degrees``  1, n_features (sums)
    u₁, v₁  the leading singular vectors, which say nothing     R, C         n_samples; n_features
    H       S Vᵀ: the next singular values and right vectors    ``H``        vectors, n_features
    R U     codes of the samples; C V are those of features     ``encode``   n_samples, vectors
    M       centres of the clusters among all codes             ``M``        n_components, vectors
    ======  ==================================================  ===========  =======================

    The best cut of the bipartite graph with links X into n_components parts, each of samples and of the
    features that belong to them, when memberships may have any sign: ``⌈log2(n_components)⌉`` vectors,
    then k-means on the codes of samples and features together. The run folder has both,
    ``clusters.csv`` and ``feature_clusters.csv``. A new sample is projected on the right vectors and
    goes to the nearest centre.

    Parameters
    ----------
    n_components : int, >= 2
        Clusters.

    Source: Dhillon 2001, "Co-clustering documents and words using bipartite spectral graph partitioning",
    algorithm Multipartition.
    """

    sparse = True
    shardable = False
    estimates_x = False
    code = "real"
    multilinear = False  # type: ignore[assignment]
    linear = False

    def __init__(self, parts: Parts, *, n_components: int = 5) -> None:
        super().__init__(parts, n_components=n_components)
        most = 2 ** (min(parts.sizes) - 1)
        if not 2 <= n_components <= min(most, sum(parts.sizes)):
            raise UserError(
                f"model.n_components={n_components}: a cut of {parts.sizes.n_samples} samples and "
                f"{parts.sizes.n_features} features has 2 to {min(most, sum(parts.sizes))} parts"
            )
        if parts.loss.beta != 2:
            raise UserError(
                f"loss={parts.loss.name}: a spectral relaxation is of squared errors, so use "
                "loss=frobenius, or model=trifactor"
            )
        self.axes |= {"vector": ceil(log2(n_components))}
        self.H = self.factor("H", "vector", "feature", constraint=Free())
        self.M = self.factor("M", "component", "vector", constraint=Free())
        self.register_buffer("degrees", torch.ones(self.n_restarts, 1, parts.sizes.n_features))
        self.degrees: Tensor

    # ------------------------------------------------------------------ the model
    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self._rows(batch.x) * self._left(batch.x)

    def _rows(self, x: Tensor) -> Float[Tensor, "n 1"]:
        return inverse_root(row_sums(x)).unsqueeze(-1)

    def _first(self, x: Tensor) -> tuple[Float[Tensor, "*r n 1"], Float[Tensor, "*r 1 f"]]:
        """Entries of u₁ at these rows, and v₁: the singular value is 1."""
        whole = self.degrees.sum(-1, keepdim=True)
        return (row_sums(x).unsqueeze(-1) / whole).sqrt(), (self.degrees / whole).sqrt()

    def _left(self, x: Tensor) -> Float[Tensor, "*r n k"]:
        """U at rows with these links: their projection on the right vectors."""
        H, (u, v) = self.H(), self._first(x)
        squares = H.square().sum(-1).unsqueeze(-2).clamp_min(torch.finfo(H.dtype).tiny)
        projected = self._rows(x) * times_weights(x, (inverse_root(self.degrees) * H).mT) - u * (
            v @ H.mT
        )
        return projected / squares

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """What orders the features by their links to samples with these codes, beside their sums."""
        return (W @ self.H()) * self.degrees.sqrt()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        """``½ ||R X C - u₁ v₁ᵀ - U H||²``, by row."""
        H, U, (u, _) = self.H(), self._left(batch.x), self._first(batch.x)
        squares = row_squares(batch.x, self._rows(batch.x), inverse_root(self.degrees).mT)
        lengths = H.square().sum(-1).unsqueeze(-2)
        inner = (U.square() * lengths).sum(-1, dtype=torch.float64)
        gram = ((U @ (H @ H.mT)) * U).sum(-1, dtype=torch.float64)
        return {"data": 0.5 * (squares - u.squeeze(-1).double().square() - 2 * inner + gram)}

    # ------------------------------------------------------------------ how it is solved
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        if batch.mask is not None:
            raise UserError(
                "model=spectral_coclustering needs all entries, and a mask leaves some out: use "
                "model=trifactor"
            )
        check_links(batch.x, "spectral_coclustering")
        ones = torch.ones(1, batch.x.shape[0], dtype=batch.x.dtype, device=batch.x.device)
        self.degrees.copy_(ones @ batch.x)

    def solve(self, batch: Batch) -> None:
        rows, columns = (
            self._rows(batch.x.double())[:, 0],
            inverse_root(self.degrees[0, 0].double()),
        )
        self.H.assign_(singular_rows(batch.x, rows, columns, self.H.raw.shape[-2] + 1)[1:])
        with_features = torch.cat([self.encode(batch), self._features()], -2)
        drawn = zip(with_features, seeds(self.generators), strict=True)
        self.M.assign_(torch.stack([centres_of(one, s, self.n_components) for one, s in drawn]))

    def _features(self) -> Float[Tensor, "*r f k"]:
        """Codes of the features."""
        H = self.H()
        return (inverse_root(self.degrees) * H / H.norm(dim=-1, keepdim=True).clamp_min(1e-30)).mT

    def clusters(self, code: Float[Tensor, "*r n k"]) -> Int[Tensor, "*r n"] | None:
        return nearest(code, self.M())

    def feature_clusters(self) -> Int[Tensor, "*r f"] | None:
        return nearest(self._features(), self.M())

    def remarks(self, batch: Batch) -> Iterator[str]:
        for word, totals in (("samples", row_sums(batch.x)), ("features", self.degrees[0, 0])):
            if alone := int((totals == 0).sum()):
                yield f"{alone} {word} have no entry > 0: their code is 0, their cluster says nothing."
        if self.n_restarts > 1:
            yield "the singular vectors are one optimum: restarts differ in k-means on the codes alone."

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        same = np.arange(30)[:, None] % 3 == np.arange(12) % 3
        return {"X": rng.poisson(np.where(same, 5.0, 0.5)).astype(float) + 0.01}


def singular_rows(
    x: Float[Tensor, "n f"], rows: Float[Tensor, " n"], columns: Float[Tensor, " f"], k: int
) -> Float[Tensor, "k f"]:
    """``S Vᵀ`` of the k leading singular vectors of ``R x C``."""
    x = x.double()
    if x.is_sparse_csr:
        scaled = with_values(x, rows[row_numbers(x)] * x.values() * columns[x.col_indices()])
    else:
        scaled = rows[:, None] * x * columns
    values, V = leading_right(scaled, k)
    return values[:, None] * V
