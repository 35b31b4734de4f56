"""In which units a model works inside: X is divided by a power of two where it is far from 1.

Squares of 1e-30 are 0 in float32, steps of a descent have a size, and floors keep divisions safe: all of
it is made for numbers near 1. A power of two divides without rounding. What the user sees (factors,
X_hat, losses) is in the units of his X.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from nmfnet.core.objective import judged
from nmfnet.errors import UserError
from nmfnet.kernels.arrays import as_tensor, size
from nmfnet.kernels.rows import dense, take_rows
from nmfnet.types import Batch, Tensor

if TYPE_CHECKING:
    from nmfnet.core.model import Factorization

ORDINARY = 20
"""X whose entries have a mean size within 2**-20 and 2**20 is used as it is."""

BIASED = 3
"""The same for biases of a network: within 2**-3, since descents move what is 0 by steps near .01."""

MOST = 500
"""Binary exponent beyond which the squares of X are no numbers of float64."""

WITHIN_FLOAT32 = 110
"""Binary exponent beyond which factors of X, in its own units, are no numbers of float32."""


class Units(NamedTuple):
    """What X, the codes of rows and the components are divided by inside: powers of two.

    Attributes
    ----------
    data, code : float, > 0
        ``X_hat = data * decode(W / code)``.
    """

    data: float = 1.0
    code: float = 1.0

    @property
    def components(self) -> float:
        """Of H, so that ``X ~ W H`` in the user's units as well."""
        return self.data / self.code


def power(magnitude: float, least: int = ORDINARY) -> float:
    """The power of 4 just below a magnitude; 1 for an ordinary one, which is 2**-least or more."""
    exponent = math.frexp(magnitude)[1] - 1 if magnitude else 0
    return 1.0 if -least <= exponent <= ORDINARY else 2.0 ** (exponent // 2 * 2)


def units_of(model: Factorization, batch: Batch, magnitude: float) -> tuple[Units, str]:
    """The units for data of a mean size, and a sentence for the user; empty for ordinary data.

    Raises
    ------
    UserError
        If the data, or the factors in their units, are beyond what their type holds.
    """
    data = power(magnitude, BIASED if model.offset and not model.multilinear else ORDINARY)
    if data == 1:
        return Units(), ""
    exponent, about = round(math.log2(data)), f"X is about {magnitude:.0e} in size"
    if abs(exponent) > MOST:
        raise UserError(f"{about}, and its squares are no numbers of float64: rescale X")
    if model.precision == torch.float32 and abs(exponent) > WITHIN_FLOAT32:
        raise UserError(f"{about}, which float32 cannot hold: use dtype=float64, or rescale X")
    reason = _fixed(model)
    code = None if reason else _code(model, batch, data)
    if code is None:
        if power(magnitude) == 1:
            return Units(), ""
        reason = reason or "no factor may take up its scale"
        return Units(), f"{about}, and it is used as it is: {reason}. Better rescale it."
    return Units(data, code), f"{about}: inside it is divided by 2**{exponent}."


def inside(model: Factorization, values: Any, unit: float) -> Tensor:
    """A matrix of the user's in the units and the precision of the model."""
    if unit == 1:
        return as_tensor(values, model.precision, model.device)
    return (as_tensor(values, torch.float64, model.device) * (1 / unit)).to(model.precision)


def _fixed(model: Factorization) -> str:
    """Why c X is another problem than X; empty where it is the same one."""
    if model.loss.homogeneity is None:
        return f"loss={model.loss.name} has a scale of its own"
    if model.penalty_list:
        return "the weights of penalties are in its units"
    if model.named_components:
        return "known components have a unit of their own"
    if model.has_own_scale:
        return f"{type(model).__name__} has more in its objective than the loss of X"
    return ""


def _code(model: Factorization, batch: Batch, data: float) -> float | None:
    """What of the unit of X the codes carry; None where nothing can.

    The components carry the rest. Factors that are given stay near 1, and those under a constraint that
    fixes their scale stay as they are; codes that are read from X are in its units.
    """
    if model.symmetric_factor() is not None:
        return data**0.5
    if model.bilinear:
        for name, of_code in (("H", lambda unit: data / unit), ("W", float)):
            if name in model.given:
                return float(of_code(power(size(model.given[name].numpy()))))
        W, H = (model.factors[name].constraint.closed_under_scaling for name in ("W", "H"))
        return 1.0 if H else data if W else None
    if model.given:
        return None
    return data if model.inductive and _keeps_scale(model, batch) else 1.0


@torch.no_grad()
def _keeps_scale(model: Factorization, batch: Batch) -> bool:
    """Whether 4 X has 4 times the codes, and these decode to 4 times as much, to the last bit."""
    few = batch.by_row(lambda tensor: dense(take_rows(tensor, slice(0, 2))))
    few = few._replace(x=torch.rand_like(few.x))
    with judged(model):
        one, four = model.encode(few), model.encode(few._replace(x=4 * few.x))
        return torch.equal(4 * one, four) and torch.equal(4 * model.decode(one), model.decode(four))
