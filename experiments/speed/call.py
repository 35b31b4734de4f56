"""How long a user waits: the whole call ``nmfnet.fit(X, ...)`` against scikit-learn's.

CPU seconds of second and later calls in a process, on one thread, sides in turn. scikit-learn runs
until its own rule ends it (``cd`` at tol 1e-4, ``mu`` for KL at tol 1e-6 and at most 1000 iterations).
The call of nmfnet has the ``max_iter`` at which its objective is at or below that, which a call
before the clock has told; a random start that ends above it counts with its whole call, and the next
one follows. Beside it stand the solver's kernel alone, as ``benchmark.py`` times it, and the call as it
comes: default settings, up to the certificate that it has converged. Workloads "x ITERATIONS" run so
many on both sides.

    python experiments/speed/call.py                    # everything, about ten minutes
    python experiments/speed/call.py --only tiny wide   # some workloads

Writes ``call.csv`` beside this file and prints the table.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

from benchmark import HERE, Pair, child_of, load, objective, ours, sklearn_options, start

TIMES = 5
"""Seeds, each with a call of both sides; medians are reported."""

MOST = 20
"""Starts that a call may need."""

STEP = 5
"""Iterations from one ``max_iter`` that is tried to the next."""


class Workload(NamedTuple):
    """A matrix and a rank; ``iterations``: so many on both sides, with no other end."""

    data: str
    shape: tuple[int, int] | None
    k: int
    loss: str
    iterations: int | None = None

    @property
    def heading(self) -> str:
        """What it is called in tables."""
        fixed = "" if self.iterations is None else f" x {self.iterations}"
        return f"{self.data} {self.loss}{fixed}"


WORKLOADS = (
    Workload("sbs21-breast", None, 3, "frobenius", 20),
    Workload("tall", (3_000, 96), 12, "frobenius"),
    Workload("tall", (3_000, 96), 12, "kl"),
    Workload("wide", (400, 2_000), 15, "frobenius"),
    Workload("wide", (400, 2_000), 15, "kl"),
    Workload("large", (200_000, 200), 20, "frobenius", 20),
    Workload("large", (200_000, 200), 20, "kl", 5),
    Workload("digits", None, 16, "frobenius"),
    Workload("digits", None, 16, "kl"),
    Workload("pcawg-sbs96", None, 20, "frobenius"),
    Workload("pcawg-sbs96", None, 20, "kl"),
    Workload("orl-faces", None, 25, "frobenius"),
    Workload("orl-faces", None, 25, "kl"),
)


def matrix(work: Workload) -> Any:
    """X in float32: planted counts of a shape, or a data set."""
    import numpy as np

    from nmfnet.data import Planted

    if work.shape is None:
        return load(work.data)
    n, f = work.shape
    source = Planted(n_samples=n, n_features=f, n_components=work.k, noise="poisson")
    return source.read().values.astype(np.float32)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, and what it gives."""
    began = time.process_time()
    found = call()
    return time.process_time() - began, found


def theirs(x: Any, work: Workload, seed: int) -> tuple[Pair, int]:
    """The answer of scikit-learn and its iterations."""
    from sklearn.decomposition import NMF

    options = sklearn_options(work.loss)
    if work.iterations is not None:
        options |= {"max_iter": work.iterations, "tol": 0.0}
    model = NMF(work.k, init="random", random_state=seed, **options)
    return (model.fit_transform(x), model.components_), int(model.n_iter_)


def fit(x: Any, work: Workload, seed: int, **settings: Any) -> Any:
    """The call that is measured."""
    import nmfnet

    return nmfnet.fit(x, n_components=work.k, loss=work.loss, seed=seed, threads=1, **settings)


def factors(model: Any) -> Pair:
    """W and H of a fitted model."""
    W, H = (model.factors[name]()[int(model.best)].detach().numpy() for name in ("W", "H"))
    return W * model.units.code, H * model.units.components


