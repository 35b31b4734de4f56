"""The table that a rank selection ends with on the terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from nmfnet.run.leading import leading_lines
from nmfnet.run.tables import print_leading
from nmfnet.run.terminal import readable, wide_console
from nmfnet.selection.outcome import Selected

__all__ = ["print_selection"]

COLUMNS = {
    "n_components": "components",
    "silhouette_mean": "silhouette",
    "silhouette_min": "smallest",
    "worse": "held-out, above best",
    "worse_se": "+-",
    "relative_error": "rel. error",
    "cosine_mean": "cosine",
    "cophenetic": "cophenetic",
    "ard": "ARD starts",
    "kept": "kept",
    "unconverged": "not converged",
    "seconds": "seconds",
}


def print_selection(result: Selected) -> None:
    """A line per rank, the suggestion with its reason, the names found, and the folder last."""
    console = wide_console()
    shown = {
        key: words
        for key, words in COLUMNS.items()
        if any(key in row and not math.isnan(row[key]) for row in result.rows)
    }
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for words in ("", *shown.values()):
        table.add_column(words, no_wrap=True, justify="right")
    for row in result.rows:
        mark = "*" if row["n_components"] == result.n_components else ""
        table.add_row(mark, *(_cell(key, row[key]) for key in shown))
    console.print(table)
    console.print(f"suggested: {result.n_components}: {result.suggestion.reason}")
    console.print(f"rule: {result.suggestion.rule}")
    if result.matches:
        _print_sums(console, result)
    elif result.programs is not None:
        console.print("marker genes, and their scores in standard deviations:")
        for line in result.programs.lines():
            console.print(f"  {line}")
    else:
        print_leading(console, [] if result.folder is None else leading_lines(result.folder))
    for note in result.notes:
        console.print(f"note: {note}", style="yellow")
    if not result.metrics["converged"]:
        console.print(
            "note: more than 5 % of the fits of a rank did not converge within the budget: raise "
            "max_iter, or set a larger tol",
            style="yellow",
        )
    if result.folder is not None:
        console.print(f"results in {result.folder}")


def _print_sums(console: Console, result: Selected) -> None:
    """A line per component: its share of the data, as a sum of references, and the nearest one."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for words in ("", "share", "sum of references", "cosine", "nearest", "cosine", "silhouette"):
        table.add_column(
            words, no_wrap=True, justify="right" if words != "sum of references" else "left"
        )
    rows = zip(
        result.matches,
        result.shares,
        result.sums,
        result.decompositions,
        result.ranks[result.n_components].silhouettes,
        strict=True,
    )
    for match, share, sums, found, silhouette in rows:
        numbers = (
            f"{found.cosine:.3f}",
            match.best,
            f"{match.best_cosine:.3f}",
            f"{silhouette:.2f}",
        )
        table.add_row(match.component, f"{100 * share:.1f}%", sums, *numbers)
    console.print(table)


def _cell(key: str, value: float) -> str:
    if key == "n_components":
        return f"{value:.0f}"
    if key in ("unconverged", "kept"):
        return f"{100 * value:.0f} %"
    if key == "ard":
        return f"{100 * value:.0f} %" if value else "-"
    if key in ("silhouette_mean", "silhouette_min", "cosine_mean", "cophenetic"):
        return f"{value:.3f}"
    return f"{value:.1f}" if key == "seconds" else readable(float(value))
