"""Joint non-negative matrix factorisation of several views of the same samples."""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np
import torch
from torch import nn

from nmfnet.core.factor import Factor
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.multiplicative import Sums, nmf_sums_H, nmf_sums_W
from nmfnet.kernels.rows import dense
from nmfnet.types import Batch, Float, Output, Tensor, View

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

    The objective is the sum of the loss over views. A sample that a view lacks has weight 0 there, so
    its W comes from the views that it has; the same holds for new rows, of which any subset of the
    views may be given: ``transform(X, views={"protein": P})``. Under the squared error without missing
    entries this is NMF of the views side by side.

    ``view/NAME/r2`` in the metrics is the share of the variance of a view (around the means of its
    columns) that the model explains; the first view is called x.

    Parameters
    ----------
    n_components : int, >= 1

    Source: Liu, Wang, Gao & Han 2013, "Multi-view clustering via joint nonnegative matrix
    factorization"; Zhang et al. 2012 (jNMF of several genomic data sets), eq. (1).

    Differs from the source: Liu et al. give each view a W of its own and pull them together; here, as
    in Zhang et al., W is the same.
    """

    inductive = False

    def __init__(self, parts: Parts, *, n_components: int = 5) -> None:
        super().__init__(parts, n_components=n_components)
        self.W = self.factor("W", "sample", "component")
        self.H = self.factor("H", "component", "feature")
        names = [axis.removeprefix(SIDE) for axis in parts.axes if axis.startswith(SIDE)]
        if names and self.of_loss:
            raise UserError(
                f"loss={self.loss.name} has parameters for the features of X and none for those of other "
                "views: use loss=frobenius, kl or another that has none"
            )
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
        views = {"H": View(batch.x, batch.mask)} | {f"H_{v}": x for v, x in batch.views.items()}
        W, rule = self.W.raw, nmf_sums_W if name == "W" else nmf_sums_H
        parts = []
        for key, view in views.items():
            if name in ("W", key):
                mask = None if view.mask is None else dense(view.mask)
                neg, pos = rule(dense(view.x), W, self.factors[key].raw, beta, mask)
                parts.append((view.scale * neg, view.scale * pos))
        total_neg, total_pos = parts[0]
        for neg, pos in parts[1:]:
            total_neg, total_pos = total_neg + neg, total_pos + pos
        return total_neg, total_pos

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        views = {"x": View(batch.x, batch.mask), **batch.views}
        outputs, prefix = self.outputs(code, batch), "" if part == "train" else "test/"
        return {
            f"{prefix}view/{name}/r2": _explained(view, outputs[name].mean)
            for name, view in views.items()
        }

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        W = rng.exponential(size=(30, 3))
        X, other = (W @ rng.exponential(size=(3, f)) + 0.1 for f in (12, 8))
        other[:4] = np.nan
        return {"X": X, "views": {"other": other}}


def _explained(view: View, x_hat: Tensor) -> float:
    """1 - squared error / squared distance from the means of the columns, over observed entries."""
    x, x_hat = dense(view.x).double(), x_hat.double()
    seen = torch.ones_like(x) if view.mask is None else dense(view.mask).double()
    means = (seen * x).sum(0) / seen.sum(0).clamp_min(1e-12)
    spread = float((seen * (x - means).square()).sum())
    missed = float((seen * (x - x_hat).square()).sum())
    return 1 - missed / spread if spread > 0 else float("nan")
