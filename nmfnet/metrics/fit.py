"""How well a reconstruction fits the data.

Every function takes the data, its reconstruction and a mask, works block by block over rows in
float64 (a sparse X is never densified as a whole), and knows no model.

Common parameters
-----------------
x : array or scipy sparse matrix, shape (n, f)
    Data. A sparse matrix means that absent entries are observed zeros.
x_hat : array (n, f), or callable
    Reconstruction; a callable gets a ``slice`` of rows and returns those rows, shape (m, f), so
    that the whole reconstruction need never exist. ``Product(W, H)`` is the callable of a
    factorisation.
mask : array or scipy sparse matrix, shape (n, f), optional
    Non-zero = the entry counts. Entries outside it may hold anything, NaN included. To score
    held-out entries pass the mask of the held-out entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.metrics._blocks import Product, is_sparse, readable, row_blocks

__all__ = [
    "Product",
    "explained_variance",
    "feature_means",
    "fit_metrics",
    "kl",
    "mse",
    "poisson_deviance",
    "q_values",
    "relative_error",
    "rmse",
    "sample_cosine",
    "svd_floor",
    "svd_floor_curve",
    "thinned_deviance",
]

FloatArray = npt.NDArray[np.float64]
Term = Callable[[FloatArray, FloatArray], float]


def relative_error(x: Any, x_hat: Any, mask: Any = None) -> float:
    """Relative Frobenius error ``||X - X_hat||_F / ||X||_F``.

    Returns
    -------
    float
        In [0, inf), no unit; 0 is exact. For X = 0: 0 if X_hat = 0, else inf.
    """
    _, residual, reference = _totals(x, x_hat, mask, (_squared_error, _squared_data))
    return _root_ratio(residual, reference)


def kl(x: Any, x_hat: Any, mask: Any = None) -> float:
    """Generalised Kullback-Leibler divergence, summed: ``sum x log(x / x_hat) - x + x_hat``.

    Returns
    -------
    float
        In [0, inf], nats times the unit of X, with ``0 log 0 = 0``. inf where x > 0 meets
        x_hat = 0; nan where x or x_hat is negative (the divergence is not defined there).

    Notes
    -----
    Source: Lee & Seung 2001, eq. 3. Half the Poisson deviance. It is not the entropy of
    row-normalised profiles that some tools print under the same name.
    """
    return _totals(x, x_hat, mask, (_kl,))[1]


def mse(x: Any, x_hat: Any, mask: Any = None) -> float:
    """Mean squared error over the observed entries, in the unit of X squared, in [0, inf)."""
    count, residual = _totals(x, x_hat, mask, (_squared_error,))
    return residual / count


def rmse(x: Any, x_hat: Any, mask: Any = None) -> float:
    """Root mean squared error over the observed entries, in the unit of X, in [0, inf)."""
    return float(np.sqrt(mse(x, x_hat, mask)))


def poisson_deviance(x: Any, x_hat: Any, mask: Any = None) -> float:
    """Poisson deviance, summed: ``2 sum x log(x / x_hat) - x + x_hat``; range as ``kl``."""
    return 2.0 * kl(x, x_hat, mask)


def thinned_deviance(x_test: Any, x_hat_train: Any, fraction: float, mask: Any = None) -> float:
    """Poisson deviance of the held-out half of thinned counts, summed.

    Parameters
    ----------
    x_test : array or sparse, shape (n, f)
        ``X - X_train`` where ``X_train ~ Binomial(X, fraction)``: independent of X_train when X
        is Poisson.
    x_hat_train : array or callable
        Reconstruction of X_train; its expectation for X_test is ``(1 - fraction) / fraction``
        times.
    fraction : float
        Share of the counts kept for training, strictly between 0 and 1.
    mask : array or sparse, shape (n, f), optional
        Non-zero = the entry counts.

    Returns
    -------
    float
        In [0, inf], nats; lower is better. Comparable only between models on the same thinning.
    """
    if not 0.0 < fraction < 1.0:
        raise UserError(
            f"fraction is {fraction}; count thinning needs a share strictly between 0 and 1."
        )
    odds = (1.0 - fraction) / fraction
    if isinstance(x_hat_train, Product):
        return poisson_deviance(x_test, Product(odds * x_hat_train.W, x_hat_train.H), mask)
    given = x_hat_train if callable(x_hat_train) else np.asarray(x_hat_train).__getitem__
    return poisson_deviance(x_test, lambda rows: odds * np.asarray(given(rows)), mask)


def q_values(x: Any, x_hat: Any, weights: Any, n_components: int) -> dict[str, float]:
    """How large the residuals are beside known uncertainties.

    Parameters
    ----------
    x, x_hat
        As for every function here.
    weights : array, shape (n, f)
        1/u² of the uncertainties u; 0 = the entry does not count.
    n_components : int

    Returns
    -------
    dict of str to float
        ``q`` (the sum of squared residuals in units of u), ``q_expected`` (entries that count, less the
        numbers in W and H) and, where that is above 0, their ratio ``q_ratio``.

    Notes
    -----
    Source: Paatero & Tapper 1994 (Q); Norris et al. 2014, EPA PMF 5.0 (Q expected).
    """
    seen = readable(weights) > 0
    scale = np.sqrt(readable(weights).astype(np.float64))
    x, x_hat = _times(x, scale), _times(x_hat, scale)
    q, (n, f) = _totals(x, x_hat, seen, (_squared_error,))[1], seen.shape
    expected = float(seen.sum() - n_components * (n + f))
    found = {"q": q, "q_expected": expected}
    return found | ({"q_ratio": q / expected} if expected > 0 else {})


def _times(table: Any, scale: FloatArray) -> Any:
    """A table, or a function that gives rows of it, times another."""
    if callable(table):
        return lambda rows: np.asarray(table(rows), np.float64) * scale[rows]
    return np.asarray(table, np.float64) * scale


def feature_means(x: Any, mask: Any = None) -> FloatArray:
    """Mean of the observed entries of every feature, shape (f,); 0 where none is observed."""
    data = readable(x)
    if is_sparse(data) and is_sparse(mask):
        seen = readable(mask) != 0
        sums, counts = (np.asarray(m.sum(axis=0)).ravel() for m in (data.multiply(seen), seen))
        return np.asarray(sums / np.maximum(counts, 1.0))
    observed = np.ones(data.shape[1]) * data.shape[0]
    if mask is not None:
        observed = np.asarray((readable(mask) != 0).sum(axis=0), np.float64).ravel()
    sums = np.zeros(data.shape[1])
    for xb, _, _ in row_blocks(x, _same_row(sums, data), mask):
        sums += xb.sum(axis=0)
    return np.asarray(sums / np.maximum(observed, 1.0))


def explained_variance(
    x: Any, x_hat: Any, mask: Any = None, *, centered: bool = True, means: Any = None
) -> float:
    """Share of the sum of squares that the reconstruction explains: ``1 - SSE / SST``.

    Parameters
    ----------
    x, x_hat, mask
        As for every function here.
    centered : bool, default True
        True: SST is about the feature means (variance; as R^2 of PCA). False: SST is
        ``||X||_F^2`` (Hutchins et al. 2008, usual in NMF papers; equals ``1 - relative_error **
        2``).
    means : array, shape (f,), optional
        The feature means: those of the training data, where X was held out of it; by default of X.

    Returns
    -------
    float
        In (-inf, 1], no unit; 1 is exact. For SST = 0: 1 if exact, else -inf.
    """
    _, residual, squares = _totals(x, x_hat, mask, (_squared_error, _squared_data))
    total = _centered_squares(x, mask, means) if centered else squares
    return 1.0 - _root_ratio(residual, total) ** 2


def sample_cosine(x: Any, x_hat: Any, mask: Any = None) -> FloatArray:
    """Cosine of each row of X with its reconstruction.

    Returns
    -------
    ndarray, shape (n,)
        In [-1, 1], no unit; 0 where either row is all zero.
    """
    rows = [_row_cosine(xb, hb) for xb, hb, _ in row_blocks(x, x_hat, mask)]
    return np.concatenate(rows)


def fit_metrics(x: Any, x_hat: Any, mask: Any = None, means: Any = None) -> dict[str, float]:
    """All fit metrics from one evaluation of the reconstruction.

    Parameters
    ----------
    x, x_hat, mask
        As for every function here.
    means : array, shape (f,), optional
        As for :func:`explained_variance`.

    Returns
    -------
    dict of str to float
        ``relative_error``, ``kl``, ``mse``, ``rmse``, ``explained_variance`` (centred),
        ``poisson_deviance``, ``cosine`` (mean over rows); units and ranges as the functions of
        those names.
    """
    terms = (_squared_error, _squared_data, _kl, _cosine_sum, _rows)
    count, residual, squares, divergence, cosine, rows = _totals(x, x_hat, mask, terms)
    centred = _centered_squares(x, mask, means)
    return _words(count, residual, squares, centred, divergence, cosine / rows)


def fit_words(
    x: FloatArray, x_hat: FloatArray, means: FloatArray, cosine: float
) -> dict[str, float]:
    """The same of a list of entries beside the mean of the feature of each, shapes (nnz,)."""
    sums = (_squared_error(x, x_hat), _squared_data(x, x_hat), _squared_error(x, means))
    return _words(float(x.size), *sums, _kl(x, x_hat), cosine)


def _words(
    count: float, residual: float, squares: float, centred: float, divergence: float, cosine: float
) -> dict[str, float]:
    return {
        "relative_error": _root_ratio(residual, squares),
        "kl": divergence,
        "mse": residual / count,
        "rmse": float(np.sqrt(residual / count)),
        "explained_variance": 1.0 - _root_ratio(residual, centred) ** 2,
        "poisson_deviance": 2.0 * divergence,
        "cosine": cosine,
    }


def cosines(x: FloatArray, x_hat: FloatArray, rows: npt.NDArray[Any], n: int) -> float:
    """Mean cosine of n rows with their reconstruction, of listed entries and the row of each."""
    inner = np.bincount(rows, x * x_hat, n)
    norms = np.sqrt(np.bincount(rows, x * x, n) * np.bincount(rows, x_hat * x_hat, n))
    return float(np.divide(inner, norms, out=np.zeros(n), where=norms > 0).mean())


def svd_floor(x: Any, n_components: int) -> float:
    """Smallest relative error that any matrix of this rank can reach, signs allowed.

    Returns
    -------
    float
        In [0, 1], no unit: ``sqrt(sum_{i > k} s_i^2) / ||X||_F``. A model that reports less over
        the same entries is wrong.

    Notes
    -----
    Source: Eckart & Young 1936.
    """
    return float(svd_floor_curve(x, n_components)[-1])


def svd_floor_curve(x: Any, max_components: int) -> FloatArray:
    """``svd_floor`` for every rank 1..max_components from one decomposition.

    Parameters
    ----------
    x : array or scipy sparse matrix, shape (n, f)
        Data, all entries observed.
    max_components : int
        At least 1; ranks above min(n, f) have floor 0.

    Returns
    -------
    ndarray, shape (max_components,)
        Not increasing, in [0, 1].
    """
    from scipy.sparse.linalg import svds

    if max_components < 1:
        raise UserError(f"n_components is {max_components}; the SVD floor needs at least 1.")
    matrix = readable(x)
    stored = np.asarray(matrix.data if is_sparse(matrix) else matrix, np.float64)
    if not np.isfinite(stored).all():
        raise UserError("X has NaN or infinite entries; the SVD floor needs all of them observed.")
    short = min(matrix.shape)
    if short <= 1000 or max_components >= short // 2:
        dense = np.asarray(matrix.toarray() if is_sparse(matrix) else matrix, np.float64)
        squares = np.linalg.svd(dense, compute_uv=False) ** 2
        left = np.append(np.cumsum(squares[::-1])[::-1], 0.0)  # tail sums: no cancellation
        left = left[np.minimum(np.arange(1, max_components + 1), short)]
        total = squares.sum()
    else:
        start = np.random.default_rng(0).random(short)
        values = svds(matrix.astype(np.float64), k=max_components, v0=start)[1]
        total = float(np.sum(stored**2))
        left = np.maximum(total - np.cumsum(np.sort(values)[::-1] ** 2), 0.0)
    return np.asarray(np.sqrt(left / total)) if total > 0 else np.zeros(max_components)


# One pass over the rows, and the terms that are summed in it. Outside the mask both blocks are 0,
# which adds 0 to every term.


def _squared_error(x: FloatArray, h: FloatArray) -> float:
    difference = (x - h).ravel()
    return float(difference @ difference)


def _squared_data(x: FloatArray, h: FloatArray) -> float:
    return float(x.ravel() @ x.ravel())


def _kl(x: FloatArray, h: FloatArray) -> float:
    if x.min(initial=0.0) < 0 or h.min(initial=0.0) < 0:
        return float("nan")
    positive = x > 0
    return _kl_positive(x[positive], h[positive]) + float(h.sum() - h[positive].sum())


def _kl_positive(x: FloatArray, h: FloatArray) -> float:
    with np.errstate(divide="ignore"):
        return float((x * (np.log(x) - np.log(h)) - x + h).sum())


def _rows(x: FloatArray, h: FloatArray) -> float:
    return float(len(x))


def _cosine_sum(x: FloatArray, h: FloatArray) -> float:
    return float(_row_cosine(x, h).sum())


def _row_cosine(x: FloatArray, h: FloatArray) -> FloatArray:
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(h, axis=1)
    inner = np.einsum("nf,nf->n", x, h)
    return np.asarray(np.divide(inner, norms, out=np.zeros_like(inner), where=norms > 0))


def _totals(x: Any, x_hat: Any, mask: Any, terms: Sequence[Term]) -> list[float]:
    """How many entries count, then each term summed over them."""
    totals = [0.0] * (1 + len(terms))
    for xb, hb, keep in row_blocks(x, x_hat, mask):
        count = xb.size if keep is None else int(keep.sum())
        values = [float(count)] + [term(xb, hb) for term in terms]
        totals = [total + value for total, value in zip(totals, values, strict=True)]
    if totals[0] == 0:
        raise UserError("The mask observes no entry at all: there is nothing to measure.")
    return totals


def _centered_squares(x: Any, mask: Any, means: Any) -> float:
    """Squares about the feature means, observed entries only (two passes: no cancellation)."""
    row = feature_means(x, mask) if means is None else np.asarray(means, np.float64)
    return _totals(x, _same_row(row, readable(x)), mask, (_squared_error,))[1]


def _same_row(row: FloatArray, data: Any) -> Callable[[slice], FloatArray]:
    """The reconstruction whose rows are all ``row``."""
    n, f = data.shape
    return lambda rows: np.broadcast_to(row, (len(range(*rows.indices(n))), f))


def _root_ratio(part: float, whole: float) -> float:
    if whole > 0:
        return float(np.sqrt(part / whole))
    return 0.0 if part == 0 else float("inf")
