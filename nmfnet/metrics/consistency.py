"""Agreement between runs of one method, and between methods, with intervals that respect the runs.

R runs give R (R - 1) / 2 pairs, but only R independent pieces of evidence: a test that treats the
pairs as independent is wrong by orders of magnitude. The intervals here resample runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.kernels.assignment import assign, cosine_matrix
from nmfnet.metrics._checks import as_dense, same_width, several_restarts

__all__ = [
    "Consistency",
    "bootstrap_interval",
    "consistency",
    "cross_method_cosine",
    "jackknife",
    "legacy_dup15",
    "pair_values",
    "pairwise_matched_cosine",
]

FloatArray = npt.NDArray[np.float64]


class Consistency(NamedTuple):
    """Run-to-run consistency of one method: average cosine similarity (ACS) over pairs of runs.

    Attributes
    ----------
    mean, sd, median, q25, q75, min, max : float
        Of the ACS over all pairs of different runs; in [0, 1] for non-negative components, no
        unit.
    se : float
        Standard error of the mean by the jackknife over runs; nan with 2 runs.
    low, high : float
        Bootstrap interval of the mean over runs.
    n_runs, n_pairs : int
        R and R (R - 1) / 2.
    """

    mean: float
    sd: float
    median: float
    q25: float
    q75: float
    min: float
    max: float
    se: float
    low: float
    high: float
    n_runs: int
    n_pairs: int


def pairwise_matched_cosine(components: Any) -> FloatArray:
    """Matched cosine (ACS) of every pair of runs.

    Parameters
    ----------
    components : array, shape (r, k, f)
        H of each run.

    Returns
    -------
    ndarray, shape (r, r)
        Symmetric, in [-1, 1], no unit; the diagonal is 1.
    """
    stack = as_dense("components", components, 3)
    n_runs, k, f = stack.shape
    flat = stack.reshape(n_runs * k, f)
    blocks = cosine_matrix(flat, flat).reshape(n_runs, k, n_runs, k)
    result = np.eye(n_runs)
    for i, j in zip(*np.triu_indices(n_runs, 1), strict=True):
        result[i, j] = result[j, i] = assign(blocks[i, :, j]).scores.mean()
    return result


def pair_values(matrix: Any) -> FloatArray:
    """Entries of a symmetric matrix over pairs of different runs, shape (r (r - 1) / 2,)."""
    square = _square(matrix)
    return square[np.triu_indices(len(square), 1)]


def consistency(
    components: Any, *, n_bootstrap: int = 2000, level: float = 0.95, seed: int = 0
) -> Consistency:
    """Run-to-run consistency: ACS over all pairs of different runs, with run-level intervals.

    Parameters
    ----------
    components : array, shape (r, k, f)
        H of each run, r >= 2.
    n_bootstrap : int, default 2000
        Bootstrap samples of runs.
    level : float, default 0.95
        Coverage asked of the interval, in (0, 1).
    seed : int, default 0
        Seed of the bootstrap.

    Returns
    -------
    Consistency

    Notes
    -----
    Source: Egendal et al. 2025 for the measure. The intervals are ours: ``jackknife`` and
    ``bootstrap_interval``.
    """
    stack = as_dense("components", components, 3)
    several_restarts("components", stack)
    matrix = pairwise_matched_cosine(stack)
    pairs = pair_values(matrix)
    q25, median, q75 = np.quantile(pairs, (0.25, 0.5, 0.75)).tolist()
    low, high = bootstrap_interval(matrix, n_bootstrap=n_bootstrap, level=level, seed=seed)
    sd = float(pairs.std(ddof=1)) if len(pairs) > 1 else float("nan")
    return Consistency(
        mean=float(pairs.mean()),
        sd=sd,
        median=median,
        q25=q25,
        q75=q75,
        min=float(pairs.min()),
        max=float(pairs.max()),
        se=jackknife(matrix)[1],
        low=low,
        high=high,
        n_runs=len(stack),
        n_pairs=len(pairs),
    )


def jackknife(matrix: Any) -> tuple[float, float]:
    """Mean over pairs of runs and its standard error, leaving out one run at a time.

    Parameters
    ----------
    matrix : array, shape (r, r)
        A symmetric value for every pair of runs: ACS, or the *difference* of the ACS of two
        methods on the same splits, which makes the comparison paired. The diagonal is not used.

    Returns
    -------
    (float, float)
        Mean over pairs; standard error ``sqrt((r - 1) / r sum (m_i - m)^2)`` with m_i the mean
        without run i (nan for r = 2: nothing is left).

    Notes
    -----
    Source: Efron & Stein 1981 (jackknife of a U-statistic).
    """
    square = _square(matrix)
    n_runs = len(square)
    off = square - np.diag(np.diag(square))
    total, own = off.sum(), off.sum(axis=1)
    mean = total / (n_runs * (n_runs - 1))
    if n_runs < 3:
        return float(mean), float("nan")
    without = (total - 2.0 * own) / ((n_runs - 1) * (n_runs - 2))
    spread = ((without - without.mean()) ** 2).sum() * (n_runs - 1) / n_runs
    return float(mean), float(np.sqrt(spread))


def bootstrap_interval(
    matrix: Any, *, n_bootstrap: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over pairs of runs, resampling runs.

    Parameters
    ----------
    matrix : array, shape (r, r)
        As for ``jackknife``. A run drawn twice makes no pair with itself.
    n_bootstrap : int, default 2000
        Samples drawn.
    level : float, default 0.95
        Coverage asked for, in (0, 1).
    seed : int, default 0
        Seed of the draws.

    Returns
    -------
    (float, float)
        Lower and upper end, in the unit of the matrix.
    """
    square = _square(matrix)
    if not 0.0 < level < 1.0 or n_bootstrap < 1:
        raise UserError(
            f"level={level}, n_bootstrap={n_bootstrap}; level is in (0, 1) and n_bootstrap >= 1."
        )
    n_runs = len(square)
    off = square - np.diag(np.diag(square))
    generator = np.random.default_rng(seed)
    times = generator.multinomial(n_runs, np.full(n_runs, 1.0 / n_runs), n_bootstrap)
    drawn = times.astype(np.float64)  # (n_bootstrap, r): how often each run was drawn
    pairs = n_runs**2 - (drawn**2).sum(axis=1)
    usable = pairs > 0  # all draws the same run: no pair
    means = ((drawn @ off) * drawn).sum(axis=1)[usable] / pairs[usable]
    low, high = np.quantile(means, ((1.0 - level) / 2.0, (1.0 + level) / 2.0)).tolist()
    return low, high


