"""Compare found components with known ones: names from a reference, or a benchmark's truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.kernels.assignment import Assignment, assign
from nmfnet.metrics._checks import as_dense
from nmfnet.metrics.factors import component_cosines

__all__ = ["ReferenceMatch", "exposure_recovery", "match_reference", "recovery"]

FloatArray = npt.NDArray[np.float64]


class ReferenceMatch(NamedTuple):
    """Found component against the reference: one row of the table that ``match_reference`` gives.

    Attributes
    ----------
    component : str
        Name of the found component.
    assigned : str
        Its partner in the one-to-one assignment; empty when there are more components than
        references.
    assigned_cosine : float
        In [-1, 1], no unit; nan without a partner.
    best : str
        The most similar reference, which several components may share.
    best_cosine : float
        In [-1, 1], no unit; never below ``assigned_cosine``.
    """

    component: str
    assigned: str
    assigned_cosine: float
    best: str
    best_cosine: float


def match_reference(
    components: Any,
    reference: Any,
    *,
    component_names: Sequence[str] | None = None,
    reference_names: Sequence[str] | None = None,
) -> list[ReferenceMatch]:
    """Name each component by a reference set, one to one (Hungarian) and by best match.

    Parameters
    ----------
    components : array, shape (k, f)
        H, found components.
    reference : array, shape (m, f)
        Reference components over the same features **in the same order** (align by name first).
    component_names, reference_names : sequence of str, optional
        Default "1".."k" and "1".."m".

    Returns
    -------
    list of ReferenceMatch, length k
        In the order of ``components``; ``pandas.DataFrame(result)`` is the table.
    """
    cosines = component_cosines(components, reference)
    ours = _names("component_names", component_names, cosines.shape[0])
    theirs = _names("reference_names", reference_names, cosines.shape[1])
    pairs = assign(cosines)
    partner = dict(zip(pairs.rows.tolist(), pairs.columns.tolist(), strict=True))
    table = []
    for i, name in enumerate(ours):
        j, best = partner.get(i), int(cosines[i].argmax())
        assigned = ("", float("nan")) if j is None else (theirs[j], float(cosines[i, j]))
        table.append(ReferenceMatch(name, *assigned, theirs[best], float(cosines[i, best])))
    return table


def recovery(
    components: Any, truth: Any, *, threshold: float = 0.9, thresholded: bool = False
) -> dict[str, float]:
    """How many true components were found: PPV, TPR, F1 and the composite score.

    Parameters
    ----------
    components : array, shape (k, f)
        Found components.
    truth : array, shape (m, f)
        True components (without those that no sample uses).
    threshold : float, default 0.9
        A matched pair is a true positive when its cosine is at least this.
    thresholded : bool, default False
        False: the assignment maximises the sum of cosines. True: cosines below the threshold are
        first set to 0, so that a poor pair never blocks a good one; TP is then as large as it can
        be.

    Returns
    -------
    dict of str to float
        ``tp`` (count), ``ppv`` = tp / k, ``tpr`` = tp / m, ``f1`` = 2 tp / (k + m), ``cosine_tp``
        (mean over true positives, 0 without any), ``cosine_all`` (mean over all m true ones,
        unmatched = 0), all in [0, 1]; ``composite`` = ppv + tpr + cosine_tp, in [0, 3].

    Notes
    -----
    Source: Islam et al. 2022 (plain), Wu et al. 2022 (thresholded), Liu et al. 2023 (composite).
    """
    cosines = component_cosines(components, truth)
    pairs = assign(np.where(cosines >= threshold, cosines, 0.0) if thresholded else cosines)
    hits = pairs.scores >= threshold
    found, k, m = int(hits.sum()), *cosines.shape
    cosine_tp = float(pairs.scores[hits].mean()) if found else 0.0
    return {
        "tp": float(found),
        "ppv": found / k,
        "tpr": found / m,
        "f1": 2.0 * found / (k + m),
        "cosine_tp": cosine_tp,
        "cosine_all": float(pairs.scores.sum() / m),
        "composite": found / k + found / m + cosine_tp,
    }


def exposure_recovery(
    W: Any, W_true: Any, matching: Assignment, *, present: float = 0.01
) -> dict[str, float]:
    """Agreement of per-sample factors with the truth after the components were matched.

    Parameters
    ----------
    W, W_true : array, shapes (n, k) and (n, m)
        Exposures on the scale of components that sum to 1 (``normalize_scale``), non-negative.
    matching : Assignment
        ``match_components(H, H_true)``. Unmatched true components count as exposures of 0.
    present : float, default 0.01
        A component is present in a sample when its share of the sample's total is above this.

    Returns
    -------
    dict of str to float
        ``relative_l1`` = sum |W - W_true| / sum W_true, in [0, inf); ``pearson``, mean over
        matched components, in [-1, 1] (0 for a constant one); ``presence_precision`` and
        ``presence_recall``, in [0, 1] (1 when nothing is called, or nothing is to be found).
    """
    found, true = as_dense("W", W, 2), as_dense("W_true", W_true, 2)
    if len(found) != len(true):
        raise UserError(f"W has {len(found)} samples and W_true {len(true)}; give the same ones.")
    if true.sum() <= 0:
        raise UserError("W_true has no positive exposure: there is nothing to compare with.")
    aligned = np.zeros_like(true)
    aligned[:, matching.columns] = found[:, matching.rows]
    called, there = _present(aligned, found, present), _present(true, true, present)
    both = float((called & there).sum())
    correlations = [_pearson(aligned[:, j], true[:, j]) for j in matching.columns]
    return {
        "relative_l1": float(np.abs(aligned - true).sum() / true.sum()),
        "pearson": float(np.mean(correlations)),
        "presence_precision": both / called.sum() if called.any() else 1.0,
        "presence_recall": both / there.sum() if there.any() else 1.0,
    }


def _present(values: FloatArray, whole: FloatArray, share: float) -> npt.NDArray[np.bool_]:
    return np.asarray(values > share * whole.sum(axis=1, keepdims=True))


def _pearson(a: FloatArray, b: FloatArray) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size > 0 else 0.0


def _names(what: str, names: Sequence[str] | None, count: int) -> list[str]:
    if names is None:
        return [str(i + 1) for i in range(count)]
    if len(names) != count:
        raise UserError(f"{what} has {len(names)} names for {count} components; give one for each.")
    return [str(name) for name in names]
