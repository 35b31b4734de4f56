"""The interface between a model and whatever optimises it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from nmfnet.errors import UserError
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


class Task(NamedTuple):
    """What a solver is asked to do.

    Attributes
    ----------
    model : Factorization
    batch_size : int or None
        Rows of a minibatch; None = all rows at once.
    masked : bool
        Whether entries are left out or weighted.
    sparse : bool
        Whether X is sparse.
    """

    model: Factorization
    batch_size: int | None = None
    masked: bool = False
    sparse: bool = False

    def minibatches(self) -> Iterator[str]:
        """The reason of a solver that works on all rows at once."""
        if self.batch_size is not None:
            yield f"works on all rows at once (batch_size=null), and batch_size={self.batch_size}"

    def processes(self) -> Iterator[str]:
        """The reason of a solver that runs in one process."""
        if self.model.world.size > 1:
            yield "runs in one process, and trainer=ddp asks for several"

    def weights(self) -> Iterator[str]:
        """The reason of a solver that weighs all entries alike."""
        if self.masked:
            yield "cannot leave entries out, and some are missing, held out or weighted"

    def outside(self, *bounds: tuple[float, float]) -> Iterator[str]:
        """The reason of a solver that moves values in place, within one of these bounds each."""
        for name, factor in self.model.factors.items():
            own = factor.constraint
            if not own.identity or own.bounds not in bounds:
                said, needed = type(own).__name__.lower(), " or ".join(map(_between, bounds))
                yield f"needs {needed} factors, and {name} is under constraint={said}"
                return

    def fixed(self) -> Iterator[str]:
        """The reason of a solver that moves every factor."""
        if frozen := [name for name, factor in self.model.factors.items() if factor.frozen]:
            yield f"moves every factor, and {frozen[0]} is frozen"

    def pair(self) -> Iterator[str]:
        """The reason of a solver of X ~ W H."""
        if not self.model.bilinear:
            kind = type(self.model).__name__
            yield f"needs X ~ W H with both factors free, which {kind} as configured is not"

    def neighbours(self) -> Iterator[str]:
        """The reason of a solver of rows that stand alone."""
        for penalty in self.model.penalty_list:
            if penalty.between_rows:
                yield f"moves rows of a factor by themselves, and penalty={penalty.name} compares them"

    def kinks(self) -> Iterator[str]:
        """The reason of a solver to which the sum of absolute values is linear."""
        for penalty in self.model.penalty_list:
            factor = self.model.factors.get(penalty.on)
            if penalty.linear and factor is not None and factor.signed:
                yield f"takes penalty={penalty.name} of factors >= 0, and {penalty.on} has any sign"

    def tables(self) -> Iterator[str]:
        """The reason of a solver of X_v ~ W H_v, of one view or of several side by side."""
        model, sides = self.model, self.model.side_by_side()
        if not sides:
            yield f"needs X ~ W H with free tables, which {type(model).__name__} as configured is not"
        elif len(sides) > 1 and (odd := [p for p in model.penalty_list if p.on != "W"]):
            yield f"takes penalties of W alone beside several views, and {odd[0].name} is of {odd[0].on}"

    def penalties(self) -> Iterator[str]:
        """The reason of a solver of the loss alone."""
        if self.model.penalty_list:
            yield f"takes no penalty, and there is {self.model.penalty_list[0].name}"

    def stages(self) -> Iterator[str]:
        """The reason of a solver that goes down one objective."""
        if len(self.model.stages()) > 1:
            kind = type(self.model).__name__
            yield f"goes down one objective, and {kind} has one for every layer"

    def players(self) -> Iterator[str]:
        """The reason of a solver for which all parameters go down the same objective."""
        if self.model.overrides("players"):
            kind = type(self.model).__name__
            yield f"goes down one objective, and {kind} has players with a loss each"

    def losses(self, *betas: float) -> Iterator[str]:
        """The reason of a solver for some of the beta family."""
        if self.model.loss.beta not in betas:
            words = " or ".join(
                {2.0: "loss=frobenius", 1.0: "loss=kl and poisson"}[beta] for beta in betas
            )
            yield f"is for {words}, and the loss is {self.model.loss.name}"


def _between(bounds: tuple[float, float]) -> str:
    return "non-negative (constraint=project)" if bounds[0] == 0 else "free (constraint=free)"


class Solver(nn.Module, ABC):
    """Moves the parameters of a model.

    Parameters
    ----------
    n_inner : int, >= 1
        Iterations per training step: the objective is evaluated, logged and tested for
        convergence once per step.
    """

    name: str

    @property
    def usual(self) -> str:
        """The options that it would need to do what it cannot as configured."""
        return f"the default options of solver={self.name}"

    estimates: bool = False
    """Whether the objective that ``step`` returns is an estimate from rows that no gradient sees."""

    monotone: bool = True
    """Whether no step ends on a higher objective than it began with."""

    calmer: str = "use dtype=float64, or rescale X"
    """What helps when the objective leaves the finite numbers."""

    endless: bool = False
    """Whether its steps go down something else than the objective, so that only the budget ends them."""

    at_once: bool = False
    """Whether the first step is the whole fit."""

    def __init__(self, *, n_inner: int) -> None:
        super().__init__()
        if n_inner < 1:
            raise UserError(f"solver.n_inner={n_inner}: it must be >= 1")
        self.n_inner = n_inner

    crawls: bool = False
    """Whether its iterations are cheap, and its last ones gain little: L-BFGS may take over."""

    pace: float = 1.0
    """How many iterations of such a method one of its own is worth; the stopping rule counts these."""

    def active(self, restart: int) -> Solver:
        """The solver that moves a restart now: this one, unless it is several in a row."""
        return self

    def remark(self) -> str:
        """What the user should know of how it went; usually nothing."""
        return ""

    def slopes(self, model: Factorization) -> list[Tensor] | None:
        """Root mean square of the gradient by every parameter so far, where it is known."""
        return None

    def chosen(self, task: Task) -> Solver:
        """The solver that does the work: this one, unless it stands for others."""
        return self

    def begin(self, task: Task) -> None:
        """Called once when the solver has been chosen, before anything is attached."""

    def attach(self, model: Factorization) -> None:
        """Make room for state that belongs in checkpoints, before any is loaded."""

    @abstractmethod
    def lacks(self, task: Task) -> Iterator[str]:
        """Why this solver cannot do a task, a clause each; nothing = it can.

        No clause names another solver: `nmfnet.solvers.choice` finds out which would do.
        """

    def exact(self, task: Task) -> bool:
        """Whether the steps stay feasible by themselves, so that nothing is lost to projections."""
        return True

    def optimizer(self, model: Factorization) -> Optimizer:
        """The optimiser that Lightning checkpoints and counts steps with."""
        return NoOp(model)

    @abstractmethod
    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        """Run ``n_iter`` iterations of the restarts in ``live``; step Lightning's optimiser once.

        Returns
        -------
        dict of str to Tensor, shape (len(live),)
            The terms of the objective *after* the last iteration, in the order of ``live``.
        """

    def running(self) -> dict[str, Any]:
        """State of a fit beside the buffers, as tensors and plain values."""
        return {}

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        """Take up the state of a fit again; the buffers come back by themselves."""

    def recall(self, model: Factorization, restart: int) -> None:
        """Give a restart the parameters that it would end on, where it holds others."""

    def rebase(self, model: Factorization, restart: int, objective: float) -> None:
        """Go on from the parameters that a restart now has, and that others found.

        Parameters
        ----------
        model : Factorization
        restart : int
        objective : float
            There; below what this solver has reached.
        """

    def finish(self, model: Factorization, rows: Iterable[Batch]) -> None:
        """Called once when training has ended, for any last word on the parameters.

        ``rows`` are all training rows, block after block.
        """


class NoOp(Optimizer):
    """Does nothing when stepped: closed-form solvers need it for Lightning's step count."""

    def __init__(self, model: Factorization) -> None:
        super().__init__([next(model.parameters())], {})

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Nothing to do: the solver has moved the parameters already."""


def count_step(model: Factorization) -> None:
    """Let Lightning see a step: its checkpoints and ``max_steps`` depend on the count."""
    optimizer = model.optimizers()
    assert not isinstance(optimizer, list)
    optimizer.step()


def total(terms: Terms) -> torch.Tensor:
    """Sum of the terms, float64, shape (r,)."""
    return torch.stack([term.double() for term in terms.values()]).sum(0)


CHUNK_BYTES = 1_000_000
"""On a CPU, restarts run together as long as their reconstructions fit in this (the cache)."""


def chunks(model: Factorization, batch: Batch, live: list[int]) -> list[int | slice | list[int]]:
    """Restarts to run together: one by one as plain matrices, several, or all of them.

    On a CPU a chunk's reconstructions stay near CHUNK_BYTES; on a GPU all run at once.
    """
    rows = -(-model.world.n_total // model.world.size) or batch.x.shape[0]  # alike in all processes
    entries = rows * batch.x.shape[1] * batch.x.element_size()
    size = len(live) if batch.x.is_cuda else max(1, CHUNK_BYTES // max(1, entries))
    size = 1 if batch.x.is_sparse_csr else size  # sparse products have no restart axis
    if size == 1 or len(live) == 1:
        return list(live)
    if len(live) == model.n_restarts:
        return [slice(i, i + size) for i in range(0, len(live), size)]
    return [live[i : i + size] for i in range(0, len(live), size)]


def collect(chunked: list[Terms]) -> Terms:
    """Terms of all chunks in one, shape (len(live),)."""
    return {name: torch.cat([terms[name].reshape(-1) for terms in chunked]) for name in chunked[0]}
