"""Replicates of a data matrix: resampled, thinned, with outlying samples capped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from nmfnet.data.formats.raw import is_sparse
from nmfnet.data.matrix import Matrix

__all__ = ["are_counts", "capped_shares", "cutoff", "rates_note", "resample", "thin"]

FloatArray = npt.NDArray[np.float64]


def are_counts(values: Any) -> bool:
    """Whether all entries are whole numbers >= 0."""
    stored = values.data if is_sparse(values) else values
    return bool((stored >= 0).all() and (stored == np.floor(stored)).all())


def resample(values: Any, how: str, rng: np.random.Generator, noise: float = 0.03) -> Any:
    """One replicate of X.

    Parameters
    ----------
    values : ndarray or csr_matrix, shape (n, f)
        Non-negative for ``poisson`` and ``multinomial``.
    how : {"poisson", "multinomial", "uniform", "none"}
        See ``Selection``.
    rng : numpy.random.Generator
    noise : float
        Of ``uniform``.

    Returns
    -------
    ndarray or csr_matrix, shape (n, f)

    Notes
    -----
    Source: Alexandrov et al. 2013 and Islam et al. 2022 (multinomial bootstrap of mutation counts);
    Vangara et al. 2021 (NMFk, uniform perturbation).
    """
    if how == "none":
        return values
    if is_sparse(values):
        made = sp.csr_matrix(values).copy()
        if how != "multinomial":
            made.data = _drawn(made.data, how, rng, noise)
            return made
        for start, end in zip(made.indptr[:-1], made.indptr[1:], strict=True):
            made.data[start:end] = _drawn(made.data[None, start:end], how, rng, noise)[0]
        return made
    return _drawn(values, how, rng, noise)


def _drawn(rows: FloatArray, how: str, rng: np.random.Generator, noise: float) -> FloatArray:
    if how == "poisson":
        return rng.poisson(rows).astype(np.float64)
    if how == "uniform":
        return rows * rng.uniform(1 - noise, 1 + noise, rows.shape)
    totals = rows.sum(axis=1)
    shares = rows / np.where(totals > 0, totals, 1.0)[:, None]
    shares[totals == 0] = 1.0 / max(1, rows.shape[1])
    return rng.multinomial(np.rint(totals).astype(np.int64), shares).astype(np.float64)


def thin(values: Any, share: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """Counts split by a binomial into a part with that share of them and the rest.

    Under Poisson counts the two parts are independent, with means ``share`` and ``1 - share`` times
    that of the whole.

    Parameters
    ----------
    values : ndarray or csr_matrix of counts, shape (n, f)
    share : float or ndarray of shape (n, 1)
        Probability of a count to be in the first part.
    rng : numpy.random.Generator

    Returns
    -------
    kept, rest : like ``values``
        ``kept + rest == values``.
    """
    if is_sparse(values):
        whole = sp.csr_matrix(values)
        each = np.broadcast_to(np.asarray(share, np.float64), (whole.shape[0], 1))[:, 0]
        kept = whole.copy()
        kept.data = rng.binomial(
            whole.data.astype(np.int64), np.repeat(each, np.diff(whole.indptr))
        ).astype(np.float64)
        return kept, whole - kept
    kept = rng.binomial(values.astype(np.int64), share).astype(np.float64)
    return kept, values - kept


def cutoff(totals: FloatArray, n_features: int) -> float:
    """Total above which a sample is an outlier: three deviations above the median, on a log scale.

    The deviation is 1.4826 times the median absolute one of log totals; the cutoff is never below
    100 counts a feature.
    """
    logs = np.log(totals[totals > 0])
    middle = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))
    return max(100.0 * n_features, float(np.exp(middle + 3 * spread)))


def capped_shares(matrix: Matrix) -> FloatArray:
    """Share of each sample's counts that stays below the cutoff, shape (n, 1); 1 for most."""
    totals = np.asarray(matrix.values.sum(axis=1), np.float64).reshape(-1, 1)
    most = cutoff(totals, matrix.shape[1])
    return np.where(totals > most, most / np.maximum(totals, 1.0), 1.0)


def rates_note(matrix: Matrix, resampled: str) -> str | None:
    """What resampling and holding out mean for a catalogue of rates; None for counts."""
    if are_counts(matrix.values):
        return None
    drawn = (
        "each replicate draws Poisson counts whose means they are, which vary as whole counts of "
        "this size do"
        if resampled == "poisson"
        else f"selection.resample={resampled} disturbs them as they are"
    )
    return (
        f"The catalogue holds rates, not whole counts: {drawn}, and single entries are held out "
        "where counts would be thinned. Rates in another unit (per megabase) say less about their "
        "own noise: then use selection.resample=uniform"
    )


def hypermutators_note(matrix: Matrix, capped: bool) -> str | None:
    """What to know of samples above the cutoff, where they hold a tenth of all counts or more."""
    totals = np.asarray(matrix.values.sum(axis=1), np.float64).ravel()
    above = totals > cutoff(totals, matrix.shape[1])
    share = totals[above].sum() / totals.sum()
    if share < 0.1:
        return None
    text = (
        f"{int(above.sum())} of {totals.size} samples, outliers in size, hold {share:.0%} of counts"
    )
    if capped:
        return f"{text}: thinned for the fits, not for the weights"
    return f"{text}: compare with selection.hypermutators=cap, under which they weigh less"


def with_values(matrix: Matrix, values: Any, mask: Any = None) -> Matrix:
    """The matrix with other values, without what only the original has."""
    return replace(
        matrix,
        values=values,
        mask=matrix.mask if mask is None else mask,
        reference=None,
        truth=None,
    )
