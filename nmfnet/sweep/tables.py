"""The table that a sweep ends with on the terminal."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from rich.table import Table

from nmfnet.run.measures import columns, compared_as, main_measure, measure, number
from nmfnet.run.stored import read_table
from nmfnet.run.terminal import readable, wide_console

if TYPE_CHECKING:
    from rich.console import Console


def print_sweep(records: list[dict[str, Any]], sweep: Path) -> None:
    """A line per job: what was varied, the main numbers; then every failure by name."""
    console = wide_console()
    console.print(_by_job(records))
    _print_failures(records, sweep, console)
    console.print(f"table in {sweep / 'sweep.csv'}")


def _by_job(records: list[dict[str, Any]]) -> Table:
    numbers = columns(record.get("metrics", {}) for record in records)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("job", *varied(records), "status", *(one.column for one in numbers)):
        table.add_column(heading, no_wrap=True)
    for record in records:
        found, settings = record.get("metrics", {}), overrides(record)
        cells = [str(record["job"]), *(settings.get(key, "") for key in varied(records))]
        cells += [record["status"], *(readable(found.get(one.key, "")) for one in numbers)]
        table.add_row(*cells)
    return table


def _print_failures(records: list[dict[str, Any]], sweep: Path, console: Console) -> None:
    for record in records:
        if "error" in record:
            error = record["error"].removeprefix(f"{record['status']} ")
            if "traceback" in record:
                error = error.splitlines()[0]
            where = f" (traceback in {sweep}/jobs)" if "traceback" in record else ""
            console.print(f"job {record['job']} {record['status']}: {error}{where}", style="red")


# ---------------------------------------------------------------------- models on equal terms
def print_zoo(records: list[dict[str, Any]], sweep: Path, left_out: str) -> None:
    """A line per model, its numbers the means over seeds, best first within a loss.

    Below: what the order is by, which models were left out and why, and every failure by name.
    """
    console = wide_console()
    done = [record for record in records if "metrics" in record]
    numbers = [one for one in columns(r["metrics"] for r in done) if one.key not in ENDS]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("model", "loss", "runs", *(one.column for one in numbers), "ended"):
        table.add_column(heading, no_wrap=True)
    mains = []
    for loss, members in by_loss(done).items():
        main = main_measure(loss, (record["metrics"] for record in members))
        mains += [main] if len({overrides(record).get("model") for record in members}) > 1 else []
        for name, own in ranked(members, main):
            cells = [name, loss, str(len(own))]
            cells += [_mean(own, one.key, spread=one.key == main) for one in numbers]
            table.add_row(*cells, ended(own))
    console.print(table)
    said = " or ".join(dict.fromkeys(measure(key).words for key in mains))
    order = f"Models of one loss are in the order of {said}; " if said else ""
    console.print(f"{order}numbers of different losses are not ranked against each other.")
    if left_out:
        console.print(f"left out: {left_out}", soft_wrap=True)
    _print_failures(records, sweep, console)
    console.print(f"table of all runs in {sweep / 'sweep.csv'}")


ENDS = ("converged", "status", "certificate/fall")
"""Numbers of which the last column of that table tells."""


def by_loss(records: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Runs whose numbers may be ranked."""
    together: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        made = read_table(Path(record["run_dir"]) / "config.yaml")["choices"]
        as_one = compared_as(str(made["loss"]), str(made["model"]), record["metrics"])
        together.setdefault(as_one, []).append(record)
    return dict(sorted(together.items(), key=lambda one: -len(one[1])))


def ranked(records: list[dict[str, Any]], main: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """The runs of every model, the model with the best mean of a number first."""
    by_model: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_model.setdefault(overrides(record)["model"], []).append(record)
    sign = -measure(main).better

    def place(one: tuple[str, list[dict[str, Any]]]) -> float:
        value = sign * mean(number(record["metrics"], main) for record in one[1])
        return value if math.isfinite(value) else math.inf

    return sorted(by_model.items(), key=place)


def ended(records: list[dict[str, Any]]) -> str:
    """How runs ended, with the largest fall that a certificate left: ``2 converged, 1 budget``."""
    counts = Counter(str(record["metrics"].get("status")) for record in records)
    words = ", ".join(
        word if len(counts) == 1 else f"{count} {word}" for word, count in counts.most_common()
    )
    falls = [number(record["metrics"], "certificate/fall") for record in records]
    known = [fall for fall in falls if math.isfinite(fall)]
    return f"{words} (fall left {max(known):.1e})" if known else words


def _mean(records: list[dict[str, Any]], key: str, *, spread: bool) -> str:
    """The mean of a number, for the one that counts with its standard deviation over the runs."""
    values = [number(record["metrics"], key) for record in records]
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    told = readable(float(mean(known)))
    return f"{told} ± {stdev(known):.1g}" if spread and len(known) > 1 else told


def overrides(record: dict[str, Any]) -> dict[str, str]:
    """Settings of a job as given on the command line."""
    return dict(word.lstrip("+").split("=", 1) for word in record["overrides"] if "=" in word)


def varied(records: list[dict[str, Any]]) -> list[str]:
    """Settings that are not the same in every job."""
    all_settings = [overrides(record) for record in records]
    keys = dict.fromkeys(key for settings in all_settings for key in settings)
    return [key for key in keys if len({s.get(key) for s in all_settings}) > 1] or list(keys)
