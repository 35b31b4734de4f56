"""How well scores tell pairs that are linked from pairs that are not."""

from __future__ import annotations

from typing import Any

import numpy as np

from nmfnet.metrics._checks import as_dense

__all__ = ["link_metrics"]


def link_metrics(linked: Any, others: Any) -> dict[str, float]:
    """Area under the ROC curve, and average precision.

    Parameters
    ----------
    linked : array, shape (m,)
        Scores of pairs that are linked; larger = more likely.
    others : array, shape (l,)
        Scores of pairs that are not.

    Returns
    -------
    dict
        ``auc``: share of couples (a linked pair, another) in which the linked one has the larger
        score. ``ap``: average precision. Both in [0, 1].
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    parts = [as_dense(name, part, 1) for name, part in (("linked", linked), ("others", others))]
    truth = np.repeat([1, 0], [part.size for part in parts])
    scores = np.concatenate(parts)
    return {
        "auc": float(roc_auc_score(truth, scores)),
        "ap": float(average_precision_score(truth, scores)),
    }
