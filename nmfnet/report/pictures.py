"""The runs' figures inside the page: whole where there is room, the best runs' first."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

from nmfnet.plots import FIGURES

__all__ = ["BUDGET", "Album"]

BUDGET = 11_000_000
"""Bytes that the pictures of a page may take together, as text."""

LARGE = 60_000
"""Bytes of a file above which a picture is drawn smaller."""

WIDTH, HEIGHT = 880, 1400
"""Most pixels of a picture that is drawn smaller."""

LIMIT = 300_000
"""Bytes above which a picture is left out even when drawn smaller."""


class Album:
    """Pictures as data URIs, each kept once, up to a number of bytes.

    Parameters
    ----------
    budget : int
        Most bytes of all URIs together.

    Attributes
    ----------
    images : list of str
        ``data:`` URIs; :meth:`add` returns positions in this list.
    left_out : set of Path
        Files for which there was no room.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self.images: list[str] = []
        self.left_out: set[Path] = set()
        self._used = 0
        self._known: dict[str, int] = {}

    def add(self, file: Path) -> int | None:
        """Position of the picture, or None where there is no room or it cannot be read."""
        if self._used >= self.budget:  # decided without reading the file
            self.left_out.add(file)
            return None
        try:
            content = file.read_bytes()
        except OSError:
            return None
        key = hashlib.sha256(content).hexdigest()
        if key in self._known:
            return self._known[key]
        uri = _uri(content)
        if uri is None or self._used + len(uri) > self.budget:
            self.left_out.add(file)
            return None
        self._used += len(uri)
        self.images.append(uri)
        self._known[key] = len(self.images) - 1
        return self._known[key]

    def take(self, folder: Path, names: Iterable[str] | None = None) -> dict[str, int]:
        """Pictures of a run folder by name; all of them, or those named, in reading order."""
        files = {file.stem: file for file in sorted((folder / "figures").glob("*.png"))}
        wanted = sorted(files, key=_rank) if names is None else [n for n in names if n in files]
        found = {name: self.add(files[name]) for name in wanted}
        return {name: position for name, position in found.items() if position is not None}


def _rank(name: str) -> tuple[int, str]:
    order = list(FIGURES)
    return (order.index(name) if name in order else len(order), name)


def _uri(content: bytes) -> str | None:
    """A data URI; large pictures are drawn smaller first. None for what is no picture."""
    kind = "png"
    if len(content) > LARGE:
        try:
            content, kind = _smaller(content)
        except (OSError, ValueError):
            return None
    elif not content.startswith(b"\x89PNG"):
        return None
    if len(content) > LIMIT:
        return None
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _smaller(content: bytes) -> tuple[bytes, str]:
    from PIL import Image, features

    with Image.open(io.BytesIO(content)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((WIDTH, HEIGHT))
    buffer = io.BytesIO()
    if features.check("webp"):
        small.save(buffer, "WEBP", quality=72, method=2)
        return buffer.getvalue(), "webp"
    small.quantize(64).save(buffer, "PNG", optimize=True)
    return buffer.getvalue(), "png"
