"""Does every model settle? Each one on each data set and loss, with its certificate.

    python experiments/zoo/zoo.py OUT.csv [--models a,b] [--data digits8,...] [--losses ...] [--set k=v]

A row of the table is one run with default settings and a limit of CPU seconds: what `nmfnet.fit` took of
them, the objective, how the run ended and what its certificate found, iterations and solver. With
--descent N also by how much, relative to the objective, two other methods lower it from there in N
iterations, SciPy's L-BFGS-B and projected spectral gradients. Neither shares code or state with the run;
both measure factors in units of their root mean square.
"""

from __future__ import annotations

import argparse
import csv
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize

import nmfnet
from nmfnet.api import configuration
from nmfnet.core.constraints import Project
from nmfnet.core.model import Factorization
from nmfnet.errors import UserError
from nmfnet.run import train
from nmfnet.run.callbacks import convergence
from nmfnet.settings.objects import build
from nmfnet.types import Batch

MODELS = ["nmf", "convex_nmf", "projective_nmf", "autoencoder", "deep_autoencoder", "archetypes"]
MODELS += ["hierarchical_nmf", "deep_nmf", "neural_nmf", "unrolled_nmf", "muse_xae"]
MODELS += ["semi_supervised_nmf"]
DATA = {
    "digits8": ("digits", 8),
    "digits16": ("digits", 16),
    "faces25": ("orl-faces", 25),
    "signatures3": ("sbs-syn-scenario8", 3),
}
COLUMNS = ["model", "data", "loss", "solver", "cpu_seconds", "objective", "relative_error"]
COLUMNS += ["status", "certificate_fall", "n_iter", "fall_lbfgs", "fall_spg", "note"]
Slope = Callable[[np.ndarray], tuple[float, np.ndarray]]


def parameters_of(model: Factorization) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """The parameters of one restart, the unit of every entry, and its lower bound."""
    bounded = {id(f.raw) for f in model.factors.values() if isinstance(f.constraint, Project)}
    parameters = list(model.parameters())
    units, lower = [], []
    for p in parameters:
        size = float(p.detach().double().square().mean().sqrt())
        units.append(np.full(p.numel(), size if size > 0 else 1.0))
        lower.append(np.full(p.numel(), 0.0 if id(p) in bounded else -np.inf))
    return parameters, np.concatenate(units), np.concatenate(lower)


def slope_of(model: Factorization, batch: Batch, parameters: list[Any], units: np.ndarray) -> Slope:
    """Objective and gradient as functions of the parameters in their units."""

    def slope(point: np.ndarray) -> tuple[float, np.ndarray]:
        start, values = 0, point * units
        for p in parameters:
            part = torch.from_numpy(values[start : start + p.numel()])
            p.data.copy_(part.reshape(p.shape))
            start += p.numel()
        with torch.enable_grad():
            terms = model.objective(batch)
            objective = torch.stack([t.double() for t in terms.values()]).sum()
        found = torch.autograd.grad(objective, parameters, allow_unused=True)
        grads = [
            np.zeros(p.numel()) if g is None else g.reshape(-1).double().numpy()
            for p, g in zip(parameters, found, strict=True)
        ]
        return float(objective.detach()), np.concatenate(grads) * units

    return slope


def spectral(slope: Slope, x: np.ndarray, lower: np.ndarray, n_iter: int) -> float:
    """Lowest objective of projected gradients with Barzilai-Borwein rates, last ten compared."""
    value, g = slope(x)
    past, lowest = [value], value
    rate = 0.01 * np.sqrt(x.size / max(g @ g, 1e-300))
    for _ in range(n_iter):
        step = np.maximum(x - rate * g, lower) - x
        share = 1.0
        for _ in range(20):
            new, turned = slope(x + share * step)
            if new <= max(past) + 1e-4 * share * (g @ step):
                break
            share /= 4
        else:
            break
        s, y = share * step, turned - g
        x, g = x + s, turned
        past = [*past[-9:], new]
        lowest = min(lowest, new)
        rate = (s @ s) / (s @ y) if s @ y > 0 else 2 * rate
    return lowest


