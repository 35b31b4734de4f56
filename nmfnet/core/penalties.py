"""Terms added to the loss: ``penalty=l1 penalty.weight=0.1 penalty.on=H``.

Every penalty is a function of one factor's value, so it can be used by gradient solvers (through
``forward``) and by multiplicative ones (through ``split``, which joins the two sums).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch
from torch import nn

from nmfnet.core.factor import Factor
from nmfnet.errors import UserError
from nmfnet.kernels.arrays import as_tensor
from nmfnet.kernels.csr import to_scipy
from nmfnet.kernels.graph import times_links
from nmfnet.kernels.sparse import row_sums
from nmfnet.settings.ranges import Count
from nmfnet.types import Batch, Float, Tensor


class Penalty(nn.Module, ABC):
    """``weight`` times a function of the factor named ``on``.

    Parameters
    ----------
    on : str, or list of str
        Name of a factor of the model (``W``, ``H``, ...). A list stands for a penalty of each.
    weight : float, >= 0
        In units of the loss, which is summed over rows: a penalty of W grows with the number of
        samples as the loss does, a penalty of H does not.
    """

    name: str
    degree: int
    convex: bool = True

    entrywise: bool = False
    """Whether it is a sum over entries, so that kernels take it as a weight and rows do not meet."""

    linear: bool = False
    """Whether it is ``weight * Σ v`` for v >= 0."""

    quadratic: bool = False
    """Whether it is ``weight / 2 * Σ v²``."""

    of_sign: bool = False
    """Whether it is bounded from below for factors >= 0 alone."""

    between_rows: bool = False
    """Whether it compares samples (or features), so that these do not stand alone."""

    additive: bool = True
    """Whether its values of blocks of rows, a row per sample, add up to that of all."""

    between_components: bool = False
    """Whether it compares components, and so needs a factor with the axis ``component``."""

    @property
    def reads_graph(self) -> bool:
        """Whether it is of links between samples, those of new rows among them."""
        return False

    def __init__(self, *, on: str | Sequence[str] = "H", weight: float = 0.1) -> None:
        super().__init__()
        if weight < 0:
            raise UserError(f"penalty weight is {weight:g}: it must be >= 0")
        if not isinstance(on, str):
            raise UserError(
                f"a penalty is of one factor, and on={on} are several: make one of each"
            )
        self.on = on
        self.weight = float(weight)
        self.by_column = False

    def attach(self, factors: Mapping[str, Factor]) -> None:
        """Take up the factor that the penalty is on.

        Raises
        ------
        UserError
            If the model has no such factor, if its axes are not what the penalty compares, or if its
            entries of any sign would lower the penalty without end.
        """
        if self.on not in factors:
            raise UserError(
                f"penalty={self.name} is on factor {self.on!r}, but this model's factors are "
                f"{', '.join(factors)}: set penalty.on to one of them"
            )
        axes = factors[self.on].axes
        if self.between_components and "component" not in axes:
            fitting = [name for name, factor in factors.items() if "component" in factor.axes]
            raise UserError(
                f"penalty={self.name} compares components, and factor {self.on!r} has none (its axes "
                f"are {' by '.join(axes)}): set penalty.on to "
                f"{' or '.join(fitting) or 'a factor with the axis component'}"
            )
        if self.of_sign and factors[self.on].signed:
            raise UserError(
                f"penalty={self.name} has no lower bound where entries may be negative, as those of "
                f"{self.on} may: use constraint.{self.on}=project, or another penalty"
            )
        self.by_column = axes[1] == "component" and axes[0] != "component"

    def start(self, batch: Batch) -> None:
        """Take up what it needs of the training rows; usually nothing."""

    def of_rows(self, batch: Batch) -> Penalty | None:
        """The same penalty of the codes of other rows; None = it says nothing of them."""
        return self

    def _across(self, value: Tensor) -> Tensor:
        """The value with a row per component."""
        return value.mT if self.by_column else value

    @abstractmethod
    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        """The penalty of each restart."""

    @abstractmethod
    def normal(self, G: Tensor, value: Tensor) -> tuple[Float[Tensor, "*r k k"], float]:
        """What the penalty adds to the normal equations of the rows θ of W or Hᵀ.

        Parameters
        ----------
        G : Tensor, shape (*r, k, k)
            Their matrix without the penalty.
        value : Tensor, shape (*r, a, b)
            The factor as it is now.

        Returns
        -------
        quadratic : Tensor, shape like G
            Penalty = θ quadratic θᵀ / 2 + linear Σ θ for θ >= 0, or never above that and equal to
            it (up to a constant) at ``value``.
        linear : float
        """

    @abstractmethod
    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """``neg, pos >= 0`` with d penalty / d value = pos - neg, broadcastable to value."""


def by_factor(nodes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The penalties of a configuration, a node for every factor that one is on.

    Raises
    ------
    UserError
        For an empty list of factors, and for one that names a factor twice.
    """
    found: list[dict[str, Any]] = []
    for name, node in nodes.items():
        on = node.get("on", "H")
        factors = [on] if isinstance(on, str) else list(on)
        if not factors or len(set(factors)) < len(factors):
            raise UserError(
                f"penalty.{name}.on={factors}: name every factor once, and at least one"
            )
        found += [{**node, "on": factor} for factor in factors]
    return found


