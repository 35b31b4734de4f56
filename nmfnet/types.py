"""The plain containers that pass between the parts, and the shape vocabulary of annotations.

Shape words: ``r`` restarts, ``n`` samples (rows of X), ``f`` features (columns), ``k`` components.
``Float[Tensor, "*r n f"]`` is read by people, and checked by beartype when jaxtyping is installed
and its import hook is on (the test suite does that); elsewhere it costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor
from torch.nn import Parameter

if TYPE_CHECKING:
    from jaxtyping import Float, Int
else:
    try:
        from jaxtyping import Float, Int
    except ImportError:

        class _Anything:
            def __class_getitem__(cls, item: object) -> type[Tensor]:
                return Tensor

        Float = Int = _Anything

__all__ = ["NO_EXTRA", "Batch", "Float", "Int", "Sizes", "Stage", "Tensor", "Terms"]

NO_EXTRA: Mapping[str, Tensor] = MappingProxyType({})

Terms = dict[str, Tensor]
"""Objective by name (``data``, ``l1``, ...): each a tensor of shape (r,), summed over rows."""


class Stage(NamedTuple):
    """Part of a model that minimises an objective of its own, what came before it held fixed.

    Attributes
    ----------
    parameters : list of Tensor
    left_out : frozenset of str
        Terms of the objective that belong to other stages.
    """

    parameters: list[Parameter]
    left_out: frozenset[str] = frozenset()


class Sizes(NamedTuple):
    """Size of the training matrix."""

    n_samples: int
    n_features: int


class Batch(NamedTuple):
    """Rows of the data matrix, as a datamodule yields them.

    Attributes
    ----------
    x : Tensor, shape (n, f)
        Rows of X; dense, or sparse CSR.
    index : Tensor of int64, shape (n,)
        Their row numbers in the training matrix: tables of per-sample factors look themselves up.
    mask : Tensor, shape (n, f), or None
        1 where an entry is observed, 0 where it is missing or held out; None = all observed.
        Entries of ``x`` under a zero of the mask are 0.
    extra : mapping of str to Tensor
        Whatever else belongs to the rows (labels, covariates).
    """

    x: Tensor
    index: Tensor  # type: ignore[assignment]
    mask: Tensor | None = None
    extra: Mapping[str, Tensor] = NO_EXTRA
