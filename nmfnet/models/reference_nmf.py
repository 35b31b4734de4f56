"""The weights of known components in new samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, final

import numpy as np
import torch

from nmfnet.core.inference import fold_in
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.criterion import few_by_criterion
from nmfnet.kernels.rows import dense
from nmfnet.models._rules import (
    Rule,
    fit_correlation,
    p_values,
    stepwise,
    support_vectors,
)
from nmfnet.settings.ranges import Count, Natural, NotNegative, Range
from nmfnet.types import Batch, Float, Tensor

FAR = 2.0
"""Ratio of the sums of samples and of components from which on they are not in one unit."""

ENDS = (2.5, 97.5)
"""Percentiles of the bootstrap between which an interval lies."""


@final
class ReferenceNMF(Factorization):
    r"""X ~ W H, with H given and held, and W >= 0.

    ======  ======================================  ===============  ========================
    symbol  meaning                                 code             shape
    ======  ======================================  ===============  ========================
    X       data                                    ``batch.x``      n_samples, n_features
    W       weights of the components in a sample   ``W``            n_samples, n_components
    H       known components, not learned           ``H``            k, n_features
    U       unknown components, learned             ``U``            unknown, n_features
    ======  ======================================  ===============  ========================

    Every row is a convex problem of its own (non-negative least squares under ``loss=frobenius``,
    Poisson regression under ``loss=kl``), solved once: exposures to known signatures, shares of known
    cell types (``constraint.W=simplex_project``: rows of W sum to 1). With ``unknown`` components beside
    the known ones X ~ W [H; U] is learned by iterations, and a unit of one is what makes as much of X as
    a unit of the known ones does on average. The fit says nothing of how much of the known ones is in U:
    where every sample has some of all, the shares of the unknown come out too large. In Python
    ``nmfnet.fit(X, "reference_nmf", H=H)``.

    Parameters
    ----------
    n_components : int, optional
        Rows of H; by default what the reference has.
    reference : str, or mapping of str to str, optional
        A table file (components in its rows or its columns: the axis that shares names with the features
        is found), the folder of a run whose H they are, or a data set whose samples are the components;
        joined to the features by name. Several by name (``{voice: runs/a, noise: runs/b}``) give
        components ``voice 1``, ``voice 2``, ... By default what the data come with.
    overlap : float in (0, 1]
        Least share of the reference's features that the data must have; what either lacks is left out.
    scale : {"none", "components", "both"}
        Divide rows of H, or of X and H, by their means before the fit, so that weights are amounts on
        one scale.
    markers : int >= 1, optional
        Use this many features of every component: those by which it exceeds all others most.
    logs : {"refuse", "allow"}
        What becomes of data of 100 features or more that look like logarithms: amounts add up on the
        linear scale only.
    content : mapping of component to number > 0, or file, optional
        How much of X a unit of every component makes (the mRNA of a cell): shares are then of units.
    unknown : int >= 0
        Components that are learned beside the known ones.
    rule : {"optimum", "svr", "stepwise", "ebic"}
        How W is found: as the optimum of the loss; by support vector regression (CIBERSORT); or with few
        components in each sample, by steps, or of counts by the extended Bayesian information criterion.
    add : float in [0, 1)
        Of ``stepwise``: a component is added while it lowers the relative error by more than this.
    remove : float in [0, 1), below ``add``
        Of ``stepwise``: a component is taken out where that raises it by no more than this.
    gamma : float >= 0
        Of ``ebic``: a component has to save ``log(N) / 2 + gamma log(k)`` nats in a sample of N counts.
    always : sequence of str
        Of ``ebic``: components that every sample may have at no cost, as SBS1 and SBS5 are in all cells.
    permutations : int >= 0
        Samples of values drawn from all of X, with which the fit of every sample is compared: p-values.
    bootstrap : int >= 0
        Repeated fits for intervals of the shares.
    resample : {"features", "counts"}
        What is drawn anew for these: features, or the counts of a sample.

    Source: Lawson & Hanson 1974, chapter 23 (non-negative least squares); Alexandrov et al. 2020,
    "The repertoire of mutational signatures in human cancer" (assigning known signatures); Newman et al.
    2015 (CIBERSORT: p-values by permutation, support vectors); Díaz-Gay et al. 2023 (steps); Chen &
    Chen 2008 (extended Bayesian information criterion).
    """

    inductive = False
    sparse = True
    named_components = True

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int | None = None,
        reference: str | Mapping[str, str] | None = None,
        overlap: Annotated[float, Range(above=0, most=1)] = 0.5,
        scale: Literal["none", "components", "both"] = "none",
        markers: Count | None = None,
        logs: Literal["refuse", "allow"] = "refuse",
        content: str | Mapping[str, float] | None = None,
        unknown: Natural = 0,
        rule: Literal["optimum", "svr", "stepwise", "ebic"] = "optimum",
        add: Annotated[float, Range(0, below=1)] = 0.05,
        remove: Annotated[float, Range(0, below=1)] = 0.01,
        gamma: NotNegative = 0.5,
        always: Sequence[str] = (),
        permutations: Natural = 0,
        bootstrap: Natural = 0,
        resample: Literal["features", "counts"] = "features",
    ) -> None:
        known = parts.axes.get("reference")
        if known is None:
            raise UserError(
                "model=reference_nmf needs known components: set model.reference=FILE or "
                'data.reference, or in Python nmfnet.fit(X, "reference_nmf", H=array)'
            )
        if n_components not in (None, known):
            raise UserError(
                f"model.n_components={n_components}, but the reference has {known} components: leave "
                "model.n_components out"
            )
        if not remove < add:
            raise UserError(
                f"model.add={add:g} and model.remove={remove:g}: remove must be below add, or components "
                "would come and go for ever"
            )
        if unknown and rule != "optimum":
            raise UserError(
                f"model.rule={rule} says nothing of unknown components: use model.rule=optimum, or "
                "model.unknown=0"
            )
        super().__init__(parts, n_components=known + unknown)
        self.W = self.factor("W", "sample", "component")
        self.U = None
        if unknown:
            self.axes |= {"known": known, "unknown": unknown}
            self.U = self.factor("U", "unknown", "feature")
        self.H = self.factor("H", "known" if unknown else "component", "feature")
        self.H.freeze()
        if rule != "stepwise":
            self.unused(f"model.rule={rule}", "add", "remove")
        if rule != "ebic":
            self.unused(f"model.rule={rule}", "gamma", "always")
        if not bootstrap:
            self.unused("model.bootstrap=0", "resample")
        self.gamma, self.of_counts = gamma, rule == "ebic"
        nobody = torch.zeros(self.n_restarts, 1, known, dtype=torch.bool)
        self.register_buffer("always", nobody if always else None)
        self.always: Tensor | None
        rules: dict[str, Rule] = {
            "svr": support_vectors,
            "stepwise": stepwise(add, remove),
            "ebic": self._by_criterion,
        }
        self.rule = rules.get(rule)
        if self.rule is not None:
            self.W.freeze()  # no descent may move what a rule has found
        self.permutations, self.bootstrap, self.resample = permutations, bootstrap, resample
        self.register_buffer("content", torch.ones(self.n_restarts, 1, known + unknown))
        self.content: Tensor

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.components()

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H() if self.U is None else torch.cat([self.H(), self.U()], -2)

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        if self.rule is None:
            return fold_in(self, batch)
        x, H = (dense(t).double().cpu().numpy() for t in (batch.x, self.H()))
        mask = None if batch.mask is None else dense(batch.mask).double().cpu().numpy()
        W = self.rule(x, H[0] if H.ndim == 3 else H, mask)  # all restarts are one
        return torch.from_numpy(W).to(self.H.raw).expand(*H.shape[:-2], *W.shape)

    def _by_criterion(self, x: np.ndarray, H: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        always = self.always
        kept = None if always is None else always.reshape(-1, len(H))[0].cpu().numpy()
        return few_by_criterion(x, H, mask, gamma=self.gamma, kept=kept)

    @property
    def closed_form(self) -> bool:
        return self.rule is not None or super().closed_form

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        known = batch.context["reference"]
        self._check_components(known)
        if self.W.constraint.row_sum is not None:
            self._check_scale(batch, known)
        self._check_counts(batch.x)
        self.H.assign_(known)
        self.W.assign_(proposal["W"])
        if self.U is not None:
            self._check_number(len(batch.x))
            self.U.assign_(self.uniform(self.U) * batch.x.mean())
        if "content" in batch.context:
            self.content[..., : len(known)] = batch.context["content"]
        if self.always is not None:
            self.always[...] = batch.context["always"] > 0

    def remarks(self, batch: Batch) -> Iterator[str]:
        beta = self.loss.row_beta
        if beta is not None and beta <= 1 and self.U is None:
            x = batch.x if batch.mask is None else dense(batch.mask) * dense(batch.x)
            unexplained = (dense(x) > 0).any(0) & ~(batch.context["reference"] > 0).any(0)
            if number := int(unexplained.sum()):
                yield (
                    f"{number} of {self.sizes.n_features} features are above 0 in X and 0 in every known "
                    f"component: under loss={self.loss.name} that is an infinite loss, of which a "
                    "floor of X_hat makes a large one. Better leave them out."
                )
        if self.rule is not None:
            yield (
                "The weights are what model.rule gives, which does not minimise the loss: converged says "
                "that the rule has ended, and no descent judges it (model.rule=optimum is judged)."
            )

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Samples of three known components, and these."""
        W, H = rng.exponential(size=(30, 3)), rng.exponential(size=(3, 12))
        return {"X": W @ H + 0.1, "H": H}

    def shares_of(self, code: Float[Tensor, "*r n k"], batch: Batch) -> Float[Tensor, "*r n k"]:
        """Shares of units of the components; NaN in rows of zeros, which hold nothing to share."""
        amount = code.double() / self._contents()
        seen = dense(batch.x).sum(-1, keepdim=True) > 0
        return torch.where(seen, amount / amount.sum(-1, keepdim=True), torch.nan)

    def tables_of(
        self, code: Float[Tensor, "*r n k"], batch: Batch, names: Sequence[str]
    ) -> dict[str, dict[str, np.ndarray]]:
        """``proportions``: shares, with intervals and p-values where these were asked for."""
        shares = self.shares_of(code, batch)
        columns = dict(zip(names, shares.T.cpu().numpy(), strict=True))
        x, x_hat = dense(batch.x), self.decode(code.to(self.H.raw))
        weight = None if batch.mask is None else dense(batch.mask).cpu().numpy()
        fit = fit_correlation(x.cpu().numpy(), x_hat.cpu().numpy(), weight)
        rng = np.random.default_rng(int(self.streams.reshape(-1)[0]) % 2**63)
        if self.bootstrap:
            found = []
            for i in range(self.bootstrap):
                self.tell(f"{self.resample} drawn anew {i} of {self.bootstrap} times")
                found.append(self._again(batch, rng))
            drawn = np.stack(found)
            seen = np.isfinite(drawn).all(-1).any(0)
            low, high, present = np.full((3, *drawn.shape[1:]), np.nan)
            low[seen], high[seen] = np.nanpercentile(drawn[:, seen], ENDS, axis=0)
            present[seen] = (drawn[:, seen] > 0).mean(0)
            for word, table in (("low", low), ("high", high), ("present", present)):
                columns |= {f"{name} {word}": table[:, j] for j, name in enumerate(names)}
        empty = ~np.isfinite(columns[names[0]])
        columns["correlation"] = np.where(empty, np.nan, fit)
        if self.permutations:
            p = p_values(fit, self.null_correlations(batch, rng))
            columns["p"] = np.where(empty, np.nan, p)
        return {"proportions": columns}

    def null_correlations(self, batch: Batch, rng: np.random.Generator) -> np.ndarray:
        """Of samples of values drawn from all of X with their reconstructions: what chance explains."""
        if batch.mask is not None:
            raise UserError(
                "model.permutations needs X without missing or weighted entries: set it to 0"
            )
        pool = dense(batch.x).cpu().numpy().ravel()
        rows = np.stack(
            [rng.choice(pool, batch.x.shape[1], replace=False) for _ in range(self.permutations)]
        )
        x = torch.from_numpy(rows).to(self.H.raw)
        W = self.infer(Batch(x, torch.full((len(x),), -1)))
        return fit_correlation(rows, self.decode(W).cpu().numpy())

    def _again(self, batch: Batch, rng: np.random.Generator) -> np.ndarray:
        """Shares of the same samples from features, or counts, drawn anew."""
        x, mask = dense(batch.x), batch.mask
        if self.resample == "counts":
            rows = x.double().cpu().numpy()
            totals = rows.sum(1, keepdims=True)
            chance = np.divide(
                rows, totals, out=np.full_like(rows, 1 / rows.shape[1]), where=totals > 0
            )
            x = torch.from_numpy(rng.multinomial(totals[:, 0].round().astype(int), chance)).to(x)
        else:
            f = x.shape[1]
            times = torch.from_numpy(rng.multinomial(f, np.full(f, 1 / f))).to(x)
            mask = times.expand(x.shape) if mask is None else dense(mask) * times
        again = batch._replace(x=x, mask=mask)
        return self.shares_of(self.infer(again), again).cpu().numpy()

    def _contents(self) -> Float[Tensor, "*r 1 k"]:
        """How much of X a unit of every component makes, or stands for."""
        if self.U is None:
            return self.content.double()
        known, own = self.H().double().sum(-1), self.U().double().sum(-1)
        held = self.content.double()[..., : known.shape[-1]]
        usual = known.mean(-1, keepdim=True) / own.clamp_min(torch.finfo(own.dtype).tiny)
        return torch.cat([held, held.mean(-1, keepdim=True) * usual.unsqueeze(-2)], -1)

    def _check_number(self, n: int) -> None:
        """Refuse samples of which the unknown components alone could explain everything."""
        if n <= self.axes["unknown"]:
            raise UserError(
                f"model.unknown={self.axes['unknown']} and {n} samples: each could be an unknown "
                "component itself, so give more samples, or set model.unknown=0"
            )

    def _check_counts(self, x: Tensor) -> None:
        """Refuse what is for counts where there are none."""
        values = x.values() if x.is_sparse_csr else x
        odd = values[values != values.round()]
        drawn = bool(self.bootstrap) and self.resample == "counts"
        for asked, option, instead in (
            (
                self.of_counts,
                "model.rule=ebic compares the probabilities of counts",
                "rule=stepwise",
            ),
            (drawn, "model.resample=counts draws the counts of a sample anew", "resample=features"),
        ):
            if asked and len(odd):
                raise UserError(
                    f"{option}, and X has values that are no whole numbers (such as {float(odd[0]):g}): "
                    f"give counts, or set model.{instead}"
                )

    def _check_scale(self, batch: Batch, H: Tensor) -> None:
        """Refuse weights of sum 1 for rows that are far from the components in size."""
        if batch.mask is not None:
            return
        sums, own = dense(batch.x).sum(-1), H.sum(-1)
        size = float(sums[sums > 0].median()) if bool((sums > 0).any()) else 0.0
        least, most = float(own.min()), float(own.max())
        if size and not least / FAR < size < most * FAR:
            raise UserError(
                f"rows of X sum to {size:.3g} (median), known components to {least:.3g} ... {most:.3g}, "
                "so that weights of sum 1 cannot explain X: bring both to one unit, set "
                "model.scale=both, or leave the sum free with constraint.W=project"
            )

    def _check_components(self, H: Tensor) -> None:
        if negative := int((H < 0).sum()):
            row, column = torch.nonzero(H < 0)[0].tolist()
            raise UserError(
                f"the known components have {negative} negative entries (first: {H[row, column]:g} in "
                f"component {row + 1}, feature {column + 1}), and model=reference_nmf needs H >= 0"
            )
