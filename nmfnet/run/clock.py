"""The clock that runs are timed by."""

from __future__ import annotations

import time
from importlib import import_module

from numba.core import entrypoints, event

KERNELS = (
    *("code", "convex", "criterion", "documents", "hals", "hals_group", "lanes"),
    *("multiplicative", "newton", "nnls", "ridge", "sparse"),
)
"""Modules that are imported where they are used, and so inside a run if nobody did it before."""

_compiling = event.TimingListener()
event.register("numba:compiler_lock", _compiling)
entrypoints.init_all()  # numba looks for its extensions before it compiles
for _name in KERNELS:
    import_module(f"nmfnet.kernels.compiled.{_name}")


def now() -> float:
    """Seconds on a clock that stands still while numba compiles a kernel or loads it from its cache.

    A kernel is compiled once on a machine and loaded once in a process, in whichever run needs it first,
    and that run is not slower than the others. Only differences have a meaning.
    """
    return time.perf_counter() - (_compiling.duration if _compiling.done else 0.0)
