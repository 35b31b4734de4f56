"""Searches: Optuna through Hydra's words, any launcher, nothing lost, and its study readable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shell import FAST, nmfnet, refusal, train
from test_sweep import rows_of, sweep_of

optuna = pytest.importorskip("optuna")

from nmfnet.sweep.search.pruning import Pruned, Pruning  # noqa: E402
from nmfnet.sweep.search.space import read_space  # noqa: E402
from nmfnet.sweep.search.study import hushed  # noqa: E402

OPTUNA = (
    "-m",
    "data=planted",
    "solver=mu",
    "max_iter=20",
    "figures=false",
    "hparams_search=optuna",
)
SIZES = "model.n_components=range(2,9)"


def study_of(sweep: Path) -> optuna.Study:
    with hushed():
        return optuna.load_study(study_name="nmfnet", storage=f"sqlite:///{sweep}/study.db")


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


def space_of(*words: str):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return read_space(words, OverridesParser.create())


# ---------------------------------------------------------------------- the space
def test_hydras_words_are_optunas_distributions():
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    space = space_of(
        *(
            "++seed=3",
            "++k=range(2,9)",
            "++even=range(2,9,2)",
            "loss=kl,frobenius",
            "++a=1,2.5,null",
        ),
        *("++lr=tag(log,interval(1e-4,0.1))", "++n=int(interval(1,4))", "++f=range(0,1,0.25)"),
        *("++b=choice(true,false)", "++twice=1,2", "++twice=7", "++seed=4"),
    )
    assert space.fixed == {"++seed": "4", "++twice": "7"}
    assert space.searched == {
        "k": IntDistribution(2, 8),
        "even": IntDistribution(2, 8, step=2),
        "loss": CategoricalDistribution(["kl", "frobenius"]),
        "a": CategoricalDistribution(["1", "2.5", "null"]),
        "lr": FloatDistribution(1e-4, 0.1, log=True),
        "n": IntDistribution(1, 4),
        "f": FloatDistribution(0, 0.75, step=0.25),
        "b": CategoricalDistribution(["True", "False"]),
    }
    assert space.overrides({"k": 3, "loss": "kl"}) == ["++twice=7", "++seed=4", "++k=3", "loss=kl"]
    assert space_of("++k=2,3").grid() == {"k": ["2", "3"]}
    assert space_of("++k=range(1,6,2)", "++f=range(0,1,0.5)").grid() == {
        "k": [1, 3, 5],
        "f": [0, 0.5],
    }
    assert space_of("++k=1,2", "++l=2,3").text() == space_of("++l=2,3", "++k=1,2", "++m=4").text()


# ---------------------------------------------------------------------- a search
def test_a_search_finds_the_best_and_keeps_a_study(tmp_path):
    words = (*OPTUNA, "hparams_search.sampler=random", "hparams_search.n_trials=6", SIZES)
    done = train(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    sweep = sweep_of(tmp_path)
    study, rows = study_of(sweep), rows_of(sweep)
    assert states(study) == ["COMPLETE"] * 6
    best = min(rows, key=lambda row: float(row["train/relative_error"]))
    assert study.best_value == float(best["train/relative_error"])
    assert f"best: job {study.best_trial.number} model.n_components=" in done.out
    assert f"optuna-dashboard sqlite:///{sweep.relative_to(tmp_path)}/study.db" in done.out
    for trial, row in zip(study.trials, rows, strict=True):
        assert str(trial.params["model.n_components"]) == row["model.n_components"]
        assert trial.user_attrs["run_dir"] == row["run_dir"]


@pytest.mark.slow
def test_a_search_goes_on_where_it_was_killed(tmp_path):
    words = (*OPTUNA, "hparams_search.sampler=random", "hparams_search.n_trials=3", SIZES)
    assert train(*words, cwd=tmp_path).code == 0
    sweep = sweep_of(tmp_path)
    with hushed():  # as kill -9 leaves them: one trial that had ended, one that had not begun
        study = study_of(sweep)
        for number in (3, 4):
            trial = study.ask({"model.n_components": optuna.distributions.IntDistribution(2, 8)})
            assert trial.number == number
    record = json.loads((sweep / "jobs" / "0002.json").read_text()) | {"job": 3}
    (sweep / "jobs" / "0003.json").write_text(json.dumps(record))
    done = nmfnet("sweep", "resume", str(sweep), "hparams_search.n_trials=6", cwd=tmp_path)
    assert done.code == 0, done.err
    study = study_of(sweep)
    assert states(study) == [*["COMPLETE"] * 4, "FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[4].user_attrs["lost"] is True
    assert "(7 of 7)" in done.err  # the lost trial keeps its number
    assert study.trials[5].params == study.trials[4].params
    done = nmfnet("sweep", "resume", str(sweep), "hparams_search.n_trials=6", cwd=tmp_path)
    assert len(study_of(sweep).trials) == 7


def test_failed_trials_are_told_to_the_study(tmp_path):
    words = (*OPTUNA, "hparams_search.sampler=grid", "init=nndsvd", "model.n_components=2,200,3")
    done = train(*words, cwd=tmp_path)
    assert done.code == 1
    study = study_of(sweep_of(tmp_path))
    assert sorted(states(study)) == ["COMPLETE", "COMPLETE", "FAIL"]
    (failed,) = (trial for trial in study.trials if trial.state.name == "FAIL")
    assert failed.params == {"model.n_components": "200"}
    assert [trial.number for trial in study.trials] == [0, 1, 2]
    assert "init=nndsvd" in failed.user_attrs["error"]
    assert "1 of 3 jobs failed" in done.out


@pytest.mark.quick("tpe")
@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_the_other_samplers_run(sampler, tmp_path):
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    words = (
        f"hparams_search.sampler={sampler}",
        "hparams_search.n_trials=3",
        "hparams_search.batch=3",
    )
    done = train(*OPTUNA, *words, SIZES, "++tol=tag(log,interval(1e-9,1e-2))", cwd=tmp_path)
    assert done.code == 0, done.err
    assert len(study_of(sweep_of(tmp_path)).trials) == 3


def test_several_metrics_have_a_front(tmp_path):
    metrics = "hparams_search.metric=[train/relative_error,train/kl]"  # one up, one down
    words = (*OPTUNA, metrics, "hparams_search.direction=[minimize,maximize]", "n_restarts=3")
    done = train(*words, "hparams_search.sampler=grid", "model.n_components=2,5,8", cwd=tmp_path)
    assert done.code == 0, done.err
    study = study_of(sweep_of(tmp_path))
    front = {trial.number for trial in study.best_trials}
    assert done.out.count("not beaten in every metric: job") == len(front) >= 2


@pytest.mark.slow
def test_a_run_that_falls_behind_is_pruned(tmp_path):
    """Whatever comes after five good runs, and is worse than their median at iteration 100."""
    prune = (
        "hparams_search.pruner=median",
        "hparams_search.sampler=grid",
        "max_iter=1000",
        "tol=0",
    )
    done = train(*OPTUNA, *prune, "model.n_components=2,3,4,5,6,7,8,9", cwd=tmp_path)
    assert done.code == 0, done.err
    study = study_of(sweep_of(tmp_path))
    rows = rows_of(sweep_of(tmp_path))
    pruned = [i for i, name in enumerate(states(study)) if name == "PRUNED"]
    assert [i for i, row in enumerate(rows) if row["status"] == "pruned"] == pruned
    steps = [trial.intermediate_values for trial in study.trials]
    assert list(steps[0]) == [100, 200, 400, 800]
    for number in pruned:
        last = max(steps[number])
        before = sorted(min(v for s, v in steps[i].items() if s <= last) for i in range(number))
        assert steps[number][last] > before[0]
        assert "worse than earlier trials at iteration" in rows[number]["error"]
    if pruned:
        listed = nmfnet("ls", "runs", cwd=tmp_path)
        assert "pruned" in listed.out


def test_the_pruners_word_ends_a_run(tmp_path):
    import torch

    from nmfnet.run.train import train as train_one
    from nmfnet.settings.words import configuration

    class Trial:
        seen: list[tuple[int, float]] = []  # noqa: RUF012

        def report(self, value: float, step: int) -> None:
            self.seen.append((step, value))

        def should_prune(self) -> bool:
            return self.seen[-1][0] >= 200

    cfg = configuration(
        {"data": "planted", "solver": "mu", "tol": 0, "max_iter": 1000, "figures": False}
    )
    cfg.run_dir = str(tmp_path / "run")
    with pytest.raises(Pruned, match="iteration 200"):
        train_one(cfg, callbacks=[Pruning(Trial())])
    assert [step for step, _ in Trial.seen] == [100, 200]
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert torch.get_num_threads() >= 1


@pytest.mark.slow
def test_a_search_runs_through_joblib(tmp_path):
    launcher = ("launcher=joblib", "launcher.n_jobs=2", "hparams_search.pruner=median")
    words = (*OPTUNA, *launcher, "hparams_search.n_trials=6", "max_iter=300", "tol=0")
    done = train(*words, SIZES, cwd=tmp_path)
    assert done.code == 0, done.err
    study = study_of(sweep_of(tmp_path))
    assert len(study.trials) == 6
    assert set(study.trials[0].intermediate_values) == {100, 200}


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ("seed=1", "nothing to search"),
        ("seed=1,2 hparams_search.n_trial=3", "did you mean 'n_trials'"),
        ("seed=1,2 hparams_search.n_trials=0", ">= 1"),
        ("seed=1,2 hparams_search.sampler=tpee", "did you mean 'tpe'"),
        ("seed=1,2 hparams_search.sampler=cmaes", "seed is a list of choices"),
        ("tol=interval(0.1,1) hparams_search.sampler=grid", "tol is an interval"),
        ("seed=range(5,5)", "seed="),
        ("tol=tag(log,interval(0,1))", "tol="),
        ("seed=1,2 hparams_search.direction=[minimize,maximize]", "1 metrics and 2 directions"),
        ("seed=1,2 hparams_search.direction=maximize hparams_search.pruner=median", "pruner=none"),
        ("model.n_componets=2,3", "did you mean 'n_components'"),
        ("seed=1,2 trainer=ddp", "without -m"),
    ],
)
def test_a_search_that_cannot_be_done_is_refused(words, fragment, tmp_path):
    assert fragment in refusal(*OPTUNA, *words.split(), cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_search_without_m_is_refused(tmp_path):
    assert "add -m" in refusal(*FAST, "hparams_search=rank", cwd=tmp_path)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (
            "test/relative_error",
            ", as nothing was held out: choose a split, such as split=rows (they",
        ),
        ("train/los", "; did you mean 'train/loss'?"),
        ("status", ""),
    ],
)
def test_a_metric_that_runs_do_not_have_ends_the_search(metric, said, tmp_path):
    done = train(*OPTUNA, f"hparams_search.metric={metric}", SIZES, cwd=tmp_path)
    assert done.code == 2
    assert f"={metric}: runs have no such number{said}" in done.err
    assert "train/relative_error" in done.err
    assert len(rows := list(sweep_of(tmp_path).glob("jobs/*.json"))) == 1, rows


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ("model.n_components=range(2,12)", "its space is"),
        ("hparams_search.metric=train/loss", "its metric is train/relative_error"),
        ("hparams_search.direction=maximize", "its direction is minimize"),
    ],
)
def test_the_study_of_another_search_is_refused(change, fragment, tmp_path):
    words = (*OPTUNA, SIZES, "hparams_search.n_trials=1", "hydra.sweep.dir=here")
    assert train(*words, cwd=tmp_path).code == 0
    message = refusal(*words, change, cwd=tmp_path, leaving=("here", ".yaml", ".db"))
    assert "is the study of another search" in message
    assert fragment in message
    assert len(study_of(tmp_path / "here").trials) == 1


def test_a_file_that_is_no_study_is_refused(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "study.db").write_text("something else " * 100)
    words = (*OPTUNA, SIZES, "hydra.sweep.dir=here")
    message = refusal(*words, cwd=tmp_path, leaving=("here",))
    assert "cannot be used as a study" in message
    assert (tmp_path / "here" / "study.db").read_text().startswith("something else")


# ---------------------------------------------------------------------- ready-made searches
def test_a_rank_curve_is_a_sweep_with_defaults(tmp_path):
    fast = ("-m", *FAST[:1], *FAST[2:])
    done = train(
        *fast, "hparams_search=rank", "model.n_components=2,3", "n_restarts=2", cwd=tmp_path
    )
    assert done.code == 0, done.err
    rows = rows_of(sweep_of(tmp_path))
    assert [(row["model.n_components"], row["n_restarts"]) for row in rows] == [
        ("2", "2"),
        ("3", "2"),
    ]


@pytest.mark.slow
def test_a_rank_curve_by_seed_has_forty_five_runs(tmp_path):
    done = train("-m", *FAST[:1], *FAST[2:], "runs=by", "hparams_search=rank_by_seed", cwd=tmp_path)
    assert done.code == 0, done.err
    (sweep,) = tmp_path.glob("by/sweeps/*")
    assert len({(r["model.n_components"], r["seed"]) for r in rows_of(sweep)}) == 45
