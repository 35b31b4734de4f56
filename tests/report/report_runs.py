"""Run folders as training writes them, without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

BASE = {
    "data": {"_target_": "nmfnet.data.Digits"},
    "split": {"_target_": "nmfnet.data.RowSplit", "test_fraction": 0.2},
    "loss": {"_target_": "nmfnet.core.losses.Frobenius"},
    "penalty": {},
    "constraint": {"_target_": "nmfnet.core.constraints.Project"},
    "init": {"_target_": "nmfnet.core.inits.Random"},
    "solver": {"_target_": "nmfnet.solvers.multiplicative.Multiplicative", "n_inner": 100},
    "model": {"_target_": "nmfnet.models.nmf.NMF", "n_components": 4},
    **{"n_restarts": 2, "seed": 0, "max_iter": 1000, "tol": 1e-5, "window": 20, "patience": 3},
    **{"kkt_tol": None, "time_limit": None, "dtype": "float32"},
    **{"runs": "runs", "run_dir": None, "threads": "auto", "trainer": {}, "callbacks": {}},
}
CHOICES = {
    **{"model": "nmf", "data": "digits", "split": "rows", "loss": "frobenius", "penalty": "none"},
    **{"constraint": "project", "init": "random", "solver": "mu", "launcher": "local"},
}


def make_run(
    root: Path,
    name: str,
    *,
    model: str = "nmf",
    k: int = 4,
    seed: int = 0,
    error: float = 0.4,
    metrics: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    origin: dict[str, Any] | None = None,
    figures: tuple[str, ...] = ("components", "convergence"),
) -> Path:
    """One finished run below ``root``; returns its folder."""
    folder = root / model / name
    (folder / "figures").mkdir(parents=True)
    cfg: dict[str, Any] = json.loads(json.dumps(BASE)) | {"seed": seed}
    cfg["model"]["n_components"] = k
    cfg["choices"] = CHOICES | {"model": model} | (choices or {})
    for key, value in (config or {}).items():
        node = cfg
        *path, last = key.split(".")
        for step in path:
            node = node[step]
        node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(cfg, sort_keys=False))
    numbers = {
        **{"n_iter": 500, "seconds": 1.5, "converged": True, "objective": 100.0, "n_restarts": 2},
        **{"train/loss": 100.0, "train/relative_error": error - 0.01, "test/relative_error": error},
        **{"stability/matched_cosine": 0.95, "floor/relative_error": 0.2},
    }
    write_json(folder / "metrics.json", numbers | (metrics or {}))
    (folder / "history.csv").write_text(
        "iteration,seconds,objective,objective_max,relative_change,live,term/data\n"
        + "".join(f"{100 * i},{0.1 * i},{100 + 50 / i},200,nan,2,1\n" for i in range(1, 6))
    )
    write_json(
        folder / "provenance.json",
        {
            **{"finished": "2026-01-01T00:00:00+00:00", "command": ["/bin/nmfnet-train", "seed=1"]},
            **{"versions": {"nmfnet": "0.1.0"}, "data_sha256": "ab" * 32, "notes": ["a note"]},
        }
        | (origin or {}),
    )
    rng = np.random.default_rng(seed + k)
    np.savez(
        folder / "factors.npz",
        W=rng.random((6, k)),
        H=rng.random((k, 5)),
        sample_names=np.array([f"s{i}" for i in range(6)]),
        feature_names=np.array([f"f{i}" for i in range(5)]),
    )
    for figure in figures:
        draw(folder / "figures" / f"{figure}.png", seed)
    return folder


def draw(file: Path, seed: int = 0, size: int = 8) -> None:
    """A small picture, another one for every seed."""
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(file)


def write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content))


def begin(folder: Path, *lines: str) -> Path:
    """A run that has no results yet; its process is at work inside ``locked(folder)``."""
    folder.mkdir(parents=True)
    (folder / "history.csv").write_text("iteration,seconds,objective\n" + "".join(lines))
    return folder


def make_job(sweep: Path, number: int, run_dir: Path, status: str, **more: Any) -> None:
    """The record of one job of a sweep."""
    (sweep / "jobs").mkdir(parents=True, exist_ok=True)
    record = {"job": number, "overrides": ["++seed=7", "model=nmf"], "run_dir": str(run_dir)}
    write_json(sweep / "jobs" / f"{number:04d}.json", record | {"status": status} | more)


def zoo(root: Path, *, seeds: int = 3, sizes: tuple[int, ...] = (2, 4, 8)) -> None:
    """Three models, one clearly worse, one the same up to noise."""
    rng = np.random.default_rng(0)
    for model, worse, spread in (("nmf", 0, 0), ("convex_nmf", 0.05, 0.002), ("ae", 0, 0.02)):
        for k in sizes:
            for seed in range(seeds):
                error = 0.5 - 0.02 * k + 0.01 * seed + worse + spread * rng.standard_normal()
                make_run(root, f"{k}-{seed}", model=model, k=k, seed=seed, error=error)
