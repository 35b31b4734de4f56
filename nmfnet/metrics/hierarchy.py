"""Metrics of hierarchies and of labels: fit of every layer, recovered classes, held-out labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.metrics._checks import as_dense
from nmfnet.metrics.clustering import adjusted_rand, clusters_of
from nmfnet.metrics.fit import Product, relative_error

__all__ = ["layer_metrics", "readout_accuracy", "readout_metrics", "topic_tree"]

FloatArray = npt.NDArray[np.float64]


def layer_metrics(
    X: Any,
    layers: Sequence[tuple[Any, Any]],
    hierarchy: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Fit of ``X ~ W_l H_l`` at every layer, and agreement of its clusters with known classes.

    Parameters
    ----------
    X : array, shape (n, f), or scipy sparse matrix
    layers : sequence of (W_l, H_l), shapes (n, k_l) and (k_l, f), from wide to narrow
    hierarchy : mapping of str to array of int, shape (n,), optional
        Known classifications; -1 = unknown. A layer is compared with the one whose number of
        classes is nearest to its rank.

    Returns
    -------
    dict
        ``layerL/relative_error`` (||X - W_l H_l||_F / ||X||_F) and, with classes, ``layerL/ari``
        (adjusted Rand index, in [-0.5, 1]) of the largest component of each sample, components
        measured by the norm of what they add to X.
    """
    result: dict[str, float] = {}
    for i, (W, H) in enumerate(layers, start=1):
        weights, components = as_dense("W", W, 2), as_dense("H", H, 2)
        result[f"layer{i}/relative_error"] = relative_error(X, Product(weights, components))
        if not hierarchy:
            continue
        classes = min(
            (np.asarray(level) for level in hierarchy.values()),
            key=lambda level: abs(len(np.unique(level[level >= 0])) - weights.shape[1]),
        )
        known = classes >= 0
        clusters = clusters_of(weights * np.linalg.norm(components, axis=1))
        result[f"layer{i}/ari"] = adjusted_rand(classes[known], clusters[known])
    return result


def readout_accuracy(W: Any, labels: Any, W_new: Any, labels_new: Any) -> float:
    """Share of new samples whose class is right: ``accuracy`` of :func:`readout_metrics`."""
    return readout_metrics(W, labels, W_new, labels_new)["accuracy"]


def readout_metrics(W: Any, labels: Any, W_new: Any, labels_new: Any) -> dict[str, float]:
    """How well classes of new samples are told by least squares of one-hot classes on W.

    ``B = argmin ||Y - W B||`` on the samples with known classes; the class of a new row w is the
    largest entry of ``w B``. The same for every model, whether or not it has seen labels.

    Parameters
    ----------
    W : array, shape (n, k)
    labels : array of int, shape (n,)
        Classes; rows with -1 are left out.
    W_new : array, shape (m, k)
    labels_new : array of int, shape (m,)
        Rows with -1 are not scored.

    Returns
    -------
    dict of str to float
        ``accuracy``, the share of new samples whose class is right, and ``auc``, the area under the ROC
        curve of ``w B`` of a class against its mean over all, the mean over the classes that some new
        samples have and others have not. Both in [0, 1]; nan where no new row has a class.

    Notes
    -----
    Source: Gao et al. 2019 (the readout ``B = Y pinv(S)``).
    """
    known, fresh = np.asarray(labels), np.asarray(labels_new)
    weights, new = as_dense("W", W, 2), as_dense("W_new", W_new, 2)
    if known.shape != (len(weights),) or fresh.shape != (len(new),):
        raise UserError(
            f"{known.size} and {fresh.size} labels for {len(weights)} and {len(new)} rows; give one "
            "for each row."
        )
    scored = fresh >= 0
    if not scored.any() or not (known >= 0).any():
        return {"accuracy": float("nan"), "auc": float("nan")}
    one_hot = np.eye(int(max(known.max(), fresh.max())) + 1)[known[known >= 0]]
    B = np.linalg.lstsq(weights[known >= 0], one_hot, rcond=None)[0]
    from sklearn.metrics import roc_auc_score

    scores, true = new[scored] @ B, fresh[scored]
    apart = scores - scores.mean(1, keepdims=True)
    areas = [roc_auc_score(true == c, apart[:, c]) for c in np.unique(true) if (true != c).any()]
    auc = float(np.mean(areas)) if areas else float("nan")
    return {"accuracy": float((scores.argmax(1) == true).mean()), "auc": auc}


def topic_tree(layers: Sequence[Any]) -> list[FloatArray]:
    """How much of each topic of a layer is made of the topics of the layer before.

    Parameters
    ----------
    layers : sequence of arrays, shapes (k_l, f), from wide to narrow
        Components of every layer in terms of the features.

    Returns
    -------
    list of ndarray, shape (k_l, k_{l-1}), rows sum to 1 (or are 0)
        One for each layer after the first: the non-negative least squares weights of the topic in
        the topics of the layer before, times their sums.
    """
    from scipy.optimize import nnls

    found = [as_dense("H", H, 2) for H in layers]
    shares = []
    for wide, narrow in pairwise(found):
        weights = np.stack([nnls(wide.T, row)[0] for row in narrow]) * wide.sum(1)
        total = weights.sum(1, keepdims=True)
        shares.append(np.divide(weights, total, out=np.zeros_like(weights), where=total > 0))
    return shares
