"""Frames between frames: warps and flows are exact where they can be, and the networks fit together."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments" / "frames"))

from motion import Triplets, compose, finer, places, reverse, splat, textures, warp
from networks import FILM, XVFI, halved


def flow_of(x: float, y: float, h: int = 7, w: int = 9) -> torch.Tensor:
    return torch.tensor([x, y], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, h, w)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (2, 0), (0, -3), (-1, 2)])
def test_a_warp_by_whole_pixels_is_a_shift(x, y):
    frame = torch.randn(1, 3, 7, 9, dtype=torch.float64)
    found = warp(frame, flow_of(x, y))
    down, across = torch.arange(7) + y, torch.arange(9) + x
    wanted = frame[:, :, down.clamp(0, 6)][..., across.clamp(0, 8)]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_a_warp_is_linear_between_pixels_and_its_gradient_is_right():
    ramp = 2 * places(torch.empty(1, 1, 7, 9))[:, :1].double() + 1
    found = warp(ramp, flow_of(0.25, 0.5))
    torch.testing.assert_close(found[..., :-1], (ramp + 0.5)[..., :-1], rtol=0, atol=1e-12)
    torch.manual_seed(0)
    frame = torch.randn(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    flow = (0.3 * torch.rand(1, 2, 4, 5, dtype=torch.float64) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(warp, (frame, flow))


def test_flows_are_composed():
    """Of affine motions, which a linear interpolation has exactly."""
    torch.testing.assert_close(compose(flow_of(1, -2), flow_of(0.5, 3)), flow_of(1.5, 1))
    at = places(torch.empty(1, 1, 9, 9)).double() - 4
    grow, turn = torch.tensor([[-0.2, 0], [0, -0.1]]), torch.tensor([[0, -0.1], [0.1, 0]])
    first, then = (torch.einsum("ij,njhw->nihw", m.double(), at) for m in (grow, turn))
    both = torch.eye(2) + grow + turn @ (torch.eye(2) + grow) - torch.eye(2)
    wanted = torch.einsum("ij,njhw->nihw", both.double(), at)
    torch.testing.assert_close(compose(first, then), wanted, rtol=0, atol=1e-6)
    again = compose(first, torch.einsum("ij,njhw->nihw", torch.linalg.inv(
        torch.eye(2) + grow).double() - torch.eye(2), at))  # fmt: skip
    torch.testing.assert_close(again, torch.zeros_like(again), rtol=0, atol=1e-6)
    assert torch.equal(finer(flow_of(1, 2)), flow_of(2, 4, 14, 18))


def test_a_constant_flow_is_reversed_and_splat_keeps_means():
    one, t = torch.ones(1, 1, 7, 9, dtype=torch.float64), torch.full((1, 1, 1, 1), 0.25).double()
    to0, to1 = reverse(flow_of(2, -1), flow_of(-2, 1), t, one, one)
    torch.testing.assert_close(to0, flow_of(-0.5, 0.25))
    torch.testing.assert_close(to1, flow_of(1.5, -0.75))
    values = torch.randn(1, 3, 7, 9, dtype=torch.float64)
    sums, weight = splat(values, flow_of(1, 0), one)
    near, v = math.exp(-2), values[..., 3, :]
    above = values[..., 2, :]
    wanted = (v[..., 3] + near * (v[..., 2] + above[..., 3]) + near**2 * above[..., 2]) / (
        1 + near
    ) ** 2
    torch.testing.assert_close(sums[..., 3, 4] / weight[..., 3, 4], wanted)
    torch.manual_seed(0)
    flow = (0.3 * torch.rand(1, 2, 3, 4, dtype=torch.float64) + 0.1).requires_grad_()
    value = torch.randn(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    small = torch.ones(1, 1, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v, f: splat(v, f, small)[0], (value, flow))


def test_textures_move_as_they_say():
    """A frame moved by the true flows is the frame between, but for what is hidden or outside."""
    rows = textures(6, 32, seed=0, t=0.4)
    for frame, flow in ((rows.before, rows.to0), (rows.after, rows.to1)):
        away = (warp(frame, flow) - rows.between).abs()[..., 6:-6, 6:-6]
        still = (frame - rows.between).abs()[..., 6:-6, 6:-6]
        assert float(away.median()) < 0.02
        assert float(away.mean()) < 0.35 * float(still.mean())
    torch.testing.assert_close(rows.to1 * rows.t, -rows.to0 * (1 - rows.t))
    assert torch.equal(textures(2, 16, seed=5).between, textures(2, 16, seed=5).between)


@pytest.mark.parametrize("kind", [XVFI, FILM])
def test_a_network_starts_with_the_average_and_learns(kind):
    torch.manual_seed(0)
    rows, network = textures(2, 16, seed=1), kind(channels=4)
    with torch.no_grad():
        made = network(rows.before, rows.after, rows.t)
    torch.testing.assert_close(made.frame, (rows.before + rows.after) / 2)
    assert float(made.to0.abs().max()) == 0
    before = network.training_step(rows, 0)
    before.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 1e-2 * parameter.grad
    assert float(network.training_step(rows, 0).detach()) < float(before.detach())
    assert torch.equal(halved(rows.before, 1)[0, 0, 0, 0], rows.before[0, 0, :2, :2].mean())


def test_odd_sizes_are_padded_with_a_word_and_what_does_not_fit_is_refused():
    network = XVFI(channels=4)
    rows = textures(1, 16, seed=1)
    odd = Triplets(*(part[..., :13, :15] if part.shape[-1] > 1 else part for part in rows))
    with pytest.warns(UserWarning, match="13 x 15 are padded to 16 x 16"):
        made = network(odd.before, odd.after, odd.t)
    assert made.frame.shape == (1, 1, 13, 15)
    assert made.to0.shape == (1, 2, 13, 15)
    with pytest.raises(ValueError, match="frames of"):
        network(rows.before, odd.after, rows.t)
    with pytest.raises(ValueError, match=r"t = 0\.5"):
        FILM(channels=4)(rows.before, rows.after, rows.t / 2)
