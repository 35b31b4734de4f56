"""Topics in the form that pyLDAvis shows: what its ``PreparedData.to_dict`` gives, as plain values."""

from __future__ import annotations

from typing import Any

import numpy as np

from nmfnet.metrics import principal_coordinates, topic_distances

__all__ = ["prepared"]

SHOWN = 30
"""Words of a topic that are shown at once."""

STEP = 0.01
"""Between the values of lambda that a reader can choose."""

LEAST = 1e-12
"""A share below this counts as this, so that every logarithm is a number."""


def prepared(W: np.ndarray, H: np.ndarray, lengths: np.ndarray, words: list[str]) -> dict[str, Any]:
    """Topics by falling size, their map, their words for every lambda, and where words are.

    Parameters
    ----------
    W : array, shape (n, k), >= 0
        Shares of the topics in the documents, of any sum.
    H : array, shape (k, f), >= 0
        Topics, of any sum.
    lengths : array, shape (n,)
        Words of the documents.
    words : list of str, length f

    Returns
    -------
    dict
        ``mdsDat``, ``tinfo``, ``token.table``, ``R``, ``lambda.step``, ``plot.opts``, ``topic.order``.

    Source: Sievert & Shirley 2014, "LDAvis: a method for visualizing and interpreting topics", section 3
    (relevance); Chuang, Manning & Heer 2012 (saliency).
    """
    amounts = W * H.sum(1)
    whole = amounts.sum(1, keepdims=True)
    documents = np.divide(amounts, whole, out=np.full_like(amounts, 1 / len(H)), where=whole > 0)
    sizes = lengths @ documents
    order = np.argsort(-sizes, kind="stable")
    sizes, topics = sizes[order], np.maximum(H[order], LEAST)
    topics = topics / topics.sum(1, keepdims=True)
    proportion = sizes / sizes.sum()
    counts = topics * sizes[:, None]
    total = counts.sum(0)
    points = principal_coordinates(topic_distances(topics))
    info, listed = _terms(topics, proportion, counts, total, words)
    return {
        "mdsDat": {
            "x": points[:, 0].tolist(),
            "y": points[:, 1].tolist(),
            "topics": list(range(1, len(H) + 1)),
            "cluster": [1] * len(H),
            "Freq": (100 * proportion).tolist(),
        },
        "tinfo": info,
        "token.table": _tokens(counts, total, words, listed),
        "R": min(SHOWN, len(words)),
        "lambda.step": STEP,
        "plot.opts": {"xlab": "PC1", "ylab": "PC2"},
        "topic.order": (order + 1).tolist(),
    }


def _terms(
    topics: np.ndarray,
    proportion: np.ndarray,
    counts: np.ndarray,
    total: np.ndarray,
    words: list[str],
) -> tuple[dict[str, list[Any]], np.ndarray]:
    """The most salient words, then those of each topic that some lambda shows; numbers of all of them."""
    most = min(SHOWN, len(words))
    given = topics / topics.sum(0)
    distinct = (given * np.log(given / proportion[:, None])).sum(0)
    first = np.argsort(-(total / total.sum() * distinct), kind="stable")[:most]
    ranks = list(range(most, 0, -1))
    found: dict[str, list[Any]] = {
        "Term": [words[j] for j in first],
        "Freq": np.floor(total[first]).tolist(),
        "Total": np.floor(total[first]).tolist(),
        "Category": ["Default"] * most,
        "logprob": list(map(float, ranks)),
        "loglift": list(map(float, ranks)),
    }
    log, lift = np.log(topics), np.log(topics / (total / total.sum()))
    chosen = [first]
    for topic in range(len(topics)):
        seen = dict.fromkeys(
            int(j)
            for share in np.arange(0, 1 + STEP, STEP)
            for j in np.argsort(-(share * log[topic] + (1 - share) * lift[topic]), kind="stable")[
                :most
            ]
        )
        own = np.array(list(seen))
        chosen.append(own)
        found["Term"] += [words[j] for j in own]
        found["Freq"] += counts[topic, own].tolist()
        found["Total"] += total[own].tolist()
        found["Category"] += [f"Topic{topic + 1}"] * len(own)
        found["logprob"] += log[topic, own].round(4).tolist()
        found["loglift"] += lift[topic, own].round(4).tolist()
    return found, np.unique(np.concatenate(chosen))


def _tokens(
    counts: np.ndarray, total: np.ndarray, words: list[str], listed: np.ndarray
) -> dict[str, list[Any]]:
    """In which topics a word is, where it is at least half a time there."""
    rows = [
        (words[j], topic + 1, float(np.round(counts[topic, j]) / total[j]))
        for j in listed
        for topic in range(len(counts))
        if counts[topic, j] >= 0.5
    ]
    rows.sort(key=lambda row: row[:2])
    names, at, shares = zip(*rows, strict=True) if rows else ((), (), ())
    return {"Topic": list(at), "Freq": list(shares), "Term": list(names)}
