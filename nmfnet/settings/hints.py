"""Whether a value from yaml is what an annotation says, and how to say that it is not."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from nmfnet.settings.ranges import Range

__all__ = ["did_you_mean", "expected", "fits", "shown"]

TOO_LARGE = 2**63
"""Whole numbers that no count can be."""


def did_you_mean(word: str, known: list[str]) -> str:
    """``"; did you mean 'x'?"``: dotted keys that end in the word, else the nearest, or nothing."""
    near = [key for key in known if key.endswith(f".{word}")][:3]
    near = near or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


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


def shown(value: Any) -> str:
    """A value as it is written in yaml."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


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
