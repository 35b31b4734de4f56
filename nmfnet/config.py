"""From yaml to objects: the root keys, the checks before any data is read, the run's name."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import math
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from nmfnet.errors import UserError
from nmfnet.settings.declared import declared
from nmfnet.settings.ranges import Count, Natural, NotNegative, Positive, Range

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

RANGES = {
    "trainer": {
        **dict.fromkeys(("max_steps", "max_epochs"), Literal[-1] | Count),
        **dict.fromkeys(("min_steps", "min_epochs"), Natural | None),
        "limit_train_batches": Count | Positive | None,
        "accumulate_grad_batches": Literal[1],
        "barebones": Literal[False],
    }
}
"""Values of options whose classes are not nmfnet's: others would end a run before it has begun."""

MOVED = {
    f"nmfnet.{room}": f"nmfnet.{new}"
    for room, new in {
        **{name: f"core.{name}" for name in ("constraints", "inits", "losses", "penalties")},
        "callbacks": "run.callbacks",
        "launchers": "sweep.launchers",
        "search": "sweep.search",
    }.items()
}
"""Modules that run folders of earlier versions name, and where they are now."""

BASES = {
    "data": "nmfnet.data.sources.source.Source",
    "split": "nmfnet.data.splits.Split",
    "loss": "nmfnet.core.losses.Loss",
    "penalty": "nmfnet.core.penalties.Penalty",
    "constraint": "nmfnet.core.constraints.Constraint",
    "init": "nmfnet.core.inits.Init",
    "solver": "nmfnet.solvers.base.Solver",
    "trainer": "lightning.Trainer",
    "logger": "lightning.pytorch.loggers.Logger",
    "callbacks": "lightning.Callback",
    "model": "nmfnet.core.model.Factorization",
    "selection": "nmfnet.selection.options.Selection",
}
"""What the objects of a group must be."""

TOO_LARGE = 2**63
"""Whole numbers that no count can be."""

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


def conf_dir() -> Path:
    """Folder of the yaml files: inside an installed package, beside it in a clone."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def options(group: str) -> list[str]:
    """Choices of a config group, by the yaml files that are there."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


# ---------------------------------------------------------------------- checks
def check_config(cfg: Plain) -> Config:
    """The configuration; refuses unknown keys and values of the wrong type anywhere, all at once.

    Raises
    ------
    UserError
        One line per problem, with the nearest known key or choice.
    """
    check_declared(cfg)
    _refuse(
        problem
        for name in cfg
        for path, node in _nodes(cfg, name)
        for problem in target_problems(node, path, bases_of(name))
    )
    return Config(**cfg)


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
            problems.extend(_declared_problems(node, path))
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


def _root_problems(cfg: Plain) -> Iterator[str]:
    hints = typing.get_type_hints(Config, include_extras=True)
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


def bases_of(group: str) -> tuple[type, ...]:
    """What the objects of a group must be; empty where anything may be."""
    return (locate(BASES[group]),) if group in BASES else ()


def target_problems(
    node: Any, path: str, bases: tuple[type, ...] = (), *, trust: bool = True
) -> Iterator[str]:
    """Problems of every node with a ``_target_`` below (and at) this one.

    Parameters
    ----------
    bases : tuple of type
        What objects here must be; empty = anything, if trusted. An object inside another must be
        what the annotation of its option says.
    trust : bool
        False = the configuration was read from a file: see :func:`check_stored`.

    Raises
    ------
    UserError
        For a target that is not there, or may not be imported.
    """
    inner: dict[Any, tuple[type, ...]] = {}
    if isinstance(node, Mapping):
        if "_target_" in node:
            target = locate(node["_target_"], trust=trust)
            if wrong := _kind_problem(target, bases, trust):
                yield f"{path}._target_: {node['_target_']} {wrong}"
                return
            hints = _hints(target) | RANGES.get(path, {})
            yield from _signature_problems(node, path, target, hints)
            inner = {key: tuple(_classes(hints.get(key))) for key in node}
        for key, value in node.items():
            yield from target_problems(value, f"{path}.{key}", inner.get(key, bases), trust=trust)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from target_problems(value, f"{path}[{i}]", bases, trust=trust)


