"""Limited-memory BFGS under bounds, for one point and any function of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from nmfnet.types import Float, Tensor

ENOUGH = 1e-4
"""Share of the decrease that the slope promises, of which a step has to make good."""

STEEP = 0.9
"""A step is too short while the slope along it keeps more than this share of what it was."""

TRIALS = 25
"""Step lengths tried before a direction is given up."""

LONGEST = 0.1
"""Largest change in one step, root mean square over the entries in their units."""

Slope = Callable[[Tensor], tuple[float, Tensor]]
"""From a point (N,) to the objective and its gradient (N,)."""


class Memory(NamedTuple):
    """What a run of L-BFGS remembers.

    Attributes
    ----------
    steps, turns : tuple of Tensor, shape (N,) each
        The last moves and the changes of the gradient over them, oldest first.
    """

    steps: tuple[Float[Tensor, " N"], ...] = ()
    turns: tuple[Float[Tensor, " N"], ...] = ()

    def scaled(self, by: Float[Tensor, " N"]) -> Memory:
        """The same where every entry of a point is ``by`` times as large."""
        return Memory(tuple(s * by for s in self.steps), tuple(y / by for y in self.turns))


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product of two vectors, summed in float64."""
    return float((a * b).sum(dtype=torch.float64))


def direction(
    memory: Memory, gradient: Float[Tensor, " N"], free: Float[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """``-B⁻¹ gradient`` on the free entries, B the matrix that the memory stands for there.

    Parameters
    ----------
    memory : Memory
    gradient : Tensor, shape (N,)
    free : Tensor of 0 and 1, shape (N,)
        Pairs are cut down to these entries; those without curvature there are left out.
    """
    q, room, product = gradient * free, torch.empty_like(free), torch.empty_like(free)

    def inner(a: Tensor, b: Tensor) -> Tensor:  # as `dot`, and without new memory for the products
        return torch.mul(a, b, out=product).sum(dtype=torch.float64)

    pairs = []
    for s, y in zip(memory.steps, memory.turns, strict=True):
        torch.mul(y, free, out=room)
        curve, size = inner(room, s), inner(room, y)
        long = inner(torch.mul(s, free, out=room), s)
        curve, size, long = torch.stack([curve, size, long]).tolist()
        if curve > 1e-8 * (size * long) ** 0.5:
            pairs.append((s, y, curve, size))
    shares = []
    for s, y, curve, _ in reversed(pairs):
        share = float(inner(s, q)) / curve
        q.addcmul_(y, free, value=-share)
        shares.append(share)
    if pairs:
        q *= pairs[-1][2] / pairs[-1][3]
    for (s, y, curve, _), share in zip(pairs, reversed(shares), strict=True):
        q.addcmul_(s, free, value=share - float(inner(y, q)) / curve)
    return q.neg_()


def minimise(
    slope: Slope,
    point: Float[Tensor, " N"],
    bounded: Tensor,
    memory: Memory,
    n_iter: int,
    keep: int,
) -> tuple[Tensor, Memory]:
    """``n_iter`` iterations down from ``point``; the objective never rises.

    Parameters
    ----------
    slope : callable
    point : Tensor, shape (N,)
        Feasible, with entries of about unit size.
    bounded : Tensor of bool, shape (N,)
        Entries that stay >= 0.
    memory : Memory
        Of the iterations before.
    keep : int, >= 1
        Most pairs remembered.

    Returns
    -------
    point, memory : new

    Notes
    -----
    An entry at 0 with a gradient that presses it there is held; the others move along the
    quasi-Newton direction of their own subspace, cut off at 0 (two-metric projection).
    Source: Bertsekas 1982; Schmidt, Kim & Sra 2012, section 11.4; Nocedal 1980 for the recursion.
    """
    value, gradient = slope(point)
    for _ in range(n_iter):
        held = bounded & (point <= 0) & (gradient > 0)
        free = (~held).to(point.dtype)
        move = direction(memory, gradient, free)
        if not len(memory.steps):
            size = float(move.square().mean().sqrt())
            move = move * (min(1.0, 0.01 / size) if size > 0 else 0.0)
        size = float(move.square().mean().sqrt())
        move = move * min(1.0, LONGEST / max(size, 1e-30))
        found = search(slope, point, value, gradient, move, bounded)
        if found is None:
            if not len(memory.steps):
                break
            memory = Memory()  # it misleads: begin anew with the gradient
            continue
        there, value, turned = found
        step, turn = there - point, turned - gradient
        if dot(step, turn) > 1e-8 * (dot(step, step) * dot(turn, turn)) ** 0.5:
            memory = Memory((*memory.steps, step)[-keep:], (*memory.turns, turn)[-keep:])
        point, gradient = there, turned
    return point, memory


def search(
    slope: Slope,
    point: Tensor,
    value: float,
    gradient: Tensor,
    move: Tensor,
    bounded: Tensor,
) -> tuple[Tensor, float, Tensor] | None:
    """A point along the projected move that is lower by enough; None if there is none."""
    length, lowest = 1.0, None
    promised = dot(gradient, move)
    if not promised < 0:
        return None
    for _ in range(TRIALS):
        there = point + length * move
        there = torch.where(bounded, there.clamp_min(0), there)
        new, turned = slope(there)
        fall = dot(gradient, there - point)
        if new <= value + ENOUGH * fall and new < value:
            if lowest is not None and new >= lowest[1]:
                return lowest
            lowest = there, new, turned
            if length < 1 or dot(turned, move) > STEEP * promised or length > 1e3:
                return lowest
            length *= 4
            continue
        if lowest is not None:
            return lowest
        bend = new - value - length * promised
        best = -promised * length**2 / (2 * bend) if bend > 0 else 0.0
        length = min(max(best, 0.1 * length), 0.5 * length) if new == new else 0.1 * length
    return None
