"""``solver=mu``: multiplicative updates for any non-negative multilinear model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, final

import torch

from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.core.objective import improve_loss
from nmfnet.solvers.base import Solver, Task, chunks, collect, count_step, total
from nmfnet.solvers.loops import (
    Recorder,
    compiled_updates,
    extrapolations,
    has_compiler,
    on_host,
    place,
    updates,
)
from nmfnet.types import Batch, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

OWN = 10
"""Iterations after each of which the parameters of the loss take a step of their own."""


@final
class Multiplicative(Solver):
    """``theta <- theta * (sum_neg / sum_pos) ** exponent``, one factor after the other.

    Every few iterations the parameters of the loss (a dispersion) take a step of their own.
    The sums come from the model in closed form, or from autograd for a model without one. The
    exponent is the largest known to be monotone for the loss, the penalties and the number of
    times that theta occurs in the reconstruction.

    Parameters
    ----------
    extrapolation : bool
        Take each update from a point beyond the last one,
        ``theta + alpha [theta - previous theta]_+``; a step of ``n_inner`` iterations that did not
        lower the objective is repeated without, so the objective never increases.
        Source: Hien, Leplat & Gillis 2024, "Block majorization minimization with extrapolation".
    fused : bool
        False = always by autograd (the oracle; several times slower).
    loop : {"eager", "graph", "compile"}
        How the iterations of a step are run: one operation after the other; recorded once as a CUDA
        graph and replayed (a GPU only; for problems so small that starting an operation takes
        longer than the operation); or compiled by torch.compile (about half a minute for every
        shape of the factors: long runs only).
    n_inner : int
        Iterations per training step.
    """

    name = "mu"
    crawls = True

    def __init__(
        self,
        *,
        extrapolation: bool = True,
        fused: bool = True,
        loop: Literal["eager", "graph", "compile"] = "eager",
        n_inner: int = 100,
    ) -> None:
        super().__init__(n_inner=n_inner)
        self.extrapolation = extrapolation
        self.fused = fused
        self.loop = loop
        self.recorder = Recorder()

    def lacks(self, task: Task) -> Iterator[str]:
        model, kind = task.model, type(task.model).__name__
        yield from task.minibatches()
        if not model.multilinear:
            yield f"needs a product of non-negative factors, which {kind} as configured is not"
        if not model.loss.splits or (model.of_loss and not model.loss.improves):
            yield f"has no rule for loss={model.loss.name} as configured"
        if model.of_loss:
            yield from task.processes()
        for name, factor in model.own_factors().items():
            own = factor.constraint
            if not own.identity or (own.bounds or NON_NEGATIVE) != NON_NEGATIVE:
                said = type(own).__name__.lower()
                yield f"needs non-negative factors (constraint=project), and {name} is under {said}"
            elif own.one_in:
                yield f"never moves an entry that is 0, and {name} is orthogonal: most of its entries are"
        if self.loop != "eager":
            yield from self._loop_lacks(task)

    @property
    def usual(self) -> str:
        return "solver.loop=eager"

    def exact(self, task: Task) -> bool:
        """Projections undo what an update promises, so they are for those who ask for them."""
        own = task.model.own_factors()
        return all(factor.constraint.closed_under_scaling for factor in own.values())

    def _loop_lacks(self, task: Task) -> Iterator[str]:
        device = task.model.device.type
        if self.loop == "graph" and device != "cuda":
            yield f"with solver.loop=graph needs a GPU, and this run is on the {device}"
        if self.loop == "compile" and device != "cuda" and not has_compiler():
            yield "with solver.loop=compile needs a C++ compiler, and there is none"
        if task.model.world.size > 1:
            yield f"with solver.loop={self.loop} runs in one process"
        if task.model.of_loss:
            name = task.model.loss.name
            yield f"with solver.loop={self.loop} has no rule for the parameters of loss={name}"
        if task.sparse:
            yield f"with solver.loop={self.loop} needs a dense X, and this one is sparse"

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        collected: list[Terms] = []
        for index in chunks(model, batch, live):
            with torch.no_grad(), model.restarts(index):
                collected.append(self._advance(model, batch, n_iter))
        return collect(collected)

    def _advance(self, model: Factorization, batch: Batch, n_iter: int) -> Terms:
        """``n_iter`` iterations of the restarts that the model now holds.

        The host waits for the device once, to see whether the objective fell; again only if not.
        """
        if not self.extrapolation:
            self._iterate(model, batch, n_iter, extrapolate=False)
            return model.objective(batch)
        raws = [factor.raw.data for factor in model.moved().values()]
        start, at_start = [raw.clone() for raw in raws], total(model.objective(batch))
        self._iterate(model, batch, n_iter, extrapolate=True)
        before, terms = on_host(at_start, model.objective(batch))
        worse = ~(total(terms) <= before)
        if bool(worse.any()):
            reached = [raw.clone() for raw in raws]
            for raw, value in zip(raws, start, strict=True):
                raw.copy_(value)
            self._iterate(model, batch, n_iter, extrapolate=False)
            worse = worse[..., None, None].to(batch.x.device)
            for raw, value in zip(raws, reached, strict=True):
                raw.copy_(torch.where(worse, raw, value))
            _, terms = on_host(at_start, model.objective(batch))
        return terms

    def _iterate(
        self, model: Factorization, batch: Batch, n_iter: int, *, extrapolate: bool
    ) -> None:
        """``n_iter`` iterations, run as ``loop`` says; nothing in them waits for the device."""
        weights = extrapolations(n_iter) if extrapolate else [None] * n_iter
        own = {name: f for name, f in model.own_factors().items() if not f.frozen}
        exponents = {name: exponent_of(model, name) for name in own}
        every = OWN if model.of_loss else n_iter

        def work() -> None:
            previous = {name: factor.raw.detach().clone() for name, factor in own.items()}
            run = compiled_updates if self.loop == "compile" else updates
            for i in range(0, n_iter, every):
                run(model, batch, weights[i : i + every], previous, exponents, self.fused)
                if model.of_loss:
                    improve_loss(model, batch)

        if self.loop != "graph":
            work()
            return
        raws = [factor.raw for factor in model.factors.values()]
        where = tuple(place(tensor) for tensor in (batch.x, batch.mask, *raws))
        self.recorder((n_iter, extrapolate, where), work)


def exponent_of(model: Factorization, name: str) -> float:
    """The monotone exponent for one factor of a model."""
    degree = max((p.degree for p in model.penalty_list if p.on == name), default=0)
    factor = model.factors[name]
    return min(factor.max_exponent, model.loss.exponent(factor.degree, degree))
