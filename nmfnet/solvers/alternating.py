"""Solvers that take one factor at a time and solve its least-squares problem in Gram space.

For the squared error the rows of a factor (W, or Hᵀ) each solve
``min_{θ >= 0} θ G θᵀ / 2 - c θᵀ`` with G (k, k) common to all rows: for W ``G = H Hᵀ`` and
``c = x Hᵀ``. A factor of any sign is solved without the bound. X enters through that one product per
factor and iteration, so it may be sparse, and no reconstruction is formed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, final

import torch

from nmfnet.core.constraints import ANY, NON_NEGATIVE, Constraint, Free
from nmfnet.core.factor import Factor
from nmfnet.core.objective import normal_equations
from nmfnet.errors import UserError
from nmfnet.kernels.nnls import least_squares, nnls
from nmfnet.settings.ranges import NotNegative
from nmfnet.solvers.base import Solver, Task, chunks, collect, count_step
from nmfnet.types import Batch, Float, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


class Alternating(Solver, ABC):
    """Improves the factors in turn, each from its normal equations."""

    curved_penalties: bool = True
    """Whether G may be indefinite (the orthogonal penalty makes it so)."""

    bounds: tuple[tuple[float, float], ...] = (NON_NEGATIVE, ANY)
    """Within which a factor may lie."""

    def lacks(self, task: Task) -> Iterator[str]:
        yield from self.about(task)
        yield from task.outside(*self.bounds)

    def about(self, task: Task) -> Iterator[str]:
        """Why it cannot do a task, whatever the constraints."""
        yield from task.minibatches()
        yield from task.losses(2)
        yield from task.pair()
        yield from task.neighbours()
        yield from task.fixed()
        yield from task.kinks()
        if not self.curved_penalties:
            for penalty in task.model.penalty_list:
                if not penalty.convex:
                    yield f"needs convex penalties, and {penalty.name} is none"
        yield from task.weights()

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        collected: list[Terms] = []
        for index in chunks(model, batch, live):
            with torch.no_grad(), model.restarts(index):
                self.iterate(model, batch, n_iter)
                collected.append(model.objective(batch))
        return collect(collected)

    def iterate(self, model: Factorization, batch: Batch, n_iter: int) -> None:
        """``n_iter`` passes over the factors of the restarts that the model now holds."""
        for _ in range(n_iter):
            for name, factor in model.factors.items():
                G, C = normal_equations(model, name, batch)
                rows = factor.raw.data if factor.per_sample else factor.raw.data.mT
                free = factor.constraint.bounds == ANY
                rows.copy_(least_squares(G, C) if free else self.improve(rows, G, C, factor))

    @abstractmethod
    def improve(
        self,
        rows: Float[Tensor, "*r n k"],
        G: Float[Tensor, "*r k k"],
        C: Float[Tensor, "*r n k"],
        factor: Factor,
    ) -> Float[Tensor, "*r n k"]:
        """New feasible rows of a factor (W or Hᵀ), from the old ones and the normal equations."""


@final
class ANLS(Alternating):
    """Alternating non-negative least squares: every factor to its optimum, by block pivoting.

    A factor of any sign (semi-NMF: ``constraint.H=free``) takes its least squares.

    The objective never increases. A pull towards the factor as it is, of a few roundings, decides where
    the optimum is not unique (more components than features): what roundings leave of G has no inverse.

    Source: Kim & Park 2011; Grippo & Sciandrone 2000, section 6 (the proximal term).
    """

    name = "anls"
    curved_penalties = False

    def __init__(self, *, n_inner: int = 10) -> None:
        super().__init__(n_inner=n_inner)

    def improve(
        self,
        rows: Float[Tensor, "*r n k"],
        G: Float[Tensor, "*r k k"],
        C: Float[Tensor, "*r n k"],
        factor: Factor,
    ) -> Float[Tensor, "*r n k"]:
        size = G.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        pull = 4 * torch.finfo(G.dtype).eps * size
        eye = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
        return nnls(G + pull * eye, C + pull * rows, rows > 0)


@final
class ALS(Alternating):
    """Alternating least squares: unconstrained solution, then negative entries set to 0.

    Fast and rough. Cutting off negative entries is not a minimisation, so the objective can rise and the
    run need not end at a stationary point; ``anls`` solves the same problems exactly. Useful as a start.

    Parameters
    ----------
    project : bool
        False leaves the signs free: a low-rank approximation, the optimum of which is the SVD's.
    ridge : float, >= 0
        Added to the diagonal of G, in units of its mean diagonal.

    Source: Berry et al. 2007, section 3.3 (with the warning).
    """

    name = "als"
    monotone = False
    curved_penalties = False

    def __init__(
        self, *, project: bool = True, ridge: NotNegative = 1e-10, n_inner: int = 10
    ) -> None:
        super().__init__(n_inner=n_inner)
        self.project, self.ridge = project, ridge
        self.bounds = (NON_NEGATIVE if project else ANY,)

    def attach(self, model: Factorization) -> None:
        """Without projection the factors have any sign, also those of new rows."""
        if not self.project and model.bilinear:
            for factor in model.own_factors().values():
                factor.constraint = Free()

    def improve(
        self,
        rows: Float[Tensor, "*r n k"],
        G: Float[Tensor, "*r k k"],
        C: Float[Tensor, "*r n k"],
        factor: Factor,
    ) -> Float[Tensor, "*r n k"]:
        return least_squares(G, C, self.ridge).clamp_min(0)


@final
class ProjectedGradient(Alternating):
    """Projected gradient on each factor in turn, accelerated where its set is convex.

    For any constraint that is a projection (``simplex_project``, ``hoyer``).

    Parameters
    ----------
    accelerate : bool
        Nesterov's extrapolation within a factor's problem, restarted when it points uphill.
    n_sub : int
        Gradient steps per factor and iteration, each of length 1 / ||G||_2.

    Source: Lin 2007 (projected gradients for NMF); Guan et al. 2012 (NeNMF, accelerated);
    O'Donoghue & Candès 2015 (restart).
    """

    name = "pgd"

    def __init__(self, *, accelerate: bool = True, n_sub: int = 10, n_inner: int = 10) -> None:
        super().__init__(n_inner=n_inner)
        if n_sub < 1:
            raise UserError(f"solver.n_sub={n_sub}: it must be >= 1")
        self.accelerate, self.n_sub = accelerate, n_sub

    def lacks(self, task: Task) -> Iterator[str]:
        yield from self.about(task)
        yield from task.processes()
        for name, factor in task.model.factors.items():
            if not factor.constraint.identity:
                said = type(factor.constraint).__name__.lower()
                yield f"needs constraints that are projections, and {name} is under {said}"

    def improve(
        self,
        rows: Float[Tensor, "*r n k"],
        G: Float[Tensor, "*r k k"],
        C: Float[Tensor, "*r n k"],
        factor: Factor,
    ) -> Float[Tensor, "*r n k"]:
        limits = factor.constraint
        if not (limits.convex or factor.per_sample or limits.one_in == "column"):
            return self._in_turn(rows, G, C, limits)
        step = 1 / torch.linalg.matrix_norm(G, 2).clamp_min(1e-30)[..., None, None]
        theta, ahead, momentum = rows, rows, torch.ones_like(step)
        for _ in range(self.n_sub):
            gradient = ahead @ G - C
            new = ahead - step * gradient
            new = limits.project(new) if factor.per_sample else limits.project(new.mT).mT
            if not (self.accelerate and limits.convex):
                theta = ahead = new
                continue
            following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
            uphill = (gradient * (new - theta)).sum((-2, -1), keepdim=True) > 0
            weight = torch.where(uphill, 0, (momentum - 1) / following)
            ahead = new + weight * (new - theta)
            momentum, theta = torch.where(uphill, 1, following), new
        return theta

    def _in_turn(self, Ht: Tensor, G: Tensor, C: Tensor, limits: Constraint) -> Tensor:
        """One component after the other to its optimum: the row nearest to the unconstrained one."""
        H, C = Ht.mT.clone(), C.mT
        for j in range(H.shape[-2]):
            row = slice(j, j + 1)
            size = G[..., row, row].clamp_min(1e-30)
            best = H[..., row, :] + (C[..., row, :] - G[..., row, :] @ H) / size
            H[..., row, :] = limits.project(best)
        return H.mT
