"""What a tracker adds to one logged training step: python measure.py [FILE.json]."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

STEPS, BLOCKS = 100, 7
CHOICES = ("csv", "tensorboard", "wandb", "trackio", "mlflow")


def one(choice: str) -> dict[str, float]:
    """Microseconds per row of the history (seven numbers), and what opening and closing cost."""
    from nmfnet import loggers
    from nmfnet.settings.words import configuration

    for name in ("WANDB_API_KEY", "TRACKIO_DIR"):
        os.environ.pop(name, None)
    folder = Path(tempfile.mkdtemp())
    context = loggers.Context("one", folder, folder, configuration({"data": "planted"}).plain())
    file = (folder / "history.csv").open("w", newline="", buffering=1)
    table = csv.writer(file)
    begin = time.perf_counter()
    if choice == "csv":

        def log(row: dict[str, float], step: int) -> None:
            table.writerow(row.values())

        made = []
    else:
        made = [getattr(loggers, choice)(context)]

        def log(row: dict[str, float], step: int) -> None:
            made[0].log_metrics(row, step=step)

    keys = ("iteration", "seconds", "objective", "objective_max", "relative_change", "live")
    row = dict.fromkeys((*keys, "term/data"), 0.5)
    log(row, 0)
    opening = time.perf_counter() - begin
    cpu, wall = [], []
    for block in range(BLOCKS):
        before, clock = time.process_time(), time.perf_counter()
        for step in range(STEPS):
            log(row, 1 + block * STEPS + step)
        cpu.append((time.process_time() - before) / STEPS * 1e6)
        wall.append((time.perf_counter() - clock) / STEPS * 1e6)
    begin = time.perf_counter()
    loggers.finish(made, "success")
    closing = time.perf_counter() - begin
    return {
        "cpu_us_per_step": round(median(cpu), 1),
        "cpu_us_per_step_best": round(min(cpu), 1),
        "wall_us_per_step": round(median(wall), 1),
        "opening_s": round(opening, 2),
        "closing_s": round(closing, 2),
    }


def main() -> None:
    """Every tracker that is installed, each in a process of its own."""
    results = {}
    for choice in CHOICES:
        done = subprocess.run(
            [sys.executable, __file__, "--one", choice], capture_output=True, text=True, check=False
        )
        results[choice] = json.loads(done.stdout.splitlines()[-1]) if not done.returncode else None
        print(choice, results[choice] or done.stderr[-300:])
    packages = ("nmfnet", "tensorboard", "wandb", "trackio", "mlflow-skinny", "lightning")
    found = {p.metadata["Name"].lower(): p.version for p in importlib.metadata.distributions()}
    about = {
        "steps_per_block": STEPS,
        "blocks": BLOCKS,
        "numbers_per_step": 7,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": {name: found.get(name) for name in packages},
    }
    if len(sys.argv) > 1:
        text = json.dumps({"about": about, "results": results}, indent=2)
        Path(sys.argv[1]).write_text(text + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2])))
    else:
        main()
