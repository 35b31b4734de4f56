"""Matrix factorisation with biases, on the listed entries: ratings."""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np
import torch

from nmfnet.core.constraints import Free, Project
from nmfnet.core.model import Factorization, Parts
from nmfnet.core.objective import row_losses
from nmfnet.errors import UserError
from nmfnet.kernels.csr import to_scipy
from nmfnet.kernels.soft_impute import soft_impute
from nmfnet.kernels.sparse import entries_of, row_numbers, transposed, with_values
from nmfnet.kernels.weighted import Ridge, ridge_rows
from nmfnet.models._listed import (
    ALTERNATIONS,
    by_ridge,
    by_row,
    check_listed,
    check_squares,
    counts_of,
    listed,
    listed_losses,
    some_of_each,
)
from nmfnet.settings.ranges import Natural, NotNegative
from nmfnet.types import Batch, Float, Tensor


@final
class BiasedMF(Factorization):
    r"""X ~ mu + b + c + P Q on the listed entries, factors of any sign, each shrunk once per entry.

    ======  ==========================================  ==========  ========================
    symbol  meaning                                     code        shape
    ======  ==========================================  ==========  ========================
    X       ratings, or other values of listed pairs    ``batch.x`` n_samples, n_features
    mu      mean of the listed entries, held            ``mu``      1, 1
    b       bias of each sample (user)                  ``b``       n_samples, 1
    c       bias of each feature (item)                 ``c``       1, n_features
    P       what each sample likes                      ``P``       n_samples, n_components
    Q       what each feature is                        ``Q``       n_components, n_features
    ======  ==========================================  ==========  ========================

    What is minimised is ``½ Σ w_uv (x_uv - x̂_uv)² + ½ Σ_u ρ_u (l2 |p_u|² + l2_bias b_u²)``, and the
    same of q_v and c_v, over the listed entries, w_uv their weight. With ``l2_per=entry`` ρ_u is the
    sum of the weights of a row: its ridge grows with its entries. With ``l2_per=row`` it is 1, and the
    least over all P Q of this rank is that of ``l2`` times the nuclear norm of P Q (soft-impute). The
    code of a row is (P, b), and ``components`` are the rows of Q and a row of ones, which b multiplies.
    A row or a column without any listed entry has the factor and the bias 0: what is said of it is the
    mean and the other's bias.

    Parameters
    ----------
    n_components : int, >= 1
    biases : bool
        False = P Q alone, without mu, b and c.
    nonnegative : bool
        P and Q >= 0, without biases.
    l2 : float, >= 0
        Of P and Q, relative to the squared error of one entry.
    l2_bias : float, >= 0
        Of b and c, likewise.
    l2_per : {"entry", "row"}
        How often the ridge of a row of P counts (of Q: of a column).
    path : int, >= 0
        Start from soft-thresholded SVDs with as many thresholds, from large to ``l2``, each warm-started
        by the one before; 0 = start from random numbers.

    Source: Koren, Bell & Volinsky 2009, "Matrix factorization techniques for recommender systems",
    eq. (5); Zhou et al. 2008 (the ridge per listed entry, ALS-WR); Luo et al. 2014 (RSNMF: non-negative
    factors); Mazumder, Hastie & Tibshirani 2010, algorithm 1, and Hastie et al. 2015 (soft-impute and
    its ridge regressions).

    Differs from the source: mu is the mean of the training entries, not learned with the rest.
    """

    inductive = False
    sparse = True
    code = "real"
    multilinear = False  # type: ignore[assignment]

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 20,
        biases: bool = True,
        nonnegative: bool = False,
        l2: NotNegative = 0.15,
        l2_bias: NotNegative = 0.05,
        l2_per: Literal["entry", "row"] = "entry",
        path: Natural = 0,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        check_squares(parts)
        if l2_per not in ("entry", "row"):
            raise UserError(f"model.l2_per={l2_per!r} is unknown: entry or row")
        if path and l2_per != "row":
            raise UserError("model.path: its last threshold is l2 of a row: set model.l2_per=row")
        if nonnegative and (biases or path):
            raise UserError(
                "model.nonnegative=true has neither biases nor a path: set model.biases=false "
                "model.path=0"
            )
        if not biases:
            self.unused("model.biases=false", "l2_bias")
        self.biases, self.l2, self.l2_bias = biases, l2, l2_bias
        self.per_entry, self.nonnegative, self.path = l2_per == "entry", nonnegative, path
        self.offset = 2 * biases
        limits = Project() if nonnegative else Free()
        self.P = self.factor("P", "sample", "component", constraint=limits)
        self.Q = self.factor("Q", "component", "feature", constraint=limits)
        if biases:
            self.b = self.factor("b", "sample", "one", constraint=Free())
            self.c = self.factor("c", "one", "feature", constraint=Free())
            self.mu = self.factor("mu", "one", "one", constraint=Free())
            self.mu.freeze()

    # ------------------------------------------------------------------ the model
    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        code = torch.cat([self.P(), self.b()], -1) if self.biases else self.P()
        return code[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.components() + self.level()

    def components(self) -> Float[Tensor, "*r k f"]:
        Q = self.Q()
        return torch.cat([Q, torch.ones_like(Q[..., :1, :])], -2) if self.biases else Q

    def level(self) -> Float[Tensor, "*r 1 f"]:
        """What is said of every row alike, mu + c."""
        return self.mu() + self.c() if self.biases else torch.zeros_like(self.Q()[..., :1, :])

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        check_listed(batch)
        code = self.encode(batch)
        of_row, of_column = self._shrunk(code), self._shrunk(self._columns())
        weight = batch.mask
        if not self.per_entry:
            share = 1 / self.sizes.n_samples
            pull = of_row + share * of_column.sum(-1, keepdim=True)
        elif weight is None:
            pull = batch.x.shape[1] * of_row + of_column.sum(-1, keepdim=True)
        elif weight.is_sparse_csr:
            pull = by_row(weight, weight.values() * _pairs(weight, of_row, of_column))
        else:
            pull = weight.sum(-1) * of_row + of_column @ weight.mT
        return {"data": row_losses(self, batch, code), "l2": 0.5 * pull}

    def decode_at(self, code: Float[Tensor, "*r n k"], batch: Batch) -> Float[Tensor, "*r e"]:
        W = torch.cat([code, torch.ones_like(code[..., :1])], -1)
        return entries_of(batch.x, W, torch.cat([self.components(), self.level()], -2))

    def sparse_losses(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        return listed_losses(self, batch, code)

    def _columns(self) -> Float[Tensor, "*r f k"]:
        """Q and c as a row for every feature."""
        return torch.cat([self.Q(), self.c()], -2).mT if self.biases else self.Q().mT

    def _ridge(self) -> Tensor:
        """Weight of the square of every number of a row of P and b, or of Q and c."""
        each = [self.l2] * self.n_components + [self.l2_bias] * self.biases
        return torch.tensor(each, dtype=self.precision, device=self.device)

    def _shrunk(self, values: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        return values.square() @ self._ridge()

    # ------------------------------------------------------------------ how it is fitted
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """P Q of a tenth of the spread of the entries; 0 where nothing is listed."""
        check_listed(batch)
        x = batch.x.values() if batch.x.is_sparse_csr else batch.x.flatten()
        weight = torch.ones_like(x)
        if batch.mask is not None:
            weight = batch.mask.values() if batch.x.is_sparse_csr else batch.mask.flatten()
        x, weight = x[weight > 0].double(), weight[weight > 0].double()
        mean = (weight * x).sum() / weight.sum()
        if self.biases:
            self.mu.assign_(mean.reshape(1, 1))
            self.b.assign_(torch.zeros_like(self.b.raw))
            self.c.assign_(torch.zeros_like(self.c.raw))
        spread = (weight * (x - mean * self.biases).square()).sum() / weight.sum()
        size = (0.1 * spread.sqrt().clamp_min(1e-12)).sqrt() / self.n_components**0.25
        rows, columns = counts_of(batch)
        if self.nonnegative:
            size = (mean.clamp_min(0) / self.n_components).sqrt() * 2
        for factor, counts in ((self.P, rows[:, None]), (self.Q, columns)):
            draw = torch.rand if self.nonnegative else torch.randn
            drawn = [
                draw(factor.raw.shape[1:], generator=g, dtype=torch.float64)
                for g in self.generators
            ]
            factor.assign_(size * torch.stack(drawn).to(x.device) * (counts > 0))
        if self.path:
            self._walk(batch)

    def _walk(self, batch: Batch) -> None:
        """P Q of soft-thresholded SVDs of what the biases alone, at their optimum, leave.

        A thousandth of the random start stays in them: a component of 0 could never leave it.
        """
        at, _ = listed(batch)
        for restart in range(self.n_restarts):
            with self.restarts(restart):
                drawn = [factor().clone() for factor in (self.P, self.Q)]
                for factor in (self.P, self.Q):
                    factor.assign_(torch.zeros_like(factor.raw))
                for _ in range(ALTERNATIONS * self.biases):
                    self.b.assign_(ridge_rows(*self.ridge("sample", batch))[:, -1:])
                    self.c.assign_(ridge_rows(*self.ridge("feature", batch))[:, -1:].mT)
                level = self.level()[0][at.col_indices()]
                if self.biases:
                    level = level + self.b()[row_numbers(at), 0]
                left = to_scipy(with_values(at, at.values().double() - level))
                started = soft_impute(left, self.n_components, self.l2, self.path)
                for factor, found, noise in zip((self.P, self.Q), started, drawn, strict=True):
                    factor.assign_(torch.from_numpy(found).to(noise) + 1e-3 * noise)

    def ridge(self, axis: Literal["sample", "feature"], batch: Batch) -> Ridge:
        x, weight = batch.x, batch.mask
        if weight is None:
            weight = torch.ones_like(x)
        held, level = self.components(), self.level()[0]
        if axis == "feature":
            code = self.encode(batch)
            level = code[:, -1] + self.mu()[0] if self.biases else torch.zeros_like(code[:, 0])
            held = code.mT.clone()
            held[self.n_components :] = 1
            if x.is_sparse_csr:
                assert self.transpose is not None
                x = transposed(x, self.transpose)
                weight = transposed(weight, self.transpose)
            else:
                x, weight = x.mT, weight.mT
        sparse = x.is_sparse_csr
        x = with_values(x, x.values() - level[x.col_indices()]) if sparse else x - level
        ridge, floor = self._ridge(), None
        if self.nonnegative:
            floor = torch.zeros_like(ridge)
        if self.per_entry:
            return Ridge(x, weight, held, ridge, None, floor)
        return Ridge(x, weight, held, torch.zeros_like(ridge), torch.diag(ridge), floor)

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """The ridge regression of every row on Q and ones: 0 for a row without entries."""
        check_listed(batch)
        return by_ridge(self, batch)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Half of the entries of a matrix of rank 2 with biases."""
        X = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 12)) + rng.normal(size=12)
        X -= X.min() - 1
        mask = some_of_each(rng, 0.5, *X.shape)
        return {"X": X, "mask": mask}


def _pairs(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sum of a number of the row and one of the column, for every stored entry."""
    return rows[..., row_numbers(x)] + columns[..., x.col_indices()]
