"""What closed forms of any sign share: the code of a row is a linear map of it, found at once."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator
from typing import Any

import numpy as np

from nmfnet.core.constraints import ANY, Free
from nmfnet.core.factor import Factor
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.graph import times_weights
from nmfnet.types import Batch, Float, Tensor


class LinearMap(Factorization, ABC):
    """X ~ m + W H with W = (X - m) E: least squares, the numbers of any sign.

    A subclass says in ``solve`` what H, and m and E where it has them, are. Without more m is 0 and E is
    Hᵀ, which is the least-squares code where the rows of H are orthonormal.
    """

    shardable = False
    signed = True
    code = "real"
    multilinear = False  # type: ignore[assignment]

    one_optimum: bool = True
    """Whether every restart is the same."""

    what: str = "singular vectors"
    """Of which there are no more than a limit."""

    instead: str = "model=nmf"
    """What to use where this has no room."""

    def __init__(self, parts: Parts, *, n_components: int, limit: int) -> None:
        super().__init__(parts, n_components=n_components)
        kind = type(self).__name__
        if n_components > limit:
            n, f = parts.sizes
            raise UserError(
                f"model.n_components={n_components}: X of {n} samples and {f} features has at most "
                f"{limit} {self.what}"
            )
        if parts.loss.beta != 2:
            raise UserError(
                f"loss={parts.loss.name}: {kind} is least squares in closed form, so use "
                f"loss=frobenius; for another loss use {self.instead}"
            )
        if parts.penalties or parts.given or parts.frozen:
            given = parts.penalties and f"penalty={parts.penalties[0].name}"
            raise UserError(
                f"{given or 'a given factor'}: {kind} is a closed form, which has no room for it: use "
                "model=nmf (constraint=free for any sign)"
            )
        self.H = self.factor("H", "component", "feature", constraint=Free())
        self.mean: Factor | None = None
        self.E: Factor | None = None

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        E = self.H().mT if self.E is None else self.E()
        return times_weights(batch.x if self.mean is None else batch.x - self.mean(), E)

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        x_hat = W @ self.H()
        return x_hat if self.mean is None else self.mean() + x_hat

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        kind = type(self).__name__
        if batch.mask is not None:
            raise UserError(
                f"{kind} cannot leave entries out, and some are missing, held out or weighted: use "
                f"{self.instead}"
            )
        for name, factor in self.factors.items():
            if factor.constraint.bounds != ANY:
                own = type(factor.constraint).__name__.lower()
                raise UserError(
                    f"constraint.{name}={own}: {kind} has entries of any sign: use model=nmf"
                )

    def remarks(self, batch: Batch) -> Iterator[str]:
        if self.one_optimum and self.n_restarts > 1:
            yield (
                f"{type(self).__name__} has one optimum: its {self.n_restarts} restarts are the same."
            )

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        sources = rng.uniform(-1, 1, (60, 3))
        return {"X": sources @ rng.standard_normal((3, 8)) + 0.01 * rng.standard_normal((60, 8))}
