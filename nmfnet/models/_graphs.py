"""What models of graphs and of clusters share."""

from __future__ import annotations

import torch

from nmfnet.errors import UserError
from nmfnet.kernels.graph import times_weights
from nmfnet.kernels.sparse import Transpose, transpose_of, transposed, with_values
from nmfnet.types import Float, Int, Tensor


def check_symmetric(x: Tensor, model: str, transpose: Transpose | None = None) -> None:
    """Refuse an X that is no undirected graph.

    Raises
    ------
    UserError
        Not square, or not symmetric.
    """
    n, f = x.shape
    if n != f:
        raise UserError(
            f"{model} needs a graph, and X is {n} x {f}: use data=graph, or data.features=false for "
            "data whose nodes have features; with split=rows X is no longer square, so use "
            "split=links"
        )
    if x.is_sparse_csr:
        other = transposed(x, transpose or transpose_of(x))
        parts = zip(_parts(x), _parts(other), strict=True)
        same = all(torch.equal(a.long(), b.long()) for a, b in parts)
        same = same and torch.allclose(x.values(), other.values(), rtol=1e-4)
    else:
        same = torch.allclose(x, x.mT, rtol=1e-4, atol=1e-6 * float(x.abs().max()))
    if not same:
        raise UserError(
            f"{model} needs links that are the same in both directions, and X is not symmetric: give "
            "(X + X.T) / 2, or use data=graph"
        )


def _parts(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.crow_indices(), x.col_indices()


def seeds(generators: tuple[torch.Generator, ...]) -> list[int]:
    """A number from each restart's generator, for libraries that draw by themselves."""
    return [int(torch.randint(2**31 - 1, (1,), generator=g)) for g in generators]


def largest(code: Float[Tensor, "*r n k"]) -> Int[Tensor, "*r n"]:
    """The largest component of every row; -1 where all are 0."""
    return torch.where((code != 0).any(-1), code.argmax(-1), -1)


def nearest(
    points: Float[Tensor, "... n k"], centres: Float[Tensor, "... c k"]
) -> Int[Tensor, "... n"]:
    """The nearest centre of every point, points dense or CSR; the first of equals."""
    inner = times_weights(
        points, centres.mT
    )  # a squared distance, but for a constant of the point:
    return (centres.square().sum(-1).unsqueeze(-2) - 2 * inner).argmin(-1)


def centres_of(points: Float[Tensor, "n k"], seed: int, count: int) -> Float[Tensor, "c k"]:
    """Centres of clusters of points by the best of ten runs of k-means, in float64."""
    from sklearn.cluster import KMeans

    found = KMeans(count, n_init=10, random_state=seed).fit(points.double().cpu().numpy())
    return torch.from_numpy(found.cluster_centers_)


def row_squares(
    x: Float[Tensor, "n f"], rows: Float[Tensor, "n 1"], columns: Float[Tensor, "*r f 1"]
) -> Float[Tensor, "*r n"]:
    """``Σ_j (rows_i x_ij columns_j)²`` in float64, for x dense or CSR."""
    x = x.double()
    squares = with_values(x, x.values().square()) if x.is_sparse_csr else x.square()
    return (rows.double().square() * times_weights(squares, columns.double().square())).squeeze(-1)


def inverse_root(totals: Tensor) -> Tensor:
    """``totals^-1/2``, and 0 for what has no links."""
    return torch.where(totals > 0, totals, torch.inf).rsqrt()


def check_links(x: Tensor, model: str) -> None:
    """Refuse negative links, of which no cut is made."""
    values = x.values() if x.is_sparse_csr else x
    if bool((values < 0).any()):
        raise UserError(
            f"model={model}: a cut is of links >= 0, and X has negative entries: take their absolute "
            "values, or for a kernel model=spectral model.relaxation=kernel_kmeans"
        )
