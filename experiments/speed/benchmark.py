"""How long until the peer's own answer is reached: nmfnet's solvers against other packages.

For every workload and seed both sides start from the same random W and H and run on one thread. The
peer runs until it stops by its own rule; the clock of nmfnet stops when its objective is at or below the
peer's. Sides take turns, a first run of each is not counted (compilation, caches), and medians over
seeds are reported with the ratio peer / nmfnet.

Seconds of single fits are CPU seconds, so that other work on the machine does not enter. For many
restarts both sides use all cores, joblib on the peer's side and threads on ours: those are wall-clock
seconds, for a machine that does nothing else.

    pip install -e '.[bench]'
    python experiments/speed/benchmark.py                         # everything, about an hour
    python experiments/speed/benchmark.py --only digits orl       # some workloads
    python experiments/speed/benchmark.py --peers scikit-learn    # without the optional packages

Writes ``speed.json`` and ``speed.png`` beside this file and prints the table.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PATIENCE = 400
"""Seconds that a peer has for one workload, all seeds."""

NEAR = 1.1
"""A peer that ends further above scikit-learn's objective has given up, and is not called fast."""

Pair = tuple[Any, Any]
Side = Callable[[Any, int, str, Pair], tuple[float, Pair, int]]
"""(X, k, loss, first W and H) -> seconds, W and H, iterations."""


class Workload(NamedTuple):
    """A matrix, a rank and a loss; ``fits`` > 1 asks for that many restarts on both cores."""

    data: str
    k: int
    loss: str
    fits: int = 1
    seeds: int = 5


WORKLOADS = {
    f"{name} {loss}{' x100' if fits > 1 else ''}": Workload(data, k, loss, fits, seeds)
    for name, data, k, losses, fits, seeds in (
        ("digits", "digits", 16, ("frobenius", "kl"), 1, 5),
        ("scenario8", "sbs-syn-scenario8", 11, ("frobenius", "kl"), 1, 5),
        ("pcawg", "pcawg-sbs96", 20, ("frobenius", "kl"), 1, 5),
        ("orl", "orl-faces", 25, ("frobenius", "kl"), 1, 5),
        ("planted", "planted-large", 40, ("frobenius", "kl"), 1, 3),
        ("20news", "20news-bow", 20, ("frobenius",), 1, 3),
        ("20news", "20news-bow", 20, ("kl",), 1, 1),
        ("sbs21", "sbs21-breast", 4, ("frobenius", "kl"), 100, 3),
        ("scenario8", "sbs-syn-scenario8", 11, ("frobenius", "kl"), 100, 1),
    )
    for loss in losses
}


def load(name: str) -> Any:
    """X in float32, dense or CSR."""
    import numpy as np

    from nmfnet.data import Planted
    from nmfnet.data.sources.registry import source

    if name == "planted-large":
        options = {"n_samples": 10_000, "n_features": 2_000, "n_components": 40}
        matrix = Planted(**options, noise="gaussian", noise_level=0.1, sparsity=0.6, seed=0).read()
    else:
        matrix = source(name).read()
    return matrix.values.astype(np.float32)


def start(x: Any, k: int, seed: int) -> Pair:
    """The same random start for both sides: |N(0, 1)| scaled to the mean of X."""
    import numpy as np

    rng = np.random.default_rng(seed)
    scale = np.sqrt(x.mean() / k)
    W, H = rng.standard_normal((x.shape[0], k)), rng.standard_normal((k, x.shape[1]))
    return (np.abs(W) * scale).astype(x.dtype), (np.abs(H) * scale).astype(x.dtype)


def objective(x: Any, W: Any, H: Any, loss: str) -> float:
    """Objective of any side's answer, by one piece of code in float64."""
    from nmfnet import metrics

    if loss == "kl":
        return metrics.kl(x, metrics.Product(W, H))
    size = x.shape[0] * x.shape[1]
    return 0.5 * metrics.mse(x, metrics.Product(W, H)) * size


# ---------------------------------------------------------------------- the sides
def sklearn_options(loss: str) -> dict[str, Any]:
    """How scikit-learn runs, here and in ``call.py``."""
    if loss == "kl":
        return {"solver": "mu", "beta_loss": "kullback-leibler", "tol": 1e-6, "max_iter": 1000}
    return {"solver": "cd", "tol": 1e-4, "max_iter": 5000}


def sklearn_side(x: Any, k: int, loss: str, first: Pair) -> tuple[float, Pair, int]:
    """scikit-learn: ``cd`` with tol 1e-4, or ``mu`` with tol 1e-6 and at most 1000 iterations."""
    from sklearn.decomposition import NMF

    model = NMF(k, init="custom", **sklearn_options(loss))
    W, H = (v.copy() for v in first)
    began = time.process_time()
    W = model.fit_transform(x, W=W, H=H)
    return time.process_time() - began, (W, model.components_), model.n_iter_