def cross_method_cosine(components_a: Any, components_b: Any) -> FloatArray:
    """Matched cosine (ACS) of two methods run by run (the same split or seed in both).

    Parameters
    ----------
    components_a, components_b : array, shapes (r, a, f) and (r, b, f)
        H of each run.

    Returns
    -------
    ndarray, shape (r,)
        In [-1, 1], no unit. Runs are independent here: ordinary intervals over them apply.
    """
    a = as_dense("components_a", components_a, 3)
    b = as_dense("components_b", components_b, 3)
    same_width("components_a", a, "components_b", b)
    if len(a) != len(b):
        raise UserError(
            f"{len(a)} runs of one method and {len(b)} of the other: give the same runs of both."
        )
    return np.array([assign(cosines).scores.mean() for cosines in cosine_matrix(a, b)])


def legacy_dup15(matrix: Any) -> FloatArray:
    """The pairs behind the published consistency figure of Egendal et al.: not a sound estimate.

    The figure's statistics are those of the first 15 runs, each counted twice: every pair four
    times, and 15 pairs of a run with its own copy, which agree perfectly. Kept only to show where
    the published numbers come from.

    Parameters
    ----------
    matrix : array, shape (r, r)
        ``pairwise_matched_cosine`` of at least 15 runs.

    Returns
    -------
    ndarray, shape (435,)
        105 pairs four times and 15 ones.
    """
    square = _square(matrix)
    if len(square) < 15:
        raise UserError(f"{len(square)} runs given; the published figure uses the first 15.")
    return np.concatenate([np.repeat(pair_values(square[:15, :15]), 4), np.ones(15)])


def _square(matrix: Any) -> FloatArray:
    square = as_dense("matrix", matrix, 2)
    if square.shape[0] != square.shape[1]:
        raise UserError(f"The matrix of pairs has shape {square.shape}; it must be (r, r).")
    if len(square) < 2:
        raise UserError("1 run makes no pair; agreement between runs needs at least 2.")
    return square
