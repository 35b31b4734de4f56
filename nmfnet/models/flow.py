"""Normalising flow: an invertible network between the rows and a standard normal law."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, cast, final

import numpy as np
import torch
from torch import nn

from nmfnet.core.constraints import Free
from nmfnet.core.factor import Factor
from nmfnet.core.model import Factorization, Parts
from nmfnet.errors import UserError
from nmfnet.settings.ranges import Count, NotNegative, Range
from nmfnet.types import Batch, Float, Int, Tensor

STEEPEST = 0.5
"""Largest logarithm of a scale in one affine coupling layer."""

BOX = 5.0
"""A spline bends inside [-BOX, BOX], in standard deviations, and is a straight line outside."""

NARROWEST = 1e-3
"""Smallest share of the box that a bin takes, and smallest slope; the largest slope is 1 / it."""

BEND = 2.0
"""Size of what hidden units see at the start, so that they are no straight lines."""


@final
class Flow(Factorization):
    r"""X ~ g(z) with z ~ N(0, 1), g the inverse of a network f: log p(X) = log N(f(X)) + log det df/dX.

    ======  ===========================================  ===============  ======================
    symbol  meaning                                      code             shape
    ======  ===========================================  ===============  ======================
    X       data                                         ``batch.x``      n_samples, n_features
    y       X with mean 0 and variance 1 in training     ``_standard``    n_samples, n_features
    b_l     half of the features, by restart and layer   ``halves``       layers, n_features
    A_l     from the held half to hidden units           ``A1``, ...      n_features, hidden
    S_l     from these to log scales of the other half   ``S1``, ...      hidden, n_features
    T_l     from these to shifts of the other half       ``T1``, ...      hidden, n_features
    K_l     from these to bins and slopes of splines     ``K1``, ...      hidden, n_features (3 bins - 1)
    z       code                                         ``encode``       n_samples, n_features
    ======  ===========================================  ===============  ======================

    Layer l maps y to ``b y + (1 - b) g(y)``, where g rises and is chosen by ``h = tanh((b y) A)``. With
    ``coupling=affine`` it is ``y exp(s) + t``, ``s = tanh(h S) / 2`` and ``t = h T`` (biases left out).
    With ``coupling=spline`` it is a quotient of two parabolas in every bin of [-5, 5], of the same value
    and slope where bins meet, and y outside; ``h K`` says how wide and high bins are, and how steep g is
    between them. Both have an inverse that is as easy. The start is f(X) = y. What is minimised
    is ``-Σ log p(x)`` in nats. ``inverse_transform`` of standard normal numbers draws new rows;
    X_hat is X up to rounding, which says nothing of the fit.

    Whole numbers have no density: ``dequantise=1`` adds uniform noise in [0, 1) to every entry, new in
    every iteration, and ``log_likelihood`` is then a lower bound on that of the numbers.

    Parameters
    ----------
    layers : int, >= 1
        Coupling layers; each changes half of the features.
    hidden : int, >= 1
        Hidden units of every layer.
    coupling : {"affine", "spline"}
        What a layer does to its other half.
    bins : int, 2 to 500
        Bins of a spline; used by ``coupling=spline`` alone.
    dequantise : float, >= 0
        Width of the noise; 0 = none.

    Source: Dinh, Sohl-Dickstein & Bengio 2017, "Density estimation using Real NVP", eqs. (4) to (8);
    Durkan, Bekasov, Murray & Papamakarios 2019, "Neural Spline Flows", section 3 and appendix A;
    Uria, Murray & Larochelle 2013 (dequantisation).

    Differs from the sources: halves are drawn at random, one hidden layer each, no batch normalisation
    and no linear layers between.
    """

    code = "real"
    linear = False
    generative = True
    has_components = False
    multilinear = False  # type: ignore[assignment]
    estimates_x = False

    def __init__(
        self,
        parts: Parts,
        *,
        layers: Count = 6,
        hidden: Count = 32,
        coupling: Literal["affine", "spline"] = "affine",
        bins: Annotated[int, Range(2, 500)] = 8,
        dequantise: NotNegative = 0.0,
    ) -> None:
        f = parts.sizes.n_features
        super().__init__(parts, n_components=f)
        if f < 2:
            raise UserError("model=flow needs two features at least: half of them shift the others")
        if coupling == "affine":
            self.unused("model.coupling=affine", "bins")
        self.dequantise = dequantise
        self.axes["hidden"] = hidden
        self.axes["knot"] = f * (3 * bins - 1)
        kind = {"affine": _Affine, "spline": _Spline}[coupling]
        self.couplings = nn.ModuleList(kind(self, i + 1) for i in range(layers))
        halves = torch.stack([_halves(layers, f, seed) for seed in self.streams.tolist()])
        self.register_buffer("halves", halves)
        for name in ("centre", "spread"):
            self.register_buffer(name, torch.ones(self.n_restarts, 1, f))
        self.halves: Tensor
        self.centre: Tensor
        self.spread: Tensor

    # ------------------------------------------------------------------ the model
    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        return self.flow(batch.x + self.dequantise / 2)[0]

    def flow(self, x: Float[Tensor, "*#r n f"]) -> tuple[Tensor, Tensor]:
        """f(x), and log |det df/dx| of every row."""
        y = (x - self.centre) / self.spread
        log_det = -self.spread.log().sum(-1)
        for coupling, b in self._steps():
            y, more = coupling(y, b)
            log_det = log_det + more
        return y, log_det

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        """The rows of which f gives these codes; without the noise, were whole numbers asked for."""
        y = W
        for coupling, b in reversed(self._steps()):
            y = coupling.inverse(y, b)
        return y * self.spread + self.centre - self.dequantise / 2

    def _steps(self) -> list[tuple[_Coupling, Tensor]]:
        couplings = cast("list[_Coupling]", list(self.couplings))
        return list(zip(couplings, self.halves.unbind(-3), strict=True))

    def components(self) -> Float[Tensor, "*r k f"]:
        raise UserError("model=flow has no components: its code is another form of the whole row")

    def log_likelihood(self, batch: Batch) -> Float[Tensor, "*r n"]:
        """Log p(x) of every row, in nats and in the units of the model."""
        x = batch.x
        if self.dequantise:
            noise = torch.special.ndtr(self.noise(*x.shape))
            x = x + self.dequantise * noise
        z, log_det = self.flow(x)
        normal = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
        return normal + log_det

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        return {"data": -self.log_likelihood(batch)}

    # ------------------------------------------------------------------ fit and numbers
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """The rows with mean 0 and variance 1: layers that do nothing yet."""
        self._check(batch)
        for factor in self.factors.values():
            factor.assign_(torch.zeros_like(factor.raw))
        held = max(1, self.sizes.n_features // 2)
        for coupling, _ in self._steps():  # hidden units that bend in different places
            coupling.A.assign_((2 * self.uniform(coupling.A) - 1) * BEND * (3 / held) ** 0.5)
            coupling.A_bias.assign_((2 * self.uniform(coupling.A_bias) - 1) * BEND)
        x = batch.x.double()
        self.centre.copy_(x.mean(0) + self.dequantise / 2)
        spread = (x.var(0, correction=0) + self.dequantise**2 / 12).sqrt()
        self.spread.copy_(spread)

    def _check(self, batch: Batch) -> None:
        if batch.mask is not None:
            raise UserError(
                "model=flow needs every entry of a row: leave the mask out, or fill X in"
            )
        same = (batch.x == batch.x[:1]).all(0)
        if bool(same.any()) and not self.dequantise:
            raise UserError(
                f"{int(same.sum())} features have the same value in all rows (the first: number "
                f"{int(same.nonzero()[0]) + 1}), and there is no density of that: leave them out, or set "
                "model.dequantise=1"
            )

    def remarks(self, batch: Batch) -> Iterator[str]:
        if not self.dequantise and bool((batch.x == batch.x.round()).all()):
            yield (
                "X holds whole numbers, of which a density can be as high as one likes: set "
                "model.dequantise=1 for a likelihood that means something."
            )

    def scores(
        self, code: Float[Tensor, "*r n k"], batch: Batch, part: Literal["train", "test"]
    ) -> dict[str, float]:
        units = self.sizes.n_features * math.log(self.units.data)
        return {f"{part}/log_likelihood": float(self.log_likelihood(batch).double().mean()) - units}

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Two moons."""
        angle = np.pi * rng.random(60)
        upper = np.arange(60) % 2
        moons = np.column_stack(
            [np.cos(angle) + upper, np.sin(angle) * (1 - 2 * upper) + upper / 2]
        )
        return {"X": moons + 2 + 0.1 * rng.normal(size=(60, 2))}


