"""``nmfnet data list | info NAME | get NAME``: what there is, what it is, and fetching it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.registry import data_config, data_names, data_summary, source
from nmfnet.errors import UserError

__all__ = ["get", "info", "list_data"]


def list_data() -> None:
    """Print every data set: what it is, of which kind, how large, its licence, and where it is."""
    _print_table(
        ("data=", "what it is", "kind", "files", "licence", "where"),
        [_listed(name, data_config(name)) for name in data_names()],
    )


def _listed(name: str, config: dict[str, Any]) -> tuple[str, ...]:
    origin = _origin(config)
    kind = str(config.get("kind") or "")
    if origin is None:
        own = "???" in config.values()
        return name, data_summary(name), kind, "", "", "yours" if own else "made here"
    where = str(origin.folder()) if _state(origin) == "on disk" else _state(origin)
    return name, data_summary(name), kind, _size(origin), origin.licence, where


def _size(origin: Origin) -> str:
    """Of its files, where all are on disk."""
    if _state(origin) != "on disk":
        return ""
    size = sum(origin.path(file).stat().st_size for file in origin.files)
    return f"{size / 1e6:.1f} MB"


def info(name: str) -> None:
    """Print summary, licence, citation, files and options; its size too if the files are on disk.

    Raises
    ------
    UserError
        No such data set.
    """
    config = data_config(name)
    origin = _origin(config)
    rows = [("data set", name), ("what it is", data_summary(name))]
    if origin is not None:
        rows += [("licence", origin.licence), ("citation", origin.citation)]
        rows += [("terms", origin.terms)] if origin.terms else []
        rows += [("folder", str(origin.folder())), ("files", _state(origin))]
    rows += _content(name, config, origin)
    _print_table(("", ""), rows)
    options = [(f"data.{key}", _show(value)) for key, value in config.items() if key[0] != "_"]
    options = [(key, value) for key, value in options if key != "data.origin"]
    if options:
        _print_table(("option", "default"), options)
    if origin is not None:
        files = [(file, "yes" if origin.is_cached(file) else "no") for file in origin.files]
        _print_table(("file", "on disk"), files)


def get(name: str) -> None:
    """Download the files of a data set that are not on disk yet, and print where they are.

    Raises
    ------
    UserError
        No such data set, nothing to download, or a failed download.
    """
    origin = _origin(data_config(name))
    if origin is None:
        raise UserError(f"{name} has no files to download: {data_summary(name)}.")
    for file in origin.files:
        print(origin.path(file))


def _origin(config: dict[str, Any]) -> Origin | None:
    fields = config.get("origin") or config.get("of", {}).get("origin")
    if not fields:
        return None
    return Origin(**{key: value for key, value in fields.items() if not key.startswith("_")})


def _state(origin: Origin | None) -> str:
    if origin is None:
        return "none needed"
    here = sum(origin.is_cached(file) for file in origin.files)
    return "on disk" if here == len(origin.files) else f"{here} of {len(origin.files)} on disk"


def _content(name: str, config: dict[str, Any], origin: Origin | None) -> list[tuple[str, str]]:
    """Size, kind, classes and notes, when reading needs no download."""
    if "???" in config.values() or (origin is not None and _state(origin) != "on disk"):
        return []
    try:
        matrix = source(name, **({"reference": None} if "reference" in config else {})).read()
    except UserError as error:
        return [("not readable", str(error))]
    n, f = matrix.shape
    rows = [("size", f"{n} samples x {f} features"), ("kind", matrix.kind)]
    rows += [("storage", "sparse" if matrix.is_sparse else "dense")]
    if matrix.label_names is not None:
        rows.append(("classes", f"{len(matrix.label_names)}: {', '.join(matrix.label_names)}"))
    if matrix.mask is not None:
        rows.append(("observed", f"{matrix.mask.sum() / (n * f):.2%} of the entries"))
    if matrix.truth is not None:
        rows.append(("truth", f"{len(matrix.truth.names)} true components"))
    return rows + [("note", note) for note in matrix.notes()]


def _show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A rich table in a terminal; tab-separated lines elsewhere."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, show_header=any(header), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
