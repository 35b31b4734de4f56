"""The hybrid autoencoder for mutation counts: a deep encoder, a linear non-negative decoder."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import nn

from nmfnet.core.constraints import Free
from nmfnet.core.factor import Factor
from nmfnet.core.model import Factorization, Parts
from nmfnet.core.objective import judged
from nmfnet.core.scaling import best_scale
from nmfnet.models._layers import ACTIVATIONS, BEFORE, BatchNorm, affine, axes_between, hidden_units
from nmfnet.models._starts import aim, settled
from nmfnet.types import Batch, Float, Tensor


@final
class MuseXAE(Factorization):
    r"""X ~ W H with W = c(X) softplus(f(X / c(X))) by a deep network f, and H >= 0 its decoder.

    ======  =====================================  ============  ======================
    symbol  meaning                                code          shape
    ======  =====================================  ============  ======================
    X       counts                                 ``batch.x``   n_samples, n_features
    c       t / log2(1 + t) for a row's total t    ``_unit``     n_samples, 1
    E_l     weights of encoder layer l             ``E1``, ...   width in, width out
    W       code in counts, the exposures          ``encode``    n_samples, n_components
    H       decoder weights, the signatures        ``H``         n_components, n_features
    ======  =====================================  ============  ======================

    Every row enters the network as shares times log2(1 + t), and leaves it times c, so that samples with
    a thousand and with a million mutations use the same part of the network. Hidden layers are
    activation, then batch normalisation.

    With ``penalty=min_volume`` and ``solver=adam_early`` this is MUSE-XAE. Its penalty, 1e-3 log10 det
    per entry of a normalised row, is ``penalty.min_volume.weight`` = 4.3e-4 times the number of entries
    of X times the mean of c.

    Parameters
    ----------
    n_components : int, >= 1
    hidden : sequence of int
        Widths of the encoder's hidden layers, from the data inwards.
    activation : {"elu", "relu", "softplus", "gelu", "tanh"}
        Of hidden layers.
    batch_norm : bool
        Batch normalisation after every hidden activation.
    augment_counts : bool
        Every gradient step sees new Poisson draws with X as their mean, as input and as target (only
        where X holds whole numbers; the same draws for every restart).

    Source: Pancotti et al. 2024, "MUSE-XAE: MUtational Signature Extraction with eXplainable
    AutoEncoder", section 2.

    Differs from the source: the loss is that of the counts, not of the normalised rows, as for every
    model here; fresh draws at every step, whose totals vary, instead of 100 multinomial ones drawn
    beforehand; log2(1 + t) for log2 t; full batches; early stopping looks at rows not trained on,
    where the source looks at the training matrix; H and the codes start near those of an NMF.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 5,
        hidden: Sequence[int] = (128, 64, 32),
        activation: Literal["elu", "relu", "softplus", "gelu", "tanh"] = "elu",
        batch_norm: bool = True,
        augment_counts: bool = True,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        pairs = list(itertools.pairwise(axes_between(self, hidden)))
        self.act = ACTIVATIONS[activation]
        self.E = nn.ModuleList(
            self.factor(f"E{i}", a, b, constraint=Free(), of_x=0)
            for i, (a, b) in enumerate(pairs, 1)
        )
        self.biases = nn.ModuleList(
            self.factor(f"b{i}", "one", b, constraint=Free()) for i, (_, b) in enumerate(pairs, 1)
        )
        self.norms = nn.ModuleList(
            BatchNorm(self.n_restarts, width) for width in (hidden if batch_norm else ())
        )
        self.H = self.factor("H", "component", "feature")
        self.augment_counts, self.counts = augment_counts, False

    @property
    def multilinear(self) -> bool:
        return False

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        c = self._unit(batch.x)
        h = affine(self._hidden(batch.x / c), self.E, self.biases, -1)
        return c * nn.functional.softplus(h)

    def _hidden(self, shares: Float[Tensor, "n f"]) -> Float[Tensor, "*r n w"]:
        return hidden_units(shares, self.E, self.biases, self.act, self.norms)

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.H()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def augment(self, batch: Batch, iteration: int) -> Batch:
        if not self.counts:
            return batch
        draws = torch.Generator(batch.x.device).manual_seed(iteration)
        return batch._replace(x=torch.poisson(batch.x, draws))

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        self.counts = self.augment_counts and bool((batch.x == batch.x.round()).all())
        for weights, bias in zip(self.E, self.biases, strict=True):
            assert isinstance(weights, Factor)
            assert isinstance(bias, Factor)
            weights.assign_(self._normal(*weights.raw.shape[1:]))
            bias.assign_(torch.zeros_like(bias.raw))
        c = self._unit(batch.x)
        # totals below 1 have no logarithm to speak of: c is log 2, and shares are as small as X
        total = batch.x.abs().sum(-1).mean().clamp(1e-30, 1)
        self.E[0].assign_(self.E[0]() / total)  # type: ignore[operator]
        W, H = settled(self, proposal["H"], batch)
        self.H.assign_(H)
        if W is not None:
            last, codes = (self.E[-1], self.biases[-1]), BEFORE["softplus"](W / c)
            aim(self, lambda: self._hidden(batch.x / c), *last, codes, self.norms)  # type: ignore[arg-type]
        with judged(self):  # the scale must not depend on a batch
            self.H.assign_(self.H() * best_scale(self, batch))

    def _unit(self, x: Float[Tensor, "n f"]) -> Float[Tensor, "n 1"]:
        total = x.sum(-1, keepdim=True)
        return torch.where(total > 0, total / torch.log2(1 + total), 1)

    def _normal(self, fan_in: int, width: int) -> Tensor:
        """Normal weights of variance 1 / fan in, each restart from its own generator."""
        drawn = [
            torch.randn(fan_in, width, generator=g, dtype=self.precision) for g in self.generators
        ]
        return torch.stack(drawn).to(self.device) / fan_in**0.5
