"""Words and numbers on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


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
