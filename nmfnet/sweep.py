"""Sweeps: many runs of which none is lost, and one table at the end."""

from __future__ import annotations

import csv
import json
import math
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from nmfnet.config import Plain, check_config, run_folder
from nmfnet.errors import UserError


def check_first(cfg: Plain, context: Any) -> None:
    """Refuse a whole sweep for a mistake in its first job, which is most likely in every job.

    Raises
    ------
    UserError
        After removing what Hydra has written for the sweep.
    """
    if context.job.num != 0:
        return
    try:
        if cfg.get("run_dir"):
            raise UserError("run_dir is the folder of a single run: give a sweep runs=DIR")
        check_config(cfg)
    except UserError:
        sweep = Path(context.sweep.dir)
        (sweep / "multirun.yaml").unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or not ours
            for folder in (sweep, *sweep.parents[:2]):
                folder.rmdir()
        raise


def run_job(cfg: Plain, context: Any) -> float:
    """One job of a sweep: train, or record why not; returns the objective, or nan."""
    from nmfnet.train import Interrupted, train

    number = int(context.job.num)
    record: dict[str, Any] = {
        "job": number,
        "overrides": list(context.overrides.task),
        "run_dir": str(run_folder(cfg)),
    }
    value = math.nan
    try:
        check_config(cfg)
        if cfg.get("ranks") is not None:
            from nmfnet.selection.run import select

            result: Any = select(cfg)
        else:
            result = train(cfg)
        record |= {"status": "found" if result.found else "done", "metrics": result.metrics}
        value = float(result.metrics["objective"])
    except UserError as error:
        record |= {"status": "failed", "error": str(error)}
    except Interrupted as error:
        record |= {"status": "interrupted", "error": str(error)}
        _write(Path(context.sweep.dir), record)
        summarise(Path(context.sweep.dir))
        print("nmfnet: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except Exception as error:  # a bug in one job must not cost the others
        record |= {
            "status": "failed",
            "error": f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
        }
    _write(Path(context.sweep.dir), record)
    _say(record)
    return value


def _write(sweep: Path, record: dict[str, Any]) -> None:
    folder = sweep / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{record['job']:04d}.json").write_text(json.dumps(record, indent=2) + "\n")


def _say(record: dict[str, Any]) -> None:
    words = " ".join(word.lstrip("+") for word in record["overrides"])
    print(f"[{record['job']}] {words}: {record['status']}", file=sys.stderr, flush=True)


def summarise(sweep: Path) -> int:
    """Print the table of a sweep, write ``sweep.csv``; returns the number of failed jobs."""
    from nmfnet.report.tables import print_sweep

    records = [json.loads(file.read_text()) for file in sorted((sweep / "jobs").glob("*.json"))]
    if not records:
        return 0
    rows = [sweep_row(record) for record in records]
    with (sweep / "sweep.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    print_sweep(records, sweep)
    return sum(record["status"] == "failed" for record in records)


def sweep_row(record: dict[str, Any]) -> dict[str, Any]:
    """One line of ``sweep.csv``: the job, what was varied, how it ended, every metric."""
    from nmfnet.report.tables import overrides

    row = {"job": record["job"], **overrides(record), "status": record["status"]}
    row |= {"error": record.get("error", ""), "run_dir": record["run_dir"]}
    return row | record.get("metrics", {})


class Summary(Callback):
    """Hydra callback: the table when a sweep has ended, exit code 1 if a job failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if summarise(Path(config.hydra.sweep.dir)):
            sys.exit(1)