def torchnmf_side(x: Any, k: int, loss: str, first: Pair) -> tuple[float, Pair, int]:
    """torchnmf: its ``NMF.fit`` with tol 1e-4 (dense X only)."""
    import torch
    from torchnmf.nmf import NMF

    W, H = (torch.from_numpy(v.copy()) for v in first)  # X ~ H Wᵀ in its letters
    model = NMF(W=H.T.contiguous(), H=W)
    data = torch.from_numpy(x)
    began = time.process_time()
    steps = model.fit(data, beta=1 if loss == "kl" else 2, tol=1e-4, max_iter=1000)
    seconds = time.process_time() - began
    answer = model.H.detach().numpy(), model.W.detach().numpy().T
    return seconds, answer, int(steps)


def minibatch_side(x: Any, k: int, loss: str, first: Pair) -> tuple[float, Pair, int]:
    """scikit-learn's ``MiniBatchNMF`` as it comes (batches of 1024, tol 1e-4), 1000 passes at most."""
    from sklearn.decomposition import MiniBatchNMF

    beta = "kullback-leibler" if loss == "kl" else "frobenius"
    model = MiniBatchNMF(k, init="custom", beta_loss=beta, max_iter=1000)
    W, H = (v.copy() for v in first)
    began = time.process_time()
    W = model.fit_transform(x, W=W, H=H)
    return time.process_time() - began, (W, model.components_), model.n_iter_


def nmf_torch_side(algorithm: str) -> Side:
    """nmf-torch in batch mode with its default tolerance, from a random start of its own."""

    def side(x: Any, k: int, loss: str, first: Pair) -> tuple[float, Pair, int]:
        from nmf import run_nmf

        beta = "kullback-leibler" if loss == "kl" else "frobenius"
        options = {"init": "random", "beta_loss": beta, "algo": algorithm, "n_jobs": 1}
        options["random_state"] = int(1e6 * first[0].flat[0])  # another one for every start
        began = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            W, H, _ = run_nmf(x, k, **options)
        seconds = time.process_time() - began
        steps = re.findall(r"niter=(\d+)", printed.getvalue())
        return seconds, (W, H), int(steps[-1]) if steps else 0

    return side


PEERS: dict[str, Side] = {
    "scikit-learn": sklearn_side,
    "MiniBatchNMF": minibatch_side,
    "torchnmf": torchnmf_side,
    "nmf-torch mu": nmf_torch_side("mu"),
    "nmf-torch hals": nmf_torch_side("hals"),
    "nmf-torch bpp": nmf_torch_side("bpp"),
}


def takes_part(peer: str, work: Workload) -> bool:
    """Whether a peer is measured: torch's ones on dense X, nmf-torch with its algorithms for the loss."""
    if peer == "scikit-learn":
        return True
    if work.fits > 1:
        return False
    if peer == "MiniBatchNMF":
        return True
    of_loss = peer == "torchnmf" or (peer == "nmf-torch mu") == (work.loss == "kl")
    return of_loss and work.data != "20news-bow"


def ours(x: Any, loss: str, first: Pair, target: float | None) -> tuple[float, float, int]:
    """Nmfnet's hals (Frobenius) or newton (KL) until the objective is at the target.

    A run that settles in a worse local minimum than the peer's starts again from another random
    start, with the clock running on.
    """
    import torch

    from nmfnet.kernels.arrays import as_tensor
    from nmfnet.kernels.extrapolation import begin
    from nmfnet.kernels.hals import hals
    from nmfnet.kernels.matrix import matrix
    from nmfnet.kernels.newton import newton

    step, chunk = (newton, 5) if loss == "kl" else (hals, 10)
    W, H = (torch.from_numpy(v) for v in first)
    began = time.process_time()
    data = matrix(as_tensor(x, torch.float32), transposed=True if loss == "kl" else None)
    state = begin(W, H)
    n_iter, value, again = 0, float("inf"), 0
    while n_iter < 3000 and (value > target if target is not None else n_iter < chunk):
        before, value = value, float(step(state, data, chunk)[0])
        n_iter += chunk
        if target is not None and value > target and before - value < 1e-5 * value:
            again += 1
            W, H = (torch.from_numpy(v) for v in start(x, W.shape[1], 10_000 + again))
            state, value = begin(W, H), float("inf")
    return time.process_time() - began, value, n_iter


