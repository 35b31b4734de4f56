"""Two small networks that make the frame between two others, after XVFI and FILM."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any, NamedTuple, final

import lightning as L
import torch
import torch.nn.functional as F
from motion import Triplets, compose, finer, reverse, warp
from torch import Tensor, nn


class Made(NamedTuple):
    """A frame between two others, and the flows from it to both.

    ``levels`` has what is made at every scale, finest first: frame, flow to 0, flow to 1.
    """

    frame: Tensor
    to0: Tensor
    to1: Tensor
    levels: list[tuple[Tensor, Tensor, Tensor]]


def convolutions(*channels: int) -> nn.Sequential:
    """3 x 3, a leaky unit after each but the last."""
    layers: list[nn.Module] = []
    for a, b in pairwise(channels):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers[:-1])


def resting(network: nn.Sequential) -> nn.Sequential:
    """The same, whose last layer starts at zero."""
    last = network[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    return network


def halved(frame: Tensor, times: int = 1) -> Tensor:
    """Means of squares of pixels."""
    return frame if not times else F.avg_pool2d(frame, 2**times)


class Interpolation(L.LightningModule, ABC):
    """The frame at time t between two.

    Parameters
    ----------
    levels : int
        Scales, each half of the one before; frames whose sides are no multiples of the coarsest pixel
        are padded by their border, with a warning, and cut again.
    steps : int
        Of training: Adam at 0.002, falling to 0 along a cosine.
    """

    def __init__(self, levels: int, steps: int) -> None:
        super().__init__()
        self.levels, self.steps = levels, steps

    @abstractmethod
    def between(self, before: Tensor, after: Tensor, t: Tensor) -> Made:
        """For frames of fitting size, (n, 1, h, w), and times (n, 1, 1, 1)."""

    def forward(self, before: Tensor, after: Tensor, t: Tensor) -> Made:
        """For frames of any size."""
        if before.shape != after.shape:
            raise ValueError(f"frames of {tuple(before.shape)} and {tuple(after.shape)}")
        (h, w), unit = before.shape[-2:], 2 ** (self.levels - 1)
        down, across = -h % unit, -w % unit
        if not down and not across:
            return self.between(before, after, t)
        warnings.warn(
            f"frames of {h} x {w} are padded to {h + down} x {w + across}, multiples of {unit}, and "
            "what is made is cut again",
            stacklevel=2,
        )
        padded = (F.pad(frame, (0, across, 0, down), "replicate") for frame in (before, after))
        made = self.between(*padded, t)
        return made._replace(
            frame=made.frame[..., :h, :w], to0=made.to0[..., :h, :w], to1=made.to1[..., :h, :w]
        )

    def training_step(self, batch: Triplets, batch_idx: int) -> Tensor:
        return self.loss(self.between(batch.before, batch.after, batch.t), batch)

    @abstractmethod
    def loss(self, made: Made, truth: Triplets) -> Tensor:
        """Of a batch."""

    def configure_optimizers(self) -> dict[str, Any]:
        adam = torch.optim.Adam(self.parameters(), 2e-3)
        scale = torch.optim.lr_scheduler.LambdaLR(
            adam, lambda i: 0.5 + 0.5 * math.cos(math.pi * min(1.0, i / self.steps))
        )
        return {"optimizer": adam, "lr_scheduler": {"scheduler": scale, "interval": "step"}}


@final
class XVFI(Interpolation):
    """Recursive bidirectional flows, reversed to time t, and a U-Net that mends what they bring.

    One network of flows goes from the coarsest scale to the finest, the same at each: what it is given
    at a scale is the features of both frames, and those of either moved onto the other by the flows
    found so far. ``reverse`` turns F01 and F10 into flows from time t, which a second network refines.
    The U-Net says how much of which frame is seen, and what is left to add.

    Source: Sim, Oh & Kim 2021, "XVFI: extreme video frame interpolation", section 4.

    Differs from the source: what is lacking is composed with a flow, not added to it; far fewer weights,
    and one channel.
    """

    def __init__(self, *, channels: int = 12, levels: int = 3, steps: int = 1) -> None:
        super().__init__(levels, steps)
        c = channels
        self.features = convolutions(1, c, c)
        self.coarser = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv2d(c, c, 4, stride=2, padding=1))
        self.flows = resting(convolutions(4 * c + 4, 2 * c, 2 * c, c, 6))
        self.flows_at_t = resting(convolutions(4 * c + 4, 2 * c, c, 4))
        self.down = convolutions(2 * c + 8, c, c)
        self.bottom = convolutions(c, 2 * c, c)
        self.up = resting(convolutions(2 * c, c, 2))

    def between(self, before: Tensor, after: Tensor, t: Tensor) -> Made:
        features = [(self.features(before), self.features(after))]
        for _ in range(self.levels - 1):
            one, two = features[-1]
            features.append((self.coarser(one), self.coarser(two)))
        flow = features[-1][0].new_zeros(len(before), 4, *features[-1][0].shape[-2:])
        levels = []
        for level in reversed(range(self.levels)):
            c0, c1 = features[level]
            if level < self.levels - 1:
                flow = finer(flow)
            f01, f10 = flow.chunk(2, 1)
            found = self.flows(torch.cat([c0, warp(c1, f01), c1, warp(c0, f10), flow], 1))
            more01, more10, trust = found[:, :2], found[:, 2:4], torch.sigmoid(found[:, 4:])
            f01, f10 = compose(more01, f01), compose(more10, f10)
            flow = torch.cat([f01, f10], 1)
            to0, to1 = reverse(f01, f10, t, *trust.chunk(2, 1))
            moved = torch.cat([c0, warp(c0, to0), c1, warp(c1, to1), to0, to1], 1)
            more0, more1 = self.flows_at_t(moved).chunk(2, 1)
            to0, to1 = compose(more0, to0), compose(more1, to1)
            frames = halved(before, level), halved(after, level)
            levels.insert(0, (self._seen(*frames, c0, c1, to0, to1, t), to0, to1))
        return Made(*levels[0], levels)

    def _seen(
        self, before: Tensor, after: Tensor, c0: Tensor, c1: Tensor, to0: Tensor, to1: Tensor,
        t: Tensor,
    ) -> Tensor:  # fmt: skip
        """The frame: a blend of both as they are moved, and a rest."""
        from0, from1 = warp(before, to0), warp(after, to1)
        known = [from0, from1, before, after, warp(c0, to0), warp(c1, to1), to0, to1]
        wide = self.down(torch.cat(known, 1))
        deep = F.interpolate(self.bottom(halved(wide)), size=wide.shape[-2:], mode="bilinear")
        mask, rest = self.up(torch.cat([wide, deep], 1)).chunk(2, 1)
        seen0, seen1 = (1 - t) * torch.sigmoid(mask), t * torch.sigmoid(-mask)
        blend: Tensor = (seen0 * from0 + seen1 * from1) / (seen0 + seen1) + rest
        return blend

    def loss(self, made: Made, truth: Triplets) -> Tensor:
        """L1 at every scale, and flows that are smooth where the frame is."""
        parts = [
            F.l1_loss(frame, halved(truth.between, i)) for i, (frame, *_) in enumerate(made.levels)
        ]
        return torch.stack(parts).sum() + 0.002 * roughness(made, truth.between)


def roughness(made: Made, frame: Tensor) -> Tensor:
    """Steps of the flows to the next pixel, less where the frame has an edge."""
    flows, found = torch.cat([made.to0, made.to1], 1), frame.new_zeros(())
    for axis in (-1, -2):
        step = flows.diff(dim=axis).abs().mean(1, keepdim=True)
        found = found + (torch.exp(-10 * frame.diff(dim=axis).abs()) * step).mean()
    return found


@final
class FILM(Interpolation):
    """One pyramid of features for all scales, flows that are refined from scale to scale, and fusion.

    The features of a scale are those of its own picture and those that the same layers reach from the
    picture of twice the size, so that every scale but the finest has the same, and one network finds
    what its flows lack. Pictures and features, moved to the middle, go into the decoder of a U-Net.

    Source: Reda et al. 2022, "FILM: frame interpolation for large motion", section 3.

    Differs from the source: flows start from the middle frame; the decoder adds to the mean of the two
    moved frames, which the loss looks at as well at every scale, in place of losses by VGG-19; what is
    lacking is composed with a flow, not added to it; far fewer weights, and one channel.
    """

    def __init__(self, *, channels: int = 12, levels: int = 3, steps: int = 1) -> None:
        super().__init__(levels, steps)
        c = channels
        self.shallow, self.deep = convolutions(1, c, c), convolutions(c, c, c)
        self.finest = resting(convolutions(2 * c + 4, 2 * c, c, 2))
        self.others = resting(convolutions(4 * c + 4, 2 * c, 2 * c, c, 2))
        wide = [2 * c + 6] + [4 * c + 6] * (levels - 1)
        self.bottom = convolutions(wide[-1], c, c)
        self.fuse = nn.ModuleList(convolutions(c + width, c, c) for width in wide[:-1])
        self.last = resting(convolutions(c, 1))

    def between(self, before: Tensor, after: Tensor, t: Tensor) -> Made:
        if not bool((t == 0.5).all()):
            raise ValueError("FILM makes the frame in the middle: t = 0.5")
        f0, f1 = self._pyramid(before), self._pyramid(after)
        n, _, h, w = f0[-1].shape
        to0 = to1 = before.new_zeros(n, 2, h, w)
        levels, known = [], []
        for level in reversed(range(self.levels)):
            if level < self.levels - 1:
                to0, to1 = finer(to0), finer(to1)
            lack = self.others if level else self.finest
            moved0, moved1 = warp(f0[level], to0), warp(f1[level], to1)
            more0 = lack(torch.cat([moved0, moved1, to0, to1], 1))
            more1 = lack(torch.cat([moved1, moved0, to1, to0], 1))
            to0, to1 = compose(more0, to0), compose(more1, to1)
            frames = warp(halved(before, level), to0), warp(halved(after, level), to1)
            levels.insert(0, ((frames[0] + frames[1]) / 2, to0, to1))
            parts = [*frames, warp(f0[level], to0), warp(f1[level], to1), to0, to1]
            known.insert(0, torch.cat(parts, 1))
        x = self.bottom(known[-1])
        for fuse, part in zip(reversed(self.fuse), reversed(known[:-1]), strict=True):
            x = fuse(torch.cat([F.interpolate(x, scale_factor=2, mode="bilinear"), part], 1))
        return Made(levels[0][0] + self.last(F.leaky_relu(x, 0.1)), to0, to1, levels)

    def _pyramid(self, frame: Tensor) -> list[Tensor]:
        """Features of every scale, finest first."""
        own = [self.shallow(halved(frame, level)) for level in range(self.levels)]
        below = [self.deep(F.leaky_relu(halved(x), 0.1)) for x in own[:-1]]
        return [own[0], *(torch.cat(pair, 1) for pair in zip(own[1:], below, strict=True))]

    def loss(self, made: Made, truth: Triplets) -> Tensor:
        """L1 of the frame, and of the mean of the moved frames at every scale."""
        parts = [
            F.l1_loss(frame, halved(truth.between, i)) for i, (frame, *_) in enumerate(made.levels)
        ]
        whole = F.l1_loss(made.frame, truth.between)
        return whole + torch.stack(parts).sum() + 0.002 * roughness(made, truth.between)
