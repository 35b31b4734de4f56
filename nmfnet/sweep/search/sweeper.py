"""The search itself: a Hydra sweeper that asks Optuna for settings and tells it how they did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from nmfnet.errors import UserError
from nmfnet.run.lock import locked
from nmfnet.run.stored import write_json
from nmfnet.settings.hints import did_you_mean
from nmfnet.settings.ranges import Count, Natural
from nmfnet.settings.words import open_keys
from nmfnet.sweep.jobs import Record, read_record
from nmfnet.sweep.launchers.base import Pool
from nmfnet.sweep.search.by_jobs import ByJobs
from nmfnet.sweep.search.space import Space, read_space
from nmfnet.sweep.search.study import (
    FILE,
    NAME,
    Direction,
    hushed,
    lost_trials,
    make_pruner,
    make_sampler,
    open_study,
    queue_grid,
    storage_of,
)
from nmfnet.sweep.summary import begin, first_refusal, shown

if TYPE_CHECKING:
    from optuna import Study


class Search(ByJobs):
    """Search for the settings with the best numbers.

    Parameters
    ----------
    metric : str or list of str
        Keys of ``metrics.json``; several = the settings that no others beat in all of them.
    direction : "minimize" or "maximize", or a list
        Of each metric.
    n_trials : int
        Runs in all, those of an interrupted search included.
    sampler : {"tpe", "cmaes", "grid", "random"}
        What chooses settings: by a model of what did well, by an evolving normal distribution
        (numbers only), all of them, or blindly.
    pruner : {"none", "median", "hyperband", "asha"}
        Ends a run early whose objective is behind that of earlier runs at the same iteration.
    batch : int or "auto"
        Runs between two looks at the results; auto = as many as the launcher runs at a time.
    seed : int
        Of the sampler.
    params : dict of str to str
        What to search, as on the command line, which wins.
    """

    choice = "optuna"

    def __init__(
        self,
        metric: str | list[str] = "train/relative_error",
        direction: Direction | list[Direction] = "minimize",
        n_trials: Count = 30,
        sampler: Literal["tpe", "cmaes", "grid", "random"] = "tpe",
        pruner: Literal["none", "median", "hyperband", "asha"] = "none",
        batch: Count | Literal["auto"] = "auto",
        seed: Natural = 0,
        params: dict[str, str] | None = None,
    ) -> None:
        self.metrics = [metric] if isinstance(metric, str) else list(metric)
        given = [direction] if isinstance(direction, str) else list(direction)
        self.directions = given * len(self.metrics) if len(given) == 1 else given
        self.n_trials, self.batch, self.seed = n_trials, batch, seed
        self.sampler, self.pruner, self.params = sampler, pruner, dict(params or {})

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that are missing, and say which was best.

        Raises
        ------
        UserError
            If the search cannot be done as asked; nothing has run then.
        """
        sweep = Path(self.config.hydra.sweep.dir).absolute()
        self._check()
        words = open_keys([f"{key}={value}" for key, value in self.params.items()])
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        with hushed():
            space = read_space([*words, *arguments], parser)
            make_sampler(self.sampler, space, self.seed, len(self.metrics))
            new = not (sweep / FILE).exists()
            sweep.mkdir(parents=True, exist_ok=True)
            with first_refusal(sweep), locked(sweep):
                self.launcher.alone = True
                begin(sweep)
                try:
                    self._search(sweep, space)
                except UserError:
                    if new and not any((sweep / "jobs").glob("*.json")):
                        for name in (FILE, "pruner.json"):
                            (sweep / name).unlink(missing_ok=True)
                    raise

    def _check(self) -> None:
        """Refuse what is wrong whatever the space is."""
        if find_spec("optuna") is None:
            raise UserError(
                "hparams_search=optuna needs the optuna package: pip install 'nmfnet[search]'"
            )
        if len(self.directions) != len(self.metrics):
            raise UserError(
                f"hparams_search: {len(self.metrics)} metrics and {len(self.directions)} "
                "directions: give one direction for all, or one for each"
            )
        if self.pruner != "none" and self.directions != ["minimize"]:
            raise UserError(
                f"hparams_search.pruner={self.pruner} compares falling objectives, which needs one "
                "metric with direction=minimize: use pruner=none"
            )

    def _search(self, sweep: Path, space: Space) -> None:
        OmegaConf.save(self.config, sweep / "multirun.yaml")
        study = open_study(sweep, space, self.metrics, self.directions)
        if self.pruner != "none":
            told = {"study": NAME, "pruner": self.pruner}
            write_json(sweep / "pruner.json", told)
        study.pruner = make_pruner(self.pruner)
        n_before = len(study.get_trials(deepcopy=False))
        study.sampler = make_sampler(self.sampler, space, self.seed + n_before, len(self.metrics))
        self._recover(study, sweep)
        at_once = self.launcher.n_jobs if isinstance(self.launcher, Pool) else 1
        size = at_once if self.batch == "auto" else self.batch
        wanted = self.n_trials
        if self.sampler == "grid":
            wanted = min(wanted, math.prod(len(v) for v in space.grid().values()))
            queue_grid(study, space)
        lost = sum(_lost(trial) for trial in study.get_trials(deepcopy=False))
        self.launcher.total = wanted + lost  # which keep their numbers
        while (missing := wanted - _counted(study)) > 0:
            trials = [study.ask(space.searched) for _ in range(min(size, missing))]
            results = self.launcher.launch(
                [space.overrides(trial.params) for trial in trials], trials[0].number
            )
            for trial, result in zip(trials, results, strict=True):
                self._tell(study, trial.number, result.return_value)
        self._say(study, sweep)

    def _recover(self, study: Study, sweep: Path) -> None:
        """Trials of a search that was killed: those that had ended count, the others run again."""
        for trial in lost_trials(study):
            record = read_record(sweep / "jobs" / f"{trial.number:04d}.json")
            if record is not None and record["status"] not in ("running", "interrupted"):
                self._tell(study, trial.number, record)
                continue
            if record is not None:
                (sweep / "jobs" / f"{trial.number:04d}.json").unlink()
            _attributes(study, trial.number, lost=True, error="the search was stopped")
            study.tell(trial.number, state=_state("FAIL"))
            study.enqueue_trial(trial.params)

    def _tell(self, study: Study, number: int, record: Record) -> None:
        """How a trial ended."""
        told = {"run_dir": record["run_dir"], "status": record["status"]}
        if "error" in record:
            told["error"] = record["error"].splitlines()[0]
        _attributes(study, number, **told)
        if record["status"] not in ("done", "found"):
            study.tell(number, state=_state("PRUNED" if record["status"] == "pruned" else "FAIL"))
            return
        numbers = record["metrics"]
        for key in self.metrics:
            if key not in numbers or isinstance(numbers[key], str | list):
                study.tell(number, state=_state("FAIL"))
                raise UserError(
                    f"hparams_search.metric={key}: runs have no such number{_hint(key, numbers)}"
                )
        values = [numbers[key] for key in self.metrics]
        if all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            study.tell(number, [float(value) for value in values])
        else:
            _attributes(study, number, error=f"{self.metrics} = {values}")
            study.tell(number, state=_state("FAIL"))

    def _say(self, study: Study, sweep: Path) -> None:
        """The best trials, and where to look at the others."""
        states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
        if "COMPLETE" not in states:
            print("no trial ended with a result")
            return
        best: Sequence[Any] = study.best_trials if len(self.metrics) > 1 else [study.best_trial]
        heading = "best" if len(self.metrics) == 1 else "not beaten in every metric"
        for trial in sorted(best, key=lambda trial: trial.values):
            values = zip(self.metrics, trial.values, strict=True)
            numbers = " ".join(f"{key}={value:.5g}" for key, value in values)
            settings = " ".join(f"{key}={value}" for key, value in trial.params.items())
            print(f"{heading}: job {trial.number} {settings}: {numbers}")
        where = storage_of(shown(sweep)).replace(str(sweep), str(shown(sweep)))
        print(f"{len(states)} trials; look at them with: optuna-dashboard {where}")


def _counted(study: Study) -> int:
    """Trials that have ended, without those that were lost and run again."""
    ended = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    return sum(not _lost(trial) for trial in ended)


def _lost(trial: Any) -> bool:
    """Whether a killed search left this trial, which another one has taken the place of."""
    return bool(trial.user_attrs.get("lost"))


def _hint(key: str, numbers: Mapping[str, Any]) -> str:
    """What to do about a metric that a run does not have."""
    known = [k for k, v in numbers.items() if isinstance(v, int | float)]
    if key.startswith("test/") and not any(k.startswith("test/") for k in known):
        said = ", as nothing was held out: choose a split, such as split=rows"
    else:
        said = did_you_mean(key, known)
    return f"{said} (they have: {', '.join(known)})"


def _attributes(study: Study, number: int, **told: Any) -> None:
    """Notes on a trial, for ``optuna-dashboard``."""
    from optuna.trial import Trial

    trial = Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
    for key, value in told.items():
        trial.set_user_attr(key, value)


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]