def falls(model: Factorization, batch: Batch, n_iter: int) -> tuple[float, float]:
    """By how much L-BFGS-B and spectral gradients lower the objective, relative to it."""
    model.eval()
    with model.restarts(int(model.best)):
        parameters, units, lower = parameters_of(model)
        slope = slope_of(model, batch, parameters, units)
        x = np.concatenate([p.detach().reshape(-1).double().numpy() for p in parameters]) / units
        before, _ = slope(x)
        bounds = np.stack([lower, np.full_like(lower, np.inf)], 1)
        options: Any = {"maxiter": n_iter, "ftol": 0.0, "gtol": 0.0, "maxcor": 20}
        found = minimize(slope, x, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        other = spectral(slope, x, lower, n_iter)
        slope(x)
    return (before - float(found.fun)) / before, (before - other) / before


def shown(fall: float | None) -> str:
    """A fall in few digits; empty where there was no certificate."""
    return "" if fall is None else f"{fall:.1e}"


def run(model: str, data: str, loss: str, settings: dict[str, Any], n_iter: int) -> dict[str, Any]:
    """One row of the table."""
    name, k = DATA[data]
    table = build(configuration({"data": name}).data).read()
    X = np.asarray(table.values, dtype=np.float32)
    classes = None if table.labels is None else np.unique(table.labels, return_inverse=True)[1]
    row: dict[str, Any] = {"model": model, "data": data, "loss": loss}
    keys = {"n_components": k, "loss": loss, "seed": 0, **settings}
    if model in ("neural_nmf", "hierarchical_nmf", "deep_nmf"):
        keys["model.layers"] = [2 * k, k]
    fit: Any = nmfnet.fit
    since = resource.getrusage(resource.RUSAGE_SELF)
    try:
        fitted = fit(X, model, labels=classes, **keys)
    except UserError as error:
        return row | {"note": str(error)[:100]}
    until = resource.getrusage(resource.RUSAGE_SELF)
    spent = until.ru_utime + until.ru_stime - since.ru_utime - since.ru_stime
    numbers = fitted.metrics
    extra = {} if classes is None else {"labels": torch.from_numpy(classes)}
    batch = Batch(torch.from_numpy(X), torch.arange(len(X)), extra=extra)
    row |= {
        "solver": fitted.solver.name,
        "cpu_seconds": round(spent, 2),
        "objective": f"{float(fitted.objectives[fitted.best]):.8g}",
        "relative_error": f"{numbers['train/relative_error']:.4f}",
        "status": numbers["status"],
        "certificate_fall": shown(numbers["certificate/fall"]),
        "n_iter": int(fitted.n_iter[fitted.best]),
    }
    if not n_iter:
        return row
    try:
        by_lbfgs, by_spg = falls(fitted, batch, n_iter)
        row |= {"fall_lbfgs": f"{by_lbfgs:.2e}", "fall_spg": f"{by_spg:.2e}"}
    except (RuntimeError, AttributeError) as error:
        row["note"] = str(error)[:100]
    return row


def main() -> None:
    """Run what is asked for and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--losses", default="frobenius,kl")
    parser.add_argument("--descent", type=int, default=0, help="iterations of each check")
    parser.add_argument("--limit", type=float, default=60, help="CPU seconds of a run")
    parser.add_argument("--set", action="append", default=[], help="key=value, for every run")
    asked = parser.parse_args()
    import yaml

    convergence.now = train.now = time.process_time  # CPU seconds, whatever else is running
    settings: dict[str, Any] = {"time_limit": asked.limit, "threads": 1}
    settings |= {k: yaml.safe_load(v) for k, v in (pair.split("=", 1) for pair in asked.set)}
    nmfnet.fit(np.eye(6, dtype=np.float32) + 1, n_components=2, max_iter=50)  # imports and caches
    nmfnet.fit(np.eye(6, dtype=np.float32) + 1, n_components=2, max_iter=50, loss="kl")
    with asked.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for data in asked.data.split(","):
            for loss in asked.losses.split(","):
                for model in asked.models.split(","):
                    began = time.monotonic()
                    row = run(model, data, loss, settings, asked.descent)
                    writer.writerow(row)
                    file.flush()
                    wall = time.monotonic() - began
                    print(*(row.get(c, "") for c in COLUMNS), f"({wall:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
