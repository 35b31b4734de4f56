"""The fast solvers of X ~ W H: compiled kernels on a CPU, torch elsewhere, restarts side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, final

import torch

from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.kernels.extrapolation import State, begin, place, rewind
from nmfnet.kernels.hals import hals
from nmfnet.kernels.matrix import Matrix, matrix
from nmfnet.kernels.newton import newton
from nmfnet.solvers.base import Solver, Task, count_step
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

Both = tuple[float, float]


class PairSolver(Solver, ABC):
    """Moves W and H of X ~ W H, or W and all H_v of views side by side; its state is checkpointed.

    Views are columns of one matrix: a view of weight s is ``c X_v ~ W (c H_v)`` with ``c**d = s``, d the
    degree of the loss. The objective at the end of a training step never exceeds that of the step before.
    """

    transposed: bool | None = None
    """Whether a dense X is kept transposed as well; None = where it is small."""

    def __init__(self, *, extrapolation: bool, n_inner: int) -> None:
        super().__init__(n_inner=n_inner)
        self.extrapolation = extrapolation
        self.prepared: Matrix | None = None
        self.scales: tuple[float, ...] = ()
        for name in State._fields:
            self.register_buffer(f"state_{name}", torch.empty(0))

    def attach(self, model: Factorization) -> None:
        if sides := model.side_by_side():
            self.scales = (1.0,) * len(sides)
            self._keep(begin(*self._pair(model)))
            self.state.memory.zero_()  # not begun: the factors have no start yet

    @property
    def state(self) -> State:
        """The running fit; its tensors are this module's buffers."""
        return State(*(getattr(self, f"state_{name}") for name in State._fields))

    def _keep(self, state: State) -> None:
        for name, tensor in zip(State._fields, state, strict=True):
            setattr(self, f"state_{name}", tensor)

    def lacks(self, task: Task) -> Iterator[str]:
        yield from task.minibatches()
        yield from task.tables()
        yield from task.outside(NON_NEGATIVE)
        yield from task.fixed()
        if odd := [p.name for p in task.model.penalty_list if not (p.linear or p.quadratic)]:
            yield f"takes penalties of single entries, and {odd[0]} is none"

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        with torch.no_grad():
            if self.prepared is None:
                self.prepared = self._data(model, batch)
            if not bool(self.state.memory.any()):
                self._keep(begin(*self._pair(model)))
            objective = self.advance(model, self.prepared, n_iter, live)
            self._hand_back(model, live)
            if model.loss.is_divergence and not model.penalty_list:
                return {"data": objective}
            with model.restarts(live):  # the kernel leaves out constants, and adds terms up
                return model.objective(batch)

    def rebase(self, model: Factorization, restart: int, objective: float) -> None:
        W, H = self._pair(model)
        place(self.state.W, W, [restart])
        place(self.state.H, H, [restart])
        rewind(self.state, [restart])
        self.state.memory[restart, 2] = torch.inf  # the objective has to be computed again

    def _data(self, model: Factorization, batch: Batch) -> Matrix:
        """X, or all views in one matrix."""
        sides = model.side_by_side()
        views = [batch.tables[name] for name in sides]
        if len(views) == 1:
            return matrix(batch.x, batch.mask, transposed=self.transposed, total=model.world.total)
        assert model.loss.beta is not None
        self.scales = tuple(model.weight_of(name) ** (1 / model.loss.beta) for name in sides)
        x = torch.cat([c * view.x for c, view in zip(self.scales, views, strict=True)], -1)
        mask = torch.cat([view.weights for view in views], -1) if batch.masked else None
        return matrix(x, mask, transposed=self.transposed, total=model.world.total)

    def _pair(self, model: Factorization) -> tuple[Tensor, Tensor]:
        """W, and all H side by side in the units of the matrix."""
        tables = [factor.raw.data for factor in model.side_by_side().values()]
        if len(tables) > 1:
            tables = [c * table for c, table in zip(self.scales, tables, strict=True)]
        H = tables[0] if len(tables) == 1 else torch.cat(tables, -1)
        return model.factors["W"].raw.data, H

    def _hand_back(self, model: Factorization, live: list[int]) -> None:
        """The factors reached, to the model."""
        place(model.factors["W"].raw.data, self.state.W, live)
        factors = list(model.side_by_side().values())
        parts = self.state.H.split([factor.raw.shape[-1] for factor in factors], -1)
        for factor, part, c in zip(factors, parts, self.scales, strict=True):
            place(factor.raw.data, part if c == 1 else part / c, live)

    @abstractmethod
    def advance(self, model: Factorization, data: Matrix, n_iter: int, live: list[int]) -> Tensor:
        """Run the kernel on the state; the objective reached, shape (len(live),)."""


@final
class HALS(PairSolver):
    """Accelerated hierarchical alternating least squares with extrapolation, for loss=frobenius.

    Parameters
    ----------
    extrapolation : bool
        Start each factor's update from a point beyond the last one.
    n_inner : int
        Iterations per training step.

    Source: Gillis & Glineur 2012; Ang & Gillis 2019.
    """

    name = "hals"

    def __init__(self, *, extrapolation: bool = True, n_inner: int = 20) -> None:
        super().__init__(extrapolation=extrapolation, n_inner=n_inner)

    def lacks(self, task: Task) -> Iterator[str]:
        yield from super().lacks(task)
        yield from task.losses(2)
        yield from task.weights()

    def advance(self, model: Factorization, data: Matrix, n_iter: int, live: list[int]) -> Tensor:
        l1, l2 = weights(model, "linear"), weights(model, "quadratic")
        return hals(
            self.state, data, n_iter, l1=l1, l2=l2, extrapolation=self.extrapolation, rows=live
        )


@final
class Newton(PairSolver):
    """Second-order steps in each factor: for loss=kl or poisson, and for squared errors with a mask.

    Parameters
    ----------
    extrapolation : bool
        Start each factor's step from a point beyond the last one.
    n_inner : int
        Iterations per training step.

    Source: Hsieh & Dhillon 2011 (second-order coordinate steps for KL).
    """

    name = "newton"
    transposed = True

    def __init__(self, *, extrapolation: bool = True, n_inner: int = 10) -> None:
        super().__init__(extrapolation=extrapolation, n_inner=n_inner)

    def lacks(self, task: Task) -> Iterator[str]:
        yield from super().lacks(task)
        yield from task.losses(2, 1)
        if task.model.loss.beta == 2 and task.sparse and not task.masked:
            yield "takes squared errors of a sparse X only where entries are missing"

    def advance(self, model: Factorization, data: Matrix, n_iter: int, live: list[int]) -> Tensor:
        assert model.loss.beta is not None
        l1, l2 = weights(model, "linear"), weights(model, "quadratic")
        return newton(
            self.state,
            data,
            n_iter,
            beta=model.loss.beta,
            l1=l1,
            l2=l2,
            extrapolation=self.extrapolation,
            rows=live,
        )


def weights(model: Factorization, kind: Literal["linear", "quadratic"]) -> Both:
    """Weight of one kind of penalty on W and on H."""
    found = {"W": 0.0, "H": 0.0}
    for penalty in model.penalty_list:
        if getattr(penalty, kind):
            found[penalty.on] += penalty.weight
    return found["W"], found["H"]
