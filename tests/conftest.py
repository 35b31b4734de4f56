"""Shared by all tests: shapes checked at run time, and tests that need what is not here skipped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy comes: tests share the cores, one thread each

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402
import torch  # noqa: E402

try:
    from jaxtyping import install_import_hook

    kernels = Path(__file__).parent.parent / "nmfnet" / "kernels"  # not what numba compiles
    checked = [f"kernels.{file.stem}" for file in kernels.glob("*.py") if file.stem != "__init__"]
    install_import_hook(
        [f"nmfnet.{part}" for part in ("core", "models", "solvers", *checked)],
        "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
    )
except ImportError:  # the shape annotations are then plain hints
    pass


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        quick = item.get_closest_marker("quick")
        if quick and item.callspec.id not in quick.args:  # type: ignore[attr-defined]
            item.add_marker("slow")
    data = os.environ.get("NMFNET_DATA")
    reasons = {
        "catalogue": None if data and Path(data).is_dir() else "NMFNET_DATA names no data folder",
        "gpu": None if torch.cuda.is_available() else "no CUDA device",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
