"""The one stopping rule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, final

import lightning as L
import torch

from nmfnet.core.model import Factorization
from nmfnet.errors import UserError
from nmfnet.run.clock import now
from nmfnet.solvers.base import total
from nmfnet.types import Batch


@dataclass
class Record:
    """One line of the history: the state after a training step (an epoch, with minibatches).

    Objectives are sums over all rows; ``objective`` is that of the best restart.
    """

    iteration: int
    seconds: float
    objective: float
    objective_max: float
    relative_change: float
    live: int
    terms: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, float]:
        """Flat, for a table or a logger."""
        flat = {key: value for key, value in vars(self).items() if key != "terms"}
        return flat | {f"term/{name}": value for name, value in self.terms.items()}


@final
class Convergence(L.Callback):
    """Stops each restart by the model's budget, and the run when no restart is left.

    A restart that has settled is frozen, so that a run of many restarts gives each the same result
    as alone. ``records`` is the history. Time is wall-clock time spent training (not compiling).
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.records: list[Record] = []
        self.lowest: list[list[tuple[int, float]]] = []
        self.quiet: list[int] = []
        self.seconds = 0.0
        self.whole = False  # every step so far has been judged
        self._since = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Factorization)
        self._since = now() - self.seconds
        if self.lowest:  # loaded from a checkpoint
            trainer.should_stop = self._over(pl_module)
            return
        self.lowest = [[] for _ in range(pl_module.n_restarts)]
        self.quiet = [0] * pl_module.n_restarts

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.whole = False

    def state_dict(self) -> dict[str, Any]:
        """The history and what the stopping rule remembers, as plain values."""
        seconds = self.seconds if self.whole else now() - self._since
        return {
            "records": [vars(record) for record in self.records],
            "lowest": [[list(pair) for pair in past] for past in self.lowest],
            "quiet": list(self.quiet),
            "seconds": seconds,
            "whole": self.whole,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another run was interrupted."""
        self.records = [Record(**record) for record in state_dict["records"]]
        self.lowest = [[(int(i), v) for i, v in past] for past in state_dict["lowest"]]
        self.quiet = list(state_dict["quiet"])
        self.seconds, self.whole = state_dict["seconds"], state_dict["whole"]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Factorization)
        model = pl_module
        terms = {
            name: torch.stack([step[name].double() for step in model.step_terms]).sum(0)
            for name in model.step_terms[0]
        }
        model.step_terms.clear()
        values = total(terms).tolist()  # the one wait for the device in a step
        live = list(model.live)
        for restart, value in zip(live, values, strict=True):
            self._judge(model, restart, value)
        self._record(model, terms, live)
        self.whole = True
        trainer.should_stop = self._over(model)

    def _over(self, model: Factorization) -> bool:
        budget, elapsed = model.budget, now() - self._since
        out_of_time = budget.time_limit is not None and elapsed >= budget.time_limit
        return not model.live or model.iteration >= budget.max_iter or out_of_time

    def _judge(self, model: Factorization, restart: int, value: float) -> None:
        budget, past, iteration = model.budget, self.lowest[restart], model.iteration
        model.n_iter[restart] = iteration
        if not math.isfinite(value):
            model.objectives[restart] = float("inf")
            model.live.remove(restart)
            if not model.live and not bool(torch.isfinite(model.objectives).any()):
                raise UserError(
                    f"the objective became {value} by iteration {iteration} in every restart: "
                    "lower solver.lr, or use dtype=float64"
                )
            return
        lowest = min(value, past[-1][1]) if past else value
        model.objectives[restart] = lowest
        past.append((iteration, lowest))
        if model.solver.at_once:
            model.converged[restart] = True
            model.live.remove(restart)
            return
        before = next((p for p in reversed(past) if p[0] <= iteration - budget.window), None)
        if before is None:
            return
        quiet = budget.quiet(before[1], lowest, iteration - before[0])
        self.quiet[restart] = self.quiet[restart] + 1 if quiet else 0
        if self.quiet[restart] >= budget.patience and self._optimal(model, restart):
            model.converged[restart] = True
            model.live.remove(restart)

    def _optimal(self, model: Factorization, restart: int) -> bool:
        if model.budget.kkt_tol is None:
            return True
        with torch.no_grad(), model.restarts(restart):
            residual = model.kkt(self.batch)
        return residual is None or float(residual) <= model.budget.kkt_tol

    def _record(
        self, model: Factorization, terms: dict[str, torch.Tensor], live: list[int]
    ) -> None:
        self.seconds = now() - self._since
        model.best.fill_(int(model.objectives.argmin()))
        finite = model.objectives[torch.isfinite(model.objectives)]
        objective = float(finite.min())
        before = self.records[-1].objective if self.records else math.nan
        position = live.index(int(model.best)) if int(model.best) in live else None
        self.records.append(
            Record(
                iteration=model.iteration,
                seconds=self.seconds,
                objective=objective,
                objective_max=float(finite.max()),
                relative_change=(before - objective) / abs(before) if before else math.nan,
                live=len(model.live),
                terms=self.records[-1].terms
                if position is None
                else {name: float(term[position]) for name, term in terms.items()},
            )
        )
