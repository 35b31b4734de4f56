"""What a model is put together from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import torch

from nmfnet.core.budget import Budget
from nmfnet.core.constraints import Constraint
from nmfnet.core.inits import Init
from nmfnet.core.losses import Loss
from nmfnet.core.penalties import Penalty
from nmfnet.types import Sizes, Tensor

if TYPE_CHECKING:
    from nmfnet.solvers.base import Solver


class Parts(NamedTuple):
    """Everything a model is put together from.

    ``generators`` holds one random generator per restart: restart i of a run is the run that has
    only the i-th generator. ``axes`` are the sizes of what the data have beside samples and features
    (``class``, the number of labels; ``view NAME``, the features of a view; ``covariate``).
    ``constraints`` are those of single factors by name, ``given`` holds values of factors to start
    from, and the factors called ``frozen`` are not learned.
    """

    sizes: Sizes
    loss: Loss
    solver: Solver
    init: Init
    constraint: Constraint
    generators: tuple[torch.Generator, ...]
    penalties: tuple[Penalty, ...] = ()
    budget: Budget = Budget()
    axes: Mapping[str, int] = MappingProxyType({})
    constraints: Mapping[str, Constraint] = MappingProxyType({})
    given: Mapping[str, Tensor] = MappingProxyType({})
    frozen: tuple[str, ...] = ()

    @property
    def n_classes(self) -> int:
        """Number of classes of the labels; 0 = the data have none."""
        return self.axes.get("class", 0)
