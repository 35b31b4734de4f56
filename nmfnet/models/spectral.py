"""Spectral clustering: the closed form that is left of a cut when memberships may have any sign."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, final

import numpy as np
import scipy.sparse.linalg
import torch
from torch.nn import functional as F

from nmfnet.core.constraints import Free
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.csr import to_scipy
from nmfnet.kernels.graph import at_pairs, times_weights
from nmfnet.kernels.sparse import row_sums
from nmfnet.models._graphs import (
    centres_of,
    check_links,
    check_symmetric,
    inverse_root,
    nearest,
    row_squares,
    seeds,
)
from nmfnet.types import Batch, Float, Int, Tensor

DENSE = 2000
"""Nodes up to which all eigenvectors are computed: Lanczos may miss copies of equal eigenvalues."""


@final
class Spectral(Factorization):
    r"""A ~ Hᵀ H with A = S X S, S = D^-1/2 and orthogonal rows of H; nodes are clustered by their codes.

    ======  ============================================  ===========  ========================
    symbol  meaning                                       code         shape
    ======  ============================================  ===========  ========================
    X       links between nodes, symmetric, >= 0          ``batch.x``  n_samples, n_samples
    D       diagonal: sums of the rows of X               ``degrees``  1, n_samples
    U, Λ    leading eigenvectors and values of S X S      ``encode``   n_samples, n_components
    H       Λ^1/2 Uᵀ                                      ``H``        n_components, n_samples
    C       centres of the clusters among the codes       ``C``        n_components, n_components
    ======  ============================================  ===========  ========================

    What is minimised, ``½ ||S X S - Hᵀ H||²``, is the objective of symmetric NMF; H of any sign has
    the closed form above (the nearest positive semidefinite matrix of the rank), below which no H >= 0
    is. Both relax one problem, a partition P (n_samples, n_components) with columns of length 1 that
    maximises ``tr Pᵀ S X S P``: symmetric NMF drops the orthogonality of P, this drops its sign. The
    codes are

    - ``relaxation: njw``: rows of U, scaled to length 1 (Ng, Jordan & Weiss);
    - ``normalized_cut``: rows of S U, the generalised eigenvectors of X and D (Shi & Malik);
    - ``kernel_kmeans``: rows of U with S = I, where X is a kernel (Zha, He, Ding, Simon & Gu).

    A new node gets ``U = S x S H^T Λ^-3/2`` from its links to the training nodes (Nyström), and the
    nearest centre. A node without links has the code 0. ``data.normalize`` is best left at none: cuts
    are of the links themselves.

    Parameters
    ----------
    n_components : int, >= 1
        Clusters, and eigenvectors.
    relaxation : {"njw", "normalized_cut", "kernel_kmeans"}

    Source: Ng, Jordan & Weiss 2001, "On spectral clustering"; Shi & Malik 2000, "Normalized cuts and
    image segmentation"; Zha et al. 2001, "Spectral relaxation for k-means clustering"; Ding, He &
    Simon 2005 (that they are one objective).
    """

    sparse = True
    shardable = False
    signed = True
    estimates_x = False
    code = "real"
    multilinear = False  # type: ignore[assignment]
    linear = False

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 5,
        relaxation: Literal["njw", "normalized_cut", "kernel_kmeans"] = "njw",
    ) -> None:
        super().__init__(parts, n_components=n_components)
        if n_components > parts.sizes.n_samples:
            raise UserError(
                f"model.n_components={n_components}: there are {parts.sizes.n_samples} nodes, and no "
                "more eigenvectors than these"
            )
        if parts.loss.beta != 2:
            raise UserError(
                f"loss={parts.loss.name}: a spectral relaxation is of squared errors, so use "
                "loss=frobenius, or model=sym_nmf"
            )
        self.relaxation = relaxation
        self.H = self.factor("H", "component", "feature", constraint=Free())
        self.C = self.factor("C", "component", "component", constraint=Free())
        self.register_buffer("degrees", torch.ones(self.n_restarts, 1, parts.sizes.n_features))
        self.degrees: Tensor

    # ------------------------------------------------------------------ the model
    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        U = self._eigenvectors(batch.x)
        if self.relaxation == "njw":
            return F.normalize(U, dim=-1)
        return self._rows(batch.x) * U if self.relaxation == "normalized_cut" else U

    def _eigenvectors(self, x: Tensor) -> Float[Tensor, "*r n k"]:
        """Their entries at nodes with these links: of training nodes the eigenvectors themselves."""
        H = self.H()
        values = H.square().sum(-1, keepdim=True)
        side = self._columns() * H * torch.where(values > 0, values, torch.inf) ** -1.5
        return self._rows(x) * times_weights(x, side.mT)

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """What orders the nodes by their links to nodes with these codes."""
        H = self.H()
        return (W * H.norm(dim=-1).unsqueeze(-2)) @ H / self._columns()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        """``½ ||S X S - Hᵀ H||²`` by three products: nothing of n x n is formed."""
        rows, columns, H = self._rows(batch.x), self._columns(), self.H()
        own = H.mT[..., batch.index, :]
        if bool((batch.index < 0).any()):  # new nodes
            own = self._eigenvectors(batch.x) * H.norm(dim=-1).unsqueeze(-2)
        inner = (own * rows * times_weights(batch.x, (columns * H).mT)).sum(-1, dtype=torch.float64)
        gram = ((own @ (H @ H.mT)) * own).sum(-1, dtype=torch.float64)
        squares = row_squares(batch.x, rows, columns.mT)
        return {"data": 0.5 * (squares - 2 * inner + gram)}

    def _rows(self, x: Tensor) -> Float[Tensor, "n 1"]:
        """S of rows, from their own links."""
        if self.relaxation == "kernel_kmeans":
            return torch.ones(x.shape[0], 1, dtype=x.dtype, device=x.device)
        return inverse_root(row_sums(x)).unsqueeze(-1)

    def _columns(self) -> Float[Tensor, "*r 1 f"]:
        return inverse_root(self.degrees)

    # ------------------------------------------------------------------ how it is solved
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        if batch.mask is not None:
            raise UserError(
                "model=spectral needs all links, and a mask leaves some out: use sym_nmf"
            )
        check_symmetric(batch.x, "spectral", self.transpose)
        if self.relaxation != "kernel_kmeans":
            check_links(batch.x, "spectral")
            self.degrees.copy_(row_sums(batch.x))

    def solve(self, batch: Batch) -> None:
        rows = self._rows(batch.x.double())
        values, vectors = leading_eigenvectors(batch.x, rows[:, 0], self.n_components)
        there = values > ROUNDED * values[0]
        if not bool(there.all()):
            raise UserError(
                f"model.n_components={self.n_components}: only {int(there.sum())} "
                "eigenvalues of these links are positive, so take no more components"
            )
        self.H.assign_((values.sqrt() * vectors).mT)
        codes = self.encode(batch)
        drawn = zip(codes, seeds(self.generators), strict=True)
        self.C.assign_(torch.stack([centres_of(one, s, self.n_components) for one, s in drawn]))

    def clusters(self, code: Float[Tensor, "*r n k"]) -> Int[Tensor, "*r n"] | None:
        return nearest(code, self.C())

    def remarks(self, batch: Batch) -> Iterator[str]:
        alone = int((row_sums(batch.x) == 0).sum())
        if alone:
            yield f"{alone} nodes have no links: their code is 0, and their cluster says nothing."
        if self.n_restarts > 1:
            yield "the eigenvectors are one optimum: restarts differ in k-means on the codes alone."

    def link_scores(
        self, code: Float[Tensor, "*r n k"], pairs: Int[Tensor, "m 2"]
    ) -> Float[Tensor, "*r m"]:
        return at_pairs(code, pairs)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        same = np.arange(30)[:, None] % 3 == np.arange(30) % 3
        upper = np.triu(rng.random((30, 30)) < np.where(same, 0.7, 0.1), 1)
        return {"X": (upper | upper.T).astype(float)}


ROUNDED = 1e-9
"""An eigenvalue below this share of the largest is 0."""


def leading_eigenvectors(
    x: Float[Tensor, "n n"], scale: Float[Tensor, " n"], k: int
) -> tuple[Float[Tensor, " k"], Float[Tensor, "n k"]]:
    """The k largest eigenvalues of ``S x S`` and their vectors, the largest entries positive."""
    n = x.shape[0]
    if n <= DENSE or k >= n - 1:
        scaled = scale[:, None] * x.to_dense().double() * scale
        values, vectors = torch.linalg.eigh(scaled)
        values, vectors = values[-k:].flip(0), vectors[:, -k:].flip(1)
    else:
        import scipy.sparse as sp

        S = sp.diags_array(scale.cpu().numpy())
        held = to_scipy(x.double()) if x.is_sparse_csr else x.double().cpu().numpy()
        first = np.random.default_rng(0).uniform(-1, 1, n)
        found, columns = scipy.sparse.linalg.eigsh(S @ held @ S, k=k, which="LA", v0=first)
        order = np.argsort(-found, kind="stable")
        values, vectors = (
            torch.from_numpy(a[..., order].copy()).to(x.device) for a in (found, columns)
        )
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    return values, vectors * signs
