"""nmfnet: every factorisation X ~ W H, classical or neural, on equal terms.

>>> model = nmfnet.fit(X, model="convex_nmf", n_components=5)   # train on an array
>>> found = nmfnet.select_rank(X, "2:8")                         # how many components?
>>> model = nmfnet.load("runs/nmf/1a2b3c4d5e")                  # a run of the command line
>>> table = nmfnet.runs("runs")                                 # all of them, as a DataFrame
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nmfnet.errors import UserError
from nmfnet.settings.deferred import defer

if TYPE_CHECKING:
    from nmfnet.api import fit, project, select_rank
    from nmfnet.estimator import Estimator
    from nmfnet.report.collect import runs
    from nmfnet.run.checkpoint import load

__all__ = ["Estimator", "UserError", "__version__", "fit", "load", "project", "runs", "select_rank"]
__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(("fit", "project", "select_rank"), "nmfnet.api"),
    "Estimator": "nmfnet.estimator",
    "load": "nmfnet.run.checkpoint",
    "runs": "nmfnet.report.collect",
}


defer()


def __getattr__(name: str) -> Any:
    """Import torch and Lightning only when something that needs them is used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nmfnet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What nmfnet offers."""
    return sorted(__all__)
