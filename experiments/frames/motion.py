"""Frames and flows: warping, composing and reversing flows, and textures that move as is known.

Flows are (n, 2, h, w) in pixels, across before down: the pixel at (i, j) of one frame is at
``(i + flow[1], j + flow[0])`` of the other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

WAVES = 24
"""Plane waves in a texture."""

SHORTEST, LONGEST = 6.0, 24.0
"""Their lengths, in pixels."""

FASTEST = 6.0
"""Pixels that a texture moves between the two frames, across and down, at most."""

TURN = 0.06
"""Radians of its rotation, and part by which it grows or shrinks, at most."""

GROUND = 1e-3
"""Weight of the simple reversal beside the flows that arrive at a pixel, which may be none."""


# ---------------------------------------------------------------------- flows
def places(like: Tensor) -> Tensor:
    """Where the pixels of a frame are: across and down, shape (1, 2, h, w)."""
    h, w = like.shape[-2:]
    own = {"dtype": like.dtype, "device": like.device}
    down, across = torch.meshgrid(torch.arange(h, **own), torch.arange(w, **own), indexing="ij")
    return torch.stack([across, down])[None]


def warp(frame: Tensor, flow: Tensor) -> Tensor:
    """``frame(x + flow(x))``, linear between pixels; outside is the nearest pixel of the border."""
    h, w = frame.shape[-2:]
    sizes = torch.tensor([w - 1, h - 1], dtype=flow.dtype, device=flow.device)
    at = (places(flow) + flow).permute(0, 2, 3, 1) * (2 / sizes) - 1
    return F.grid_sample(frame, at, "bilinear", "border", align_corners=True)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """The flow from a to c, of those from a to b and from b to c."""
    return first + warp(then, first)


def finer(flow: Tensor) -> Tensor:
    """The flow for frames of twice the size."""
    return 2 * F.interpolate(flow, scale_factor=2, mode="bilinear")


def reverse(
    flow01: Tensor, flow10: Tensor, t: Tensor, weight0: Tensor, weight1: Tensor
) -> tuple[Tensor, Tensor]:
    """Flows from time t to 0 and to 1, of those between 0 and 1: complementary flow reversal.

    Pixels of both frames move to where they are at time t, and leave there what they know. A place that
    few arrive at takes what moves least in addition: the flow of the same pixel.

    Parameters
    ----------
    flow01, flow10 : Tensor, shape (n, 2, h, w)
    t : Tensor, shape (n, 1, 1, 1)
    weight0, weight1 : Tensor, shape (n, 1, h, w)
        How much the pixels of either frame are to be trusted, > 0.

    Source: Sim, Oh & Kim 2021, "XVFI: extreme video frame interpolation", eqs. (2) to (4).
    """
    from0 = torch.cat([-t * flow01, (1 - t) * flow01], 1)
    from1 = torch.cat([t * flow10, -(1 - t) * flow10], 1)
    said = GROUND * ((1 - t) * from0 + t * from1)
    heard = torch.full_like(weight0, GROUND)
    for values, moved, weight in (
        (from0, t * flow01, (1 - t) * weight0),
        (from1, (1 - t) * flow10, t * weight1),
    ):
        arrived, amount = splat(values, moved, weight)
        said, heard = said + arrived, heard + amount
    to0, to1 = (said / heard).chunk(2, 1)
    return to0, to1


def splat(values: Tensor, flow: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of values, and of weights, at the four pixels around where each pixel moves to.

    Weights fall with the squared distance d as ``exp(-2 d)``; what leaves the frame is lost.
    """
    n, c, h, w = values.shape
    at = places(flow) + flow
    corner = at.detach().floor()
    sums = values.new_zeros(n, c + 1, h * w)
    for i in (0, 1):
        for j in (0, 1):
            pixel = corner + torch.tensor([j, i], dtype=at.dtype, device=at.device).view(1, 2, 1, 1)
            inside = (pixel >= 0).all(1) & (pixel[:, 0] < w) & (pixel[:, 1] < h)
            share = weight * torch.exp(-2 * (at - pixel).square().sum(1, keepdim=True))
            share = share * inside[:, None]
            index = (pixel[:, 1].clamp(0, h - 1) * w + pixel[:, 0].clamp(0, w - 1)).long()
            brought = torch.cat([share * values, share], 1).flatten(2)
            sums = sums.scatter_add(2, index.flatten(1)[:, None].expand_as(brought), brought)
    whole = sums.view(n, c + 1, h, w)
    return whole[:, :c], whole[:, c:]


