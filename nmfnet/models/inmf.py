"""Integrative NMF: what several data sets share, and what is private to each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, final

import numpy as np
import torch

from nmfnet.core.inference import penalties_on
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.kernels.hals import sweep
from nmfnet.kernels.multiplicative import Sums, nmf_sums_H, nmf_sums_W
from nmfnet.kernels.nnls import nnls
from nmfnet.kernels.rows import dense, spans, take_rows
from nmfnet.kernels.sparse import entries_of, sparse_sums, times, transpose_of, transposed
from nmfnet.kernels.weighted import curvatures
from nmfnet.models._alignment import joint_clusters, mixing, quantile_aligned, scaled
from nmfnet.models._hierarchy import check_fused
from nmfnet.settings.ranges import NotNegative
from nmfnet.types import Batch, Float, Output, Tensor, Terms

SIDE = "component x feature"
"""The axis of a private part: component after component, the features of each."""


@final
class INMF(Factorization):
    r"""X ~ W (H + V_i) in every data set i, with W, H and all V_i >= 0.

    ======  ==========================================  =======================  =======================
    symbol  meaning                                     code                     shape
    ======  ==========================================  =======================  =======================
    X_i     rows of data set i, over common features    ``batch.x``              n_samples, n_features
    W_i     weights of the samples of data set i        ``W``                    n_samples, n_components
    H       components, shared by all data sets         ``H``                    n_components, n_features
    V_i     what data set i adds to them                ``V``, row i             n_components, n_features
    D       data set of every sample, one-hot           ``extra["covariates"]``  n_samples, data sets
    lambda  weight of the private parts                 ``private_weight``
    ======  ==========================================  =======================  =======================

    The objective is ``sum_i 1/2 |X_i - W_i (H + V_i)|² + lambda/2 |W_i V_i|²``. With the code of a sample
    in the columns of its data set, ``E = D (x) W``, both are misfits of NMF: ``X ~ E [H + V_1; H + V_2]``
    and ``0 ~ E [V_1; V_2]`` for two data sets.

    A large lambda lets H take up half of what only one of two data sets has; a small one leaves there
    what all have, the least of each feature: 0.1 or less where private parts are to be found. At 0
    nothing says which part is shared.

    With ``solver=online`` H and all V_i are fitted from ``A_i = W_iᵀ W_i`` and ``B_i = W_iᵀ X_i``, which
    are sums over minibatches of rows (``batch_size=256``).

    ``inverse_transform`` is of the shared part alone; ``reconstruct`` knows the data set of each row.
    After the fit ``aligned`` (a table of the run) holds W with the quantiles of every cluster moved to
    those of the largest data set, the cluster of each sample, and whether there were enough samples to
    move it. ``alignment/before`` and ``alignment/after`` say how well the data sets mix, from 0 to 1.

    Parameters
    ----------
    n_components : int, >= 1
    private_weight : float, >= 0
    align : bool
        Whether quantiles are aligned after the fit.

    Source: Welch et al. 2019, "Single-cell multi-omic integration compares and contrasts features of
    brain cell identity" (LIGER), after Yang & Michailidis 2016, eq. (3); its H_i, W, V_i are W_i, H, V_i;
    Gao et al. 2021, "Iterative single-cell multi-omic integration using online learning", algorithm 1
    (minibatches).

    Differs from the source: the fit is by multiplicative updates and L-BFGS, to a certified optimum;
    rows are not divided by their norms beforehand. Minibatches are drawn from all rows, and not a share
    of every data set; sums over earlier ones fade, where the source takes those of the last epoch out.
    """

    inductive = False
    sparse = True

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 20,
        private_weight: NotNegative = 5.0,
        align: bool = True,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        self.n_sets = parts.axes.get("covariate", 0)
        if self.n_sets < 2:
            raise UserError(
                "model=inmf needs to know the data set of every sample: data=stacked, or in Python "
                'nmfnet.fit(X, "inmf", covariates=names), with two data sets or more'
            )
        if self.loss.beta != 2:
            raise UserError(f"model=inmf is of squared errors, and the loss is {self.loss.name}")
        check_fused(parts.solver, True)
        self.groups = self.n_sets
        self.private_weight, self.align = private_weight, align
        self.axes[SIDE] = n_components * self.sizes.n_features
        self.W = self.factor("W", "sample", "component")
        self.H = self.factor("H", "component", "feature")
        self.V = self.factor("V", "covariate", SIDE, of_x=1)

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.W()[..., batch.index, :]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.H()

    def outputs(self, code: Float[Tensor, "*r n k"], batch: Batch) -> dict[str, Output]:
        return {"x": Output(self.placed(code, batch) @ self.profiles())}

    def components(self) -> Float[Tensor, "*r k f"]:
        return self.H()

    def placed(self, code: Float[Tensor, "*r n k"], batch: Batch) -> Float[Tensor, "*r n s"]:
        """E: the code of every sample in the columns of its data set."""
        return (batch.extra["covariates"].unsqueeze(-1) * code.unsqueeze(-2)).flatten(-2)

    def private(self) -> Float[Tensor, "*r s f"]:
        """All V_i, one below the other."""
        return self.V().unflatten(-1, (self.n_components, -1)).flatten(-3, -2)

    def profiles(self) -> Float[Tensor, "*r s f"]:
        """All H + V_i, one below the other."""
        return self.private() + self.H().repeat(*[1] * (self.H.raw.ndim - 2), self.n_sets, 1)

    def terms(self, batch: Batch) -> Terms:
        code, V = self.encode(batch), self.private()
        E = self.placed(code, batch)
        private = ((E @ (V @ V.mT)) * E).sum((-2, -1), dtype=torch.float64)
        data = self.row_misfit(batch, code).sum(-1, dtype=torch.float64)
        return {"data": data, "private": 0.5 * self.private_weight * private}

    def sparse_losses(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        E, profiles, masked = self.placed(code, batch), self.profiles(), batch.mask is not None
        if code.ndim == 2:
            return self.loss.sparse_rows(batch.x, E, profiles, masked)
        pairs = zip(E, profiles, strict=True)
        return torch.stack([self.loss.sparse_rows(batch.x, *pair, masked) for pair in pairs])

    def decode_at(self, code: Float[Tensor, "*r n k"], batch: Batch) -> Float[Tensor, "*r e"]:
        return entries_of(batch.x, self.placed(code, batch), self.profiles())

    def sums(self, name: str, batch: Batch, beta: float) -> Sums:
        E, V, profiles = self.placed(self.encode(batch), batch), self.private(), self.profiles()
        x, mask, side = batch.x, batch.mask, "W" if name == "W" else "H"
        if x.is_sparse_csr:
            neg, pos = sparse_sums(side, x, self.transpose, E, profiles, beta, mask is not None)
        else:
            neg, pos = (nmf_sums_W if side == "W" else nmf_sums_H)(x, E, profiles, beta, mask)
        if name == "W":
            pos = pos + self.private_weight * (E @ (V @ V.mT))
            own = batch.extra["covariates"].unsqueeze(-1)
            neg, pos = ((own * t.unflatten(-1, (self.n_sets, -1))).sum(-2) for t in (neg, pos))
            return neg, pos
        if name == "V":
            pos = pos + self.private_weight * ((E.mT @ E) @ V)
            shape = self.V.raw.shape
            return neg.reshape(shape), pos.reshape(shape)
        neg, pos = self.by_set(neg).sum(-3), self.by_set(pos).sum(-3)
        return neg, pos

    def by_set(self, table: Float[Tensor, "*r s a"]) -> Float[Tensor, "*r g k a"]:
        """A table with the components of all data sets below each other, cut into these."""
        return table.unflatten(-2, (self.n_sets, self.n_components))

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """Least squares of ``[x, 0]`` on ``[H + V_i, sqrt(lambda) V_i]``, data set by data set.

        In float64, by blocks of rows.
        """
        if penalties_on(self, self.code_factors(), batch):
            return super().infer(batch)
        private, profiles = (self.by_set(t).double() for t in (self.private(), self.profiles()))
        which = batch.extra["covariates"].argmax(-1)
        code = private.new_zeros(*private.shape[:-3], len(which), self.n_components)
        for i in which.unique().tolist():
            P, V = profiles[..., i, :, :], private[..., i, :, :]
            cost, rows = self.private_weight * V @ V.mT, torch.nonzero(which == i)[:, 0]
            for part in spans(len(rows), P.numel()):
                at = rows[part]
                x, mask = take_rows(batch.x, at).double(), batch.mask
                if mask is None:
                    code[..., at, :] = nnls(P @ P.mT + cost, times(x, P))
                else:  # normal equations for every row
                    seen = dense(take_rows(mask, at)).double()
                    G = curvatures(seen, P) + cost[..., None, :, :]
                    linear = (dense(x) * seen) @ P.mT
                    code[..., at, :] = nnls(G, linear[..., None, :])[..., 0, :]
        return code.to(self.precision)

    def absorb(self, batch: Batch) -> tuple[Float[Tensor, "s k"], Float[Tensor, "s f"]]:
        W = self.infer(batch)
        self.W.raw.data[batch.index] = W
        E, x = self.placed(W, batch), batch.x
        turned = transposed(x, transpose_of(x)) if x.is_sparse_csr else x.mT
        return E.mT @ W, (turned @ E).mT

    def refine(self, A: Float[Tensor, "s k"], B: Float[Tensor, "s f"]) -> None:
        """Coordinate descent: a cycle over the rows of H, and one over those of every V_i."""
        A, B = self.by_set(A), self.by_set(B)
        H, V = self.H.raw.data, self.V.raw.data.unflatten(-1, (self.n_components, -1))
        H.copy_(sweep(H, (B - A @ V).sum(-3), A.sum(-3)))
        V.copy_(sweep(V, B - A @ H, (1 + self.private_weight) * A))

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        design = batch.extra["covariates"]
        if not bool(((design == 0) | (design == 1)).all() and (design.sum(-1) == 1).all()):
            raise UserError(
                "model=inmf takes one covariate in text, the data set of every sample, and these have "
                "more, or numbers: give the data set alone"
            )
        self.W.assign_(proposal["W"])
        self.H.assign_(proposal["H"])
        self.V.assign_(self.uniform(self.V) * proposal["H"].mean((-2, -1), keepdim=True))

    def remarks(self, batch: Batch) -> Iterator[str]:
        if self.private_weight == 0:
            yield "model.private_weight=0 does not say what of the components is shared."

    @property
    def private_components(self) -> dict[str, np.ndarray]:
        """V_i of the best restart by data set, each of shape (n_components, n_features)."""
        with self._fitted():
            V = self.private().unflatten(-2, (self.n_sets, -1)).cpu().numpy()
        return dict(zip(self.set_names, V * self.units.components, strict=True))

    @property
    def set_names(self) -> list[str]:
        """Of the data sets, in the order of the rows of V."""
        named = self.recipe.get("covariates")
        return [str(level) for level in named[0][1]] if named else [*map(str, range(self.n_sets))]

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        prefix = "" if part == "train" else "test/"
        which, found = batch.extra["covariates"].argmax(-1), dict[str, float]()
        left, size = (self.row_misfit(batch, W) for W in (code, torch.zeros_like(code)))
        private, whole = (self.by_set(t).sum(-1) for t in (self.private(), self.profiles()))
        for i, name in enumerate(self.set_names):
            rows, loads = which == i, code[which == i].sum(-2)
            if float(size[rows].sum()) > 0:
                share = left[rows].sum() / size[rows].sum()
                found[f"{prefix}dataset/{name}/relative_error"] = float(share.sqrt())
            of_all = (loads * whole[i]).sum().clamp_min(1e-30)
            found[f"{prefix}dataset/{name}/private"] = float((loads * private[i]).sum() / of_all)
        W, sets = code.double().cpu().numpy(), which.cpu().numpy()
        if part == "train" and np.bincount(sets, minlength=self.n_sets).min() > 1:
            alone = np.zeros(W.shape)
            for i in range(self.n_sets):
                alone[sets == i] = scaled(W[sets == i])
            found["alignment/before"] = mixing(alone, sets)
            if self.align:
                aligned, _ = quantile_aligned(W, sets, joint_clusters(W, sets))
                found["alignment/after"] = mixing(aligned, sets)
        return found

    def tables_of(
        self, code: Float[Tensor, "*r n k"], batch: Batch, names: Sequence[str]
    ) -> dict[str, dict[str, np.ndarray]]:
        """``aligned``: codes with the quantiles of one data set, clusters, and what was moved."""
        if not self.align:
            return {}
        W, sets = code.double().cpu().numpy(), batch.extra["covariates"].argmax(-1).cpu().numpy()
        clusters = joint_clusters(W, sets)
        aligned, moved = quantile_aligned(W, sets, clusters)
        columns = dict(zip(names, aligned.T, strict=True))
        return {"aligned": {**columns, "cluster": clusters + 1, "moved": moved.astype(int)}}

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        H, W = rng.exponential(size=(3, 12)), rng.exponential(size=(30, 3))
        more = rng.exponential(size=(2, 3, 12)) * (rng.random((2, 3, 12)) < 0.2)
        X = np.vstack([W[:18] @ (H + more[0]), W[18:] @ (H + more[1])]) + 0.1
        return {"X": X, "covariates": ["a"] * 18 + ["b"] * 12}