def dodged(
    penalties: Sequence[Penalty], factors: Mapping[str, Factor], pair: tuple[Factor, Factor] | None
) -> str:
    """A sentence for penalties that a change of scale lowers at no cost; empty for others.

    Parameters
    ----------
    penalties : sequence of Penalty
    factors : mapping of str to Factor
    pair : two Factors, or None
        The product of which keeps when scale goes from one to the other.
    """
    if pair is None or not all(factor.scales for factor in pair):
        return ""
    names = {id(factor): name for name, factor in factors.items()}
    left, right = (names[id(factor)] for factor in pair)
    weighed = {p.on: p for p in penalties if p.weight > 0}
    hit, free = (left, right) if left in weighed else (right, left)
    if hit not in weighed or free in weighed:
        return ""
    name = weighed[hit].name
    both = f"penalty={name} penalty.{name}.on=[{left},{right}]"
    if weighed[hit].between_rows:  # of one axis, which the other factor may not have
        both = f"penalty=[{name},l2] penalty.l2.on={free}"
    return (
        f"penalty={name} is on {hit} alone, and the scale of {free} is free: a smaller {hit} and a "
        f"larger {free} give the same X_hat for a lower penalty. Penalise both ({both}), or fix the "
        f"scale of {free} (constraint.{free}=simplex_project)."
    )


@final
class L1(Penalty):
    """``weight * Σ |v|``: sparsity."""

    name = "l1"
    degree = 1
    entrywise = True
    linear = True

    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        return self.weight * value.abs().sum((-2, -1))

    def normal(self, G: Tensor, value: Tensor) -> tuple[Float[Tensor, "*r k k"], float]:
        return torch.zeros_like(G), self.weight

    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        return 0.0, self.weight


@final
class L2(Penalty):
    """``weight / 2 * Σ v²``: ridge."""

    name = "l2"
    degree = 2
    entrywise = True
    quadratic = True

    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        return 0.5 * self.weight * value.square().sum((-2, -1))

    def normal(self, G: Tensor, value: Tensor) -> tuple[Float[Tensor, "*r k k"], float]:
        eye = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
        return (self.weight * eye).expand_as(G), 0.0

    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        return 0.0, self.weight * value


@final
class Orthogonal(Penalty):
    """``weight / 2 * Σ_{i≠j} (V Vᵀ)_ij``: pulls the components (rows) apart; >= 0 for V >= 0.

    For non-negative V it vanishes exactly when no two components overlap. What is compared is the axis
    ``component`` of the factor: the rows of H, the columns of W.

    Source: the overlap penalty of Cichocki & Phan 2009, section 5.
    """

    name = "orthogonal"
    degree = 2
    between_components = True
    of_sign = True
    convex = False

    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        v = self._across(value)
        total = v.sum(-2).square().sum(-1)
        return 0.5 * self.weight * (total - v.square().sum((-2, -1)))

    def normal(self, G: Tensor, value: Tensor) -> tuple[Float[Tensor, "*r k k"], float]:
        eye = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
        return (self.weight * (1 - eye)).expand_as(G), 0.0

    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        v = self._across(value)
        others = self.weight * (v.sum(-2, keepdim=True) - v).clamp_min(0)
        return 0.0, self._across(others)


