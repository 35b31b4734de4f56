"""What is held out: nothing, samples, halves of documents, single entries, labels, links, ..."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.raw import is_sparse
from nmfnet.data.matrix import Matrix
from nmfnet.errors import UserError

__all__ = [
    "ColdSplit",
    "CompletionSplit",
    "EntrySplit",
    "LabelSplit",
    "LinkSplit",
    "NoSplit",
    "Partition",
    "PredefinedSplit",
    "RowSplit",
    "Split",
    "TimeSplit",
    "only",
    "without",
]


@dataclass(frozen=True)
class Partition:
    """Result of a split.

    Attributes
    ----------
    train_rows, test_rows : ndarray of int64
        Ascending row numbers of the matrix; disjoint, together all of them. ``test_rows`` is empty
        when no samples are held out.
    held_out : ndarray of bool or csr_matrix of bool, shape (n_samples, n_features), or None
        True where a single entry is kept from the training.
    hidden_labels : ndarray of int64
        Training rows whose label is kept from the training.
    graph : scipy.sparse.csr_matrix or None, shape (n_samples, n_samples)
        The links that are trained on; None = all that the matrix has.
    pairs : dict of str to tuple of ndarray of int64, each of shape (m, 2)
        By part (``val``, ``test``): pairs of samples that are linked, and as many that are not.
    predicted : ndarray or csr_matrix, shape (n_samples, n_features), or None
        Counts of the test rows that no model sees: they are taken away from X.
    smoothing : float in [0, 1)
        Weight of the training words' shares in what predicts these counts.
    remarks : tuple of str
        What the user should know of the split.
    """

    train_rows: np.ndarray
    test_rows: np.ndarray
    held_out: Any = None
    hidden_labels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    graph: Any = None
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    predicted: Any = None
    smoothing: float = 0.0
    remarks: tuple[str, ...] = ()


class Split(ABC):
    """A way to hold data out."""

    @abstractmethod
    def __call__(self, matrix: Matrix, seed: int) -> Partition:
        """Partition a matrix; the same seed gives the same partition.

        Raises
        ------
        UserError
            Options out of range, or a matrix that cannot be split this way.
        """


@final
@dataclass(frozen=True)
class NoSplit(Split):
    """Train on everything."""

    def __call__(self, matrix: Matrix, seed: int) -> Partition:
        """All rows are training rows."""
        return Partition(np.arange(matrix.shape[0]), np.zeros(0, dtype=np.int64))


@final
@dataclass(frozen=True, kw_only=True)
class RowSplit(Split):
    """Hold out whole samples.

    Parameters
    ----------
    test_fraction : float in (0, 1)
    stratify : bool
        Keep the share of every class (largest remainders); needs labels. Samples without a class
        form a class of their own, and a class with one sample is never held out.
    """

    test_fraction: float = 0.2
    stratify: bool = False

    def __call__(self, matrix: Matrix, seed: int) -> Partition:
        """Draw ``round(test_fraction * n_samples)`` test rows, at least 1 and at most n - 1."""
        _check_fraction("split.test_fraction", self.test_fraction)
        n = matrix.shape[0]
        if n < 2:
            raise UserError(f"split=rows needs at least 2 samples; the data have {n}.")
        count = min(max(round(self.test_fraction * n), 1), n - 1)
        rng = np.random.default_rng(seed)
        if not self.stratify:
            return _from_test_rows(n, rng.permutation(n)[:count])
        if matrix.labels is None:
            raise UserError(
                "split.stratify=true needs labels, and the data have none. Name the class column "
                "(data.label_column=...), or set split.stratify=false."
            )
        test = _stratified(matrix.labels, count, rng)
        if test.size == 0:
            raise UserError(
                "split.stratify=true: every class has a single sample, so none can be held out. "
                "Set split.stratify=false."
            )
        return _from_test_rows(n, test)


@final
@dataclass(frozen=True, kw_only=True)
class CompletionSplit(Split):
    """Document completion: hold out documents, and predict one half of their words from the other.

    Of every test document half of the words, drawn without replacement (the larger half of an odd
    number), are what the model sees and infers a code from; the others are predicted. How well is
    ``test/perplexity``, whose definition the smoothing is a part of (see
    ``nmfnet.metrics.perplexity``). The test documents are those of ``split=rows`` with the same seed.

    Parameters
    ----------
    test_fraction : float in (0, 1)
    smoothing : float in [0, 1)
        Weight of the training words' shares in every prediction, the same for every model.

    Source: Wallach et al. 2009, "Evaluation methods for topic models", section 5 (document completion);
    Rosen-Zvi et al. 2004 (halves of documents).
    """

    test_fraction: float = 0.2
    smoothing: float = 0.01

    def __call__(self, matrix: Matrix, seed: int) -> Partition:
        """Draw the test rows as ``split=rows`` does, then the halves from a stream of their own."""
        if not 0 <= self.smoothing < 1:
            raise UserError(f"split.smoothing={self.smoothing} must be at least 0 and below 1.")
        _check_counts(matrix)
        whole = RowSplit(test_fraction=self.test_fraction)(matrix, seed)
        rng = np.random.default_rng([seed, 1])
        values = sp.csr_matrix(matrix.values)
        values.sum_duplicates()
        held = np.zeros(values.nnz)
        words = np.zeros(whole.test_rows.size, dtype=np.int64)
        for i, row in enumerate(whole.test_rows):
            at = slice(values.indptr[row], values.indptr[row + 1])
            counts = values.data[at].astype(np.int64)
            words[i] = counts.sum()
            if words[i] > 1:
                held[at] = rng.multivariate_hypergeometric(
                    counts, words[i] // 2, method="marginals"
                )
        predicted = sp.csr_matrix((held, values.indices, values.indptr), values.shape, copy=True)
        predicted.eliminate_zeros()
        if predicted.nnz == 0:
            raise UserError(
                "split=completion: no test document has two words, so none can be completed. Raise "
                "split.test_fraction, or use split=none."
            )
        short = int((words < 2).sum())
        remark = (
            f"{short} of {words.size} test documents have fewer than two words, so nothing of them is "
            "predicted."
        )
        return replace(
            whole,
            predicted=predicted if matrix.is_sparse else predicted.toarray(),
            smoothing=self.smoothing,
            remarks=(remark,) if short else (),
        )


def _check_counts(matrix: Matrix) -> None:
    """Refuse what has no words that could be drawn."""
    stored = matrix.values.data if matrix.is_sparse else matrix.values
    if matrix.mask is not None:
        raise UserError(
            "split=completion halves whole documents, and entries of X are missing or weighted: use "
            "split=entries."
        )
    if matrix.views:
        raise UserError(
            "split=completion halves the words of X alone, and the data have views: use split=rows."
        )
    if (stored < 0).any():
        raise UserError(
            f"split=completion halves counts, and {int((stored < 0).sum())} values of X are negative: "
            "use split=rows."
        )
    if (bad := stored != np.floor(stored)).any():
        raise UserError(
            f"split=completion halves counts, and {int(bad.sum())} values of X are fractions (the first "
            f"is {stored[bad][0]:g}): give counts (data.weighting=count of data=text), or use split=rows."
        )


@final
@dataclass(frozen=True, kw_only=True)
class EntrySplit(Split):
    """Hold out single entries (speckled), so that every sample and feature stays in training.

    One observed entry of each row and one of each column, drawn at random, are never held out.

    Parameters
    ----------
    fraction : float in (0, 1)
        Share of the observed entries.
    """

    fraction: float = 0.1

    def __call__(self, matrix: Matrix, seed: int) -> Partition:
        """Draw ``round(fraction * observed)`` entries, or as many as may be held out."""
        _check_fraction("split.fraction", self.fraction)
        if matrix.is_its_graph:
            raise UserError(
                "split=entries holds a link out in one direction and leaves the other in the training, "
                "and X is a graph: use split=links."
            )
        rng = np.random.default_rng(seed)
        rows, columns = _observed(matrix)
        free = np.ones(rows.size, dtype=bool)
        order = rng.permutation(rows.size)
        for axis in (rows, columns):  # first in a random order = a random entry of each line
            free[order[np.unique(axis[order], return_index=True)[1]]] = False
        candidates = np.flatnonzero(free)
        count = min(max(round(self.fraction * rows.size), 1), candidates.size)
        if count == 0:
            raise UserError(
                f"split=entries: none of the {rows.size} observed entries can be held out without "
                "emptying a sample or a feature."
            )
        chosen = rng.choice(candidates, size=count, replace=False)
        return _entries_out(matrix, rows[chosen], columns[chosen])


@final
@dataclass(frozen=True, kw_only=True)
class TimeSplit(Split):
    """Hold out the latest entries: what is predicted lies in the future of all that is learned.

    Rows and columns that have no earlier entry are left with none.

    Parameters
    ----------
    fraction : float in (0, 1)
        Share of the observed entries.
    by : {"all", "row"}
        The latest of all entries, or of the entries of each row (a row keeps its first).
    """

    fraction: float = 0.1
    by: Literal["all", "row"] = "all"

    def __call__(self, matrix: Matrix, seed: int) -> Partition:
        """The latest ``round(fraction * observed)``, at least 1; the seed decides between equal times."""
        _check_fraction("split.fraction", self.fraction)
        if self.by not in ("all", "row"):
            raise UserError(f"split.by={self.by!r} is unknown. Allowed: all, row.")
        if matrix.times is None:
            raise UserError(
                "split=time needs to know when each entry was made, and the data do not say: name the "
                "column (data=triples data.time=...), or use split=entries."
            )
        rows, columns = _observed(matrix)
        when = np.asarray(matrix.times[rows, columns]).ravel()
        chance = np.random.default_rng(seed).permutation(rows.size)
        if self.by == "all":
            count = min(max(round(self.fraction * rows.size), 1), rows.size - 1)
            chosen = np.lexsort((chance, when))[rows.size - count :]
        else:
            order = np.lexsort((chance, when, rows))
            counts = np.bincount(rows, minlength=matrix.shape[0])
            place = np.arange(rows.size) - np.repeat(counts.cumsum() - counts, counts)
            own = np.repeat(counts, counts)
            last = np.minimum(np.maximum(np.round(self.fraction * own), 1), own - 1)
            chosen = order[place >= own - last]
        if chosen.size == 0:
            raise UserError(
                f"split=time holds out the latest entries, and split.by={self.by} needs two entries "
                f"{'of a row' if self.by == 'row' else 'at least'}, which the data do not have: use "
                "split=none"
            )
        return _entries_out(matrix, rows[chosen], columns[chosen])


@final
@dataclass(frozen=True, kw_only=True)
class ColdSplit(Split):
    """Hold out all entries of some rows but a few: what is said of somebody hardly known.

    The rows stay in the training, with the entries that they keep.

    Parameters
    ----------
    fraction : float in (0, 1)
        Share of the rows.
    keep : int, >= 0
        Entries that each of these rows keeps, drawn at random; 0 = the model has not seen them at all.
    """

    fraction: float = 0.1
    keep: int = 0

    def __call__(self, matrix: Matrix, seed: int) -> Partition:
        """Draw ``round(fraction * n_samples)`` rows, at least 1 and at most n - 1."""
        _check_fraction("split.fraction", self.fraction)
        if self.keep < 0:
            raise UserError(f"split.keep={self.keep}: it must be at least 0.")
        n, rng = matrix.shape[0], np.random.default_rng(seed)
        if n < 2:
            raise UserError("split=cold_rows needs two rows, and the data have one: use split=none")
        rows, columns = _observed(matrix)
        cold = rng.permutation(n)[: min(max(round(self.fraction * n), 1), n - 1)]
        order = np.lexsort((rng.permutation(rows.size), rows))
        counts = np.bincount(rows, minlength=n)
        place = np.arange(rows.size) - np.repeat(counts.cumsum() - counts, counts)
        chosen = order[(place >= self.keep) & np.isin(rows[order], cold)]
        if chosen.size == 0:
            raise UserError(
                f"split.keep={self.keep} leaves nothing to hold out of the {cold.size} rows drawn: "
                "lower it."
            )
        return _entries_out(matrix, rows[chosen], columns[chosen])


@final
@dataclass(frozen=True, kw_only=True)
class LabelSplit(Split):
    """Train on every sample, but hide the labels of some: semi-supervised models see the others.

    Every class keeps its share (largest remainders) and at least one label.

    Parameters
    ----------
    hidden : float in (0, 1)
        Share of the labels that are kept from the training and used to score it.
    """

    hidden: float = 0.25

    def __call__(self, matrix: Matrix, seed: int) -> Partition:
        """Draw ``round(hidden * labelled)`` labels, as far as classes keep one."""
        _check_fraction("split.hidden", self.hidden)
        if matrix.labels is None:
            raise UserError(
                "split=labels needs labels, and the data have none. Name the class column "
                "(data.label_column=...), or use another split."
            )
        labelled = np.flatnonzero(matrix.labels >= 0)
        count = max(round(self.hidden * labelled.size), 1)
        chosen = _stratified(matrix.labels[labelled], count, np.random.default_rng(seed))
        if chosen.size == 0:
            raise UserError(
                "split=labels: every class has a single label, so none can be hidden. Use another "
                "split."
            )
        whole = _from_test_rows(matrix.shape[0], np.zeros(0, dtype=np.int64))
        return replace(whole, hidden_labels=np.sort(labelled[chosen]))


@final
@dataclass(frozen=True, kw_only=True)
class LinkSplit(Split):
    """Train on every sample and some of the links; the other links, and as many pairs without one, test.

    A link is held out in both directions. The pairs without a link have none in the whole graph, and
    no pair is drawn twice.

    Parameters
    ----------
    val_fraction : float in [0, 1)
    test_fraction : float in (0, 1)
        Shares of the links.

    Source: Kipf & Welling 2016, "Variational graph auto-encoders", section 4.
    """

    val_fraction: float = 0.05
    test_fraction: float = 0.1

    def __call__(self, matrix: Matrix, seed: int) -> Partition:
        """Draw ``round(fraction * links)`` links for each part, and as many pairs without one."""
        _check_fraction("split.test_fraction", self.test_fraction)
        if not 0 <= self.val_fraction < 1 - self.test_fraction:
            raise UserError(
                f"split.val_fraction={self.val_fraction} must be at least 0, and below 1 together "
                "with split.test_fraction."
            )
        if matrix.graph is None:
            raise UserError(
                "split=links needs a graph, and the data have none: use data=graph, a data set with "
                "links, or in Python nmfnet.fit(X, graph=A)."
            )
        rng = np.random.default_rng(seed)
        upper = sp.coo_matrix(sp.triu(matrix.graph, k=1))
        links = np.stack([upper.row, upper.col], 1).astype(np.int64)
        n, m = matrix.shape[0], len(links)
        sizes = {"val": round(self.val_fraction * m), "test": max(1, round(self.test_fraction * m))}
        held = sum(sizes.values())
        if held >= m or held > n * (n - 1) // 2 - m:
            raise UserError(
                f"split=links: a graph of {n} nodes and {m} links is too small, or too dense, to hold "
                f"out {held} links and as many pairs without one. Lower split.test_fraction."
            )
        order = rng.permutation(m)
        others = _unlinked(links, n, held, rng)
        cuts = [sizes["val"], held]
        pairs = {
            part: (linked, other)
            for part, linked, other in zip(
                sizes, np.split(links[order], cuts), np.split(others, cuts[:1]), strict=False
            )
            if len(linked)
        }
        kept = np.zeros(m, dtype=bool)
        kept[order[held:]] = True
        train = sp.csr_matrix(
            (upper.data[kept], (upper.row[kept], upper.col[kept])), shape=upper.shape
        )
        train = sp.csr_matrix(train + train.T)
        train.sort_indices()
        everything, none = np.arange(n, dtype=np.int64), np.zeros(0, dtype=np.int64)
        told = _told_by_x(matrix, pairs)
        return Partition(everything, none, graph=train, pairs=pairs, remarks=told)


def _told_by_x(matrix: Matrix, pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[str, ...]:
    """A sentence where X, which keeps its entries, may say which links are held out."""
    if matrix.shape != matrix.graph.shape or matrix.is_its_graph:
        return ()
    there = matrix.values != 0
    counts = []
    for held in zip(*pairs.values(), strict=True):
        i, j = np.concatenate(held).T
        counts.append((int((there[i, j] + there[j, i]).sum()), i.size))
    (linked, of), (other, of_others) = counts
    if not linked:
        return ()
    return (
        f"X has a column for every node, too, with entries for {linked} of the {of} held-out links and "
        f"{other} of the {of_others} pairs without one, which are trained on: if columns are nodes, X "
        "tells what is held out. Use data.features=false, or leave the links out of X.",
    )


def _unlinked(links: np.ndarray, n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Different pairs i < j that are not among the links, shape (count, 2), in random order."""
    taken = links[:, 0] * n + links[:, 1]
    found = np.zeros(0, dtype=np.int64)
    while found.size < count:
        drawn = np.sort(rng.integers(n, size=(2 * count, 2)), axis=1)
        keys = drawn[drawn[:, 0] < drawn[:, 1]] @ np.array([n, 1])
        found = np.unique(np.concatenate([found, keys[~np.isin(keys, taken)]]))
    chosen = rng.choice(found, size=count, replace=False)
    return np.stack(np.divmod(chosen, n), 1)


