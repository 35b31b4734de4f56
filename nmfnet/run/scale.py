"""X in the units that a model works in."""

from __future__ import annotations

import math

import torch

from nmfnet.core.model import Factorization
from nmfnet.core.units import Units, units_of
from nmfnet.data.module import MatrixDataModule
from nmfnet.errors import UserError
from nmfnet.kernels.rows import spans
from nmfnet.types import Batch


def rescale(datamodule: MatrixDataModule, model: Factorization) -> None:
    """Divide X by a power of two where it is far from 1; what the user sees stays in his units.

    Raises
    ------
    UserError
        For values that the floating type cannot hold.
    """
    batch = datamodule.sample
    units, said = units_of(model, batch, datamodule.magnitude)
    if said:
        datamodule.notes.append(said)
    if units.data != 1:
        datamodule.rescale(units.data)
        use(model, units)
        batch = datamodule.sample
    check_finite(model, batch)


def use(model: Factorization, units: Units) -> None:
    """Let a model work in these units; factors that it was given are brought into them."""
    model.units = units
    model.recipe["units"] = list(units)
    own = {"W": units.code, "H": units.components}
    model.given = {name: value / own[name] for name, value in model.given.items()}


def check_finite(model: Factorization, batch: Batch) -> None:
    """Refuse values that were finite in X and are not in the floating type of the model."""
    for what, tensor in (("X", batch.x), ("its weights", batch.mask)):
        if tensor is None:
            continue
        held = tensor.values() if tensor.is_sparse_csr else tensor
        width = held[:1].numel()
        ends = (end for rows in spans(len(held), width) for end in torch.aminmax(held[rows]))
        if not all(math.isfinite(end) for end in ends):  # NaN is the least and the largest
            raise UserError(
                f"{what} has values beyond {str(model.precision).removeprefix('torch.')}: use "
                "dtype=float64, or rescale"
            )
