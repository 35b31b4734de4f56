"""Extrapolated block descent whose objective never increases: what the fast solvers share.

A solver moves a pair of factors from an extrapolated point, because that needs far fewer
iterations; :func:`guarded` runs it for a while and keeps the result only if the objective fell.
Factors are kept component-major, (k, n) and (k, f), so that products and sweeps read memory in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from nmfnet.types import Float, Tensor

Rows = list[int]
Pair = tuple[Tensor, Tensor]


class State(NamedTuple):
    """All that a fit needs to go on where it stopped, bit for bit. Tensors, changed in place.

    Attributes
    ----------
    w, h : Tensor, shapes (r, k, n) and (r, k, f)
        The factors reached (the transpose of W, and H).
    w_now, w_before, h_now, h_before : Tensor
        Two points of the running fit; which is which is the solver's business.
    memory : Tensor of float64, shape (r, 3)
        Nesterov's t, the solver's last internal objective, the objective of (w, h).
    """

    w: Tensor
    h: Tensor
    w_now: Tensor
    w_before: Tensor
    h_now: Tensor
    h_before: Tensor
    memory: Tensor

    @property
    def W(self) -> Float[Tensor, "r n k"]:
        """The factor W reached, a view of shape (r, n, k)."""
        return self.w.mT

    @property
    def H(self) -> Float[Tensor, "r k f"]:
        """The factor H reached, shape (r, k, f)."""
        return self.h


def begin(W: Float[Tensor, "*r n k"], H: Float[Tensor, "*r k f"]) -> State:
    """A fit that starts from W and H (copied); several or no leading dimensions become one."""
    w = W.detach().mT.reshape(-1, W.shape[-1], W.shape[-2])
    h = H.detach().reshape(-1, *H.shape[-2:])
    memory = torch.full((w.shape[0], 3), torch.inf, dtype=torch.float64, device=w.device)
    memory[:, 0] = 1
    return State(_copy(w), _copy(h), _copy(w), _copy(w), _copy(h), _copy(h), memory)


def _copy(v: Tensor) -> Tensor:
    """Contiguous, and as in :func:`place` without torch's threads on a CPU."""
    if v.device.type == "cpu":
        return torch.from_numpy(np.array(v.numpy(), order="C"))
    return v.clone(memory_format=torch.contiguous_format)


def untouched(state: State) -> Rows:
    """Restarts that :func:`guarded` has not run yet."""
    return [i for i, value in enumerate(state.memory[:, 2].tolist()) if value == torch.inf]


def place(target: Tensor, source: Tensor, rows: Rows) -> None:
    """``target[rows] = source[rows]``; on a CPU by numpy.

    Torch would wake all its threads for it, which go on spinning while others want their cores.
    """
    if target.device.type == "cpu":
        into, new = target.numpy(), source.numpy()
        for row in rows:
            into[row] = new[row]
    else:
        target[rows] = source[rows]


def rewind(state: State, rows: Rows) -> None:
    """Put the running fit of some restarts back on the factors reached, without momentum."""
    for kept, running in ((state.w, state[2:4]), (state.h, state[4:6])):
        for tensor in running:
            place(tensor, kept, rows)
    state.memory[rows, 0] = 1
    state.memory[rows, 1] = torch.inf


def guarded(
    state: State,
    rows: Rows | None,
    run: Callable[[Rows, bool], None],
    reached: Callable[[State], Pair],
    objective: Callable[[Tensor, Tensor, Rows], Tensor],
) -> Float[Tensor, " live"]:
    """Run with extrapolation, repeat without where that did not help, and keep what is better.

    Parameters
    ----------
    state : State
        Changed in place.
    rows : list of int, optional
        Restarts to advance; default all.
    run : callable
        (restarts, extrapolate?) -> None, advances the running fits.
    reached : callable
        Which (w, h) of the state the running fits have arrived at.
    objective : callable
        (w, h, restarts) -> float64 tensor with one value for each of them.

    Returns
    -------
    Tensor of float64, shape (len(rows),)
        Objective of (w, h), never above that of the previous call.
    """
    rows = list(range(state.w.shape[0])) if rows is None else rows
    before = state.memory[rows, 2]
    if bool(torch.isinf(before).any()):
        before = objective(state.w, state.h, rows)
    trying, value = list(range(len(rows))), before.clone()
    for extrapolate in (True, False):
        run([rows[i] for i in trying], extrapolate)
        w, h = reached(state)
        found = objective(w, h, [rows[i] for i in trying])
        good = (found <= before[trying]).tolist()
        better = [rows[i] for i, ok in zip(trying, good, strict=True) if ok]
        place(state.w, w, better)
        place(state.h, h, better)
        value[trying] = torch.where(found <= before[trying], found, before[trying])
        trying = [i for i, ok in zip(trying, good, strict=True) if not ok]
        if not trying:
            break
        rewind(state, [rows[i] for i in trying])
    state.memory[rows, 2] = value
    return value
