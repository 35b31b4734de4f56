"""What is wrong with the nodes of a configuration that objects are built of."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

from nmfnet.settings.declared import declared
from nmfnet.settings.hints import did_you_mean, expected, fits, shown
from nmfnet.settings.objects import locate
from nmfnet.settings.ranges import Count, Natural, Positive

__all__ = ["bases_of", "declared_problems", "target_problems"]

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


def declared_problems(node: Any, path: str) -> Iterator[str]:
    """The problems of options that the source of nmfnet's classes tells.

    A class that knows none of several keys is not what was meant: :func:`target_problems` says so.
    """
    if isinstance(node, Mapping):
        found = declared(str(node.get("_target_")))
        if found is not None and (len(node) < 3 or set(found.options) & set(node)):
            hints = {name: option.hint for name, option in found.options.items()}
            yield from _option_problems(node, path, found.name, hints, list(hints))
        for key, value in node.items():
            yield from declared_problems(value, f"{path}.{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from declared_problems(value, f"{path}[{i}]")


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


@cache
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


def _signature_problems(
    node: Mapping[str, Any], path: str, target: Any, hints: dict[str, Any]
) -> Iterator[str]:
    known = _options(target)
    if known is None:
        yield f"{path}._target_: {node['_target_']} cannot be called with options"
        return
    yield from _option_problems(node, path, target.__name__, hints, known)


@cache
def _options(target: Any) -> list[str] | None:
    """What can be given to a target by name; None if it cannot be called."""
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return None
    return [
        name
        for name, parameter in parameters.items()
        if parameter.kind == parameter.KEYWORD_ONLY or parameter.default is not parameter.empty
    ]


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
