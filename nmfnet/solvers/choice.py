"""Which solver: the fastest that can do a task, and what to say where one cannot."""

from __future__ import annotations

from collections.abc import Iterator

from nmfnet.config import conf_dir, options
from nmfnet.errors import UserError
from nmfnet.settings.objects import build
from nmfnet.solvers.base import Solver, Task


def check_solver(solver: Solver, task: Task) -> None:
    """Refuse a task that a solver cannot do.

    Raises
    ------
    UserError
        Says why, and which solvers can: they are asked, not listed; or that the model takes no sparse X.
    """
    kind = type(task.model).__name__
    if task.sparse and not task.model.sparse:  # whatever the solver
        raise UserError(
            f"{kind} needs a dense X, and this one is sparse: use model=nmf, or give X as a dense array "
            "(a list of entries: data.sparse=false)"
        )
    reason = next(_lacks(solver, task), None)
    if reason is not None:
        raise UserError(f"solver={solver.name} {reason}: {_advice(solver, task)}")


def able(task: Task) -> list[str]:
    """Choices of the group ``solver`` that can do a task, with their default options."""
    import yaml

    found = []
    for name in options("solver"):
        node = yaml.safe_load((conf_dir() / "solver" / f"{name}.yaml").read_text())
        if not list(_lacks(build(node), task)):
            found.append(name)
    return found


def _lacks(solver: Solver, task: Task) -> Iterator[str]:
    """Why a solver cannot do a task."""
    if not task.model.moved() and not solver.at_once:
        kind = type(task.model).__name__
        yield f"has nothing to move: {kind} as configured is solved at once"
    yield from solver.lacks(task)


def _advice(solver: Solver, task: Task) -> str:
    named = [name for name in able(task) if name != "auto"]
    if solver.name in named:  # only the options are at fault
        return f"use {solver.usual}"
    if named:
        words = [f"solver={name}" for name in named]
        return f"use {', '.join(words[:-1])}{' or ' if words[1:] else ''}{words[-1]}"
    if task.batch_size is not None and able(task._replace(batch_size=None)):
        return "set batch_size=null"
    if task.model.world.size > 1:
        return "no solver can do this in several processes: use trainer=default"
    return "no solver can do this: change the constraint, the loss or the penalty"
