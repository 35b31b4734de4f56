"""AutoRec: a masked autoencoder of the ratings of every item, or of every user."""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np
import torch

from nmfnet.core.constraints import Free
from nmfnet.core.model import Factorization, Parts
from nmfnet.core.objective import row_losses
from nmfnet.kernels.graph import times_weights
from nmfnet.kernels.sparse import (
    Transpose,
    entries_of,
    row_numbers,
    transpose_of,
    transposed,
    with_values,
)
from nmfnet.models._listed import (
    biases_of,
    check_squares,
    listed,
    listed_losses,
    ridge_codes,
    shrunk_means,
    some_of_each,
)
from nmfnet.settings.ranges import NotNegative
from nmfnet.types import Batch, Float, Tensor

SIZE = 0.05
"""Deviation of the weights at the start."""


@final
class AutoRec(Factorization):
    r"""X ~ mu + b + c + W tanh(Vᵀ E + a), E = X - mu - b - c where it is listed and 0 elsewhere.

    ======  ==========================================  ===========  ========================
    symbol  meaning                                     code         shape
    ======  ==========================================  ===========  ========================
    X       ratings, or other values of listed pairs    ``batch.x``  n_samples, n_features
    mu      mean of the listed entries, held            ``mu``       1, 1
    b       bias of each sample (user), held            ``b``        n_samples, 1
    c       bias of each feature (item), held           ``c``        1, n_features
    V       encoder (``by: item``)                      ``V``        n_components, n_samples
    W       decoder (``by: item``)                      ``W``        n_samples, n_components
    V       encoder (``by: user``)                      ``V``        n_features, n_components
    W       decoder (``by: user``)                      ``W``        n_components, n_features
    a       biases of the hidden units                  ``a``        1, n_components
    ======  ==========================================  ===========  ========================

    With ``by: item`` the network reads a column of E, what all users left of an item beyond the biases,
    and says of it what every user would; the equation above is that one. With ``by: user`` it reads a
    row: ``X ~ mu + b + c + tanh(E V + a) W``. An entry that is not listed is 0 in E, where 0 is what the
    biases say, and costs nothing. The objective is ``½ Σ w_uv (x_uv - x̂_uv)² + ½ l2 (|V|² + |W|²)`` over
    the listed entries.

    The code of a row is (W, b), which multiplies the hidden units of the items and a row of ones; by
    user (hidden units, b). A new row has the bias that its own entries have around mu + c; by item its W
    is the ridge regression on the hidden units, which are kept.

    Parameters
    ----------
    n_components : int, >= 1
        Hidden units.
    by : {"item", "user"}
        Whether the network reads columns or rows.
    l2 : float, >= 0
        Of V and W, relative to the squared error of one entry.
    l2_bias : float, >= 0
        Of b and c, likewise.

    Source: Sedhain, Menon, Sanner & Xie 2015, "AutoRec: autoencoders meet collaborative filtering",
    eqs. (1) and (2).

    Differs from the source: what is read and added to are biases of users and of items, where the source
    reads the ratings and learns a bias for each output; the hidden units are tanh, which is 0 at 0.
    """

    sparse = True
    code = "real"
    linear = False
    multilinear = False  # type: ignore[assignment]

    def __init__(
        self,
        parts: Parts,
        *,
        n_components: int = 20,
        by: Literal["item", "user"] = "item",
        l2: NotNegative = 100.0,
        l2_bias: NotNegative = 5.0,
    ) -> None:
        super().__init__(parts, n_components=n_components)
        check_squares(parts)
        self.by_item, self.l2, self.l2_bias = by == "item", l2, l2_bias
        self.inductive = not self.by_item
        self.shardable = self.inductive
        free = Free()
        ends = ("component", "sample") if self.by_item else ("feature", "component")
        self.V = self.factor("V", *ends, constraint=free)
        ends = ("sample", "component") if self.by_item else ("component", "feature")
        self.W = self.factor("W", *ends, constraint=free)
        self.a = self.factor("a", "one", "component", constraint=free)
        self.mu = self.factor("mu", "one", "one", constraint=free)
        self.c = self.factor("c", "one", "feature", constraint=free)
        held = [self.mu, self.c]
        if self.by_item:
            self.b = self.factor("b", "sample", "one", constraint=free)
            held.append(self.b)
            # what the network says of the items depends on the training rows: kept for a saved model
            size = (self.n_restarts, n_components, parts.sizes.n_features)
            self.register_buffer("units_of_items", torch.zeros(size))
            self.units_of_items: Tensor
        for factor in held:
            factor.freeze()
        self.left: tuple[Tensor, Transpose] | None = None  # of the columns, while there are rows

    # ------------------------------------------------------------------ the model
    def encode(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        if self.by_item:
            return torch.cat([self.W(), self.b()], -1)[..., batch.index, :]
        x, b = self._residual(batch)
        pattern = transpose_of(x) if torch.is_grad_enabled() else None
        hidden = torch.tanh(times_weights(x, self.V(), pattern) + self.a())
        return torch.cat([hidden, b.expand(*hidden.shape[:-1], 1)], -1)

    def decode(self, W: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n f"]:
        return W @ self.components() + self.level()

    def decode_at(self, code: Float[Tensor, "*r n k"], batch: Batch) -> Float[Tensor, "*r e"]:
        code = torch.cat([code, torch.ones_like(code[..., :1])], -1)
        return entries_of(batch.x, code, torch.cat([self.components(), self.level()], -2))

    def components(self) -> Float[Tensor, "*r k f"]:
        H = self._of_items() if self.by_item else self.W()
        return torch.cat([H, torch.ones_like(H[..., :1, :])], -2)

    def level(self) -> Float[Tensor, "*r 1 f"]:
        """What is said of every row alike, mu + c."""
        return self.mu() + self.c()

    def _of_items(self) -> Float[Tensor, "*r k f"]:
        """Hidden units of every item."""
        if self.left is None:
            return self.units_of_items
        columns, pattern = self.left
        return torch.tanh(times_weights(columns, self.V().mT, pattern) + self.a()).mT

    def _residual(self, batch: Batch) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n 1"]]:
        """E of rows, every entry times its weight, and their biases; the same for every restart."""
        x, weight = listed(batch)
        rows, w = row_numbers(x), weight.values().double()
        mu, c = (held.reshape(-1, held.shape[-1])[0].double() for held in (self.mu(), self.c()))
        values = x.values().double() - mu - c[x.col_indices()]
        b = shrunk_means(values, w, rows, x.shape[0], self.l2_bias)
        left = with_values(x, (w * (values - b[rows])).to(self.precision))
        return left, b[:, None].to(self.precision)

    # ------------------------------------------------------------------ how it is fitted
    def start(self, proposal: dict[str, Tensor], batch: Batch) -> None:
        """Biases at their optimum, and small normal weights."""
        mean, b, c = biases_of(*listed(batch), self.l2_bias)
        self.mu.assign_(mean.reshape(1, 1))
        self.c.assign_(c[None])
        for factor in (self.V, self.W, self.a):
            factor.assign_(SIZE * self.normal(factor))
        if self.by_item:
            self.b.assign_(b[:, None])
            x, _ = self._residual(batch)
            pattern = transpose_of(x)
            columns = transposed(x, pattern)
            self.left = columns, transpose_of(columns)

    def end(self, batch: Batch) -> None:
        if self.by_item:
            self.units_of_items.copy_(self._of_items())

    def row_terms(self, batch: Batch) -> dict[str, Float[Tensor, "*r n"]]:
        data = row_losses(self, batch, self.encode(batch))
        squares = (self.V().square().sum((-2, -1)) + self.W().square().sum((-2, -1)))[..., None]
        return {
            "data": data,
            "l2": 0.5 * self.l2 / self.sizes.n_samples * squares.expand(data.shape),
        }

    def sparse_losses(self, batch: Batch, code: Float[Tensor, "*r n k"]) -> Float[Tensor, "*r n"]:
        return listed_losses(self, batch, code)

    def infer(self, batch: Batch) -> Float[Tensor, "*r n k"]:
        """By user the encoder; by item the ridge regression of E on the hidden units."""
        if not self.by_item:
            return self.encode(batch)
        x, weight = listed(batch)
        _, b = self._residual(batch)
        level = self.level().reshape(-1, x.shape[1])[0][x.col_indices()] + b[row_numbers(x), 0]
        W = ridge_codes(with_values(x, x.values() - level), weight, self._of_items(), self.l2)
        return torch.cat([W, b.expand(*W.shape[:-1], 1)], -1)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Half of the entries of a matrix of rank 2 with biases."""
        X = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 12)) + rng.normal(size=12)
        mask = some_of_each(rng, 0.5, *X.shape)
        return {"X": X, "mask": mask}
