"""``ranks=...``: every rank fitted many times, one suggested, its components and weights written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from nmfnet.config import Config, run_folder, run_id
from nmfnet.data.sources.source import Source
from nmfnet.errors import UserError
from nmfnet.run.finished import Finished, finished
from nmfnet.run.lock import locked
from nmfnet.selection.fits import Job, Say, Store, fit_all, jobs, key_of
from nmfnet.selection.measures import measure, refined, table
from nmfnet.selection.options import parse_ranks
from nmfnet.selection.outcome import Selected, result_of
from nmfnet.selection.prepare import checked, data_of, plan_of, unit_of
from nmfnet.selection.relevance import Kept, applies, kept
from nmfnet.selection.rule import suggest
from nmfnet.settings.objects import build

__all__ = ["Selected", "select"]


def select(cfg: Config, source: Source | None = None, *, write: bool = True) -> Selected | Finished:
    """Fit every rank of ``cfg.ranks`` many times, and suggest one.

    Parameters
    ----------
    cfg : Config
        Resolved and checked configuration, with ``ranks`` and ``selection``.
    source : Source, optional
        Data in memory, instead of ``cfg.data``.
    write : bool
        False = leave no files.

    Raises
    ------
    UserError
        For input that cannot be used.
    Interrupted
        After Ctrl-C; the same call goes on with the fits that are missing.
    """
    folder = run_folder(cfg) if write else None
    before = finished(cfg.but(force=False)) if _same(cfg, folder) else None
    if before is not None and not cfg.force:
        return before
    if before is None and folder is not None:
        finished(cfg)  # refuses a folder with another run in it
    with nullcontext() if folder is None else locked(folder):
        return _select(cfg, source, folder, anew=before is not None or not cfg.resume)


def _select(cfg: Config, source: Source | None, folder: Path | None, *, anew: bool) -> Selected:
    """The fits, what they say of every rank, and the files."""
    from nmfnet.run.stopping import Interrupted

    assert cfg.ranks is not None
    ranks, options = parse_ranks(cfg.ranks), build(cfg.selection)
    datamodule, rest = data_of(cfg, source)
    whole = datamodule.matrix
    datamodule.matrix, said = options.chosen(whole)
    datamodule.notes += said
    if rest.shape[0] and datamodule.matrix is not whole:
        raise UserError(
            "this selection chooses and scales features by the samples that it fits, so none can be held "
            "out: use split=none, or selection=default"
        )
    matrix = checked(datamodule.matrix, ranks, options)
    plan, held, beta = plan_of(cfg, matrix, options)
    missing = applies(plan.cfg, matrix, beta) if options.ard else None
    if missing is not None:
        datamodule.notes.append(missing)
    todo = jobs(ranks, plan, held, missing is None)
    store = Store(None if folder is None else folder / "fits", key_of(plan), anew=anew)
    try:
        fit_all(plan, todo, store, *_sayings(cfg.progress))
    except (KeyboardInterrupt, Interrupted) as stop:
        done = sum(job in store.memory for job in todo)
        raise Interrupted(
            f"interrupted after {done} of {len(todo)} fits; the same command does the others"
        ) from stop
    found = {k: measure(plan, store, todo, k, beta) for k in ranks}
    relevance = _kept(store, todo)
    rows = table(list(found.values()), held[0] if held else None, options, relevance)
    suggestion = suggest(rows, options, unit_of(held, beta))
    if relevance is not None:
        reason = f"{suggestion.reason}; {relevance.sentence}"
        suggestion = suggestion._replace(reason=reason)
    if options.refine:
        k = suggestion.n_components
        found[k] = refined(plan, found[k], beta)
    result = result_of(cfg, plan, found, rows, suggestion, datamodule, relevance, rest)
    result.programs = options.extend(result, whole)
    if folder is not None:
        from nmfnet.selection.folder import write_folder

        clusters = store.memory[_restarts(todo, suggestion.n_components)]["clusters"]
        result.folder = folder
        write_folder(cfg, result, datamodule, options, clusters)
    return result


def _same(cfg: Config, folder: Path | None) -> bool:
    """Whether the folder holds a finished run of this very configuration."""
    if folder is None or not (folder / "metrics.json").is_file():
        return False
    import yaml

    try:
        return run_id(yaml.safe_load((folder / "config.yaml").read_text())) == run_id(cfg.plain())
    except (OSError, ValueError, AttributeError, KeyError, yaml.YAMLError):
        return False


def _kept(store: Store, todo: Sequence[Job]) -> Kept | None:
    starts = [job for job in todo if job.kind == "ard"]
    return kept([store.memory[job] for job in starts], starts[0].n_components) if starts else None


def _restarts(todo: Sequence[Any], n_components: int) -> Any:
    return next(j for j in todo if j.kind == "restarts" and j.n_components == n_components)


def _sayings(progress: bool | str) -> tuple[Say, Say]:
    """How a complete rank is told of, and how it is told now and then that the fits go on."""

    def told(line: str) -> None:
        print(f"nmfnet: {line}", file=sys.stderr, flush=True)

    def hushed(line: str) -> None:
        """Nobody is watching."""

    watched = sys.stderr.isatty() if progress == "auto" else bool(progress)
    return told if watched else hushed, told if progress else hushed