def _kind_problem(target: Any, bases: tuple[type, ...], trust: bool) -> str:
    """Why a target cannot be used here, or nothing.

    It is a class of the right kind, or, if it is trusted, a function that says it returns one.
    """
    made = target
    if trust and not bases:
        return ""
    if trust and inspect.isroutine(target):
        made = _hints(target).get("return")
    if inspect.isclass(made) and issubclass(made, bases):
        return ""
    wanted = " or ".join(base.__name__ for base in bases)
    return f"is no {wanted}" if bases else "is not expected here: this is no option with an object"


def _hints(target: Any) -> dict[str, Any]:
    """Annotations of the options of a target, as far as they can be read."""
    try:
        return typing.get_type_hints(
            target.__init__ if inspect.isclass(target) else target, include_extras=True
        )
    except (NameError, TypeError, AttributeError):
        return {}


def _classes(hint: Any) -> Iterator[type]:
    """Classes in an annotation that are not plain values."""
    plain = ("builtins", "collections.abc", "pathlib", "types", "typing")
    if inspect.isclass(hint) and not typing.get_args(hint) and hint.__module__ not in plain:
        yield hint
    for part in typing.get_args(hint):
        yield from _classes(part)


def _declared_problems(node: Any, path: str) -> Iterator[str]:
    """The problems of options that the source of nmfnet's classes tells.

    A class that knows none of several keys is not what was meant: :func:`target_problems` says so.
    """
    if isinstance(node, Mapping):
        found = declared(str(node.get("_target_")))
        if found is not None and (len(node) < 3 or set(found.options) & set(node)):
            hints = {name: option.hint for name, option in found.options.items()}
            yield from _option_problems(node, path, found.name, hints, list(hints))
        for key, value in node.items():
            yield from _declared_problems(value, f"{path}.{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _declared_problems(value, f"{path}[{i}]")


def _signature_problems(
    node: Mapping[str, Any], path: str, target: Any, hints: dict[str, Any]
) -> Iterator[str]:
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        yield f"{path}._target_: {node['_target_']} cannot be called with options"
        return
    known = [
        name
        for name, parameter in parameters.items()
        if parameter.kind == parameter.KEYWORD_ONLY or parameter.default is not parameter.empty
    ]
    yield from _option_problems(node, path, target.__name__, hints, known)


def _option_problems(
    node: Mapping[str, Any], path: str, name: str, hints: dict[str, Any], known: list[str]
) -> Iterator[str]:
    """Keys that a class or function has no option for, and values that are none for it."""
    for key, value in node.items():
        where = f"{path}.{key}"
        if key == "_target_" or not isinstance(key, str):
            continue
        if key not in known:
            hint = did_you_mean(key, known)
            allowed = f" (it has: {', '.join(known)})" if known and not hint else ""
            yield f"{where}: {name} has no such option{hint}{allowed}"
        elif value == "???":
            yield f"{where}: needs a value, e.g. {where}=..."
        elif key in hints and not fits(value, hints[key]):
            yield f"{where}={shown(value)}: {expected(hints[key], value)}"


def did_you_mean(word: str, known: list[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from yaml can be what the annotation says; True for unknown annotations."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in arguments)
    if origin is Annotated:
        limits = [limit for limit in arguments[1:] if isinstance(limit, Range)]
        return fits(value, arguments[0]) and all(limit.holds(value) for limit in limits)
    if origin is Literal:
        return any(value == word and type(value) is type(word) for word in arguments)
    if hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < TOO_LARGE
    if hint is float:
        number = isinstance(value, float) or fits(value, int)
        return number and math.isfinite(value)
    if hint is str:
        return isinstance(value, str)
    if origin in (list, tuple, Sequence, typing.get_origin(Sequence[int])):
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and Ellipsis not in arguments:
            return len(value) == len(arguments) and all(map(fits, value, arguments))
        inner = [a for a in arguments if a is not Ellipsis]
        return all(any(fits(item, part) for part in inner) for item in value)
    return True


def expected(hint: Any, value: Any) -> str:
    """What a value should have been, in words."""
    words = [str(word) for word in _literals(hint)]
    advice = did_you_mean(str(value), words)
    if isinstance(value, int) and abs(value) >= TOO_LARGE:
        advice += ", and this one is too large"
    elif not isinstance(value, str | list | dict | None) and _takes_text(hint):
        advice += f"; as text it is {chr(34)}'{shown(value)}'{chr(34)}"
    return f"must be {_in_words(hint)}{advice}"


def _takes_text(hint: Any) -> bool:
    return fits("text", hint) and hint is not Any


def _literals(hint: Any) -> list[Any]:
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return list(parts)
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return [word for part in parts for word in _literals(part)] if union else []


def _in_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return f"{_in_words(arguments[0])} {arguments[1]}"
    if origin is Literal:
        words = ", ".join(shown(a) for a in arguments)
        return f"one of {words}" if len(arguments) > 1 else words
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_in_words, arguments))
    if origin is tuple and Ellipsis not in arguments:
        return f"a list: [{', '.join(map(_in_words, arguments))}]"
    if origin in (list, tuple, Sequence, typing.get_origin(Sequence[int])):
        inner = _in_words(arguments[0])
        return (
            f"a list of {inner.removeprefix('a ')}s"
            if " " not in inner[2:]
            or inner
            in (
                "a whole number",
                "a finite number",
            )
            else f"a list, each {inner}"
        )
    names = {
        int: "a whole number",
        float: "a finite number",
        str: "text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(hint, str(hint))


def plain(value: Any) -> Any:
    """A setting from Python as yaml has it: numbers of numpy, tuples and paths included."""
    if isinstance(value, Mapping):
        return {plain(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if hasattr(value, "tolist") else value


def shown(value: Any) -> str:
    """A value as it is written in yaml."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def constraints_of(node: Mapping[str, Any]) -> tuple[Plain, dict[str, Plain]]:
    """The constraint of all factors, and those of single ones: ``constraint.W=simplex``.

    Raises
    ------
    UserError
        For the name of a constraint that there is none of.
    """
    import yaml

    single: dict[str, Plain] = {}
    known = options("constraint")
    for key, value in node.items():
        if isinstance(value, str) and key != "_target_":
            if value not in known:
                hint = did_you_mean(value, known)
                raise UserError(
                    f"constraint.{key}={value}: no such constraint{hint} ({', '.join(known)})"
                )
            text = (conf_dir() / "constraint" / f"{value}.yaml").read_text()
            single[key] = yaml.safe_load(text)
        elif _has_target(value):
            single[key] = dict(value)
    return {key: value for key, value in node.items() if key not in single}, single


# ---------------------------------------------------------------------- objects
def locate(path: str, *, trust: bool = True) -> Any:
    """The object that a dotted path names.

    Parameters
    ----------
    path : str
        ``package.module.Name``.
    trust : bool
        False = import nothing that is not below ``nmfnet``: importing is running already.

    Raises
    ------
    UserError
        If there is none, or its module may not be imported.
    """
    module_name, _, name = str(path).rpartition(".")
    for old, new in MOVED.items():
        if module_name == old or module_name.startswith(f"{old}."):
            module_name = new + module_name.removeprefix(old)
    if not (trust or module_name.partition(".")[0] == "nmfnet" or module_name in sys.modules):
        raise UserError(
            f"_target_: {path} is neither part of nmfnet nor imported by this program: import it "
            "first, or say that the file can be trusted: trust=True, --trust on the command line"
        )
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"_target_: {path} cannot be found: {error}") from error
    except Exception as error:  # whatever a module of the user raises
        words = f"{type(error).__name__}: {error}"
        raise UserError(f"_target_: {path} cannot be imported: {words}") from error


def build(node: Mapping[str, Any], *args: Any) -> Any:
    """Call the ``_target_`` of a node with its keys as options, inner targets first."""
    options = {key: _built(value) for key, value in node.items() if key != "_target_"}
    return locate(node["_target_"])(*args, **options)


def _built(value: Any) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return build(value)
        return {key: _built(inner) for key, inner in value.items()}
    return [_built(item) for item in value] if isinstance(value, list) else value


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
