"""Sources without a file: scikit-learn's digits, planted factors, data in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np

from nmfnet.data.formats.memory import (
    Given,
    aligned,
    as_labels,
    as_matrix,
    as_weights,
    masked,
    modalities_of,
    weights_of,
)
from nmfnet.data.formats.raw import as_text, file_sha256, is_sparse, numbered
from nmfnet.data.matrix import Matrix, Truth
from nmfnet.data.sources.source import Source, encode_labels, split_missing, with_covariates
from nmfnet.data.sources.views import joined, without_absent
from nmfnet.errors import UserError

__all__ = ["Digits", "InMemory", "Planted", "new_rows"]


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
        Anything that `as_matrix` reads; masked arrays keep their mask. Of a MuData the first modality is
        X, and the others are views, joined by the names of the samples.
    labels : sequence of length n_samples, optional
        Class of each sample, text or numbers; a Series is joined by its index.
    mask : array-like, shape (n_samples, n_features), optional
        True or 1 = observed, False or 0 = not; or weights >= 0. A DataFrame is joined by its names.
    uncertainty : array-like, shape (n_samples, n_features), optional
        Uncertainties u > 0 instead, in the unit of X: the weights are 1/u².
    missing : {"error", "mask"}
        Whether NaN is refused or means "not observed".
    sample_names, feature_names : sequence of str, optional
        Override the names of a DataFrame.
    layer : str, optional
        Layer of an AnnData; ``"raw"`` is its ``.raw``.
    covariates : DataFrame, mapping of str to sequence, or sequence of length n_samples, optional
        What else is known of each sample (batch, donor): text is one column for each of its levels, and
        numbers are used as they are. A DataFrame is joined by its index.
    views : mapping of str to array-like, shape (n_samples, ...), optional
        Further matrices of the same samples: joined by name if X and the view have names, else row by
        row. Rows of nothing but NaN, here and in X, are samples that the view lacks.
    """

    X: Any
    labels: Any = None
    mask: Any = None
    uncertainty: Any = None
    missing: Literal["error", "mask"] = "error"
    sample_names: Any = None
    feature_names: Any = None
    layer: str | None = None
    covariates: Any = None
    views: Mapping[str, Any] | None = None

    def read(self) -> Matrix:
        """Names, values and mask of ``X``, and its views."""
        modalities = modalities_of(self.X)
        if len(modalities) > 1 and self.views is None:
            return self._of_modalities(modalities)
        given = as_matrix(self.X, layer=self.layer, single=self.views is None)
        if self.views is not None:
            values, seen = without_absent(given.values, given.mask)
            given = given._replace(values=values, mask=seen)
        names = _texts(self.sample_names, given.sample_names, "sample", given.values.shape[0])
        features = _texts(self.feature_names, given.feature_names, "feature", given.values.shape[1])
        weights = self._uncertain(given, names, features)
        values, mask, remarks = _observed(given, weights, self.missing, names, features)
        labels, label_names = None, None
        if self.labels is not None:
            labels, label_names = encode_labels(as_labels(self.labels, names))
        matrix = Matrix(
            values,
            names,
            features,
            labels=labels,
            label_names=label_names,
            mask=mask,
            uncertain=self.uncertainty is not None,
            remarks=(*given.remarks, *remarks),
        )
        if self.covariates is not None:
            matrix = with_covariates(matrix, self.covariates)
        if self.views is None:
            return matrix
        named = self.sample_names is not None or given.sample_names is not None
        views = {name: self._view(name, X, names, named) for name, X in self.views.items()}
        return joined({"x": matrix, **views})

    def _of_modalities(self, modalities: Mapping[str, Any]) -> Matrix:
        """A MuData: its first modality is X, and the others are views."""
        (first, X), *others = modalities.items()
        read = replace(self, X=X, views=dict(others)).read()
        return replace(read, remarks=(*read.remarks, f"X is the modality {first!r}."))

    def _uncertain(self, given: Given, names: list[str], features: list[str]) -> Any:
        """The mask or weights that were given, or those of the uncertainties."""
        if self.uncertainty is None:
            return self.mask
        if self.mask is not None:
            raise UserError(
                "mask and uncertainty both say what an entry counts: give one of them, and X as a "
                "masked array where it is not observed."
            )
        found = as_matrix(self.uncertainty, what="uncertainty")
        u, _ = aligned(found, names, features, "uncertainty")
        absent = given.values if given.mask is None else np.where(given.mask, given.values, np.nan)
        return weights_of(u, absent, names, features, "uncertainty")

    def _view(self, name: str, X: Any, names: list[str], named: bool) -> Matrix:
        """A view with names of its own, or else those of X."""
        given = as_matrix(X, what=f"view {name}")
        own = names if given.sample_names is None or not named else given.sample_names
        if len(own) != given.values.shape[0]:
            raise UserError(
                f"The view {name!r} has {given.values.shape[0]} rows and X has {len(names)}: give both "
                "as DataFrames with names to join them by, or put NaN rows where a sample is absent."
            )
        return InMemory(X=X, missing=self.missing, sample_names=own, views={}).read()


def new_rows(
    X: Any, mask: Any = None, *, like_names: Sequence[str] | None = None
) -> tuple[Any, Any, list[str] | None]:
    """New rows for a fitted model, read exactly as ``fit`` reads X.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features)
        As for `as_matrix`; columns with names are put into the order of ``like_names``.
    mask : array-like, shape (n_samples, n_features), optional
        Observed entries or weights, as for `InMemory`.
    like_names : sequence of str, optional
        Features of the model.

    Returns
    -------
    values : ndarray of float64 or csr_matrix
        0 where not observed; beside a sparse mask it stores exactly the entries of the mask.
    mask : ndarray or csr_matrix of bool, or of float64 (weights), or None
    sample_names : list of str or None

    Raises
    ------
    UserError
        What ``fit`` refuses, too; features that are missing or unknown.
    """
    given = as_matrix(X, like_names=like_names)
    n, f = given.values.shape
    names = given.sample_names or numbered("sample", n)
    features = given.feature_names or numbered("feature", f)
    values, mask, _ = _observed(given, mask, "error", names, features)
    return values if mask is None else masked(values, mask), mask, given.sample_names


def _observed(
    given: Given, mask: Any, missing: str, names: list[str], features: list[str]
) -> tuple[Any, Any, tuple[str, ...]]:
    """Values, mask and remarks, out of X, its own mask and the mask or weights beside it."""
    seen = given.mask
    if mask is not None:
        beside, hidden = aligned(as_matrix(mask, what="mask"), names, features, "mask")
        if hidden is not None and not hidden.all():
            raise UserError(
                f"mask is a masked array that hides {int((~hidden).sum())} of its own entries: "
                "fill them with 1 (observed) or 0."
            )
        weights = as_weights(beside, names, features)
        if seen is None:
            seen = weights
        else:
            weights = weights.toarray() if is_sparse(weights) else weights
            seen = np.where(seen, weights, weights.dtype.type(0))
    return split_missing(
        given.values, seen, missing, (names, features), "give mask=~numpy.isnan(X)"
    )


def _texts(given: Any, read: list[str] | None, word: str, count: int) -> list[str]:
    if given is not None:
        return [as_text(name) for name in given]
    return numbered(word, count) if read is None else read
