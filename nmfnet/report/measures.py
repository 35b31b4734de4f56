"""Names of the numbers of a run, which way is better, and when they are worth a warning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from nmfnet.run.tables import unfinished_words

__all__ = [
    "Measure",
    "main_measure",
    "measure",
    "measures_of",
    "number",
    "warnings_of",
]

AGREEMENT = 0.8
"""Restarts whose matched components have a mean cosine below this are called unstable."""

SPREAD = 0.05
"""Relative difference between the best and the worst restart's objective that is worth a word."""


class Measure(NamedTuple):
    """A number of ``metrics.json``: its key, what people call it, and which way is better.

    Attributes
    ----------
    better : {-1, 0, 1}
        -1 lower, 1 higher, 0 neither.
    """

    key: str
    words: str
    better: int


_NAMES = {
    "loss": "loss",
    "relative_error": "relative error",
    "kl": "KL divergence",
    "mse": "mean squared error",
    "rmse": "root mean squared error",
    "explained_variance": "explained variance",
    "poisson_deviance": "Poisson deviance",
    "cosine": "cosine of rows",
}
_FIXED = {
    "objective": ("objective", -1),
    "n_iter": ("iterations", -1),
    "seconds": ("seconds", -1),
    "n_restarts": ("restarts", 0),
    "converged": ("converged", 1),
    "certificate/fall": ("relative fall that another descent still finds", -1),
    "certificate/kkt": ("KKT residual at the end", -1),
    "kkt_residual": ("KKT residual", -1),
    "floor/relative_error": ("SVD floor of the relative error", 0),
    "components/sparsity": ("sparsity of components", 0),
    "components/collapsed": ("near-copies among components", -1),
    "stability/matched_cosine": ("agreement of restarts (cosine)", 1),
    "stability/objective_spread": ("spread of restarts' objectives", -1),
    "stability/silhouette_mean": ("silhouette of components, mean", 1),
    "stability/silhouette_min": ("silhouette of components, least", 1),
    "stability/cophenetic": ("cophenetic correlation", 1),
    "stability/dispersion": ("dispersion of the consensus", 1),
    "truth/matched_cosine": ("agreement with the truth (cosine)", 1),
    "reference/assigned_cosine": ("agreement with the reference (cosine)", 1),
    "reference/best_cosine": ("best match in the reference (cosine)", 1),
    "labels/ari": ("adjusted Rand index with the labels", 1),
    "labels/nmi": ("mutual information with the labels", 1),
    "link/auc": ("area under the ROC curve of held-out links", 1),
    "link/ap": ("average precision of held-out links", 1),
}
_PARTS = {"train": "training", "test": "held-out"}
_HIGHER = ("explained_variance", "cosine")


def measure(key: str) -> Measure:
    """Name and direction of a number, also of one that this module has never heard of."""
    if key in _FIXED:
        return Measure(key, *_FIXED[key])
    part, _, name = key.partition("/")
    if part in _PARTS:
        words = f"{_PARTS[part]} {_NAMES.get(name, name.replace('_', ' '))}"
        return Measure(key, words, (1 if name in _HIGHER else -1) * (name in _NAMES))
    return Measure(key, key.replace("/", ": ").replace("_", " "), 0)


def number(metrics: Mapping[str, Any], key: str) -> float:
    """A number as a float; nan where it is absent, infinite, or no number at all."""
    value = metrics.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return math.nan
    return float(value)


def measures_of(runs: Iterable[Mapping[str, Any]]) -> list[Measure]:
    """Every number found in any of these ``metrics.json``, the most asked-for first."""
    found = dict.fromkeys(
        key for metrics in runs for key, value in metrics.items() if isinstance(value, int | float)
    )
    known = [f"{part}/{name}" for name in _NAMES for part in ("test", "train")] + list(_FIXED)
    order = {key: i for i, key in enumerate(known)}
    return [measure(key) for key in sorted(found, key=lambda key: (order.get(key, 1000), key))]


def main_measure(loss: str, runs: Iterable[Mapping[str, Any]]) -> str:
    """The number by which runs that minimised the same loss are ranked.

    Where links are held out: how well they are told. Else on held-out data where there is any; the
    relative error for the Frobenius loss (the same order as the loss on the same data, and readable),
    the loss itself for any other.
    """
    every = list(runs)
    if every and all("link/auc" in metrics for metrics in every):
        return "link/auc"
    name = "relative_error" if loss == "frobenius" else "loss"
    held_out = bool(every) and all(f"test/{name}" in metrics for metrics in every)
    return f"{'test' if held_out else 'train'}/{name}"


def warnings_of(metrics: Mapping[str, Any]) -> list[str]:
    """What a reader of this run's numbers should know, in words; usually nothing."""
    found = []
    if unfinished := unfinished_words(metrics):
        found.append(unfinished)
    copies = number(metrics, "components/collapsed")
    if copies > 0:
        pairs = "pair" if copies == 1 else "pairs"
        found.append(f"collapsed: {copies:.0f} {pairs} of components are near-copies")
    agreement = number(metrics, "stability/matched_cosine")
    if agreement < AGREEMENT:
        found.append(f"unstable: restarts' components agree only to a cosine of {agreement:.2f}")
    spread = number(metrics, "stability/objective_spread")
    exact = number(metrics, "train/relative_error") < 1e-2  # any spread is large beside 0
    if spread > SPREAD and not exact:
        found.append(f"objectives of the restarts differ by {spread:.1%}: use more restarts")
    return found
