"""Sources without a file: scikit-learn's digits, planted factors, data in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.frames import as_float64, read_frame
from nmfnet.data.formats.raw import file_sha256, is_sparse, numbered
from nmfnet.data.matrix import Matrix, Truth
from nmfnet.data.sources.source import Source, encode_labels, split_missing
from nmfnet.data.sources.views import joined, without_absent
from nmfnet.errors import UserError

__all__ = ["Digits", "InMemory", "Planted"]


@final
@dataclass(frozen=True)
class Digits(Source):
    """Handwritten digits that scikit-learn carries: 1797 images of 8 x 8 pixels, values 0 to 16.

    Source: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits (UCI; test part).
    """

    def read(self) -> Matrix:
        """The 1797 x 64 matrix with the digit as label; no network."""
        from importlib.resources import files

        from sklearn.datasets import load_digits

        values, target = load_digits(return_X_y=True)
        file = files("sklearn.datasets.data") / "digits.csv.gz"
        return Matrix(
            values.astype(np.float64),
            numbered("digit", len(values)),
            [f"pixel_{row}_{column}" for row in range(8) for column in range(8)],
            kind="image",
            image_shape=(8, 8),
            labels=target.astype(np.int64),
            label_names=[str(digit) for digit in range(10)],
            sources={"sklearn/digits.csv.gz": file_sha256(file)},  # type: ignore[arg-type]
            citation="Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI.",
        )


@final
@dataclass(frozen=True, kw_only=True)
class Planted(Source):
    r"""X = W H with known non-negative W and H, plus noise.

    Entries of W and H are exponential with a share of exact zeros; rows of H sum to 1 and every
    sample, feature and component keeps at least one non-zero entry.

    Parameters
    ----------
    n_samples, n_features, n_components : int, >= 1
    noise : {"none", "poisson", "gaussian"}
        ``gaussian`` is clipped at 0.
    noise_level : float, > 0
        Standard deviation of an entry of average size, relative to that size. Gaussian: the mean of
        W H is 1 and the deviation ``noise_level`` everywhere. Poisson: the mean of W H is
        ``1 / noise_level**2`` counts.
    sparsity : float in [0, 1)
        Share of zeros in W and in H.
    seed : int
        Seed of the generator; the data do not depend on the seed of the training.
    """

    n_samples: int = 200
    n_features: int = 50
    n_components: int = 5
    noise: Literal["none", "poisson", "gaussian"] = "none"
    noise_level: float = 0.1
    sparsity: float = 0.5
    seed: int = 0

    def read(self) -> Matrix:
        """Draw the factors, multiply and add the noise."""
        self._check()
        rng = np.random.default_rng(self.seed)
        W = _factor(rng, self.n_samples, self.n_components, self.sparsity)
        H = _factor(rng, self.n_components, self.n_features, self.sparsity)
        H /= H.sum(1, keepdims=True)
        mean = self.noise_level**-2 if self.noise == "poisson" else 1.0
        W *= mean / (W @ H).mean()
        values = W @ H
        if self.noise == "poisson":
            values = rng.poisson(values).astype(np.float64)
        elif self.noise == "gaussian":
            values = (values + rng.normal(0.0, self.noise_level, values.shape)).clip(0.0)
        names = numbered("component", self.n_components)
        return Matrix(
            values,
            numbered("sample", self.n_samples),
            numbered("feature", self.n_features),
            truth=Truth(W, H, names),
        )

    def _check(self) -> None:
        for name in ("n_samples", "n_features", "n_components"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name}={getattr(self, name)} must be at least 1.")
        if self.noise not in ("none", "poisson", "gaussian"):
            raise UserError(
                f"data.noise={self.noise!r} is unknown. Allowed: none, poisson, gaussian."
            )
        if not self.noise_level > 0:
            raise UserError(
                f"data.noise_level={self.noise_level} must be above 0 (or data.noise=none)."
            )
        if not 0 <= self.sparsity < 1:
            raise UserError(f"data.sparsity={self.sparsity} must lie in [0, 1).")


def _factor(rng: np.random.Generator, rows: int, columns: int, sparsity: float) -> np.ndarray:
    """Exponential entries, zero with probability ``sparsity``, no row or column all zero."""
    keep = rng.random((rows, columns)) >= sparsity
    keep[np.arange(rows), rng.integers(columns, size=rows)] |= ~keep.any(1)
    keep[rng.integers(rows, size=columns), np.arange(columns)] |= ~keep.any(0)
    return rng.exponential(size=(rows, columns)) * keep


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class InMemory(Source):
    """A matrix that is already in memory, samples in rows.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features)
        NumPy array (masked arrays keep their mask), pandas or polars DataFrame, scipy sparse
        matrix, torch tensor, nested lists.
    labels : sequence of length n_samples, optional
        Class of each sample, text or numbers.
    mask : array-like of bool, shape (n_samples, n_features), optional
        True = observed.
    missing : {"error", "mask"}
        Whether NaN is refused or means "not observed".
    sample_names, feature_names : sequence of str, optional
        Override the names of a DataFrame.
    views : mapping of str to array-like, shape (n_samples, ...), optional
        Further matrices of the same samples: joined by name if X and the view have names, else row by
        row. Rows of nothing but NaN, here and in X, are samples that the view lacks.
    """

    X: Any
    labels: Any = None
    mask: Any = None
    missing: Literal["error", "mask"] = "error"
    sample_names: Any = None
    feature_names: Any = None
    views: Mapping[str, Any] | None = None

    def read(self) -> Matrix:
        """Names, values and mask of ``X``, and its views."""
        values, rows, columns, mask = _unpack(self.X)
        if self.views is not None:
            values, mask = without_absent(values, mask)
        names = _texts(self.sample_names, rows, "sample", values.shape[0])
        features = _texts(self.feature_names, columns, "feature", values.shape[1])
        if self.mask is not None:
            given = _unpack(self.mask)[0].astype(bool)
            if mask is not None:
                given = given & mask
            mask = given
        values, mask = split_missing(
            values, mask, self.missing, (names, features), "give mask=~numpy.isnan(X)"
        )
        labels, label_names = None, None
        if self.labels is not None:
            cells = np.asarray(self.labels).ravel()
            labels, label_names = encode_labels([_label(cell) for cell in cells])
        matrix = Matrix(values, names, features, labels=labels, label_names=label_names, mask=mask)
        if self.views is None:
            return matrix
        named = self.sample_names is not None or rows is not None
        views = {name: self._view(name, X, names, named) for name, X in self.views.items()}
        return joined({"x": matrix, **views})

    def _view(self, name: str, X: Any, names: list[str], named: bool) -> Matrix:
        """A view with names of its own, or else those of X."""
        values, rows, _, _ = _unpack(X)
        own = names if rows is None or not named else rows
        if len(own) != values.shape[0]:
            raise UserError(
                f"The view {name!r} has {values.shape[0]} rows and X has {len(names)}: give both as "
                "DataFrames with names to join them by, or put NaN rows where a sample is absent."
            )
        return InMemory(X=X, missing=self.missing, sample_names=own, views={}).read()


def _unpack(X: Any) -> tuple[Any, list[str] | None, list[str] | None, np.ndarray | None]:
    """(values, row names, column names, mask) of anything that looks like a matrix."""
    package = type(X).__module__.split(".")[0]
    if package == "pandas":
        raw = read_frame(X, "X")
        return raw.values, raw.row_names, raw.column_names, None
    if package == "polars":
        return as_float64(X.to_numpy(), "X"), None, [str(name) for name in X.columns], None
    if package == "torch":
        return as_float64(_from_torch(X.detach().cpu()), "X"), None, None, None
    if is_sparse(X):
        return as_float64(X, "X"), None, None, None
    if isinstance(X, np.ma.MaskedArray):
        observed = ~np.ma.getmaskarray(X)
        return as_float64(X.filled(0), "X"), None, None, observed
    try:
        array = np.asarray(X)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"X is not a rectangular table: {error}.") from error
    return as_float64(array, "X"), None, None, None


def _from_torch(tensor: Any) -> Any:
    import torch

    if tensor.layout == torch.strided:
        return tensor.double().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
    csr = tensor if tensor.layout == torch.sparse_csr else tensor.to_sparse_csr()
    arrays = (csr.values(), csr.col_indices(), csr.crow_indices())
    return sp.csr_matrix(tuple(array.numpy() for array in arrays), shape=tuple(csr.shape))


def _texts(given: Any, read: list[str] | None, word: str, count: int) -> list[str]:
    if given is not None:
        return [str(name) for name in given]
    return numbered(word, count) if read is None else read


def _label(cell: Any) -> str:
    return "" if cell is None or cell != cell else str(cell)