# ---------------------------------------------------------------------- moving textures
class Triplets(NamedTuple):
    """Two frames, the one between, when that is, and where its pixels are in the two.

    ``before``, ``after`` and ``between`` are (n, 1, h, w) around 0.5, ``t`` is (n, 1, 1, 1) in (0, 1),
    ``to0`` and ``to1`` are flows.
    """

    before: Tensor
    after: Tensor
    between: Tensor
    t: Tensor
    to0: Tensor
    to1: Tensor

    def rows(self, at: Tensor | slice) -> Triplets:
        """Some of them."""
        return Triplets(*(part[at] for part in self))


class _Layer:
    """A texture of plane waves for each of n scenes, and how it moves: v(q) = u + B (q - middle)."""

    def __init__(self, n: int, size: int, rng: torch.Generator) -> None:
        def uniform(*shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=rng)

        angle = 2 * torch.pi * uniform(WAVES)
        length = SHORTEST * (LONGEST / SHORTEST) ** uniform(WAVES)
        self.waves = 2 * torch.pi / length[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
        self.phase = 2 * torch.pi * uniform(WAVES)
        self.height = length.sqrt() * (0.5 + uniform(WAVES))
        self.height *= 0.2 / (self.height.square().sum(1, keepdim=True) / 2).sqrt()
        self.speed = FASTEST * (2 * uniform(2) - 1)
        turn, grow = (TURN * (2 * uniform(1) - 1) for _ in range(2))
        self.matrix = torch.stack([grow, -turn, turn, grow], -1).view(n, 2, 2)
        self.middle = torch.full((n, 2), (size - 1) / 2)

    def velocity(self, q: Tensor) -> Tensor:
        """At places q, shape (n, 2, h, w)."""
        away = q - self.middle[..., None, None]
        return self.speed[..., None, None] + torch.einsum("nij,njhw->nihw", self.matrix, away)

    def back(self, p: Tensor, later: Tensor) -> Tensor:
        """The q that have moved to places p by ``q + later v(q)``."""
        inverse = torch.linalg.inv(torch.eye(2) + later[..., 0] * self.matrix)
        shift = later[..., 0] * self.speed[..., None]
        away = p - self.middle[..., None, None] - shift[..., None]
        return torch.einsum("nij,njhw->nihw", inverse, away) + self.middle[..., None, None]

    def colour(self, q: Tensor) -> Tensor:
        """At places q, shape (n, 1, h, w)."""
        phase = torch.einsum("nkj,njhw->nkhw", self.waves, q) + self.phase[..., None, None]
        return 0.5 + (self.height[..., None, None] * phase.sin()).sum(1, keepdim=True)


def textures(n: int, size: int, seed: int, t: float | None = 0.5) -> Triplets:
    """A textured disc before a textured ground, both moving, turning and growing by themselves.

    Everything is a formula of the place, so that no frame is made from another. Places move in straight
    lines at constant speed. With t None the frame between is at any time in (0.2, 0.8).
    """
    rng = torch.Generator().manual_seed(seed)
    ground, disc = _Layer(n, size, rng), _Layer(n, size, rng)
    disc.middle = size * (0.3 + 0.4 * torch.rand(n, 2, generator=rng))
    radius = size * (0.12 + 0.13 * torch.rand(n, 1, 1, 1, generator=rng))
    any_time = 0.2 + 0.6 * torch.rand(n, 1, 1, 1, generator=rng)
    time = any_time if t is None else torch.full_like(any_time, t)
    pixels = places(torch.empty(1, 1, size, size))

    def cover(q: Tensor) -> Tensor:
        away = (q - disc.middle[..., None, None]).square().sum(1, keepdim=True).sqrt()
        return torch.sigmoid(2 * (radius - away))

    def frame(at: Tensor) -> Tensor:
        behind, front = (layer.back(pixels, at - time) for layer in (ground, disc))
        share = cover(front)
        return (1 - share) * ground.colour(behind) + share * disc.colour(front)

    zero, one = torch.zeros_like(time), torch.ones_like(time)
    v = torch.where(cover(pixels) > 0.5, disc.velocity(pixels), ground.velocity(pixels))
    return Triplets(frame(zero), frame(one), frame(time), time, -time * v, (1 - time) * v)
