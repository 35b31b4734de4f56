"""From a node of the configuration to an object: what its ``_target_`` names, called with its keys."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from nmfnet.errors import UserError

__all__ = ["build", "locate"]

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
