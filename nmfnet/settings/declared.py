"""What the classes of nmfnet declare, read out of their source: torch takes seconds to import.

What cannot be read here is left to the check of the objects (:func:`nmfnet.config.check_config`).
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import functools
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nmfnet.settings import ranges

PACKAGE = Path(__file__).parent.parent

KNOWN: dict[str, Any] = {
    **vars(builtins),
    **{name: getattr(typing, name) for name in ("Annotated", "Any", "Literal", "Optional")},
    **{name: getattr(collections.abc, name) for name in ("Mapping", "Sequence")},
    **{name: kind for name, kind in vars(ranges).items() if not name.startswith("_")},
}
"""Names that annotations of options are read with."""

WITHOUT = ("ABC", "nn.Module", "Module", "torch.nn.Module")
"""Bases without options."""


class Option(NamedTuple):
    """An option of a class or function.

    Attributes
    ----------
    hint : Any
        Its annotation; ``Any`` where that has names that are not known here.
    default : str or None
        As it is written; None = there is none.
    """

    hint: Any
    default: str | None


class Declared(NamedTuple):
    """A class or function: its name, its options by name, and its docstring."""

    name: str
    options: dict[str, Option]
    words: str

    def line(self, option: str) -> str:
        """What the docstring says of an option, up to its first full stop; else of its type."""
        entry = rf"^(?:\w+, )*{option}(?:, \w+)* : (.*)\n?((?: {{4}}.*\n?)*)"
        found = re.search(entry, self.words, re.MULTILINE)
        if found is None:
            return ""
        text = " ".join(found[2].split()) or found[1]
        return re.split(r"(?<=[\w)\]])\. ", text, maxsplit=1)[0].rstrip(".")


@functools.cache
def declared(path: str) -> Declared | None:
    """What stands in the source of ``nmfnet.module.Name``; None where that does not say it all."""
    module, _, name = path.rpartition(".")
    file = file_of(module)
    return None if file is None else _find(file, name)


def file_of(module: str) -> Path | None:
    """The source of a module of nmfnet."""
    first, *parts = module.split(".")
    if first != PACKAGE.name:
        return None
    place = PACKAGE.joinpath(*parts)
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


@functools.cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _find(file: Path, name: str) -> Declared | None:
    for node in _tree(file).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            options = _options_of(file, node)
        elif isinstance(node, ast.FunctionDef) and node.name == name:
            options = None if node.decorator_list else _options(node)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            taken = [alias.name for alias in node.names if (alias.asname or alias.name) == name]
            if taken and (source := file_of(node.module)) is not None:
                return _find(source, taken[0])
            continue
        else:
            continue
        words = ast.get_docstring(node) or ""
        return None if options is None else Declared(name, options, words)
    return None


def _options_of(file: Path, node: ast.ClassDef) -> dict[str, Option] | None:
    """Options of a class: of its ``__init__``, its fields, or the class above it."""
    made = {ast.unparse(one) for one in node.decorator_list} - {"final"}
    own = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
    if "__new__" in own or node.keywords:
        return None
    if "__init__" in own:
        plain = not own["__init__"].decorator_list and not made
        return _options(own["__init__"], method=True) if plain else None
    above = [base for base in map(ast.unparse, node.bases) if base not in WITHOUT]
    if made:
        frozen = {"dataclass", "dataclass(frozen=True)"}
        kw_only = {"dataclass(frozen=True, kw_only=True)", "dataclass(kw_only=True)"}
        if len(made) > 1 or not made <= frozen | kw_only or len(above) > 1:
            return None
        parent = _find(file, above[0]) if above else Declared("", {}, "")
        own_fields = dict(_fields(node, needed=bool(made & kw_only)))
        return None if parent is None else {**parent.options, **own_fields}
    if not above:
        return {}
    found = _find(file, above[0]) if len(above) == 1 else None
    return None if found is None else found.options


def _fields(node: ast.ClassDef, *, needed: bool) -> Iterator[tuple[str, Option]]:
    for one in node.body:
        if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name):
            continue
        if ast.unparse(one.annotation).startswith("ClassVar"):
            continue
        if one.value is not None or needed:
            default = None if one.value is None else ast.unparse(one.value)
            yield one.target.id, Option(_hint(one.annotation), default)


def _options(node: ast.FunctionDef, *, method: bool = False) -> dict[str, Option]:
    """Arguments with a default, and those that are given by name."""
    places = [*node.args.posonlyargs, *node.args.args][int(method) :]
    defaults = [None] * (len(places) - len(node.args.defaults)) + list(node.args.defaults)
    some = [pair for pair in zip(places, defaults, strict=False) if pair[1] is not None]
    given = [*some, *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]
    return {
        one.arg: Option(_hint(one.annotation), None if value is None else ast.unparse(value))
        for one, value in given
    }


def _hint(annotation: ast.expr | None) -> Any:
    """An annotation as an object, if all its names are known."""
    if annotation is None:
        return Any
    names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
    if not names <= KNOWN.keys():
        return Any
    try:
        return eval(compile(ast.Expression(annotation), "<annotation>", "eval"), dict(KNOWN))
    except TypeError:
        return Any
