"""The short table that a run ends with on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from nmfnet.run.measures import MEASURES, unfinished_words
from nmfnet.run.terminal import readable, wide_console

if TYPE_CHECKING:
    from nmfnet.run.finished import Finished
    from nmfnet.run.train import Result


def print_result(result: Result | Finished) -> None:
    """The result of one run, and its folder last."""
    console = wide_console()
    if result.found:
        console.print("This run was finished before (force=true runs it again).")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for one in MEASURES:
        if one.told and result.metrics.get(one.key) is not None:
            table.add_row(one.words, readable(result.metrics[one.key]))
    console.print(table)
    for note in result.notes:
        console.print(f"note: {note}", style="yellow")
    if unfinished := unfinished_words(result.metrics):
        console.print(f"note: {unfinished}", style="yellow")
    if result.folder is not None:
        console.print(f"results in {result.folder}")
