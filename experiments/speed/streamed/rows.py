"""A data source of rows that are made when they are read, and kept nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from nmfnet.data.formats.raw import numbered
from nmfnet.data.sources.source import Source
from nmfnet.data.stream.source import StoredMatrix
from nmfnet.data.stream.stored import Numbered, Part, Stored

TOGETHER = 25
"""Rows that are drawn from one seed."""


@final
@dataclass(frozen=True)
class Rows(Part):
    """W H plus uniform noise; the same row whenever it is read."""

    n_components: int = 10

    def read(self, start: int, stop: int) -> np.ndarray:
        rng = np.random.default_rng(0)
        components = rng.random((self.n_components, self.n_features), np.float32) ** 4
        first, last = start // TOGETHER, -(-stop // TOGETHER)
        drawn = np.concatenate([self._some(i, components) for i in range(first, last)])
        return drawn[start - first * TOGETHER : stop - first * TOGETHER].copy()

    def _some(self, number: int, components: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng((1, number))
        weights = rng.random((TOGETHER, self.n_components), np.float32) ** 4
        return weights @ components + 0.1 * rng.random((TOGETHER, self.n_features), np.float32)


@final
@dataclass(frozen=True, kw_only=True)
class Generated(Source):
    """``n_samples`` rows of ``n_features`` numbers in float32.

    Parameters
    ----------
    n_samples, n_features, n_components : int
    """

    streamed: ClassVar[bool] = True

    n_samples: int = 100_000
    n_features: int = 1000
    n_components: int = 10

    def read(self) -> StoredMatrix:
        """Say how large it is; no row is made yet."""
        part = Rows(
            Path(__file__),
            self.n_samples,
            self.n_features,
            np.dtype(np.float32),
            n_components=self.n_components,
        )
        return StoredMatrix(
            Stored([part]),
            Numbered(np.arange(self.n_samples)),  # type: ignore[arg-type]
            numbered("feature", self.n_features),
        )
