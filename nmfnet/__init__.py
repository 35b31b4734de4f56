"""nmfnet: every factorisation X ~ W H, classical or neural, on equal terms.

>>> model = nmfnet.fit(X, model="convex_nmf", n_components=5)   # train on an array
>>> found = nmfnet.select_rank(X, "2:8")                         # how many components?
>>> model = nmfnet.load("runs/nmf/1a2b3c4d5e")                  # a run of the command line
>>> table = nmfnet.runs("runs")                                 # all of them, as a DataFrame
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nmfnet.deferred import defer
from nmfnet.errors import UserError
from nmfnet.version import __version__

if TYPE_CHECKING:
    from nmfnet.api import fit, project, select_rank
    from nmfnet.estimator import Estimator
    from nmfnet.report.collect import runs
    from nmfnet.run.checkpoint import load

__all__ = ["Estimator", "UserError", "__version__", "fit", "load", "project", "runs", "select_rank"]


defer()


def __getattr__(name: str) -> Any:
    """Import torch and Lightning only when something that needs them is used."""
    if name == "fit":
        from nmfnet.api import fit

        return fit
    if name == "project":
        from nmfnet.api import project

        return project
    if name == "select_rank":
        from nmfnet.api import select_rank

        return select_rank
    if name == "load":
        from nmfnet.run.checkpoint import load

        return load
    if name == "Estimator":
        from nmfnet.estimator import Estimator

        return Estimator
    if name == "runs":
        from nmfnet.report.collect import runs

        return runs
    raise AttributeError(f"module 'nmfnet' has no attribute {name!r}")
