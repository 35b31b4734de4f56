"""Components of draws belong to those of the data by their weights."""

from __future__ import annotations

import numpy as np
import pytest

from nmfnet import UserError
from nmfnet.metrics import drawn_rows, mapped_components, profiles_of_draws

RNG = np.random.default_rng(0)
W, H = RNG.gamma(1, 1, (50, 3)), RNG.dirichlet(np.ones(6), 3)


def test_rows_are_drawn_in_blocks() -> None:
    for n, block in ((10, 1), (10, 3), (10, 10), (1, 1)):
        rows = drawn_rows(n, block, np.random.default_rng(1))
        assert rows.shape == (n,)
        assert 0 <= rows.min() <= rows.max() < n
        steps = np.diff(rows)[np.arange(1, n) % block > 0]
        assert (steps == 1).all()
    many = np.concatenate([drawn_rows(9, 1, np.random.default_rng(s)) for s in range(2000)])
    assert np.bincount(many) / many.size == pytest.approx(np.full(9, 1 / 9), abs=0.01)
    for block in (0, 11):
        with pytest.raises(UserError, match="cannot be drawn from 10"):
            drawn_rows(10, block, np.random.default_rng(0))


def test_components_belong_together_by_correlation_whatever_their_order_and_scale() -> None:
    order = np.array([2, 0, 1])
    at, highest = mapped_components(W, 7 * W[:, order] + 3)
    assert at.tolist() == order.tolist()
    assert highest == pytest.approx(np.ones(3))
    noise = np.random.default_rng(5).gamma(1, 1, (50, 1))
    constant = np.full((50, 1), 0.3)
    at, highest = mapped_components(
        W, np.hstack([W[:, :1], noise, constant, W[:, :1] + 0.1 * noise])
    )
    assert at.tolist() == [0, -1, -1, 0]
    assert highest[2] == 0


def test_profiles_of_equal_draws_do_not_move() -> None:
    rows = np.arange(50)
    found = profiles_of_draws(W, 5 * H, [(rows, W[:, [1, 2, 0]], H[[1, 2, 0]])] * 4)
    for name in ("shares", "low", "middle", "high"):
        assert getattr(found, name) == pytest.approx(H)
    assert found.found.tolist() == [1, 1, 1]
    assert found.unmapped == 0


def test_a_component_that_is_lost_has_no_interval() -> None:
    rows = np.arange(50)
    other = np.random.default_rng(5).gamma(1, 1, (50, 1))
    lost = (rows, np.hstack([W[:, :2], other]), H)
    found = profiles_of_draws(W, H, [lost, (rows, W, H)])
    assert found.found.tolist() == [1, 1, 0.5]
    assert found.unmapped == pytest.approx(1 / 6)
    assert found.low[2] == pytest.approx(H[2])
    never = profiles_of_draws(W, H, [lost])
    assert np.isnan(never.high[2]).all()
    assert np.isfinite(never.high[:2]).all()
    with pytest.raises(UserError, match="there are no draws"):
        profiles_of_draws(W, H, [])
    twice = profiles_of_draws(
        W, H, [(rows, np.column_stack([W, W[:, 0] + other[:, 0]]), H[[0, 1, 2, 2]])]
    )
    assert twice.low[0] == pytest.approx(H[0])  # the more correlated of two
