"""Multiplicative updates as the layers of a network: deep unfolding of NMF."""

from __future__ import annotations

from typing import Literal, final

import numpy as np
import torch
from torch import nn

from nmfnet.core.model import Factorization, Parts
from nmfnet.core.objective import row_losses
from nmfnet.core.scaling import best_scale
from nmfnet.errors import UserError
from nmfnet.kernels.divergences import TINY
from nmfnet.models._starts import settled
from nmfnet.types import Batch, Float, Tensor, Terms


@final
class UnrolledNMF(Factorization):
    r"""X ~ W H with W = W_L, the output of L layers W_l+1 = W_l (X A_l) / (W_l B_l + l1 + l2 W_l).

    ======  =====================================  ============  ======================
    symbol  meaning                                code          shape
    ======  =====================================  ============  ======================
    X       data                                   ``batch.x``   n_samples, n_features
    W_0     equal weights with the sum of the row  ``_first``    n_samples, n_components
    A_l     of layer l, in the place of Hᵀ         ``A1``, ...   n_features, n_components
    B_l     of layer l, in the place of H Hᵀ       ``B1``, ...   n_components, n_components
    R_l     of layer l, in the place of H          ``R1``, ...   n_components, n_features
    W       weights, the last layer's output       ``encode``    n_samples, n_components
    H       components                             ``H``         n_components, n_features
    ======  =====================================  ============  ======================

    A layer is one multiplicative update of W whose matrices are free to be learned; the equation is that
    of ``loss=frobenius``, which needs no R. Under ``loss=kl`` and ``poisson`` it is
    ``W_l ((X / (W_l R_l)) A_l) / (b_l + l1 + l2 W_l)`` with b_l (``B1``, ..., shape 1, n_components) in
    the place of the row sums of H; under other members of the beta family, with Y = W_l R_l, it is
    ``W_l ((X Y^(beta-2)) A_l / (Y^(beta-1) A_l + l1 + l2 W_l))^e``, e the exponent of the update.

    With ``draw: mu`` the layers start as what they stand for, so an untrained network *is* L
    multiplicative updates, and training (which ends on the best parameters seen) can only improve on
    them.

    Parameters
    ----------
    n_components : int, >= 1
    n_layers : int, >= 1
        L.
    tied : bool
        One A, B (and R) for all layers.
    draw : {"mu", "constant"}
        How the layers start: as exact updates for the H of an NMF that was fitted until it fell slowly
        (`nmfnet.core.prelude`), or with every weight the same, as published.
    l1 : float, >= 0
        Penalty of W in the layers (and in the objective, unless learned): its sum.
    l2 : float, >= 0
        Likewise half its squares.
    learn_penalty : bool
        l1 and l2 are parameters, shared by the layers, and start at the values given.
    exposures : str or None
        A npy file with the known W of the training rows, (n_samples, n_components): the layers then learn
        from it alone, by squared error, and H fits X to the W that they give. None: they learn from X.

    Source: Nasser, Eldar & Sharan 2022, "Deep unfolding for non-negative matrix factorization with
    application to mutational signature analysis", eqs. (6) and (9).

    Differs from the source: layers start as multiplicative updates, and W_0 has the scale of the row
    (source: constants, all ones); H is learned with the layers, by the same gradient, instead of by
    non-negative least squares after every step; a layer of its own for kl.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 5,
        n_layers: int = 10,
        tied: bool = False,
        draw: Literal["mu", "constant"] = "mu",
        l1: float = 0.0,
        l2: float = 0.0,
        learn_penalty: bool = False,
        exposures: str | None = None,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        if n_layers < 1 or min(l1, l2) < 0:
            raise UserError(
                f"model.n_layers={n_layers}, l1={l1:g}, l2={l2:g}: at least one layer, and l1, l2 >= 0"
            )
        if self.loss.beta is None:
            raise UserError(
                f"model=unrolled_nmf has no layer for loss={type(self.loss).__name__}: use "
                "loss=frobenius, kl or beta"
            )
        self.n_layers, self.draw, self.beta = n_layers, draw, self.loss.beta
        self.power = self.loss.exponent(1, 0)
        self.fixed = None if learn_penalty else (l1, l2)
        names = [str(i) for i in range(1, (1 if tied else n_layers) + 1)]
        self.H = self.factor("H", "component", "feature")
        self.A = nn.ModuleList(self.factor(f"A{i}", "feature", "component") for i in names)
        tall = "component" if self.beta == 2 else "one"
        has_B, has_R = self.beta in (1, 2), self.beta != 2
        self.B = nn.ModuleList(
            self.factor(f"B{i}", tall, "component") for i in (names if has_B else [])
        )
        self.R = nn.ModuleList(
            self.factor(f"R{i}", "component", "feature") for i in (names if has_R else [])
        )
        if learn_penalty:
            self.weights = nn.ModuleList(self.factor(name, "one", "one") for name in ("l1", "l2"))
        self.started = (l1, l2)
        self.known = None if exposures is None else self._read(exposures, parts.sizes.n_samples)

    @property
    def multilinear(self) -> bool:
        return False

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        x, W = batch.x, self._first(batch.x)
        l1, l2 = self.fixed or (factor() for factor in self.weights)
        A = [factor() for factor in self.A]
        XA = (x @ torch.cat(A, -1)).split(self.n_components, -1) if self.beta == 2 else ()
        for layer in range(self.n_layers):
            i = layer % len(A)
            neg, pos = (XA[i], W @ self.B[i]()) if XA else self._sums(i, x, W, A[i])
            ratio = neg / (pos + l1 + l2 * W).clamp_min(_least(neg))
            W = W * (ratio if self.power == 1 else ratio.clamp_min(TINY) ** self.power)
        return W

    def _sums(self, i: int, x: Tensor, W: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
        """Numerator and denominator of a layer that reads X_hat."""
        y = (W @ self.R[i]()).clamp_min(_least(x))
        if self.beta == 1:
            return (x / y) @ A, self.B[i]()
        return (x * y ** (self.beta - 2)) @ A, y ** (self.beta - 1) @ A

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        supervised = self.known is not None and self.training
        return (W.detach() if supervised else W) @ self.H()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def terms(self, batch: Batch) -> Terms:
        W = self.encode(batch)
        terms = {"data": row_losses(self, batch, W).sum(-1, dtype=torch.float64)}
        if self.fixed and any(self.fixed):
            l1, l2 = self.fixed
            terms["weights"] = (l1 * W + 0.5 * l2 * W.square()).sum((-2, -1), dtype=torch.float64)
        if self.known is not None:
            gap = W - self.known.to(W)[batch.index]
            terms["exposures"] = gap.square().sum((-2, -1), dtype=torch.float64)
        return terms

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        H = proposal["H"]
        if self.draw == "mu":
            _, H = settled(self, H, batch)
        self.H.assign_(H)
        exact = {"A": H.mT, "B": H.sum(-1).unsqueeze(-2) if self.beta == 1 else H @ H.mT, "R": H}
        for name, factor in self.own_factors().items():
            if name[0] in exact:
                ones = torch.ones_like(factor.raw)
                factor.assign_(exact[name[0]] if self.draw == "mu" else ones)
        for name, value in zip(("l1", "l2"), self.started, strict=True):
            if name in self.factors:
                self.factors[name].assign_(torch.full_like(self.factors[name].raw, value))
        if self.draw == "constant":
            self.H.assign_(H * best_scale(self, batch))

    def _first(self, x: Float[Tensor, "n f"]) -> Float[Tensor, "*r n k"]:
        """W_0: the same weight for every component, such that the row of W_0 H has the sum of x."""
        mass = self.H().detach().sum((-2, -1)).clamp_min(TINY)[..., None, None]
        first = x.sum(-1, keepdim=True) / mass
        return first.expand(*first.shape[:-1], self.n_components)

    def _read(self, path: str, n: int) -> Tensor:
        try:
            W = np.load(path)
        except (OSError, ValueError) as error:
            raise UserError(f"model.exposures={path} cannot be read as npy: {error}") from error
        if W.shape != (n, self.n_components):
            raise UserError(
                f"model.exposures={path} has shape {W.shape}, but X has {n} rows and the model "
                f"{self.n_components} components: they must be ({n}, {self.n_components})"
            )
        return torch.from_numpy(W)


def _least(numerator: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n 1"]:
    """What a row is divided by at least: the slope of a quotient is not finite at 0."""
    eps = torch.finfo(numerator.dtype).eps
    return (eps * numerator.detach().mean(-1, keepdim=True)).clamp_min(TINY)
