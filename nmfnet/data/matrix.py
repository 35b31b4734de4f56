"""One data matrix with its names: what every source returns and every split and loader takes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from nmfnet.data.formats.covariates import Design
from nmfnet.data.formats.raw import is_sparse
from nmfnet.data.sound import Sound
from nmfnet.errors import UserError

__all__ = ["KINDS", "Kind", "Matrix", "Reference", "Truth"]

Kind = Literal["generic", "image", "sbs96", "sound", "text"]
KINDS: tuple[str, ...] = get_args(Kind)

BLOCK = 250_000
"""Entries that are looked at together: they fit into the cache."""


@dataclass(frozen=True)
class Reference:
    """Known components to compare with, on the features of the matrix.

    Attributes
    ----------
    values : ndarray of float64, shape (n_references, n_features)
        One reference component per row, columns in the order of the matrix.
    names : list of str
        Names of the rows.
    content : ndarray of float64, shape (n_references,), or None
        How much of X a unit of each makes, > 0; None = all alike.
    always : ndarray of bool, shape (n_references,), or None
        Which of them every sample may have, whatever a rule says of it; None = none.
    """

    values: np.ndarray
    names: list[str]
    content: np.ndarray | None = None
    always: np.ndarray | None = None


@dataclass(frozen=True)
class Truth:
    """The factors that made the matrix (planted and simulated data), or the known weights alone.

    Attributes
    ----------
    W : ndarray of float64, shape (n_samples, n_components)
    H : ndarray of float64, shape (n_components, n_features), or None
    names : list of str
        Names of the components.
    """

    W: np.ndarray
    H: np.ndarray | None
    names: list[str]


@dataclass(frozen=True)
class Matrix:
    """Data matrix in the orientation of the whole package: samples in rows, features in columns.

    Attributes
    ----------
    values : ndarray or scipy.sparse.csr_matrix, float64, shape (n_samples, n_features)
        Entries that are not observed hold 0. An array from memory is float32 if that holds it exactly.
    sample_names, feature_names : list of str
        Unique names of the rows and of the columns.
    kind : {"generic", "image", "sbs96", "sound", "text"}
        What the features are; decides how components are drawn.
    image_shape : tuple (height, width) or None
        For images stored row by row.
    labels : ndarray of int64, shape (n_samples,), or None
        Class of each sample, an index into ``label_names``; -1 where unknown.
    label_names : list of str or None
    mask : ndarray of bool or of float64, or csr_matrix of bool, shape of ``values``, or None
        True = observed, or weights >= 0 of which 0 = not observed; None = everything observed.
        Sparse beside sparse values, and only there: the entries it stores are the observed ones.
    uncertain : bool
        Whether the mask is 1/u² of known uncertainties u, so that residuals can be measured in u.
    reference : Reference or None
    predefined_test : ndarray of int64 or None
        Rows of the published test set.
    truth : Truth or None
    hierarchy : dict of str to ndarray of int64, shape (n_samples,)
        Nested classifications from fine to coarse, by name (``labels`` is one of them); -1 where
        unknown. Empty without any.
    extra : dict of str to ndarray, shape (n_samples, ...)
        Whatever else has a row per sample: ``covariates`` (n_samples, c), ``size``.
    design : Design or None
        What the columns of the covariates are.
    phenotypes : dict of str to ndarray, shape (n_samples,)
        What components may go with, and no model reads: float64, NaN where unknown, or text, "" where
        unknown.
    views : dict of str to Matrix
        Further matrices of the same samples, by name; ``values`` is the view called ``x``.
    graph : scipy.sparse.csr_matrix or None, shape (n_samples, n_samples)
        Links between the samples, symmetric, >= 0.
    sound : Sound or None
        The wave of which X is the spectrogram: rows are frames, in order.
    times : scipy.sparse.csr_matrix or None, shape (n_samples, n_features)
        When every observed entry was made, larger = later; stored where it is known.
    sources : dict of str to str
        File name -> sha256 of every file that was read.
    citation : str
    remarks : tuple of str
        What the reader did that the user should know.
    """

    values: Any
    sample_names: list[str]
    feature_names: list[str]
    kind: str = "generic"
    image_shape: tuple[int, int] | None = None
    labels: np.ndarray | None = None
    label_names: list[str] | None = None
    mask: Any = None
    uncertain: bool = False
    reference: Reference | None = None
    predefined_test: np.ndarray | None = None
    truth: Truth | None = None
    hierarchy: dict[str, np.ndarray] = field(default_factory=dict)
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    design: Design | None = None
    phenotypes: dict[str, np.ndarray] = field(default_factory=dict)
    views: dict[str, Matrix] = field(default_factory=dict)
    graph: Any = None
    times: Any = None
    sound: Sound | None = None
    sources: dict[str, str] = field(default_factory=dict)
    citation: str = ""
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Sort sparse parts, in copies: scipy would sort them in place as soon as it compares any."""
        for name in ("values", "mask", "graph", "times"):
            held = getattr(self, name)
            if is_sparse(held) and not held.has_canonical_format:
                held = held.copy()
                held.sum_duplicates()
                object.__setattr__(self, name, held)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, n_features)."""
        n, f = self.values.shape
        return int(n), int(f)

    @property
    def is_sparse(self) -> bool:
        """Whether ``values`` is a scipy CSR matrix."""
        return is_sparse(self.values)

    @property
    def is_its_graph(self) -> bool:
        """Whether X says of links what the graph says: beside its diagonal it has entries for them alone.

        It may have them in one direction only.
        """
        if self.graph is None or self.graph.shape != self.values.shape:
            return False
        there = self.values != 0
        if there.sum() > self.graph.nnz + self.shape[0]:
            return False
        rows, columns = there.nonzero()
        apart = rows != columns
        return bool(apart.any()) and bool((self.graph[rows[apart], columns[apart]] != 0).all())

    def classes(self, rows: np.ndarray) -> dict[str, list[str]]:
        """The level of every covariate in text that some samples have."""
        if self.design is None:
            return {}
        return self.design.classes(self.extra["covariates"][rows])

    def check(self) -> None:
        """Refuse what no model can take.

        Raises
        ------
        UserError
            Empty, infinite or NaN values, duplicate names, wrong lengths, samples without any observed
            entry in any view, features without one; with counts and the first offending name.
        """
        self._check_table()
        for name, view in self.views.items():
            try:
                view._check_table()
            except UserError as error:
                raise UserError(f"View {name!r}: {error}") from error
            if view.shape[0] != self.shape[0]:
                raise UserError(
                    f"The view {name!r} has {view.shape[0]} samples, X has {self.shape[0]}."
                )
        seen = [np.asarray(m.sum(1)).ravel() for m in self._masks() if m is not None]
        if len(seen) == 1 + len(self.views):
            _refuse_unseen(np.sum(seen, 0), "sample", self.sample_names)
        self._check_extras()

    def _masks(self) -> list[Any]:
        return [self.mask, *(view.mask for view in self.views.values())]

    def _check_table(self) -> None:
        n, f = self.shape
        if n == 0 or f == 0:
            raise UserError(f"The data matrix is empty: {n} samples x {f} features.")
        _check_names(self.sample_names, n, "sample")
        _check_names(self.feature_names, f, "feature")
        self._check_finite()
        self._check_mask()

    def _check_finite(self) -> None:
        stored = self.values.data if self.is_sparse else self.values
        for test, word, advice in (
            (np.isnan, "NaN (missing)", "Fill them, or say data.missing=mask to leave them out."),
            (np.isinf, "infinite", "Replace them by finite numbers."),
        ):
            bad = test(stored)
            count = int(np.count_nonzero(bad))
            if count == 0:
                continue
            row, column = _first(self.values, bad)
            raise UserError(
                f"{count} of {self.shape[0] * self.shape[1]} values are {word}; the first is in "
                f"sample {self.sample_names[row]!r}, feature {self.feature_names[column]!r}. "
                f"{advice}"
            )

    def _check_mask(self) -> None:
        if self.mask is None:
            return
        if self.mask.shape != self.values.shape:
            raise UserError(
                f"The mask is {_by(self.mask.shape)} but the data are {_by(self.shape)} "
                "(samples x features). Both need the same shape and orientation."
            )
        if is_sparse(self.mask) != self.is_sparse:
            one, other = ("sparse", "dense") if self.is_sparse else ("dense", "sparse")
            raise UserError(
                f"The mask is {other} but the data are {one}: give both dense, or both sparse."
            )
        if self.mask.dtype != bool:
            self._check_weights()
        _refuse_unseen(np.asarray(self.mask.sum(0)).ravel(), "feature", self.feature_names)

    def _check_weights(self) -> None:
        if self.is_sparse:
            raise UserError("A sparse matrix takes a mask of True and False, not weights.")
        bad = int((~(np.isfinite(self.mask) & (self.mask >= 0))).sum())
        if bad:
            raise UserError(
                f"{bad} of {self.mask.size} weights are NaN, infinite or negative; a weight is a "
                "number >= 0, and 0 means not observed."
            )

    def _check_extras(self) -> None:
        n, f = self.shape
        if self.kind not in KINDS:
            raise UserError(f"kind={self.kind!r} is unknown. Allowed: {', '.join(KINDS)}.")
        if self.labels is not None and self.labels.shape != (n,):
            raise UserError(
                f"There are {self.labels.size} labels for {n} samples; one each is needed."
            )
        for name, labels in self.hierarchy.items():
            if labels.shape != (n,):
                raise UserError(
                    f"There are {labels.size} labels of the level {name!r} for {n} samples; one "
                    "each is needed."
                )
        for name, rows in self.extra.items():
            if len(rows) != n:
                raise UserError(f"There are {len(rows)} rows of {name} for {n} samples.")
            if not np.isfinite(rows).all():
                raise UserError(f"{name} has NaN or infinite values.")
        if self.graph is not None and self.graph.shape != (n, n):
            raise UserError(
                f"The graph is {_by(self.graph.shape)}, but it must be square with a row for each of the "
                f"{n} samples."
            )
        if self.image_shape is not None and self.image_shape[0] * self.image_shape[1] != f:
            height, width = self.image_shape
            raise UserError(
                f"image_shape={height}x{width} means {height * width} features, but the data have "
                f"{f}."
            )

    def notes(self) -> list[str]:
        """What is said but not refused: remarks, zero rows and columns, constant columns."""
        said = list(self.remarks)
        values = self.values
        zero_rows, zero_columns, flat = _empty(values)
        said += _note(
            np.flatnonzero(zero_rows), self.sample_names, "samples are zero in every feature"
        )
        said += _note(
            np.flatnonzero(zero_columns), self.feature_names, "features are zero in every sample"
        )
        if self.mask is None and self.shape[0] > 1:
            constant = np.flatnonzero(flat & ~zero_columns)
            said += _note(constant, self.feature_names, "features have one value in all samples")
        return said

    def unlearned(self, rows: np.ndarray) -> list[str]:
        """What is said of features that are observed in other samples than these alone."""
        if self.mask is None:
            return []
        seen = np.asarray(self.mask[rows].sum(0)).ravel()
        text = "features are observed in held-out samples alone, so nothing is learned of them"
        return _note(np.flatnonzero(seen == 0), self.feature_names, text)

    def _others(self) -> list[Any]:
        views = [part for view in self.views.values() for part in (view.values, view.mask)]
        whole = [held for held in (self.graph, self.times) if held is not None]
        return [*self.extra.values(), *views, *whole]

    def fingerprint(self) -> str:
        """sha256 over values, mask, labels and names: changes when any of them changes."""
        digest = hashlib.sha256(repr((self.shape, self.is_sparse)).encode())
        for part in (self.values, self.mask, self.labels, *self._others()):
            for array in _arrays(part):
                digest.update(f"{array.dtype.kind}{array.shape}".encode())
                kind = "<f8" if array.dtype.kind == "f" else array.dtype.newbyteorder("<")
                for rows in _blocks(array):  # however it is held, the same numbers are the same
                    digest.update(np.ascontiguousarray(array[rows].astype(kind, copy=False)).data)
        for names in (self.sample_names, self.feature_names, self.label_names or []):
            digest.update("\0".join([str(len(names)), *names]).encode())
        return digest.hexdigest()


def _arrays(part: Any) -> Iterable[np.ndarray]:
    """The arrays that say what ``part`` holds, independent of how it is stored."""
    if part is None:
        return (np.zeros(0),)
    if not is_sparse(part):
        return (np.asarray(part),)
    return part.indptr.astype(np.int64), part.indices.astype(np.int64), part.data


def _refuse_unseen(seen: np.ndarray, word: str, names: Sequence[str]) -> None:
    unseen = np.flatnonzero(seen == 0)
    if unseen.size:
        raise UserError(
            f"{unseen.size} of {len(names)} {word}s have no observed value at all (first: "
            f"{names[unseen[0]]!r}), so nothing can be learnt about them. Leave them out."
        )


def _check_names(names: Sequence[str], count: int, word: str) -> None:
    if len(names) != count:
        raise UserError(
            f"There are {len(names)} {word} names for {count} {word}s; one each is needed."
        )
    if len(set(names)) == count:
        if not all(map(str.strip, names)):
            empty = next(i for i, name in enumerate(names) if not name.strip())
            raise UserError(
                f"The {word} number {empty + 1} of {count} has an empty name: every {word} needs "
                "a name of its own."
            )
        return
    seen: set[str] = set()
    repeated = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    first = repeated[0]
    shown = "the empty name" if not first.strip() else repr(first)
    raise UserError(
        f"{len(repeated)} {word} names occur more than once; the first is {shown} "
        f"({list(names).count(first)} times). Rename, merge or remove the repeats: every {word} "
        "needs its own name."
    )


def _first(values: Any, bad: np.ndarray) -> tuple[int, int]:
    """Row and column of the first True; ``bad`` runs over the stored values when sparse."""
    if not is_sparse(values):
        row, column = np.argwhere(bad)[0]
        return int(row), int(column)
    position = int(np.flatnonzero(bad)[0])
    row = int(np.searchsorted(values.indptr, position, side="right")) - 1
    return row, int(values.indices[position])


def _empty(values: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rows are zero, which columns are, and which columns have one value."""
    n, f = values.shape
    zero_rows, zero_columns = np.ones(n, bool), np.ones(f, bool)
    low, high = np.full(f, np.inf), np.full(f, -np.inf)
    for rows in _blocks(values):
        part = values if is_sparse(values) else values[rows]
        some = part != 0
        zero_rows[rows] = ~_dense_row(some.max(1))
        zero_columns &= ~_dense_row(some.max(0))
        low = np.minimum(low, _dense_row(part.min(0)))
        high = np.maximum(high, _dense_row(part.max(0)))
    return zero_rows, zero_columns, np.equal(low, high)


def _blocks(array: Any) -> Iterator[slice]:
    """Slices over the rows of a matrix, each of at most BLOCK entries; a sparse one as a whole."""
    n = array.shape[0]
    width = 1 if array.ndim == 1 else array.shape[1]
    step = max(1, n if is_sparse(array) else BLOCK // max(1, width))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _dense_row(row: Any) -> np.ndarray:
    return np.asarray(row.todense() if is_sparse(row) else row).ravel()


def _by(shape: Iterable[int]) -> str:
    return " x ".join(str(int(size)) for size in shape)


def _note(where: np.ndarray, names: Sequence[str], text: str) -> list[str]:
    if where.size == 0:
        return []
    return [f"{where.size} of {len(names)} {text} (first: {names[int(where[0])]})."]
