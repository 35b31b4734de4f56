"""Few known components for every row of counts, by an information criterion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmfnet.kernels.products import in_ranges

FloatArray = npt.NDArray[np.float64]


def few_by_criterion(
    x: FloatArray,
    H: FloatArray,
    seen: FloatArray | None = None,
    *,
    gamma: float = 0.5,
    kept: npt.NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Weights W >= 0, most of them 0, of Poisson regressions ``x ~ W H``.

    Of every row that set is sought which minimises the extended Bayesian information criterion
    ``-log p(x) + m (log(N) / 2 + gamma log(k))``, N the counts of the row, m the components chosen of k:
    from the fit of all the cheapest are taken out one by one, then others are tried in their place. This
    is a local search: among few alike components another set may be a fraction of a nat better.

    Parameters
    ----------
    x : ndarray of float64, shape (n, f), counts
    H : ndarray of float64, shape (k, f), >= 0
    seen : ndarray, shape (n, f), optional
        Weights of the entries, 0 = missing.
    gamma : float, >= 0
        0 is Schwarz's criterion, which finds too many where there is a choice of many.
    kept : ndarray of bool, shape (k,), optional
        Components that every row may have at no cost.

    Returns
    -------
    ndarray, shape (n, k)

    Source: Chen & Chen 2008, "Extended Bayesian information criteria for model selection with large model
    spaces", eq. (1), for components in place of covariates.
    """
    from nmfnet.kernels.compiled.criterion import select_rows

    n, k = len(x), len(H)
    weights = np.ones_like(x) if seen is None else np.ascontiguousarray(seen, np.float64)
    counts = np.maximum((x * weights).sum(1), np.e)
    cost = 0.5 * np.log(counts) + gamma * np.log(k)
    free = np.zeros(k, np.bool_) if kept is None else kept
    W = np.zeros((n, k))
    arrays = np.ascontiguousarray(x), weights, np.ascontiguousarray(H), cost, free
    in_ranges(lambda i, j: select_rows(*arrays, i, j, W), n, 1)
    return W
