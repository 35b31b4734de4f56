"""Deep NMF: layers trained one after the other, then all together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import nn

from nmfnet.core.constraints import Free
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.multiplicative import Sums
from nmfnet.models._hierarchy import layer_shapes, layerwise, level_axes, products, project, sums_of
from nmfnet.types import Batch, Float, Tensor


@final
class DeepNMF(Factorization):
    r"""X ~ S_L A_L ... A_1 A_0, all >= 0: started layer by layer, then fine-tuned jointly.

    ======  =======================================  ================  ======================
    symbol  meaning                                  code              shape
    ======  =======================================  ================  ======================
    X       data                                     ``batch.x``       n_samples, n_features
    A_0     components of the first, widest layer    ``A0``            k_0, n_features
    A_l     components of layer l in those of l - 1  ``A1``, ...       k_l, k_{l-1}
    W       S_L, weights of the last layer           ``W``             n_samples, n_components
    H       A_L ... A_0                              ``components``    n_components, n_features
    ======  =======================================  ================  ======================

    The start is sequential NMF (X ~ S_0 A_0, then S_0 ~ S_1 A_1, ...), each layer until it falls slowly
    (`nmfnet.core.prelude`): its seconds count, its iterations do not. Fine-tuning is that of
    any model: every loss, mask and solver that fits works. Only X_hat is fitted, so between layers
    nothing is kept but the product.

    Parameters
    ----------
    layers : sequence of int, >= 1
        Ranks from wide to narrow.
    n_components : int, optional
        Takes the place of the last of ``layers``.
    signed : bool
        Deep semi-NMF: X and all A_l of any sign, W >= 0 (squared error; solver=adam, gd or lbfgs).

    Source: Trigeorgis, Bousmalis, Zafeiriou & Schuller 2014 and 2017, "A deep matrix factorization
    method for learning attribute representations", section 3 (``signed``); Ye, Chen & Zheng 2018
    (non-negative layers, pre-training and fine-tuning).

    Differs from the source: fine-tuning is by the chosen solver instead of pseudo-inverses, and the
    weights of intermediate layers are not kept non-negative by updates of their own. Flenner & Hunter
    2017 put a non-linearity and pooling between layers, trained by backpropagation; that is left out:
    their abstract does not say which non-linearity, nor which components are pooled.
    """

    inductive = False
    sparse = True

    def __init__(
        self,
        parts: Parts,
        *,
        layers: Sequence[int] = (10, 5),
        n_components: int | None = None,
        signed: bool = False,
    ) -> None:
        shapes = layer_shapes(layers, n_components, parts.sizes.n_features, parts.init)
        super().__init__(parts, n_components=shapes[-1][0])
        if signed and self.loss.beta != 2:
            raise UserError("model.signed is for loss=frobenius: set loss=frobenius")
        self.signed = signed
        self.W = self.factor("W", "sample", "component")
        self.A = nn.ModuleList(
            self.factor(f"A{i}", *axes, constraint=Free() if signed else None)
            for i, axes in enumerate(level_axes(self, shapes))
        )

    @property
    def multilinear(self) -> bool:
        return not self.signed

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.components()

    def components(self) -> Float[Tensor, "*r k f"]:
        return products([A() for A in self.A])[-1]

    def layers(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Weights of a layer are those of the last one, spread by the A_l between."""
        values, codes = [A() for A in self.A], [self.encode(batch)]
        for A in reversed(values[1:]):
            codes.insert(0, codes[0] @ A)
        return list(zip(codes, products(values), strict=True))

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        A, W = [self.factors[f"A{i}"].raw for i in range(len(self.A))], self.factors["W"].raw
        H = products(A)
        if name == "W":
            return sums_of("W", batch, self.transpose, W, H[-1], beta)
        level = int(name[1:])
        left: Tensor = W  # X ~ left A_level right
        for deeper in reversed(A[level + 1 :]):
            left = left @ deeper
        neg, pos = sums_of("H", batch, self.transpose, left, H[level], beta)
        if level == 0:
            return neg, pos
        right = H[level - 1]
        return neg @ right.mT, pos.expand_as(neg) @ right.mT

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        drawn = [self.uniform(A) for A in self.A]  # type: ignore[arg-type]
        if len(drawn) == 1:
            drawn[0] = proposal["H"]
        beta = self.loss.beta
        codes, found = layerwise(batch, drawn, beta, self.prelude, signed=self.signed)
        for A, value in zip(self.A, found, strict=True):
            A.assign_(value)  # type: ignore[operator]
        self.W.assign_(codes[-1])
        if self.signed:
            self.W.assign_(project(batch, self.components()))
