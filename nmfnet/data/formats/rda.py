"""Matrices that R has saved with ``save``: numbers, texts, lists of these, and their names."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nmfnet.data.formats.raw import check_file, reading
from nmfnet.errors import UserError

__all__ = ["RObject", "read_rda"]

PACKED = {b"BZh": bz2.decompress, b"\x1f\x8b": gzip.decompress, b"\xfd7zXZ": lzma.decompress}
"""First bytes of a packed file, and how it is unpacked."""

NIL, NO_VALUE, BEFORE = 0, 254, 255
SYMBOL, PAIRS, TEXT, LOGICAL, INTEGER, REAL, STRINGS, LIST = 1, 2, 9, 10, 13, 14, 16, 19
"""Kinds of R objects, by the numbers that R gives them."""


@dataclass
class RObject:
    """A vector of R: an ndarray of numbers, or a list of texts or of other objects.

    Attributes
    ----------
    value : ndarray or list
        A matrix has its two axes.
    attributes : dict of str to RObject
        ``names``, ``dim``, ``dimnames``, ...
    """

    value: Any
    attributes: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> RObject:
        """An entry of a list by its name."""
        names = self.attributes["names"].value if "names" in self.attributes else []
        if name not in names:
            raise UserError(f"there is no {name!r} among {', '.join(names) or 'unnamed entries'}.")
        found: RObject = self.value[names.index(name)]
        return found

    def axis_names(self, axis: int) -> list[str] | None:
        """Names along an axis of a matrix; None = it has none."""
        if "dimnames" not in self.attributes:
            return None
        names = self.attributes["dimnames"].value[axis]
        return None if names is None else list(names.value)


def read_rda(path: str | Path) -> dict[str, RObject]:
    """The objects of a file that R wrote in its binary format, by name.

    Raises
    ------
    UserError
        Another format, or objects of other kinds than vectors, matrices and lists.

    Notes
    -----
    Source: R Core Team, "R Internals", section 1.8 (serialization formats), XDR in versions 2 and 3.
    """
    file = check_file(path)
    with reading(file, "a file of R's save with numbers, texts and lists"):
        content = file.read_bytes()
        for begin, unpack in PACKED.items():
            if content.startswith(begin):
                content = unpack(content)
                break
        if content[:5] not in (b"RDX2\n", b"RDX3\n"):
            raise UserError(f"{file} is no binary .rda file: write it with save(object, file=...).")
        return _Reader(content[5:]).whole()


class _Reader:
    """A place in the bytes of a file, which moves on with every object that is read."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at, self.symbols = content, 0, list[str]()

    def take(self, size: int) -> bytes:
        part = self.content[self.at : self.at + size]
        if len(part) < size:
            raise UserError("the file ends too early.")
        self.at += size
        return part

    def whole(self) -> dict[str, RObject]:
        self.take(2)  # "X\n"
        version, _, _ = (self.number() for _ in range(3))
        if version == 3:
            self.take(self.number())  # the encoding of texts
        found = self.item()
        if not isinstance(found, dict):
            raise UserError("it holds no named objects.")
        return found

    def number(self) -> int:
        return int(struct.unpack(">i", self.take(4))[0])

    def item(self) -> Any:
        flags = self.number()
        kind, has_attributes, has_tag = flags & 255, bool(flags & 512), bool(flags & 1024)
        if kind in (NIL, NO_VALUE):
            return None
        if kind == BEFORE:
            return self.symbols[(flags >> 8) - 1]
        if kind == SYMBOL:
            self.symbols.append(self.item())
            return self.symbols[-1]
        if kind == TEXT:
            size = self.number()
            return None if size < 0 else self.take(size).decode("utf-8", "replace")
        if kind == PAIRS:
            return self.pairs(has_attributes, has_tag)
        made = RObject(self.vector(kind))
        if has_attributes:
            made.attributes = self.item() or {}
        if "dim" in made.attributes and isinstance(made.value, np.ndarray):
            made.value = made.value.reshape(made.attributes["dim"].value.astype(int), order="F")
        return made

    def pairs(self, has_attributes: bool, has_tag: bool) -> dict[str, Any]:
        """Tagged values, up to the end of their chain."""
        found: dict[str, Any] = {}
        while True:
            if has_attributes:
                self.item()
            tag = self.item() if has_tag else str(len(found))
            found[tag] = self.item()
            flags = self.number()
            if flags & 255 == NO_VALUE:
                return found
            has_attributes, has_tag = bool(flags & 512), bool(flags & 1024)

    def vector(self, kind: int) -> Any:
        if kind not in (LOGICAL, INTEGER, REAL, STRINGS, LIST):
            raise UserError(f"it holds an R object of kind {kind}, which is not read.")
        size = self.number()
        if kind in (STRINGS, LIST):
            return [self.item() for _ in range(size)]
        width, letter = (8, ">f8") if kind == REAL else (4, ">i4")
        return np.frombuffer(self.take(size * width), letter).astype(np.float64)
