"""How many cores there are to use."""

from __future__ import annotations

import os


def cores() -> int:
    """Cores that this process may use: of its affinity, its container, its share of a queue."""
    import joblib

    return int(joblib.cpu_count())


def most_threads() -> int:
    """Threads that a run may use: all cores, or ``OMP_NUM_THREADS`` where that is set.

    A launcher sets it to each worker's share, so that jobs side by side do not fight for cores.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(asked) if asked.isdigit() and int(asked) else cores()
