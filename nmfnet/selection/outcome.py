"""After the fits of a rank selection: what it has found, with names, intervals and numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmfnet import metrics
from nmfnet.config import Config
from nmfnet.data.matrix import Matrix, Reference
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sources.channels import component_names
from nmfnet.metrics.decomposition import Decomposition
from nmfnet.metrics.reference import ReferenceMatch
from nmfnet.run.association import said_of, tested
from nmfnet.selection.fits import Plan, replicate
from nmfnet.selection.measures import Rank
from nmfnet.selection.relevance import Kept
from nmfnet.selection.resampling import are_counts, hypermutators_note, rates_note
from nmfnet.selection.rule import Suggestion
from nmfnet.selection.weights import Intervals, intervals, refit_weights

if TYPE_CHECKING:
    from nmfnet.selection.programs import Programs

__all__ = ["Selected", "result_of"]


@dataclass(repr=False)
class Selected:
    """A finished rank selection.

    Attributes
    ----------
    folder : Path or None
    rows : list of dict
        ``rank_selection.csv``: one row per rank.
    suggestion : Suggestion
        Suggested rank, rule and reason.
    ranks : dict of int to Rank
        Consensus components and weights of every rank.
    names : list of str
        Of the components at the suggested rank.
    sample_names, feature_names : list of str
    intervals : Intervals or None
    matches : list of ReferenceMatch
        Components of the suggested rank against the reference, one to one and best; empty without.
    reference : Reference or None
        What they were compared with.
    decompositions : list of Decomposition
        The same as sums of few references.
    ard : Kept or None
        How many components automatic relevance determination keeps.
    programs : Programs or None
        What the components of cells mean for all genes.
    associations : Associations or None
        Of the components with the phenotypes of held-out samples, or without any of all samples.
    metrics : dict
        As in ``metrics.json``.
    notes : list of str
    """

    folder: Path | None
    rows: list[dict[str, float]]
    suggestion: Suggestion
    ranks: dict[int, Rank]
    names: list[str]
    sample_names: list[str]
    feature_names: list[str]
    intervals: Intervals | None = None
    matches: list[ReferenceMatch] = field(default_factory=list)
    reference: Reference | None = None
    decompositions: list[Decomposition] = field(default_factory=list)
    ard: Kept | None = None
    programs: Programs | None = None
    associations: metrics.Associations | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    found: bool = False

    def __repr__(self) -> str:
        return f"{self.n_components} components suggested: {self.suggestion.reason}"

    @property
    def n_components(self) -> int:
        """The suggested rank."""
        return self.suggestion.n_components

    @property
    def components_(self) -> np.ndarray:
        """Consensus components of the suggested rank, shape (n_components, n_features), rows sum to 1."""
        return self.ranks[self.n_components].components

    @property
    def sums(self) -> list[str]:
        """Each component as a sum of references in words: ``SBS13 51.0% + SBS2 49.0%``."""
        if self.reference is None:
            return []
        names = self.reference.names
        return [
            " + ".join(
                f"{names[j]} {100 * share:.1f}%"
                for j, share in zip(found.references, found.shares, strict=True)
            )
            for found in self.decompositions
        ]

    @property
    def shares(self) -> np.ndarray:
        """Share of each component in all weights, shape (n_components,), in [0, 1]."""
        total = self.weights.sum(axis=0)
        return np.asarray(total / (total.sum() or 1.0))

    @property
    def weights(self) -> np.ndarray:
        """Weights of the samples on them, shape (n_samples, n_components), in the unit of X."""
        return self.ranks[self.n_components].weights


def result_of(
    cfg: Config,
    plan: Plan,
    found: dict[int, Rank],
    rows: list[dict[str, float]],
    suggestion: Suggestion,
    datamodule: MatrixDataModule,
    relevance: Kept | None,
    rest: Matrix,
) -> Selected:
    """Everything that is reported, of all samples: those that took no part have weight 0."""
    whole = datamodule.matrix
    chosen = found[suggestion.n_components]
    used = {name: i for i, name in enumerate(plan.matrix.sample_names)}
    place = np.array([used.get(name, -1) for name in whole.sample_names])
    ranks = {k: rank._replace(weights=_spread(rank.weights, place)) for k, rank in found.items()}
    names = component_names(whole.feature_names, suggestion.n_components)
    bounds = _bootstrap(plan, chosen, plan.beta) if plan.options.intervals else None
    if bounds is not None:
        bounds = Intervals(*(_spread(part, place) for part in bounds))
    notes = list(datamodule.notes)
    if are_counts(plan.matrix.values):
        said = hypermutators_note(plan.matrix, plan.options.hypermutators == "cap")
        notes += [said] if said else []
    elif plan.options.channels and (said := rates_note(plan.matrix, plan.resampled)) is not None:
        notes.append(said)
    if "consensus_cosine" in chosen.numbers:
        notes.append(
            f"The numbers of {suggestion.n_components} components in rank_selection.csv are of the "
            "consensus, by which ranks are compared; those of metrics.json are of the fit that starts "
            "there."
        )
    result = Selected(
        None, rows, suggestion, ranks, names, whole.sample_names, whole.feature_names, bounds,
        ard=relevance, notes=notes,
    )  # fmt: skip
    if whole.reference is not None and np.all(chosen.components >= 0):
        known = whole.reference
        result.matches = metrics.match_reference(
            chosen.components, known.values, component_names=names, reference_names=known.names
        )
        result.reference = known
        result.decompositions = metrics.decompose(chosen.components, known.values)
    result.metrics = _metrics(cfg, result, whole, rows)
    if whole.phenotypes:
        held_out = rest.shape[0] > 0
        part = rest if held_out else whole
        H = result.components_
        W = refit_weights(part.values, H, plan.beta, part.mask) if held_out else result.weights
        result.associations = tested(W, H, names, part.phenotypes, cfg.seed)
        notes += said_of(result.associations, part.shape[0], held_out)
    return result


def _spread(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Rows put at their samples; samples that took no part have weight 0."""
    return np.where((place >= 0)[:, None], values[np.maximum(place, 0)], 0.0)


