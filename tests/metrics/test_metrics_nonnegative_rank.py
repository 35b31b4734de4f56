"""Bounds of the non-negative rank, and the command that prints them."""

from __future__ import annotations

import numpy as np
import pytest
from shell import nmfnet

from nmfnet import UserError, metrics
from nmfnet.selection.nonnegative_rank import lines, rank_bounds

SQUARE = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]])
"""Rank 3 and non-negative rank 4. Source: Cohen & Rothblum 1993."""


def test_the_four_by_four_of_rank_3_has_non_negative_rank_4():
    bounds = rank_bounds(SQUARE)
    assert (bounds.rank, bounds.fooling, bounds.cover.size) == (3, 4, 4)
    assert bounds.errors[3] > 0.01
    assert (bounds.lower, bounds.upper) == (4, 4)


def test_boolean_rank_of_all_but_the_diagonal():
    """1 - I of 6 has rank 6, and 4 rectangles cover it: the least k with C(k, k / 2) >= 6."""
    pattern = metrics.support_of(1 - np.eye(6))
    assert metrics.rectangle_cover(pattern).size == 4
    assert len(metrics.fooling_set(pattern)) == 3


@pytest.mark.parametrize("seed", range(3))
def test_lower_bounds_hold_for_planted_factors_and_an_exact_fit_is_found(seed):
    rng = np.random.default_rng(seed)
    W, H = ((rng.random(shape) < 0.5) * rng.exponential(size=shape) for shape in ((9, 3), (3, 8)))
    X = W @ H
    bounds = rank_bounds(X, starts=20)
    assert bounds.rank <= bounds.lower <= bounds.upper <= 3
    at = metrics.fooling_set(pattern := metrics.support_of(X))
    for i, (row, column) in enumerate(at):
        assert pattern[row, column]
        assert all(not (pattern[row, c] and pattern[r, column]) for r, c in at[:i])


@pytest.mark.parametrize(
    "scale", [[1, 1, 1, 1e-9], [1, 1e-4, 1e-8, 1e-12], [1e-200] * 4, [1e300] * 4]
)
def test_the_bounds_do_not_depend_on_the_size_of_rows_and_columns(scale):
    """Divided by positive numbers, rows and columns have the same factorisations."""
    for X in (np.diag(scale) @ SQUARE, SQUARE @ np.diag(scale)):
        bounds = rank_bounds(X, starts=5)
        assert (bounds.rank, bounds.lower, bounds.upper) == (3, 4, 4)
        assert bounds.errors[3] > 0.01


def test_no_upper_bound_is_below_a_lower_one():
    near = np.array([[1, 1], [1, 1 + 1e-13]])  # one direction, as far as can be said
    small = SQUARE + 1e-9 * np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    for X in (near, small, np.kron(np.eye(2), small)):
        bounds = rank_bounds(X, starts=3, tolerance=1e-3)
        assert bounds.lower <= bounds.upper
    loose = rank_bounds(SQUARE, starts=3, tolerance=0.5)  # 3 are as near as that
    assert (loose.lower, loose.upper) == (4, 4)
    assert "not exact" in " ".join(said for *_, said in lines(loose))


def test_a_cover_of_some_rows_says_so():
    rng = np.random.default_rng(0)
    X = (rng.random((30, 4)) < 0.4).astype(float) @ (rng.random((4, 14)) < 0.4)
    cover = metrics.rectangle_cover(metrics.support_of(X))
    assert cover.size <= 4
    assert cover.rows == 12 or cover.of <= 12


def test_the_command_prints_the_bounds_and_refuses_bad_matrices(tmp_path):
    np.savetxt(tmp_path / "X.csv", SQUARE, delimiter=",", fmt="%d")
    said = nmfnet("rank-bounds", "X.csv", "--starts", "5", cwd=tmp_path)
    assert said.code == 0
    assert "the non-negative rank is 4" in said.out
    assert "not exact" in said.out
    for X, words in (
        (SQUARE - 1, "8 negative values"),
        (0 * SQUARE, "all entries of X are 0"),
        (SQUARE * np.nan, "finite"),
    ):
        with pytest.raises(UserError, match=words):
            rank_bounds(X)
    with pytest.raises(UserError, match="starts=0"):
        rank_bounds(SQUARE, starts=0)
