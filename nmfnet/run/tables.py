"""The short table that a run ends with on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from nmfnet.terminal import readable, wide_console

if TYPE_CHECKING:
    from nmfnet.run.finished import Finished
    from nmfnet.run.train import Result

SHOWN = {
    "n_components": "suggested number of components",
    "ranks_stable": "ranks that are stable",
    "train/loss": "loss, training data",
    "train/relative_error": "relative error, training data",
    "test/loss": "loss, held-out data",
    "test/relative_error": "relative error, held-out data",
    "floor/relative_error": "relative error, SVD floor",
    "n_iter": "iterations",
    "seconds": "seconds of training",
    "converged": "converged",
    "stability/silhouette_mean": "silhouette of the fits, mean",
    "stability/matched_cosine": "agreement of restarts (cosine)",
    "truth/matched_cosine": "agreement with the truth (cosine)",
    "reference/assigned_cosine": "agreement with the reference (cosine)",
    "labels/ari": "adjusted Rand index with the labels",
}


def print_result(result: Result | Finished) -> None:
    """The result of one run, and its folder last."""
    console = wide_console()
    if result.found:
        console.print("This run was finished before (force=true runs it again).")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, words in SHOWN.items():
        if key in result.metrics:
            table.add_row(words, readable(result.metrics[key]))
    console.print(table)
    for note in result.notes:
        console.print(f"note: {note}", style="yellow")
    if not result.metrics["converged"]:
        console.print(
            "note: not converged within the budget: raise max_iter, or set a larger tol",
            style="yellow",
        )
    if result.folder is not None:
        console.print(f"results in {result.folder}")