@final
@dataclass(frozen=True)
class PredefinedSplit(Split):
    """The train and test part that the data set was published with."""

    def __call__(self, matrix: Matrix, seed: int) -> Partition:
        """The rows that the source names; the seed plays no part."""
        if matrix.predefined_test is None:
            raise UserError(
                "split=predefined: this data set has no published test part. Use split=rows or "
                "split=entries."
            )
        return _from_test_rows(matrix.shape[0], matrix.predefined_test)


def without(mask: Any, held: Any) -> Any:
    """The mask or weights with 0 where an entry is held out."""
    if mask is None:
        return ~held
    if is_sparse(mask):
        return (mask.astype(np.int8) - held.astype(np.int8)).astype(bool)
    return np.where(held, mask.dtype.type(0), mask)


def only(mask: Any, held: Any) -> Any:
    """The mask or weights with 0 where an entry is not held out; held-out ones are observed."""
    if mask is None or is_sparse(mask):
        return held
    return np.where(held, mask, mask.dtype.type(0))


def _check_fraction(name: str, fraction: float) -> None:
    if not 0 < fraction < 1:
        raise UserError(f"{name}={fraction} must lie between 0 and 1, both excluded.")


def _from_test_rows(n: int, test: np.ndarray) -> Partition:
    test = np.sort(np.asarray(test, dtype=np.int64))
    return Partition(np.setdiff1d(np.arange(n, dtype=np.int64), test), test)


