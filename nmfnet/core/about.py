"""A fitted model in a few lines: what it is, what it was fitted to, how well, and how that ended."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

__all__ = ["as_html", "as_text", "facts"]


def facts(model: Factorization) -> dict[str, str]:
    """The lines, by what they are about."""
    n, f = model.sizes
    numbers, best = model.metrics, int(model.best)
    told = {"data": f"{n:,} samples × {f:,} features", "components": f"{model.n_components}"}
    told |= {"loss": model.loss.name, "solver": model.solver.name}
    objective = float(numbers.get("train/loss", model.objectives[best] * model.loss_unit))
    if not math.isfinite(objective):
        return told | {"ended": "not fitted"}
    told["loss"] += f" {objective:.6g}"
    for part, words in (("train", "relative error"), ("test", "held-out error")):
        if (error := numbers.get(f"{part}/relative_error")) is not None:
            told[words] = f"{error:.4g}"
    status = numbers.get("status", "converged" if bool(model.converged[best]) else "not converged")
    seconds = f", {numbers['seconds']:.3g} s" if "seconds" in numbers else ""
    word = "at the end of its budget" if status == "budget" else status
    told["ended"] = f"{word} after {int(model.n_iter[best]):,} iterations{seconds}"
    if (fall := numbers.get("certificate/fall")) is not None:
        told["certificate"] = (
            f"another descent lowers the objective by {fall:.1e} of its value"
            if fall
            else "another descent finds nothing lower"
        )
    elif status != "converged":
        told["certificate"] = "none: not proved converged"
    if (restarts := numbers.get("n_restarts", model.n_restarts)) > 1:
        agree = numbers.get("stability/matched_cosine")
        told["restarts"] = f"{restarts}" + (
            "" if agree is None else f", which agree to {agree:.3f}"
        )
    return told


def as_text(model: Factorization) -> str:
    """The facts for a terminal."""
    lines = facts(model)
    width = max(map(len, lines))
    return "\n".join([type(model).__name__, *(f"  {k:<{width}}  {v}" for k, v in lines.items())])


def as_html(model: Factorization) -> str:
    """The facts for a notebook: a table without colours of its own."""
    cell = "text-align:left;padding:2px 14px 2px 0;border:none;vertical-align:top"
    rows = "".join(
        f'<tr style="background:none"><th style="{cell};font-weight:normal;opacity:.65">{_safe(key)}</th>'
        f'<td style="{cell}">{_safe(value)}</td></tr>'
        for key, value in facts(model).items()
    )
    head = f'<div style="font-weight:bold;padding-bottom:4px">{_safe(type(model).__name__)}</div>'
    return f'<div>{head}<table style="border-collapse:collapse;border:none">{rows}</table></div>'


def _safe(value: Any) -> str:
    return html.escape(str(value))