@final
class MinVolume(Penalty):
    """``weight * log det(I + V Vᵀ / delta)``: pulls the components (rows) towards each other and 0.

    The determinant is the squared volume that the components span, so among factorisations that fit
    alike the one with the tightest cone wins, which makes components identifiable where X has no
    pure samples. Natural logarithm; >= 0. It grows with the scale of the components, so give that scale
    to the other factor (a constraint, a penalty of W, or an encoder of fixed scale), else it only
    shrinks this one. The components are along the axis ``component`` of the factor: the rows of H, the
    columns of W.

    Parameters
    ----------
    on, weight
        As for every penalty.
    delta : float, > 0
        Squared length below which a component has no volume.

    Source: Fu, Huang, Sidiropoulos & Ma 2019, eq. (16); Pancotti et al. 2024 (MUSE-XAE) use
    ``1e-3 log10 det(V Vᵀ + I)`` on the decoder, which is weight 4.3e-4 and delta 1.

    Differs from the source: divided by delta inside, which is a constant, so that it is never negative.
    """

    name = "min_volume"
    degree = 3
    additive = False
    between_components = True
    """Its majoriser has a quadratic term and a logarithmic one, which lowers the monotone exponent of the
    squared error to 1/2 as a cubic would; for the other divergences this is cautious."""

    def __init__(
        self, *, on: str | Sequence[str] = "H", weight: float = 0.1, delta: float = 1.0
    ) -> None:
        super().__init__(on=on, weight=weight)
        if delta <= 0:
            raise UserError(f"penalty.min_volume.delta={delta:g}: it must be > 0")
        self.delta = float(delta)

    def _gram(self, v: Float[Tensor, "*r k b"]) -> Float[Tensor, "*r k k"]:
        eye = torch.eye(v.shape[-2], dtype=v.dtype, device=v.device)
        return eye + v @ v.mT / self.delta

    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        return self.weight * torch.logdet(self._gram(self._across(value)))

    def normal(self, G: Tensor, value: Tensor) -> tuple[Float[Tensor, "*r k k"], float]:
        """The tangent of the logarithm, which is concave in V Vᵀ."""
        inverse = torch.linalg.inv(self._gram(self._across(value)))
        return 2 * self.weight / self.delta * inverse, 0.0

    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        v = self._across(value)
        slope = 2 * self.weight / self.delta * torch.linalg.inv(self._gram(v))
        neg, pos = slope.neg().clamp_min(0) @ v, slope.clamp_min(0) @ v
        return self._across(neg), self._across(pos)


