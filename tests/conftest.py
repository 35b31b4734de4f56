"""Shared by all tests: what is quick, what is skipped, and shapes checked at run time if asked for."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy comes: tests share the cores, one thread each

for number, handler in (
    (signal.SIGINT, signal.default_int_handler),  # ignored in the background of a shell
    (signal.SIGHUP, signal.SIG_DFL),  # and under nohup
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

import pytest  # noqa: E402
import torch  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shapes", action="store_true", help="check the shapes of arrays in every call"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let the types and shapes of annotations be checked at run time, which takes two thirds longer."""
    if not config.getoption("--shapes"):
        return
    from jaxtyping import install_import_hook

    kernels = Path(__file__).parent.parent / "nmfnet" / "kernels"  # not what numba compiles
    checked = [f"kernels.{file.stem}" for file in kernels.glob("*.py") if file.stem != "__init__"]
    install_import_hook(
        [f"nmfnet.{part}" for part in ("core", "models", "solvers", *checked)],
        "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
    )


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted: dict[str, set[str]] = {}
    for item in items:
        if quick := item.get_closest_marker("quick"):
            missing = wanted.setdefault(item.nodeid.partition("[")[0], set(quick.args))
            if item.callspec.id not in quick.args:  # type: ignore[attr-defined]
                item.add_marker("slow")
            missing.discard(item.callspec.id)  # type: ignore[attr-defined]
    if not any("::" in argument for argument in config.args):
        for test, missing in wanted.items():
            if missing:
                raise pytest.UsageError(f"{test} has no case {', '.join(sorted(missing))}")
    data = os.environ.get("NMFNET_DATA")
    reasons = {
        "catalogue": None if data and Path(data).is_dir() else "NMFNET_DATA names no data folder",
        "gpu": None if torch.cuda.is_available() else "no CUDA device",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """What is there before the first test stays: no collection of garbage walks over it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
