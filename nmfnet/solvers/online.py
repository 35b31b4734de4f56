"""``solver=online``: minibatches, with what was seen before kept as decayed sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, final

import torch

from nmfnet.core.constraints import NON_NEGATIVE
from nmfnet.errors import UserError
from nmfnet.kernels.divergences import TINY
from nmfnet.kernels.multiplicative import Sums, apply_update_, nmf_sums_H, nmf_sums_W
from nmfnet.kernels.sparse import sparse_sums, transpose_of, transposed
from nmfnet.solvers.base import Solver, Task, collect, count_step
from nmfnet.solvers.multiplicative import exponent_of
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


@final
class Online(Solver):
    """NMF from minibatches: W of the batch, then H from sums over all batches so far.

    For X ~ W H, and for models that say themselves what is summed (``absorb`` and ``refine``: ``inmf``).
    These solve for the codes of a batch exactly and then improve all else; their codes are found again
    when training has ended. With all rows at once no step of theirs raises the objective.

    The squared error needs ``A = Σ Wᵀ W`` and ``B = Σ Wᵀ X``, any other beta divergence the two
    multiplicative sums of H, of which ``B = Σ H^(1/e) ∘ Wᵀ(X ∘ (W H)^(beta - 2))`` is divided by
    ``A = Σ Wᵀ (W H)^(beta - 1)``; e is the exponent of the update. Before a batch of b of the n rows
    is added, the sums decay by ``(1 - b / n) ** forgetting``, so they remember about ``n / forgetting``
    rows; one batch of all rows remembers nothing, and is then the same as ``solver=mu
    solver.extrapolation=false``.

    Parameters
    ----------
    rule : {"mu", "hals"}
        Update of H from the sums under the squared error, for X ~ W H: one multiplicative step, or one
        cycle of coordinate descent over the components. All other losses have one rule.
    n_sub : int, >= 1
        Updates of the batch's W, from where it was when its rows were last seen, for X ~ W H.
    forgetting : float, >= 0
        0 = remember everything for ever.

    Source: Mairal et al. 2010 (sums for the squared error); Lefèvre, Bach & Févotte 2011 (the others);
    Gao et al. 2021 (``inmf``).
    """

    name = "online"
    monotone = False

    def __init__(
        self,
        *,
        rule: Literal["mu", "hals"] = "mu",
        n_sub: int = 1,
        forgetting: float = 1.0,
    ) -> None:
        super().__init__(n_inner=1)
        if n_sub < 1 or forgetting < 0:
            raise UserError(f"solver.n_sub={n_sub} must be >= 1 and forgetting={forgetting} >= 0")
        self.rule, self.n_sub, self.forgetting = rule, n_sub, forgetting
        self.minibatch = False
        self.register_buffer("A", torch.empty(0))
        self.register_buffer("B", torch.empty(0))
        self.A: Tensor
        self.B: Tensor

    def begin(self, task: Task) -> None:
        self.minibatch = task.batch_size is not None
        self.monotone = bool(task.model.groups) and not self.minibatch

    def attach(self, model: Factorization) -> None:
        if model.groups:
            r, k, f = model.n_restarts, model.n_components, model.sizes.n_features
            first = next(model.parameters()).detach()
            self.A = first.new_zeros(r, model.groups * k, k)
            self.B = first.new_zeros(r, model.groups * k, f)
        elif model.bilinear:
            r, k, f = model.factors["H"].raw.shape
            H = model.factors["H"].raw.detach()
            self.A = H.new_zeros(r, k, {2.0: k, 1.0: 1}.get(model.loss.beta or 0.0, f))
            self.B = H.new_zeros(r, k, f)

    def lacks(self, task: Task) -> Iterator[str]:
        if task.model.groups:
            yield from task.penalties()
        else:
            yield from task.pair()
        yield from task.neighbours()
        if task.model.loss.beta is None:
            yield f"is for the beta divergences, and the loss is {task.model.loss.name}"
        yield from task.outside(NON_NEGATIVE)
        yield from task.fixed()
        if self.rule == "hals" and task.model.loss.beta != 2:
            yield f"has no rule=hals for {task.model.loss.name}: set solver.rule=mu"
        yield from task.weights()
        yield from task.processes()

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        count_step(model)
        return self.learn(model, batch, model.sizes.n_samples, n_iter, live)

    @torch.no_grad()
    def learn(
        self, model: Factorization, batch: Batch, n_total: int, n_iter: int, live: list[int]
    ) -> Terms:
        """``n_iter`` iterations on a batch out of ``n_total`` rows; the objective of the batch."""
        keep = max(0.0, 1 - batch.x.shape[0] / n_total) ** self.forgetting
        if model.groups:
            return self._absorb(model, batch, keep, n_iter, live)
        beta = model.loss.beta
        assert beta is not None
        W, H = model.factors["W"].raw.data, model.factors["H"].raw.data
        of_W, of_H = (exponent_of(model, name) for name in ("W", "H"))
        collected: list[Terms] = []
        for restart in live:
            for _ in range(n_iter):
                own = W[restart, batch.index]
                for _ in range(self.n_sub):
                    neg, pos = self._sums("W", batch, own, H[restart], beta)
                    apply_update_(own, *with_penalties(model, "W", own, neg, pos), of_W)
                W[restart, batch.index] = own
                self._remember(batch, own, H[restart], restart, keep, beta, of_H)
                self._improve(model, H[restart], restart, beta, of_H)
            with model.restarts(restart):
                collected.append(model.objective(batch))
        return {name: torch.stack([terms[name] for terms in collected]) for name in collected[0]}

    def _absorb(
        self, model: Factorization, batch: Batch, keep: float, n_iter: int, live: list[int]
    ) -> Terms:
        """The same for a model that says itself what is summed."""
        collected: list[Terms] = []
        for restart in live:
            with model.restarts(restart):
                for _ in range(n_iter):
                    A, B = model.absorb(batch)
                    self.A[restart].mul_(keep).add_(A)
                    self.B[restart].mul_(keep).add_(B)
                    model.refine(self.A[restart], self.B[restart])
                collected.append(model.objective(batch))
        return collect(collected)

    @torch.no_grad()
    def finish(self, model: Factorization, rows: Iterable[Batch]) -> None:
        """Codes that were the best when the components were others are found again."""
        if not (model.groups and self.minibatch):
            return
        for batch in rows:
            for restart in range(model.n_restarts):
                with model.restarts(restart):
                    model.absorb(batch)

    @staticmethod
    def _sums(name: str, batch: Batch, W: Tensor, H: Tensor, beta: float) -> Sums:
        if batch.x.is_sparse_csr:
            turned = transpose_of(batch.x) if name == "H" else None
            return sparse_sums(name, batch.x, turned, W, H, beta, masked=False)
        return (nmf_sums_W if name == "W" else nmf_sums_H)(batch.x, W, H, beta)

    def _remember(
        self,
        batch: Batch,
        W: Tensor,
        H: Tensor,
        restart: int,
        keep: float,
        beta: float,
        exponent: float,
    ) -> None:
        """Add a batch to the decayed sums."""
        A, B = self.A[restart].mul_(keep), self.B[restart].mul_(keep)
        if beta != 2:
            neg, pos = self._sums("H", batch, W, H, beta)
            A.add_(pos)
            B.add_(H ** (1 / exponent) * neg)
            return
        A.add_(W.mT @ W)
        x = batch.x
        B.add_((transposed(x, transpose_of(x)) @ W).mT if x.is_sparse_csr else W.mT @ x)

    def _improve(
        self, model: Factorization, H: Tensor, restart: int, beta: float, exponent: float
    ) -> None:
        """New H from the sums, in place."""
        A, B = self.A[restart], self.B[restart]
        if self.rule == "mu":  # beside the squared error, B holds a power of H times the numerator
            neg, pos = (B.clone(), A @ H) if beta == 2 else (B / H ** (1 / exponent), A)
            apply_update_(H, *with_penalties(model, "H", H, neg, pos), exponent)
        else:
            for penalty in model.penalty_list:
                if penalty.on == "H":
                    quadratic, linear = penalty.normal(A, H)
                    A, B = A + quadratic, B - linear
            for j in range(H.shape[0]):
                step = (B[j] - A[j] @ H) / A[j, j].clamp_min(TINY)
                H[j].add_(step).clamp_min_(TINY)


def with_penalties(
    model: Factorization, name: str, value: Tensor, neg: Tensor, pos: Tensor
) -> Sums:
    """The two sums of a factor with those of its penalties."""
    for penalty in model.penalty_list:
        if penalty.on == name:
            more_neg, more_pos = penalty.split(value)
            neg, pos = neg + more_neg, pos + more_pos
    return neg, pos
