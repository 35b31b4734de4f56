"""Names of the numbers of a run, which way is better, and when they are worth a warning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

AGREEMENT = 0.8
"""Restarts whose matched components have a mean cosine below this are called unstable."""

CUT = "what ended it: time_limit, trainer.max_epochs or trainer.max_steps"
"""What helps a run that was ended before ``max_iter``."""

FAR = 1e-2
"""Relative fall of the objective that a few iterations of another descent should not find."""

SPREAD = 0.05
"""Relative difference between the best and the worst restart's objective that is worth a word."""


class Measure(NamedTuple):
    """A number of ``metrics.json``: everything that tables, pages and messages say of it.

    Attributes
    ----------
    better : {-1, 0, 1}
        -1 lower, 1 higher, 0 neither.
    told : bool
        Whether it has a row in the table that a run ends with.
    column : str
        Its heading in tables with a line per run; "" = it has none.
    """

    key: str
    words: str
    better: int = 0
    told: bool = False
    column: str = ""


MEASURES = (
    Measure("n_components", "suggested number of components", told=True),
    Measure("ranks_stable", "ranks that are stable", told=True),
    Measure("train/loss", "training loss", -1, told=True, column="loss"),
    Measure("test/loss", "held-out loss", -1, told=True),
    Measure("train/relative_error", "training relative error", -1, told=True, column="rel. error"),
    Measure("test/relative_error", "held-out relative error", -1, told=True, column="held-out"),
    Measure(
        "train/dot_product_relative_error",
        "training relative error of a tuned dot product",
        -1,
        told=True,
    ),
    Measure(
        "test/dot_product_relative_error",
        "held-out relative error of a tuned dot product",
        -1,
        told=True,
    ),
    Measure("train/perplexity", "training perplexity", -1, told=True),
    Measure(
        "test/perplexity", "perplexity of completed documents", -1, told=True, column="perplexity"
    ),
    Measure("train/perplexity_bound", "upper limit of the training perplexity", -1, told=True),
    Measure("test/perplexity_bound", "upper limit of the held-out perplexity", -1, told=True),
    *(
        Measure(f"{part}/{name}", f"{said} {words}", better)
        for name, words, better in (
            ("kl", "KL divergence", -1),
            ("mse", "mean squared error", -1),
            ("rmse", "root mean squared error", -1),
            ("explained_variance", "explained variance", 1),
            ("poisson_deviance", "Poisson deviance", -1),
            ("cosine", "cosine of rows", 1),
        )
        for part, said in (("train", "training"), ("test", "held-out"))
    ),
    Measure("train/q", "sum of squared residuals in their uncertainties, Q", -1),
    Measure("train/q_expected", "Q expected of residuals that are all noise"),
    Measure(
        "train/q_ratio", "Q / Q expected (near 1 = residuals are as large as known)", told=True
    ),
    Measure("bootstrap/found", "share of draws in which a component is found again", 1),
    Measure(
        "bootstrap/found_min",
        "share of draws in which the least sure component is found",
        1,
        told=True,
    ),
    Measure("bootstrap/unmapped", "share of components of draws that belong to none", -1),
    Measure("bootstrap/converged", "share of the fits of draws that converged", 1),
    Measure("train/mae", "training mean absolute error", -1),
    Measure("test/mae", "held-out mean absolute error", -1),
    Measure("test/cold_share", "share of held-out entries of unseen rows or columns", told=True),
    Measure("ranking/ndcg", "NDCG of the first 10, held-out entries among all", 1, told=True),
    Measure("ranking/dot_product_ndcg", "NDCG of a tuned dot product", 1, told=True),
    Measure("ranking/recall", "recall in the first 10", 1),
    Measure("ranking/map", "mean average precision in the first 10", 1),
    Measure("ranking/auc", "area under the ROC curve of rankings", 1),
    *(
        Measure(f"{part}/elbo", f"{said} evidence lower bound (nats per sample)", 1, told=True)
        for part, said in (("train", "training"), ("test", "held-out"))
    ),
    Measure("train/energy_distance", "energy distance of drawn and training rows", -1, told=True),
    Measure("test/energy_distance", "energy distance of drawn and held-out rows", -1, told=True),
    Measure("train/log_likelihood", "training log-likelihood (nats per sample)", 1, told=True),
    Measure("test/log_likelihood", "held-out log-likelihood (nats per sample)", 1, told=True),
    Measure("test/iw_bound", "held-out importance-weighted bound (nats per sample)", 1, told=True),
    Measure("test/iw_draws", "draws of that bound"),
    Measure("sound/si_sdr", "scale-invariant SDR of the separated sounds (dB)", 1, told=True),
    Measure("sound/gain", "what that is above the mixture's (dB)", 1, told=True),
    Measure("link/auc", "area under the ROC curve of held-out links", 1, told=True, column="AUC"),
    Measure("link/ap", "average precision of held-out links", 1, told=True, column="AP"),
    Measure("floor/relative_error", "SVD floor of the relative error", told=True),
    Measure("objective", "objective", -1),
    Measure("n_iter", "iterations", -1, told=True, column="iterations"),
    Measure("seconds", "seconds of training", -1, told=True, column="seconds"),
    Measure("n_restarts", "restarts"),
    Measure("converged", "converged", 1, told=True, column="converged"),
    Measure("status", "ended", told=True, column="ended"),
    Measure("budget/cut", "before max_iter"),
    Measure("budget/meant", "by its budget on purpose"),
    Measure(
        "certificate/fall",
        "relative fall that another descent still finds",
        -1,
        told=True,
        column="fall left",
    ),
    Measure("certificate/kkt", "KKT residual at the end", -1, told=True),
    Measure("kkt_residual", "KKT residual", -1),
    Measure("components/sparsity", "sparsity of components"),
    Measure("components/negative", "share of negative entries of components"),
    Measure("codes/sparsity", "sparsity of codes (of columns of W)"),
    Measure("components/collapsed", "near-copies among components", -1),
    Measure("stability/silhouette_mean", "silhouette of components, mean", 1, told=True),
    Measure("stability/silhouette_min", "silhouette of components, least", 1),
    Measure("stability/matched_cosine", "agreement of restarts (cosine)", 1, told=True),
    Measure("stability/objective_spread", "spread of restarts' objectives", -1),
    Measure("stability/cophenetic", "cophenetic correlation", 1),
    Measure("stability/dispersion", "dispersion of the consensus", 1),
    Measure("alignment/before", "mixing of the data sets", 1, told=True),
    Measure("alignment/after", "mixing of the data sets, aligned", 1, told=True),
    Measure("truth/matched_cosine", "agreement with the truth (cosine)", 1, told=True),
    Measure("truth/r", "correlation with the true shares", 1, told=True),
    Measure("truth/rmse", "root mean squared error of the shares", -1, told=True),
    Measure("reference/assigned_cosine", "agreement with the reference (cosine)", 1, told=True),
    Measure("reference/best_cosine", "best match in the reference (cosine)", 1),
    Measure("topics/npmi", "coherence of topics (NPMI)", 1, told=True, column="NPMI"),
    Measure("topics/cv", "coherence of topics (C_v)", 1),
    Measure("topics/diversity", "diversity of topics", 1, told=True),
    Measure("topics/smallest", "share of the smallest topic"),
    Measure("labels/accuracy", "accuracy of held-out labels", 1, told=True),
    Measure("labels/auc", "area under the ROC curve of held-out labels", 1, told=True),
    Measure("labels/ari", "adjusted Rand index with the labels", 1, told=True),
    Measure("labels/nmi", "mutual information with the labels", 1),
)
"""In reading order. A number that is not among them is shown by its key."""

