"""Modules of features and samples that go together: the iterative signature algorithm.

A module is a set of features that differ from their means in a set of samples, found by thresholded power
iterations from many random seeds. Modules may overlap, and most of the matrix belongs to none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nmfnet.errors import UserError

__all__ = ["Module", "isa", "match_scores"]

MOST = 100
"""Iterations of one seed."""

STILL = 0.99
"""Correlation of scores with those before, above which a seed has come to its fixed point."""

SHUFFLES = 5
"""Times that X is shuffled, to know how strong the modules of chance are."""

FEWEST = 2
"""Features, and samples, of the smallest module."""


class Module(NamedTuple):
    """Features and samples that go together.

    Attributes
    ----------
    features : ndarray, shape (n_features,)
        Scores in [-1, 1]; 0 = not in the module, the sign says in which direction.
    samples : ndarray, shape (n_samples,)
        The same of the samples.
    strength : float
        ``sᵀ E u / (|s| |u|)`` of the standardised matrix E: what a singular value is of singular vectors.
    """

    features: np.ndarray
    samples: np.ndarray
    strength: float


def isa(
    X: np.ndarray,
    *,
    feature_threshold: float = 2.0,
    sample_threshold: float = 1.5,
    seeds: int = 100,
    overlap: float = 0.3,
    seed: int = 0,
) -> list[Module]:
    """Find modules, the strongest first.

    Fixed points of ``s = f(E_f u)``, ``u = f(E_sᵀ s)``, where E_f has every feature, E_s every sample,
    at mean 0 and deviation 1, and f leaves scores that lie so many deviations from their mean. What is no
    stronger than anything found in X with the values of every feature shuffled is left out. Then the
    clearest module stays (by strength times density), and the next ones as long as no more than
    ``overlap`` of their entries are taken: a fixed point that is a copy of one, the union of two or their
    intersection is no module of its own.

    Parameters
    ----------
    X : array, shape (n_samples, n_features)
        Best as logarithms, where values span magnitudes.
    feature_threshold, sample_threshold : float, > 0
        In deviations of the scores.
    seeds : int, >= 1
        Random sets of features to start from.
    overlap : float in (0, 1)
        Share of a module's entries that clearer ones may hold.
    seed : int

    Raises
    ------
    UserError
        Values that are no finite numbers, too few rows or columns, options out of range, or features
        that all are constant.

    Source: Bergmann, Ihmels & Barkai 2003, "Iterative signature algorithm for the analysis of large-scale
    gene expression data".

    Differs from the source: one pair of thresholds; fixed points are held against those of shuffled data,
    and told apart by their entries.
    """
    X = np.asarray(X, np.float64)
    for name, value in (
        ("feature_threshold", feature_threshold),
        ("sample_threshold", sample_threshold),
    ):
        if not value > 0:
            raise UserError(f"{name}={value}: it must be above 0")
    if seeds < 1 or not 0 < overlap < 1:
        raise UserError(f"seeds={seeds}, overlap={overlap}: at least 1 seed, and overlap in (0, 1)")
    if X.ndim != 2 or min(X.shape) < 2 * FEWEST or not np.isfinite(X).all():
        raise UserError(
            f"X has the shape {X.shape}: modules need a matrix of finite numbers with at least "
            f"{2 * FEWEST} rows and columns"
        )
    if not np.ptp(X, axis=0).any():
        raise UserError("every feature has one value in all samples: there is nothing to group by")
    rng = np.random.default_rng(seed)
    found = _search(X, feature_threshold, sample_threshold, seeds, rng)
    shuffled = [
        module
        for _ in range(SHUFFLES)
        for module in _search(
            rng.permuted(X, axis=0), feature_threshold, sample_threshold, seeds, rng
        )
    ]
    chance = max((module.strength for module in shuffled), default=0.0)
    return _distinct([module for module in found if module.strength > chance], overlap)


def match_scores(
    found: list[Module], planted: list[tuple[np.ndarray, np.ndarray]]
) -> dict[str, float]:
    """How well modules are those that are known, by the Jaccard index of their entries.

    Parameters
    ----------
    found : list of Module
    planted : list of (features, samples), arrays of bool

    Returns
    -------
    dict of str to float
        ``recovery``, the mean over the known ones of their best match, and ``relevance``, the mean over
        the found ones of theirs; in [0, 1].

    Source: Prelić et al. 2006, "A systematic comparison and evaluation of biclustering methods".
    """
    table = np.zeros((len(planted), len(found)))
    for i, (features, samples) in enumerate(planted):
        for j, module in enumerate(found):
            f, s = module.features != 0, module.samples != 0
            both = (f & features).sum() * (s & samples).sum()
            either = f.sum() * s.sum() + features.sum() * samples.sum() - both
            table[i, j] = both / either
    if not table.size:
        return {"recovery": 0.0, "relevance": 0.0}
    return {"recovery": float(table.max(1).mean()), "relevance": float(table.max(0).mean())}


def _search(
    X: np.ndarray, of_features: float, of_samples: float, seeds: int, rng: np.random.Generator
) -> list[Module]:
    n, f = X.shape
    by_feature, by_sample = _standard(X, 0), _standard(X, 1)
    u = np.zeros((seeds, f))
    for row in u:
        row[rng.choice(f, max(FEWEST, f // 20), replace=False)] = 1
    live = np.arange(seeds)
    s = np.zeros((seeds, n))
    for _ in range(MOST):
        before = u[live]
        s[live] = _kept(before @ by_feature.T, of_samples)
        u[live] = _kept(s[live] @ by_sample, of_features)
        norms = np.linalg.norm(before, axis=1) * np.linalg.norm(u[live], axis=1)
        same = np.einsum("kf,kf->k", before, u[live]) / np.where(norms > 0, norms, 1)
        live = live[(norms > 0) & (same < STILL)]
        if not live.size:
            break
    modules = []
    for features, samples in zip(u, s, strict=True):
        if (features != 0).sum() < FEWEST or (samples != 0).sum() < FEWEST:
            continue
        weight = np.linalg.norm(features) * np.linalg.norm(samples)
        strength = float(samples @ by_feature @ features / weight)
        sign = 1.0 if samples.sum() >= 0 else -1.0  # (u, s) and (-u, -s) are one module
        modules.append(Module(sign * features, sign * samples, strength))
    return modules


def _kept(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Scores beyond the threshold in either direction, at most 1 in size; the rest is 0."""
    spread = scores.std(1, keepdims=True)
    z = (scores - scores.mean(1, keepdims=True)) / np.where(spread > 0, spread, 1)
    kept = np.where(np.abs(z) > threshold, z, 0.0)
    most = np.abs(kept).max(1, keepdims=True)
    return np.asarray(kept / np.where(most > 0, most, 1))


def _standard(X: np.ndarray, axis: int) -> np.ndarray:
    """Mean 0 and deviation 1 along an axis; constant ones are 0."""
    rest = X - X.mean(axis, keepdims=True)
    spread = rest.std(axis, keepdims=True)
    return np.asarray(rest / np.where(spread > 0, spread, 1))


def _distinct(modules: list[Module], overlap: float) -> list[Module]:
    """The clearest of those that share entries, so that no copies, unions or intersections stay."""
    kept: list[Module] = []
    shape = (len(modules[0].samples), len(modules[0].features)) if modules else (0, 0)
    taken = np.zeros(shape, bool)
    for module in sorted(modules, key=_clarity, reverse=True):
        own = np.ix_(module.samples != 0, module.features != 0)
        if taken[own].mean() <= overlap:
            kept.append(module)
            taken[own] = True
    return sorted(kept, key=lambda module: -module.strength)


def _clarity(module: Module) -> float:
    """Strength times density: a union of two modules is as strong, not as dense, a part the reverse."""
    size = (module.features != 0).sum() * (module.samples != 0).sum()
    return module.strength**2 / float(np.sqrt(size))
