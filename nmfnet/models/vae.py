"""Variational autoencoders: every row has a distribution of codes, which a network decodes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, final

import numpy as np
import torch
from torch import nn

from nmfnet.core.constraints import Free
from nmfnet.core.factor import Factor
from nmfnet.core.laws import Joint, Law, Normal, Point
from nmfnet.core.model import Factorization, Parts
from nmfnet.core.objective import row_losses
from nmfnet.errors import UserError
from nmfnet.kernels.rows import take_rows
from nmfnet.models._layers import Affine, BatchNorm, dropped, start_glorot
from nmfnet.settings.ranges import Natural, NotNegative, Range
from nmfnet.types import Batch, Float, Output, Tensor

LEAST_SHARE = 1e-12
"""Floor of what is divided by, and of means under a logarithm."""

AT_ONCE = 256
"""Rows of which the importance-weighted bound is taken together."""


@final
class VAE(Factorization):
    r"""X ~ s softmax(D(z)) with z ~ N(m(X), v(X)), m and log v a network E; the prior of z is N(0, 1).

    ======  ==================================  =======================  =======================
    symbol  meaning                             code                     shape
    ======  ==================================  =======================  =======================
    X       counts                              ``batch.x``              n_samples, n_features
    c       covariates of a row (batches)       ``extra["covariates"]``  n_samples, covariates
    s       size of a row: its sum, or latent   ``size``                 n_samples, 1
    E_l     weights of encoder layer l          ``E1``, ...              width in, width out
    m       mean of the code                    ``M``                    width in, n_components
    log v   log of its variance                 ``V``                    width in, n_components
    z       code                                ``law``                  n_samples, n_components
    D_l     weights of hidden decoder layer l   ``D1``, ...              width in, width out
    H       last decoder weights                ``H``                    width in, n_features
    C       weights of c in a first layer       ``D1_covariates``, ...   covariates, width out
    pi      log odds of an extra zero, in zinb  ``P``                    width in, n_features
    log s   law of the log of a latent size     ``L1``, ``SM``, ``SV``   width in, 1
    ======  ==================================  =======================  =======================

    Every layer has a bias (``E1_bias``, ...), unless batch normalisation takes it out again: hidden
    layers have that instead if asked for, with a shift of its own. Hidden layers are followed by relu.
    The objective is minus the evidence lower bound, ``Σ -E log p(x | z) + beta KL``, by one draw of z
    for every row and iteration in training and by eight fixed ones, without dropout, where it is
    judged. Under ``loss=frobenius`` or ``normal`` X_hat is D(z) itself and E reads X as it is; under
    ``loss=bernoulli`` D(z) are log odds.

    ``transform`` gives the mean code m. ``inverse_transform`` is for rows of size 1 with the mean
    covariates: shares; ``reconstruct`` knows both of each row. Of a row with missing entries the
    observed size is such that X_hat sums to the observed total over the observed entries. With
    ``decoder: []`` the rows of H are the components, of any sign: what a unit of the code adds to the
    log of the mean (before softmax); any other decoder has none. ``train/loss`` is the loss at the mean
    code, ``train/elbo`` and ``test/elbo`` are the bound with beta = 1, in nats per row (for a loss that
    is no likelihood, up to its constants).

    Parameters
    ----------
    n_components : int, >= 1
    hidden : sequence of int
        Widths of the encoder's hidden layers, from the data inwards; [] = a linear encoder.
    decoder : sequence of int
        Widths of the decoder's hidden layers, from the code outwards; [] = a linear decoder.
    law : {"normal", "point"}
        Whether the code is a normal law, or a point without a prior.
    warm_up : int, >= 0
        Iterations over which the weight of the KL term rises to beta; nothing stops before.
    beta : float, >= 0
        Weight of the KL term; 1 = the evidence lower bound, more = simpler codes.
    size : {"observed", "latent"}
        The size of a row is ``extra["size"]`` or its sum; or its log has a normal law, by a network of
        its own, whose prior has the mean and variance of the log sums of the training rows.
    reads : {"log", "scaled"}
        What E reads of counts: log(1 + X); or log(1 + X / size of the row x median size), every
        feature with mean 0 and variance 1 over the training rows.
    covariates : {"decoder", "both", "none"}
        Which networks read the covariates of the samples, where the data have any: the decoder alone,
        so that the code is free to forget them, or the encoder as well.
    batch_norm : bool
        Batch normalisation in every hidden layer.
    dropout : float in [0, 1)
        Share of the encoder's hidden units that a training step leaves out, for every row anew.
    importance : int, >= 0
        Draws of each row by which ``test/iw_bound`` is taken, an importance-weighted bound on log p(x)
        that is closer to it than the ELBO; 0 = none. It takes as many passes of the decoder.

    Source: Kingma & Welling 2014, "Auto-encoding variational Bayes"; Lopez et al. 2018 (scVI); Svensson
    et al. 2020 (LDVAE, the linear decoder); Eraslan et al. 2019 (DCA, the point); Burda, Grosse &
    Salakhutdinov 2016, eq. (8), for the importance-weighted bound.

    Differs from the source: full batches with early stopping on held-out rows, one dispersion per gene
    (or by covariates), shares by softmax in DCA too, no normalisation after a linear decoder (whose
    scale and shift H and its bias take up), and one prior of a latent size for all batches.
    """

    linear = False
    heads = ("dropout", "logit")
    multilinear = False  # type: ignore[assignment]
    code = "real"

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 10,
        hidden: Sequence[int] = (128,),
        decoder: Sequence[int] = (128,),
        law: Literal["normal", "point"] = "normal",
        warm_up: Natural = 100,
        beta: NotNegative = 1.0,
        size: Literal["observed", "latent"] = "observed",
        reads: Literal["log", "scaled"] = "log",
        covariates: Literal["decoder", "both", "none"] = "decoder",
        batch_norm: bool = False,
        dropout: Annotated[float, Range(0, below=1)] = 0.0,
        importance: Natural = 0,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.variational = law == "normal"
        self.warm_up, self.kl_weight = (warm_up, beta) if self.variational else (0, 1.0)
        self.counts = not parts.loss.real and "logit" not in parts.loss.heads
        self.has_components = not decoder
        if not self.variational:
            self.unused("model.law=point", "warm_up", "beta", "importance")
        if not self.counts:
            self.unused(f"loss={parts.loss.name}, which is not of counts", "reads")
        if "covariate" not in self.axes:
            self.unused("data without covariates", "covariates")
        self.reads, self.batch_norm, self.dropout = reads, batch_norm, dropout
        self.importance = importance
        if size == "latent" and not (self.counts and self.variational):
            raise UserError(
                "model.size=latent is for counts and model.law=normal: use model.size=observed"
            )
        known = covariates if "covariate" in self.axes else "none"
        beside = {"E": known == "both", "D": known != "none"}
        *inwards, code = ["feature", *self._widths("hidden", hidden), "component"]
        outwards = [code, *self._widths("decoder", decoder)]
        self.E = self._layers("E", inwards, beside["E"])
        lost = batch_norm and not self.variational and bool(decoder)  # a shift of all codes
        self.M = self._layer("M", inwards[-1], code, beside["E"] and not hidden, bias=not lost)
        self.V = self.L = self.SM = self.SV = self.P = None
        if self.variational:
            self.V = self._layer("V", inwards[-1], code, beside["E"] and not hidden)
        if size == "latent":
            self.L = self._layers("L", inwards[:2], beside["E"])
            last = beside["E"] and not hidden
            self.SM, self.SV = (self._layer(n, inwards[:2][-1], "one", last) for n in ("SM", "SV"))
        self.D = self._layers("D", outwards, beside["D"])
        self.H = self._layer("H", outwards[-1], "feature", beside["D"] and not decoder)
        if "dropout" in parts.loss.heads:
            self.P = self._layer("P", outwards[-1], "feature", beside["D"] and not decoder)
        r, f, c = self.n_restarts, self.sizes.n_features, self.axes.get("covariate", 0)
        for name, width in {
            "usual": c,
            "centre": f,
            "spread": f,
            "depth": 1,
            "log_sizes": 2,
        }.items():
            self.register_buffer(name, torch.ones(r, 1, width))
        self.usual: Tensor  # covariates where none are known
        self.centre: Tensor  # of what E reads
        self.spread: Tensor
        self.depth: Tensor
        self.log_sizes: Tensor  # mean and standard deviation of the log of a size

    def _widths(self, option: str, widths: Sequence[int]) -> list[str]:
        """Axes of hidden layers, by name."""
        if bad := [width for width in widths if width < 1]:
            raise UserError(f"model.{option} has a width of {bad[0]}: every width must be >= 1")
        names = [f"{option} {i}" for i in range(1, len(widths) + 1)]
        self.axes |= dict(zip(names, widths, strict=True))
        return names

    def _layers(self, name: str, axes: Sequence[str], beside: bool) -> nn.ModuleList:
        return nn.ModuleList(
            self._layer(f"{name}{i}", a, b, beside and i == 1, self.batch_norm)
            for i, (a, b) in enumerate(pairwise(axes), start=1)
        )

    def _layer(
        self,
        name: str,
        width_in: str,
        width_out: str,
        beside: bool,
        norm: bool = False,
        bias: bool = True,
    ) -> Affine:
        def factor(word: str, rows: str) -> Factor:
            return self.factor(name + word, rows, width_out, constraint=Free())

        more = factor("_covariates", "covariate") if beside else None
        width = self.axes[width_out]
        made = BatchNorm(self.n_restarts, width, eps=1e-3) if norm else None
        shift = factor("_bias", "one") if bias and made is None else None
        return Affine(factor("", width_in), shift, more, made)

    # ------------------------------------------------------------------ the model
    def law(self, batch: Batch) -> Law:
        c = batch.extra.get("covariates")
        read = self._read(batch)
        h = self._hidden(self.E, read, c, self.dropout)
        mean = self.M(h, c)
        if self.V is None:
            return Point(mean)
        code = Normal(mean, self.V(h, c))
        return code if self.L is None else Joint(code, self._size_law(read, c))

    def _read(self, batch: Batch) -> Float[Tensor, "*#r n f"]:
        """What the encoder sees."""
        if not self.counts:
            return batch.x
        if self.reads == "log":
            return torch.log1p(batch.x)
        return (self._levelled(batch.x, self.depth) - self.centre) / self.spread

    def _levelled(self, x: Float[Tensor, "n f"], depth: Tensor) -> Float[Tensor, "*#r n f"]:
        return torch.log1p(x / x.sum(-1, keepdim=True).clamp_min(1) * depth)

    def _size_law(self, read: Tensor, c: Tensor | None) -> Normal:
        """Of the log of the size of a row."""
        assert self.L is not None
        assert self.SM is not None
        assert self.SV is not None
        h = self._hidden(self.L, read, c, self.dropout, first=100)
        return Normal(
            self.SM(h, c), self.SV(h, c), (self.log_sizes[..., :1], self.log_sizes[..., 1:])
        )

    def _hidden(
        self, layers: nn.ModuleList, h: Tensor, c: Tensor | None, dropout: float = 0, first: int = 1
    ) -> Tensor:
        for i, layer in enumerate(layers):
            h = torch.relu(layer(h, c))
            h = dropped(self, h, dropout, first + i)
        return h

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.law(batch).mean

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """X_hat of rows of size 1 with the mean covariates."""
        c = self.usual if self.usual.shape[-1] else None
        return self._linked(self.H(self._hidden(self.D, W, c), c))

    def outputs(self, code: Float[Tensor, "*r n k"], batch: Batch) -> dict[str, Output]:
        c = batch.extra.get("covariates")
        z, log_size = code[..., : self.n_components], code[..., self.n_components :]
        h = self._hidden(self.D, z, c)
        said = self.H(h, c)
        mean = self._linked(said)
        if self.counts:
            sampled = log_size.shape[-1] > 0
            mean = (log_size.exp() if sampled else self.size(batch, mean)) * mean
        heads = {} if self.P is None else {"dropout": self.P(h, c)}
        return {"x": Output(mean, heads | {"logit": said})}

    def size(self, batch: Batch, share: Float[Tensor, "*r n f"]) -> Float[Tensor, "*#r n 1"]:
        """What every row sums to, were all of it observed."""
        if self.L is not None:
            return self._size_law(self._read(batch), batch.extra.get("covariates")).mean.exp()
        if "size" in batch.extra:
            return batch.extra["size"].reshape(-1, 1)
        total = batch.x.sum(-1, keepdim=True)
        if batch.mask is None:
            return total
        return total / ((batch.mask > 0) * share).sum(-1, keepdim=True).clamp_min(LEAST_SHARE)

    def _linked(self, said: Float[Tensor, "*r n f"]) -> Float[Tensor, "*r n f"]:
        """Shares, probabilities, or any numbers, as the loss is for."""
        if self.counts:
            return said.softmax(-1)
        return said if self.loss.real else said.sigmoid()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H.weights()

    # ------------------------------------------------------------------ fit and numbers
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Glorot's uniform weights; X_hat starts near the mean of the rows, a size at its prior."""
        start_glorot(self)
        for law in (self.SM, self.SV):
            if law is not None:
                law.weights.assign_(torch.zeros_like(law.weights.raw))
        mean, sums = batch.x.mean(-2, keepdim=True), batch.x.sum(-1)
        if batch.mask is not None:
            seen = batch.mask > 0
            mean = (batch.x * seen).sum(-2, keepdim=True) / seen.sum(-2, keepdim=True)
        if self.counts:
            mean = mean.clamp_min(1e-3 * float(mean.mean())).clamp_min(LEAST_SHARE).log()
            self.depth.fill_(float(sums.median().clamp_min(1)))
            read = self._levelled(batch.x, self.depth[0])
            self.centre.copy_(read.mean(-2, keepdim=True))
            spread = read.std(-2, correction=0, keepdim=True)
            self.spread.copy_(torch.where(spread > 0, spread, 1))
            logs = sums.clamp_min(1).log()
            width = logs.std(correction=0).clamp_min(1e-2)
            self.log_sizes.copy_(torch.stack([logs.mean(), width]))
            if self.SM is not None and self.SV is not None:
                self.SM.shift(self.log_sizes[..., :1])
                self.SV.shift(2 * self.log_sizes[..., 1:].log())
        elif not self.loss.real:
            mean = mean.clamp(1e-3, 1 - 1e-3).logit()
        if "covariates" in batch.extra:
            self.usual.copy_(batch.extra["covariates"].mean(-2, keepdim=True))
        self.H.shift(mean)

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        entries = part == "test" and bool((batch.index >= 0).all())  # of rows that were trained on
        divergence = self.law(batch).kl()
        if divergence is None or entries:
            return {}
        rows = self.row_terms(batch)["data"].double() + divergence.double()
        found = {f"{part}/elbo": -float(rows.mean())}
        if self.importance and part == "test":
            bound = self.importance_bound(batch, self.importance)
            found |= {"test/iw_bound": float(bound.mean()), "test/iw_draws": float(self.importance)}
        return found

    def importance_bound(self, batch: Batch, draws: int) -> Float[Tensor, "*r n"]:
        """``log 1/K Σ_k p(x, z_k) / q(z_k | x)``, K draws of each row's own: a bound on log p(x).

        Source: Burda, Grosse & Salakhutdinov 2016, "Importance weighted autoencoders", eq. (8).
        """
        bounds = []
        for start in range(0, batch.x.shape[0], AT_ONCE):
            rows = batch.by_row(lambda t, at=start: take_rows(t, slice(at, at + AT_ONCE)))  # type: ignore[misc]
            law, weights = self.law(rows), []
            for draw in range(draws):
                noise = self.noise(rows.x.shape[0], law.noise, draw=10_000 + start + draw)
                z = law.sample(noise)
                weights.append(law.log_weight(z).double() - row_losses(self, rows, z).double())
            bounds.append(torch.stack(weights).logsumexp(0) - float(np.log(draws)))
        return torch.cat(bounds, -1)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        profiles = rng.dirichlet(np.full(12, 0.5), size=3)[np.arange(30) % 3]
        mean = rng.uniform(50, 150, (30, 1)) * (0.9 * profiles + 0.1 / 12)
        return {"X": rng.negative_binomial(3, 3 / (3 + mean)).astype(float)}
