"""Which components go with which phenotypes of the samples: tests, effects, and what chance gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError

__all__ = ["Association", "Associations", "associate"]

FloatArray = npt.NDArray[np.float64]

FEWEST = 3
"""Samples that a class needs, and samples with a value that a number needs, to be tested."""

LEVEL = 0.05


class Association(NamedTuple):
    """A component, or the largest component of every sample (``largest``), and a phenotype.

    Attributes
    ----------
    component, phenotype, test : str
        The test is ``mann-whitney``, ``kruskal``, ``spearman`` or ``chi-square``.
    n : int
        Samples with a value.
    effect : float
        Mann-Whitney: rank-biserial correlation, > 0 where the last class by name is higher; Kruskal:
        epsilon²; Spearman: rho; chi-square: Cramér's V. In [-1, 1].
    p, q : float
        Two-sided, and after Benjamini & Hochberg over all rows.
    p_permuted : float
        Share of permutations of the phenotype, this one included, with a p as small; NaN without any.
    """

    component: str
    phenotype: str
    test: str
    n: int
    effect: float
    p: float
    q: float
    p_permuted: float


class Associations(NamedTuple):
    """All pairs, what was left out and why, and how often chance gives a p below 0.05.

    ``null`` is the mean over permuted tables of the share of pairs with p < 0.05: near 0.05 where the
    tests hold their level.
    """

    rows: list[Association]
    notes: list[str]
    null: float


def associate(
    W: Any,
    phenotypes: Mapping[str, Any],
    names: list[str],
    *,
    permutations: int = 200,
    seed: int = 0,
) -> Associations:
    """Test every component against every phenotype.

    Two classes by Mann & Whitney, several by Kruskal & Wallis, numbers by Spearman's correlation; and the
    largest component of every sample against classes by chi-square.

    Parameters
    ----------
    W : array, shape (n, k)
        Weights of samples that had no part in what is tested; rows of NaN are left out. Weights >= 0 are
        taken as shares of the row.
    phenotypes : mapping of str to array, shape (n,)
        Numbers with NaN, or text with "", None or NaN, where unknown.
    names : list of str, length k
    permutations : int, >= 0
    seed : int

    Raises
    ------
    UserError
        If there are not as many values as rows.

    Source: Mann & Whitney 1947; Kruskal & Wallis 1952; Benjamini & Hochberg 1995.
    """
    from scipy.stats import false_discovery_control

    weights = np.asarray(W, np.float64)
    if weights.size and np.nanmin(weights) >= 0:
        total = weights.sum(1, keepdims=True)
        weights = np.divide(weights, total, out=np.full_like(weights, np.nan), where=total > 0)
    rng = np.random.default_rng(seed)
    known = np.asarray(np.isfinite(weights).all(1))
    rows: list[Association] = []
    below: list[float] = []
    usable, notes = _usable(phenotypes, known)
    if weights.shape[1] == 1 and np.all(weights[known] == 1):
        notes.append(
            "There is one component, of which every sample's share is 1: no test can find anything."
        )
    for name, (keep, values) in usable.items():
        shares = weights[keep]
        test = _test_of(values)
        effects, p = _tests(shares, values)
        drawn = [_tests(shares, rng.permutation(values)) for _ in range(permutations)]
        below += [float((chance <= LEVEL).mean()) for _, chance in drawn]
        for j, component in enumerate(names):
            as_large = sum(chance[j] <= p[j] * (1 + 1e-9) for _, chance in drawn)
            share = (1 + as_large) / (1 + permutations) if permutations else np.nan
            pair = float(effects[j]), float(p[j]), np.nan, share
            rows.append(Association(component, name, test, len(values), *pair))
        if values.dtype == object and (found := _chi_square(shares.argmax(1), values)) is not None:
            rows.append(
                Association("largest", name, "chi-square", len(values), *found, np.nan, np.nan)
            )
    if rows:
        q = false_discovery_control([row.p for row in rows])
        rows = [row._replace(q=float(value)) for row, value in zip(rows, q, strict=True)]
    return Associations(rows, notes, float(np.mean(below)) if below else float("nan"))


def _usable(
    phenotypes: Mapping[str, Any], known: npt.NDArray[np.bool_]
) -> tuple[dict[str, tuple[npt.NDArray[np.bool_], Any]], list[str]]:
    """Samples with a value, and the values, of every phenotype to test; a sentence of others."""
    found: dict[str, tuple[npt.NDArray[np.bool_], Any]] = {}
    notes = []
    for name, given in phenotypes.items():
        values = np.asarray(given)
        if values.shape != known.shape:
            raise UserError(
                f"the phenotype {name!r} has the shape {values.shape}, and there are {len(known)} samples"
            )
        text = values.dtype.kind not in "fiu"
        values = values.astype(object if text else np.float64)
        if text:
            values[[cell is None or cell != cell for cell in values]] = ""
        keep = known & ((values != "") if text else np.isfinite(np.where(text, 0, values)))
        if text:
            classes, counts = np.unique(values[keep].astype(str), return_counts=True)
            rare = classes[counts < FEWEST]
            if len(rare) and len(rare) == len(classes):
                notes.append(
                    f"The phenotype {name!r} is not tested: none of its {len(classes)} classes has "
                    f"{FEWEST} of the {int(keep.sum())} samples."
                )
                continue
            if len(rare):
                keep &= ~np.isin(values.astype(str), rare)
                notes.append(
                    f"{len(rare)} classes of the phenotype {name!r} with fewer than {FEWEST} samples "
                    f"are left out (first: {rare[0]})."
                )
        kept = values[keep]
        if len(kept) < FEWEST or len(set(kept.tolist())) < 2:
            what = (
                f"is {kept.tolist()[0]!r} in all {len(kept)} samples that have one"
                if len(kept)
                else ""
            )
            notes.append(
                f"The phenotype {name!r} is not tested: it {what or 'is known of no sample'}."
            )
            continue
        if (twin := _twin(kept, keep, found)) is not None:
            notes.append(
                f"The phenotypes {twin!r} and {name!r} determine each other in these samples: what goes "
                "with one goes with the other."
            )
        found[name] = keep, kept
    return found, notes


def _twin(
    values: Any,
    keep: npt.NDArray[np.bool_],
    others: Mapping[str, tuple[npt.NDArray[np.bool_], Any]],
) -> str | None:
    """An earlier phenotype that has as many ranks or classes, one to one."""
    codes = _codes(values)
    for name, (kept, other) in others.items():
        if not np.array_equal(kept, keep) or (other.dtype == object) != (values.dtype == object):
            continue
        theirs = _codes(other)
        pairs = len(set(zip(codes.tolist(), theirs.tolist(), strict=True)))
        one_to_one = pairs == codes.max() + 1 == theirs.max() + 1
        turned = theirs.max() - theirs
        same = np.array_equal(codes, theirs) or np.array_equal(codes, turned)
        if one_to_one and (values.dtype == object or same):
            return name
    return None


def _codes(values: Any) -> npt.NDArray[np.int64]:
    """Ranks of the distinct values, or of the names of classes."""
    cells = values.astype(str) if values.dtype == object else values
    return np.asarray(np.unique(cells, return_inverse=True)[1])


def _test_of(values: Any) -> str:
    if values.dtype != object:
        return "spearman"
    return "mann-whitney" if len(set(values.tolist())) == 2 else "kruskal"


def _tests(shares: FloatArray, values: Any) -> tuple[FloatArray, FloatArray]:
    """Effect and p of every component; 0 and 1 of one that is the same in all samples."""
    from scipy.stats import kruskal, mannwhitneyu, spearmanr

    varied = np.ptp(shares, axis=0) > 0
    effects, p = np.zeros(shares.shape[1]), np.ones(shares.shape[1])
    if not varied.any():
        return effects, p
    some, test = shares[:, varied], _test_of(values)
    if test == "spearman":
        table = spearmanr(np.column_stack([some, values, values]))  # of three columns at least
        effects[varied] = np.asarray(table.statistic)[-1, :-2]
        p[varied] = np.asarray(table.pvalue)[-1, :-2]
        return effects, p
    groups = [some[values == level] for level in sorted(set(values.tolist()))]
    if test == "mann-whitney":
        low, high = groups
        pairs = mannwhitneyu(high, low, method="asymptotic")
        effects[varied], p[varied] = 2 * pairs.statistic / (len(low) * len(high)) - 1, pairs.pvalue
    else:
        several = kruskal(*groups)
        effects[varied], p[varied] = several.statistic / (len(values) - 1), several.pvalue
    return effects, p


def _chi_square(largest: Any, values: Any) -> tuple[float, float] | None:
    """Cramér's V and p of classes by the largest component; None where one component is always it."""
    from scipy.stats import chi2_contingency

    one, other = _codes(largest), _codes(values)
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), 1)
    if min(table.shape) < 2:
        return None
    found = chi2_contingency(table, correction=False)
    size = np.sqrt(found.statistic / (len(values) * (min(table.shape) - 1)))
    return float(size), float(found.pvalue)
