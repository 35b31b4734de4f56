"""Metrics of topics: perplexity, top words, coherence against a stated reference corpus, diversity.

Coherence needs a reference corpus. Here it is a sparse document-term count matrix and "co-occur"
means "in the same document"; which corpus that is (training documents, held-out ones, another
collection) changes the numbers and must be stated with them. Sliding windows over running text
give other numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.metrics._blocks import readable, row_blocks
from nmfnet.metrics._checks import as_dense

__all__ = [
    "cv_coherence",
    "npmi_coherence",
    "perplexity",
    "principal_coordinates",
    "smoothed_shares",
    "top_features",
    "top_words",
    "topic_distances",
    "topic_diversity",
    "topic_sizes",
    "umass_coherence",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


def top_features(H: Any, n_top: int = 10) -> IntArray:
    """Columns of the largest entries of each component, largest first.

    Parameters
    ----------
    H : array, shape (k, f)
        Components (topics).
    n_top : int, default 10
        In 1..f.

    Returns
    -------
    ndarray of int, shape (k, n_top)
        Ties go to the column that comes first.
    """
    components = as_dense("H", H, 2)
    if not 1 <= n_top <= components.shape[1]:
        raise UserError(f"n_top is {n_top}; {components.shape[1]} features allow 1 to as many.")
    return np.argsort(-components, axis=1, kind="stable")[:, :n_top]


def top_words(H: Any, feature_names: Sequence[str], n_top: int = 10) -> list[list[str]]:
    """Names of the largest entries of each component, largest first: k lists of n_top words."""
    top = top_features(H, n_top)
    if len(feature_names) != np.shape(H)[1]:
        raise UserError(
            f"feature_names has {len(feature_names)} entries, and H has {np.shape(H)[1]} columns; give "
            "one name for each."
        )
    return [[str(feature_names[j]) for j in row] for row in top.tolist()]


def perplexity(counts: Any, x_hat: Any, words: Any, smoothing: float = 0.01) -> float:
    """Perplexity of words under what a model predicts for their documents.

    ``exp(-Σ x log p / Σ x)`` with ``p = (1 - s) x_hat / Σ x_hat + s q``: x_hat is turned into shares of
    each document (negative entries count as 0), and mixed with the shares q of the words in the
    training data, one added to the count of each, so that every word has a probability. A document
    of which x_hat is 0 everywhere gets q alone.

    Parameters
    ----------
    counts : array or scipy sparse matrix, shape (n, f)
        The words that are predicted, >= 0.
    x_hat : array, shape (n, f), or function from a slice of rows to those rows
        The prediction, in any unit.
    words : array, shape (f,)
        Counts of the words in the training data, >= 0.
    smoothing : float in [0, 1)
        s.

    Returns
    -------
    float
        From 1 up; f for a uniform guess. Infinite where s = 0 and a word has no probability; nan
        without words.
    """
    shares = smoothed_shares(words)
    total, loss = 0.0, 0.0
    for x, fitted, _ in row_blocks(counts, x_hat):
        fitted = np.maximum(fitted, 0)
        size = fitted.sum(axis=1, keepdims=True)
        known = np.divide(fitted, size, out=np.tile(shares, (len(x), 1)), where=size > 0)
        row, column = np.nonzero(x)
        with np.errstate(divide="ignore"):
            log = np.log((1 - smoothing) * known[row, column] + smoothing * shares[column])
        total += float(x.sum())
        loss -= float(x[row, column] @ log)
    with np.errstate(over="ignore"):
        return float(np.exp(loss / total)) if total else float("nan")


def smoothed_shares(words: Any) -> FloatArray:
    """Shares of counts of words, one added to each; shape (f,)."""
    counted = np.asarray(words, np.float64).ravel() + 1
    return np.asarray(counted / counted.sum())


def topic_sizes(W: Any, H: Any, lengths: Any) -> FloatArray:
    """Share of all words that each topic has: shares of topics in documents, weighted by their lengths.

    Parameters
    ----------
    W : array, shape (n, k), >= 0
        Codes of documents.
    H : array, shape (k, f), >= 0
        Topics in any unit: W times their sums are the words of a topic in a document.
    lengths : array, shape (n,)
        Words of the documents.

    Returns
    -------
    ndarray, shape (k,)
        Of sum 1; equal where no document has any topic.
    """
    amounts = as_dense("W", W, 2) * np.abs(as_dense("H", H, 2)).sum(axis=1)
    whole = amounts.sum(axis=1, keepdims=True)
    shares = np.divide(amounts, whole, out=np.zeros_like(amounts), where=whole > 0)
    words = np.asarray(lengths, np.float64) @ shares
    return words / words.sum() if words.sum() > 0 else np.full(len(words), 1 / len(words))


def topic_distances(H: Any) -> FloatArray:
    """Jensen-Shannon divergence of every pair of topics as shares of words, in nats.

    Parameters
    ----------
    H : array, shape (k, f), >= 0

    Returns
    -------
    ndarray, shape (k, k)
        In [0, log 2], symmetric, 0 on the diagonal.
    """
    from scipy.special import rel_entr

    values = as_dense("H", H, 2)
    whole = values.sum(axis=1, keepdims=True)
    shares = np.divide(
        values, whole, out=np.full_like(values, 1 / values.shape[1]), where=whole > 0
    )
    found = np.zeros((len(shares), len(shares)))
    for i, share in enumerate(shares):
        middle = (share + shares) / 2
        found[i] = (rel_entr(share, middle) + rel_entr(shares, middle)).sum(axis=1) / 2
    return (found + found.T) / 2


def principal_coordinates(distances: Any, n_axes: int = 2) -> FloatArray:
    """Points whose distances are near to given ones: classical multidimensional scaling.

    Parameters
    ----------
    distances : array, shape (k, k)
    n_axes : int

    Returns
    -------
    ndarray, shape (k, n_axes)
        Centred, axes by falling spread; the largest entry of each is positive.

    Notes
    -----
    Source: Gower 1966, "Some distance properties of latent root and vector methods".
    """
    square = as_dense("distances", distances, 2) ** 2
    centred = square - square.mean(axis=0) - square.mean(axis=1, keepdims=True) + square.mean()
    roots, vectors = np.linalg.eigh(-centred / 2)
    order = np.argsort(-roots, kind="stable")[:n_axes]
    points = vectors[:, order] * np.sqrt(np.maximum(roots[order], 0))
    missing = max(0, n_axes - points.shape[1])
    points = np.pad(points, ((0, 0), (0, missing)))
    largest = points[np.abs(points).argmax(axis=0), range(n_axes)]
    return np.asarray(points * np.where(largest < 0, -1, 1))


def topic_diversity(top: Any) -> float:
    """Share of different words among the top words of all topics.

    Parameters
    ----------
    top : array, shape (k, n_top)
        From ``top_features`` (or the words themselves); published values use n_top = 25.

    Returns
    -------
    float
        In [1 / k, 1], no unit; 1 = no word is shared by two topics.

    Notes
    -----
    Source: Dieng, Ruiz & Blei 2020.
    """
    words = np.asarray(top)
    if words.ndim != 2 or words.size == 0:
        raise UserError(
            f"top has shape {words.shape}; give the top words of each topic, (k, n_top)."
        )
    return len(np.unique(words)) / words.size


def npmi_coherence(top: Any, counts: Any) -> FloatArray:
    """Mean normalised pointwise mutual information of the pairs of top words of each topic.

    ``log(p_ij / (p_i p_j)) / -log p_ij`` with p = share of reference documents that hold the
    word(s).

    Parameters
    ----------
    top : array of int, shape (k, n_top)
        Columns of the top words, n_top >= 2.
    counts : array or scipy sparse matrix, shape (documents, words)
        Reference corpus.

    Returns
    -------
    ndarray, shape (k,)
        In [-1, 1], no unit. A pair that never co-occurs is -1 (the limit; no smoothing), a pair
        with p_ij = 1 is 0 (no information).

    Notes
    -----
    Source: Bouma 2009; Lau, Newman & Baldwin 2014.
    """
    words, document, joint, n = _cooccurrence(top, counts)
    scores = _npmi(joint / n, document / n)
    return np.array([scores[np.ix_(t, t)][np.triu_indices(len(t), 1)].mean() for t in words])


def umass_coherence(top: Any, counts: Any) -> FloatArray:
    """Mean over pairs of top words of ``log((D(w_i, w_j) + 1) / D(w_j))``, w_j ranked higher.

    Parameters
    ----------
    top, counts
        As for ``npmi_coherence``; the source takes the training documents. D counts documents.

    Returns
    -------
    ndarray, shape (k,)
        In (-inf, log 2], nats. Pairs whose w_j is in no document are left out (nan if all are).

    Notes
    -----
    Source: Mimno et al. 2011, eq. 1. Differs from the source: mean over the pairs, not their sum.
    """
    words, document, joint, _ = _cooccurrence(top, counts)
    result = np.full(len(words), np.nan)
    for i, t in enumerate(words):
        high, low = np.triu_indices(len(t), 1)  # position in the topic: high comes before low
        seen = document[t[high]] > 0
        high, low = t[high[seen]], t[low[seen]]
        if len(high):
            result[i] = np.mean(np.log((joint[high, low] + 1.0) / document[high]))
    return result


def cv_coherence(top: Any, counts: Any) -> FloatArray:
    """C_v: each top word's vector of NPMI with all top words, its cosine with the sum, averaged.

    Parameters
    ----------
    top, counts
        As for ``npmi_coherence``.

    Returns
    -------
    ndarray, shape (k,)
        In [-1, 1], no unit; in practice in [0, 1].

    Notes
    -----
    Source: Roeder, Both & Hinneburg 2015 (one-set segmentation, gamma = 1). Differs from the
    source: documents instead of sliding windows of 110 words, so values are not comparable with
    windowed ones.
    """
    words, document, joint, n = _cooccurrence(top, counts)
    scores = _npmi(joint / n, document / n)
    result = []
    for t in words:
        vectors = scores[np.ix_(t, t)]
        whole = vectors.sum(axis=0)
        sizes = np.linalg.norm(vectors, axis=1) * np.linalg.norm(whole)
        cosines = np.divide(vectors @ whole, sizes, out=np.zeros(len(t)), where=sizes > 0)
        result.append(float(cosines.mean()))
    return np.array(result)


def _npmi(joint: FloatArray, single: FloatArray) -> FloatArray:
    """NPMI of every pair of words from document shares; the diagonal is a word with itself."""
    value = np.where(joint > 0, 0.0, -1.0)
    inner = (joint > 0) & (joint < 1)
    expected = np.outer(single, single)
    value[inner] = np.log(joint[inner] / expected[inner]) / -np.log(joint[inner])
    return value


def _cooccurrence(top: Any, counts: Any) -> tuple[IntArray, FloatArray, FloatArray, int]:
    """Top words renumbered, documents per word (w,), documents per pair (w, w), documents."""
    from scipy import sparse

    table, corpus = np.asarray(top), readable(counts)
    if table.ndim != 2 or table.shape[1] < 2 or table.dtype.kind not in "iu":
        raise UserError(
            f"top has shape {table.shape} and type {table.dtype}; coherence needs columns of at "
            "least 2 top words of each topic, integers of shape (k, n_top)."
        )
    if table.min() < 0 or table.max() >= corpus.shape[1]:
        raise UserError(
            f"top names columns {table.min()} to {table.max()}; the reference corpus has "
            f"{corpus.shape[1]} words. Use the vocabulary of the topics for both."
        )
    used, position = np.unique(table, return_inverse=True)
    present = sparse.csr_array(corpus[:, used] > 0).astype(np.float64)
    joint = np.asarray((present.T @ present).todense(), dtype=np.float64)
    return position.reshape(table.shape), np.diag(joint).copy(), joint, corpus.shape[0]
