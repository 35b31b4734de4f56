"""Nearest points of the simplex and of other convex hulls, and archetypes by them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch

from nmfnet.kernels.newton import nesterov
from nmfnet.kernels.refit import simplex_rows
from nmfnet.types import Float, Tensor

SURE = 1e-10
"""A point is nearest when no other can be nearer by more than this share of the points' mean square."""

FLAT = 1e-6
"""Directions in which points spread less than this, in units of the widest, are none."""

QUIET, PASSES = 1e-4, 100
"""Relative fall of the error by a pass at which archetypes have settled, and most passes."""


def centred(x: Float[Tensor, "n f"]) -> Float[Tensor, "n m"]:
    """The rows in float64, moved and turned into as few columns as they span: distances are the same."""
    x = x.double()
    U, S, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    kept = max(1, int((S / S[0].clamp_min(1e-300) > FLAT).sum()))
    return U[:, :kept] * S[:kept]


def nearest_on_simplex(value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r a b"]:
    """The Euclidean projection of every row on ``{v >= 0, sum v = 1}``."""
    down = value.sort(-1, descending=True).values
    excess = down.cumsum(-1) - 1
    count = torch.arange(1, value.shape[-1] + 1, dtype=value.dtype, device=value.device)
    kept = (down - excess / count > 0).sum(-1, keepdim=True).clamp_min(1)
    return (value - excess.gather(-1, kept - 1) / kept).clamp_min(0)


def nearest_in_hull(
    target: Float[Tensor, " m"], points: Float[Tensor, "n m"], weights: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """``argmin ||target - w points||`` over w >= 0 of sum 1, from given weights.

    Exact on the few points that have weight (one more than columns at most, as many as any point of the
    hull needs); the point that lies furthest on the target's side joins them, until none lies beyond
    what was found.

    Source: Wolfe 1976, "Finding the nearest point in a polytope".
    """
    chosen = weights.topk(min(points.shape[1] + 1, int((weights > SURE).sum()))).indices
    enough = SURE * float(points.square().sum(-1).mean())
    while True:
        w = simplex_rows(target[None], points[chosen])[0]
        found = w @ points[chosen]
        heights = points @ (target - found)
        furthest = heights.argmax()
        beyond = float(heights[furthest] - found @ (target - found))
        if beyond <= enough or bool((chosen == furthest).any()):
            return torch.zeros_like(weights).index_put((chosen,), w)
        chosen = torch.cat([chosen[w > 0], furthest[None]])


def improved(
    points: Float[Tensor, "n m"], B: Float[Tensor, "k n"]
) -> tuple[Float[Tensor, "k n"], float]:
    """Every archetype in turn to its best place, for the W that is best before; B and half the error.

    The error as a function of one archetype z is, up to a constant, its squared distance from a target
    times ``w wᵀ``, w its column of W.
    """
    B, places = B.clone(), B @ points
    W = simplex_rows(points, places)
    rest = points - W @ places
    for j, w in enumerate(W.mT):
        size = w @ w
        if size == 0:
            continue  # no sample has any of it
        B[j] = nearest_in_hull(places[j] + w @ rest / size, points, B[j])
        move = B[j] @ points - places[j]
        rest -= w[:, None] * move
        places[j] += move
    return B, float(rest.square().sum()) / 2


@final
@dataclass
class Ahead:
    """Archetypes of one restart on their way: each iteration begins beyond the last one's end.

    Attributes
    ----------
    B : Tensor, shape (k, n)
    before : Tensor, shape (k, n)
        One iteration ago.
    t : float
        Of Nesterov's weights.
    value : float
        Half the error at B.

    Source: Nesterov 1983 for the weights; O'Donoghue & Candès 2015 (begin anew where the error rises).
    """

    B: Float[Tensor, "k n"]
    before: Float[Tensor, "k n"]
    t: float = 1.0
    value: float = math.inf

    def iterate(self, points: Float[Tensor, "n m"]) -> None:
        """One pass over the archetypes; the error never rises."""
        self.t, step = nesterov(self.t, True)
        B, value = improved(points, nearest_on_simplex(self.B + step * (self.B - self.before)))
        if value > self.value:
            self.t = 1.0
            B, value = improved(points, self.B)
        self.before, self.B, self.value = self.B, B, value


def settled(points: Float[Tensor, "n m"], B: Float[Tensor, "k n"]) -> tuple[Tensor, float]:
    """B from a start until a pass lowers the error by less than ``QUIET`` of it; B and half the error."""
    ahead = Ahead(B, B)
    for _ in range(PASSES):
        before = ahead.value
        ahead.iterate(points)
        if before - ahead.value < QUIET * ahead.value:
            break
    return ahead.B, ahead.value


def explained_by_more(
    points: Float[Tensor, "n m"], B: Float[Tensor, "k n"], most: int
) -> Iterator[tuple[int, float]]:
    """Numbers of archetypes and the share of variance that they explain, two more each time.

    Every fit begins with the last one and the two points that it explains worst.
    """
    whole = float((points - points.mean(0)).square().sum())
    while True:
        B, half = settled(points, B)
        yield len(B), 1 - 2 * half / whole
        if len(B) + 2 > most:
            return
        places = B @ points
        far = (points - simplex_rows(points, places) @ places).square().sum(-1).topk(2).indices
        more = torch.nn.functional.one_hot(far, len(points)).to(B)
        B = torch.cat([B, more])
