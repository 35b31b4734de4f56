"""``solver=adam``: gradient descent on the raw parameters, projected where the constraint says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, final

import torch
from torch.optim import Optimizer

from nmfnet.errors import UserError
from nmfnet.solvers.base import Solver, total
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.factorization import Factorization


@final
class RestartAdam(Optimizer):
    """Adam whose learning rate has one multiplier per restart (the first axis of every parameter).

    Source: Kingma & Ba 2015, algorithm 1.
    """

    def __init__(
        self, groups: list[dict[str, Any]], betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(groups, {"betas": betas, "eps": eps})
        first: Tensor = self.param_groups[0]["params"][0]
        self.multiplier = torch.ones(first.shape[0], dtype=first.dtype, device=first.device)

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            (b1, b2), eps = group["betas"], group["eps"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
                state["step"] += 1
                state["mean"].lerp_(p.grad, 1 - b1)
                state["square"].mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                spread = (state["square"] / (1 - b2 ** state["step"])).sqrt_().add_(eps)
                rate = group["lr"] / (1 - b1 ** state["step"])
                each = self.multiplier.view(-1, *([1] * (p.ndim - 1)))
                p.sub_(state["mean"] / spread * (rate * each))


@final
class Adam(Solver):
    """Adam on every parameter of the model, all restarts at once.

    A restart whose objective did not improve on its best during a training step halves its learning
    rate. Adam is not monotone: each restart ends on the best parameters it had at the end of a step
    (with minibatches, on the last).

    Parameters
    ----------
    lr : float, > 0
        Learning rate.
    relative : bool
        Multiply ``lr`` by the root mean square of each factor at the start, so that one learning
        rate serves factors of any scale (counts in the thousands, shares below one).
    betas : two floats in [0, 1)
        Decay of the running means of the gradient and of its square.
    eps : float
        Added to the denominator.
    halve : bool
        Halve the learning rate of a restart that stopped improving; False keeps it constant.
    n_inner : int
        Iterations per training step; with minibatches one iteration is one minibatch.
    """

    name = "adam"

    def __init__(
        self,
        *,
        lr: float = 0.01,
        relative: bool = True,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        halve: bool = True,
        n_inner: int = 100,
    ) -> None:
        super().__init__(n_inner=n_inner)
        if lr <= 0:
            raise UserError(f"solver.lr={lr:g}: it must be > 0")
        self.lr, self.relative, self.eps, self.halve = lr, relative, eps, halve
        self.betas = (float(betas[0]), float(betas[1]))
        self.best: list[Tensor] = []
        self.lowest = torch.empty(0)
        self.minibatch = False

    def check(self, model: Factorization, batch_size: int | None) -> None:
        """Any model and loss will do; minibatches take one iteration each."""
        self.minibatch = batch_size is not None
        if self.minibatch:
            self.n_inner = 1

    def optimizer(self, model: Factorization) -> RestartAdam:
        factors = [factor.raw for factor in model.factors.values()]
        known = {id(raw) for raw in factors}
        groups = [{"params": [raw], "lr": self.lr * self._scale(raw)} for raw in factors]
        if others := [p for p in model.parameters() if id(p) not in known]:
            groups.append({"params": others, "lr": self.lr})
        return RestartAdam(groups, self.betas, self.eps)

    def _scale(self, raw: Tensor) -> float:
        rms = float(raw.detach().square().mean().sqrt()) if self.relative else 1.0
        return rms if rms > 0 else 1.0

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        wrapped = model.optimizers()
        assert not isinstance(wrapped, list)
        adam = wrapped.optimizer
        assert isinstance(adam, RestartAdam)
        for i in frozen(model, live):
            adam.multiplier[i] = 0
        entries = batch.x.shape[0] * batch.x.shape[1]
        for i in range(n_iter):
            adam.zero_grad(set_to_none=True)
            mean = total(model.objective(batch)).sum() / entries
            mean.backward()  # type: ignore[no-untyped-call]
            wrapped.step() if i == n_iter - 1 else adam.step()  # Lightning counts the last one
            for factor in model.factors.values():
                factor.project_()
        with torch.no_grad():
            terms = model.objective(batch)
        if not self.minibatch:
            self._remember(model, adam, total(terms))
        return {name: term[live] for name, term in terms.items()}

    def _remember(self, model: Factorization, adam: RestartAdam, objective: Tensor) -> None:
        tensors = [tensor.data for tensor in model.restart_tensors()]
        if not self.best:
            self.best = [tensor.clone() for tensor in tensors]
            self.lowest = objective.clone()
            return
        better = objective < self.lowest
        self.lowest = torch.where(better, objective, self.lowest)
        for kept, tensor in zip(self.best, tensors, strict=True):
            kept[better] = tensor[better]
        if self.halve:
            adam.multiplier[~better] *= 0.5

    def finish(self, model: Factorization, batch: Batch) -> None:
        for tensor, kept in zip(model.restart_tensors(), self.best, strict=False):
            tensor.data.copy_(kept)


def frozen(model: Factorization, live: Iterable[int]) -> list[int]:
    """Restarts that have stopped."""
    return sorted(set(range(model.n_restarts)) - set(live))
