"""Optuna behind a search: its study in the sweep's folder, samplers, pruners."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nmfnet.errors import UserError
from nmfnet.run.quiet import quiet
from nmfnet.sweep.search.space import Space

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

Direction = Literal["minimize", "maximize"]

FILE, NAME = "study.db", "nmfnet"


def storage_of(sweep: Path) -> str:
    """Address of the study of a sweep."""
    return f"sqlite:///{(sweep / FILE).absolute()}"


def hushed() -> AbstractContextManager[None]:
    """Without Optuna's log of every trial and its warnings about experimental options."""
    import optuna  # noqa: F401  (sets the level of its logger)

    return quiet(("optuna",), module="optuna", messages=(".*experimental.*",))


def open_study(
    sweep: Path, space: Space, metrics: Sequence[str], directions: Sequence[Direction]
) -> Study:
    """The study in a sweep's folder, made or gone on with.

    Raises
    ------
    UserError
        If the study there searches another space or for something else.
    """
    import optuna

    asked = {
        "space": space.text(),
        "metric": ", ".join(metrics),
        "direction": ", ".join(directions),
    }
    try:
        study = optuna.create_study(
            storage=storage_of(sweep),
            study_name=NAME,
            directions=list(directions),
            load_if_exists=True,
        )
    except Exception as error:  # sqlalchemy's and alembic's, of many kinds
        raise UserError(
            f"{sweep / FILE} cannot be used as a study ({str(error).splitlines()[0]}): "
            "search in another folder"
        ) from error
    stored = study.user_attrs
    if not study.get_trials(deepcopy=False):
        for key, value in asked.items():
            study.set_user_attr(key, value)
        return study
    for key, value in asked.items():
        if stored.get(key) != value:
            raise UserError(
                f"{sweep / FILE} is the study of another search: its {key} is "
                f"{stored.get(key)}, and {value} was asked for; search in another folder, "
                "or give the same as before"
            )
    return study


def make_sampler(name: str, space: Space, seed: int, n_objectives: int) -> BaseSampler:
    """What chooses the next trial's settings.

    Raises
    ------
    UserError
        If the sampler cannot search this space.
    """
    from optuna import samplers
    from optuna.distributions import CategoricalDistribution

    if name == "grid":
        space.grid()  # refuses intervals; the trials are queued, see queue_grid
    if name in ("grid", "random"):
        return samplers.RandomSampler(seed=seed)
    if name == "tpe":
        return samplers.TPESampler(seed=seed, constant_liar=n_objectives == 1)
    choices = [n for n, d in space.searched.items() if isinstance(d, CategoricalDistribution)]
    if choices or n_objectives > 1:
        why = f"{choices[0]} is a list of choices" if choices else "there are several metrics"
        raise UserError(
            f"hparams_search.sampler=cmaes searches numbers for one metric, and {why}: "
            "use sampler=tpe"
        )
    try:
        return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    except ImportError as error:
        raise UserError(
            "hparams_search.sampler=cmaes needs the cmaes package: pip install 'nmfnet[search]'"
        ) from error


def make_pruner(name: str) -> BasePruner:
    """What ends a trial early."""
    from optuna import pruners

    return {
        "none": pruners.NopPruner,
        "median": pruners.MedianPruner,
        "hyperband": pruners.HyperbandPruner,
        "asha": pruners.SuccessiveHalvingPruner,
    }[name]()


def queue_grid(study: Study, space: Space) -> None:
    """Queue every combination that is not yet a trial."""
    grid = space.grid()
    there = [
        trial.system_attrs.get("fixed_params", trial.params)
        for trial in study.get_trials(deepcopy=False)
    ]
    for values in product(*grid.values()):
        combination = dict(zip(grid, values, strict=True))
        if combination not in there:
            study.enqueue_trial(combination)


def lost_trials(study: Study) -> list[Any]:
    """Trials of an earlier process that never ended."""
    from optuna.trial import TrialState

    return list(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
