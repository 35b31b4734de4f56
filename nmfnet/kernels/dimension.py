"""How many directions a cloud of points has, seen from near."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["intrinsic_dimension"]

OUTLYING = 0.1
"""Share of the largest ratios that the estimate of a dimension leaves out."""


def intrinsic_dimension(X: npt.ArrayLike) -> float:
    """Dimension of the set that the rows lie on, by the ratio of their second to their first distance.

    These ratios have a Pareto law with the dimension as its exponent, which is found by maximum
    likelihood from the ``1 - OUTLYING`` smallest. Rows of which another is a copy are left out.

    Source: Facco, d'Errico, Rodriguez & Laio 2017, "Estimating the intrinsic dimension of datasets by a
    minimal neighborhood information", eq. (3), with the likelihood of a censored sample.
    """
    from scipy.spatial import KDTree

    rows = np.unique(np.asarray(X, np.float64), axis=0)
    if len(rows) < 4:
        return float("nan")
    distances = np.asarray(KDTree(rows).query(rows, 3)[0])
    logs = np.sort(np.log(distances[:, 2] / distances[:, 1]))
    kept = int(np.ceil((1 - OUTLYING) * len(logs)))
    return float(kept / (logs[:kept].sum() + (len(logs) - kept) * logs[kept - 1]))
