"""From yaml to objects: the root keys, the checks before any data is read, the run's name."""

from __future__ import annotations

import hashlib
import json
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from nmfnet.errors import UserError
from nmfnet.settings.hints import did_you_mean, expected, fits, shown
from nmfnet.settings.objects import build
from nmfnet.settings.ranges import Count, Natural, NotNegative, Positive, Range
from nmfnet.settings.targets import bases_of, declared_problems, target_problems

Plain = dict[str, Any]

SET_ELSEWHERE = {
    "accelerator": "device",
    "callbacks": "callbacks",
    "default_root_dir": "run_dir",
    "fast_dev_run": "max_iter",
    "logger": "logger",
    "max_time": "time_limit",
    "precision": "dtype",
}
"""Options of ``lightning.Trainer`` that nmfnet sets itself, and the root key that does so."""

OF_OTHERS = re.compile(r"'_target_': '(?!nmfnet\.|lightning\.)")
"""Classes that may be others a moment later, in a notebook: what names one is checked every time."""

NOT_THE_EXPERIMENT = (
    *("logger", "run_dir", "runs", "force", "resume", "checkpoint_every"),
    *("threads", "progress", "choices"),
)
"""Root keys that do not change what is computed, and so not the run's name either."""


@dataclass(kw_only=True)
class Config:
    """A configuration: the root keys, and of every group the plain values of what was chosen.

    The options of the groups are checked against the classes that they are built of.
    """

    n_restarts: Annotated[int, Range(1, 1_000_000)]
    seed: Natural
    max_iter: Count
    tol: NotNegative
    window: Count
    patience: Count
    certificate_tol: NotNegative | None = 1e-3
    kkt_tol: Positive | None
    time_limit: Positive | None
    batch_size: Count | None
    normalize: Literal["H", "W"] | None
    dtype: Literal["float32", "float64"]
    device: Literal["auto", "cpu", "cuda"]
    threads: Annotated[int, Range(1, 1024)] | Literal["auto"]
    ranks: int | str | list[Any] | None = None
    runs: str
    run_dir: str | None
    force: bool
    resume: bool
    checkpoint_every: NotNegative | None
    figures: bool | Literal["png", "pdf", "svg"]
    progress: bool | Literal["auto"]
    choices: dict[str, Any]
    data: dict[str, Any]
    split: dict[str, Any]
    loss: dict[str, Any]
    penalty: dict[str, Any]
    constraint: dict[str, Any]
    init: dict[str, Any]
    solver: dict[str, Any]
    trainer: dict[str, Any]
    logger: dict[str, Any]
    callbacks: dict[str, Any]
    selection: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Config:
        """What a file says, as far as it goes: None for keys that an older nmfnet did not have."""
        known: Plain = {key.name: stored.get(key.name) for key in fields(cls)}
        return cls(**known)

    def plain(self) -> Plain:
        """The values by key, as files hold them."""
        return {key.name: getattr(self, key.name) for key in fields(self)}

    def but(self, **changes: Any) -> Config:
        """The same with some keys changed."""
        return replace(self, **changes)

    @property
    def model_name(self) -> str:
        """The choice of the group ``model``."""
        return str(self.choices.get("model", "model"))


@cache
def conf_dir() -> Path:
    """Folder of the yaml files: inside an installed package, beside it in a clone."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def options(group: str) -> list[str]:
    """Choices of a config group, by the yaml files that are there."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def read_choice(group: str, name: str) -> Plain:
    """The values of a choice of a group, as its yaml file has them."""
    return dict(_read_choice(group, name))


@cache
def _read_choice(group: str, name: str) -> Plain:
    import yaml

    content: Plain = yaml.safe_load((conf_dir() / group / f"{name}.yaml").read_text())
    return content


