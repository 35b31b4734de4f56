"""Losses that outliers cannot rule: beyond a size, an error counts by its length and not by its square.

Both are majorised by a weighted squared error at the errors of the moment, so multiplicative updates are
those of the squared error with weights that follow along, and stay monotone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch

from nmfnet.core.losses import Loss
from nmfnet.kernels.divergences import TINY, monotone_exponent
from nmfnet.settings.ranges import Positive
from nmfnet.types import Tensor


@final
class Huber(Loss):
    """``Σ h(x - x̂)`` with h(r) = r²/2 up to |r| = δ, and δ (|r| - δ/2) beyond.

    Single entries that are far off pull with the force δ, however far they are: salt and pepper on
    images, spikes in spectra.

    Parameters
    ----------
    delta : float, > 0
        In units of X, the size of errors that are noise.

    Source: Huber 1964, "Robust estimation of a location parameter"; Kong, Ding & Huang 2011 (the
    update is that of the squared error with weights).
    """

    name = "huber"
    real = True

    def __init__(self, *, delta: Positive = 1.0) -> None:
        super().__init__()
        self.delta = float(delta)

    def entries(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None, heads: Mapping[str, Tensor]
    ) -> Tensor:
        size = (x - x_hat).abs()
        inner = size.clamp(max=self.delta)
        return inner * (size - inner / 2)

    def split(self, x: Tensor, x_hat: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        weight = (self.delta / (x - x_hat).abs().clamp(min=TINY)).clamp(max=1)
        return weight * x, weight * x_hat

    def information(self, x: Tensor, x_hat: Tensor) -> Tensor:
        return torch.ones_like(x_hat)

    def exponent(self, degree: int, penalty_degree: int) -> float:
        return monotone_exponent(2.0, degree, penalty_degree)

    def remarks(self, x: Any) -> Iterator[str]:
        stored = x.data if hasattr(x, "tocsr") else x
        spread = float(stored.max() - stored.min()) if stored.size else 0.0
        if self.delta >= spread > 0:
            yield (
                f"loss.delta={self.delta:g} is not below the range of X ({spread:g}), so hardly any "
                "error exceeds it and huber is frobenius: set it to the size of the noise, in units of X."
            )


@final
class L21(Loss):
    """``Σ_i |x_i - x̂_i|₂``, the lengths of the errors of the rows: whole samples that are outliers.

    A row pulls with a force of length 1, however far it is. Weights of entries count inside the length.

    Source: Kong, Ding & Huang 2011, "Robust nonnegative matrix factorization using L21-norm", eq. (7),
    (9) and (10).
    """

    name = "l21"
    real = True
    homogeneity = 1.0
    row_beta = 2.0  # type: ignore[assignment]
    kinked = True
    rounding: float = 0.0
    """Of the kink at 0: the length counts as ``sqrt(|x_i - x̂_i|² + rounding²)``."""

    @contextmanager
    def smoothed(self, size: float) -> Iterator[None]:
        self.rounding = size
        try:
            yield
        finally:
            self.rounding = 0.0

    def entries(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None, heads: Mapping[str, Tensor]
    ) -> Tensor:
        """The share of every entry in the length: of sum, times the mask, the length itself."""
        square = (x - x_hat).square()
        if self.rounding:
            seen = x.shape[-1] if mask is None else mask.sum(-1, keepdim=True).clamp(min=TINY)
            return (square + self.rounding**2 / seen) / self._length(square, mask)
        return square / self._length(square, mask)

    def split(self, x: Tensor, x_hat: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        length = self._length((x - x_hat).square(), mask)
        return x / length, x_hat / length

    def _length(self, square: Tensor, mask: Tensor | None) -> Tensor:
        weighed = square if mask is None else square * mask
        total = weighed.sum(-1, keepdim=True) + self.rounding**2
        return total.clamp(min=TINY**2).sqrt()

    def exponent(self, degree: int, penalty_degree: int) -> float:
        return monotone_exponent(2.0, degree, penalty_degree)
