"""Wall time of 12 jobs, one after the other and two at a time: python measure.py FOLDER FILE.json."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import joblib
import torch

JOBS = (
    *("-m", "model.n_components=32", "solver=mu", "loss=kl", "tol=0", "max_iter=15000"),
    *("seed=range(12)", "figures=false", "threads=1"),
)
WAYS = {"local": (), "joblib": ("launcher=joblib", "launcher.n_jobs=2")}


def once(folder: Path, words: tuple[str, ...]) -> dict[str, float]:
    """Wall and CPU seconds of one sweep in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    train = Path(__file__).parents[2] / "train.py"
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, str(train), *JOBS, *words], cwd=folder, check=True, capture_output=True
    )
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "load": os.getloadavg()[0]}


def main() -> None:
    """Both ways in turn, so that the other work of the machine weighs on both."""
    folder, file = Path(sys.argv[1]), Path(sys.argv[2])
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(int(sys.argv[3]) if len(sys.argv) > 3 else 3):
        for way, words in WAYS.items():
            runs[way].append(once(folder / way, words))
            print(way, runs[way][-1], flush=True)
    walls = {way: median(run["wall_s"] for run in done) for way, done in runs.items()}
    about = {
        "command": ["python", "train.py", *JOBS],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "joblib": joblib.__version__,
    }
    ratio = round(walls["joblib"] / walls["local"], 3)
    told = {"about": about, "runs": runs, "median_wall_s": walls, "ratio": ratio}
    file.write_text(json.dumps(told, indent=2) + "\n")
    print(f"{walls}: {ratio:.2f}")


if __name__ == "__main__":
    main()
