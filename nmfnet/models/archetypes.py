"""Archetypal analysis: samples as mixtures of extremes, extremes as mixtures of samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch

from nmfnet.core.factor import Factor
from nmfnet.core.inference import fold_in
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.dimension import intrinsic_dimension
from nmfnet.kernels.hull import centred, explained_by_more
from nmfnet.kernels.rows import dense
from nmfnet.settings.ranges import Count
from nmfnet.types import Batch, Float, Tensor

EXCHANGES = 10
"""Rows that are exchanged once all are chosen."""

GAIN, MOST = 1e-3, 30
"""Share of the variance that two more archetypes must explain to be worth it, and most archetypes."""


@final
class Archetypes(Factorization):
    r"""X ~ W B X: rows of W and of B are >= 0 and sum to 1.

    ======  =========================================  =============  ==========================
    symbol  meaning                                    code           shape
    ======  =========================================  =============  ==========================
    X       data, of any sign under loss=frobenius     ``batch.x``    n_samples, n_features
    B       shares of the samples in the archetypes    ``B``          n_components, n_samples
    W       shares of the archetypes in the samples    ``W``          n_samples, n_components
    B X     archetypes, points of the convex hull      components     n_components, n_features
    ======  =========================================  =============  ==========================

    A restart begins at samples that lie far from each other (FurthestSum from a random sample), which
    its W explains as well as it can. New rows get the W on the simplex that minimises the loss for the
    archetypes found. Missing entries of X have no weight in the loss, and count as 0 in B X; the choice
    of n_components and ``leading`` compare whole rows, and refuse them.

    With ``leading`` the archetypes mix the projections of the samples on the leading principal components
    of X instead of the samples themselves. Under the squared error that is archetypal analysis of the
    components' scores: the objective differs by a constant, what the projection leaves out.

    Parameters
    ----------
    n_components : int, 1 ... n_samples, optional
        None = what a simplex needs that has as many directions as the samples seen from near (intrinsic
        dimension), and two more while these explain another ``GAIN`` of the variance, up to ``MOST``.
    leading : int >= 1, optional
        Principal components that are kept; by default all.

    Source: Cutler & Breiman 1994, "Archetypal analysis"; start: Mørup & Hansen 2012, algorithm
    FurthestSum.

    Differs from the source: with missing entries or under another loss both factors move together along
    projected spectral gradients (``solver=gd``) in place of one after the other.
    """

    inductive = False
    signed = True
    shardable = False
    code = "simplex"
    multilinear = False  # type: ignore[assignment]  # X may have any sign, and rows sum to 1

    def __init__(
        self, parts: Parts, *, n_components: int | None = 5, leading: Count | None = None
    ) -> None:
        if n_components is None:
            raise UserError(
                "model.n_components=null is chosen from rows in memory: give a number here"
            )
        super().__init__(parts, n_components=n_components)
        n, f = parts.sizes
        self.leading = leading
        if leading is not None and not parts.loss.real:
            raise UserError(
                f"model.leading={leading} is for loss=frobenius: projections may be negative, and "
                f"loss={parts.loss.name} has no use for them"
            )
        if n_components > n:
            raise UserError(
                f"model.n_components={n_components}: archetypes are samples to begin with, and there are "
                f"{n}"
            )
        self.B = self.factor("B", "component", "sample")
        self.W = self.factor("W", "sample", "component")
        # B X depends on the training rows: kept, so that a saved model needs no data
        self.register_buffer("basis", torch.zeros(self.n_restarts, n_components, f))
        self.basis: Tensor
        self.x: Tensor | None = None  # the training rows, while there are any

    @classmethod
    def number_for(cls, batch: Batch, options: Mapping[str, Any]) -> tuple[int, str]:
        x, leading = whole_rows(batch, "n_components=null", "give a number"), options.get("leading")
        points = centred(dense(x) if leading is None else projected(dense(x), leading)).cpu()
        dimension = intrinsic_dimension(points.numpy())
        most = min(MOST, len(points))
        first = 2 if math.isnan(dimension) else round(dimension) + 1
        start = furthest_sum(points, min(max(first, 2), most), torch.Generator().manual_seed(0))
        chosen = torch.nn.functional.one_hot(start, len(points)).double()
        number, before, said = 0, 0.0, f"none of more than {most} was tried"
        for k, explained in explained_by_more(points, chosen, most):
            if number and explained - before < GAIN:
                said = f"two more explain less than {GAIN:g} of it"
                break
            number, before = k, explained
        return number, (
            f"{number} archetypes were chosen: the intrinsic dimension is {dimension:.1f}, they explain "
            f"{before:.1%} of the variance, and {said}."
        )

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.components()

    def components(self) -> Float[Tensor, "*r k f"]:
        if self.x is None:
            return self.basis
        B = self.B()
        return B @ self.x.to(B.dtype)  # codes are searched in float64

    def convex_pair(self) -> tuple[bool, Factor, Factor]:
        return True, self.B, self.W

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        x = self.mixed_rows(batch)
        chosen = torch.stack([furthest_sum(x, self.n_components, g) for g in self.generators])
        self.basis.copy_(x[chosen])
        self.B.assign_(torch.nn.functional.one_hot(chosen, len(x)))
        self.W.assign_(torch.full_like(self.W.raw, 1 / self.n_components))
        self.W.assign_(fold_in(self, batch))
        self.x = x

    def mixed_rows(self, batch: Batch) -> Float[Tensor, "n f"]:
        if self.leading is None:
            return batch.x
        return projected(whole_rows(batch, f"leading={self.leading}", "leave it out"), self.leading)

    def end(self, batch: Batch) -> None:
        self.basis.copy_(self.components())

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"X": rng.dirichlet(np.full(3, 0.5), 30) @ rng.exponential(size=(3, 12))}


def whole_rows(batch: Batch, option: str, remedy: str) -> Float[Tensor, "n f"]:
    """The rows, for an option that compares them by all their entries.

    Raises
    ------
    UserError
        If entries are missing, which count as 0 in X.
    """
    if batch.mask is not None and bool((dense(batch.mask) == 0).any()):
        raise UserError(
            f"model.{option} compares rows by all their entries, and some are missing or held "
            f"out: {remedy}"
        )
    return batch.x


def projected(x: Float[Tensor, "n f"], leading: int) -> Float[Tensor, "n f"]:
    """The rows on the plane of their leading principal components."""
    rows = x.double()
    mean = rows.mean(0)
    axes = torch.linalg.svd(rows - mean, full_matrices=False).Vh[:leading]
    return (mean + (rows - mean) @ axes.mT @ axes).to(x.dtype)


def furthest_sum(x: Float[Tensor, "n f"], n_components: int, generator: torch.Generator) -> Tensor:
    """Numbers of ``n_components`` rows, of which each is far from all others.

    From a random row on, the row with the largest sum of distances to those chosen is added; then the
    oldest is given up and the furthest taken in its place, ``EXCHANGES`` times and once for the random
    row.

    Source: Mørup & Hansen 2012, "Archetypal analysis for machine learning and data mining", section 4.
    """
    rows = x.double()
    first = int(torch.randint(rows.shape[0], (1,), generator=generator))
    chosen = [first]
    for step in range(n_components + EXCHANGES):
        if len(chosen) == n_components and step >= n_components - 1:
            chosen = chosen[1:]
        far = torch.cdist(rows, rows[chosen]).sum(-1) if chosen else rows.square().sum(-1)
        far[chosen] = -1
        chosen.append(int(far.argmax()))
    return torch.tensor(chosen[:n_components], device=x.device)
