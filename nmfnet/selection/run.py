"""``ranks=...``: every rank fitted many times, one suggested, its components and weights written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nmfnet import metrics
from nmfnet.config import Plain, build, run_folder, run_id
from nmfnet.data.channels import recognise_channels
from nmfnet.data.matrix import Matrix
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.raw import shorten
from nmfnet.data.source import Source
from nmfnet.data.splits import NoSplit
from nmfnet.data.stream import Stream
from nmfnet.errors import UserError
from nmfnet.finished import Finished, finished
from nmfnet.metrics.decomposition import Decomposition
from nmfnet.metrics.reference import ReferenceMatch
from nmfnet.selection.fits import Job, Kind, Plan, Store, fit_all, jobs, key_of, replicate
from nmfnet.selection.measures import Rank, measure, refined, table
from nmfnet.selection.options import Selection, parse_ranks
from nmfnet.selection.relevance import Kept, applies, kept
from nmfnet.selection.resampling import are_counts
from nmfnet.selection.rule import Suggestion, suggest
from nmfnet.selection.weights import Intervals, intervals, refit_weights

__all__ = ["Selected", "select"]

MOST_SAMPLES = 4000
"""Above this no samples x samples consensus picture is drawn."""


@dataclass
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
    decompositions : list of Decomposition
        The same as sums of few references.
    ard : Kept or None
        How many components automatic relevance determination keeps.
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
    decompositions: list[Decomposition] = field(default_factory=list)
    ard: Kept | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    found: bool = False

    @property
    def n_components(self) -> int:
        """The suggested rank."""
        return self.suggestion.n_components

    @property
    def components_(self) -> np.ndarray:
        """Consensus components of the suggested rank, shape (n_components, n_features), rows sum to 1."""
        return self.ranks[self.n_components].components

    @property
    def weights(self) -> np.ndarray:
        """Weights of the samples on them, shape (n_samples, n_components), in the unit of X."""
        return self.ranks[self.n_components].weights


def select(cfg: Plain, source: Source | None = None, *, write: bool = True) -> Selected | Finished:
    """Fit every rank of ``cfg["ranks"]`` many times, and suggest one.

    Parameters
    ----------
    cfg : dict
        Resolved and checked configuration, with ``ranks`` and ``selection``.
    source : Source, optional
        Data in memory, instead of ``cfg["data"]``.
    write : bool
        False = leave no files.

    Raises
    ------
    UserError
        For input that cannot be used.
    Interrupted
        After Ctrl-C; the same call goes on with the fits that are missing.
    """
    from nmfnet.train import Interrupted

    folder = run_folder(cfg) if write else None
    before = finished({**cfg, "force": False}) if _same(cfg, folder) else None
    if before is not None and not cfg["force"]:
        return before
    if before is None and folder is not None:
        finished(cfg)  # refuses a folder with another run in it
    ranks, options = parse_ranks(cfg["ranks"]), build(cfg["selection"])
    datamodule = _data(cfg, source)
    matrix = _checked(datamodule.matrix, ranks, options)
    plan, held, beta = _plan(cfg, matrix, options)
    missing = applies(plan.cfg, matrix, beta) if options.ard else None
    if missing is not None:
        datamodule.notes.append(missing)
    todo = jobs(ranks, options, held, missing is None)
    store = Store(
        None if folder is None else folder / "fits",
        key_of(plan),
        anew=before is not None or not cfg["resume"],
    )
    try:
        fit_all(plan, todo, store, _say(cfg["progress"]))
    except (KeyboardInterrupt, Interrupted) as stop:
        done = sum(job in store.memory for job in todo)
        raise Interrupted(
            f"interrupted after {done} of {len(todo)} fits; the same command does the others"
        ) from stop
    found = {k: measure(plan, store, todo, k, beta) for k in ranks}
    relevance = _kept(store, todo)
    rows = table(list(found.values()), held[0] if held else None, options, relevance)
    suggestion = suggest(rows, options, _unit(held, beta))
    if relevance is not None:
        reason = f"{suggestion.reason}; {relevance.sentence}"
        suggestion = suggestion._replace(reason=reason)
    if options.refine:
        k = suggestion.n_components
        found[k] = refined(plan, found[k], beta)
    result = _result(cfg, plan, found, rows, suggestion, datamodule, relevance)
    if folder is not None:
        from nmfnet.selection.folder import write_folder

        clusters = store.memory[_restarts(todo, suggestion.n_components)]["clusters"]
        result.folder = folder
        write_folder(cfg, result, datamodule, options, clusters)
    return result


def _same(cfg: Plain, folder: Path | None) -> bool:
    """Whether the folder holds a finished run of this very configuration."""
    if folder is None or not (folder / "metrics.json").is_file():
        return False
    import yaml

    try:
        return run_id(yaml.safe_load((folder / "config.yaml").read_text())) == run_id(cfg)
    except (OSError, ValueError, AttributeError, KeyError, yaml.YAMLError):
        return False


def _kept(store: Store, todo: Sequence[Job]) -> Kept | None:
    starts = [job for job in todo if job.kind == "ard"]
    return kept([store.memory[job] for job in starts], starts[0].n_components) if starts else None


def _restarts(todo: Sequence[Any], n_components: int) -> Any:
    return next(j for j in todo if j.kind == "restarts" and j.n_components == n_components)


# ---------------------------------------------------------------------- before the fits
def _data(cfg: Plain, source: Source | None) -> MatrixDataModule:
    source = source or build(cfg["data"])
    if isinstance(source, Stream):
        raise UserError("ranks=... needs the data in memory: use data=table, or single runs")
    if not isinstance(build(cfg["split"]), NoSplit):
        raise UserError("ranks=... holds out counts or entries itself: use split=none")
    if cfg["trainer"].get("strategy") is not None:
        raise UserError("ranks=... shares its fits over processes: use selection.n_jobs=N instead")
    if "n_components" not in cfg["model"]:
        name = cfg["choices"].get("model", "this model")
        raise UserError(f"ranks=...: model={name} has no option n_components to vary")
    datamodule = MatrixDataModule(
        source, NoSplit(), dtype=torch.float64, seed=cfg["seed"], device=torch.device("cpu")
    )
    datamodule.setup()
    datamodule.check(build(cfg["loss"]).check)
    return datamodule


def _checked(matrix: Matrix, ranks: list[int], options: Selection) -> Matrix:
    """The samples that the fits use, after the checks that need the data."""
    if options.channels:
        _check_catalogue(matrix)
    totals = np.asarray(abs(matrix.values).sum(axis=1)).ravel()
    rows = np.flatnonzero(totals > 0) if are_counts(matrix.values) else np.arange(len(totals))
    n, f = len(rows), matrix.shape[1]
    if ranks[-1] > min(n, f):
        what = f"{n} samples" if n <= f else f"{f} features"
        raise UserError(
            f"ranks go up to {ranks[-1]}, but the data have {what}: lower ranks to at most "
            f"{min(n, f)}"
        )
    return _rows(matrix, rows)


def _check_catalogue(matrix: Matrix) -> None:
    if recognise_channels(matrix.feature_names) is None:
        raise UserError(
            f"The {len(matrix.feature_names)} features ({shorten(matrix.feature_names)}) are not a "
            "complete set of mutation channels: SBS96 (such as 'A[C>A]A'), SBS288, SBS1536, DBS78 "
            "('AC>CA') and ID83 ('1:Del:C:0') are known. Is data.orientation right? For other "
            "data use experiment=rank_selection."
        )
    values = matrix.values
    bad = ~((values >= 0) & (values == np.floor(values)))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise UserError(
            f"{int(bad.sum())} of {values.size} values are negative or fractional; a catalogue "
            f"holds counts. The first is {values[row, column]:g} in sample "
            f"{matrix.sample_names[row]!r}, channel {matrix.feature_names[column]!r}. For other "
            "data use experiment=rank_selection."
        )


def _rows(matrix: Matrix, rows: np.ndarray) -> Matrix:
    if len(rows) == matrix.shape[0]:
        return matrix
    return replace(
        matrix,
        values=matrix.values[rows],
        sample_names=[matrix.sample_names[i] for i in rows],
        labels=None if matrix.labels is None else matrix.labels[rows],
        mask=None if matrix.mask is None else matrix.mask[rows],
        predefined_test=None,
        truth=None,
    )


def _plan(cfg: Plain, matrix: Matrix, options: Selection) -> tuple[Plan, list[Kind], float | None]:
    """What the fits need, what is held out, and the beta of the loss."""
    beta = getattr(build(cfg["loss"]), "beta", None)
    counts = are_counts(matrix.values)
    poisson = counts and beta == 1
    resampled = options.resample
    if resampled == "auto":
        resampled = "poisson" if poisson else "uniform"
    kinds: dict[str, list[Kind]] = {
        "thinning": ["thinning"],
        "entries": ["entries"],
        "both": ["thinning", "entries"],
        "none": [],
        "auto": ["thinning"] if poisson else ["entries"],
    }
    held = kinds[options.held_out]
    if not counts:
        for key, used in (
            ("held_out=" + options.held_out, "thinning" in held),
            ("resample=" + resampled, resampled == "multinomial"),
            ("hypermutators=cap", options.hypermutators == "cap"),
        ):
            if used:
                raise UserError(
                    f"selection.{key} needs counts, and X has entries that are not whole numbers "
                    ">= 0: use held_out=entries, resample=uniform, hypermutators=keep"
                )
    alone = {
        **cfg,
        **{"ranks": None, "selection": {}, "logger": {}, "callbacks": {}, "run_dir": None},
        **{"figures": False, "progress": False, "force": True, "resume": False},
    }
    plain = replace(matrix, reference=None, truth=None)
    return Plan(alone, plain, options, resampled, beta), held, beta


def _say(progress: bool | str) -> Any:
    wanted = sys.stderr.isatty() if progress == "auto" else bool(progress)
    return (lambda line: print(line, file=sys.stderr, flush=True)) if wanted else lambda line: None


def _unit(held: list[Kind], beta: float | None) -> str:
    if not held:
        return ""
    what = "thinned counts" if held[0] == "thinning" else "entries"
    return f"loss of held-out {what}" + (" (half the deviance)" if beta == 1 else "")


# ---------------------------------------------------------------------- after the fits
def component_names(feature_names: Sequence[str], count: int) -> list[str]:
    """``SBS96A``, ``SBS96B``, ... for mutation channels, else ``C1``, ``C2``, ..."""
    known = recognise_channels(feature_names)
    if known is None:
        return [f"C{i + 1}" for i in range(count)]
    return [f"{known[0]}{_letters(i)}" for i in range(count)]


def _letters(i: int) -> str:
    """0, 1, ..., 25, 26 as A, B, ..., Z, AA."""
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("A") + i % 26)


def _result(
    cfg: Plain,
    plan: Plan,
    found: dict[int, Rank],
    rows: list[dict[str, float]],
    suggestion: Suggestion,
    datamodule: MatrixDataModule,
    relevance: Kept | None,
) -> Selected:
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
    result = Selected(
        None, rows, suggestion, ranks, names, whole.sample_names, whole.feature_names, bounds,
        ard=relevance, notes=notes,
    )  # fmt: skip
    if whole.reference is not None and np.all(chosen.components >= 0):
        known = whole.reference
        result.matches = metrics.match_reference(
            chosen.components, known.values, component_names=names, reference_names=known.names
        )
        result.decompositions = metrics.decompose(chosen.components, known.values)
    result.metrics = _metrics(cfg, result, whole, rows)
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
    cfg: Plain, result: Selected, whole: Matrix, rows: list[dict[str, float]]
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
        "n_restarts": cfg["n_restarts"],
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
    if whole.truth is not None:
        found = metrics.recovery(result.components_, whole.truth.H)
        pairs = metrics.match_components(result.components_, whole.truth.H)
        numbers |= {f"truth/{key}": found[key] for key in ("ppv", "tpr", "f1")}
        numbers["truth/matched_cosine"] = float(pairs.scores.mean())
        numbers["truth/min_cosine"] = float(pairs.scores.min())
    return numbers
