"""What models of listed entries share."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.csr import csr_of
from nmfnet.kernels.graph import are_linked
from nmfnet.kernels.sparse import row_numbers, with_values
from nmfnet.kernels.weighted import ridge_rows
from nmfnet.types import Batch, Float, Int, Tensor

OTHERS = 100
"""Number of the first random stream of what was not chosen."""

ALTERNATIONS = 10
"""Of the biases of rows and columns."""


def check_squares(parts: Parts, what: str = "the model") -> None:
    """Refuse any loss but the squared error.

    Raises
    ------
    UserError
    """
    if parts.loss.beta != 2:
        raise UserError(
            f"{what} fits squared errors, and the loss is {parts.loss.name}: set loss=frobenius"
        )


def check_listed(batch: Batch) -> None:
    """Refuse a sparse X of which nothing says what its absent entries are.

    Raises
    ------
    UserError
        A sparse X without a mask.
    """
    if batch.x.is_sparse_csr and batch.mask is None:
        raise UserError(
            "X is sparse, and nothing says which of its entries are listed: give a mask of the "
            "same pattern (data=triples has one), or a dense X"
        )


def listed(batch: Batch) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n f"]]:
    """The listed entries of X and their weights, as CSR matrices of one pattern."""
    check_listed(batch)
    x, weight = batch.x, batch.mask
    if weight is None:
        weight = torch.ones_like(x)
    if x.is_sparse_csr:
        return x, weight
    at = csr_of(weight)
    return with_values(at, x[row_numbers(at), at.col_indices()]), at


def check_choices(model: Factorization, batch: Batch) -> None:
    """Refuse a mask beside a dense X, of which every pair is chosen or not.

    Raises
    ------
    UserError
    """
    if batch.mask is not None and not batch.x.is_sparse_csr:
        raise UserError(
            f"{type(model).__name__} takes every pair as chosen or not, and a mask, or a split of "
            "single entries, says of some that they are neither: leave it out (data.weight, split=none), "
            "or give X as a list (data=triples data.sparse=true)"
        )


def choices_of(model: Factorization, batch: Batch) -> Float[Tensor, "n f"]:
    """What was chosen, as CSR; zeros of a dense X were not.

    Raises
    ------
    UserError
        Listed entries that are not > 0.
    """
    x = csr_of(batch.x)
    if bad := int((x.values() <= 0).sum()):
        raise UserError(
            f"{bad} listed entries are not > 0, and {type(model).__name__} takes a listed entry as a "
            "choice: leave them out (data.at_least=...)"
        )
    return x


def others(
    model: Factorization, x: Float[Tensor, "n f"], draw: int
) -> tuple[Int[Tensor, "*r e"], Tensor]:
    """A feature for each listed entry that its row may not have listed, and whether it has not.

    The feature of an entry is the image of its own under a random permutation: another one in every
    iteration, the same few where the model is judged, and the same whatever the other rows are.
    """
    order = model.noise(x.shape[1], 1, draw=OTHERS + draw)[..., 0].argsort(-1)
    images = order[..., x.col_indices()]
    return images, ~are_linked(x, row_numbers(x).expand(images.shape), images)


def biases_of(
    x: Float[Tensor, "n f"], weight: Float[Tensor, "n f"], ridge: float
) -> tuple[Tensor, Float[Tensor, " n"], Float[Tensor, " f"]]:
    """The mean of listed entries, and biases of rows and columns, each shrunk by ``ridge`` in all.

    By alternating ridge regressions, in float64; 0 for a row or column without entries.
    """
    rows, columns = row_numbers(x), x.col_indices().long()
    values, w = x.values().double(), weight.values().double()
    mean = (w * values).sum() / w.sum()
    left, b, c = values - mean, *(values.new_zeros(size) for size in x.shape)
    for _ in range(ALTERNATIONS):
        c = shrunk_means(left - b[rows], w, columns, x.shape[1], ridge)
        b = shrunk_means(left - c[columns], w, rows, x.shape[0], ridge)
    return mean, b, c


def shrunk_means(
    values: Float[Tensor, " e"], weight: Float[Tensor, " e"], at: Tensor, size: int, ridge: float
) -> Float[Tensor, " size"]:
    """``Σ w x / (ridge + Σ w)`` of the entries of each row, or column."""
    sums, counts = (
        values.new_zeros(size).index_add(0, at, part) for part in (weight * values, weight)
    )
    return torch.where(counts > 0, sums / (counts + ridge), 0)


def by_row(x: Tensor, values: Float[Tensor, "*r e"]) -> Float[Tensor, "*r n"]:
    """Sums of the stored entries of each row, in float64."""
    sums = values.new_zeros(*values.shape[:-1], x.shape[0], dtype=torch.float64)
    return sums.index_add(-1, row_numbers(x), values.double())


def listed_losses(
    model: Factorization, batch: Batch, code: Float[Tensor, "*r n k"]
) -> Float[Tensor, "*r n"]:
    """Half the weighted squared errors of the listed entries of each row."""
    check_listed(batch)
    assert batch.mask is not None
    wrong = batch.x.values() - model.decode_at(code, batch)
    return 0.5 * by_row(batch.x, batch.mask.values() * wrong.square())


def counts_of(batch: Batch) -> tuple[Float[Tensor, " n"], Float[Tensor, " f"]]:
    """Sum of the weights of every row, and of every column."""
    weight = batch.mask
    if weight is None:
        n, f = batch.x.shape
        return batch.x.new_full((n,), f), batch.x.new_full((f,), n)
    if weight.is_sparse_csr:
        columns = weight.values().new_zeros(weight.shape[1])
        return by_row(weight, weight.values()), columns.index_add(
            0, weight.col_indices(), weight.values()
        )
    return weight.sum(1), weight.sum(0)


def by_ridge(model: Factorization, batch: Batch) -> Float[Tensor, "*r n k"]:
    """Codes of the rows by their ridge regressions (``model.ridge``), for every restart."""
    if model.components().ndim == 2:
        return ridge_rows(*model.ridge("sample", batch)).to(model.precision)
    found = []
    for restart in range(model.components().shape[0]):
        with model.restarts(restart):
            found.append(ridge_rows(*model.ridge("sample", batch)))
    return torch.stack(found).to(model.precision)


def ridge_codes(
    left: Float[Tensor, "n f"], weight: Float[Tensor, "n f"], H: Float[Tensor, "*r k f"], l2: float
) -> Float[Tensor, "*r n k"]:
    """``argmin_w ½ Σ weight (left - w H)² + ½ l2 |w|²`` of every row and restart."""
    none, ridge = H.new_zeros(H.shape[-2]), l2 * torch.eye(H.shape[-2]).to(H)
    found = [
        ridge_rows(left, weight, one, none, ridge).to(H) for one in H.reshape(-1, *H.shape[-2:])
    ]
    return torch.stack(found).reshape(*H.shape[:-2], *found[0].shape)


def some_of_each(rng: np.random.Generator, share: float | np.ndarray, n: int, f: int) -> np.ndarray:
    """Which entries an example lists: a share at random, and one in every row and column at least."""
    mask = rng.random((n, f)) < share
    mask[np.arange(n), np.arange(n) % f] = True
    return mask


def choices(rng: np.random.Generator) -> dict[str, Any]:
    """Choices of users in two groups, as an example: a list of what was chosen, each 1."""
    group = rng.integers(2, size=(30, 1)) == rng.integers(2, size=12)
    chosen = sp.csr_matrix(some_of_each(rng, np.where(group, 0.6, 0.1), 30, 12))
    return {"X": chosen.astype(float), "mask": chosen}