@final
class Laplacian(Penalty):
    """``weight / 2 * tr(Vᵀ (D - A) V)``, which is ``weight / 4 * Σ_ij A_ij |v_i - v_j|²``.

    A holds the links of the samples (for W and other factors with a row per sample) or of the features
    (for H), D the sums of its rows. With squared errors this is GNMF: ``||X - W H||² + weight tr(Wᵀ L
    W)``, halved. The penalty falls with the scale of V, so give the other factor a penalty or a
    constraint that fixes its own.

    Parameters
    ----------
    on, weight
        As for every penalty.
    graph : {"given", "knn"}
        The graph of the data (``data=graph``, ``nmfnet.fit(X, graph=A)``), which is of samples, or
        links of 1 between every training row of X and its nearest ones (of features: columns), in
        either direction.
    neighbours : int, >= 1
        How many these are.

    New rows are penalised by links between them, ``transform(X, graph=A)``; without any they are nodes
    without links, also with ``graph: knn``.

    Source: Cai, He, Han & Huang 2011, "Graph regularized nonnegative matrix factorization for data
    representation", eqs. (10), (14) and (15).
    """

    name = "laplacian"
    degree = 2
    between_rows = True
    additive = False

    def __init__(
        self,
        *,
        on: str | Sequence[str] = "W",
        weight: float = 0.1,
        graph: Literal["given", "knn"] = "given",
        neighbours: Count = 5,
    ) -> None:
        super().__init__(on=on, weight=weight)
        self.given, self.neighbours = graph == "given", neighbours
        self.links: Tensor | None = None
        self.node = "sample"

    def attach(self, factors: Mapping[str, Factor]) -> None:
        super().attach(factors)
        axes = factors[self.on].axes
        nodes = [axis for axis in ("sample", "feature") if axis in axes]
        if not nodes or axes[0] == axes[1]:
            fitting = [n for n, f in factors.items() if {"sample", "feature"} & set(f.axes)]
            raise UserError(
                f"penalty=laplacian compares samples or features, and {self.on!r} has neither (its "
                f"axes are {' by '.join(axes)}): set penalty.on to {' or '.join(fitting)}"
            )
        self.node = nodes[0]
        self.by_column = axes[1] == self.node
        self.size = factors[self.on].raw.shape[-1 if self.by_column else -2]

    def start(self, batch: Batch) -> None:
        found = batch.context.get("graph") if self.reads_graph else None
        if self.given and found is None:
            said = (
                "and the data have none" if self.node == "sample" else "and a graph is of samples"
            )
            raise UserError(
                f"penalty=laplacian on {self.on} needs links between {self.node}s, {said}: use "
                "data=graph, or in Python nmfnet.fit(X, graph=A), or penalty.laplacian.graph=knn"
            )
        if found is None:
            found = self._nearest(batch)
        if found.shape[0] != self.size:
            raise UserError(
                f"penalty=laplacian needs all {self.size} {self.node}s in memory in one process, and "
                f"{found.shape[0]} are: leave out data=stream and trainer=ddp"
            )
        self.links = found

    def _nearest(self, batch: Batch) -> Tensor:
        """Links of 1 between nearest rows (or columns) of X."""
        from sklearn.neighbors import kneighbors_graph

        if batch.mask is not None:
            raise UserError(
                "penalty.laplacian.graph=knn compares rows of X by all entries, and some are missing, "
                "held out or weighted: give a graph"
            )
        x = to_scipy(batch.x) if batch.x.is_sparse_csr else batch.x.cpu().numpy()
        x = x if self.node == "sample" else x.T
        if self.neighbours >= x.shape[0]:
            raise UserError(
                f"penalty.laplacian.neighbours={self.neighbours}: there are {x.shape[0]} {self.node}s, "
                "so take fewer"
            )
        links = kneighbors_graph(x, self.neighbours)
        return as_tensor(links.maximum(links.T).tocsr(), batch.x.dtype, batch.x.device)

    @property
    def reads_graph(self) -> bool:
        return self.given and self.node == "sample"

    def of_rows(self, batch: Batch) -> Penalty | None:
        links = batch.context.get("graph") if self.reads_graph else None
        if links is None:
            return None
        other = Laplacian(on=self.on, weight=self.weight)
        other.links = links
        return other

    def _halves(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """``A V`` and ``D V``."""
        assert self.links is not None
        v = value.mT if self.by_column else value
        links = self.links.to(v.dtype)
        return times_links(links, v), row_sums(links).unsqueeze(-1) * v

    def forward(self, value: Float[Tensor, "*r a b"]) -> Float[Tensor, "*r"]:
        near, own = self._halves(value)
        v = value.mT if self.by_column else value
        return 0.5 * self.weight * (v * (own - near)).sum((-2, -1))

    def normal(self, G: Tensor, value: Tensor) -> tuple[Float[Tensor, "*r k k"], float]:
        raise NotImplementedError("rows of the factor have no normal equations of their own")

    def split(self, value: Tensor) -> tuple[Tensor | float, Tensor | float]:
        near, own = (self.weight * half for half in self._halves(value))
        return (near.mT, own.mT) if self.by_column else (near, own)
