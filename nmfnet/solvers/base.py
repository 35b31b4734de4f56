"""The interface between a model and whatever optimises it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from nmfnet.errors import UserError
from nmfnet.types import Batch, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


class Solver(nn.Module, ABC):
    """Moves the parameters of a model.

    Parameters
    ----------
    n_inner : int, >= 1
        Iterations per training step: the objective is evaluated, logged and tested for
        convergence once per step.
    """

    name: str
    masks: bool = True
    """Whether entries can be left out."""

    estimates: bool = False
    """Whether the objective that ``step`` returns is an estimate from some of the rows."""

    def __init__(self, *, n_inner: int) -> None:
        super().__init__()
        if n_inner < 1:
            raise UserError(f"solver.n_inner={n_inner}: it must be >= 1")
        self.n_inner = n_inner

    quasi_newton: bool = False
    """Whether it is L-BFGS, with which the results of all others are certified."""

    def chosen(self, model: Factorization, batch_size: int | None, masked: bool) -> Solver:
        """The solver that does the work: this one, unless it stands for others."""
        return self

    def attach(self, model: Factorization) -> None:
        """Make room for state that belongs in checkpoints, before any is loaded."""

    @abstractmethod
    def check(self, model: Factorization, batch_size: int | None) -> None:
        """Refuse a model, loss or batch size that this solver cannot handle.

        Raises
        ------
        UserError
            Says which solvers can.
        """

    def needs_all_rows(self, batch_size: int | None, instead: str = "solver=adam") -> None:
        """Refuse minibatches, for a solver that has no use for them.

        Raises
        ------
        UserError
        """
        if batch_size is not None:
            raise UserError(
                f"solver={self.name} works on all rows at once, but batch_size={batch_size}: set "
                f"batch_size=null, or use {instead}"
            )

    def needs_one_process(self, model: Factorization, instead: str) -> None:
        """Refuse rows that are spread over processes.

        Raises
        ------
        UserError
        """
        if model.world.size > 1:
            raise UserError(f"solver={self.name} runs in one process: use {instead}")

    def check_batch(self, batch: Batch) -> None:
        """Refuse training data that this solver cannot handle.

        Raises
        ------
        UserError
        """
        if batch.mask is not None and not self.masks:
            raise UserError(
                f"solver={self.name} cannot leave entries out: use solver=newton (frobenius, kl), "
                "solver=mu or solver=adam for missing or held-out entries"
            )

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

    def finish(self, model: Factorization, batch: Batch) -> None:
        """Called once when training has ended, for any last word on the parameters."""


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
    entries = batch.x.shape[0] * batch.x.shape[1] * batch.x.element_size()
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
