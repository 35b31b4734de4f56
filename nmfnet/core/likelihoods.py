"""Likelihoods with parameters or heads of their own: ``loss=NAME`` in nats, all constants in.

Their values can be compared with each other where they are about the same support: counts with counts
(Poisson, negative binomial with and without inflation), and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, final

import numpy as np
import torch
from torch.nn.functional import softplus
from torch.utils.checkpoint import checkpoint

from nmfnet.core.constraints import Exp, Free
from nmfnet.core.factor import Factor
from nmfnet.core.losses import Loss, fractional, negative
from nmfnet.errors import UserError
from nmfnet.kernels.counts import (
    better_dispersion,
    multinomial,
    negative_binomial,
    zero_inflated,
)
from nmfnet.kernels.divergences import TINY, monotone_exponent
from nmfnet.kernels.rows import dense, row_blocks, take_rows
from nmfnet.kernels.sparse import with_values
from nmfnet.settings.ranges import NotNegative
from nmfnet.types import Batch, Float, Tensor

DISPERSIONS = (1e-4, 1e4)
"""Least and largest inverse dispersion."""

LEAST_SCALE = 1e-4
"""Least standard deviation: a feature that is fitted exactly has an unbounded density."""


@final
class NegativeBinomial(Loss):
    """``-Σ log NB(x; x̂, theta)``, in nats, for counts with more spread than Poisson's.

    theta is the inverse dispersion of each feature (variance x̂ + x̂²/theta), learned with the model
    and kept within 1e-4 and 1e4: the factor ``dispersion`` (1, n_features). Multiplicative updates
    take theirs of W and H, ``Σ x / x̂`` over ``Σ (x + theta) / (x̂ + theta)``, and every few of them a
    Newton step of log theta that lowers the objective. A sparse X is taken without inflation and with
    one theta for each feature; all entries of X_hat are formed, a block at a time.

    Parameters
    ----------
    zero_inflated : bool
        Mix with a point mass at 0, whose log odds are the decoder's head ``dropout`` (ZINB).
    dispersion : {"feature", "covariates"}
        One theta for each feature; or, in every sample, this times
        ``exp(covariates @ dispersion_shift)``, so that every batch has its own.
    inflation_ridge : float, >= 0
        Times the squared probability of the point mass, added for every observed entry: a ridge
        without which zeros that the mean explains as well are called inflated.

    Source: Lopez et al. 2018 (scVI); Eraslan et al. 2019 (DCA), eq. (1) and (2), and its ridge. The
    updates: Gouvert, Oberlin & Févotte 2020, "Negative binomial matrix factorization".
    """

    of_counts = True

    def __init__(
        self,
        *,
        zero_inflated: bool = False,
        dispersion: Literal["feature", "covariates"] = "feature",
        inflation_ridge: NotNegative = 0.0,
    ) -> None:
        super().__init__()
        if inflation_ridge and not zero_inflated:
            raise UserError(
                "loss.inflation_ridge is for zero-inflated counts: use loss=zinb, or set it to 0"
            )
        self.name = "zinb" if zero_inflated else "negative_binomial"
        self.zero_inflated, self.ridge = zero_inflated, inflation_ridge
        self.heads = ("dropout",) if zero_inflated else ()
        self.by_row = ("covariates",) if dispersion == "covariates" else ()

    def declare(self, declared: Callable[..., Factor]) -> None:
        self.dispersion = declared("dispersion", "one", "feature", constraint=Exp())
        self.shift: Factor | None = None
        if self.by_row:
            self.shift = declared("dispersion_shift", "covariate", "feature", constraint=Free())

    def start(self, batch: Batch) -> None:
        self.dispersion.assign_(torch.ones_like(self.dispersion.raw))
        if self.shift is not None:
            self.shift.assign_(torch.zeros_like(self.shift.raw))

    def theta(self, heads: Mapping[str, Tensor]) -> Tensor:
        """Inverse dispersions, which broadcast to X_hat."""
        theta = self.dispersion()
        if self.shift is not None:
            theta = theta * (heads["covariates"] @ self.shift()).exp()
        return theta.clamp(*DISPERSIONS)

    def entries(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None, heads: Mapping[str, Tensor]
    ) -> Tensor:
        theta = self.theta(heads)
        log_p = negative_binomial(x, x_hat, theta)
        if not self.zero_inflated:
            return -log_p
        at_zero = negative_binomial(torch.zeros_like(x), x_hat, theta)
        log_p = zero_inflated(x, log_p, at_zero, heads["dropout"])
        return -log_p + self.ridge * heads["dropout"].sigmoid() ** 2 if self.ridge else -log_p

    @property
    def splits(self) -> bool:
        """Of one theta for each feature, without inflation."""
        return not self.zero_inflated and not self.by_row

    def split(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | None:
        if not self.splits:
            return None
        y, theta = x_hat.clamp(min=TINY), self.dispersion().detach().clamp(*DISPERSIONS)
        return x / y, (x + theta) / (y + theta)

    def information(self, x: Tensor, x_hat: Tensor) -> Tensor | None:
        """The expected one, but no more than of ``-x log x_hat``: a 0 bars no small mean."""
        if not self.splits:
            return None
        y, theta = x_hat.clamp(min=TINY), self.dispersion().detach().clamp(*DISPERSIONS)
        return torch.minimum(theta / (y * (y + theta)), x / y.square())

    def exponent(self, degree: int, penalty_degree: int) -> float:
        return monotone_exponent(
            1.0, degree, penalty_degree
        )  # -x log y, and log(y + theta) is concave

    def improve(self, x: Tensor, x_hat: Tensor, mask: Tensor | None) -> None:
        theta = self.dispersion()
        better = better_dispersion(x, x_hat, theta.clamp(*DISPERSIONS), mask, DISPERSIONS)
        self.dispersion.assign_(better)

    def sparse_rows(
        self,
        x: Float[Tensor, "n f"],
        W: Float[Tensor, "*r n k"],
        H: Float[Tensor, "*r k f"],
        masked: bool,
    ) -> Float[Tensor, "*r n"]:
        """By blocks of rows, of which all entries are formed: again for the gradient, none is kept."""
        if not self.splits:
            return super().sparse_rows(x, W, H, masked)

        def block(W: Tensor, H: Tensor, part: Tensor) -> Tensor:
            seen = dense(with_values(part, torch.ones_like(part.values()))) if masked else None
            return self(dense(part), W @ H, seen)

        parts = [
            checkpoint(block, W[..., rows, :], H, take_rows(x, rows), use_reentrant=False)
            for rows in row_blocks(x, W.shape[:-2].numel())
        ]
        return torch.cat(parts, -1)

    def improve_sparse(
        self,
        columns: Float[Tensor, "f n"],
        W: Float[Tensor, "*r n k"],
        H: Float[Tensor, "*r k f"],
        mask: Float[Tensor, "f n"] | None,
    ) -> None:
        theta, better = self.dispersion().clamp(*DISPERSIONS), []
        for at in row_blocks(columns, W.shape[:-2].numel()):
            x, seen = (None if a is None else dense(take_rows(a, at)).mT for a in (columns, mask))
            assert x is not None
            found = better_dispersion(x, W @ H[..., at], theta[..., at], seen, DISPERSIONS)
            better.append(found)
        self.dispersion.assign_(torch.cat(better, -1))

    def refused(self, x: Any) -> Iterator[tuple[Any, str, str]]:
        yield negative(self.name, x)

    def remarks(self, x: Any) -> Iterator[str]:
        yield from fractional(self.name, x)


@final
class Normal(Loss):
    """``-Σ log N(x; x̂, scale²)``, in nats, for any numbers: squared errors that know their size.

    The standard deviation is learned with the model and kept above 1e-4: the factor ``scale``, one
    number or one for each feature. Multiplicative updates set it to its optimum, the root mean square
    of the errors.

    Parameters
    ----------
    scale : {"one", "feature"}
        Of each feature its own: then the likelihood of a component that fits a single feature exactly
        has no bound but the least scale (a Heywood case), so look at the scales.

    Source: Bishop 2006, "Pattern recognition and machine learning", eq. (1.46); Tipping & Bishop 1999
    for one scale, and factor analysis for one of each feature, with a linear decoder.
    """

    name = "normal"
    real = True

    def __init__(self, *, scale: Literal["one", "feature"] = "one") -> None:
        super().__init__()
        self.of, self.over = scale, (-2,) if scale == "feature" else (-2, -1)

    def declare(self, declared: Callable[..., Factor]) -> None:
        self.scale = declared("scale", "one", self.of, constraint=Exp())

    def start(self, batch: Batch) -> None:
        """The standard deviation about the mean of every feature, which a good model lowers."""
        x = batch.x.to_dense()
        mask = None if batch.mask is None else batch.mask.to_dense()
        seen = torch.ones_like(x) if mask is None else mask
        mean = (seen * x).sum(-2, keepdim=True) / seen.sum(-2, keepdim=True).clamp_min(TINY)
        self.improve(x, mean, mask)

    def entries(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None, heads: Mapping[str, Tensor]
    ) -> Tensor:
        scale = self.scale().clamp_min(LEAST_SCALE)
        return 0.5 * ((x - x_hat) / scale) ** 2 + scale.log() + 0.5 * float(np.log(2 * np.pi))

    def split(self, x: Tensor, x_hat: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        precision = self.scale().detach().clamp_min(LEAST_SCALE) ** -2
        return precision * x.clamp_min(0), precision * (x_hat + (-x).clamp_min(0))

    def information(self, x: Tensor, x_hat: Tensor) -> Tensor:
        return self.scale().detach().clamp_min(LEAST_SCALE) ** -2

    def exponent(self, degree: int, penalty_degree: int) -> float:
        return monotone_exponent(2.0, degree, penalty_degree)

    def improve(self, x: Tensor, x_hat: Tensor, mask: Tensor | None) -> None:
        square = (x - x_hat) ** 2
        if mask is None:
            mean = square.mean(self.over, keepdim=True)
        else:
            mean = (mask * square).sum(self.over, keepdim=True)
            mean = mean / mask.expand_as(square).sum(self.over, keepdim=True).clamp_min(TINY)
        self.scale.assign_(mean.sqrt().clamp_min(LEAST_SCALE))


@final
class Bernoulli(Loss):
    """``-Σ x log x̂ + (1 - x) log(1 - x̂)``, in nats, for x within 0 and 1.

    The decoder must give the log odds of x̂ (the head ``logit``), of which the value is computed.
    Between 0 and 1 it is the cross-entropy, and no log-probability.

    Source: Bishop 2006, "Pattern recognition and machine learning", eq. (4.90).
    """

    name = "bernoulli"
    heads = ("logit",)

    def entries(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None, heads: Mapping[str, Tensor]
    ) -> Tensor:
        return softplus(heads["logit"]) - x * heads["logit"]

    def refused(self, x: Any) -> Iterator[tuple[Any, str, str]]:
        yield negative(self.name, x)
        what = f"values above 1, and loss={self.name} needs 0 <= X <= 1"
        yield x > 1, what, "divide X by its largest value, or use loss=poisson for counts"

    def remarks(self, x: Any) -> Iterator[str]:
        stored = x.data if hasattr(x, "tocsr") else np.asarray(x)
        between = int(((stored > 0) & (stored < 1)).sum())
        if between:
            yield (
                f"{between} values are between 0 and 1: loss={self.name} is then a cross-entropy, and "
                "not the log-probability of X."
            )


@final
class Multinomial(Loss):
    """``-Σ log Mult(x; Σ x, x̂ / Σ x̂)`` by rows, in nats, for counts of which the totals are given.

    Only the shares of X_hat in its row count. Of a row with missing entries the shares are those among
    the observed ones. Where the size of a code is free it is such that X_hat has the total of its row.

    Source: Hofmann 1999 (PLSI), eq. (2), with the multinomial coefficient.
    """

    name = "multinomial"
    of_counts = True
    of_shares = True

    def entries(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None, heads: Mapping[str, Tensor]
    ) -> Tensor:
        return -multinomial(x, x_hat, mask)

    def refused(self, x: Any) -> Iterator[tuple[Any, str, str]]:
        yield negative(self.name, x)

    def remarks(self, x: Any) -> Iterator[str]:
        yield from fractional(self.name, x)
