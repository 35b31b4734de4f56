"""The weights of known components in new samples."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch

from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.types import Batch, Float, Tensor


@final
class ReferenceNMF(Factorization):
    r"""X ~ W H, with H given and held, and W >= 0.

    ======  ======================================  ==========  ========================
    symbol  meaning                                 code        shape
    ======  ======================================  ==========  ========================
    X       data                                    ``batch.x`` n_samples, n_features
    W       weights of the components in a sample   ``W``       n_samples, n_components
    H       known components, not learned           ``H``       n_components, n_features
    ======  ======================================  ==========  ========================

    Every row is a convex problem of its own (non-negative least squares under ``loss=frobenius``,
    Poisson regression under ``loss=kl``), solved once: exposures to known signatures, shares of known
    cell types (``constraint.W=simplex_project``). In Python ``nmfnet.fit(X, "reference_nmf", H=H)``.

    Parameters
    ----------
    n_components : int, optional
        Rows of H; by default what the reference has.
    reference : str, optional
        A table file (components in its rows or its columns: the axis that shares names with the features
        is found), or a data set whose samples are the components; joined to the features by name. By
        default what ``data.reference`` says.

    Source: Lawson & Hanson 1974, chapter 23 (non-negative least squares); Alexandrov et al. 2020,
    "The repertoire of mutational signatures in human cancer" (assigning known signatures).
    """

    inductive = False
    sparse = True
    named_components = True

    def __init__(
        self, parts: Parts, *, n_components: int | None = None, reference: str | None = None
    ) -> None:
        given = parts.given.get("H")
        known = parts.axes.get("reference") if given is None else len(given)
        n_components = n_components or known
        if n_components is None:
            raise UserError(
                "model=reference_nmf needs known components: set model.reference=FILE or "
                'data.reference, or in Python nmfnet.fit(X, "reference_nmf", H=array)'
            )
        if known is not None and known != n_components:
            raise UserError(
                f"model.n_components={n_components}, but the reference has {known} components: leave "
                "model.n_components out"
            )
        super().__init__(parts, n_components=n_components)
        self.W = self.factor("W", "sample", "component")
        self.H = self.factor("H", "component", "feature")
        self.H.freeze()
        if given is not None:
            self._check_components(given)

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.H()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        self.W.assign_(proposal["W"])
        if "H" not in self.given:
            known = batch.context["reference"]
            self._check_components(known)
            self.H.assign_(known)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Samples of three known components, and these."""
        W, H = rng.exponential(size=(30, 3)), rng.exponential(size=(3, 12))
        return {"X": W @ H + 0.1, "H": H}

    def _check_components(self, H: Tensor) -> None:
        if negative := int((H < 0).sum()):
            row, column = torch.nonzero(H < 0)[0].tolist()
            raise UserError(
                f"the known components have {negative} negative entries (first: {H[row, column]:g} in "
                f"component {row + 1}, feature {column + 1}), and model=reference_nmf needs H >= 0"
            )
