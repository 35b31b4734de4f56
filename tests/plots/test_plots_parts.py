"""The picture parts x code = image."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import nmfnet
from nmfnet.plots.parts import parts


@functools.cache
def faces() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    H, W = rng.exponential(size=(5, 24)), rng.exponential(size=(9, 5))
    return H, W, W @ H + 0.01 * rng.random((9, 24))


def panels(figure) -> dict[str, np.ndarray]:
    return {
        axes.get_label(): np.asarray(axes.images[0].get_array())
        for axes in figure.axes
        if axes.images
    }


def test_code_times_parts_is_the_sum_that_is_drawn():
    H, W, X = faces()
    drawn = panels(parts(H, W, X, W @ H, (6, 4)))
    assert set(drawn) == {"parts", "code", "sum", "original"}
    at = int(np.flatnonzero((X.reshape(-1, 6, 4) == drawn["original"]).all((1, 2)))[0])
    code = drawn["code"].ravel()[:5]
    np.testing.assert_allclose(code, W[at] * H.max(1))
    total = np.tensordot(code / H.max(1), H, 1)
    np.testing.assert_allclose(drawn["sum"].ravel(), total)


def test_what_no_code_changes_is_drawn_beside_and_few_parts_are_chosen():
    H, W, X = faces()
    mean = np.linspace(0, 1, 24)
    drawn = panels(parts(H - 1, W, X + mean, W @ (H - 1) + mean, (6, 4), max_parts=4))
    np.testing.assert_allclose(drawn["constant"].ravel(), mean)
    assert np.isfinite(drawn["code"]).sum() == 4
    with pytest.raises(nmfnet.UserError, match="W has 3 rows and x 9"):
        parts(H, W[:3], X, X, (6, 4))
