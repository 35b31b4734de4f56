"""The values that a numeric option may have, said where its type is: ``n_inner: Count``."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple


class Range(NamedTuple):
    """An interval: ``least`` and ``most`` belong to it, ``above`` and ``below`` do not."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether a finite number is inside."""
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        ends = {">=": self.least, ">": self.above, "<=": self.most, "<": self.below}
        return " and ".join(f"{sign} {end:g}" for sign, end in ends.items() if math.isfinite(end))


Count = Annotated[int, Range(1)]
"""A whole number >= 1."""

Natural = Annotated[int, Range(0)]
"""A whole number >= 0."""

Positive = Annotated[float, Range(above=0)]
"""A number > 0."""

NotNegative = Annotated[float, Range(0)]
"""A number >= 0."""

Share = Annotated[float, Range(above=0, below=1)]
"""A number > 0 and < 1."""
