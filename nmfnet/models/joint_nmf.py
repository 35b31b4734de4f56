"""Joint non-negative matrix factorisation of several views of the same samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from torch import nn

from nmfnet.core.factor import Factor
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.multiplicative import Sums, nmf_sums_H, nmf_sums_W
from nmfnet.kernels.rows import dense
from nmfnet.types import Batch, Float, Output, Tensor

SIDE = "view "
"""How the axis of the features of a view is called: ``view NAME``."""


@final
class JointNMF(Factorization):
    r"""X ~ W H and X_v ~ W H_v for every view v, with one W >= 0, H >= 0 and all H_v >= 0.

    ======  =======================================  =================  ==========================
    symbol  meaning                                  code               shape
    ======  =======================================  =================  ==========================
    X       data, the first view                     ``batch.x``        n_samples, n_features
    X_v     the other views                          ``batch.views``    n_samples, n_features of v
    W       weights of the samples, for all views    ``W``              n_samples, n_components
    H       components in X                          ``H``              n_components, n_features
    H_v     the same components in view v            ``H_NAME``         n_components, features of v
    ======  =======================================  =================  ==========================

    The objective is the sum of the loss over views, each times its weight. A sample that a view lacks
    has weight 0 there, so its W comes from the views that it has; the same holds for new rows, of which
    any subset of the views may be given: ``transform(X, views={"protein": P})``, and
    ``reconstruct(X, view="protein")`` says what they would be in a view that they lack. With one loss
    for all views this is NMF of the views side by side, and is solved as such.

    Parameters
    ----------
    n_components : int, >= 1
    weights : mapping of view name to number > 0, optional
        How much the loss of a view counts, 1 by default; the first view is called x. Other losses for
        single views are ``loss=by_view``.

    Source: Liu, Wang, Gao & Han 2013, "Multi-view clustering via joint nonnegative matrix
    factorization"; Zhang et al. 2012 (jNMF of several genomic data sets), eq. (1).

    Differs from the source: Liu et al. give each view a W of its own and pull them together; here, as
    in Zhang et al., W is the same.
    """

    inductive = False

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 5,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.W = self.factor("W", "sample", "component")
        self.H = self.factor("H", "component", "feature")
        names = [axis.removeprefix(SIDE) for axis in parts.axes if axis.startswith(SIDE)]
        if names and self.of_loss:
            raise UserError(
                f"loss={self.loss.name} has parameters for the features of X and none for those of other "
                "views: use loss=frobenius, kl or another that has none"
            )
        self.weights = {name: float(weight) for name, weight in (weights or {}).items()}
        for name, weight in self.weights.items():
            if name not in ("x", *names):
                raise UserError(
                    f"model.weights.{name}: there is no such view; there are x (the first), "
                    f"{', '.join(names) or 'and no other'}"
                )
            if not 0 < weight < float("inf"):
                raise UserError(f"model.weights.{name}={weight:g}: it must be a number above 0")
        self.others = nn.ModuleDict(
            {name: self.factor(f"H_{name}", "component", SIDE + name) for name in names}
        )

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.H()

    def outputs(self, code: Float[Tensor, "*r n k"], batch: Batch) -> dict[str, Output]:
        views = {name: Output(code @ self.others[name]()) for name in batch.views}
        return {"x": Output(self.decode(code)), **views}

    def weight_of(self, view: str) -> float:
        return self.weights.get(view, 1.0)

    def side_by_side(self) -> dict[str, Factor]:
        return {"x": self.H, **self.others}  # type: ignore[dict-item]

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def scale_pair(self) -> tuple[Factor, Factor] | None:
        return None if len(self.others) else (self.W, self.H)

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        self.W.assign_(proposal["W"])
        self.H.assign_(proposal["H"])
        for name, H in self.others.items():
            drawn = self.uniform(H)  # type: ignore[arg-type]
            made = (proposal["W"] @ drawn).mean((-2, -1), keepdim=True).clamp_min(1e-12)
            H.assign_(drawn * dense(batch.views[name].x).mean() / made)  # type: ignore[operator]

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        W, rule = self.W.raw, nmf_sums_W if name == "W" else nmf_sums_H
        parts = []
        for view, H in self.side_by_side().items():
            if name == "W" or H is self.factors[name]:
                x, mask = batch.tables[view]
                weight = self.weight_of(view)
                neg, pos = rule(x, W, H.raw, beta, mask)
                parts.append((weight * neg, weight * pos))
        total_neg, total_pos = parts[0]
        for neg, pos in parts[1:]:
            total_neg, total_pos = total_neg + neg, total_pos + pos
        return total_neg, total_pos

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        W = rng.exponential(size=(30, 3))
        X, other = (W @ rng.exponential(size=(3, f)) + 0.1 for f in (12, 8))
        other[:4] = np.nan
        return {"X": X, "views": {"other": other}}
