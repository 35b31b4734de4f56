"""Anchors: the few rows of a matrix of which all other rows are non-negative combinations.

Rows are looked at by their direction: each is divided by its sum first, and rows of zeros are never
chosen.
"""

from __future__ import annotations

import torch

from nmfnet.errors import UserError
from nmfnet.kernels.nnls import nnls_rows
from nmfnet.types import Float, Int, Tensor

NOTHING = 1e-9
"""Length of a residual, relative to the largest row, that is no longer a direction."""


def successive_projections(x: Float[Tensor, "n f"], k: int) -> Int[Tensor, " k"]:
    """Rows of x, one after the other the longest in what the chosen ones do not span.

    Source: Araújo et al. 2001 (SPA); Gillis & Vavasis 2014, "Fast and robust recursive algorithms for
    separable nonnegative matrix factorization", algorithm 1.
    """
    rest = shares(x)
    chosen: list[int] = []
    for _ in range(k):
        lengths = rest.square().sum(-1)
        chosen.append(_longest(lengths, chosen, k))
        way = rest[chosen[-1]] / lengths[chosen[-1]].sqrt()
        rest = rest - (rest @ way).unsqueeze(-1) * way
    return torch.tensor(chosen, device=x.device)


def extreme_rays(x: Float[Tensor, "n f"], k: int) -> Int[Tensor, " k"]:
    """Rows of x, one after the other the most extreme towards the residual that is largest.

    All chosen rows are refitted (non-negative least squares) before the next one is.

    Source: Kumar, Sindhwani & Kambadur 2013, "Fast conical hull algorithms for near-separable
    non-negative matrix factorization", algorithm 1 with the selection "max".
    """
    rows = shares(x)
    rest, chosen = rows, list[int]()
    for _ in range(k):
        worst = rest[_longest(rest.square().sum(-1), [], k, len(chosen))]
        reach = rows @ worst  # rows sum to 1, which is the paper's positive p
        reach[[*chosen, *torch.nonzero(rows.sum(-1) == 0).flatten().tolist()]] = -torch.inf
        chosen.append(int(reach.argmax()))
        H = rows[chosen]
        rest = rows - nnls_rows(rows, H) @ H
    return torch.tensor(chosen, device=x.device)


def shares(x: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
    """Rows divided by their sums, in float64."""
    return x.double() / x.double().sum(-1, keepdim=True).clamp_min(1e-300)


def _longest(lengths: Tensor, chosen: list[int], k: int, found: int | None = None) -> int:
    at = int(lengths.argmax())
    if not float(lengths[at]) > NOTHING**2:
        raise UserError(
            f"model.n_components={k}: all rows of X are combinations of "
            f"{len(chosen) if found is None else found} of them: take fewer components"
        )
    return at
