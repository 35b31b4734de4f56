"""The table that a sweep ends with on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from nmfnet.run.measures import columns
from nmfnet.run.terminal import readable, wide_console


def print_sweep(records: list[dict[str, Any]], sweep: Path) -> None:
    """A line per job: what was varied, the main numbers; then every failure by name."""
    console = wide_console()
    numbers = columns(record.get("metrics", {}) for record in records)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("job", *varied(records), "status", *(one.column for one in numbers)):
        table.add_column(heading, no_wrap=True)
    for record in records:
        found, settings = record.get("metrics", {}), overrides(record)
        cells = [str(record["job"]), *(settings.get(key, "") for key in varied(records))]
        cells += [record["status"], *(readable(found.get(one.key, "")) for one in numbers)]
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
