"""The one stopping rule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, final

import lightning as L
import torch

from nmfnet.core.model import Factorization
from nmfnet.core.objective import kkt
from nmfnet.errors import UserError
from nmfnet.kernels.rows import spans
from nmfnet.run.certificate import Found, descend, due, evaluations
from nmfnet.run.clock import now
from nmfnet.solvers.base import total
from nmfnet.types import Batch, Tensor

LONG = 5
"""Times the patience: training steps without a fall, whatever moves, after which a restart may end.

Once the patience where the objective is of rows that no gradient sees: a rise of these does not pass."""

NOTHING = 1e-4
"""A fit explains nothing if it explains less than this share of the squares of X."""


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


@dataclass
class Restart:
    """What the stopping rule remembers of a restart.

    Attributes
    ----------
    lowest : list of (int, float)
        Iterations, and the lowest objective up to there.
    value : float
        Objective of the last training step.
    quiet, unmoved : int
        Quiet training steps in a row, and those since the lowest objective last fell.
    failed : int
        Iteration of the last certificate that failed; 0 = none.
    fall : float or None
        Relative fall that the last descent found.
    """

    lowest: list[tuple[int, float]] = field(default_factory=list)
    value: float = math.nan
    quiet: int = 0
    unmoved: int = 0
    failed: int = 0
    fall: float | None = None


@final
class Convergence(L.Callback):
    """Stops each restart by the model's budget, and the run when no restart is left.

    A restart is quiet when its lowest objective hardly falls and its own hardly moves: one that has
    risen is not, unless it is judged by rows that no gradient sees (early stopping). A quiet restart
    has converged if an independent descent finds no lower objective (``nmfnet.run.certificate``); if
    it does, training goes on from there. Whoever has stopped is frozen, so that a run of many restarts
    gives each the same result as alone. ``records`` is the history. Time is wall-clock time spent
    starting and training (not compiling).

    Parameters
    ----------
    batch : Batch
        All training rows.
    seconds : float
        What the start took.
    in_memory : bool
        Whether they are in memory; no certificate without.
    """

    def __init__(self, batch: Batch, seconds: float = 0.0, *, in_memory: bool = True) -> None:
        self.batch, self.in_memory = batch, in_memory
        self.records: list[Record] = []
        self.restarts: list[Restart] = []
        self.seconds = seconds
        self.certifying = 0.0  # seconds of them that certificates took
        self.whole = False  # every step so far has been judged
        self._since = 0.0
        self._last: tuple[int, list[Tensor]] | None = None  # where a restart's budget ended

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Factorization)
        self._since = now() - self.seconds
        if self.restarts:  # loaded from a checkpoint
            trainer.should_stop = self._over(pl_module)
            return
        self.restarts = [Restart() for _ in range(pl_module.n_restarts)]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.whole = False

    def state_dict(self) -> dict[str, Any]:
        """The history and what the stopping rule remembers, as plain values."""
        seconds = self.seconds if self.whole else now() - self._since
        return {
            "records": [vars(record) for record in self.records],
            "restarts": [
                {**vars(one), "lowest": [list(pair) for pair in one.lowest]}
                for one in self.restarts
            ],
            "certifying": self.certifying,
            "seconds": seconds,
            "whole": self.whole,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another run was interrupted."""
        self.records = [Record(**record) for record in state_dict["records"]]
        self.restarts = [
            Restart(**{**one, "lowest": [(int(i), v) for i, v in one["lowest"]]})
            for one in state_dict["restarts"]
        ]
        self.certifying = state_dict["certifying"]
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
        budget, own, iteration = model.budget, self.restarts[restart], model.iteration
        past, last = own.lowest, own.value
        model.n_iter[restart] = iteration
        if not math.isfinite(value):
            model.objectives[restart] = float("inf")
            model.live.remove(restart)
            if not model.live and not bool(torch.isfinite(model.objectives).any()):
                raise UserError(
                    f"the objective became {value} by iteration {iteration} in every restart: "
                    f"{model.solver.calmer}"
                )
            return
        if iteration < model.warm_up:  # what is trained is not yet what is judged
            past.clear()
        own.value, lowest = value, min(value, past[-1][1]) if past else value
        model.objectives[restart] = lowest
        past.append((iteration, lowest))
        if model.solver.endless:
            return
        if model.solver.at_once:
            self._end(model, restart)
            if restart in model.live:  # the closed form was not the optimum
                model.live.remove(restart)
            return
        before = next((p for p in reversed(past) if p[0] <= iteration - budget.window), None)
        if before is None:
            return
        span = math.ceil((iteration - before[0]) * model.solver.active(restart).pace)
        if not budget.quiet(before[1], lowest, span):
            own.quiet = own.unmoved = 0
            return
        own.unmoved += 1
        own.quiet += budget.still(last, value, span)
        long = 1 if model.solver.estimates else LONG
        settled = own.quiet >= budget.patience or own.unmoved >= long * budget.patience
        if settled and due(own.failed, iteration) and self._optimal(model, restart):
            self._end(model, restart)

    def _end(self, model: Factorization, restart: int) -> None:
        """Stop a quiet restart, unless its certificate fails."""
        if not model.trainable():  # a rule gave the codes, and nothing is left to move
            model.converged[restart] = model.ended(restart)
            model.live.remove(restart)
            return
        tol = model.budget.certificate_tol
        if tol is not None and self._certifiable(model):
            model.solver.recall(model, restart)
            lower, fall = self._descend(model, restart, tol)
            if fall > tol:
                model.solver.rebase(model, restart, lower)
                model.objectives[restart] = lower
                past = [(model.iteration, lower)]
                self.restarts[restart] = Restart(past, lower, failed=model.iteration, fall=fall)
                return
            model.converged[restart] = True
        model.live.remove(restart)

    def _certifiable(self, model: Factorization) -> bool:
        asked = model.budget.certificate_tol is not None
        solver = model.solver
        judged = not (solver.estimates or solver.endless)  # by some rows, or by another number
        return asked and self.in_memory and judged

    def _descend(self, model: Factorization, restart: int, enough: float | None) -> Found:
        """Go down from a restart's parameters; they stay as they were unless it fell ``enough``."""
        began = now()
        tensors = model.restart_tensors()
        before = _values(tensors, restart)
        most = evaluations(model.iteration)
        found = descend(model, self.batch, restart, most, enough)
        self.restarts[restart].fall = found.fall
        if enough is None or found.fall <= enough:
            _put(tensors, restart, before)
        self.certifying += now() - began
        return found

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Of a best restart that is at the end of its budget: keep where it is, for `fall`."""
        assert isinstance(pl_module, Factorization)
        model, best = pl_module, int(pl_module.best)
        if best not in model.live or not self._certifiable(model) or not self.whole:
            return
        tensors = model.restart_tensors()
        with _kept(tensors, best):
            model.solver.recall(model, best)
            self._last = best, _values(tensors, best)
        if model.world.size > 1:  # the processes are about to part
            self.fall(model)

    def fall(self, model: Factorization) -> float | None:
        """Relative fall that an independent descent finds at the end of the best restart.

        None = there was no such descent. That of a restart at the end of its budget, which says how far
        it was from done, takes place when this is asked for first.
        """
        if self._last is not None:
            restart, values = self._last
            tensors = model.restart_tensors()
            with _kept(tensors, restart):
                _put(tensors, restart, values)
                self._descend(model, restart, None)
            self._last = None
        return self.restarts[int(model.best)].fall

    def status(self, model: Factorization) -> Literal["converged", "stopped early", "budget"]:
        """How the best restart ended.

        Certified; quiet, but not certified (or early stopping); or at the end of the budget.
        """
        best = int(model.best)
        if bool(model.converged[best]):
            return "converged"
        return "budget" if best in model.live else "stopped early"

    def ended_as_meant(self, model: Factorization) -> bool:
        """Whether the best restart ended by its budget, and the model is best ended so."""
        return bool(model.ends_by_budget) and self.status(model) == "budget"

    def remark(self, model: Factorization) -> str | None:
        """What there is to say of a fit that explains nothing, or ended by its budget on purpose."""
        if self._explains_nothing(model):
            return (
                "The fit explains nothing of X: it is as far off as X_hat = 0 would be. Can X_hat have "
                "the signs of X?"
            )
        if not self.ended_as_meant(model):
            return None
        return (
            f"ended by its budget of {model.iteration} iterations, on purpose: {model.ends_by_budget}. "
            "Choose max_iter by held-out data."
        )

    def _explains_nothing(self, model: Factorization) -> bool:
        """Whether squared errors, penalties left out, are those of no fit at all."""
        if model.loss.beta != 2 or not model.asks_loss or self.batch.masked or self.batch.views:
            return False
        x = self.batch.x.values() if self.batch.x.is_sparse_csr else self.batch.x
        if x.is_meta or len(self.batch.x) < model.sizes.n_samples:  # on disk, or in other processes
            return False
        error, nothing = self.records[-1].terms.get("data", 0.0) / model.loss_unit, 0.0
        for rows in spans(len(x), x[:1].numel()):  # few are enough where the fit explains much
            nothing += 0.5 * float(x[rows].double().square().sum())
            if error < (1 - NOTHING) * nothing:
                return False
        return nothing > 0

    def _optimal(self, model: Factorization, restart: int) -> bool:
        if model.budget.kkt_tol is None:
            return True
        with torch.no_grad(), model.restarts(restart):
            residual = kkt(model, self.batch)
        return residual is None or float(residual) <= model.budget.kkt_tol

    def _record(
        self, model: Factorization, terms: dict[str, torch.Tensor], live: list[int]
    ) -> None:
        self.seconds = now() - self._since
        model.best.fill_(int(model.objectives.argmin()))
        finite = model.objectives[torch.isfinite(model.objectives)]
        unit = model.loss_unit
        objective = float(finite.min()) * unit
        before = self.records[-1].objective if self.records else math.nan
        position = live.index(int(model.best)) if int(model.best) in live else None
        self.records.append(
            Record(
                iteration=model.iteration,
                seconds=self.seconds,
                objective=objective,
                objective_max=float(finite.max()) * unit,
                relative_change=(before - objective) / abs(before) if before else math.nan,
                live=len(model.live),
                terms=self.records[-1].terms
                if position is None
                else {name: float(term[position]) * unit for name, term in terms.items()},
            )
        )


def _values(tensors: list[Tensor], restart: int) -> list[Tensor]:
    """A copy of all that a restart holds."""
    return [tensor.data[restart].clone() for tensor in tensors]


def _put(tensors: list[Tensor], restart: int, values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.data[restart] = value


@contextmanager
def _kept(tensors: list[Tensor], restart: int) -> Iterator[None]:
    """Whatever happens to a restart inside, it is as before at the end."""
    before = _values(tensors, restart)
    try:
        yield
    finally:
        _put(tensors, restart, before)
