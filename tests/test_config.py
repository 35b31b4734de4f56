"""The configuration: what every yaml may say, which value wins, how a run is named."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from shell import FAST, train

import nmfnet
from nmfnet.config import (
    NOT_THE_EXPERIMENT,
    Config,
    check_config,
    conf_dir,
    options,
    run_folder,
    run_id,
)
from nmfnet.errors import UserError
from nmfnet.settings.hints import expected, fits
from nmfnet.settings.objects import locate
from nmfnet.settings.ranges import Range
from nmfnet.settings.words import configuration, open_keys

GROUPS = sorted(folder.name for folder in conf_dir().iterdir() if folder.is_dir())
FILES = sorted(
    f"{group}/{choice}" for group in GROUPS for choice in options(group) if group != "experiment"
)


def composed(*words: str) -> dict[str, Any]:
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        plain = OmegaConf.to_container(compose("train", open_keys(words)), resolve=True)
    assert isinstance(plain, dict)
    return plain


def targets(node: Any) -> Iterator[dict[str, Any]]:
    """Every node with a ``_target_``."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)


# ---------------------------------------------------------------------- the yaml files
LONGEST = max(len(options(group)) for group in GROUPS)


@pytest.mark.parametrize("i", range(LONGEST))
def test_every_choice_composes_and_passes_the_check(i):
    """The i-th choice of every group at once (the last ones again where a group has fewer)."""
    words = []
    for group in GROUPS:
        known = options(group)
        if known and group != "experiment":
            choice = known[i % len(known)]
            words.append(f"{group}={f'[{choice}]' if group in ('penalty', 'logger') else choice}")
    cfg = composed(*words)
    for group in ("data", "init"):
        needed = [key for key, value in cfg[group].items() if value == "???"]
        cfg[group] |= dict.fromkeys(needed, "given")
    check_config(cfg)


@pytest.mark.parametrize("name", FILES)
def test_every_target_can_be_checked(name):
    """Types are annotated and can be read, and nothing swallows unknown keys."""
    for node in targets(yaml.safe_load((conf_dir() / f"{name}.yaml").read_text())):
        target = locate(node["_target_"])
        function = target.__init__ if inspect.isclass(target) else target
        if not getattr(function, "__module__", "").startswith("nmfnet."):
            continue
        parameters = inspect.signature(target).parameters.values()
        assert not [p for p in parameters if p.kind == p.VAR_KEYWORD]
        hints = typing.get_type_hints(function)
        for key in node:
            assert key == "_target_" or key in hints, f"{node['_target_']}: {key} has no type"


@pytest.mark.parametrize("name", FILES)
def test_no_key_is_read_as_something_else_by_yaml(name):
    def keys(node: Any) -> Iterator[Any]:
        for key, value in node.items() if isinstance(node, dict) else ():
            yield key
            yield from keys(value)

    content = yaml.safe_load((conf_dir() / f"{name}.yaml").read_text())
    assert all(isinstance(key, str) for key in keys(content))


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "words"),
    [
        (Range(1), [1, 5], [0, -3], ">= 1"),
        (Range(above=0), [1e-9, 5], [0, -3], "> 0"),
        (Range(0, 1), [0, 0.5, 1], [-1e-9, 1.1], ">= 0 and <= 1"),
        (Range(0, below=1), [0, 0.5], [1, -1], ">= 0 and < 1"),
        (Range(below=3), [-1e300], [3], "< 3"),
    ],
)
def test_ranges_are_held_and_told(limits, inside, outside, words):
    hint = Annotated[float, limits]
    assert all(fits(value, hint) for value in inside)
    assert not any(fits(value, hint) for value in [*outside, None, "1", True, float("nan")])
    assert expected(hint, -9) == f"must be a finite number {words}"
    assert str(limits) == words


def test_every_number_of_the_root_has_a_range():
    for key, hint in typing.get_type_hints(Config, include_extras=True).items():
        parts = typing.get_args(hint) if typing.get_origin(hint) is not Annotated else (hint,)
        plain = [part for part in (hint, *parts) if part in (int, float)]
        assert not plain or key == "ranks", key


