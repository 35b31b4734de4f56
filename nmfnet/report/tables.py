"""The short tables that commands end with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

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
    "link/auc": "area under the ROC curve, held-out links",
    "link/ap": "average precision, held-out links",
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


COLUMNS = {
    "train/loss": "loss",
    "train/relative_error": "rel. error",
    "test/relative_error": "held-out",
    "n_iter": "iterations",
    "seconds": "seconds",
    "converged": "converged",
}


def print_sweep(records: list[dict[str, Any]], sweep: Path) -> None:
    """A line per job: what was varied, the main numbers; then every failure by name."""
    console = wide_console()
    keys = [key for key in COLUMNS if any(key in r.get("metrics", {}) for r in records)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("job", *varied(records), "status", *(COLUMNS[key] for key in keys)):
        table.add_column(heading, no_wrap=True)
    for record in records:
        numbers = record.get("metrics", {})
        settings = overrides(record)
        cells = [str(record["job"]), *(settings.get(key, "") for key in varied(records))]
        cells += [record["status"], *(readable(numbers.get(key, "")) for key in keys)]
        table.add_row(*cells)
    console.print(table)
    for record in records:
        if "error" in record:
            error = record["error"].removeprefix(f"{record['status']} ")
            if "traceback" in record:
                error = error.splitlines()[0]
            where = f" (traceback in {sweep}/jobs)" if "traceback" in record else ""
            console.print(f"job {record['job']} {record['status']}: {error}{where}", style="red")
    console.print(f"table in {sweep / 'sweep.csv'}")


def overrides(record: dict[str, Any]) -> dict[str, str]:
    """Settings of a job as given on the command line."""
    return dict(word.lstrip("+").split("=", 1) for word in record["overrides"] if "=" in word)


def varied(records: list[dict[str, Any]]) -> list[str]:
    """Settings that are not the same in every job."""
    all_settings = [overrides(record) for record in records]
    keys = dict.fromkeys(key for settings in all_settings for key in settings)
    return [key for key in keys if len({s.get(key) for s in all_settings}) > 1] or list(keys)


def wide_console() -> Console:
    """Standard output; lines are not broken when it goes to a file or a pipe."""
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