def _halves(layers: int, features: int, seed: int) -> Float[Tensor, "l 1 f"]:
    """1 for the features that a layer holds: half of them at random, then the others."""
    generator = torch.Generator().manual_seed(seed)
    held = []
    for i in range(layers):
        if i % 2 == 0:
            first = torch.zeros(features)
            first[torch.randperm(features, generator=generator)[: features // 2]] = 1
        held.append(first if i % 2 == 0 else 1 - first)
    return torch.stack(held).unsqueeze(-2)


class _Coupling(nn.Module):
    """Half of the features choose an increasing function of each of the others."""

    def __init__(self, model: Flow, number: int) -> None:
        super().__init__()
        self.A, self.A_bias = _layer(model, "A", number, "feature", "hidden")

    def hidden(self, held: Float[Tensor, "*#r n f"]) -> Float[Tensor, "*r n h"]:
        return torch.tanh(held @ self.A() + self.A_bias())

    def forward(self, y: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The row, and log |det| of every row."""
        raise NotImplementedError

    def inverse(self, y: Tensor, b: Tensor) -> Tensor:
        """The y that it was given."""
        raise NotImplementedError


def _layer(model: Flow, name: str, number: int, rows: str, columns: str) -> tuple[Factor, Factor]:
    """Weights of a layer of the network, and its biases."""
    weights = model.factor(f"{name}{number}", rows, columns, constraint=Free())
    return weights, model.factor(f"{name.lower()}{number}", "one", columns, constraint=Free())


@final
class _Affine(_Coupling):
    """y exp(s) + t."""

    def __init__(self, model: Flow, number: int) -> None:
        super().__init__(model, number)
        self.S, self.S_bias = _layer(model, "S", number, "hidden", "feature")
        self.T, self.T_bias = _layer(model, "T", number, "hidden", "feature")

    def _parts(self, y: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        h = self.hidden(b * y)
        log_scale = STEEPEST * torch.tanh(h @ self.S() + self.S_bias())
        return (1 - b) * log_scale, (1 - b) * (h @ self.T() + self.T_bias())

    def forward(self, y: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._parts(y, b)
        return y * log_scale.exp() + shift, log_scale.sum(-1)

    def inverse(self, y: Tensor, b: Tensor) -> Tensor:
        log_scale, shift = self._parts(y, b)
        return (y - shift) * (-log_scale).exp()


@final
class _Spline(_Coupling):
    """A quotient of two parabolas in every bin (Durkan et al. 2019)."""

    def __init__(self, model: Flow, number: int) -> None:
        super().__init__(model, number)
        self.K, self.K_bias = _layer(model, "K", number, "hidden", "knot")

    def _knots(self, y: Tensor, b: Tensor, moved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where bins begin and end, the values there, and the slopes there, of the moved features."""
        features = moved.unsqueeze(-1)
        weights, bias = (
            torch.take_along_dim(part.unflatten(-1, (y.shape[-1], -1)), features, dim=-2)
            for part in (self.K(), self.K_bias())
        )
        raw = self.hidden(b * y) @ weights.flatten(-2) + bias.flatten(-2)
        raw = raw.unflatten(-1, weights.shape[-2:])
        bins = (raw.shape[-1] + 1) // 3
        wide, high, steep = raw.split((bins, bins, bins - 1), dim=-1)
        steepest = -math.log(NARROWEST)
        slopes = (steepest * torch.tanh(steep / steepest)).exp()
        return _ends(wide), _ends(high), nn.functional.pad(slopes, (1, 1), value=1.0)

    def forward(self, y: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        moved = _moved(b)
        at, values, slopes = self._knots(y, b, moved)
        own = torch.take_along_dim(y, moved, dim=-1)
        inside = own.abs() < BOX
        (x0, x1), (y0, y1), (d0, d1) = _bin(torch.where(inside, own, 0), at, at, values, slopes)
        s = (y1 - y0) / (x1 - x0)
        xi = (torch.where(inside, own, 0) - x0) / (x1 - x0)
        rest = xi * (1 - xi)
        below = s + (d0 + d1 - 2 * s) * rest
        value = y0 + (y1 - y0) * (s * xi.square() + d0 * rest) / below
        slope = s.square() * (d1 * xi.square() + 2 * s * rest + d0 * (1 - xi).square())
        log_slope = slope.log() - 2 * below.log()
        row = _put(y, moved, torch.where(inside, value, own))
        return row, torch.where(inside, log_slope, 0).sum(-1)

    def inverse(self, y: Tensor, b: Tensor) -> Tensor:
        moved = _moved(b)
        at, values, slopes = self._knots(y, b, moved)
        own = torch.take_along_dim(y, moved, dim=-1)
        inside = own.abs() < BOX
        (x0, x1), (y0, y1), (d0, d1) = _bin(torch.where(inside, own, 0), values, at, values, slopes)
        s = (y1 - y0) / (x1 - x0)
        up = torch.where(inside, own, 0) - y0
        bend = up * (d0 + d1 - 2 * s)
        second = (y1 - y0) * (s - d0) + bend
        first = (y1 - y0) * d0 - bend
        root = (first.square() + 4 * second * s * up).clamp(min=0).sqrt()
        xi = 2 * s * up / (first + root)
        return _put(y, moved, torch.where(inside, x0 + xi * (x1 - x0), own))


def _moved(b: Float[Tensor, "*r 1 f"]) -> Int[Tensor, "*r 1 m"]:
    """The features that a layer does not hold, of which every restart has as many."""
    number = int((b == 0).sum(-1).flatten()[0])
    return b.argsort(dim=-1, stable=True)[..., :number]


def _put(y: Tensor, moved: Tensor, values: Tensor) -> Tensor:
    """The rows with these values of the moved features."""
    return y.expand(*values.shape[:-1], -1).scatter(-1, moved.expand(values.shape), values)


def _ends(raw: Float[Tensor, "*r n f m"]) -> Float[Tensor, "*r n f m1"]:
    """Where bins begin and end: they fill the box."""
    shares = NARROWEST + (1 - NARROWEST * raw.shape[-1]) * raw.softmax(-1)
    return nn.functional.pad(2 * BOX * shares.cumsum(-1), (1, 0)) - BOX


def _bin(
    y: Tensor, where: Tensor, *ends: Float[Tensor, "*r n f m1"]
) -> list[tuple[Tensor, Tensor]]:
    """What each of ``ends`` is on the left and on the right of the bin of ``where`` that holds y."""
    inner = where[..., 1:-1].contiguous()
    left = torch.searchsorted(inner, y.unsqueeze(-1).expand(*inner.shape[:-1], 1), right=True)
    return [
        (end.gather(-1, left).squeeze(-1), end.gather(-1, left + 1).squeeze(-1)) for end in ends
    ]