_BY_KEY = {measure.key: measure for measure in MEASURES}


def measure(key: str) -> Measure:
    """What is said of a number, also of one that this module has never heard of."""
    return _BY_KEY.get(key) or Measure(key, key.replace("/", ": ").replace("_", " "))


def columns(runs: Iterable[Mapping[str, Any]]) -> list[Measure]:
    """Those with a column that any of these runs has."""
    every = list(runs)
    return [one for one in MEASURES if one.column and any(one.key in metrics for metrics in every)]


def number(metrics: Mapping[str, Any], key: str) -> float:
    """A number as a float; nan where it is absent, infinite, or no number at all."""
    value = metrics.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return math.nan
    return float(value)


def measures_of(runs: Iterable[Mapping[str, Any]]) -> list[Measure]:
    """Every number found in any of these ``metrics.json``, in reading order."""
    found = dict.fromkeys(
        key for metrics in runs for key, value in metrics.items() if isinstance(value, int | float)
    )
    order = {key: i for i, key in enumerate(_BY_KEY)}
    return [measure(key) for key in sorted(found, key=lambda key: (order.get(key, 1000), key))]


ALIKE = ("link/auc", "test/perplexity", "ranking/ndcg")
"""Numbers that say the same of every model, whatever it minimised."""

ANY_LOSS = "any loss"
"""What runs are compared as that are judged by one of these numbers."""


def compared_as(loss: str, model: str, metrics: Mapping[str, Any]) -> str:
    """What two runs must have in common for their numbers to be ranked, beside the data.

    A loss, the model where the likelihood is its own, or nothing (`ANY_LOSS`) where a number says the
    same of all.
    """
    if main_measure(loss, [metrics]) in ALIKE:
        return ANY_LOSS
    return f"own of {model}" if loss == "own" else loss


def main_measure(loss: str, runs: Iterable[Mapping[str, Any]]) -> str:
    """The number by which runs that minimised the same loss are ranked.

    Where links are held out: how well they are told. Where documents are completed: their perplexity,
    whatever was minimised. Of scores that only order features: how early held-out entries rank. Else
    on held-out data where there is any; the
    relative error for the Frobenius loss (the same order as the loss on the same data, and readable),
    the loss itself for any other.
    """
    every = list(runs)
    if every and all("link/auc" in metrics for metrics in every):
        return "link/auc"
    if every and all("test/perplexity" in metrics for metrics in every):
        return "test/perplexity"
    if every and all("ranking/ndcg" in m and "test/relative_error" not in m for m in every):
        return "ranking/ndcg"
    name = "relative_error" if loss == "frobenius" else "loss"
    held_out = bool(every) and all(f"test/{name}" in metrics for metrics in every)
    return f"{'test' if held_out else 'train'}/{name}"


def unfinished_words(metrics: Mapping[str, Any]) -> str:
    """Why a run does not count as converged, how far it was from it, and what helps; else "".

    Nothing of a run that ended by its budget on purpose, which its notes say.
    """
    if metrics.get("converged") is not False or metrics.get("budget/meant"):
        return ""
    fall = metrics.get("certificate/fall")
    further = f"; another descent still lowers the objective by {fall:.1e}" if fall else ""
    if metrics.get("status") == "stopped early":
        return (
            f"stopped early, not proved converged{further}: solver.heldout=0, all rows in memory and "
            "certificate_tol=1e-3 give a proof"
        )
    remedy = "raise " + (CUT if metrics.get("budget/cut") else "max_iter")
    if fall is not None and fall > FAR:
        remedy += ", or use another solver"
    return f"not converged in {metrics.get('n_iter', '?')} iterations{further}: {remedy}"


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