# ---------------------------------------------------------------------- checks
def check_config(cfg: Plain) -> Config:
    """The configuration; refuses unknown keys and values of the wrong type anywhere, all at once.

    Raises
    ------
    UserError
        One line per problem, with the nearest known key or choice.
    """
    groups = {k: v if isinstance(v, dict | list) else v is None for k, v in cfg.items()}
    written = _Groups(repr(groups), cfg)
    known = OF_OTHERS.search(written.text) is None and not any(_root_problems(cfg))
    (_check if known else _check.__wrapped__)(written)
    return Config(**cfg)


@dataclass(frozen=True)
class _Groups:
    """The groups of a configuration; the same as others that read alike, whatever the root says."""

    text: str
    cfg: Plain = field(compare=False)


@lru_cache(maxsize=256)
def _check(written: _Groups) -> None:
    cfg = written.cfg
    check_declared(cfg)
    _refuse(
        problem
        for name in cfg
        for path, node in _nodes(cfg, name)
        for problem in target_problems(node, path, bases_of(name))
    )


def check_declared(cfg: Plain) -> None:
    """The part of :func:`check_config` that imports no torch: the root, and what sources declare.

    Raises
    ------
    UserError
        As there.
    """
    problems = [*_root_problems(cfg), *_key_problems(cfg), *_group_problems(cfg)]
    for name in cfg:
        for path, node in _nodes(cfg, name):
            problems.extend(declared_problems(node, path))
    _refuse(problems)


def check_files(cfg: Plain) -> None:
    """Refuse data of which a file is not there, before anything is imported that takes long.

    Raises
    ------
    UserError
        As for reading them.
    """
    _refuse(target_problems(cfg["data"], "data", bases_of("data")))
    build(cfg["data"]).check()


def _refuse(problems: Iterable[str]) -> None:
    if found := list(problems):
        raise UserError("\n  ".join([f"the configuration has {len(found)} problem(s):", *found]))


def _nodes(cfg: Plain, name: str) -> Iterator[tuple[str, Any]]:
    """What is built of a group, by path, without the keys that every choice of it has."""
    node = cfg[name]
    if name == "constraint" and _has_target(node):
        general, single = constraints_of(node)
        yield name, general
        yield from ((f"{name}.{factor}", one) for factor, one in single.items())
    elif name == "model" and isinstance(node, Mapping):
        yield name, {key: value for key, value in node.items() if key != "frozen"}
    else:
        yield name, node


def check_stored(cfg: Plain, groups: Sequence[str], where: Path, *, trust: bool) -> None:
    """Refuse a configuration out of a file if building these groups would run what it names.

    Parameters
    ----------
    cfg : dict
        As it was read.
    groups : sequence of str
        What will be built of it.
    where : Path
        The file.
    trust : bool
        True = the modules that it names may be imported; the classes must be right all the same.

    Raises
    ------
    UserError
        For a class that is not of the group's kind, and, unless trusted, for one that is neither
        part of nmfnet nor imported already. Nothing has been imported then.
    """
    try:
        problems = [
            problem
            for name in groups
            for path, node in _nodes(cfg, name)
            for problem in target_problems(node, path, bases_of(name), trust=trust)
        ]
    except UserError as error:
        problems = [str(error)]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} holds no whole configuration: repeat the run") from error
    if problems:
        raise UserError("\n  ".join([f"{where} cannot be used:", *problems]))


def root_is_sound(cfg: Plain) -> bool:
    """The part of :func:`check_config` that needs no heavy imports: keys of the root."""
    return not any(_root_problems(cfg)) and not any(_key_problems(cfg))


@cache
def _root_hints() -> dict[str, Any]:
    return typing.get_type_hints(Config, include_extras=True)


def _root_problems(cfg: Plain) -> Iterator[str]:
    hints = _root_hints()
    for key, value in cfg.items():
        if key not in hints:
            yield f"{key}: no such option{did_you_mean(key, [*hints, *_nested_keys(cfg)])}"
        elif hints[key] != dict[str, Any] and not fits(value, hints[key]):
            yield f"{key}={shown(value)}: {expected(hints[key], value)}"
    for field_ in fields(Config):
        if field_.name not in cfg and field_.default is field_.default_factory is MISSING:
            yield f"{field_.name}: missing"