def _stratified(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` rows, shared among the classes in proportion to their size."""
    classes, sizes = np.unique(labels, return_counts=True)
    exact = count * sizes / sizes.sum()
    take = np.minimum(np.floor(exact).astype(int), sizes - 1)
    for at in np.argsort(take - exact, kind="stable"):  # largest remainder first
        if take.sum() < count and take[at] < sizes[at] - 1:
            take[at] += 1
    drawn = [
        rng.permutation(np.flatnonzero(labels == name))[:number]
        for name, number in zip(classes, take, strict=True)
    ]
    return np.concatenate(drawn)


def _entries_out(matrix: Matrix, rows: np.ndarray, columns: np.ndarray) -> Partition:
    """Train on all rows without these entries."""
    held = sp.csr_matrix((np.ones(rows.size, dtype=bool), (rows, columns)), shape=matrix.shape)
    everything, none = np.arange(matrix.shape[0], dtype=np.int64), np.zeros(0, dtype=np.int64)
    return Partition(everything, none, held if matrix.is_sparse else held.toarray())


def _observed(matrix: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Row and column numbers of the observed entries."""
    if matrix.is_sparse and not is_sparse(matrix.mask):
        raise UserError(
            "Single entries of sparse data can be held out only with a sparse mask that says which are "
            "observed (data=triples has one); here every zero counts as observed. Use split=rows, or "
            "give the data as a dense table."
        )
    if matrix.mask is None:
        rows, columns = np.indices(matrix.shape)
        return rows.ravel(), columns.ravel()
    rows, columns = matrix.mask.nonzero()
    return np.asarray(rows), np.asarray(columns)
