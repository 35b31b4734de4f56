"""How the time of a fit grows with samples, features, components, restarts, density, threads, processes.

    python experiments/speed/growth.py                  # light: up to 32,000 samples, a few minutes
    python experiments/speed/growth.py --full           # up to a million samples
    python experiments/speed/growth.py --axes n k       # some of it; the rest of the file stays

Every fit makes the same ITERATIONS on planted counts, on one thread unless threads are what changes;
the first of each solver in a process is not counted. CPU seconds of the whole call are the least of
TIMES (of fewer where one takes long); for threads and processes, seconds on the clock, and for processes
those of training alone, since each of them starts Python. A slope is that of log(seconds) over log(size),
by least squares over the larger half of the sizes: 1 = in proportion. Writes ``growth.csv`` and
``growth.png``.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

HERE = Path(__file__).parent
ITERATIONS = 20
TIMES = 3
LONG = 20.0


class Size(NamedTuple):
    """What is fitted: a matrix with a share of entries that are not 0, components, restarts, threads."""

    n: int = 4000
    f: int = 200
    k: int = 10
    restarts: int = 1
    density: float = 1.0
    threads: int = 1
    processes: int = 1


AXES: dict[str, tuple[float, ...]] = {
    "n": (2000, 4000, 8000, 16_000, 32_000),
    "f": (50, 100, 200, 400, 800),
    "k": (5, 10, 20, 40),
    "restarts": (1, 2, 4, 8),
    "density": (0.01, 0.03, 0.1, 0.3),
    "threads": (1, 2),
    "processes": (1, 2),
}
BASE = {"threads": Size(n=64_000), "processes": Size(n=64_000)}
"""What is held while an axis is varied, where it is not `Size()`."""
FULL = AXES | {
    "n": (2000, 8000, 32_000, 125_000, 500_000, 1_000_000),
    "f": (50, 100, 200, 400, 800, 1600, 3200),
    "k": (5, 10, 20, 40, 80),
    "restarts": (1, 4, 16, 64),
}
OURS = {
    "hals": {"solver": "hals"},
    "newton": {"solver": "newton", "loss": "kl"},
    "online": {"solver": "online", "batch_size": 512},
    "online, stream": {"solver": "online", "batch_size": 512},
    "mu, KL": {"solver": "mu", "loss": "kl"},
}
THEIRS = {
    "scikit-learn cd": {"solver": "cd"},
    "scikit-learn mu, KL": {"solver": "mu", "beta_loss": "kullback-leibler"},
}
ONLY = {"online, stream": ("n", "f"), "mu, KL": ("processes",)}
"""The axes of a side that is not measured on all."""
SPREAD = ("hals", "newton", "mu, KL")
"""What can be spread over processes."""


def measured(side: str, axis: str) -> bool:
    """Whether a side is measured on an axis; scikit-learn has no option for threads."""
    if axis == "processes":
        return side in SPREAD
    return axis in ONLY.get(side, AXES) and not (side in THEIRS and axis == "threads")


def counts(size: Size) -> Any:
    """Planted counts in float32; sparse where not all entries are there."""
    rng = np.random.default_rng(0)
    W, H = rng.gamma(1.0, size=(size.n, size.k)), rng.gamma(1.0, size=(size.k, size.f))
    if size.density == 1:
        return rng.poisson(W @ H).astype(np.float32)
    some = sp.random(size.n, size.f, size.density, format="csr", random_state=0)
    rows = np.repeat(np.arange(size.n), np.diff(some.indptr))
    some.data = 1.0 + rng.poisson((W[rows] * H.T[some.indices]).sum(1))
    return some.astype(np.float32)


def fitted(side: str, x: Any, size: Size) -> Callable[[], object]:
    """The call that is timed."""
    if side in THEIRS:
        from sklearn.decomposition import NMF

        options = {"init": "random", "max_iter": ITERATIONS, "tol": 0.0, "random_state": 0}
        model = NMF(size.k, **options, **THEIRS[side])
        return lambda: [model.fit_transform(x) for _ in range(size.restarts)]
    import nmfnet

    settings: dict[str, Any] = {"max_iter": ITERATIONS, "tol": 0.0, "certificate_tol": None}
    settings |= OURS[side] | {"n_components": size.k, "n_restarts": size.restarts}
    if side == "online, stream":
        return partial(streamed, x, settings | {"threads": size.threads, "progress": False})
    return lambda: nmfnet.fit(x, seed=0, threads=size.threads, **settings)


def streamed(x: np.ndarray, settings: dict[str, Any]) -> None:
    """A fit of rows that are read from a file again and again."""
    from nmfnet.data import Stream
    from nmfnet.run.train import train
    from nmfnet.settings.words import configuration

    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        train(configuration(settings), Stream(path=f"{folder}/x.npy"), write=False)


def spread(side: str, x: np.ndarray, size: Size) -> float:
    """Seconds of training in several processes, by the command."""
    options = {"max_iter": ITERATIONS, "tol": 0, "certificate_tol": "null", "threads": size.threads}
    options |= OURS[side] | {"model.n_components": size.k, "figures": "false", "run_dir": "run"}
    options |= {"data": "table", "data.path": "x.npy", "data.orientation": "samples_by_features"}
    if size.processes > 1:
        options |= {"trainer": "ddp", "trainer.devices": size.processes}
    words = [f"{key}={value}" for key, value in options.items()]
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        script = Path(folder, "train.py")
        script.write_text("from nmfnet.cli import main; main()")
        subprocess.run(
            [sys.executable, script, *words], cwd=folder, check=True, capture_output=True
        )
        return float(json.loads(Path(folder, "run/metrics.json").read_text())["seconds"])


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """The least of TIMES, or of fewer where these would take longer than LONG."""
    found: list[float] = []
    while len(found) < TIMES and sum(found) < LONG:
        began = clock()
        call()
        found.append(clock() - began)
    return min(found)


def rows(axes: dict[str, tuple[float, ...]]) -> Iterator[dict[str, Any]]:
    """A row for every side and size."""
    for side in (*OURS, *THEIRS):
        fitted(side, counts(Size(n=600)), Size())()  # imports and kernels
    for axis, values in axes.items():
        for value in values:
            size = BASE.get(axis, Size())._replace(**{axis: value})
            x = counts(size)
            for side in (*OURS, *THEIRS):
                if not measured(side, axis):
                    continue
                if axis == "processes":
                    took = min(spread(side, x, size) for _ in range(TIMES))
                else:
                    clock = time.perf_counter if axis == "threads" else time.process_time
                    took = seconds(fitted(side, x, size), clock)
                yield {"axis": axis, "size": value, "side": side, "seconds": f"{took:.4g}"}


def slope(points: list[tuple[float, float]]) -> float:
    """Of log(seconds) over log(size) in the larger half of the sizes."""
    points = sorted(points)[-max(2, (len(points) + 1) // 2) :]
    return float(np.polyfit(*np.log(np.array(points)).T, 1)[0])


def curves(table: list[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """(size, seconds) by axis and side."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in table:
        points = found.setdefault((row["axis"], row["side"]), [])
        points.append((float(row["size"]), float(row["seconds"])))
    return found


