"""The base of every model: X ~ decode(encode(X)), restarts in front, one training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

import lightning as L
import numpy as np
import torch
from torch import nn

from nmfnet.core.budget import Budget
from nmfnet.core.constraints import ANY, NON_NEGATIVE, Constraint
from nmfnet.core.distributed import World
from nmfnet.core.factor import Factor
from nmfnet.core.inference import fold_in
from nmfnet.core.inits import Init
from nmfnet.core.laws import Law, Point
from nmfnet.core.losses import Loss
from nmfnet.core.penalties import Penalty
from nmfnet.core.units import Units
from nmfnet.errors import UserError
from nmfnet.kernels.arrays import as_tensor
from nmfnet.kernels.generic_mu import generic_sums
from nmfnet.kernels.optimality import kkt_residual
from nmfnet.kernels.rows import blocks, dense, row_blocks, take_rows
from nmfnet.kernels.sparse import Transpose, row_numbers, transpose_of, transposed, with_values
from nmfnet.types import Batch, Float, Int, Output, Sizes, Stage, Tensor, Terms, View

if TYPE_CHECKING:
    from nmfnet.kernels.multiplicative import Sums
    from nmfnet.kernels.weighted import Ridge
    from nmfnet.solvers.base import Solver


class Parts(NamedTuple):
    """Everything a model is put together from.

    ``generators`` holds one random generator per restart: restart i of a run is the run that has
    only the i-th generator. ``axes`` are the sizes of what the data have beside samples and features
    (``class``, the number of labels; ``view NAME``, the features of a view; ``covariate``).
    ``constraints`` are those of single factors by name, ``given`` holds values of factors to start
    from, and the factors called ``frozen`` are not learned.
    """

    sizes: Sizes
    loss: Loss
    solver: Solver
    init: Init
    constraint: Constraint
    generators: tuple[torch.Generator, ...]
    penalties: tuple[Penalty, ...] = ()
    budget: Budget = Budget()
    axes: Mapping[str, int] = MappingProxyType({})
    constraints: Mapping[str, Constraint] = MappingProxyType({})
    given: Mapping[str, Tensor] = MappingProxyType({})
    frozen: tuple[str, ...] = ()

    @property
    def n_classes(self) -> int:
        """Number of classes of the labels; 0 = the data have none."""
        return self.axes.get("class", 0)


Reader = Callable[[Any, Any], tuple[Any, Any, Any]]
"""X and mask as a user gives them, to matrices with the columns in the order of the training data, and
the names of the rows."""

JUDGED = 8
"""Draws, in pairs of opposite sign, by which a stochastic model is judged."""


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

    closed_form: bool = False
    """Whether ``solve`` fits the model at one stroke."""

    ridges: bool = False
    """Whether ``ridge`` says what is left of the objective when the factors of one axis move."""

    sweeps: bool = False
    """Whether ``sweep`` moves all of the model in closed form, towards a better bound."""

    learns_graph: bool = False
    """Whether the model explains the links of the rows (``batch.context``) and not X itself."""

    warm_up: int = 0
    """Iterations over which the divergence from the prior gains its full weight."""

    def __init__(self, parts: Parts, *, n_components: int) -> None:
        super().__init__()
        if n_components < 1:
            raise UserError(f"model.n_components={n_components}: it must be at least 1")
        self.automatic_optimization = False
        self.sizes, self.loss, self.solver = parts.sizes, parts.loss, parts.solver
        self.init, self.constraint = parts.init, parts.constraint
        self.penalties, self.budget = nn.ModuleList(parts.penalties), parts.budget
        self.generators, self.own_constraints = parts.generators, parts.constraints
        self.axes = {
            "sample": self.sizes.n_samples,
            "feature": self.sizes.n_features,
            "component": n_components,
            "one": 1,
            **parts.axes,
        }
        self.measured = frozenset(parts.axes)
        self.now: int | None = None  # the iteration of a gradient step; None = the model is judged
        self.asks_loss = True
        self.given, self.frozen = parts.given, parts.frozen
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
        self.notes: list[str] = []
        self.units = Units()
        self.reader: Reader | None = None  # of users' rows, which know their columns by name
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

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        """The objective of every row by itself: ``data``, and ``kl`` for a code with a law."""
        law = self.law(batch)
        divergence = law.kl()
        if not law.noise:
            data = self.row_losses(batch, law.mean)
        else:
            drawn = [self.row_losses(batch, law.sample(e)) for e in self._draws(law, batch)]
            data = torch.stack(drawn).mean(0)
        if divergence is None:
            return {"data": data}
        return {"data": data, "kl": self.prior_weight * divergence}

    @property
    def prior_weight(self) -> float:
        """Weight of the divergence from the prior: below 1 only in gradient steps of the warm-up."""
        return 1.0 if self.now is None else min(1.0, (self.now + 1) / max(1, self.warm_up))

    def _draws(self, law: Law, batch: Batch) -> list[Tensor]:
        """Noise: fresh for every row in a gradient step, the same for all rows when judged."""
        if self.now is not None:
            return [self.noise(batch.x.shape[0], law.noise)]
        half = [self.noise(1, law.noise, draw=i) for i in range(JUDGED // 2)]
        return [sign * eps for eps in half for sign in (1, -1)]

    @final
    def noise(self, *shape: int, draw: int = 0) -> Float[Tensor, "*r a b"]:
        """Standard normal numbers that depend on the restart, ``now`` and ``draw`` alone."""
        moment = -1 if self.now is None else self.now

        def of(stream: int) -> Tensor:
            seeds = np.random.SeedSequence([stream % 2**63, moment + 1, draw])
            seed = int(seeds.generate_state(1, np.uint64)[0]) % 2**63
            source = torch.Generator().manual_seed(seed)
            return torch.randn(*shape, generator=source, dtype=torch.float64)

        streams = self.streams
        drawn = (
            of(int(streams))
            if streams.ndim == 0
            else torch.stack([of(i) for i in streams.tolist()])
        )
        return drawn.to(self.device, self.precision)

    def code_factors(self) -> dict[str, Factor]:
        """Factors with a row per training sample, which together are the code of the row."""
        return {name: factor for name, factor in self.factors.items() if factor.per_sample}

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """Codes of any rows: the encoder's, or those that minimise the model's own objective."""
        return self.law(batch).mean if self.inductive else fold_in(self, batch, self.has_own_terms)

    def solve(self, batch: Batch) -> None:
        """Set the factors to their optimum: of a model with a closed form, or of the codes alone."""
        tables = self.code_factors()
        widths = [factor.raw.shape[-1] for factor in tables.values()]
        code = self.infer(batch)
        for factor, part in zip(tables.values(), code.split(widths, -1), strict=True):
            factor.assign_(part)

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        """Numbers of the model's own for ``metrics.json``, of the rows of a part."""
        return {}

    def link_scores(
        self, code: Float[Tensor, "*r n k"], pairs: Int[Tensor, "m 2"]
    ) -> Float[Tensor, "*r m"]:
        """How likely pairs of samples are linked; larger = more. Models of a graph say it."""
        raise NotImplementedError(f"{type(self).__name__} says nothing about links")

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Small data of the kind that the model is for, as keywords of :func:`nmfnet.fit`."""
        W, H = rng.exponential(size=(30, 3)), rng.exponential(size=(3, 12))
        return {"X": W @ H + 0.1}

    @property
    def has_own_terms(self) -> bool:
        """Whether the objective is not the sum of ``row_terms``."""
        return type(self).terms is not Factorization.terms

    @property
    def predicts_links(self) -> bool:
        """Whether links can be held out from the model (``split=links``)."""
        return type(self).link_scores is not Factorization.link_scores

    @property
    def has_own_sums(self) -> bool:
        """Whether it has closed forms of the two multiplicative sums."""
        return type(self).sums is not Factorization.sums

    @property
    def has_own_rows(self) -> bool:
        """Whether the objective of a row is more than its loss."""
        return type(self).row_terms is not Factorization.row_terms

    @property
    def has_own_scale(self) -> bool:
        """Whether the objective is more than the loss of X, so that c X is another problem than X."""
        own = self.has_own_terms or self.has_own_rows or type(self).law is not Factorization.law
        beside = {axis for factor in self.factors.values() for axis in factor.axes} & self.measured
        return own or self.named_components or bool(beside)

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

    def ridge(self, axis: Literal["sample", "feature"], batch: Batch) -> Ridge:
        """The least squares of all factors along an axis, side by side, while the others are held.

        For models that say ``ridges``, of one restart; ``x`` has a row for every sample, or feature.
        """
        raise NotImplementedError(f"{type(self).__name__} has no ridge regressions")

    def sweep(self, batch: Batch) -> None:
        """One step of coordinate ascent on the bound, of one restart; models that say ``sweeps``."""
        raise NotImplementedError(f"{type(self).__name__} has no sweeps")

    def scale_pair(self) -> tuple[Factor, Factor] | None:
        """Factors (*, k) and (k, *) whose product keeps when d goes from one to the other; or None."""
        return None

    def symmetric_factor(self) -> Factor | None:
        """For X ~ H Hᵀ with a free H: H; else None."""
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
        rows: str | int,
        columns: str | int,
        *,
        constraint: Constraint | None = None,
        degree: int = 1,
        max_exponent: float = 1.0,
    ) -> Factor:
        """Declare a factor of the model (assign the result to an attribute); see ``Factor``.

        Parameters
        ----------
        name : str
        rows, columns : str or int
            Its axes: ``"sample"``, ``"feature"``, ``"component"``, ``"class"``, ``"one"``, or another
            of ``self.axes``. A number stands for the axis of that size, where there is just one.
        constraint : Constraint, optional
            What ``constraint=`` says, by default; ``constraint.NAME=`` goes before both.
        degree, max_exponent
            As for ``Factor``.

        Raises
        ------
        UserError
            For an axis that the data do not have.
        """
        (a, height), (b, width) = self._axis(name, rows), self._axis(name, columns)
        made = Factor(
            self.n_restarts,
            height,
            width,
            self.own_constraints.get(name) or constraint or self.constraint,
            degree=degree,
            max_exponent=max_exponent,
            axes=(a, b),
        )
        self.factors[name] = made
        return made

    def _axis(self, name: str, axis: str | int) -> tuple[str, int]:
        """Name and size of an axis."""
        if isinstance(axis, int):
            alike = [word for word, size in self.axes.items() if size == axis]
            return (alike[0] if len(alike) == 1 else "", axis)
        if axis not in self.axes:
            raise UserError(
                f"factor {name} of {type(self).__name__} has the axis {axis!r}, but the data and the "
                f"model have {', '.join(self.axes)}"
            )
        return axis, self.axes[axis]

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

    @final
    def best_scale(self, batch: Batch) -> Float[Tensor, "r 1 1"]:
        """The c > 0 that minimises ``||X - c X_hat||`` for the factors as they are.

        Where the best c is not positive, the c with which both have the same norm.
        """
        W = self.encode(batch)
        sums = torch.zeros(3, self.n_restarts, dtype=torch.float64, device=self.device)
        for rows in (
            row_blocks(batch.x, self.n_restarts) if self.rows_independent else [slice(None)]
        ):
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
        unknown = [name for name in self.frozen if name not in self.given]
        if self.init.empty and not self.given:
            raise UserError(
                f"init={self.init.name} has nothing to start from: give init.path=FILE.npz, or arrays in "
                "Python: nmfnet.fit(X, init='given', H=H)"
            )
        if unknown and self.init.name != "given":
            raise UserError(
                f"model.frozen={unknown[0]}: it needs a value: init=given init.path=FILE.npz, or in "
                f"Python nmfnet.fit(X, {unknown[0]}=array)"
            )
        for penalty in self.penalty_list:
            penalty.attach(self.factors)
        self._check_parts()
        kind = type(self).__name__
        if batch.x.is_sparse_csr and not self.sparse:
            raise UserError(
                f"{kind} needs a dense X, and this one is sparse: use model=nmf, or give X as a "
                "dense array"
            )
        self._check_sign(batch.x)
        for name, view in batch.views.items():
            self._check_sign(view.x, f"view {name}")
        if batch.x.is_sparse_csr:
            self.transpose = transpose_of(batch.x)
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
            self.loss.start()
            for name, value in self.given.items():
                self.factors[name].assign_(value.to(self.device))
            self.asks_loss = self._asks_loss(batch)

    def _check_parts(self) -> None:
        """Refuse names of factors that the model does not have, and heads that its decoder lacks."""
        asked = {
            "constraint.": self.own_constraints,
            "the given ": self.given,
        }
        for where, names in asked.items():
            self._check_names(where, names)
        for name, value in self.given.items():
            wanted = tuple(self.factors[name].raw.shape[1:])
            if tuple(value.shape[-2:]) != wanted:
                raise UserError(
                    f"the given {name} has shape {tuple(value.shape[-2:])}, but this model and these "
                    f"data need {wanted}, {' by '.join(self.factors[name].axes)}"
                )
            limits = self.factors[name].constraint
            if not limits.contains(value):
                raise UserError(
                    f"the given {name} is not feasible under constraint={type(limits).__name__.lower()}: "
                    f"mend the values, or set constraint.{name} to another"
                )
        if missing := [head for head in self.loss.heads if head not in self.heads]:
            raise UserError(
                f"loss={self.loss.name} needs the head {missing[0]!r} from the decoder, which "
                f"{type(self).__name__} does not give: use model=vae, or another loss"
            )

    def _check_names(self, where: str, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.factors:
                raise UserError(
                    f"{where}{name}: {type(self).__name__} has no such factor; it has "
                    f"{', '.join(self.factors)}"
                )

    @final
    def hold_frozen(self) -> None:
        """Hold the factors that ``model.frozen`` names.

        Raises
        ------
        UserError
            For a name that is no factor's.
        """
        self._check_names("model.frozen: ", self.frozen)
        for name in self.frozen:
            self.factors[name].freeze()

    @property
    def heads(self) -> tuple[str, ...]:
        """What the decoder can give a likelihood beside the mean."""
        return ()

    def _asks_loss(self, batch: Batch) -> bool:
        """Whether the objective comes from ``loss=``, or the model has a likelihood of its own."""
        if not self.has_own_terms:
            return True
        asked: list[object] = []
        few = batch
        if self.rows_independent:
            few = batch.by_row(lambda tensor: dense(take_rows(tensor, slice(0, 2))))
        handle = self.loss.register_forward_pre_hook(lambda *call: asked.append(call))
        try:
            self.terms(few)
        finally:
            handle.remove()
        return bool(asked)

    def _check_sign(self, x: Tensor, where: str = "X") -> None:
        self.check_negative(int(((x.values() if x.is_sparse_csr else x) < 0).sum()), where)

    @final
    def check_negative(self, negative: int, where: str = "X") -> None:
        """Refuse data with so many negative values, if the model cannot have any.

        Raises
        ------
        UserError
        """
        free = all(f.constraint.bounds == ANY for f in self.own_factors().values())
        if negative and not (self.signed or free):
            raise UserError(
                f"{where} has {negative} negative values and {type(self).__name__} needs X >= 0: "
                "shift or clip the data, or use constraint=free loss=frobenius, or model=convex_nmf, "
                "which allow any sign"
            )

    @final
    def moved(self) -> dict[str, Factor]:
        """The factors that are learned."""
        return {name: factor for name, factor in self.factors.items() if not factor.frozen}

    @final
    def trainable(self) -> list[nn.Parameter]:
        """The parameters that are learned."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def only_codes(self) -> bool:
        """Whether all but the codes of the rows is frozen, so that a fit is an inference."""
        codes = self.code_factors()
        once = all(factor.degree == 1 for factor in codes.values())  # else they decode, too
        return bool(codes) and once and set(self.moved()) == set(codes)

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
    def row_losses(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        """Loss of every row, all views together; in blocks of rows where X_hat would be large."""
        if batch.x.is_sparse_csr and self.sparse:
            return self.sparse_losses(batch, code)
        if not self.rows_independent:
            return self._block_losses(batch, code)
        parts = [
            self._block_losses(rows, code[..., at, :])
            for at, rows in blocks(batch, code.shape[:-2].numel())
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def _block_losses(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        total = None
        for name, output in self.outputs(code, batch).items():
            view = View(batch.x, batch.mask) if name == "x" else batch.views[name]
            mask = None if view.mask is None else dense(view.mask)
            loss = self.loss(dense(view.x), output.mean, mask, output.heads)
            loss = loss if view.scale == 1 else view.scale * loss
            total = loss if total is None else total + loss
        assert total is not None
        return total

    def sparse_losses(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        """Loss of every row for a sparse X, without forming X_hat; X ~ W H unless overridden."""
        x, H, masked = batch.x, self.components(), batch.mask is not None
        assert H is not None
        if code.ndim == 2:
            return self.loss.sparse_rows(x, code, H, masked)
        pairs = zip(code, H, strict=True)
        return torch.stack([self.loss.sparse_rows(x, w, h, masked) for w, h in pairs])

    @final
    def misfit(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r"]:
        """What the model's own likelihood says of rows with these codes, penalties left out."""
        if self.asks_loss:
            return self.row_losses(batch, code).sum(-1, dtype=torch.float64)
        tables = self.code_factors()
        if self.inductive or not tables:
            terms = self.terms(batch)
        else:
            rows = batch._replace(index=torch.arange(batch.x.shape[0], device=batch.x.device))
            widths = [factor.raw.shape[-1] for factor in tables.values()]
            with ExitStack() as stack:
                for factor, part in zip(tables.values(), code.split(widths, -1), strict=True):
                    stack.enter_context(factor.at(part))
                terms = self.terms(rows)
        return torch.stack([term.double() for term in terms.values()]).sum(0)

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
        losses = self.misfit(batch, self.infer(batch))
        self.log("val/loss", losses.min(), batch_size=batch.x.shape[0])

    @final
    def kkt(self, batch: Batch) -> Float[Tensor, "*r"] | None:
        """Largest KKT residual over the factors, per restart; None where it is not defined."""
        if not self.moves_values(NON_NEGATIVE):
            return None
        residuals = [
            kkt_residual(factor.raw.detach(), *self.factor_sums(name, batch))
            for name, factor in self.factors.items()
            if not factor.frozen
        ]
        return torch.stack(residuals).amax(0) if residuals else None

    @final
    def moves_values(self, bounds: tuple[float, float]) -> bool:
        """Whether the factors can be moved in place within bounds, by the two sums."""
        loose = [f.constraint for f in self.factors.values()]
        own = all(c.identity and c.bounds == bounds for c in loose)
        return self.multilinear and self.loss.splits and not self.of_loss and own

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
            views = {"x": View(batch.x, batch.mask), **batch.views}
            sums = generic_sums(
                lambda: self.outputs(self.encode(batch), batch),
                factor.raw,
                views,
                self.loss.split,
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
        self.eval()
        with torch.no_grad(), self.restarts(int(self.best)):
            yield

    @final
    def transform(
        self,
        X: Any,
        mask: Any = None,
        *,
        graph: Any = None,
        views: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """W of new (or the training) rows under the best restart.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or sparse matrix, shape (n_samples, n_features), or None
            Units and columns as in training. None = only the views are known.
        mask : array-like, shape (n_samples, n_features), optional
            Weights >= 0: 1 = observed, 0 = missing.
        graph : array-like or sparse matrix, shape (n_samples, n_samples), optional
            Symmetric links between these rows, for models that read them.
        views : mapping of str to array-like, optional
            Any of the views that the model was fitted on, row by row as X; rows of NaN are missing.

        Returns
        -------
        ndarray, shape (n_samples, n_components)
            The encoder's codes, or those that minimise the model's own objective for these rows.

        Raises
        ------
        UserError
            If X has another number of features, NaN, or values outside the domain of the loss; for a
            view that the model does not have.
        """
        batch = self._new_rows(X, mask, graph, views)
        with self._fitted():
            return (self.infer(batch) * self.units.code).cpu().numpy()

    @final
    def inverse_transform(self, W: Any) -> np.ndarray:
        """X_hat for given W under the best restart, shape (n_samples, n_features)."""
        code = self.inside(W, self.units.code)
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
        views: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """What the model says of X for the codes of its rows, shape (n_samples, n_features).

        Parameters as for :meth:`transform`.
        """
        batch = self._new_rows(X, mask, graph, views)
        with self._fitted():
            said = self.outputs(self.infer(batch), batch)["x"].mean
            return (said * self.units.data).cpu().numpy()

    @final
    def score(self, X: Any, mask: Any = None) -> float:
        """Minus the loss per observed entry of rows with the codes that they get; higher = better.

        Parameters as for :meth:`transform`. The loss is the one that was minimised, penalties left out,
        in the units of X.
        """
        batch = self._new_rows(X, mask)
        with self._fitted():
            loss = float(self.misfit(batch, self.infer(batch))) * self.loss_unit
        if batch.mask is None:
            return -loss / (batch.x.shape[0] * batch.x.shape[1])
        return -loss / float((dense(batch.mask) > 0).sum())

    def _new_rows(
        self, X: Any, mask: Any, graph: Any = None, views: Mapping[str, Any] | None = None
    ) -> Batch:
        held = {name: self._new_view(name, view) for name, view in (views or {}).items()}
        if X is None and held:
            rows = next(iter(held.values())).x.shape[0]
            x = torch.zeros(rows, self.sizes.n_features, dtype=self.precision, device=self.device)
            seen: Tensor | None = x
        else:
            if self.reader is not None:
                X, mask, _ = self.reader(X, mask)
            x, seen = self._new_table(X, mask, "X", self.sizes.n_features)
        for name, view in held.items():
            if view.x.shape[0] != x.shape[0]:
                raise UserError(f"view {name} has {view.x.shape[0]} rows, X has {x.shape[0]}")
        index = torch.full((x.shape[0],), -1, device=self.device)
        context = {} if graph is None else {"graph": self._new_graph(graph, x.shape[0])}
        return Batch(x, index, seen, context=context, views=held)

    @final
    def inside(self, values: Any, unit: float) -> Tensor:
        """A matrix of the user's in the units and the precision of the model."""
        if unit == 1:
            return as_tensor(values, self.precision, self.device)
        return (as_tensor(values, torch.float64, self.device) * (1 / unit)).to(self.precision)

    def _new_graph(self, graph: Any, n: int) -> Tensor:
        links = as_tensor(graph, self.precision, self.device)
        if links.shape != (n, n):
            raise UserError(
                f"graph has shape {tuple(links.shape)}, but X has {n} rows: give it a row and a "
                "column for each"
            )
        return links if links.is_sparse_csr else links.to_sparse_csr()

    def _new_view(self, name: str, values: Any) -> View:
        known = [axis.removeprefix("view ") for axis in self.axes if axis.startswith("view ")]
        if name not in known:
            raise UserError(
                f"the model was fitted without a view {name!r}; it has {', '.join(known) or 'none'}"
            )
        x = dense(as_tensor(values, self.precision, self.device))
        absent = x.isnan().all(-1, keepdim=True)
        mask = (~absent).expand(x.shape) if bool(absent.any()) else None
        return View(*self._new_table(x, mask, f"view {name}", self.axes[f"view {name}"]))

    def _new_table(
        self, X: Any, mask: Any, what: str, n_features: int
    ) -> tuple[Tensor, Tensor | None]:
        """Values and weights, checked as training data are."""
        x = self.inside(X, self.units.data)
        if x.shape[1] != n_features:
            raise UserError(
                f"{what} has {x.shape[1]} features, but this model was fitted on {n_features}"
            )
        seen = None if mask is None else as_tensor(mask, self.precision, self.device)
        if seen is not None:
            if seen.shape != x.shape:
                raise UserError(f"mask has shape {tuple(seen.shape)}, {what} has {tuple(x.shape)}")
            x = _at_listed(x, seen) if seen.is_sparse_csr else torch.where(seen > 0, dense(x), 0)
        values = (x.values() if x.is_sparse_csr else x).cpu().numpy()
        if not np.isfinite(values).all():
            raise UserError(f"{what} has NaN or infinite entries: give a mask for missing ones")
        self._check_sign(x, what)
        names = [str(i) for i in range(max(x.shape))]
        whole = seen is None or seen.is_sparse_csr  # all that is stored is observed
        observed = None if seen is None or whole else seen.cpu().numpy()
        self.loss.check(values, names, names, what, observed)
        return x, seen

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


def _at_listed(x: Tensor, mask: Tensor) -> Tensor:
    """The entries of x that a sparse mask stores, with its pattern."""
    return with_values(mask, dense(x)[row_numbers(mask), mask.col_indices()])
