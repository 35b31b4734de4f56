"""Synthetic samples whose classes nest: nine blocks, which form four, which form two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from nmfnet.data.formats.raw import numbered
from nmfnet.data.matrix import Matrix, Truth
from nmfnet.data.sources.source import Source
from nmfnet.errors import UserError

__all__ = ["HierarchicalBlocks"]

FEATURES = (10, 5, 10, 12, 13, 4, 11, 8, 14)
SAMPLES = (10, 10, 5, 7, 5, 20, 10, 9, 14)
"""Sizes of the nine blocks: 87 features, 90 samples."""

LEVELS = np.array(
    [
        [4, 2, 1, 1, 0, 0, 0, 0, 0],
        [2, 4, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 4, 2, 0, 0, 0, 0, 0],
        [1, 1, 2, 4, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 4, 2, 1, 1, 1],
        [0, 0, 0, 0, 2, 4, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 4, 2, 2],
        [0, 0, 0, 0, 1, 1, 2, 4, 2],
        [0, 0, 0, 0, 1, 1, 2, 2, 4],
    ],
    dtype=np.float64,
)
"""Value of each (block of samples, block of features): symmetric, of rank 9."""

GROUPS: dict[str, tuple[int, ...]] = {
    "nine": (0, 1, 2, 3, 4, 5, 6, 7, 8),
    "four": (0, 0, 1, 1, 2, 2, 3, 3, 3),
    "two": (0, 0, 0, 0, 1, 1, 1, 1, 1),
}
"""Class of each of the nine blocks, by level."""


@final
@dataclass(frozen=True, kw_only=True)
class HierarchicalBlocks(Source):
    """90 samples in nine blocks x 87 features: a constant per block, plus uniform noise.

    A block shares the value 4 with itself, 2 with its sisters, 1 with its cousins and 0 with the
    other half, so its samples fall into nine classes, four or two.

    Parameters
    ----------
    noise : float, >= 0
        Entries of the noise are U(0, noise), in the units of the blocks.
    labels : {"nine", "four", "two"}
        Which classes are the labels; all three are in ``Matrix.hierarchy``.
    seed : int, >= 0
        Of the noise.

    Source: Will et al. 2023, section 5.1; block sizes and values were read off the published matrix
    (its transpose: there samples are columns).
    """

    noise: float = 0.15
    labels: Literal["nine", "four", "two"] = "nine"
    seed: int = 0

    def read(self) -> Matrix:
        """Build the blocks and add the noise."""
        if self.noise < 0:
            raise UserError(f"data.noise={self.noise} must be at least 0.")
        if self.labels not in GROUPS:
            raise UserError(
                f"data.labels={self.labels!r} is unknown. Allowed: {', '.join(GROUPS)}."
            )
        block, part = np.repeat(np.arange(9), SAMPLES), np.repeat(np.arange(9), FEATURES)
        W, H = np.eye(9)[block], LEVELS[:, part]
        uniform = np.random.default_rng(self.seed).random((block.size, part.size))
        hierarchy = {name: np.array(groups)[block] for name, groups in GROUPS.items()}
        labels = hierarchy[self.labels]
        return Matrix(
            W @ H + self.noise * uniform,
            [f"block{b + 1}_{i:02d}" for b, n in enumerate(SAMPLES) for i in range(1, n + 1)],
            numbered("feature", part.size),
            labels=labels,
            label_names=numbered("class", int(labels.max()) + 1),
            truth=Truth(W, H, numbered("block", 9)),
            hierarchy=hierarchy,
        )