def test_numbers_of_numpy_are_plain_numbers(tmp_path):
    given = {"n_components": np.int64(3), "n_restarts": np.int8(2), "tol": np.float64(1e-3)}
    given |= {"seed": np.uint32(1), "max_iter": np.int64(5), "figures": np.bool_(False)}
    model = nmfnet.fit(np.ones((6, 4)), model=np.str_("nmf"), run_dir=tmp_path, **given)
    assert model.n_components == 3
    stored = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert {key: stored[key] for key in ("n_restarts", "tol", "seed", "max_iter", "figures")} == {
        **{"n_restarts": 2, "tol": 1e-3, "seed": 1, "max_iter": 5, "figures": False}
    }
    hidden = {"model.hidden": np.array([4, 3]), "solver": "adam", "solver.betas": (0.5, 0.9)}
    model = nmfnet.fit(
        np.ones((6, 4)), "autoencoder", n_components=np.int64(2), max_iter=2, **hidden
    )
    assert model.recipe["config"]["model"]["hidden"] == [4, 3]


def test_the_root_of_the_configuration_is_typed():
    assert set(composed()) == set(typing.get_type_hints(Config))


def test_every_choice_has_its_group_in_the_defaults_list():
    defaults = yaml.safe_load((conf_dir() / "train.yaml").read_text())["defaults"]
    listed = {key for entry in defaults if isinstance(entry, dict) for key in entry}
    assert set(GROUPS) <= listed


# ---------------------------------------------------------------------- which value wins
def test_what_a_debug_or_experiment_file_says_beats_the_defaults():
    """Group default < model < experiment < debug < command line."""
    stored = yaml.safe_load((conf_dir() / "debug" / "fast.yaml").read_text())
    cfg = composed("debug=fast")
    assert {key: cfg[key] for key in stored} == stored
    assert composed("debug=fast", "max_iter=7")["max_iter"] == 7


def test_an_own_experiment_sets_root_keys_groups_and_options(tmp_path):
    folder = tmp_path / "own" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /loss: kl\n"
        "  - override /data: planted\n  - override /solver: mu\n"
        "max_iter: 20\nfigures: false\nseed: 3\nmodel:\n  n_components: 4\n"
    )
    own = ("--config-dir", str(folder.parent))
    for words, seed in ((["experiment=mine"], 3), (["+experiment=mine", "seed=5"], 5)):
        done = train(*own, *words, "run_dir=run", "force=true", cwd=tmp_path)
        assert done.code == 0, done.err
        stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
        assert stored["max_iter"] == 20
        assert stored["seed"] == seed
        assert stored["model"]["n_components"] == 4
        assert stored["loss"]["_target_"] == "nmfnet.core.losses.KL"
        assert stored["choices"] | {"experiment": "mine", "loss": "kl"} == stored["choices"]


def test_an_own_model_needs_no_list_to_be_edited(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from nmfnet.core.model import Factorization\n\n\n"
        "class Mine(Factorization):\n"
        "    def __init__(self, parts, *, n_components: int = 5, power: float = 1.0):\n"
        "        super().__init__(parts, n_components=n_components)\n"
        "        self.H = self.factor('H', n_components, parts.sizes.n_features, degree=2)\n\n"
        "    def encode(self, batch):\n        return batch.x @ self.H().mT\n\n"
        "    def decode(self, W):\n        return W @ self.H()\n"
    )
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text(
        "# @package _global_\nmodel:\n  _target_: mine.Mine\n  n_components: 2\n"
    )
    own = ("--config-dir", "own", "model=mine", "data=planted", "max_iter=20", "figures=false")
    done = train(*own, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "results in runs/mine/" in done.out
    done = train(*own, "model.n_component=3", cwd=tmp_path)
    assert done.code == 2
    assert "did you mean 'n_components'" in done.err


# ---------------------------------------------------------------------- types
@pytest.mark.parametrize(
    ("value", "hint", "yes"),
    [
        (3, int, True),
        (True, int, False),
        (2.0, int, False),
        (3, float, True),
        (2.5, float, True),
        (float("nan"), float, False),
        (float("inf"), float, False),
        (False, float, False),
        ("a", str, True),
        (1, str, False),
        (None, int | None, True),
        (None, int, False),
        ("auto", int | Literal["auto"], True),
        ("two", int | Literal["auto"], False),
        ([1, 2], Sequence[int], True),
        ([1, "a"], Sequence[int], False),
        ("12", Sequence[int], False),
        ([], list[int], True),
        ([0.9, 0.999], tuple[float, float], True),
        ([0.9], tuple[float, float], False),
        ([1, 2, 3], tuple[int, ...], True),
        ({"a": 1}, dict[str, Any], True),
        (3, Any, True),
    ],
)
def test_values_are_held_against_annotations(value, hint, yes):
    assert fits(value, hint) is yes


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "must be a whole number"),
        (float | None, "must be a finite number or null"),
        (int | Literal["auto"], "must be a whole number or auto"),
        (Literal["cpu", "cuda"], "must be one of cpu, cuda; did you mean 'cuda'?"),
        (tuple[float, float], "must be a list: [a finite number, a finite number]"),
        (Sequence[int], "must be a list of whole numbers"),
    ],
)
def test_expectations_are_said_in_words(hint, words):
    assert expected(hint, "cuda12") == words


