"""What is known about every rank once its fits are there, and the components they agree on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nmfnet import metrics
from nmfnet.selection.fits import AGREEING, Job, Kind, Plan, Store, from_consensus
from nmfnet.selection.options import Selection
from nmfnet.selection.relevance import Kept
from nmfnet.selection.rule import is_stable
from nmfnet.selection.weights import refit_weights

__all__ = ["Rank", "measure", "refined", "table"]

LOST = 0.8
"""A component below this cosine with the consensus it started from is another one."""

FloatArray = npt.NDArray[np.float64]


class Rank(NamedTuple):
    """One rank.

    Attributes
    ----------
    n_components : int
    components : ndarray, shape (k, f)
        Consensus of the replicates (of the suggested rank: see ``refined``), rows sum to 1, the
        heaviest in the data first.
    weights : ndarray, shape (n, k)
        Of the data on these components, in the unit of X.
    members : ndarray of int, shape (replicates, k)
        Component of each replicate in each cluster, in the same order.
    replicates : ndarray, shape (replicates, k, f)
        Components of every replicate as they were fitted.
    silhouettes : ndarray, shape (k,)
    held_out : dict of str to ndarray, shape (n,)
        Loss of what was held out, by kind and sample, mean over folds; empty without.
    numbers : dict of str to float
        The row of ``rank_selection.csv``.
    """

    n_components: int
    components: FloatArray
    weights: FloatArray
    members: npt.NDArray[np.intp]
    replicates: FloatArray
    silhouettes: FloatArray
    held_out: dict[str, FloatArray]
    numbers: dict[str, float]


def measure(
    plan: Plan, store: Store, todo: Sequence[Job], n_components: int, beta: float | None
) -> Rank:
    """Cluster the replicates of a rank, refit the data on the consensus, collect the numbers."""
    mine = [job for job in todo if job.n_components == n_components and job.kind != "ard"]
    fits = {job: store.read(job) for job in mine}
    done = {job: made for job, made in fits.items() if made is not None}
    replicates = [made for job, made in done.items() if job.kind in AGREEING]
    stack = np.concatenate([made["H"] for made in replicates])
    clusters = metrics.cluster_restarts(stack)
    agreed, more = plan.options.consensus(stack, clusters)
    weights = refit_weights(plan.matrix.values, agreed.components, beta, plan.matrix.mask)
    order = np.argsort(-weights.sum(axis=0), kind="stable")
    components, weights = agreed.components[order], weights[:, order]
    numbers: dict[str, float] = {
        "n_components": n_components,
        "silhouette_mean": float(clusters.silhouettes.mean()),
        "silhouette_min": float(clusters.silhouettes.min()),
        **more,
    }
    (restarts,) = (made for job, made in done.items() if job.kind == "restarts")
    numbers |= {key: restarts[key] for key in ("cophenetic", "dispersion")}
    numbers |= _reconstruction(plan, weights, components)
    numbers["best_objective"] = restarts["objective"]
    held: dict[str, FloatArray] = {
        kind: np.mean([made["held_out"] for job, made in done.items() if job.kind == kind], axis=0)
        for kind in _held_kinds(done)
    }
    numbers |= {f"held_out_{kind}": float(losses.sum()) for kind, losses in held.items()}
    numbers |= {
        "converged": float(np.mean([made["converged"] for made in done.values()])),
        "unconverged": 1.0 - float(np.mean([made["converged"] for made in replicates])),
        "n_iter": float(np.mean([made["n_iter"] for made in done.values()])),
        "seconds": float(np.sum([made["seconds"] for made in done.values()])),
        "fits": float(len(done)),
    }
    silhouettes, members = agreed.silhouettes[order], agreed.members[:, order]
    return Rank(n_components, components, weights, members, stack, silhouettes, held, numbers)


def refined(plan: Plan, rank: Rank, beta: float | None) -> Rank:
    """The rank with components fitted to the data, from its consensus as the start.

    Where that fit leaves the consensus (a component's cosine with it below ``LOST``), or the model
    is not X ~ W H, the consensus stays.
    """
    found = from_consensus(plan, rank.weights, rank.components)
    if found is None:
        return rank
    cosines = np.diag(metrics.component_cosines(found, rank.components))
    totals = found.sum(axis=1, keepdims=True)
    if cosines.min() < LOST or (totals <= 0).any():
        return rank
    components = found / totals
    weights = refit_weights(plan.matrix.values, components, beta, plan.matrix.mask)
    numbers = rank.numbers | {"consensus_cosine": float(cosines.min())}
    return rank._replace(components=components, weights=weights, numbers=numbers)


def _held_kinds(done: dict[Job, Any]) -> list[Kind]:
    present = dict.fromkeys(job.kind for job in done)
    return [kind for kind in present if kind in ("thinning", "entries")]


def _reconstruction(plan: Plan, weights: FloatArray, components: FloatArray) -> dict[str, float]:
    """How well the consensus gives the data back; cosines over samples that are not empty."""
    matrix = plan.matrix
    product = metrics.Product(weights, components)
    scores = metrics.fit_metrics(matrix.values, product, matrix.mask)
    cosines = metrics.sample_cosine(matrix.values, product, matrix.mask)
    return {
        "kl": scores["kl"],
        "relative_error": scores["relative_error"],
        "cosine_mean": float(cosines.mean()),
        "cosine_median": float(np.median(cosines)),
        "cosine_min": float(cosines.min()),
    }


def table(
    ranks: Sequence[Rank], kind: str | None, options: Selection, relevance: Kept | None = None
) -> list[dict[str, float]]:
    """Rows of ``rank_selection.csv``: the numbers, whether stable, and how much worse each predicts.

    ``worse`` is the held-out loss minus that of the best stable rank (of all, if none is stable),
    ``worse_se`` the standard error of that difference over samples (the same samples at both).
    ``ard`` is the share of the starts of ARD that keep this many components.
    """
    rows = [rank.numbers | {"stable": float(is_stable(rank.numbers, options))} for rank in ranks]
    if relevance is not None:
        for row in rows:
            row["ard"] = relevance.starts.count(int(row["n_components"])) / len(relevance.starts)
    if kind is None:
        return rows
    able = [rank for rank, row in zip(ranks, rows, strict=True) if row["stable"]] or ranks
    best = min(able, key=lambda rank: float(rank.held_out[kind].sum()))
    for row, rank in zip(rows, ranks, strict=True):
        difference = rank.held_out[kind] - best.held_out[kind]
        row["worse"] = float(difference.sum())
        row["worse_se"] = float(np.sqrt(len(difference)) * difference.std(ddof=1))
    return rows
