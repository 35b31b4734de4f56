"""Words of the command line as Hydra reads them: values may hold any character, as typed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from os.path import expanduser
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException

from nmfnet.errors import UserError

PATHS = ("path", "run_dir", "runs", "dir")
"""Last parts of keys whose value is a file or folder, and taken as it is."""

OF_SWEEPS = {
    **{name: name for name in ("launcher", "hparams_search")},
    **{"++hydra.launcher": "launcher", "++hydra.sweeper": "hparams_search"},
}
"""Keys, as Hydra gets them and as they are typed, that mean nothing without ``-m``."""


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of Hydra and settings, in any order.

    Parameters
    ----------
    arguments : sequence of str
        Options (``-m``, ``--cfg job``), and settings with the keys that Hydra knows.

    Raises
    ------
    UserError
        For options that are not there or do not go together, and settings that cannot be used.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    given, words = parser.parse_known_intermixed_args(list(arguments))
    if words:
        _refuse(f"{words[0]}: there is no such option")
    if given.experimental_rerun is not None:
        _refuse("--experimental-rerun: a pickle can run any code")
    if given.resolve and given.cfg is None:
        _refuse("--resolve goes with --cfg job")
    modes = {
        "--run": given.run,
        "--multirun (-m)": given.multirun,
        "--cfg": given.cfg,
        "--info": given.info,
        "--shell-completion": given.shell_completion,
    }
    asked = [name for name, value in modes.items() if value]
    if len(asked) > 1:
        _refuse(f"{asked[0]} and {asked[1]} do not go together")
    sweep = bool(given.multirun)
    given.overrides = [as_hydra_reads(word, sweep=sweep) for word in given.overrides]
    for word in given.overrides:
        _check_word(word, single=not asked or given.run)
    return given


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message} (nmfnet-train --help)")


def as_hydra_reads(word: str, *, sweep: bool) -> str:
    """``key=value`` with the value in quotes where Hydra would read something else than was typed.

    That is where it cannot read it, where it is the path of a file or folder, and where a sweep's
    words are a file that is there.

    Raises
    ------
    UserError
        For several values without ``-m``, and for sweeps over nothing.
    """
    key, equals, value = word.partition("=")
    if "${" in value:
        return word
    if _is_path(key) and value.startswith("~"):
        return f"{key}={quoted(expanduser(value))}"  # noqa: PTH111  (leaves ~nobody as it is)
    override = _read(word)
    if override is None and not equals:
        raise UserError(f"{word}: write settings as key=value, and ~key to leave one out")
    if override is None and not key.startswith(("+", "hydra.")):
        raise UserError(f"{word}: write a choice as {key}=NAME, several as {key}=[NAME,NAME]")
    if override is None:
        parts = value.split(",") if sweep and _is_path(key) and not _there(value) else [value]
        return f"{key}={','.join(map(quoted, parts))}"
    if override.value_type is None or _in_quotes(value):
        return word
    found = override.value()
    if isinstance(found, str) and found == value:
        return word
    if _is_path(key) and found is not None and not (sweep and override.is_sweep_override()):
        return f"{key}={quoted(value)}"
    if override.is_sweep_override():
        if _there(value):
            return f"{key}={quoted(value)}"
        _check_sweep(word.lstrip("+"), found, sweep)
    return word


def setting(word: str) -> tuple[str, Any]:
    """Key and value of ``key=value``, the value as Hydra reads it.

    Raises
    ------
    UserError
        For anything else.
    """
    override = _read(as_hydra_reads(word, sweep=False))
    if override is None or "=" not in word:
        raise UserError(f"{word}: write settings as key=value")
    return override.key_or_group, override.value()


def quoted(value: str) -> str:
    """A value in quotes, so that Hydra reads it as this very text."""
    return QuotedString(value, Quote.single).with_quotes()


def _read(word: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _is_path(key: str) -> bool:
    return key.lstrip("+").rpartition(".")[2] in PATHS


def _in_quotes(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _there(value: str) -> bool:
    try:
        return Path(value).expanduser().exists()
    except (OSError, RuntimeError):  # too long; ~nobody
        return False


def _check_sweep(word: str, found: Any, sweep: bool) -> None:
    if not sweep:
        listed = f"{word.replace('=', '=[', 1)}]"
        example = f"; a list is {listed}" if isinstance(found, ChoiceSweep) else ""
        raise UserError(f"{word}: several values need -m (--multirun), a run of each{example}")
    if isinstance(found, RangeSweep):
        start, stop, step = found.start or 0, found.stop or 0, found.step
        if (stop - start) * step <= 0:
            raise UserError(f"{word}: there is no value in this range: range(start,stop,step)")


def _check_word(word: str, *, single: bool) -> None:
    """Refuse what only a sweep can use, and what is filled in."""
    key, _, value = word.partition("=")
    if re.fullmatch(r"\+*choices(\..*)?", key):
        raise UserError(f"{word.lstrip('+')}: choices are filled in: write them as group=NAME")
    for name, ours in OF_SWEEPS.items() if single else ():
        chosen = key == name and value not in ("local", "none")
        if chosen or key.startswith(f"{name}."):
            raise UserError(f"{word.replace(name, ours, 1)} is for sweeps: add -m")


def in_a_sentence(error: Exception) -> str:
    """What Hydra or OmegaConf has to say, without what it says to those who write applications."""
    lines: list[str] = []
    for line in str(error).replace("++", "").splitlines():
        if line.startswith(("Config search path", "See https://")):
            break
        if line.strip() and not line.strip().startswith("object_type="):
            lines.append(line.strip())
    text = "; ".join(lines).replace(".; ", ". ")
    return re.sub(r":; (.*)", lambda match: f": {match[1].replace('; ', ', ')}", text)
