"""Neural NMF: a hierarchy of which only the components are learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import nn

from nmfnet.core.constraints import Free
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.models._hierarchy import (
    layer_shapes,
    layerwise,
    level_axes,
    products,
    project,
    project_codes,
    row_misfits,
    size_of,
)
from nmfnet.models._labels import (
    Labels,
    check_classes,
    cross_entropy,
    labels_of,
    least_squares_readout,
    squared_misfit,
)
from nmfnet.types import Batch, Float, Tensor, Terms


@final
class NeuralNMF(Factorization):
    r"""X ~ S_L A_L ... A_1 A_0 with S_0 = q(X, A_0), S_l = q(S_{l-1}, A_l), all >= 0.

    q(X, A) = argmin_{S >= 0} ||X - S A|| is solved exactly and differentiated, so the A_l are the
    only parameters (and B, with labels).

    ======  ===========================================  ==================  ======================
    symbol  meaning                                      code                shape
    ======  ===========================================  ==================  ======================
    X       data                                         ``batch.x``         n_samples, n_features
    A_0     components of the first, widest layer        ``A0``              k_0, n_features
    A_l     components of layer l in those of l - 1      ``A1``, ...         k_l, k_{l-1}
    S_l     weights of layer l, ``q(S_{l-1}, A_l)``      ``codes``           n_samples, k_l
    W       S_L, the weights of the last layer           ``encode``          n_samples, n_components
    H       A_L ... A_0                                  ``components``      n_components, n_features
    Y, L    one-hot classes; which samples have one      ``labels_of``       n_samples, n_classes
    B       classes in the components of the last layer  ``B``               n_components, n_classes
    ======  ===========================================  ==================  ======================

    A new row is encoded by the same chain of q. The published orientation is the transpose: its X is
    (features, samples), its A_l are the A_l here transposed, its S_l too.

    Parameters
    ----------
    layers : sequence of int, >= 1
        Ranks from wide to narrow.
    n_components : int, optional
        Takes the place of the last of ``layers``.
    objective : {"reconstruction", "every_layer", "energy"}
        "reconstruction": the loss of X_hat. "every_layer": the sum over layers of ``weight`` times the
        loss of S_l A_l ... A_0. "energy" (squared error only): the sum over layers of
        ``weight ||S_{l-1} - S_l A_l||² / ||S_{l-1}||²``, in units of ``½ ||X||²``, with rows of
        every A_l of norm 1, so that no rescaling of layers changes it.
    layer_weights : sequence of float, >= 0, optional
        Weights of the energy or of every layer's loss, one for each layer; by default 1.
    supervision : {"l2", "cross_entropy"}, optional
        Adds ``label_weight`` times the error of S_L B on the labelled samples, in units of the size
        of X: ``||L o (Y - S_L B)||² / ||L o Y||²``, or the mean cross-entropy of
        softmax(S_L B). Without labels on some samples (``split=labels``) this is semi-supervised.
    label_weight : float, >= 0
    start : {"layerwise", "random"}
        "layerwise": sequential NMF, each layer until it falls slowly (`nmfnet.core.prelude`).
        "random": U(0, 1), as the source.
    as_released : bool
        The objective of the released code: means instead of sums, energies unnormalised, random
        start, A of any sign unless supervised, unlabelled samples counted as class 0 with scores 0
        under cross-entropy. For comparison only.

    Source: Will et al. 2023, "Neural nonnegative matrix factorization for hierarchical multilayer
    topic modeling", sections 3 and 4.

    ``solver=gd`` is the source's projected gradient descent, with a rate by line search (or, with
    ``solver.lr``, a fixed one); ``solver=adam`` and ``lbfgs`` keep A >= 0 too. ``solver=pgd`` is another
    method, for models whose weights are parameters.

    Differs from the source: A >= 0 always; energies are normalised; B has no fixed number of inner
    steps but moves with the A_l; ``as_released`` undoes the first two.
    """

    sparse = True

    def __init__(
        self,
        parts: Parts,
        *,
        layers: Sequence[int] = (10, 5),
        n_components: int | None = None,
        objective: Literal["reconstruction", "every_layer", "energy"] = "reconstruction",
        layer_weights: Sequence[float] | None = None,
        supervision: Literal["l2", "cross_entropy"] | None = None,
        label_weight: float = 0.1,
        start: Literal["layerwise", "random"] = "layerwise",
        as_released: bool = False,
    ) -> None:
        shapes = layer_shapes(layers, n_components, parts.sizes.n_features, parts.init)
        super().__init__(parts, n_components=shapes[-1][0])
        if objective == "energy" and self.loss.beta != 2:
            raise UserError(
                "model.objective=energy is for loss=frobenius: use model.objective=reconstruction"
            )
        if layer_weights is not None and len(layer_weights) != len(shapes):
            raise UserError(
                f"model.layer_weights={list(layer_weights)}: give one for each of the "
                f"{len(shapes)} layers"
            )
        if supervision is not None and parts.n_classes == 0:
            raise UserError(
                f"model.supervision={supervision} needs labels, and the data have none: name the "
                "class column (data.label_column=...), or set model.supervision=null"
            )
        if objective == "every_layer" and as_released:
            raise UserError(
                "model.objective=every_layer is not in the released code: set "
                "model.as_released=false, or model.objective=reconstruction or energy"
            )
        if layer_weights is not None and min(layer_weights) < 0:
            raise UserError(f"model.layer_weights={list(layer_weights)}: they must be >= 0")
        if label_weight < 0:
            raise UserError(f"model.label_weight={label_weight:g}: it must be >= 0")
        self.energies, self.every_layer = objective == "energy", objective == "every_layer"
        self.weights = layer_weights or [1.0] * len(shapes)
        if supervision is None:
            self.unused("model.supervision=null", "label_weight")
        self.supervision, self.label_weight = supervision, label_weight
        self.from_layers, self.as_released = start == "layerwise" and not as_released, as_released
        self.classes = parts.n_classes
        self.last: tuple[tuple[object, ...], list[Tensor]] = ((), [])
        self.shardable = not self.energies and supervision is None
        self.signed = self.loss.beta == 2
        free = Free() if as_released and supervision is None else None
        self.A = nn.ModuleList(
            self.factor(f"A{i}", *axes, constraint=free)
            for i, axes in enumerate(level_axes(self, shapes))
        )
        if supervision is not None:
            self.B = self.factor("B", "component", "class", constraint=Free())

    @property
    def multilinear(self) -> bool:
        return False

    def stack(self) -> list[Tensor]:
        """A_0, ..., A_L: shapes (*r, k_l, k_{l-1})."""
        values = [A() for A in self.A]
        if not self.energies or self.as_released:
            return values
        return [A / A.norm(dim=-1, keepdim=True).clamp_min(1e-30) for A in values]

    def codes(self, batch: Batch, A: list[Tensor]) -> list[Tensor]:
        """S_0, ..., S_L: shapes (*r, n, k_l)."""
        whole = len(batch.index) == self.sizes.n_samples and torch.is_grad_enabled()
        near = self._near(A) if whole else [None] * len(A)
        S = [project(batch, A[0], self.transpose if whole else None, near[0])]
        for deeper, guess in zip(A[1:], near[1:], strict=True):
            S.append(project_codes(S[-1], deeper, guess))
        if whole:
            self.last = (self._moment(A), [s.detach() for s in S])
        return S

    def _moment(self, A: list[Tensor]) -> tuple[object, ...]:
        """What the codes found last are good guesses for: the same training step and restart."""
        return self.iteration, self.factors["A0"].raw.data_ptr(), A[0].shape

    def _near(self, A: list[Tensor]) -> Sequence[Tensor | None]:
        """The codes found last, one training step at most back, so that a resumed run has them too."""
        moment, codes = self.last
        return codes if moment == self._moment(A) else [None] * len(A)

    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.codes(batch, self.stack())[-1]

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.components()

    def components(self) -> Float[Tensor, "*r k f"]:
        return products(self.stack())[-1]

    def layers(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        A = self.stack()
        return list(zip(self.codes(batch, A), products(A), strict=True))

    @property
    def has_own_scale(self) -> bool:
        """Layers and labels count in units of the size of X, but not in the released code."""
        return self.as_released

    def terms(self, batch: Batch) -> Terms:
        A = self.stack()
        S = self.codes(batch, A)
        entries = batch.x.shape[0] * batch.x.shape[1]
        if self.energies:
            terms = self._energies(batch, A, S)
        elif self.every_layer:
            misfits = [
                row_misfits(self.loss, batch, s, H) for s, H in zip(S, products(A), strict=True)
            ]
            terms = {
                f"layer{i + 1}": weight * rows.sum(-1, dtype=torch.float64)
                for i, (weight, rows) in enumerate(zip(self.weights, misfits, strict=True))
            }
        else:
            rows = row_misfits(self.loss, batch, S[-1], products(A)[-1])
            scale = 2 / entries if self.as_released else 1
            terms = {"data": scale * rows.sum(-1, dtype=torch.float64)}
        labels = labels_of(batch, self.classes, self.precision) if self.supervision else None
        if labels is not None:
            terms["labels"] = self.label_weight * self.label_term(batch, labels, S[-1])
        return terms

    def _energies(self, batch: Batch, A: list[Tensor], S: list[Tensor]) -> Terms:
        """Misfit of every layer on the weights of the one before it."""
        energies = [row_misfits(self.loss, batch, S[0], A[0]).sum(-1, dtype=torch.float64)]
        energies += [size_of(S[i] - S[i + 1] @ A[i + 1], 2) for i in range(len(A) - 1)]
        if self.as_released:
            counts = [batch.x.shape[0] * a.shape[-1] for a in A]
            return {f"layer{i}": 2 / counts[i - 1] * e for i, e in enumerate(energies, 1)}
        unit = size_of(batch.x, 2)
        sizes = [unit, *(size_of(s, 2).clamp_min(1e-30) for s in S[:-1])]
        return {
            f"layer{i + 1}": weight * unit * energy / size
            for i, (weight, energy, size) in enumerate(
                zip(self.weights, energies, sizes, strict=True)
            )
        }

    def label_term(self, batch: Batch, labels: Labels, W: Tensor) -> Tensor:
        """Error of the classes that B reads from the weights of the last layer, shape (r,)."""
        scores = W @ self.B()
        if not self.as_released:
            misfit = squared_misfit if self.supervision == "l2" else cross_entropy
            return size_of(batch.x, self.loss.beta) * misfit(labels, scores)
        n = batch.x.shape[0]
        if self.supervision == "l2":
            return squared_misfit(labels, scores) * labels.n_seen / (n * self.classes)
        unlabelled = (n - labels.seen.sum()) * math.log(self.classes)
        return (cross_entropy(labels, scores) * labels.n_seen + unlabelled) / n

    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        if self.supervision is not None:
            check_classes(batch, self.classes)
        drawn = [self.uniform(A) for A in self.A]  # type: ignore[arg-type]
        if self.from_layers:
            drawn[0] = proposal["H"] if len(drawn) == 1 else drawn[0]
            _, drawn = layerwise(batch, drawn, self.loss.beta, self.prelude)
        for A, value in zip(self.A, drawn, strict=True):
            A.assign_(value)  # type: ignore[operator]
        if self.supervision is not None:
            labels = labels_of(batch, self.classes, self.precision)
            assert labels is not None
            self.B.assign_(least_squares_readout(labels, self.encode(batch)))

    def end(self, batch: Batch) -> None:
        self.last = ((), [])
