"""Scores of components on new samples: W refitted by non-negative least squares with H fixed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.metrics._blocks import Product, is_sparse, readable
from nmfnet.metrics._checks import as_dense
from nmfnet.metrics.fit import mse

__all__ = ["nnls_refit", "refit_mse"]

FloatArray = npt.NDArray[np.float64]


def nnls_refit(x: Any, H: Any) -> FloatArray:
    """Exact ``W = argmin_{W >= 0} ||X - W H||_F`` for fixed components.

    Parameters
    ----------
    x : array or scipy sparse matrix, shape (n, f)
        Samples, all entries observed.
    H : array, shape (k, f)
        Components (any sign).

    Returns
    -------
    ndarray, shape (n, k)
        Non-negative, in the unit of X over that of H.
    """
    from scipy.optimize import nnls

    components, data = as_dense("H", H, 2), readable(x)
    if data.shape[1] != components.shape[1]:
        raise UserError(
            f"X has {data.shape[1]} features and H {components.shape[1]}: a refit needs the "
            "same ones."
        )
    basis = np.ascontiguousarray(components.T)
    rows = (data[[i]].toarray()[0] if is_sparse(data) else data[i] for i in range(data.shape[0]))
    return np.array([nnls(basis, np.asarray(row, np.float64))[0] for row in rows])


def refit_mse(x: Any, H: Any) -> float:
    """Mean squared error of samples after an NNLS refit: a test error fair to every model.

    Parameters
    ----------
    x : array or scipy sparse matrix, shape (n, f)
        Samples that H was not trained on.
    H : array, shape (k, f)
        Components.

    Returns
    -------
    float
        In [0, inf), unit of X squared, mean over n f entries; the best that these components can
        do.

    Notes
    -----
    Source: Egendal et al. 2025 (out-of-sample error).
    """
    return mse(x, Product(nnls_refit(x, H), np.asarray(H, np.float64)))