# ---------------------------------------------------------------------- measurements
def one_fit(work: Workload, peer: str) -> list[dict[str, Any]]:
    """Peer and nmfnet in turn, from the same starts, on one thread."""
    x = load(work.data)
    ours(x, work.loss, start(x, work.k, 99), None)
    rows = []
    for seed in range(work.seeds):
        first = start(x, work.k, seed)
        theirs, (W, H), n_theirs = PEERS[peer](x, work.k, work.loss, first)
        target = objective(x, W, H, work.loss)
        if not math.isfinite(target):
            raise SystemExit(f"ends with NaN (start {seed})")
        seconds, value, n_ours = ours(x, work.loss, first, target)
        rows.append(
            {
                "seed": seed, "peer_seconds": theirs, "seconds": seconds, "target": target,
                "reached": value, "peer_iterations": n_theirs, "iterations": n_ours,
            }
        )  # fmt: skip
    return rows


def many_fits(work: Workload) -> list[dict[str, Any]]:
    """Many restarts: joblib over scikit-learn on all cores, against ours in threads.

    nmfnet runs until the *mean* objective of its restarts is within 0.1 % of the peer's mean or below
    (single restarts end in different local minima on both sides).
    """
    import numpy as np
    import torch
    from joblib import Parallel, delayed

    from nmfnet.kernels.extrapolation import begin
    from nmfnet.kernels.hals import hals
    from nmfnet.kernels.matrix import matrix
    from nmfnet.kernels.newton import newton

    x = load(work.data)
    cores = os.cpu_count() or 1
    torch.set_num_threads(cores)
    step, chunk = (newton, 5) if work.loss == "kl" else (hals, 20)  # as often as a run looks
    rows = []
    with Parallel(cores) as pool:
        pool(delayed(sklearn_side)(x, work.k, work.loss, start(x, work.k, s)) for s in range(cores))
        ours(x, work.loss, start(x, work.k, 99), None)
        for seed in range(work.seeds):
            starts = [start(x, work.k, 1000 * seed + i) for i in range(work.fits)]
            began = time.perf_counter()
            answers = pool(delayed(sklearn_side)(x, work.k, work.loss, s) for s in starts)
            theirs = time.perf_counter() - began
            means = [objective(x, *pair, work.loss) for _, pair, _ in answers]
            target = 1.001 * float(np.mean(means))
            W, H = (torch.from_numpy(np.stack([s[i] for s in starts])) for i in (0, 1))
            began = time.perf_counter()
            data, state = matrix(torch.from_numpy(x)), begin(W, H)
            value, n_iter = float("inf"), 0
            while value > target and n_iter < 3000:
                value = float(step(state, data, chunk).mean())
                n_iter += chunk
            rows.append(
                {
                    "seed": seed, "peer_seconds": theirs, "seconds": time.perf_counter() - began,
                    "target": target, "reached": value, "iterations": n_iter,
                    "peer_iterations": int(np.median([n for *_, n in answers])),
                }
            )  # fmt: skip
    return rows


def memory(work: Workload, side: str) -> float:
    """Peak resident memory of a fit, in MB, above what it was with the packages and X loaded."""
    x = load(work.data)
    first = start(x, work.k, 0)
    if side == "nmfnet":
        import torch

        import nmfnet.kernels.newton  # noqa: F401

        torch.zeros(1)
        tiny = x[:50, :40]
        ours(tiny, work.loss, start(tiny, work.k, 0), None)  # compile before the count
    else:
        import sklearn.decomposition  # noqa: F401
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
    before = status("VmRSS")
    if side == "nmfnet":
        ours(x, work.loss, first, None)
    else:
        sklearn_side(x, work.k, work.loss, first)
    return status("VmHWM") - before


