"""``nmfnet report RUNS -o FILE``: one self-contained page about any number of runs."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from nmfnet.errors import UserError
from nmfnet.report.collect import Run, collect
from nmfnet.report.payload import payload

__all__ = ["page", "report"]

SCRIPTS = ("state.js", "charts.js", "tables.js", "page.js")


def report(runs: str | Path = "runs", output: str | Path = "report.html") -> Path:
    """Write the page about every run below a folder, and say where it is.

    Parameters
    ----------
    runs : str or Path
        A folder of runs, a single run's folder, or the folder of a sweep.
    output : str or Path
        The page; missing folders are made, an existing file is replaced.

    Returns
    -------
    Path
        The page: no script, font or picture of it comes from elsewhere, so it can be sent or put
        on any server.

    Raises
    ------
    UserError
        If there are no runs, or the page cannot be written.
    """
    target = Path(output)
    if target.is_dir():
        raise UserError(f"{target} is a folder: name the page, such as -o {target / 'report.html'}")
    every = collect(runs)
    text = page(every, Path(runs))
    partial = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror or error}: choose another -o"
        ) from error
    print(f"{summary(every)} in {target} ({target.stat().st_size / 1e6:.1f} MB)")
    for run in every:
        if run.status in ("damaged", "newer"):
            print(f"note: {run.problem}")
    return target


def page(every: Sequence[Run], root: Path, *, fingerprint: str | None = None) -> str:
    """The page as text.

    Parameters
    ----------
    every : sequence of Run
        May be empty: the page then says that it waits.
    root : Path
        The folder of the runs.
    fingerprint : str, optional
        Of the state shown; with it the page asks its server for news and reloads itself.
    """
    from nmfnet import __version__

    content = payload(list(every), root) | {"fingerprint": fingerprint}
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Template(_asset("page.html")).substitute(
        title=html.escape(f"nmfnet report: {root}"),
        heading=html.escape(f"nmfnet report: {root}"),
        subtitle=html.escape(f"{summary(every)} · made {now} by nmfnet {__version__}"),
        style=_asset("page.css"),
        script="\n".join(map(_asset, SCRIPTS)),
        data=_json(content),
    )


def summary(every: Sequence[Run]) -> str:
    """How many runs there are, in words."""
    done = sum(run.status == "done" for run in every)
    words = [f"{done} run{'s' * (done != 1)}"]
    for status in ("running", "failed", "interrupted", "pruned", "damaged", "newer"):
        count = sum(run.status == status for run in every)
        words += [f"{count} {status}"] if count else []
    return ", ".join(words)


def _json(content: Any) -> str:
    """JSON that may stand in a script element, whatever words it holds."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (files("nmfnet.report") / "assets" / name).read_text(encoding="utf-8")
