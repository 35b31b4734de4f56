"""When a run stops: one rule and one budget, shared by every model and solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from nmfnet.errors import UserError

ROUNDING = 1e-6
"""Relative change of an objective that can be rounding alone, in float32."""


@final
@dataclass(frozen=True)
class Budget:
    """Stopping rule of a run.

    Attributes
    ----------
    max_iter : int, >= 1
        Most iterations (updates of all factors).
    tol : float, >= 0
        A restart is quiet while its lowest objective falls by no more than ``tol`` of its value per
        100 iterations, of which an iteration of L-BFGS counts as five. 0 = only the budget stops a run.
    window : int, >= 1
        Fewest iterations over which the fall is measured (a training step of a solver may be longer).
    patience : int, >= 1
        A restart may have converged after this many quiet training steps in a row (or five times as
        many without a new lowest objective); then a certificate decides. With early stopping it ends
        after this many without a new lowest objective of the held-out rows.
    certificate_tol : float or None
        Largest fall of the objective, relative, that an independent descent may find from where a
        restart became quiet; a larger one, and training goes on from there. None = quiet restarts
        end uncertified, and count as stopped early.
    kkt_tol : float or None
        When set, a restart must also have a KKT residual below this (where the model defines one).
    time_limit : float or None
        Most wall-clock seconds of the start and of training.
    """

    max_iter: int = 10_000
    tol: float = 1e-5
    window: int = 20
    patience: int = 3
    certificate_tol: float | None = 1e-3
    kkt_tol: float | None = None
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for name, low in (("max_iter", 1), ("tol", 0), ("window", 1), ("patience", 1)):
            if getattr(self, name) < low:
                raise UserError(f"{name}={getattr(self, name)}: it must be >= {low}")
        if self.certificate_tol is not None and self.certificate_tol < 0:
            raise UserError(
                f"certificate_tol={self.certificate_tol}: it must be >= 0, or null for no certificate"
            )
        for name in ("kkt_tol", "time_limit"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"{name}={value}: it must be > 0, or null for none")

    def chunk(self, iteration: int, n_inner: int) -> int:
        """Iterations of the next training step, at least 1."""
        return max(1, min(n_inner, self.max_iter - iteration))

    def quiet(self, before: float, now: float, n_iter: int) -> bool:
        """Whether a lowest objective that fell from ``before`` to ``now`` has hardly moved."""
        least = self.tol * abs(before) * n_iter / 100
        return self.tol > 0 and (now <= 0 or before - now <= least)

    def still(self, before: float, now: float, n_iter: int) -> bool:
        """Whether the objective of a training step is that of the step before, up to rounding."""
        return abs(now - before) <= max(ROUNDING, self.tol * n_iter / 100) * abs(before)
