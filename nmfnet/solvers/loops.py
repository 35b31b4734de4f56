"""How the iterations of a multiplicative step are run: eagerly, as a CUDA graph, or compiled."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, final

import torch

from nmfnet.core.objective import factor_sums
from nmfnet.kernels.multiplicative import apply_update_
from nmfnet.types import Batch, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

BLOCK = 10
"""Iterations that are compiled into one function: more take longer to compile and are no faster."""


def extrapolations(n_iter: int) -> list[float]:
    """Nesterov's weights of the last move, of ``n_iter`` iterations from a standing start."""
    weights, t = [], 1.0
    for _ in range(n_iter):
        following = (1 + (1 + 4 * t**2) ** 0.5) / 2
        weights.append((t - 1) / following)
        t = following
    return weights


def updates(
    model: Factorization,
    batch: Batch,
    weights: Sequence[float | Tensor | None],
    previous: dict[str, Tensor],
    exponents: dict[str, float],
    fused: bool,
) -> None:
    """One update of every factor that has an exponent per entry of ``weights``, without a wait.

    Parameters
    ----------
    model, batch : Factorization, Batch
    weights : sequence of float, Tensor of one number, or None
        How much of the last move (where that was a rise) is added to a factor before its update.
    previous : dict of str to Tensor
        The factors before the last iteration; overwritten. Not looked at where weights are None.
    exponents : dict of str to float
        Of the multiplicative updates.
    fused : bool
        False = sums by autograd.
    """
    moved = {name: model.factors[name] for name in exponents}
    for weight in weights:
        for name, factor in moved.items():
            theta = factor.raw.data
            if weight is not None:
                ahead = torch.sub(theta, previous[name]).clamp_min_(0)
                previous[name].copy_(theta)
                theta.add_(ahead.mul_(weight))
            neg, pos = factor_sums(model, name, batch, fused=fused)
            apply_update_(theta, neg, pos, exponents[name])
            if not factor.constraint.closed_under_scaling:
                factor.project_()


def compiled_updates(
    model: Factorization, batch: Batch, weights: Sequence[float | None], *rest: Any
) -> None:
    """:func:`updates` in blocks compiled by torch.compile; what is left over is not compiled."""
    whole = len(weights) - len(weights) % BLOCK
    for i in range(0, whole, BLOCK):
        block: Sequence[Any] = weights[i : i + BLOCK]
        if block[0] is not None:  # as tensors: a number would be compiled in
            block = torch.tensor(block, dtype=batch.x.dtype, device=batch.x.device).unbind()
        _compiled()(model, batch, block, *rest)
    updates(model, batch, weights[whole:], *rest)


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., None]:
    return torch.compile(updates, dynamic=False)


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which torch.compile needs on a CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++", "cl"))


@final
class Recorder:
    """Work on a GPU, recorded as a CUDA graph the second time and replayed from then on.

    The first time is as usual, since it compiles kernels and sets up libraries, which cannot be
    recorded. A graph reads and writes the same memory whenever it is replayed: what it is known by
    must say which.
    """

    MOST = 4
    """Graphs kept: each has memory of its own."""

    def __init__(self) -> None:
        self.graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}

    def __call__(self, known_by: Hashable, work: Callable[[], None]) -> None:
        """Do the work, or replay it."""
        if known_by not in self.graphs:
            if len(self.graphs) == self.MOST:
                self.graphs.clear()
            self.graphs[known_by] = None
            work()
            return
        graph = self.graphs[known_by]
        if graph is None:
            graph = self.graphs[known_by] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                work()
        graph.replay()


def place(tensor: Tensor | None) -> Hashable:
    """Where and how a tensor lies in memory."""
    return None if tensor is None else (tensor.data_ptr(), tensor.shape, tensor.stride())


def on_host(before: Tensor, terms: Terms) -> tuple[Tensor, Terms]:
    """An objective and the terms of another, fetched from the device in one go."""
    first, *rest = torch.stack([before, *terms.values()]).cpu()
    return first, dict(zip(terms, rest, strict=True))
