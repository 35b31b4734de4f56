"""From yaml to objects: the root keys, the checks before any data is read, the run's name."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from nmfnet.errors import UserError

Plain = dict[str, Any]

SET_ELSEWHERE = {
    "accelerator": "device",
    "callbacks": "callbacks",
    "default_root_dir": "run_dir",
    "logger": "logger",
}
"""Options of ``lightning.Trainer`` that nmfnet sets itself, and the root key that does so."""

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

NOT_THE_EXPERIMENT = (
    *("logger", "run_dir", "runs", "force", "resume", "checkpoint_every"),
    *("threads", "progress", "choices"),
)
"""Root keys that do not change what is computed, and so not the run's name either."""


@dataclass
class Root:
    """Keys of the root of a configuration; the groups are checked against their targets."""

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
    model: dict[str, Any]
    n_restarts: int
    seed: int
    max_iter: int
    tol: float
    window: int
    patience: int
    kkt_tol: float | None
    time_limit: float | None
    batch_size: int | None
    normalize: Literal["H", "W"] | None
    dtype: Literal["float32", "float64"]
    device: Literal["auto", "cpu", "cuda"]
    threads: int | Literal["auto"]
    runs: str
    run_dir: str | None
    force: bool
    resume: bool
    checkpoint_every: float | None
    figures: bool
    progress: bool | Literal["auto"]
    choices: dict[str, Any]
    certificate_tol: float | None = 1e-3
    ranks: int | str | list[Any] | None = None
    selection: dict[str, Any] = field(default_factory=dict)


def conf_dir() -> Path:
    """Folder of the yaml files: inside an installed package, beside it in a clone."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def options(group: str) -> list[str]:
    """Choices of a config group, by the yaml files that are there."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


# ---------------------------------------------------------------------- checks
def check_config(cfg: Plain) -> None:
    """Refuse unknown keys and values of the wrong type anywhere, all at once.

    Raises
    ------
    UserError
        One line per problem, with the nearest known key or choice.
    """
    problems = list(_root_problems(cfg))
    problems.extend([*_key_problems(cfg), *_group_problems(cfg)])
    for name in cfg:
        problems.extend(target_problems(_without_shared(cfg, name), name))
    if problems:
        raise UserError(
            "\n  ".join([f"the configuration has {len(problems)} problem(s):", *problems])
        )


def _without_shared(cfg: Plain, name: str) -> Any:
    """A group without the keys that every choice of it has."""
    node = cfg[name]
    if not isinstance(node, Mapping):
        return node
    if name == "constraint" and _has_target(node):
        return constraints_of(node)[0]
    if name == "model":
        return {key: value for key, value in node.items() if key != "frozen"}
    return node


def root_is_sound(cfg: Plain) -> bool:
    """The part of :func:`check_config` that needs no heavy imports: keys of the root."""
    return not any(_root_problems(cfg)) and not any(_key_problems(cfg))


def _root_problems(cfg: Plain) -> Iterator[str]:
    hints = typing.get_type_hints(Root)
    for key, value in cfg.items():
        if key not in hints:
            yield f"{key}: no such option{did_you_mean(key, [*hints, *_nested_keys(cfg)])}"
        elif hints[key] != dict[str, Any] and not fits(value, hints[key]):
            yield f"{key}={shown(value)}: {expected(hints[key], value)}"
    for field_ in fields(Root):
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


def target_problems(node: Any, path: str) -> Iterator[str]:
    """Problems of every node with a ``_target_`` below (and at) this one."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield from _signature_problems(node, path)
        for key, value in node.items():
            yield from target_problems(value, f"{path}.{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from target_problems(value, f"{path}[{i}]")


def _signature_problems(node: Mapping[str, Any], path: str) -> Iterator[str]:
    target = locate(node["_target_"])
    constructor = target.__init__ if inspect.isclass(target) else target
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        yield f"{path}._target_: {node['_target_']} cannot be called with options"
        return
    known = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind == parameter.KEYWORD_ONLY or parameter.default is not parameter.empty
    }
    try:
        hints = typing.get_type_hints(constructor)
    except (NameError, TypeError):
        hints = {}
    for key, value in node.items():
        where = f"{path}.{key}"
        if key == "_target_" or not isinstance(key, str):
            continue
        if key not in known:
            hint = did_you_mean(key, list(known))
            allowed = f" (it has: {', '.join(known)})" if known and not hint else ""
            yield f"{where}: {target.__name__} has no such option{hint}{allowed}"
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
    if origin is Literal:
        return value in arguments
    if hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
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
    return f"must be {_in_words(hint)}{did_you_mean(str(value), words)}"


def _literals(hint: Any) -> list[Any]:
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return list(parts)
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return [word for part in parts for word in _literals(part)] if union else []


def _in_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        words = ", ".join(str(a) for a in arguments)
        return f"one of {words}" if len(arguments) > 1 else words
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_in_words, arguments))
    if origin is tuple and Ellipsis not in arguments:
        return f"a list: [{', '.join(map(_in_words, arguments))}]"
    if origin in (list, tuple, Sequence, typing.get_origin(Sequence[int])):
        return f"a list of {_in_words(arguments[0]).removeprefix('a ')}s"
    names = {
        int: "a whole number",
        float: "a finite number",
        str: "text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(hint, str(hint))


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
def locate(path: str) -> Any:
    """The object that a dotted path names.

    Raises
    ------
    UserError
        If there is none.
    """
    module_name, _, name = path.rpartition(".")
    for old, new in MOVED.items():
        if module_name == old or module_name.startswith(f"{old}."):
            module_name = new + module_name.removeprefix(old)
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"_target_: {path} cannot be found: {error}") from error


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


def run_folder(cfg: Plain) -> Path:
    """``run_dir`` if it is given, else ``runs/MODEL/RUN_ID``."""
    if cfg["run_dir"]:
        return Path(cfg["run_dir"])
    return Path(cfg["runs"]) / cfg["choices"].get("model", "model") / run_id(cfg)
