"""Communities of counts whose weights depend on covariates (BALSAMICO)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import distributions as D

from nmfnet.core.constraints import Exp, Free
from nmfnet.core.laws import Dirichlet
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.collinear import leading_columns
from nmfnet.kernels.topics import expected_log
from nmfnet.settings.ranges import Positive
from nmfnet.types import Batch, Float, Output, Tensor, Terms

STILL, MOST = 1e-7, 5000
"""Relative change of the weights of new rows that ends their fixed point, and most of its steps."""

NEWTON, SETTLED = 100, 1e-12
"""Most Newton steps of a regression, and what the last one promises per sample."""


@final
class Balsamico(Factorization):
    r"""X ~ Poisson(tau W H), W_nl ~ Gamma with mean exp(b_l + c_n V_l), rows of H ~ Dirichlet(alpha).

    ======  ==============================================  =======================  ================
    symbol  meaning                                         code                     shape
    ======  ==============================================  =======================  ================
    X       counts                                          ``batch.x``              n, f
    tau     size of the library of every sample             ``sizes_of``             n, 1
    c       covariates of every sample                      ``extra["covariates"]``  n, c
    W       means of the laws of the weights, the code      ``W``                    n, k
    H       components, mean of Dirichlet(Lambda)           ``components``           k, f
    Lambda  concentrations of the components, > 0           ``Lambda``               k, f
    V, b    effects of covariates on log E[W]; intercepts   ``V``, ``b``             c, k; 1, k
    a       shapes of the Gamma laws, > 0                   ``a``                    1, k
    ======  ==============================================  =======================  ================

    What is minimised is minus the evidence lower bound, in nats, of ``q(W) = Gamma(beta W, beta)`` with
    ``beta = a exp(-b - c V) + tau`` (its optimum) and ``q(H) = Dirichlet(Lambda)``. A sweep is one round
    of variational Bayes, with V and b where the Gamma regression of W on c is best, and then a.

    The file ``effects.csv`` has V and b with standard errors from the curvature of the bound in closed
    form, W integrated out: of counts ``a + S`` that a component has in a sample the share
    ``1 - p = tau / beta`` comes from the data, and the information of the effects is
    ``Zᵀ diag((a + S) p (1 - p)) Z`` with ``Z = [1, c]``. They take the shares of the components in the
    counts as known, and so are too small where components overlap much.

    Covariates that others determine (the last level of one in text) have no effect of their own: theirs
    is in the intercept.

    Parameters
    ----------
    n_components : int, >= 1
    library : {"rows", "none"} or str
        tau: the sum of the row, which makes effects those on shares of the components (what raises all of
        them alike is lost); 1; or the name of a covariate that holds sizes > 0 that were measured.
    alpha : float, > 0
        Prior of the components, the same for every feature.

    Source: Abe, Hirayama, Ohno & Shimamura 2021, "Hierarchical non-negative matrix factorization using
    clinical information for microbial communities" (the model and its variational Bayes).

    Differs from the source: b is apart from V and the log mean of W; regressions are solved by Newton
    steps in every sweep; a is the root of its derivative; W is integrated out of the
    standard errors.
    """

    inductive = False
    shardable = False
    multilinear = False  # type: ignore[assignment]
    same_losses = ("kl", "poisson")

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 5,
        library: str = "rows",
        alpha: Positive = 1.0,
    ) -> None:
        if "covariate" not in parts.axes:
            raise UserError(
                "model=balsamico explains weights by covariates, and the data have none: give "
                "data.covariates=TABLE, or covariates= in Python; model=nmf loss=kl needs none"
            )
        super().__init__(parts, n_components=n_components)
        self.library, self.alpha = library, float(alpha)
        self.W = self.factor("W", "sample", "component", constraint=Exp())
        self.Lambda = self.factor("Lambda", "component", "feature", constraint=Exp())
        self.a = self.factor("a", "one", "component", constraint=Exp())
        self.V = self.factor("V", "covariate", "component", constraint=Free())
        self.b = self.factor("b", "one", "component", constraint=Free())
        self.register_buffer("used", torch.ones(self.n_restarts, self.axes["covariate"], 1))
        self.used: Tensor

    # ------------------------------------------------------------------ the model
    def sizes_of(self, batch: Batch) -> Float[Tensor, "n 1"]:
        """Tau."""
        if self.library == "none":
            return torch.ones_like(batch.x[:, :1], dtype=torch.float64)
        if self.library == "rows":
            return batch.x.double().sum(-1, keepdim=True).clamp_min(1.0)
        return batch.extra["covariates"][:, self._column()].double()[:, None]

    def _column(self) -> int:
        """Which covariate the sizes are."""
        names = self.recipe.get("covariate_names") or []
        if self.library not in names:
            raise UserError(
                f"model.library={self.library} is neither rows nor none nor a covariate that is a number "
                f"(there are {', '.join(names)})"
            )
        return names.index(self.library)

    def prior(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """The rates ``a exp(-b - c V)`` of the prior of W."""
        effects = (self.used * self.V()).double()
        log_mean = self.b().double() + batch.extra["covariates"].double() @ effects
        return self.a().double() * (-log_mean).exp()

    def rates(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """Beta."""
        tau, H = self.sizes_of(batch), self.components().double()
        seen = 1 if batch.mask is None else batch.mask.double() @ H.mT
        return self.prior(batch) + tau * seen

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def components(self) -> Float[Tensor, "*r k f"]:
        Lambda = self.Lambda()
        return Lambda / Lambda.sum(-1, keepdim=True)

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """Means of rows of size 1."""
        return W @ self.components()

    def outputs(self, code: Float[Tensor, "*r n k"], batch: Batch) -> dict[str, Output]:
        return {"x": Output(self.sizes_of(batch).to(code) * self.decode(code))}

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        """The bound of every row, components held."""
        x, tau, W = counts(batch), self.sizes_of(batch), self.encode(batch).double()
        prior, beta, a = self.prior(batch), self.rates(batch), self.a().double()
        T, B = exp_log(beta * W, beta), expected_log(self.Lambda().double()).exp()
        logs = torch.xlogy(x, (tau * (T @ B)).clamp_min(1e-300)) - torch.lgamma(x + 1)
        data = (W * (beta - prior)).sum(-1) - logs.sum(-1)
        # a step on trial may be so long that rates overflow: its bound is no number, and it is not taken
        posterior = D.Gamma(beta * W, beta, validate_args=False)
        given = D.Gamma(a.expand_as(beta), prior, validate_args=False)
        return {"data": data, "kl_W": D.kl_divergence(posterior, given).sum(-1)}

    def terms(self, batch: Batch) -> Terms:
        share = batch.x.shape[0] / self.sizes.n_samples  # so that parts of the rows add up
        laws = Dirichlet(self.Lambda().double(), self.alpha).kl()
        return {**super().terms(batch), "kl_H": share * laws.sum(-1)}

    # ------------------------------------------------------------------ fit
    def sweep(self, batch: Batch, rate: float = 1.0) -> None:
        """Shares of the counts, then the components, the regressions and the weights."""
        W, beta = self.W().double(), self.rates(batch)
        of_W, of_H = allocated(counts(batch), beta * W, beta, expected_log(self.Lambda().double()))
        log_W = torch.digamma(beta * W) - beta.log()
        self.Lambda.assign_(self.alpha + of_H)
        chosen = self.used[:, 0] > 0
        Z = torch.nn.functional.pad(
            batch.extra["covariates"].double()[:, chosen], (1, 0), value=1.0
        )
        found = torch.cat([self.b(), self.V()[chosen]]).double()
        for component, w in enumerate(W.T):
            found[:, component] = regression(Z, w, found[:, component])
        self.b.assign_(found[:1])
        self.V.assign_(self.V().double().masked_scatter(chosen[:, None], found[1:]))
        self.a.assign_(shape((Z @ found - log_W + W * (-Z @ found).exp() - 1).mean(0))[None])
        self.W.assign_((self.a().double() + of_W) / self.rates(batch))

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """Weights of any rows at the fixed point of theirs, all else held."""
        x, a, beta = counts(batch), self.a().double(), self.rates(batch)
        log_H = expected_log(self.Lambda().double())
        found = a + (x.sum(-1, keepdim=True) / self.n_components).expand_as(beta)
        for _ in range(MOST):
            before, found = found, a + allocated(x, found, beta, log_H)[0]
            if bool(((found - before).abs() <= STILL * before).all()):
                break
        return (found / beta).to(self.precision)

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Components between those of NMF's start and the mean row; every weight its share of the row."""
        if self.library == "rows" and batch.mask is not None:
            raise UserError(
                "model.library=rows needs all of a row, and entries are missing: give sizes as "
                "a covariate, or model.library=none"
            )
        c = batch.extra["covariates"].double().cpu().numpy()
        used = np.zeros(c.shape[1], bool)
        used[leading_columns(c)] = True
        if self.library not in ("rows", "none"):
            used[self._column()] = False
            if not float(self.sizes_of(batch).min()) > 0:
                raise UserError(f"model.library={self.library} has sizes that are not above 0")
        self.used[:] = torch.from_numpy(used).to(self.used)[:, None]
        x = counts(batch)
        mean = x.mean(0) / x.mean(0).sum().clamp_min(1e-300)
        H = proposal["H"].double()
        H = H / H.sum(-1, keepdim=True).clamp_min(1e-300) + mean
        self.Lambda.assign_(self.alpha + H / H.sum(-1, keepdim=True) * x.sum() / self.n_components)
        share = (x.sum(-1, keepdim=True) + 1) / self.sizes_of(batch) / self.n_components
        self.W.assign_(share.expand(self.n_restarts, -1, self.n_components))
        self.a.assign_(torch.ones_like(self.a.raw))
        self.b.assign_(share.mean().log().expand_as(self.b.raw))
        self.V.assign_(torch.zeros_like(self.V.raw))

    # ------------------------------------------------------------------ what is said of it
    def effects(self, batch: Batch) -> tuple[Float[Tensor, "*r m k"], Float[Tensor, "*r m k"]]:
        """Effects of the covariates that have any, under the intercepts, and their standard errors."""
        W, beta, p = self.encode(batch).double(), self.rates(batch), self.prior(batch)
        weight = W * p * (1 - p / beta)
        chosen = self.used.reshape(-1, self.used.shape[-2])[0] > 0
        c = batch.extra["covariates"].double()[:, chosen]
        Z = torch.nn.functional.pad(c, (1, 0), value=1.0)
        information = torch.einsum("nc,...nk,nd->...kcd", Z, weight, Z)
        errors = torch.linalg.inv(information).diagonal(dim1=-2, dim2=-1).sqrt().mT
        return torch.cat([self.b(), self.V()[..., chosen, :]], -2).double(), errors

    def tables_of(
        self, code: Float[Tensor, "*r n k"], batch: Batch, names: Sequence[str]
    ) -> dict[str, dict[str, np.ndarray]]:
        """``effects``: every covariate on every component, with standard error, z and p."""
        from scipy.stats import norm

        found, errors = (table.cpu().numpy() for table in self.effects(batch))
        chosen = np.flatnonzero(self.used.reshape(-1).cpu().numpy() > 0)
        rows = ["intercept", *(self.recipe["covariate_names"][j] for j in chosen)]
        z = (found / errors).ravel()
        return {
            "effects": {
                "covariate": np.repeat(rows, len(names)),
                "component": np.tile(names, len(rows)),
                "effect": found.ravel(),
                "standard error": errors.ravel(),
                "z": z,
                "p": 2 * norm.sf(np.abs(z)),
            }
        }

    def remarks(self, batch: Batch) -> Iterator[str]:
        if self.library == "rows":
            yield (
                "The size of a sample is taken to be the sum of its row, so effects are those on shares: "
                "what raises all components alike is not seen (model.library=NAME of a covariate with "
                "measured sizes sees it)."
            )
        if not bool(self.used.any()):
            yield "No covariate varies beside the others, so there is an intercept alone."

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Counts of three communities of which the second grows with a covariate."""
        c, H = rng.normal(size=30), rng.dirichlet(np.full(12, 0.3), 3)
        W = rng.gamma(3, np.exp(np.outer(c, [0, 0.8, -0.6])))
        return {"X": rng.poisson(20 * W @ H).astype(float), "covariates": c}


def counts(batch: Batch) -> Float[Tensor, "n f"]:
    """The counts, times their weights."""
    x = batch.x.double()
    return x if batch.mask is None else x * batch.mask.double()


def exp_log(shape: Float[Tensor, "*r n k"], rate: Float[Tensor, "*r n k"]) -> Tensor:
    """Exp E log w for ``w ~ Gamma(shape, rate)``."""
    return torch.digamma(shape).exp() / rate


def allocated(
    x: Float[Tensor, "n f"],
    shape: Float[Tensor, "*r n k"],
    rate: Float[Tensor, "*r n k"],
    log_H: Float[Tensor, "*r k f"],
) -> tuple[Float[Tensor, "*r n k"], Float[Tensor, "*r k f"]]:
    """Expected counts of every component by sample, and by feature."""
    T, B = exp_log(shape, rate), log_H.exp()
    share = x / (T @ B).clamp_min(1e-300)
    return T * (share @ B.mT), B * (T.mT @ share)


def regression(
    Z: Float[Tensor, "n m"], w: Float[Tensor, " n"], start: Float[Tensor, " m"]
) -> Float[Tensor, " m"]:
    """The Gamma regression ``argmin Σ (Z θ + w exp(-Z θ))``, which is convex, by Newton's method."""

    def value(theta: Tensor) -> float:
        return float((Z @ theta + w * (-Z @ theta).exp()).sum())

    theta = start
    for _ in range(NEWTON):
        ratio = w * (-Z @ theta).exp()
        gradient, curvature = Z.mT @ (1 - ratio), Z.mT @ (ratio[:, None] * Z)
        step = torch.linalg.solve(curvature, gradient)
        promise = float(gradient @ step)
        if promise < SETTLED * len(w):
            break
        size, before = 1.0, value(theta)
        while value(theta - size * step) > before - 1e-4 * size * promise and size > 1e-6:
            size /= 2
        theta = theta - size * step
    return theta


def shape(gap: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """The shape of Gamma laws: the root a of ``log a - digamma(a) = gap`` > 0.

    Source: Minka 2002, "Estimating a Gamma distribution" (start, and Newton steps in 1 / a).
    """
    gap = gap.clamp_min(1e-6)
    a = (3 - gap + ((gap - 3) ** 2 + 24 * gap).sqrt()) / (12 * gap)
    for _ in range(6):
        slope = 1 / a - torch.polygamma(1, a)
        a = 1 / (1 / a + (a.log() - torch.digamma(a) - gap) / (a**2 * slope))
    return a
