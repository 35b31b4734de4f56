"""Where a result came from: versions, code, machine, data."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from nmfnet.config import Config
from nmfnet.data.module import MatrixDataModule

PACKAGES = (
    "nmfnet",
    "torch",
    "lightning",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scipy",
    "scikit-learn",
)


def provenance(cfg: Config, datamodule: MatrixDataModule) -> dict[str, Any]:
    """What ``provenance.json`` holds; plain values only."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "seed": cfg.seed,
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": _git(Path(__file__).parent),
        "device": str(datamodule.device),
        "device_name": torch.cuda.get_device_name()
        if datamodule.device.type == "cuda"
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "data_sha256": datamodule.fingerprint,
        "data_files": dict(datamodule.matrix.sources),
        "citation": datamodule.matrix.citation,
        "kind": datamodule.matrix.kind,
    }


@cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    """Commit of the code that ran and whether it was changed; None outside a clone of nmfnet."""
    if not (folder.parent / ".git").exists():
        return None
    try:
        answers = [
            subprocess.run(
                ["git", "-C", str(folder.parent), *words],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": answers[0], "changed": bool(answers[1])}
