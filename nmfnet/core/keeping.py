"""What a checkpoint keeps of a fit beside the tensors, and how the fit goes on from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nmfnet.types import Tensor

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization


def kept(model: Factorization) -> dict[str, Any]:
    """How to build the model again, and how to continue its fit (None inside a step)."""
    running = {
        "settled": model.settled,
        "live": list(model.live),
        "step_terms": model.step_terms,
        "prelude": (model.prelude.n_iter, model.prelude.cut),
        "tensors": model.unsettled,
        "solver": model.solver.running(),
    }
    return {
        "sizes": tuple(model.sizes),
        "iteration": model.iteration,
        "asks_loss": model.asks_loss,
        "running": running if model.resumable else None,
        **model.recipe,
    }


def go_on(model: Factorization, kept: dict[str, Any]) -> dict[str, Tensor]:
    """Continue the fit that `kept` is of; the tensors where it differs from what was saved."""
    running = kept["running"]
    model.iteration, model.live = kept["iteration"], list(running["live"])
    model.settled = running["settled"]
    model.step_terms = [
        {name: term.to(model.device) for name, term in step.items()}
        for step in running["step_terms"]
    ]
    model.solver.resume(model, running["solver"])
    model.prelude.n_iter, model.prelude.cut = running.get("prelude", (0, False))
    tensors: dict[str, Tensor] = running["tensors"]
    return tensors
