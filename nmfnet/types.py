"""The plain containers that pass between the parts, and the shape vocabulary of annotations.

Shape words: ``r`` restarts, ``n`` samples (rows of X), ``f`` features (columns), ``k`` components.
``Float[Tensor, "*r n f"]`` is read by people, and checked by beartype when jaxtyping is installed
and its import hook is on (the test suite does that); elsewhere it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import torch
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

__all__ = [
    "NO_EXTRA",
    "NO_VIEWS",
    "Batch",
    "Float",
    "Int",
    "Output",
    "Player",
    "Sizes",
    "Stage",
    "Tensor",
    "Terms",
    "View",
]

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


class Player(NamedTuple):
    """One of several parts of a model that each go down a loss of their own in turn.

    Attributes
    ----------
    parameters : list of Parameter
        What it moves.
    loss : callable
        From rows, ``x (r, n, f)`` drawn by every restart for itself, to the loss, shape (r,).
    """

    parameters: list[Parameter]
    loss: Callable[[Batch], Tensor]


class Sizes(NamedTuple):
    """Size of the training matrix."""

    n_samples: int
    n_features: int


class View(NamedTuple):
    """One matrix of the samples: what a batch has beside ``x`` when samples were measured twice.

    Attributes
    ----------
    x : Tensor, shape (n, f)
        Dense or sparse CSR.
    mask : Tensor, shape (n, f), or None
        Weights >= 0, as in `Batch`.
    """

    x: Tensor
    mask: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        """The weight of every entry, 1 where nothing else is said."""
        return torch.ones_like(self.x) if self.mask is None else self.mask


NO_VIEWS: Mapping[str, View] = MappingProxyType({})


class Output(NamedTuple):
    """What a decoder says of one view.

    Attributes
    ----------
    mean : Tensor, shape (*r, n, f)
        X_hat.
    heads : mapping of str to Tensor
        What a likelihood may ask for beside the mean (``dropout``, ...), each of X_hat's shape.
    """

    mean: Tensor
    heads: Mapping[str, Tensor] = NO_EXTRA


class Batch(NamedTuple):
    """Rows of the data, as a datamodule yields them.

    Attributes
    ----------
    x : Tensor, shape (n, f)
        Rows of X; dense, or sparse CSR.
    index : Tensor of int64, shape (n,)
        Their row numbers in the training matrix: tables of per-sample factors look themselves up.
    mask : Tensor, shape (n, f), or None
        Weight of every entry, >= 0: 1 = observed, 0 = missing or held out, 1/u² = known to within u;
        None = all observed. Entries of ``x`` under a zero are 0. Beside a sparse ``x`` it has the same
        pattern: only the stored entries are observed.
    extra : mapping of str to Tensor
        Whatever else has a row per sample (``labels``, ``covariates``, ``size``).
    context : mapping of str to Tensor
        What belongs to the data as a whole (``graph``; ``reference``, known components): it is passed on
        whole.
    views : mapping of str to View
        Further matrices with the same rows; ``x`` is the view called ``x``.
    """

    x: Tensor
    index: Tensor  # type: ignore[assignment]
    mask: Tensor | None = None
    extra: Mapping[str, Tensor] = NO_EXTRA
    context: Mapping[str, Tensor] = NO_EXTRA
    views: Mapping[str, View] = NO_VIEWS

    @property
    def tables(self) -> dict[str, View]:
        """Everything that is measured: X, called ``x``, and the views."""
        return {"x": View(self.x, self.mask), **self.views}

    @property
    def masked(self) -> bool:
        """Whether entries of any of them are left out or weighted."""
        return any(view.mask is not None for view in self.tables.values())

    @property
    def brings(self) -> frozenset[str]:
        """What there is beside a whole X: ``mask``, ``views``, keys of ``extra`` and ``context``."""
        parts = (("mask", self.mask is not None), ("views", bool(self.views)))
        return frozenset({*self.extra, *self.context, *(name for name, there in parts if there)})

    def by_row(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same batch with every tensor that has a row per sample passed through ``change``."""

        def maybe(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else change(tensor)

        return self._replace(
            x=change(self.x),
            index=change(self.index),
            mask=maybe(self.mask),
            extra={name: change(tensor) for name, tensor in self.extra.items()},
            views={
                name: view._replace(x=change(view.x), mask=maybe(view.mask))
                for name, view in self.views.items()
            },
        )

    def to(self, target: torch.device | torch.dtype) -> Batch:
        """The same batch on a device, or its floating tensors in another precision."""

        def moved(tensor: Tensor) -> Tensor:
            if isinstance(target, torch.dtype) and not tensor.is_floating_point():
                return tensor
            return tensor.to(target)

        context = {name: moved(tensor) for name, tensor in self.context.items()}
        return self.by_row(moved)._replace(context=context)