def _key_problems(node: Any, path: str = "") -> Iterator[str]:
    """Keys that yaml reads as something else than text: ``on: H`` is ``true: H``."""
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        where = f"{path}{shown(key)}"
        if isinstance(node, Mapping) and not isinstance(key, str):
            word = "'on' or 'yes'" if key is True else "'off' or 'no'" if key is False else "it"
            yield f"{where}: yaml reads this key as {shown(key)}: put {word} in quotes"
        elif isinstance(value, Mapping | list):
            yield from _key_problems(value, f"{where}.")


def _group_problems(cfg: Plain) -> Iterator[str]:
    """Groups that are not what they should be, and what nmfnet decides in Lightning's stead."""
    for group in (
        *("data", "split", "loss", "constraint", "init", "solver", "trainer", "model"),
        *(["selection"] if cfg.get("ranks") is not None else []),
    ):
        if group in cfg and not _has_target(cfg[group]):
            yield f"{group}: needs a _target_; choose one of {', '.join(options(group))}"
    for group in ("penalty", "logger", "callbacks"):
        nodes = cfg.get(group, {})
        for name, node in nodes.items() if isinstance(nodes, Mapping) else [("", nodes)]:
            if not _has_target(node):
                yield f"{group}.{name}={shown(node)}: must be a group of keys with a _target_"
    trainer = cfg.get("trainer", {})
    for key in trainer if isinstance(trainer, Mapping) else ():
        if key in SET_ELSEWHERE:
            yield f"trainer.{key}: use the key {SET_ELSEWHERE[key]}, which sets it"
        elif key == "devices" and trainer[key] != 1 and not _has_target(trainer.get("strategy")):
            yield f"trainer.devices={shown(trainer[key])}: several devices need trainer=ddp"


def _has_target(node: Any) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get("_target_"), str)


def _nested_keys(cfg: Plain) -> list[str]:
    return [
        f"{group}.{key}"
        for group, node in cfg.items()
        if isinstance(node, Mapping)
        for key in node
        if key != "_target_"
    ]


def plain(value: Any) -> Any:
    """A setting from Python as yaml has it: numbers of numpy, tuples and paths included."""
    if isinstance(value, Mapping):
        return {plain(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if hasattr(value, "tolist") else value


def constraints_of(node: Mapping[str, Any]) -> tuple[Plain, dict[str, Plain]]:
    """The constraint of all factors, and those of single ones: ``constraint.W=simplex``.

    Raises
    ------
    UserError
        For the name of a constraint that there is none of.
    """
    single: dict[str, Plain] = {}
    for key, value in node.items():
        if isinstance(value, str) and key != "_target_":
            if value not in (known := options("constraint")):
                hint = did_you_mean(value, known)
                raise UserError(
                    f"constraint.{key}={value}: no such constraint{hint} ({', '.join(known)})"
                )
            single[key] = read_choice("constraint", value)
        elif _has_target(value):
            single[key] = dict(value)
    return {key: value for key, value in node.items() if key not in single}, single


# ---------------------------------------------------------------------- the name of a run
def run_id(cfg: Plain) -> str:
    """Ten hex digits that name what is computed: same experiment, same name."""
    asked = {key: value for key, value in cfg.items() if key not in NOT_THE_EXPERIMENT}
    if cfg.get("ranks") is None:
        asked = {k: v for k, v in asked.items() if k not in ("ranks", "selection")}
    else:  # of every rank
        asked["model"] = {k: v for k, v in cfg["model"].items() if k != "n_components"}
        asked["selection"] = {k: v for k, v in cfg["selection"].items() if k != "n_jobs"}
    text = json.dumps(asked, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def run_folder(cfg: Config) -> Path:
    """``run_dir`` if it is given, else ``runs/MODEL/RUN_ID``."""
    if cfg.run_dir:
        return Path(cfg.run_dir).expanduser()
    return Path(cfg.runs).expanduser() / cfg.model_name / run_id(cfg.plain())