def status(field: str) -> float:
    """A line of this process's ``/proc/self/status``, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def child(arguments: list[str]) -> Any:
    """Run a measurement of this program in a process of its own."""
    return child_of(__file__, arguments)


def child_of(program: str, arguments: list[str]) -> Any:
    """Run a measurement in a process of its own, on one thread unless it asks for more."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    try:
        done = subprocess.run(
            [sys.executable, program, *arguments],
            env={**os.environ, **single, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {PATIENCE} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------------- the report
def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over seeds."""
    result = {
        key: statistics.median(row[key] for row in rows)
        for key in ("peer_seconds", "seconds", "peer_iterations", "iterations")
    }
    result["ratio"] = statistics.median(row["peer_seconds"] / row["seconds"] for row in rows)
    result["reached"] = all(row["reached"] <= row["target"] for row in rows)
    result["target"] = statistics.median(row["target"] for row in rows)
    return result | {"runs": rows}


def fastest(sides: dict[str, Any]) -> str:
    """The peer that was done first, of those whose objective is at most NEAR times scikit-learn's."""
    most = NEAR * sides["scikit-learn"]["target"]
    seconds = {
        peer: found["peer_seconds"]
        for peer, found in sides.items()
        if "ratio" in found and found["target"] <= most
    }
    return min(seconds, key=lambda peer: seconds[peer])


def against(results: dict[str, Any]) -> str:
    """Least ratio and geometric mean, against scikit-learn and against the fastest peer."""
    lines = ["| | workloads | scikit-learn: least | mean | fastest near peer: least | mean |"]
    lines.append("|---|---|---|---|---|---|")
    for kind in ("frobenius", "kl", "x100"):
        of = [s for name, s in results.items() if name.endswith(kind)]
        cells = [kind, str(len(of))]
        for peers in (["scikit-learn"] * len(of), [fastest(sides) for sides in of]):
            ratios = [sides[peer]["ratio"] for sides, peer in zip(of, peers, strict=True)]
            cells += [f"{min(ratios):.1f}", f"{statistics.geometric_mean(ratios):.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table(results: dict[str, Any]) -> str:
    """Markdown, a line per workload and peer."""
    heads = ["workload", "peer", "objective", "peer s", "nmfnet s", "peer iterations", "ours"]
    heads += ["ratio", "MB, ours / peer"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, sides in results.items():
        for peer, found in sides.items():
            if peer == "memory":
                continue
            if "error" in found:
                lines.append(f"| {name} | {peer} | {found['error']} | | | | | | |")
                continue
            base = sides["scikit-learn"].get("target")
            level = "" if base in (None, found["target"]) else f"{found['target'] / base - 1:+.1%}"
            mb = sides.get("memory", {}) if peer == "scikit-learn" else {}
            ratio = f"{mb['nmfnet']:.0f} / {mb['scikit-learn']:.0f}" if mb else ""
            reached = sum(run["reached"] <= run["target"] for run in found["runs"])
            mark = "" if found["reached"] else f" (reached {reached} of {len(found['runs'])})"
            lines.append(
                f"| {name} | {peer} | {level} | {found['peer_seconds']:.3g} | {found['seconds']:.3g} | "
                f"{found['peer_iterations']:.0f} | {found['iterations']:.0f} | "
                f"{found['ratio']:.1f}{mark} | {ratio} |"
            )
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """Ratios as bars."""
    from matplotlib.figure import Figure

    bars = [
        (name, found["ratio"])
        for name, sides in results.items()
        for peer, found in sides.items()
        if peer == "scikit-learn" and "ratio" in found
    ]
    figure = Figure(figsize=(7, 0.32 * len(bars) + 1), layout="tight")
    axes = figure.add_subplot()
    axes.barh([name for name, _ in bars], [ratio for _, ratio in bars], color="#332288")
    axes.axvline(1, color="0.4", linewidth=1)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("seconds of scikit-learn / seconds of nmfnet to the same objective")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure what is asked for and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="*", help="workloads whose name contains one of these words"
    )
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.child:
        task, name = arguments.child
        work = WORKLOADS[name]
        if task.startswith("memory:"):
            print(json.dumps(memory(work, task.partition(":")[2])))
        else:
            print(json.dumps(many_fits(work) if work.fits > 1 else one_fit(work, task)))
        return
    path = HERE / "speed.json"
    stored = json.loads(path.read_text()) if path.is_file() else {"results": {}}
    results = stored["results"]
    for name, work in WORKLOADS.items():
        if arguments.only and not any(word in name for word in arguments.only):
            continue
        sides = results.setdefault(name, {})
        for peer in arguments.peers:
            if not takes_part(peer, work):
                continue
            rows = child(["--child", peer, name])
            sides[peer] = rows if isinstance(rows, dict) else summary(rows)
        if work.fits == 1 and "scikit-learn" in arguments.peers:
            found = {s: child(["--child", f"memory:{s}", name]) for s in ("scikit-learn", "nmfnet")}
            if all(isinstance(mb, float) for mb in found.values()):
                sides["memory"] = found
        print(*table({name: sides}).splitlines()[2:], sep="\n", flush=True)
        path.write_text(json.dumps({"machine": machine(), "results": results}, indent=1) + "\n")
    ordered = {name: results[name] for name in WORKLOADS if name in results}
    print(table(ordered), against(ordered), sep="\n\n")
    draw(ordered, HERE / "speed.png")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    from nmfnet.run.provenance import PACKAGES, _version

    return {
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            name: _version(name) for name in (*PACKAGES, "numba", "torchnmf", "nmf-torch")
        },
    }


if __name__ == "__main__":
    main()
