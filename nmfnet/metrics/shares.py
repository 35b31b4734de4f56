"""Shares of known components: how far they are from the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nmfnet.errors import UserError

__all__ = ["share_errors"]


def share_errors(found: Any, true: Any, names: Sequence[str]) -> dict[str, float]:
    """Pearson correlation and root mean squared error of shares, of all and by component.

    Parameters
    ----------
    found, true : array, shape (n, k)
        Shares in [0, 1]; rows with NaN are left out.
    names : sequence of str, length k

    Returns
    -------
    dict of str to float
        ``r``, ``rmse``, and ``r/NAME``, ``rmse/NAME``; a correlation in [-1, 1] is left out where one
        side does not vary.
    """
    a, b = np.asarray(found, np.float64), np.asarray(true, np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != len(names):
        raise UserError(
            f"shares {a.shape}, true shares {b.shape}, {len(names)} names: they must fit"
        )
    seen = np.isfinite(a).all(1) & np.isfinite(b).all(1)
    a, b = a[seen], b[seen]
    if not len(a):
        return {}
    result: dict[str, float] = {}
    for key, x, y in (
        ("", a.ravel(), b.ravel()),
        *((f"/{name}", a[:, j], b[:, j]) for j, name in enumerate(names)),
    ):
        if np.ptp(x) > 0 and np.ptp(y) > 0:
            result[f"r{key}"] = float(np.corrcoef(x, y)[0, 1])
        result[f"rmse{key}"] = float(np.sqrt(np.mean((x - y) ** 2)))
    return result
