"""Words and numbers on a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PULSE = 30.0
"""Seconds between two lines about work that goes on, where there is no terminal for a bar."""


def wide_console() -> Console:
    """Standard output; lines are not broken when it goes to a file or a pipe."""
    from rich.console import Console

    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    console = Console(**plain, soft_wrap=True)
    return console if console.is_terminal else Console(**plain, width=240)


def readable(value: Any) -> str:
    """A number as people write it."""
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


class Beat:
    """Says now and then that it is time for a line about work that goes on.

    Parameters
    ----------
    every : float
        Seconds from the start to the first time, and from each to the next.
    """

    def __init__(self, every: float = PULSE) -> None:
        self.every, self._last = every, time.monotonic()

    def due(self) -> bool:
        """Whether it is time; if so, it begins to wait anew."""
        if time.monotonic() - self._last < self.every:
            return False
        self._last = time.monotonic()
        return True


class Teller:
    """Says on standard error what a piece of long work is at: a line every ``PULSE`` seconds.

    Parameters
    ----------
    title : str
        Of the work, in front of every line.
    """

    def __init__(self, title: str) -> None:
        self.title, self.beat = title, Beat()

    def __call__(self, words: str) -> None:
        if self.beat.due():
            print(f"nmfnet: {self.title}: {words}", file=sys.stderr, flush=True)
