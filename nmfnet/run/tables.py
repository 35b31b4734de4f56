"""The short table that a run ends with on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from nmfnet.terminal import readable, wide_console

if TYPE_CHECKING:
    from rich.console import Console

    from nmfnet.run.finished import Finished
    from nmfnet.run.train import Result

SHOWN = {
    "n_components": "suggested number of components",
    "ranks_stable": "ranks that are stable",
    "train/loss": "loss, training data",
    "train/relative_error": "relative error, training data",
    "test/loss": "loss, held-out data",
    "test/relative_error": "relative error, held-out data",
    "link/auc": "area under the ROC curve, held-out links",
    "link/ap": "average precision, held-out links",
    "floor/relative_error": "relative error, SVD floor",
    "n_iter": "iterations",
    "seconds": "seconds of training",
    "status": "ended",
    "converged": "converged",
    "certificate/fall": "relative fall that another descent still finds",
    "certificate/kkt": "KKT residual",
    "stability/silhouette_mean": "silhouette of the fits, mean",
    "stability/matched_cosine": "agreement of restarts (cosine)",
    "truth/matched_cosine": "agreement with the truth (cosine)",
    "reference/assigned_cosine": "agreement with the reference (cosine)",
    "labels/ari": "adjusted Rand index with the labels",
}


FAR = 1e-2
"""Relative fall of the objective that a few iterations of another descent should not find."""


def unfinished_words(metrics: Mapping[str, Any]) -> str:
    """Why a run does not count as converged, how far it was from it, and what helps; else ""."""
    if metrics.get("converged") is not False:
        return ""
    fall = metrics.get("certificate/fall")
    further = "" if fall is None else f"; another descent still lowers the objective by {fall:.1e}"
    if metrics.get("status") == "stopped early":
        return (
            f"stopped early, not proved converged{further}: solver.heldout=0, all rows in memory and "
            "certificate_tol=1e-3 give a proof"
        )
    remedy = "raise max_iter"
    if fall is not None and fall > FAR:
        remedy += ", or use another solver"
    return f"not converged in {metrics.get('n_iter', '?')} iterations{further}: {remedy}"


def print_leading(console: Console, lines: Sequence[str]) -> None:
    """The leading features of the components of a run, if there are any to tell of."""
    if lines:
        console.print("leading features, % of the component:")
    for line in lines:
        console.print(f"  {line}")


def print_result(result: Result | Finished) -> None:
    """The result of one run, and its folder last."""
    console = wide_console()
    if result.found:
        console.print("This run was finished before (force=true runs it again).")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, words in SHOWN.items():
        if result.metrics.get(key) is not None:
            table.add_row(words, readable(result.metrics[key]))
    console.print(table)
    print_leading(console, result.leading)
    for note in result.notes:
        console.print(f"note: {note}", style="yellow")
    if unfinished := unfinished_words(result.metrics):
        console.print(f"note: {unfinished}", style="yellow")
    if result.folder is not None:
        console.print(f"results in {result.folder}")
