"""``solver=adam``: gradient descent on the raw parameters, projected where the constraint says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, final

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch.optim import Optimizer

from nmfnet.core.objective import judged, sum_gradients
from nmfnet.errors import UserError
from nmfnet.kernels.csr import rows_at
from nmfnet.kernels.divergences import TINY
from nmfnet.settings.ranges import Positive, Range
from nmfnet.solvers.base import Solver, Task, total
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.factor import Factor
    from nmfnet.core.model import Factorization


@final
class RestartAdam(Optimizer):
    """Adam whose learning rate has one multiplier per restart (the first axis of every parameter).

    Each group has a ``scale``, a tensor of shape (r,): its parameters are moved as if they were
    measured in that unit.

    Source: Kingma & Ba 2015, algorithm 1.
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps})
        first: Tensor = self.param_groups[0]["params"][0]
        one = torch.ones(first.shape[0], dtype=first.dtype, device=first.device)
        self.param_groups[0]["multiplier"] = one  # in a group, so that it is checkpointed

    @property
    def multiplier(self) -> Tensor:
        """Of the learning rate, shape (r,); changed in place."""
        multiplier: Tensor = self.param_groups[0]["multiplier"]
        return multiplier

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:  # PyTorch moves the moments to the device, but not these
            for name in {"scale", "multiplier"} & group.keys():
                group[name] = group[name].to(group["params"][0].device)
        for parameter, state in self.state.items():
            state["step"] = state["step"].to(parameter.device)

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            (b1, b2), scale = group["betas"], group["scale"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = torch.zeros(p.shape[0], dtype=torch.float64, device=p.device)
                    state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
                state["step"] += 1
                state["mean"].lerp_(p.grad, 1 - b1)
                state["square"].mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                shape = (-1, *([1] * (p.ndim - 1)))
                seen = (1 - b2 ** state["step"]).to(p.dtype).view(shape)
                spread = (state["square"] / seen).sqrt_()
                spread.add_((group["eps"] / scale).view(shape))
                rate = (group["lr"] / (1 - b1 ** state["step"])).to(p.dtype)
                p.sub_(state["mean"] / spread * (rate * scale * self.multiplier).view(shape))

    @torch.no_grad()
    def begin_again(self, restart: int) -> None:
        """Forget the moments of a restart, and take half of the halvings of its rate back."""
        for state in self.state.values():
            for name in ("step", "mean", "square"):
                state[name][restart] = 0
        self.multiplier[restart] = self.multiplier[restart].sqrt()


@final
class Adam(Solver):
    """Adam on every parameter of the model, all restarts at once.

    A restart whose objective did not improve on its best during a training step halves its learning
    rate. Adam is not monotone: each restart ends on the best parameters it had at the end of a step
    (with minibatches, on the last, and what is recorded is each batch as it is trained on).

    Parameters
    ----------
    lr : float, > 0
        Learning rate.
    relative : bool
        Multiply ``lr`` by the root mean square of each factor at the start (of each restart), so
        that one learning rate serves factors of any scale (counts in the thousands, shares).
    betas : two floats in [0, 1)
        Decay of the running means of the gradient and of its square.
    eps : float
        Added to the denominator, in units of the starting objective per unit of the factor.
    halve : bool
        Halve the learning rate of a restart that stopped improving; False keeps it constant.
    heldout : float in [0, 1/2]
        Share of the rows, evenly spaced, that no gradient sees (early stopping): the objective that
        ends a restart, halves its rate and picks its best parameters is that of these rows, times
        n_samples over their number. For models with an encoder. 0 = all rows are trained on.
    n_inner : int
        Iterations per training step; with minibatches one iteration is one minibatch.
    """

    name = "adam"
    monotone = False
    calmer = "lower solver.lr, or use dtype=float64"

    def __init__(
        self,
        *,
        lr: float = 0.01,
        relative: bool = True,
        betas: Sequence[Annotated[float, Range(0, below=1)]] = (0.9, 0.999),
        eps: Positive = 1e-8,
        halve: bool = True,
        heldout: float = 0.0,
        n_inner: int = 100,
    ) -> None:
        super().__init__(n_inner=n_inner)
        if not 0 <= heldout <= 0.5:
            raise UserError(f"solver.heldout={heldout:g}: it must be in [0, 0.5]")
        if lr <= 0:
            raise UserError(f"solver.lr={lr:g}: it must be > 0")
        if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
            raise UserError(f"solver.betas={list(betas)}: give a list of two numbers in [0, 1)")
        self.lr, self.relative, self.eps, self.halve = lr, relative, eps, halve
        self.betas = (float(betas[0]), float(betas[1]))
        self.heldout, self.estimates = heldout, heldout > 0
        self.best: list[Tensor] = []
        self.lowest = torch.empty(0)
        self.unit: Tensor | None = None  # objective per row at the start, shape (r,)
        self.minibatch = False

    def lacks(self, task: Task) -> Iterator[str]:
        model = task.model
        yield from task.players()
        if not self.heldout:
            return
        why = ""
        if not model.inductive:
            why = f"an encoder, and {type(model).__name__} has a table of rows"
        elif not model.rows_independent:
            why = f"rows without neighbours, and {type(model).__name__} reads those of every row"
        elif task.batch_size is not None or model.world.size > 1:
            why = "all rows at once in one process"
        elif model.sizes.n_samples < 2 / self.heldout:
            why = f"at least {2 / self.heldout:.0f} rows, and X has {model.sizes.n_samples}"
        if why:
            yield f"with solver.heldout={self.heldout:g} needs {why}"

    def begin(self, task: Task) -> None:
        """With minibatches, one iteration is one minibatch."""
        self.minibatch = task.batch_size is not None
        if self.minibatch:
            self.n_inner = 1

    def optimizer(self, model: Factorization) -> RestartAdam:
        factors = [factor for factor in model.factors.values() if not factor.frozen]
        known = {id(factor.raw) for factor in factors}
        groups: list[dict[str, Any]] = [
            {"params": [factor.raw], "scale": self._scale(model, factor)} for factor in factors
        ]
        if others := [p for p in model.trainable() if id(p) not in known]:
            groups.append({"params": others, "scale": torch.ones_like(groups[0]["scale"])})
        return RestartAdam(groups, self.lr, self.betas, self.eps)

    def slopes(self, model: Factorization) -> list[Tensor] | None:
        """Over the last iterations."""
        state = of_lightning(model)[1].state
        if not state:
            return None
        return [
            state[p]["square"].sqrt() if p in state else torch.zeros_like(p)
            for p in model.trainable()
        ]

    def _scale(self, model: Factorization, factor: Factor) -> Tensor:
        square = factor.raw.detach().square()
        if factor.per_sample and model.world.size > 1:  # of all rows, not of this process's own
            count = model.world.n_total * square.shape[-1]
            rms = (model.world.total(square.sum((-2, -1))) / count).sqrt()
        else:
            rms = square.mean((-2, -1)).sqrt()
        return torch.where(rms > 0, rms, 1) if self.relative else torch.ones_like(rms)

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        wrapped, adam = of_lightning(model)
        for i in frozen(model, live):
            adam.multiplier[i] = 0
        seen, judged = self._parted(batch)
        rows = seen.x.shape[0]
        if self.unit is None:
            with torch.no_grad():
                self.unit = (total(model.objective(seen)) / rows).clamp_min(TINY)
        for i in range(n_iter):
            adam.zero_grad(set_to_none=True)
            model.now = model.iteration + i
            trained = model.objective(model.augment(seen, model.iteration + i))
            objective = total(trained)
            relative = (objective / (rows * self.unit)).sum()
            relative.backward()  # type: ignore[no-untyped-call]
            sum_gradients(model)
            wrapped.step() if i == n_iter - 1 else adam.step()  # Lightning counts the last one
            for factor in model.factors.values():
                factor.project_()
        model.now = None
        if self.minibatch:  # to judge every one of them takes longer than to train on it
            return {name: term.detach()[live] for name, term in trained.items()}
        terms = judge(model, judged, batch.x.shape[0] / judged.x.shape[0])
        self.remember(model, adam, total(terms), model.iteration + n_iter < model.warm_up)
        return {name: term[live] for name, term in terms.items()}

    def _parted(self, batch: Batch) -> tuple[Batch, Batch]:
        """Rows for gradients, and rows that the objective is taken of."""
        if not self.heldout:
            return batch, batch
        every, n = round(1 / self.heldout), batch.x.shape[0]
        out = torch.arange(n, device=batch.x.device) % every == every // 2
        parts = (rows.nonzero()[:, 0] for rows in (~out, out))
        seen, judged = (batch.by_row(lambda t, at=at: rows_at(t, at)) for at in parts)  # type: ignore[misc]
        return seen, judged

    def remember(
        self, model: Factorization, adam: RestartAdam, objective: Tensor, warming: bool
    ) -> None:
        """Keep the best parameters so far; of a model that warms up, the last."""
        tensors = [tensor.data for tensor in model.restart_tensors()]
        if warming or not self.best:
            self.best = [tensor.clone() for tensor in tensors]
            self.lowest = objective.clone()
            return
        better = objective < self.lowest
        self.lowest = torch.where(better, objective, self.lowest)
        for kept, tensor in zip(self.best, tensors, strict=True):
            kept[better] = tensor[better]
        if self.halve:
            adam.multiplier[~better] *= 0.5

    def running(self) -> dict[str, Any]:
        return {"best": self.best, "lowest": self.lowest, "unit": self.unit}

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        device = model.device
        self.best = [tensor.to(device) for tensor in running["best"]]
        self.lowest = running["lowest"].to(device)
        self.unit = None if running["unit"] is None else running["unit"].to(device)

    def recall(self, model: Factorization, restart: int) -> None:
        for tensor, kept in zip(model.restart_tensors(), self.best, strict=False):
            tensor.data[restart] = kept[restart]

    def rebase(self, model: Factorization, restart: int, objective: float) -> None:
        of_lightning(model)[1].begin_again(restart)
        if self.best:
            self.lowest[restart] = objective
            for tensor, kept in zip(model.restart_tensors(), self.best, strict=True):
                kept[restart] = tensor.data[restart]

    def finish(self, model: Factorization, rows: Iterable[Batch]) -> None:
        for tensor, kept in zip(model.restart_tensors(), self.best, strict=False):
            tensor.data.copy_(kept)


def of_lightning(model: Factorization) -> tuple[LightningOptimizer, RestartAdam]:
    """Lightning's wrapper, which counts steps, and what is in it."""
    wrapped = model.optimizers()
    assert isinstance(wrapped, LightningOptimizer)
    assert isinstance(wrapped.optimizer, RestartAdam)
    return wrapped, wrapped.optimizer


@torch.no_grad()
def judge(model: Factorization, batch: Batch, scale: float = 1.0) -> Terms:
    """The terms of the objective as the fitted model will have them (batch norm: running means)."""
    with judged(model):
        terms = model.objective(batch)
    return {name: term * scale for name, term in terms.items()} if scale != 1 else terms


def frozen(model: Factorization, live: Iterable[int]) -> list[int]:
    """Restarts that have stopped."""
    return sorted(set(range(model.n_restarts)) - set(live))
