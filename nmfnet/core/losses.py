"""What a model minimises: one small final class per divergence or likelihood, ``loss=NAME``.

A likelihood may have parameters of its own (a dispersion): they are factors of the model, with a restart
axis and a constraint. It may ask the decoder for more than a mean (``heads``). The same object gives the
objective, ``train/loss``, the loss of held-out rows and the codes of new rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import numpy as np
import torch
from torch import nn

from nmfnet.core.factor import Factor
from nmfnet.errors import UserError
from nmfnet.kernels.counts import nature
from nmfnet.kernels.divergences import TINY, beta_entries, beta_split, monotone_exponent
from nmfnet.kernels.sparse import row_sums, sparse_row_losses, with_values
from nmfnet.settings.ranges import Positive
from nmfnet.types import NO_EXTRA, Batch, Float, Tensor


class Loss(nn.Module, ABC):
    """Misfit of a reconstruction, per restart and row; never reduced further inside.

    ``beta`` names the member of the beta family whose derivative the loss has (so that fused
    multiplicative rules know it), or is None.
    """

    name: str
    beta: float | None = None

    heads: tuple[str, ...] = ()
    """What the decoder must give beside the mean."""

    by_row: tuple[str, ...] = ()
    """What of ``Batch.extra`` it reads (``covariates``); it gets them beside the heads."""

    real: bool = False
    """Whether X and its mean may be any numbers; False = they are >= 0."""

    of_counts: bool = False
    """Whether the value is a log-probability of counts, in nats and with all constants."""

    of_shares: bool = False
    """Whether only the shares of X_hat in its row count, so that the size of a row is free."""

    homogeneity: float | None = None
    """Degree d with loss(c x, c x_hat) = c**d loss(x, x_hat) for every c > 0; None = there is none."""

    is_divergence: bool = False
    """Whether the value is the beta divergence itself, without constants of the data."""

    unasked: bool = False
    """Whether a run has it where nobody asked for a loss, so that a model may pass over it."""

    def for_view(self, view: str) -> Loss:
        """The loss of a view, ``x`` is X: this one for all, unless it says otherwise."""
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """Views of which it says something of their own."""
        return ()

    kinked: bool = False
    """Whether it has kinks, where rows fit exactly, which `smoothed` takes away."""

    @contextmanager
    def smoothed(self, size: float) -> Iterator[None]:
        """Inside, rows that are off by less than ``size`` cost a smooth function of their errors."""
        yield

    def declare(self, declared: Callable[..., Factor]) -> None:
        """Declare own parameters, by ``declared(name, rows, columns, constraint=...)``."""

    def start(self, batch: Batch) -> None:
        """Set own parameters at the start of a run on these rows."""

    def improve(self, x: Tensor, x_hat: Tensor, mask: Tensor | None) -> None:
        """Move own parameters to where they cost no more, X_hat held: a step of their own.

        Where a loss has parameters and no such rule, multiplicative updates do not take it.
        """

    def improve_sparse(
        self,
        columns: Float[Tensor, "f n"],
        W: Float[Tensor, "*r n k"],
        H: Float[Tensor, "*r k f"],
        mask: Float[Tensor, "f n"] | None,
    ) -> None:
        """The same for ``x ~ W H`` of a sparse x, given by its columns; where `sparse_rows` takes one."""

    @property
    def improves(self) -> bool:
        """Whether its parameters have a rule of their own."""
        return type(self).improve is not Loss.improve

    def forward(
        self,
        x: Float[Tensor, "*#r n f"],
        x_hat: Float[Tensor, "*r n f"],
        mask: Float[Tensor, "n f"] | None = None,
        heads: Mapping[str, Tensor] = NO_EXTRA,
    ) -> Float[Tensor, "*r n"]:
        """Sum over the observed features of each row, every entry times its weight."""
        d = self.entries(x, x_hat, mask, heads)
        return (d if mask is None else d * mask).sum(-1)

    @abstractmethod
    def entries(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None, heads: Mapping[str, Tensor]
    ) -> Tensor:
        """The loss of every entry, of x_hat's shape; finite also where the mask is 0."""

    def split(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """``neg, pos >= 0`` with d loss / d x_hat = mask (pos - neg): what multiplicative updates need.

        None where the loss has no such split.
        """
        return None

    def information(self, x: Tensor, x_hat: Tensor) -> Tensor | None:
        """Second derivative by x_hat, as expected or what of it is >= 0; not of the beta family.

        New rows get their codes by it; None = by a search without it.
        """
        return None

    @property
    def row_beta(self) -> float | None:
        """The beta divergence that gives a row by itself the same code, where nothing is added to it."""
        return self.beta

    @property
    def splits(self) -> bool:
        """Whether multiplicative updates exist."""
        return type(self).split is not Loss.split

    def exponent(self, degree: int, penalty_degree: int) -> float:
        """Power of neg / pos that never increases the objective (see ``monotone_exponent``)."""
        raise NotImplementedError(f"{type(self).__name__} has no multiplicative updates")

    def sparse_rows(
        self,
        x: Float[Tensor, "n f"],
        W: Float[Tensor, "n k"],
        H: Float[Tensor, "k f"],
        masked: bool,
    ) -> Float[Tensor, " n"]:
        """The loss of ``x ~ W H`` by rows for a sparse x, of which only stored entries are visited.

        Parameters
        ----------
        masked : bool
            Whether only the stored entries are observed.
        """
        raise UserError(
            f"{type(self).__name__} needs a dense X, and this one is sparse: use loss=frobenius, kl, "
            "poisson or negative_binomial, or give X as a dense array"
        )

    def check(
        self,
        x: Any,
        sample_names: list[str],
        feature_names: list[str],
        where: str,
        mask: Any = None,
    ) -> None:
        """Refuse data outside the domain of the loss.

        Parameters
        ----------
        x : ndarray or scipy sparse matrix, shape (n, f), or stored values of one, shape (nnz,)
        sample_names, feature_names : list of str
        where : str
            What the matrix is called in the message.
        mask : ndarray or scipy sparse matrix, shape (n, f), optional
            Only the entries where it is not 0 are looked at.

        Raises
        ------
        UserError
            With the number of bad entries and the first one by name.
        """
        for outside, what, remedy in self.refused(x):
            bad = _full(outside) if mask is None else _full(outside) & (_full(mask) != 0)
            _refuse(bad, x, what, remedy, sample_names, feature_names, where)

    def refused(self, x: Any) -> Iterator[tuple[Any, str, str]]:
        """What is outside the domain: flags of entries, what they are in words, what to do."""
        yield from ()

    def remarks(self, x: Any) -> Iterator[str]:
        """What is inside the domain and still worth a word: a sentence each."""
        yield from ()


class BetaLoss(Loss, ABC):
    """The beta family; subclasses fix ``beta`` and the domain."""

    name = "beta"
    beta: float

    @property
    def homogeneity(self) -> float | None:  # type: ignore[override]
        return self.beta

    @property
    def real(self) -> bool:  # type: ignore[override]
        return self.beta == 2

    def entries(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None, heads: Mapping[str, Tensor]
    ) -> Tensor:
        return beta_entries(x, x_hat, self.beta, mask)

    def split(self, x: Tensor, x_hat: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return beta_split(x, x_hat, self.beta)

    def sparse_rows(self, x: Tensor, W: Tensor, H: Tensor, masked: bool) -> Tensor:
        return sparse_row_losses(x, W, H, self.beta, masked)

    def exponent(self, degree: int, penalty_degree: int) -> float:
        return monotone_exponent(self.beta, degree, penalty_degree)

    def refused(self, x: Any) -> Iterator[tuple[Any, str, str]]:
        if self.beta != 2:
            yield negative(self.name, x)
        if self.beta <= 0:
            what = f"zeros, and loss={self.name} needs X > 0"
            yield ~_full(x != 0), what, "use loss=kl, or add a small constant to the data"


@final
class Frobenius(BetaLoss):
    """``½ Σ (x - x̂)²``. Source: Lee & Seung 2001, eq. (1), halved."""

    name = "frobenius"
    unasked = True
    beta = 2.0
    is_divergence = True


@final
class KL(BetaLoss):
    """``Σ x log(x / x̂) - x + x̂``, the generalised Kullback-Leibler divergence, for x >= 0.

    Its minimum over non-negative factors is maximum likelihood for Poisson counts.
    Source: Lee & Seung 2001, eq. (2).
    """

    name = "kl"
    beta = 1.0
    is_divergence = True


@final
class ItakuraSaito(BetaLoss):
    """``Σ x / x̂ - log(x / x̂) - 1``, for x > 0: scale-free, used on power spectra.

    Source: Févotte, Bertin & Durrieu 2009, eq. (10).
    """

    name = "itakura_saito"
    beta = 0.0


@final
class Beta(BetaLoss):
    """The beta divergence of any real ``beta`` (2 Frobenius, 1 KL, 0 Itakura-Saito).

    Source: Févotte & Idier 2011, eq. (2.1).
    """

    def __init__(self, *, beta: float = 1.5) -> None:
        super().__init__()
        self.beta = float(beta)


@final
class Alpha(Loss):
    """``Σ (x^α x̂^(1-α) - α x + (α - 1) x̂) / (α (α - 1))``, the alpha divergence, for x >= 0.

    Large α weighs entries that X_hat misses (α = 2 is half Pearson's χ², relative to X_hat), small α
    those that it makes up (½ is ``2 Σ (√x - √x̂)²``, Hellinger's); α = 1 is kl.

    Parameters
    ----------
    alpha : float, > 0, not 1

    Source: Cichocki, Lee, Kim & Choi 2008, "Non-negative matrix factorization with α-divergence", eq. (5)
    and (15).
    """

    name = "alpha"
    homogeneity = 1.0

    def __init__(self, *, alpha: Positive = 0.5) -> None:
        super().__init__()
        if alpha == 1:
            raise UserError("loss.alpha=1 is the Kullback-Leibler divergence: use loss=kl")
        self.alpha = float(alpha)

    def entries(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None, heads: Mapping[str, Tensor]
    ) -> Tensor:
        a, y = self.alpha, x_hat.clamp(min=TINY)
        return (x**a * y ** (1 - a) - a * x + (a - 1) * y) / (a * (a - 1))

    def split(self, x: Tensor, x_hat: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        neg = (x / x_hat.clamp(min=TINY)) ** self.alpha / self.alpha
        return neg, torch.full_like(x_hat, 1 / self.alpha)

    def information(self, x: Tensor, x_hat: Tensor) -> Tensor:
        return 1 / x_hat.clamp(min=TINY)

    def exponent(self, degree: int, penalty_degree: int) -> float:
        """As ``monotone_exponent``: the powers are ``degree`` and, of x̂^(1-α), ``degree (1 - α)``."""
        bottom = degree * (1 - self.alpha) if self.alpha > 1 or degree == 1 else 0.0
        return min(1.0, 1 / (max(degree, penalty_degree) - bottom))

    def refused(self, x: Any) -> Iterator[tuple[Any, str, str]]:
        yield negative(self.name, x)


@final
class Poisson(BetaLoss):
    """``Σ x̂ - x log x̂ + log Γ(x + 1)``, the Poisson negative log-likelihood, in nats, for x >= 0.

    Differs from ``kl`` by a constant of the data, so the updates and the optimum are the same;
    choose it when the value itself is wanted (model comparison by likelihood).
    """

    name = "poisson"
    of_counts = True
    beta = 1.0
    homogeneity = None

    def entries(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None, heads: Mapping[str, Tensor]
    ) -> Tensor:
        y = x_hat.clamp(min=TINY)
        return y - torch.xlogy(x, y) + torch.lgamma(x + 1)

    def sparse_rows(self, x: Tensor, W: Tensor, H: Tensor, masked: bool) -> Tensor:
        v = x.values().double()
        saturated = with_values(x, v - torch.xlogy(v, v) + torch.lgamma(v + 1))
        return sparse_row_losses(x, W, H, self.beta, masked) + row_sums(saturated)

    def remarks(self, x: Any) -> Iterator[str]:
        yield from fractional(self.name, x)


@final
class ByView(Loss):
    """A loss for every view of the same samples, each of its own kind; ``x`` is the first view.

    Parameters
    ----------
    views : mapping of view name to {"frobenius", "kl", "itakura_saito"}
        frobenius for a view that is not named.

    The exponent of multiplicative updates is half the least that they allow: the surrogates of two
    losses have a common upper bound, and its minimum is there.
    """

    name = "by_view"

    def __init__(self, *, views: Mapping[str, str] | None = None) -> None:
        super().__init__()
        kinds: dict[str, type[BetaLoss]] = {
            kind.name: kind for kind in (Frobenius, KL, ItakuraSaito)
        }
        for name, kind in (views or {}).items():
            if kind not in kinds:
                raise UserError(f"loss.views.{name}={kind}: a view takes {', '.join(kinds)}")
        self.single = nn.ModuleDict({name: kinds[kind]() for name, kind in (views or {}).items()})
        self.usual = Frobenius()

    def for_view(self, view: str) -> Loss:
        found = self.single[view] if view in self.single else self.usual  # noqa: SIM401
        assert isinstance(found, Loss)
        return found

    @property
    def named(self) -> tuple[str, ...]:
        return tuple(self.single)

    def entries(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None, heads: Mapping[str, Tensor]
    ) -> Tensor:
        return self.for_view("x").entries(x, x_hat, mask, heads)

    def split(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | None:
        return self.for_view("x").split(x, x_hat, mask)

    def exponent(self, degree: int, penalty_degree: int) -> float:
        every = [self.usual, *(self.for_view(name) for name in self.single)]
        return min(loss.exponent(degree, penalty_degree) for loss in every) / 2

    def refused(self, x: Any) -> Iterator[tuple[Any, str, str]]:
        yield from self.for_view("x").refused(x)


@final
class Own(Loss):
    """No loss of the group: the model has a likelihood of its own, which its documentation states.

    It takes any data: the model itself says what it can use.
    """

    name = "own"
    unasked = True

    def entries(
        self, x: Tensor, x_hat: Tensor, mask: Tensor | None, heads: Mapping[str, Tensor]
    ) -> Tensor:
        raise UserError("loss=own is for models with an objective of their own: use loss=frobenius")


def negative(name: str, x: Any) -> tuple[Any, str, str]:
    """Negative entries, as ``Loss.refused`` gives them."""
    what = f"negative values, and loss={name} needs X >= 0"
    return x < 0, what, "use loss=frobenius, or shift or clip the data"


def fractional(name: str, x: Any) -> Iterator[str]:
    """A sentence on values that are no counts, and on what they seem to be."""
    stored = x.data if hasattr(x, "tocsr") else np.asarray(x)
    broken = int((stored % 1 != 0).sum())
    if not broken:
        return
    said = f"{broken} values are no whole numbers, and loss={name} is a distribution of counts"
    guess = {
        "log": "X looks like log(1 + counts / total), so its nats are not those of counts: give the "
        "counts themselves (of an h5ad often data.layer=counts or data.layer=raw)",
        "scaled": "X looks like counts divided by the total of their row: give the counts themselves",
        "": "its density is taken between them, so the value is not a log-probability",
    }
    yield f"{said}; {guess[nature(x)]}."


def _full(flags: Any) -> np.ndarray:
    return flags.toarray() if hasattr(flags, "toarray") else flags


def _refuse(
    bad: np.ndarray,
    x: Any,
    what: str,
    remedy: str,
    sample_names: list[str],
    feature_names: list[str],
    where: str,
) -> None:
    count = int(bad.sum())
    if not count:
        return
    message = f"{where} has {count} {what}"
    if bad.ndim == 2:
        row, column = np.argwhere(bad)[0]
        message += (
            f"; the first is {x[row, column]:g} in sample {sample_names[row]!r},"
            f" feature {feature_names[column]!r}"
        )
    raise UserError(f"{message}: {remedy}")
