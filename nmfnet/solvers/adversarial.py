"""``solver=adversarial``: players with a loss each, who move in turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, final

import torch

from nmfnet.settings.ranges import Count, Positive, Range
from nmfnet.solvers.base import Solver, Task, total
from nmfnet.solvers.gradient import Adam, RestartAdam, judge, of_lightning
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


@final
class Adversarial(Solver):
    """Adam for a game: every player goes down a loss of its own, while the others are held.

    For models that say who plays (``model.players``). In an iteration every player but the last moves
    ``turns`` times, then the last one once, each time on rows drawn with replacement, by each
    restart for itself. No objective falls, so nothing but the budget ends a restart. It ends on the
    parameters that it had at the end of the training step with the lowest objective.

    Parameters
    ----------
    lr : float, > 0
        Learning rate.
    betas : two floats in [0, 1)
        Decay of the running means of the gradient and of its square.
    turns : int, >= 1
        Moves of every other player for one of the last.
    rows : int, >= 1
        Rows of a move.
    n_inner : int, >= 1
        Iterations per training step.

    Source: Gulrajani et al. 2017, algorithm 1; Kingma & Ba 2015 (Adam).
    """

    name = "adversarial"
    monotone = False
    endless = True
    calmer = "lower solver.lr, or raise model.penalty_weight"

    def __init__(
        self,
        *,
        lr: Positive = 0.004,
        betas: Sequence[Annotated[float, Range(0, below=1)]] = (0.5, 0.9),
        turns: Count = 3,
        rows: Count = 128,
        n_inner: Count = 100,
    ) -> None:
        super().__init__(n_inner=n_inner)
        self.turns, self.rows = turns, rows
        self.adam = Adam(lr=lr, relative=False, betas=betas, halve=False, n_inner=n_inner)

    def lacks(self, task: Task) -> Iterator[str]:
        if not task.model.overrides("players"):
            yield f"is for models of players with a loss each, and {type(task.model).__name__} has one"
        yield from task.minibatches()
        yield from task.processes()
        yield from task.fixed()
        yield from task.penalties()
        if task.sparse:
            yield "needs a dense X, and this one is sparse"

    def optimizer(self, model: Factorization) -> RestartAdam:
        return self.adam.optimizer(model)

    def step(self, model: Factorization, batch: Batch, n_iter: int, live: list[int]) -> Terms:
        wrapped, adam = of_lightning(model)
        *others, last = model.players()
        moves = [player for player in others for _ in range(self.turns)] + [last]
        for i in range(n_iter):
            for turn, player in enumerate(moves):
                model.now = (model.iteration + i) * len(moves) + turn
                loss = player.loss(self._drawn(model, batch))
                gradients = torch.autograd.grad(loss.sum(), player.parameters)
                adam.zero_grad(set_to_none=True)  # who is held has no gradient
                for parameter, gradient in zip(player.parameters, gradients, strict=True):
                    parameter.grad = gradient
                at_end = i == n_iter - 1 and player is last
                wrapped.step() if at_end else adam.step()  # Lightning counts the last one
        model.now = None
        terms = judge(model, batch)
        self.adam.remember(model, adam, total(terms), warming=False)
        return {name: term[live] for name, term in terms.items()}

    def _drawn(self, model: Factorization, batch: Batch) -> Batch:
        """Rows of each restart's own."""
        n = batch.x.shape[0]
        share: Tensor = torch.special.ndtr(model.noise(self.rows, 1).double())[..., 0]
        at = (share * n).long().clamp_max(n - 1)
        return batch.by_row(lambda tensor: tensor[at])

    def running(self) -> dict[str, Any]:
        return self.adam.running()

    def resume(self, model: Factorization, running: dict[str, Any]) -> None:
        self.adam.resume(model, running)

    def recall(self, model: Factorization, restart: int) -> None:
        self.adam.recall(model, restart)

    def finish(self, model: Factorization, rows: Iterable[Batch]) -> None:
        self.adam.finish(model, rows)
