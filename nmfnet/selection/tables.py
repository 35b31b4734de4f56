"""The table that a rank selection ends with on the terminal."""

from __future__ import annotations

import math

from rich.table import Table

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
    for match, silhouette in zip(
        result.matches, result.ranks[result.n_components].silhouettes, strict=False
    ):
        console.print(
            f"  {match.component}: {match.best} (cosine {match.best_cosine:.3f}), silhouette "
            f"{silhouette:.2f}"
        )
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


def _cell(key: str, value: float) -> str:
    if key == "n_components":
        return f"{value:.0f}"
    if key == "unconverged":
        return f"{100 * value:.0f} %"
    if key == "ard":
        return f"{100 * value:.0f} %" if value else "-"
    if key in ("silhouette_mean", "silhouette_min", "cosine_mean", "cophenetic"):
        return f"{value:.3f}"
    return f"{value:.1f}" if key == "seconds" else readable(float(value))
