"""The base of every model: X ~ decode(encode(X)), restarts in front, one training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, final

import lightning as L
import numpy as np
import torch
from torch import nn

from nmfnet.core.budget import Budget
from nmfnet.core.constraints import Constraint
from nmfnet.core.distributed import World
from nmfnet.core.factor import Factor
from nmfnet.core.inits import Init
from nmfnet.core.losses import Loss
from nmfnet.core.penalties import Penalty, check_names
from nmfnet.errors import UserError
from nmfnet.kernels.arrays import as_tensor
from nmfnet.kernels.generic_mu import generic_sums
from nmfnet.kernels.optimality import kkt_residual
from nmfnet.kernels.refit import refit_W
from nmfnet.kernels.rows import dense, row_blocks, take_rows
from nmfnet.kernels.sparse import Transpose, transpose_of, transposed
from nmfnet.types import Batch, Float, Sizes, Stage, Tensor, Terms

if TYPE_CHECKING:
    from nmfnet.kernels.multiplicative import Sums
    from nmfnet.solvers.base import Solver


class Parts(NamedTuple):
    """Everything a model is put together from.

    ``generators`` holds one random generator per restart: restart i of a run is the run that has
    only the i-th generator. ``n_classes`` is that of the labels; 0 = the data have none.
    """

    sizes: Sizes
    loss: Loss
    solver: Solver
    init: Init
    constraint: Constraint
    generators: tuple[torch.Generator, ...]
    penalties: tuple[Penalty, ...] = ()
    budget: Budget = Budget()
    n_classes: int = 0


class Factorization(L.LightningModule, ABC):
    """X ~ W H; W = encode(X), X_hat = decode(W), for r restarts at once.

    A model declares its factors with :meth:`factor` and says how they combine (``encode``,
    ``decode``); the loss, solver, constraint, init and penalties are parts it is given.

    Parameters
    ----------
    parts : Parts
    n_components : int, >= 1
        Columns of W.
    """

    inductive: bool = True
    """Whether ``encode`` is a function of the row alone; False = a table with a row per sample."""

    bilinear: bool = False
    """Whether the model is X ~ W H with free tables W and H, and nothing else."""

    offset: bool = False
    """Whether X_hat has a constant row beside W H, and so one more rank than components."""

    signed: bool = False
    """Whether X may have negative entries (the loss must allow them too)."""

    shardable: bool = True
    """Whether rows may be spread over processes: X_hat of a row needs no other row."""

    sparse: bool = False
    """Whether a sparse X is used as it is; False = it is refused."""

    def __init__(self, parts: Parts, *, n_components: int) -> None:
        super().__init__()
        if n_components < 1:
            raise UserError(f"model.n_components={n_components}: it must be at least 1")
        self.automatic_optimization = False
        self.sizes, self.loss, self.solver = parts.sizes, parts.loss, parts.solver
        self.init, self.constraint = parts.init, parts.constraint
        self.penalties, self.budget = nn.ModuleList(parts.penalties), parts.budget
        self.generators = parts.generators
        self.n_components = n_components
        self.n_restarts = len(parts.generators)
        self.factors: dict[str, Factor] = {}
        self.live = list(range(self.n_restarts))
        self.iteration = 0
        self.step_terms: list[Terms] = []
        self.resumable = True  # False = stopped inside a step
        self.settled = False  # the fit has ended, and its last word was said
        self.unsettled: dict[str, Tensor] = {}  # where a running fit differs from what is saved
        self.recipe: dict[str, Any] = {}
        self.world = World()
        self.transpose: Transpose | None = None  # of the training rows, when they are sparse
        self.metrics: dict[str, Any] = {}
        for name, value in (
            ("best", torch.zeros((), dtype=torch.long)),
            ("objectives", torch.full((self.n_restarts,), float("inf"), dtype=torch.float64)),
            ("n_iter", torch.zeros(self.n_restarts, dtype=torch.long)),
            ("converged", torch.zeros(self.n_restarts, dtype=torch.bool)),
        ):
            self.register_buffer(name, value)
        self.best: Tensor
        self.objectives: Tensor
        self.n_iter: Tensor
        self.converged: Tensor

    # ------------------------------------------------------------------ what a model says
    @abstractmethod
    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """W for the rows of the batch."""

    @abstractmethod
    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """X_hat for given W."""

    @property
    def multilinear(self) -> bool:
        """Whether X_hat is a polynomial of the factors with coefficients >= 0 (for X >= 0)."""
        return True

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Set the factors from a proposal: ``W (r, n, k)`` and ``H (r, k, f)``.

        The default serves factors named W and H; any other is drawn from U(0, 1).
        """
        for name, factor in self.factors.items():
            factor.assign_(proposal[name] if name in proposal else self.uniform(factor))

    def end(self, batch: Batch) -> None:
        """Called once after training, on the full batch: keep what ``decode`` will need."""

    def augment(self, batch: Batch, iteration: int) -> Batch:
        """What a gradient step sees in place of the batch; a function of the iteration alone."""
        return batch

    def terms(self, batch: Batch) -> Terms:
        """What the model minimises beside penalties, each of shape (*r,), summed over rows.

        ``data`` is the misfit of X_hat; a model may have terms of its own (layers, labels).
        """
        return {"data": self.row_losses(batch, self.encode(batch)).sum(-1, dtype=torch.float64)}

    def layers(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """``W_l (*r, n, k_l)`` and ``H_l (*r, k_l, f)`` of every layer, from wide to narrow.

        Only hierarchical models have any: X ~ W_l H_l at each level.
        """
        return []

    def stages(self) -> list[Stage]:
        """Parts that minimise objectives of their own one after the other; by default one, of all."""
        return [Stage(list(self.parameters()))]

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        """Closed form of the two multiplicative sums for one factor; None = by autograd."""
        return None

    def normal_equations(self, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """``G (*r, k, k)`` and ``C (*r, rows, k)`` of the rows of W or Hᵀ under the squared error.

        Only for models that are ``bilinear``: X ~ W H, both factors free.
        """
        x, W, H = batch.x, self.factors["W"].raw.detach(), self.factors["H"].raw.detach()
        if name == "W":
            G, C = H @ H.mT, x @ H.mT
        else:
            G = self.world.total(W.mT @ W)
            C = self.world.total(transposed(x, self.transpose) @ W if self.transpose else x.mT @ W)
        for penalty in self.penalty_list:
            if penalty.on == name:
                quadratic, linear = penalty.normal(G, self.factors[name].raw.detach())
                G, C = G + quadratic, C - linear
        return G, C

    def scale_pair(self) -> tuple[Factor, Factor] | None:
        """Factors (*, k) and (k, *) whose product keeps when d goes from one to the other; or None."""
        return None

    def convex_pair(self) -> tuple[bool, Factor, Factor] | None:
        """For X ~ W (A X): (True, A, W); for its transpose X ~ (X G) H: (False, G, H); else None."""
        return None

    def components(self) -> Float[Tensor, "*r k f"]:
        """H; for a non-linear decoder what each unit of W adds to ``decode(0)``."""
        lead = next(self.parameters()).shape[:-2]
        eye = torch.eye(self.n_components, dtype=self.precision, device=self.device)
        eye = eye.expand(*lead, *eye.shape)
        return self.decode(eye) - self.decode(torch.zeros_like(eye))

    # ------------------------------------------------------------------ tools for models
    @final
    def factor(
        self,
        name: str,
        rows: int,
        columns: int,
        *,
        constraint: Constraint | None = None,
        degree: int = 1,
        max_exponent: float = 1.0,
        per_sample: bool = False,
    ) -> Factor:
        """Declare a factor of the model (assign the result to an attribute); see ``Factor``."""
        made = Factor(
            self.n_restarts,
            rows,
            columns,
            constraint or self.constraint,
            degree=degree,
            max_exponent=max_exponent,
            per_sample=per_sample,
        )
        self.factors[name] = made
        return made

    @property
    def precision(self) -> torch.dtype:
        """Floating type of the parameters."""
        return next(self.parameters()).dtype

    @final
    def uniform(self, factor: Factor) -> Float[Tensor, "r a b"]:
        """U(0, 1) entries of a factor's shape, each restart from its own generator."""
        shape = factor.raw.shape[1:]
        return torch.stack(
            [torch.rand(shape, generator=g, dtype=self.precision) for g in self.generators]
        ).to(self.device)

    @final
    def best_scale(self, batch: Batch) -> Float[Tensor, "r 1 1"]:
        """The c > 0 that minimises ``||X - c X_hat||`` for the factors as they are.

        Where the best c is not positive, the c with which both have the same norm.
        """
        W = self.encode(batch)
        sums = torch.zeros(3, self.n_restarts, dtype=torch.float64, device=self.device)
        for rows in row_blocks(batch.x, self.n_restarts):
            x, x_hat = dense(take_rows(batch.x, rows)), self.decode(W[..., rows, :])
            seen = x_hat if batch.mask is None else dense(take_rows(batch.mask, rows)) * x_hat
            for total, pair in zip(sums, ((x, x_hat), (seen, seen), (x, x)), strict=True):
                total += (pair[0] * pair[1]).sum((-2, -1), dtype=torch.float64)
        cross, fitted, data = sums
        scale = torch.where(cross > 0, cross, (data * fitted).sqrt()) / fitted.clamp_min(1e-300)
        return torch.where(scale > 0, scale, 1).to(self.precision)[:, None, None]

    # ------------------------------------------------------------------ final from here on
    @final
    def initialise(self, batch: Batch) -> None:
        """Start every restart on the full training batch, or on a sample of it.

        Raises
        ------
        UserError
            If the parts do not fit the sizes or each other.
        """
        self.init.check(self.n_components, *self.sizes, self.n_restarts)
        check_names(self.penalty_list, list(self.factors))
        kind = type(self).__name__
        if batch.x.is_sparse_csr and not self.sparse:
            raise UserError(
                f"{kind} needs a dense X, and this one is sparse: use model=nmf, or give X as a "
                "dense array"
            )
        self._check_sign(batch.x)
        if batch.x.is_sparse_csr:
            self.transpose = transpose_of(batch.x)
        self.solver.check_batch(batch)
        drawn = [self.init(batch.x, self.n_components, g) for g in self.generators]
        W = torch.stack([proposal.W for proposal in drawn])
        if (
            W.shape[1] < self.sizes.n_samples
        ):  # the batch is a sample: rows start from its W in turn
            W = W[:, torch.arange(self.sizes.n_samples, device=W.device) % W.shape[1]]
        with torch.no_grad():
            self.start(
                {
                    "W": W,
                    "H": torch.stack([proposal.H for proposal in drawn]),
                },
                batch,
            )

    def _check_sign(self, x: Tensor) -> None:
        self.check_negative(int(((x.values() if x.is_sparse_csr else x) < 0).sum()))

    @final
    def check_negative(self, negative: int) -> None:
        """Refuse data with so many negative values, if the model cannot have any.

        Raises
        ------
        UserError
        """
        if negative and not self.signed:
            raise UserError(
                f"X has {negative} negative values and {type(self).__name__} needs X >= 0: shift "
                "or clip the data, or use model=convex_nmf loss=frobenius, which allows any sign"
            )

    @property
    def penalty_list(self) -> tuple[Penalty, ...]:
        """The penalties, as a tuple."""
        return tuple(p for p in self.penalties if isinstance(p, Penalty))

    @final
    def objective(self, batch: Batch) -> Terms:
        """Terms of the objective, each of shape (*r,), summed over the rows of the batch.

        Penalties count in proportion to the rows, so that an epoch of minibatches adds up; with
        rows spread over processes, all processes get the total.
        """
        terms = self.terms(batch)
        rows, own = batch.x.shape[0], self.sizes.n_samples
        for penalty in self.penalty_list:
            factor = self.factors[penalty.on]
            share = rows / (own if factor.per_sample else max(own, self.world.n_total))
            term = share * penalty(factor()).double()
            terms[penalty.name] = terms.get(penalty.name, 0) + term
        if torch.is_grad_enabled():
            return terms  # each process differentiates its own part, and the gradients are summed
        return {name: self.world.total(term) for name, term in terms.items()}

    @final
    def sum_gradients(self) -> None:
        """Add up the gradients of shared factors over processes."""
        own = {id(factor.raw) for factor in self.factors.values() if factor.per_sample}
        for parameter in self.parameters():
            if parameter.grad is not None and id(parameter) not in own:
                parameter.grad = self.world.total(parameter.grad)

    @final
    def row_losses(self, batch: Batch, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        """Loss of every row; in blocks of rows where the reconstruction would be large."""
        if batch.x.is_sparse_csr and self.sparse:
            x, H, masked = batch.x, self.components(), batch.mask is not None
            if W.ndim == 2:
                return self.loss.sparse_rows(x, W, H, masked)
            pairs = zip(W, H, strict=True)
            return torch.stack([self.loss.sparse_rows(x, w, h, masked) for w, h in pairs])
        parts = [
            self.loss(
                dense(take_rows(batch.x, rows)),
                self.decode(W[..., rows, :]),
                None if batch.mask is None else batch.mask[rows],
            )
            for rows in row_blocks(batch.x, W.shape[:-2].numel())
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    @final
    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """``n_inner`` iterations of the solver on the live restarts."""
        n_iter = self.budget.chunk(self.iteration, self.solver.n_inner)
        self.step_terms.append(self.solver.step(self, batch, n_iter, self.live))
        self.iteration += n_iter

    @final
    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The solver's optimiser (one that does nothing, for closed-form solvers)."""
        return self.solver.optimizer(self)

    @final
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss of held-out rows, by the same code as :meth:`transform`."""
        losses = self.row_losses(batch, self.encode_rows(batch)).sum(-1)
        self.log("val/loss", losses.min(), batch_size=batch.x.shape[0])

    @final
    def encode_rows(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """W for any rows: the encoder, or the best W >= 0 for H as it is."""
        if self.inductive:
            return self.encode(batch)
        with torch.no_grad():
            on_W = tuple(p for p in self.penalty_list if p.on == "W")
            assert self.loss.beta is not None
            exponent = self.loss.exponent(1, max((p.degree for p in on_W), default=0))

            def penalty_sums(W: Tensor) -> Sums:
                neg, pos = zip(*(p.split(W) for p in on_W), strict=True)
                return sum(neg), sum(pos)

            return refit_W(
                batch.x,
                self.components(),
                self.loss.beta,
                exponent,
                batch.mask,
                penalty_sums if on_W else None,
            )

    @final
    def kkt(self, batch: Batch) -> Float[Tensor, "*r"] | None:
        """Largest KKT residual over the factors, per restart; None where it is not defined."""
        if not (self.multilinear and all(f.constraint.identity for f in self.factors.values())):
            return None
        residuals = [
            kkt_residual(factor.raw.detach(), *self.factor_sums(name, batch))
            for name, factor in self.factors.items()
        ]
        return torch.stack(residuals).amax(0)

    @final
    def factor_sums(self, name: str, batch: Batch, *, fused: bool = True) -> Sums:
        """The two sums of a factor, penalties included: in closed form, or by autograd."""
        factor, beta, sums = self.factors[name], self.loss.beta, None  # the innermost loop
        if fused and beta is not None:
            if torch.is_grad_enabled():
                with torch.no_grad():
                    sums = self.sums(name, batch, beta)
            else:
                sums = self.sums(name, batch, beta)
        if sums is None:
            sums = generic_sums(
                lambda: self.decode(self.encode(batch)),
                factor.raw,
                dense(batch.x),
                self.loss.split,
                batch.mask,
            )
        neg, pos = sums
        if self.world.size > 1 and not factor.per_sample:
            neg, pos = self.world.total(neg), self.world.total(pos)
        for penalty in self.penalty_list if len(self.penalties) else ():
            if penalty.on == name:
                more_neg, more_pos = penalty.split(factor.raw.detach())
                neg, pos = neg + more_neg, pos + more_pos
        return neg, pos

    @final
    @contextmanager
    def restarts(self, index: int | slice | list[int]) -> Iterator[None]:
        """Inside, every parameter holds only these restarts; an int drops the restart axis.

        Slices and ints are views. A list is a copy, written back at the end.
        """
        tensors = self.restart_tensors()
        whole = [tensor.data for tensor in tensors]
        try:
            for tensor in tensors:
                tensor.data = tensor.data[index]
            yield
        finally:
            for tensor, data in zip(tensors, whole, strict=True):
                if isinstance(index, list):
                    data[index] = tensor.data
                tensor.data = data

    @final
    def restart_tensors(self) -> list[Tensor]:
        """Everything with the restart axis in front: all parameters, and the buffers of layers."""
        shared = ("best", "objectives", "n_iter", "converged")
        buffers = [
            buffer
            for name, buffer in self.named_buffers()
            if name not in shared and not name.startswith(("solver.", "loss.", "penalties."))
        ]
        return [*self.parameters(), *buffers]

    @final
    def check_normalise(self, which: str | None) -> None:
        """Refuse ``normalize`` where no scale is free, or where it would change a penalty.

        Raises
        ------
        UserError
        """
        if which is None:
            return
        if self.scale_pair() is None:
            raise UserError(
                f"normalize={which}: the scale of {type(self).__name__} as configured is not free: "
                "set normalize=null"
            )
        if self.penalty_list:
            raise UserError(
                f"normalize={which} would change the penalties, which depend on scale: set "
                "normalize=null or penalty=none"
            )

    @final
    @torch.no_grad()
    def normalise(self, which: str | None, batch: Batch) -> None:
        """Move scale between W and H after the fit; X_hat, and so the objective, stay as they are.

        Parameters
        ----------
        which : {"H", "W", None}
            "H": every row of H sums to 1. "W": every column of W sums to 1. Zero ones stay zero.
        """
        pair = self.scale_pair()
        if which is None or pair is None:
            return
        d = self.components().sum(-1) if which == "H" else 1 / self.encode(batch).sum(-2)
        d = torch.where(torch.isfinite(d) & (d > 0), d, 1.0)
        left, right = pair
        left.assign_(left() * d.unsqueeze(-2))
        right.assign_(right() / d.unsqueeze(-1))

    # ------------------------------------------------------------------ the fitted model
    @property
    def components_(self) -> np.ndarray:
        """H of the best restart, shape (n_components, n_features)."""
        with torch.no_grad(), self.restarts(int(self.best)):
            return self.components().cpu().numpy()

    @final
    def transform(self, X: Any, mask: Any = None) -> np.ndarray:
        """W of new (or the training) rows under the best restart.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or sparse matrix, shape (n_samples, n_features)
            Units and columns as in training.
        mask : array-like, shape (n_samples, n_features), optional
            1 = observed.

        Returns
        -------
        ndarray, shape (n_samples, n_components), >= 0

        Raises
        ------
        UserError
            If X has another number of features, NaN, or values outside the domain of the loss.
        """
        batch = self._new_rows(X, mask)
        self.eval()
        with torch.no_grad(), self.restarts(int(self.best)):
            return self.encode_rows(batch).cpu().numpy()

    @final
    def inverse_transform(self, W: Any) -> np.ndarray:
        """X_hat for given W under the best restart, shape (n_samples, n_features)."""
        self.eval()
        with torch.no_grad(), self.restarts(int(self.best)):
            return self.decode(as_tensor(W, self.precision, self.device)).cpu().numpy()

    @final
    def reconstruct(self, X: Any, mask: Any = None) -> np.ndarray:
        """``inverse_transform(transform(X))``, shape (n_samples, n_features)."""
        return self.inverse_transform(self.transform(X, mask))

    def _new_rows(self, X: Any, mask: Any) -> Batch:
        x = as_tensor(X, self.precision, self.device)
        if x.shape[1] != self.sizes.n_features:
            raise UserError(
                f"X has {x.shape[1]} features, but this model was fitted on {self.sizes.n_features}"
            )
        seen = None if mask is None else as_tensor(mask, self.precision, self.device)
        if seen is not None:
            if seen.shape != x.shape:
                raise UserError(f"mask has shape {tuple(seen.shape)}, X has {tuple(x.shape)}")
            x = torch.where(seen > 0, dense(x), 0)
        values = (x.values() if x.is_sparse_csr else x).cpu().numpy()
        if not np.isfinite(values).all():
            raise UserError("X has NaN or infinite entries: give a mask for missing ones")
        self._check_sign(x)
        names = [str(i) for i in range(max(x.shape))]
        observed = None if seen is None else seen.cpu().numpy()
        self.loss.check(values, names, names, "X", observed)
        index = torch.full((x.shape[0],), -1, device=self.device)
        return Batch(x, index, seen)

    # ------------------------------------------------------------------ checkpoints
    @final
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside the tensors: what is needed to build the model again, and to continue its fit."""
        running = {
            "settled": self.settled,
            "live": list(self.live),
            "step_terms": self.step_terms,
            "tensors": self.unsettled,
            "solver": self.solver.running(),
        }
        checkpoint["nmfnet"] = {
            "sizes": tuple(self.sizes),
            "iteration": self.iteration,
            "running": running if self.resumable else None,
            **self.recipe,
        }

    @final
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the fit that a checkpoint was taken of."""
        kept = checkpoint["nmfnet"]
        running = kept["running"]
        self.iteration, self.live = kept["iteration"], list(running["live"])
        self.settled = running["settled"]
        self.step_terms = [
            {name: term.to(self.device) for name, term in step.items()}
            for step in running["step_terms"]
        ]
        checkpoint["state_dict"] |= running["tensors"]
        self.solver.resume(self, running["solver"])