def enough(x: Any, work: Workload, seed: int, target: float) -> int | None:
    """Iterations, in fives, after which the call is at the target; None if it ends above."""
    history = fit(x, work, seed).plot.run.history
    step = int(history["iteration"][0])
    for end, value in zip(history["iteration"], history["objective"], strict=True):
        if value <= target:
            for most in range(int(end) - step + STEP, int(end) + 1, STEP):
                found = fit(x, work, seed, max_iter=most, tol=0.0)
                if objective(x, *factors(found), work.loss) <= target:  # in float64
                    return most
    return None


def call(x: Any, work: Workload, seed: int, target: float) -> tuple[float, int, Any]:
    """Seconds, iterations and model of calls up to the target, in as many starts as it takes."""
    if work.iterations is not None:
        seconds, model = timed(lambda: fit(x, work, seed, max_iter=work.iterations, tol=0.0))
        return seconds, work.iterations, model
    total = 0.0
    for again in range(MOST):
        own = seed + 1000 * again
        most = enough(x, work, own, target)
        settings = {} if most is None else {"max_iter": most, "tol": 0.0}
        seconds, model = timed(lambda own=own, settings=settings: fit(x, work, own, **settings))
        total += seconds
        if most is not None:
            return total, most, model
    raise SystemExit(f"none of {MOST} starts reaches scikit-learn's objective")


def measure(work: Workload) -> list[dict[str, float]]:
    """A row for each seed."""
    x = matrix(work)
    for _ in range(2):  # imports, kernels, caches
        fit(x, work, 99, max_iter=work.iterations or 20)
    theirs(x, work._replace(iterations=2), 99)
    ours(x, work.loss, start(x, work.k, 99), None)
    rows = []
    for seed in range(TIMES):
        peer_seconds, (answer, peer_iterations) = timed(lambda seed=seed: theirs(x, work, seed))
        target = objective(x, *answer, work.loss)
        seconds, iterations, model = call(x, work, seed, target)
        row = {
            "peer_seconds": peer_seconds,
            "seconds": seconds,
            "peer_iterations": peer_iterations,
            "iterations": iterations,
            "objective": objective(x, *factors(model), work.loss) / target - 1,
        }
        if work.iterations is None:
            row["kernel_seconds"] = ours(x, work.loss, start(x, work.k, seed), target)[0]
            row["default_seconds"], model = timed(lambda seed=seed: fit(x, work, seed))
            row["default_objective"] = objective(x, *factors(model), work.loss) / target - 1
        rows.append(row)
    return rows


COLUMNS = (
    *("workload", "n", "f", "k", "peer_seconds", "seconds", "ratio", "peer_iterations"),
    *("iterations", "objective", "kernel_seconds", "default_seconds", "default_objective"),
)


def summary(work: Workload, rows: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over seeds."""
    x = matrix(work)
    found = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    found["ratio"] = statistics.median(row["peer_seconds"] / row["seconds"] for row in rows)
    shown = {key: f"{value:.4g}" for key, value in found.items()}
    return {"workload": work.heading, "n": x.shape[0], "f": x.shape[1], "k": work.k, **shown}


def main() -> None:
    """Measure what is asked for and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="*", help="workloads whose name contains one of these words"
    )
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.child is not None:
        print(json.dumps(measure(WORKLOADS[arguments.child])))
        return
    path = HERE / "call.csv"
    table: dict[str, dict[str, Any]] = {}
    if path.is_file():
        with path.open(newline="") as file:
            table = {row["workload"]: row for row in csv.DictReader(file)}
    print(f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", sep="\n")
    for i, work in enumerate(WORKLOADS):
        if arguments.only and not any(word in work.heading for word in arguments.only):
            continue
        rows = child_of(__file__, ["--child", str(i)])
        if isinstance(rows, dict):
            print(f"| {work.heading} | {rows['error']} |", flush=True)
            continue
        table[work.heading] = row = summary(work, rows)
        print(f"| {' | '.join(str(row.get(key, '')) for key in COLUMNS)} |", flush=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(table[one.heading] for one in WORKLOADS if one.heading in table)
    packages = ", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "torch", "numba"))
    print(f"\n{os.cpu_count()} cores, Python {platform.python_version()}, {packages}")


if __name__ == "__main__":
    main()
