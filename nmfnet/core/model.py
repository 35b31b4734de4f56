"""The base of every model: X ~ decode(encode(X)), restarts in front, one training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, final

import lightning as L
import numpy as np
import torch
from torch import nn

from nmfnet.core.about import as_html, as_text
from nmfnet.core.distributed import World
from nmfnet.core.factor import Factor, Factors, only
from nmfnet.core.inference import fold_in
from nmfnet.core.keeping import go_on, kept
from nmfnet.core.laws import Law, Point, standard_normal
from nmfnet.core.objective import judged, misfit, row_losses
from nmfnet.core.parts import Parts
from nmfnet.core.penalties import Penalty
from nmfnet.core.prelude import Prelude
from nmfnet.core.reading import CovariateReader, Reader, RowReader, new_rows, unseen
from nmfnet.core.units import Units, inside
from nmfnet.errors import UserError
from nmfnet.kernels.rows import blocks, dense
from nmfnet.kernels.sparse import Transpose, row_numbers
from nmfnet.types import Batch, Float, Int, Output, Player, Stage, Tensor, Terms

__all__ = ["Factorization", "Parts"]

if TYPE_CHECKING:
    from nmfnet.kernels.multiplicative import Sums
    from nmfnet.kernels.weighted import Ridge


JUDGED = 8
"""Draws, in pairs of opposite sign, by which a stochastic model is judged."""

FITTED = (
    *("factors", "metrics", "reports", "plot", "notes", "best", "objectives", "n_iter"),
    *("n_components", "n_restarts", "feature_names", "component_names"),
)
"""Attributes of a fitted model that say what was found."""

Views = Mapping[str, Any] | None


def silent(words: str) -> None:
    """Where nobody is told of work that goes on."""


class Factorization(L.LightningModule, ABC):
    """X ~ decode(encode(X)), for r restarts at once; X ~ W H in the simplest case.

    A model declares its factors with :meth:`factor` and says how they combine (``encode``,
    ``decode``); the loss, solver, constraint, init and penalties are parts it is given. A model that
    needs more overrides more: ``law`` (the code of a row is a distribution), ``outputs`` (several views,
    or more than a mean), ``row_terms`` or ``terms`` (an objective of its own), ``infer`` (how new rows
    get their codes), ``solve`` (a closed form).

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

    offset: int = 0
    """By how much the rank of X_hat is above the number of components (a constant row, a column)."""

    signed: bool = False
    """Whether X may have negative entries (the loss must allow them too)."""

    shardable: bool = True
    """Whether rows may be spread over processes: X_hat of a row needs no other row."""

    rows_independent: bool = True
    """Whether X_hat of a row needs the code of that row alone; False = of its neighbours too, so that
    rows are fitted, judged and inferred all together, in their order."""

    ordered: bool = False
    """Whether the rows of X must be one after the other in time for the model to mean anything."""

    sparse: bool = False
    """Whether a sparse X is used as it is; False = it is refused."""

    code: Literal["nonnegative", "simplex", "real"] = "nonnegative"
    """What the code of a row is."""

    linear: bool = True
    """Whether X_hat of a row is a linear function of its code, so that no such model of the rank fits
    better than the SVD."""

    has_components: bool = True
    """Whether every unit of the code has a row of its own in ``components``."""

    named_components: bool = False
    """Whether the components are those of the data's reference, in its order."""

    component_classes: Sequence[int] = ()
    """The class of the labels that every component was learned from, where there is one for each."""

    estimates_x: bool = True
    """Whether X_hat is an estimate of X; False = a score that orders the features of a row."""

    learns_graph: bool = False
    """Whether the model explains the links of the rows (``batch.context``) and not X itself."""

    reads_links: bool = False
    """Whether links of new rows to those of the training say more of their codes (``batch.extra``)."""

    reads_graph: bool = False
    """Whether links between new rows say more of their codes (``batch.context``)."""

    same_losses: tuple[str, ...] = ()
    """Losses that say the same of X as the model's own likelihood, up to constants of the data."""

    incremental: bool = False
    """Whether a ``sweep`` of some of the rows is a step for all of them."""

    groups: int = 0
    """How many groups of rows ``absorb`` sums over for ``refine``; 0 = the model has neither."""

    heads: tuple[str, ...] = ()
    """What the decoder can give a likelihood beside the mean."""

    generative: bool = False
    """Whether ``decode`` makes rows of X of standard normal codes: the model is a law of rows."""

    ends_by_budget: str = ""
    """Why a fit is better ended by its budget than where the objective is lowest; "" = it is not."""

    warm_up: int = 0
    """Iterations over which the divergence from the prior gains its full weight."""

    kl_weight: float = 1.0
    """That weight: the divergence counts so much in the objective."""

    def __init__(self, parts: Parts, *, n_components: int) -> None:
        super().__init__()
        if n_components < 1:
            raise UserError(f"model.n_components={n_components}: it must be at least 1")
        self.automatic_optimization = False
        self.sizes, self.loss, self.solver = parts.sizes, parts.loss, parts.solver
        self.init, self.constraint = parts.init, parts.constraint
        self.penalties, self.budget = nn.ModuleList(parts.penalties), parts.budget
        self.prelude = Prelude(parts.budget)
        self.generators = parts.generators
        self.axes = {
            "sample": self.sizes.n_samples,
            "feature": self.sizes.n_features,
            "component": n_components,
            "one": 1,
            **parts.axes,
        }
        self.measured = frozenset(parts.axes)
        self.factors = Factors(
            len(parts.generators), self.axes, parts.constraint, parts.constraints
        )
        self.factor = self.factors.declare  # for models to call
        self.idle: dict[str, str] = {}  # options without effect, and beside what
        self.now: int | None = None  # the iteration of a gradient step; None = the model is judged
        self.asks_loss = True  # False = the objective is a likelihood of the model's own
        self.given, self.frozen = parts.given, parts.frozen
        self.heeds_init = True  # False = it has started without what ``init`` proposed
        self.n_components = n_components
        self.n_restarts = len(parts.generators)
        self.live = list(range(self.n_restarts))
        self.iteration = 0
        self.step_terms: list[Terms] = []
        self.resumable = True  # False = stopped inside a step
        self.settled = False  # the fit has ended, and its last word was said
        self.unsettled: dict[str, Tensor] = {}  # where a running fit differs from what is saved
        self.recipe: dict[str, Any] = {}
        self.world = World()
        self.transpose: Transpose | None = None  # of the training rows, when they are sparse
        self.numbers: Mapping[str, Any] = {}  # of a fit; until they are asked for, no plain dict
        self.made: Mapping[str, Any] = {}  # tables, the same
        self.notes: list[str] = []
        self.units = Units()
        self.reader: Reader | None = None  # of users' rows, which know their columns by name
        self.row_reader: RowReader | None = None
        self.covariate_reader: CovariateReader | None = None
        self.plot: Any = None  # figures of a fitted model
        self.tell: Callable[[str], None] = silent  # what work after the training is at
        # fits whose numbers stand beside the model's own
        self.beside: dict[str, Factorization] = {}
        for name, value in (
            ("best", torch.zeros((), dtype=torch.long)),
            ("objectives", torch.full((self.n_restarts,), float("inf"), dtype=torch.float64)),
            ("n_iter", torch.zeros(self.n_restarts, dtype=torch.long)),
            ("converged", torch.zeros(self.n_restarts, dtype=torch.bool)),
        ):
            self.register_buffer(name, value)
        streams = torch.tensor([g.initial_seed() for g in self.generators], dtype=torch.int64)
        self.register_buffer("streams", streams, persistent=False)
        self.streams: Tensor
        self.best: Tensor
        self.objectives: Tensor
        self.n_iter: Tensor
        self.converged: Tensor
        self.loss.declare(self.factor)
        self.of_loss = set(self.factors)

    # ------------------------------------------------------------------ what a model says
    @abstractmethod
    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """W for the rows of the batch."""

    @abstractmethod
    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """X_hat for given W."""

    def law(self, batch: Batch) -> Law:
        """The distribution of the codes of the rows; a point, unless the model says otherwise."""
        return Point(self.encode(batch))

    def outputs(self, code: Float[Tensor, "*r n k"], batch: Batch) -> dict[str, Output]:
        """What the decoder says of every view of these rows; ``x`` is X."""
        return {"x": Output(self.decode(code))}

    def weight_of(self, view: str) -> float:
        """How much the loss of a view counts in the objective; ``x`` is X."""
        return 1.0

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        """The objective of every row by itself: ``data``, and ``kl`` for a code with a law."""
        law = self.law(batch)
        divergence = law.kl()
        if not law.noise:
            data = self.row_misfit(batch, law.mean)
        else:
            rows = 1 if self.now is None else batch.x.shape[0]  # judged: one draw for all rows
            drawn = [self.row_misfit(batch, law.sample(e)) for e in self.draws(law, rows)]
            data = torch.stack(drawn).mean(0)
        if divergence is None:
            return {"data": data}
        return {"data": data, "kl": self.prior_weight * divergence}

    def row_misfit(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        """What rows cost with these codes: the loss, unless the model has a likelihood of its own."""
        return row_losses(self, batch, code)

    @property
    def prior_weight(self) -> float:
        """Weight of the divergence from the prior: below its own only in the warm-up."""
        share = 1.0 if self.now is None else min(1.0, (self.now + 1) / max(1, self.warm_up))
        return self.kl_weight * share

    @final
    def draws(self, law: Law, rows: int) -> list[Tensor]:
        """Noise for samples of a law: fresh in a gradient step, the same few draws when judged."""
        if self.now is not None:
            return [self.noise(rows, law.noise)]
        half = torch.stack([self.noise(rows, law.noise, draw=i) for i in range(JUDGED // 2)])
        half = half / half.square().mean(0).sqrt()  # both signs have mean 0 and variance 1 then
        return [sign * eps for eps in half for sign in (1, -1)]

    @final
    def noise(self, *shape: int, draw: int = 0) -> Float[Tensor, "*r a b"]:
        """Standard normal numbers that depend on the restart, ``now`` and ``draw`` alone."""
        moment = 0 if self.now is None else self.now + 1
        return standard_normal(self.streams, shape, moment, draw).to(self.device, self.precision)

    def code_factors(self) -> dict[str, Factor]:
        """Factors with a row per training sample, which together are the code of the row."""
        return {name: factor for name, factor in self.factors.items() if factor.per_sample}

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """Codes of any rows: the encoder's, or those that minimise the model's own objective."""
        if self.inductive:
            return self.law(batch).mean
        return fold_in(self, batch, self.terms if self.overrides("terms") else None)

    @classmethod
    def number_for(cls, batch: Batch, options: Mapping[str, Any]) -> tuple[int, str] | None:
        """How many components suit these rows, and a sentence that says why; None = it cannot be said."""
        return None

    @property
    def closed_form(self) -> bool:
        """Whether ``solve`` finds all that is learned: by default, where only codes of rows are."""
        codes = self.code_factors()
        once = all(factor.degree == 1 for factor in codes.values())  # else they decode, too
        only_codes = bool(codes) and once and set(self.moved()) == set(codes)
        return self.overrides("solve") or only_codes

    def solve(self, batch: Batch) -> None:
        """Set the factors to their optimum: of a model with a closed form, or of the codes alone."""
        tables = self.code_factors()
        widths = [factor.raw.shape[-1] for factor in tables.values()]
        code = self.infer(batch)
        for factor, part in zip(tables.values(), code.split(widths, -1), strict=True):
            factor.assign_(part)

    def absorb(self, batch: Batch) -> tuple[Float[Tensor, "s k"], Float[Tensor, "s f"]]:
        """Set the codes of these rows to their optimum; ``Wᵀ W`` and ``Wᵀ X`` of every group of rows.

        Of one restart, with a group below the other (s = ``groups`` times k). All else is fitted from
        these sums (``refine``), and those of minibatches add up.
        """
        raise NotImplementedError(f"{type(self).__name__} is not fitted from sums over its rows")

    def refine(self, A: Float[Tensor, "s k"], B: Float[Tensor, "s f"]) -> None:
        """Improve all but the codes, of one restart, given such sums over rows; never for the worse."""
        raise NotImplementedError(f"{type(self).__name__} is not fitted from sums over its rows")

    def ended(self, restart: int) -> bool:
        """Whether a rule that has set all factors of a restart, none to be learned, came to its end."""
        return True

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        """Numbers of the model's own for ``metrics.json``, of the rows of a part."""
        return {}

    def shares_of(
        self, code: Float[Tensor, "*r n k"], batch: Batch
    ) -> Float[Tensor, "*r n k"] | None:
        """Shares of the components in the rows, where the weights of a model are amounts of known things.

        Rows sum to 1, and are NaN where there is nothing to share.
        """
        return None

    def tables_of(
        self, code: Float[Tensor, "*r n k"], batch: Batch, names: Sequence[str]
    ) -> dict[str, dict[str, np.ndarray]]:
        """Tables of the model's own for the run folder: by file name, columns by their heading.

        A table of numbers alone has a row per sample; columns of text say what the rows are.
        """
        return {}

    def link_scores(
        self, code: Float[Tensor, "*r n k"], pairs: Int[Tensor, "m 2"]
    ) -> Float[Tensor, "*r m"]:
        """How likely pairs of samples are linked; larger = more. Models of a graph say it."""
        raise NotImplementedError(f"{type(self).__name__} says nothing about links")

    def clusters(self, code: Float[Tensor, "*r n k"]) -> Int[Tensor, "*r n"] | None:
        """The cluster of every row, -1 = none, for models that sort rows into clusters; else None."""
        return None

    def feature_clusters(self) -> Int[Tensor, "*r f"] | None:
        """The same of features, for models that sort these, too."""
        return None

    def remarks(self, batch: Batch) -> Iterator[str]:
        """What the user should know of these training data under this model, a sentence each."""
        yield from ()

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Small data of the kind that the model is for, as keywords of :func:`nmfnet.fit`."""
        W, H = rng.exponential(size=(30, 3)), rng.exponential(size=(3, 12))
        return {"X": W @ H + 0.1}

    @property
    def has_own_scale(self) -> bool:
        """Whether the objective is more than the loss of X, so that c X is another problem than X."""
        own = any(self.overrides(name) for name in ("terms", "row_terms", "row_misfit", "law"))
        beside = {axis for factor in self.factors.values() for axis in factor.axes} & self.measured
        return own or bool(beside)

    @property
    def loss_unit(self) -> float:
        """What losses and objectives are in units of, inside."""
        return float(self.units.data ** (self.loss.homogeneity or 0))

    @property
    def multilinear(self) -> bool:
        """Whether X_hat is a polynomial of the factors with coefficients >= 0 (for X >= 0)."""
        return True

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Set the factors from a proposal: ``W (r, n, k)`` and ``H (r, k, f)``.

        The default serves factors named W and H; any other is drawn from U(0, 1).
        """
        for name, factor in self.own_factors().items():
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
        rows = self.row_terms(batch)
        return {name: term.sum(-1, dtype=torch.float64) for name, term in rows.items()}

    def layers(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """``W_l (*r, n, k_l)`` and ``H_l (*r, k_l, f)`` of every layer, from wide to narrow.

        Only hierarchical models have any: X ~ W_l H_l at each level.
        """
        return []

    def stages(self) -> list[Stage]:
        """Parts that minimise objectives of their own one after the other; by default one, of all."""
        return [Stage(self.trainable())]

    def players(self) -> list[Player]:
        """Parts that each go down a loss of their own, in turn; by default there is no such game."""
        return []

    def sums(self, name: str, batch: Batch, beta: float) -> Sums | None:
        """Closed form of the two multiplicative sums for one factor; None = by autograd."""
        return None

    def ridge(self, axis: Literal["sample", "feature"], batch: Batch) -> Ridge:
        """The least squares of all factors along an axis, side by side, while the others are held.

        For models that have any, of one restart; ``x`` has a row for every sample, or feature.
        """
        raise NotImplementedError(f"{type(self).__name__} has no ridge regressions")

    def sweep(self, batch: Batch, rate: float = 1.0) -> None:
        """One step of coordinate ascent on the bound, of one restart.

        With a rate below 1 the batch is some of the rows, and shared factors go that part of the way
        to where the rows, taken for all of them, would lead.
        """
        raise NotImplementedError(f"{type(self).__name__} has no sweeps")

    def scale_pair(self) -> tuple[Factor, Factor] | None:
        """Factors (*, k) and (k, *) whose product keeps when d goes from one to the other; or None."""
        return None

    def side_by_side(self) -> dict[str, Factor]:
        """H of X and of every view by its name, for X_v ~ W H_v with free tables and nothing else."""
        return {"x": self.factors["H"]} if self.bilinear else {}

    def symmetric_factor(self) -> Factor | None:
        """For X ~ H Hᵀ with a free H: H; else None."""
        return None

    def convex_pair(self) -> tuple[bool, Factor, Factor] | None:
        """For X ~ W (A X): (True, A, W); for its transpose X ~ (X G) H: (False, G, H); else None."""
        return None

    def mixed_rows(self, batch: Batch) -> Float[Tensor, "n f"]:
        """What A mixes in W (A X): the rows of X, or near ones."""
        return batch.x

    def components(self) -> Float[Tensor, "*r k f"]:
        """H; for a non-linear decoder what each unit of W adds to ``decode(0)``."""
        lead = next(self.parameters()).shape[:-2]
        eye = torch.eye(self.n_components, dtype=self.precision, device=self.device)
        eye = eye.expand(*lead, *eye.shape)
        return self.decode(eye) - self.decode(torch.zeros_like(eye))

    # ------------------------------------------------------------------ tools for models
    @final
    def unused(self, beside: str, *options: str) -> None:
        """Say that options of the model have no effect beside another choice; who sets them is told."""
        self.idle |= dict.fromkeys(options, beside)

    @final
    def own_factors(self) -> dict[str, Factor]:
        """The factors of the reconstruction: all but those of the loss."""
        return {name: f for name, f in self.factors.items() if name not in self.of_loss}

    @property
    def precision(self) -> torch.dtype:
        """Floating type of the parameters."""
        return next(self.parameters()).dtype

    @final
    def uniform(self, factor: Factor) -> Float[Tensor, "r a b"]:
        """U(0, 1) entries of a factor's shape, each restart from its own generator."""
        shape = factor.raw.shape[1:]
        return torch.stack(
            [torch.rand(shape, generator=g, dtype=torch.float64) for g in self.generators]
        ).to(self.device, self.precision)

    def normal(self, factor: Factor) -> Float[Tensor, "r a b"]:
        """N(0, 1) entries of a factor's shape, each restart from its own generator."""
        shape = factor.raw.shape[1:]
        return torch.stack(
            [torch.randn(shape, generator=g, dtype=torch.float64) for g in self.generators]
        ).to(self.device, self.precision)

    @final
    def moved(self) -> dict[str, Factor]:
        """The factors that are learned."""
        return {name: factor for name, factor in self.factors.items() if not factor.frozen}

    @final
    def trainable(self) -> list[nn.Parameter]:
        """The parameters that are learned."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @final
    def overrides(self, name: str) -> bool:
        """Whether the model has a method of its own in place of the general one."""
        return getattr(type(self), name) is not getattr(Factorization, name)

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

    def decode_at(self, code: Float[Tensor, "*r n k"], batch: Batch) -> Float[Tensor, "*r e"]:
        """X_hat at the stored entries of a sparse X; by blocks of all of X_hat unless overridden."""
        parts = []
        for at, rows in blocks(batch, code.shape[:-2].numel()):
            whole = self.outputs(code[..., at, :], rows)["x"].mean
            parts.append(whole[..., row_numbers(rows.x), rows.x.col_indices()])
        return torch.cat(parts, -1)

    def sparse_losses(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        """Loss of every row for a sparse X, without forming X_hat; X ~ W H unless overridden."""
        x, H, masked = batch.x, self.components(), batch.mask is not None
        assert H is not None
        if code.ndim == 2 or self.of_loss:  # whose factors have the restart axis, too
            return self.loss.sparse_rows(x, code, H, masked)
        pairs = zip(code, H, strict=True)
        return torch.stack([self.loss.sparse_rows(x, w, h, masked) for w, h in pairs])

    @final
    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """``n_inner`` iterations of the solver on the live restarts."""
        n_inner = 1 if self.prelude.cut else self.solver.n_inner  # no time is left: just the state
        n_iter = self.budget.chunk(self.iteration, n_inner)
        self.step_terms.append(self.solver.step(self, batch, n_iter, self.live))
        self.iteration += n_iter

    @final
    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The solver's optimiser (one that does nothing, for closed-form solvers)."""
        return self.solver.optimizer(self)

    @final
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss of held-out rows, by the same code as :meth:`transform`."""
        losses = misfit(self, batch, self.infer(batch))
        self.log("val/loss", losses.min(), batch_size=batch.x.shape[0])

    @final
    def restarts(self, index: int | slice | list[int]) -> AbstractContextManager[None]:
        """Inside, every parameter holds only these restarts; an int drops the restart axis.

        Slices and ints are views. A list is a copy, written back at the end.
        """
        return only(self.restart_tensors(), index)

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

    # ------------------------------------------------------------------ the fitted model
    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return as_html(self)

    @property
    def feature_names(self) -> list[str] | None:
        """Names of the columns of X, as they were fitted; None before."""
        return self.recipe.get("feature_names")

    @property
    def component_names(self) -> list[str] | None:
        """Names of the components in figures and files, in the order of ``components_``; None before."""
        return self.recipe.get("component_names")

    @property
    def metrics(self) -> dict[str, Any]:
        """The numbers of ``metrics.json``, computed when they are first asked for; none before a fit."""
        if not isinstance(self.numbers, dict):
            self.numbers = dict(self.numbers)
        return self.numbers

    @metrics.setter
    def metrics(self, numbers: Mapping[str, Any]) -> None:
        self.numbers = numbers

    @property
    def reports(self) -> dict[str, dict[str, Any]]:
        """Tables of the training rows and of the components, computed when they are first asked for.

        The tables that a run folder holds as csv files, each as columns by name, as
        ``pandas.DataFrame`` takes them: ``proportions`` with intervals (``reference_nmf``), ``aligned``
        codes (``inmf``), ``views``, the variance of every view by component (``joint_nmf``), ``profiles``
        and ``found_again`` (``callbacks=bootstrap``). A model without any, or not fitted in this session,
        has none.
        """
        if not isinstance(self.made, dict):
            self.made = dict(self.made)
        return self.made

    @reports.setter
    def reports(self, tables: Mapping[str, Any]) -> None:
        self.made = tables

    def __getstate__(self) -> dict[str, Any]:
        """With all numbers, since the training data that they come from stay here."""
        self.numbers, self.made = self.metrics, self.reports
        state: dict[str, Any] = super().__getstate__()
        return state

    def __dir__(self) -> list[str]:
        """What a user needs; a model has all of its own and Lightning's methods beside."""
        drawn = ["sample"] if self.generative else []
        used = ["transform", "inverse_transform", "reconstruct", *drawn, "score", "components_"]
        return [*used, *FITTED]

    @property
    def components_(self) -> np.ndarray:
        """H of the best restart, shape (n_components, n_features).

        Raises
        ------
        UserError
            If the units of the code have no components.
        """
        if not self.has_components:
            raise UserError(
                f"{type(self).__name__} has no components: use transform and reconstruct"
            )
        with self._fitted():
            return (self.components() * self.units.components).cpu().numpy()

    @contextmanager
    def _fitted(self) -> Iterator[None]:
        """Inside, the model is its best restart and is not trained."""
        with judged(self), torch.no_grad(), self.restarts(int(self.best)):
            yield

    @final
    def transform(
        self,
        X: Any,
        mask: Any = None,
        *,
        graph: Any = None,
        links: Any = None,
        views: Views = None,
        covariates: Any = None,
    ) -> np.ndarray:
        """W of new (or the training) rows under the best restart.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or sparse matrix, shape (n_samples, n_features), or None
            Units and columns as in training. None = only the views are known.
        mask : array-like, shape (n_samples, n_features), optional
            Weights >= 0: 1 = observed, 0 = missing.
        graph : array-like or sparse matrix, shape (n_samples, n_samples), optional
            Symmetric links between these rows, for models that read them; joined by name as X is.
        links : array-like or sparse matrix, shape (n_samples, training samples), optional
            Links of these rows to those of the training, weights >= 0, for models that read them.
        views : mapping of str to array-like, optional
            Any of the views that the model was fitted on, row by row as X; rows of NaN are missing.
        covariates : DataFrame, mapping or sequence, optional
            As for :func:`nmfnet.fit`, where the model was fitted with them; levels that training has
            seen.

        Returns
        -------
        ndarray, shape (n_samples, n_components)
            The encoder's codes, or those that minimise the model's own objective for these rows.

        Raises
        ------
        UserError
            If X has another number of features, NaN, or values outside the domain of the loss; for
            links and views that the model does not read.
        """
        batch = new_rows(self, X, mask, graph, links, views, covariates)
        with self._fitted():
            return (self.infer(batch) * self.units.code).cpu().numpy()

    @final
    def inverse_transform(self, W: Any) -> np.ndarray:
        """X_hat for given W under the best restart, shape (n_samples, n_features)."""
        code = inside(self, W, self.units.code)
        with self._fitted():
            width = self.components().shape[-2] if self.has_components else None
            if code.ndim != 2 or width not in (None, code.shape[1]):
                raise UserError(
                    f"W has shape {tuple(code.shape)}, but it must have {width} columns"
                )
            return (self.decode(code) * self.units.data).cpu().numpy()

    @final
    def reconstruct(
        self,
        X: Any,
        mask: Any = None,
        *,
        graph: Any = None,
        links: Any = None,
        views: Views = None,
        covariates: Any = None,
        view: str = "x",
    ) -> np.ndarray:
        """What the model says of X for the codes of its rows, shape (n_samples, n_features).

        Parameters as for :meth:`transform`, and

        view : str
            Of which view, where the model was fitted on several: ``x`` is X. The rows need not have it,
            so that this is how a missing view is imputed.

        Raises
        ------
        UserError
            As :meth:`transform`, and for a view that the model does not have.
        """
        batch = new_rows(self, X, mask, graph, links, views, covariates)
        with self._fitted():
            code = self.infer(batch)
            if view not in batch.tables:
                more = {view: unseen(self, view, len(batch.index))}
                batch = batch._replace(views={**batch.views, **more})
            said = self.outputs(code, batch)[view].mean
            return (said * self.units.data).cpu().numpy()

    @final
    def sample(self, n_samples: int, *, seed: int = 0) -> np.ndarray:
        """New rows, drawn from the law that the best restart has learned, shape (n_samples, n_features).

        Parameters
        ----------
        n_samples : int, >= 1
        seed : int, >= 0
            The same rows for the same seed.

        Raises
        ------
        UserError
            If the model is no law of rows.
        """
        if not self.generative:
            raise UserError(
                f"{type(self).__name__} is no law of rows, so that none can be drawn: use model=flow "
                "or model=gan"
            )
        if n_samples < 1 or seed < 0:
            raise UserError(f"sample({n_samples}, seed={seed}): give n_samples >= 1 and seed >= 0")
        noise = np.random.default_rng(seed).normal(size=(n_samples, self.n_components))
        with self._fitted():
            rows = self.decode(torch.from_numpy(noise).to(self.device, self.precision))
            return (rows * self.units.data).cpu().numpy()

    @final
    def score(self, X: Any, mask: Any = None, *, covariates: Any = None) -> float:
        """Minus the loss per observed entry of rows with the codes that they get; higher = better.

        Parameters as for :meth:`transform`. The loss is the one that was minimised, penalties left out,
        in the units of X; of a model with an objective of its own that objective, in which a prior of the
        components (the topics of lda) counts by the share of the rows in those of the training.

        Raises
        ------
        UserError
            As :meth:`transform`, and if the mask leaves nothing.
        """
        batch = new_rows(self, X, mask, covariates=covariates)
        seen = batch.x.shape.numel() if batch.mask is None else int((dense(batch.mask) > 0).sum())
        if not seen:
            raise UserError("score: no entry of X is observed, so there is nothing to judge by")
        with self._fitted():
            return -float(misfit(self, batch, self.infer(batch))) * self.loss_unit / seen

    @final
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside the tensors: what is needed to build the model again, and to continue its fit."""
        checkpoint["nmfnet"] = kept(self)

    @final
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the fit that a checkpoint was taken of."""
        checkpoint["state_dict"] |= go_on(self, checkpoint["nmfnet"])