def draw(table: list[dict[str, Any]]) -> None:
    """A panel for every axis."""
    import matplotlib.pyplot as plt

    axes, sides = list(dict.fromkeys(row["axis"] for row in table)), [*OURS, *THEIRS]
    shape = -(-len(axes) // 3), min(3, len(axes))
    size = (3.4 * shape[1] + 2, 3 * shape[0] + 0.5)
    figure, panels = plt.subplots(*shape, figsize=size, layout="constrained", squeeze=False)
    for axis, panel in zip(axes, panels.flat, strict=False):
        for (where, side), points in curves(table).items():
            if where == axis:
                dashed = "--" if side in THEIRS else "-"
                style = {"color": f"C{sides.index(side)}", "marker": "o", "ms": 3, "label": side}
                panel.loglog(*zip(*points, strict=True), dashed, **style)
        panel.set_xlabel(axis)
        panel.set_ylabel("seconds" if axis in BASE else "CPU seconds")
        sizes = sorted({float(row["size"]) for row in table if row["axis"] == axis})
        if len(sizes) < 6:
            panel.set_xticks(sizes, [f"{size:g}" for size in sizes])
            panel.set_xticks([], minor=True)
    for panel in panels.flat[len(axes) :]:
        panel.remove()
    lines = {
        s: line for p in panels.flat for line, s in zip(*p.get_legend_handles_labels(), strict=True)
    }
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=3)
    figure.savefig(HERE / "growth.png", dpi=60)


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="larger sizes")
    parser.add_argument("--axes", nargs="*", choices=list(AXES), default=list(AXES), help="which")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    sizes, path = FULL if arguments.full else AXES, HERE / "growth.csv"
    table = []
    if path.is_file():
        with path.open(newline="") as file:
            table = [row for row in csv.DictReader(file) if row["axis"] not in arguments.axes]
    table += rows({axis: sizes[axis] for axis in arguments.axes})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("axis", "size", "side", "seconds"))
        writer.writeheader()
        writer.writerows(table)
    draw(table)
    print(
        "| grows with | side | sizes | seconds, least to most | slope |", "|---" * 5 + "|", sep="\n"
    )
    for (axis, side), points in curves(table).items():
        (a, s), (b, t) = points[0], points[-1]
        print(f"| {axis} | {side} | {a:g} to {b:g} | {s:.3g} to {t:.3g} | {slope(points):.2f} |")


if __name__ == "__main__":
    main()
