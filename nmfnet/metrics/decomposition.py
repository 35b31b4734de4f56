"""Write a component as a sum of few reference components."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nmfnet.errors import UserError
from nmfnet.kernels.stepwise import few_weights
from nmfnet.metrics._checks import as_dense, same_width

__all__ = ["Decomposition", "decompose"]

FloatArray = npt.NDArray[np.float64]


class Decomposition(NamedTuple):
    """A component as a non-negative sum of references.

    Attributes
    ----------
    references : list of int
        Rows of the reference that take part, the heaviest first.
    shares : list of float
        Their parts of the sum, which add up to 1.
    cosine : float
        Of the component with the sum, in [0, 1].
    error : float
        ``||h - sum|| / ||h||``.
    """

    references: list[int]
    shares: list[float]
    cosine: float
    error: float


def decompose(
    components: Any, reference: Any, *, add: float = 0.05, remove: float = 0.01, most: int = 5
) -> list[Decomposition]:
    """Sparse non-negative decomposition of components, by steps that add and remove references.

    From nothing, the reference that lowers the relative error most is added while it does so by more
    than ``add`` (the first one always); after each, references whose loss costs no more than
    ``remove`` are taken out. Weights are those of non-negative least squares.

    Parameters
    ----------
    components : array, shape (k, f)
        Non-negative, not all zero.
    reference : array, shape (m, f)
        Over the same features in the same order.
    add, remove : float
        Thresholds on the relative error ``||h - sum|| / ||h||``; ``add > remove``, so that it ends.
    most : int, >= 1
        References in a sum.

    Returns
    -------
    list of Decomposition, length k

    Notes
    -----
    Source: after Díaz-Gay et al. 2023 (SigProfilerAssignment), add and remove penalties. Differs
    from the source: no signatures are present at the start.
    """
    found, known = as_dense("components", components, 2), as_dense("reference", reference, 2)
    same_width("components", found, "reference", known)
    if not 0 <= remove < add:
        raise UserError(f"add={add} and remove={remove}: 0 <= remove < add is needed.")
    if (np.linalg.norm(found, axis=1) == 0).any():
        raise UserError("A component is zero in every feature: it cannot be decomposed.")
    return [_one(h, known, add, remove, most) for h in found]


def _one(h: FloatArray, known: FloatArray, add: float, remove: float, most: int) -> Decomposition:
    chosen, weights, error = few_weights(h, known, add, remove, most)
    total = weights @ known[chosen]
    shares = weights * known[chosen].sum(axis=1)
    shares = shares / shares.sum() if shares.sum() > 0 else shares
    order = np.argsort(-shares, kind="stable")
    size = np.linalg.norm(total) * np.linalg.norm(h)
    cosine = float(h @ total / size) if size > 0 else 0.0
    return Decomposition(
        [chosen[i] for i in order], [float(shares[i]) for i in order], cosine, error
    )