# ---------------------------------------------------------------------- names of runs
def test_the_name_of_a_run_is_that_of_the_experiment():
    base = configuration({"model": "nmf"}).plain()
    for key in NOT_THE_EXPERIMENT:
        if key != "choices":
            assert run_id(base | {key: "other"}) == run_id(base), key
    assert run_id(json.loads(json.dumps(base))) == run_id(base)
    assert run_id(dict(reversed(base.items()))) == run_id(base)
    others = [{"model": "convex_nmf"}, {"n_components": 6}, {"seed": 1}, {"loss": "kl"}]
    others += [{"tol": 1e-6}, {"solver": "mu"}, {"n_restarts": 2}, {"split": "rows"}]
    others += [{"solver": "mu", "solver.fused": False}]
    names = {run_id(configuration({"model": "nmf", **other}).plain()) for other in others}
    assert len(names | {run_id(base)}) == len(others) + 1


def test_where_a_run_goes():
    cfg = configuration({"model": "nmf"})
    assert run_folder(cfg) == Path("runs") / "nmf" / run_id(cfg.plain())
    assert run_folder(cfg.but(runs="/data/r")) == Path("/data/r/nmf") / run_id(cfg.plain())
    assert run_folder(cfg.but(run_dir="here", runs="there")) == Path("here")


# ---------------------------------------------------------------------- the command line
@pytest.mark.parametrize(
    ("given", "opened"),
    [
        ("model=nmf", "model=nmf"),
        ("+model=nmf", "model=nmf"),
        ("logger=null", "logger=none"),
        ("seed=3", "++seed=3"),
        ("+modle=3", "++modle=3"),
        ("model.n_components=4,8", "++model.n_components=4,8"),
        ("penalty=[l1,l2]", "penalty=[l1,l2]"),
        ("model=glob(*)", "model=glob(*)"),
        ("hydra.sweep.dir=x", "hydra.sweep.dir=x"),
        ("hydra/launcher=basic", "hydra/launcher=basic"),
        ("~model.n_components", "~model.n_components"),
        ("-m", "-m"),
        ("data.path=a=b.csv", "++data.path=a=b.csv"),
    ],
)
def test_arguments_as_hydra_gets_them(given, opened):
    assert open_keys([given]) == [opened]


def test_words_that_belong_to_an_option_are_left_alone():
    words = ["--cfg", "job", "-sc", "install=bash", "--info", "searchpath", "-cn", "train"]
    assert open_keys(words) == words


def test_wrong_choices_are_named_at_once():
    with pytest.raises(UserError) as refused:
        open_keys(["model=nfm", "loss=kll", "penalty=[l1,l3]", "seed"])
    message = str(refused.value)
    for word in ("model=nfm", "'nmf'", "loss=kll", "'kl'", "penalty=l3", "seed: write"):
        assert word in message


def test_python_and_the_command_line_mean_the_same(tmp_path):
    """``nmfnet.fit`` and ``nmfnet-train`` have one set of defaults."""
    done = train(*FAST, "loss=kl", "run_dir=run", cwd=tmp_path)
    assert done.code == 0
    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    settings = {"model": "nmf", "data": "planted", "loss": "kl", "solver": "mu", "n_components": 3}
    cfg = configuration({**settings, "max_iter": 20, "figures": False, "run_dir": "run"})
    assert cfg.plain() == stored
    assert Config.of(stored) == cfg