def _bootstrap(plan: Plan, rank: Rank, beta: float | None) -> Intervals | None:
    """Weights of every replicate on its own components, so that both uncertainties count."""
    if plan.resampled == "none":
        return None
    draws = []
    for index, members in enumerate(rank.members):
        H = np.asarray(rank.replicates[index][members], np.float64)
        size = np.abs(H).sum(axis=1, keepdims=True)
        H = H / np.where(size > 0, size, 1.0)
        data = replicate(plan, index)
        draws.append(refit_weights(data.values, H, beta, data.mask))
    return intervals(draws)


def _metrics(
    cfg: Config, result: Selected, whole: Matrix, rows: list[dict[str, float]]
) -> dict[str, Any]:
    row = next(r for r in rows if r["n_components"] == result.n_components)
    product = metrics.Product(result.weights, result.components_)
    scores = metrics.fit_metrics(whole.values, product, whole.mask)
    numbers: dict[str, Any] = {
        "n_components": result.n_components,
        "objective": row["best_objective"],
        "n_iter": int(row["n_iter"]),
        "seconds": float(sum(r["seconds"] for r in rows)),
        "converged": min(r["converged"] for r in rows) >= 0.95,
        "status": "converged" if min(r["converged"] for r in rows) >= 0.95 else "budget",
        "n_restarts": cfg.n_restarts,
        "n_ranks": len(rows),
        "ranks_stable": len(result.suggestion.stable),
        "fits": int(sum(r["fits"] for r in rows)),
    }
    numbers |= {f"train/{key}": value for key, value in scores.items()}
    if (relevance := result.ard) is not None:
        numbers["ard/n_components"] = relevance.n_components
        numbers |= {"ard/min": min(relevance.starts), "ard/max": max(relevance.starts)}
        numbers["ard/dispersion"] = relevance.dispersion
        numbers["seconds"] += relevance.seconds
    drift = result.ranks[result.n_components].numbers.get("consensus_cosine", 1.0)
    numbers["stability/consensus_cosine"] = drift
    for key in ("silhouette_mean", "silhouette_min", "cophenetic", "dispersion"):
        numbers[f"stability/{key}"] = row[key]
    for key in row:
        if key.startswith("held_out_"):
            numbers[f"test/loss_of_{key.removeprefix('held_out_')}"] = row[key]
    if result.matches:
        for key in ("assigned_cosine", "best_cosine"):
            values = [getattr(match, key) for match in result.matches]
            numbers[f"reference/{key}"] = float(np.nanmean(values))
    if whole.truth is not None and whole.truth.H is not None:
        found = metrics.recovery(result.components_, whole.truth.H)
        pairs = metrics.match_components(result.components_, whole.truth.H)
        numbers |= {f"truth/{key}": found[key] for key in ("ppv", "tpr", "f1")}
        numbers["truth/matched_cosine"] = float(pairs.scores.mean())
        numbers["truth/min_cosine"] = float(pairs.scores.min())
    return numbers
