"""Non-negative autoencoders, shallow or deep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import nn

from nmfnet.core.constraints import NON_NEGATIVE, Constraint, Free
from nmfnet.core.factor import Factor
from nmfnet.core.model import Factorization, Parts
from nmfnet.core.objective import judged
from nmfnet.core.scaling import best_scale
from nmfnet.errors import UserError
from nmfnet.kernels.convex import convex_sums_A, projective_sums
from nmfnet.kernels.multiplicative import Sums, nmf_sums_H
from nmfnet.models._layers import ACTIVATIONS, BEFORE, BatchNorm, affine, axes_between, hidden_units
from nmfnet.models._starts import aim, settled
from nmfnet.types import Batch, Float, Tensor


@final
class Autoencoder(Factorization):
    r"""X ~ W H with W = f(X) >= 0 computed by a network, and H >= 0 its decoder.

    ======  =====================================  ============  ======================
    symbol  meaning                                code          shape
    ======  =====================================  ============  ======================
    X       data                                   ``batch.x``   n_samples, n_features
    E_l     weights of encoder layer l             ``E``, ``E1`` width in, width out
    W       code, the units of the bottleneck      ``encode``    n_samples, n_components
    H       decoder weights, the components        ``H``         n_components, n_features
    D_l     weights of a deep decoder's layer l    ``D1``, ...   width in, width out
    ======  =====================================  ============  ======================

    With ``hidden: []``, no bias and non-negative weights this is AE-NMF, X ~ X E H: the same model as
    ``convex_nmf`` with ``convex_axis: features``. Every layer output is then >= 0, so ReLU is the
    identity; a curved activation, a bias or a free encoder makes it a different model.

    Parameters
    ----------
    n_components : int, >= 1
        Width of the code.
    hidden : sequence of int
        Widths of the encoder's hidden layers, from the data inwards; [] = one linear layer.
    decoder : {"linear", "mirror"}
        One linear layer (then H are its weights), or the hidden layers in reverse (then H is what
        each code unit alone adds to the output).
    encoder : {"nonnegative", "free"}
        Whether encoder weights are constrained as the decoder's are, or have any sign.
    tied : bool
        Decoder weights are the encoder's, transposed (needs the mirror decoder when deep).
    activation : {"relu", "identity", "softplus", "elu", "gelu", "tanh", "sigmoid"}
        Of hidden layers.
    code_activation : {"relu", "softplus", "sigmoid", "identity"}
        Of the code; "identity" only with a non-negative encoder.
    bias : bool
        Biases: of any sign in a free encoder, constrained elsewhere.
    batch_norm : bool
        Batch normalisation after every hidden activation of the encoder.
    draw : {"scaled", "uniform"}
        How weights start. "scaled": the mean of a layer's input is kept, H comes from ``init`` (behind
        a curved encoder: from an NMF fitted from there, see `nmfnet.core.prelude`, whose W the codes
        of a free encoder start near), and the last layer gets the scale that fits X best. "uniform":
        every weight from U(0, 1), whatever the scale of X, as published.

    Source: Egendal et al. 2024 (AE-NMF); Lemme, Reinhart & Steil 2012 (non-negative autoencoders).

    Differs from the source: rows of X are the network's samples, where Egendal et al. take columns.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 5,
        hidden: Sequence[int] = (),
        decoder: Literal["linear", "mirror"] = "linear",
        encoder: Literal["nonnegative", "free"] = "nonnegative",
        tied: bool = False,
        activation: Literal[
            "relu", "identity", "softplus", "elu", "gelu", "tanh", "sigmoid"
        ] = "relu",
        code_activation: Literal["relu", "softplus", "sigmoid", "identity"] = "relu",
        bias: bool = False,
        batch_norm: bool = False,
        draw: Literal["scaled", "uniform"] = "scaled",
    ) -> None:
        super().__init__(parts, n_components=n_components)
        if tied and hidden and decoder == "linear":
            raise UserError("model.tied with hidden layers needs model.decoder=mirror")
        free = encoder == "free"
        if tied and free:
            raise UserError(
                "model.tied needs model.encoder=nonnegative: the decoder shares weights"
            )
        if free and code_activation == "identity":
            raise UserError("model.encoder=free needs code_activation=relu, softplus or sigmoid")
        if not hidden:
            self.unused("model.hidden=[]", "activation", "batch_norm", "decoder")
        self.tied, self.bias, self.signed, self.offset = tied, bias, free, bias
        self.scaled = draw == "scaled"
        self.act, self.code_act = ACTIVATIONS[activation], ACTIVATIONS[code_activation]
        self.before_code = BEFORE.get(code_activation)
        flat = ("relu", "identity")
        self._multilinear = not (free or bias or batch_norm) and (
            code_activation in flat and (activation in flat or not hidden)
        )
        inwards = axes_between(self, hidden)
        between = inwards[-2:0:-1] if decoder == "mirror" else []
        outwards = ["component", *between, "feature"]
        degree = 2 if tied else 1
        sign: Constraint | None = Free() if free else None
        self.E = self._stack("E", inwards, sign, degree)
        self.D = self.E if tied else self._stack("D", outwards, None, 1)
        self.E_bias = self._biases("E_bias", inwards[1:], sign)
        self.D_bias = self._biases("D_bias", outwards[1:], None)
        self.norms = nn.ModuleList(
            BatchNorm(self.n_restarts, width) for width in (hidden if batch_norm else ())
        )

    def _stack(
        self, letter: str, axes: list[str], sign: Constraint | None, degree: int
    ) -> nn.ModuleList:
        single = len(axes) == 2
        names = (
            ["H" if letter == "D" else letter]
            if single
            else [f"{letter}{i}" for i in range(1, len(axes))]
        )
        return nn.ModuleList(
            self.factor(name, a, b, constraint=sign, degree=degree)
            for name, a, b in zip(names, axes, axes[1:], strict=False)
        )

    def _biases(self, name: str, axes: list[str], sign: Constraint | None) -> nn.ModuleList:
        return nn.ModuleList(
            self.factor(f"{name}{i}", "one", axis, constraint=sign)
            for i, axis in enumerate(axes if self.bias else (), start=1)
        )

    @property
    def multilinear(self) -> bool:
        return self._multilinear

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.code_act(affine(self._hidden(batch.x), self.E, self.E_bias, -1))

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        h, last = W, len(self.D) - 1
        for i, weights in enumerate(reversed(self.D) if self.tied else self.D):
            h = h @ (weights().mT if self.tied else weights())
            if self.bias:
                h = h + self.D_bias[i]()
            h = self.act(h) if i < last else h
        return h

    def _hidden(self, x: Float[Tensor, "n f"]) -> Float[Tensor, "*r n w"]:
        return hidden_units(x, self.E, self.E_bias, self.act, self.norms)

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        for factor in self.own_factors().values():
            factor.assign_(self._draw(factor) if self.scaled else self.uniform(factor))
        if not self.scaled:
            return
        if not self.tied and len(self.D) == 1:
            W, H = None, proposal["H"]
            if not self.multilinear:
                W, H = settled(self, H, batch)
            self.factors["H"].assign_(H)
            if W is not None:
                self._aim(W, batch)
        last: Factor = self.D[0] if self.tied else self.D[-1]  # type: ignore[assignment]
        with judged(self):  # the scale must not depend on a batch
            last.assign_(last() * best_scale(self, batch) ** (1 / last.degree))

    def scale_pair(self) -> tuple[Factor, Factor] | None:
        if not self.multilinear or self.tied or len(self.D) > 1:
            return None
        return self.E[-1], self.factors["H"]  # type: ignore[return-value]

    def convex_pair(self) -> tuple[bool, Factor, Factor] | None:
        pair = self.scale_pair() if len(self.E) == 1 else None
        return None if pair is None else (False, *pair)

    def _draw(self, factor: Factor) -> Tensor:
        """U(0, 2 / fan in) keeps means through a layer; free weights are He-normal; biases 0."""
        fan_in = factor.raw.shape[-2]
        if fan_in == 1:
            return torch.zeros_like(factor.raw)
        if factor.constraint.bounds == NON_NEGATIVE:
            return self.uniform(factor) * (2 / fan_in)
        shape = factor.raw.shape[1:]
        normal = [torch.randn(shape, generator=g, dtype=torch.float64) for g in self.generators]
        return torch.stack(normal).to(self.device, self.precision) * (2 / fan_in) ** 0.5

    def _aim(self, W: Tensor, batch: Batch) -> None:
        """Let the encoder's last layer start near codes W, where its weights have any sign."""
        if not self.signed or self.before_code is None:
            return
        last = self.E[-1], self.E_bias[-1] if self.bias else None
        aim(self, lambda: self._hidden(batch.x), *last, self.before_code(W), self.norms)  # type: ignore[arg-type]

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        if len(self.E) > 1 or len(self.D) > 1:
            return None
        x, mask, E = batch.x, batch.mask, self.factors["E"].raw
        if self.tied:
            neg, pos = projective_sums(x, E.mT, beta, mask)
            return neg.mT, pos.mT
        H = self.factors["H"].raw
        if name == "H":
            return nmf_sums_H(x, x @ E, H, beta, mask)
        neg, pos = convex_sums_A(x.mT, H.mT, E.mT, beta, None if mask is None else mask.mT)
        return neg.mT, pos.mT
