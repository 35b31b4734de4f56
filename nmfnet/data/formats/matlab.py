"""MATLAB files of the versions 5 to 7.2.

scipy's own reader is not used: damaged files end the process.

Source: The MathWorks, MAT-File Format (version 5): tagged elements, each variable an element.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.raw import check_memory, reading
from nmfnet.errors import UserError

__all__ = ["matlab_arrays"]

_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
    16: "u1", 17: "u2", 18: "u4",
}  # fmt: skip
"""Kinds of elements that hold numbers, or the codes of characters."""

_COMPRESSED, _UTF8 = 15, 16
_CELL, _TEXT, _SPARSE, _NUMERIC, _COMPLEX = 1, 4, 5, range(6, 16), 0x0800
_DEEPEST = 3
"""Levels of lists within lists that are read."""


def matlab_arrays(file: Path) -> dict[str, Any]:
    """The variables of a file by name: arrays of numbers, CSC matrices, texts as arrays of str.

    Vectors have one axis. A variable of another kind (a structure, ...) is an array without axes.

    Raises
    ------
    UserError
        Another version, or a damaged file.
    """
    with reading(file, "a readable MATLAB file"):
        data = memoryview(file.read_bytes())
        order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
        version = 0 if order is None else int(np.frombuffer(data, f"{order}u2", 1, 124)[0])
        if version != 0x0100 or order is None:
            raise UserError(
                f"{file} is no MATLAB file of version 5 to 7.2. Save it with save(..., '-v7')."
            )
        found = {}
        for kind, part in _elements(data[128:], order):
            whole = _inflated(part, order, file) if kind == _COMPRESSED else part
            name, value = _variable(whole, order)
            if name:
                found[name] = value
    return found


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Kind and content of one element after the other."""
    at = 0
    while at < len(data):
        kind, size = map(int, np.frombuffer(data, f"{order}u4", 2, at))
        start = at + 8
        if kind >> 16:  # at most four bytes, which stand within the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        if start + size > len(data) or (start == at + 4 and size > 4):
            raise ValueError("it is cut off or damaged")
        yield kind, data[start : start + size]
        end = max(start + size, at + 8)
        at = end if kind == _COMPRESSED else end + -end % 8


def _inflated(data: memoryview, order: str, file: Path) -> memoryview:
    """The content of the element that was compressed; its size is checked before it is taken."""
    tag = zlib.decompressobj().decompress(data, 8)
    _, size = map(int, np.frombuffer(tag, f"{order}u4", 2))
    check_memory(size, file)
    whole = zlib.decompressobj().decompress(data, size + 8)
    return next(_elements(memoryview(whole), order))[1]


def _variable(data: memoryview, order: str, depth: int = 0) -> tuple[str, Any]:
    parts = list(_elements(data, order))
    if len(parts) < 3 or depth > _DEEPEST:
        raise ValueError("a variable is damaged, or nested too deeply")
    flags, dims, named, *content = parts
    about = int(_numbers(flags, order)[0])
    shape = tuple(int(size) for size in _numbers(dims, order))
    kind = about & 0xFF
    read: Any = np.array(None)
    if kind == _CELL:
        cells = [_variable(part, order, depth + 1)[1] for _, part in content]
        read = np.array(["" if cell.size == 0 else str(cell.flat[0]) for cell in cells], dtype=str)
    elif kind == _TEXT:
        read = _texts(content[0], shape, order)
    elif kind == _SPARSE:
        rows, starts, values = (_numbers(part, order) for part in content[:3])
        stored = int(starts[-1])
        rows, values = rows[:stored].astype(np.int32), values[:stored].astype(np.float64)
        read = sp.csc_matrix((values, rows, starts.astype(np.int32)), (shape[0], shape[1]))
    elif kind in _NUMERIC:
        read = _numbers(content[0], order)
        if about & _COMPLEX:
            read = read + 1j * _numbers(content[1], order)
        read = read.reshape(shape, order="F")
        read = read.ravel() if 1 in shape else read
    return bytes(named[1]).decode("latin-1"), read


def _numbers(part: tuple[int, memoryview], order: str) -> np.ndarray:
    kind, data = part
    if kind not in _NUMBERS:
        raise ValueError(f"an element of kind {kind} stands where numbers are needed")
    dtype = np.dtype(order + _NUMBERS[kind])
    return np.frombuffer(data, dtype) if len(data) else np.zeros(0, dtype)


def _texts(part: tuple[int, memoryview], shape: tuple[int, ...], order: str) -> np.ndarray:
    """One text for each row of a table of characters."""
    if part[0] == _UTF8:
        codes = np.array([ord(letter) for letter in bytes(part[1]).decode("utf-8")], dtype=np.int64)
    else:
        codes = _numbers(part, order)
    if math.prod(shape) == 0:
        return np.zeros(0, dtype=str)
    rows = codes.reshape(shape[0], -1, order="F")
    return np.array(["".join(map(chr, row)).rstrip() for row in rows.tolist()], dtype=str)
