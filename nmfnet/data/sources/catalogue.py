"""Other formats of the catalogue: MATLAB and HDF5 files, bags of words, tokenised texts, ratings."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.hdf5 import read_arrays
from nmfnet.data.formats.layout import read_lines
from nmfnet.data.formats.matlab import matlab_arrays
from nmfnet.data.formats.raw import did_you_mean, is_sparse, numbered
from nmfnet.data.matrix import Kind, Matrix
from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.source import Source, encode_labels, image_size
from nmfnet.data.sources.table import Orientation
from nmfnet.data.sources.triples import Triples
from nmfnet.errors import UserError

__all__ = ["BagOfWords", "Hdf5File", "MatFile", "Ratings", "Tokens"]


@final
@dataclass(frozen=True, kw_only=True)
class Hdf5File(Source):
    """A matrix among the arrays of an HDF5 file, samples in rows.

    Parameters
    ----------
    origin : Origin
    file : str
    values : str
        Array that holds the matrix; it is kept sparse.
    labels : str, optional
        Array with the number of the class of each sample.
    label_word : str
        Names the classes: ``cluster`` gives cluster_1, cluster_2, ...
    feature_word : str
        Names the features in the same way.
    """

    origin: Origin
    file: str
    values: str
    labels: str | None = None
    label_word: str = "class"
    feature_word: str = "feature"

    def read(self) -> Matrix:
        """Read the arrays."""
        wanted = [self.values, *([] if self.labels is None else [self.labels])]
        found = read_arrays(self.origin.path(self.file), wanted)
        values = sp.csr_matrix(found[self.values], dtype=np.float64)
        labels, names = None, None
        if self.labels is not None:
            kinds, labels = np.unique(found[self.labels], return_inverse=True)
            names = [f"{self.label_word}_{kind:g}" for kind in kinds]
        return Matrix(
            values,
            numbered("sample", values.shape[0]),
            numbered(self.feature_word, values.shape[1]),
            labels=labels,
            label_names=names,
            sources=self.origin.sources(self.file),
            citation=self.origin.citation,
        )


@final
@dataclass(frozen=True, kw_only=True)
class MatFile(Source):
    """A matrix inside a MATLAB file (version 7.2 or older).

    Parameters
    ----------
    origin : Origin
    file : str
    values : str
        Variable that holds the matrix.
    orientation : {"samples_by_features", "features_by_samples"}
    label_sets : mapping of name to {"values": str, "names": str or None}
        Classifications in the file: the variable with numbers 1, 2, ... and, optionally, the one
        with their names.
    labels : str, optional
        Which of them to use; None = no labels.
    label_word : str
        Names classes without names: ``subject`` gives subject_1, subject_2, ...
    feature_names : str, optional
        Variable with the names of the features.
    kind : {"generic", "image", "sbs96", "sound", "text"}
    image_shape : [height, width], optional
    column_major : bool
        Images are stored column by column, as MATLAB does; they are turned row by row.
    standardise : [mean, deviation], optional
        Bring every row to this mean and standard deviation, and cut it to [0, 1].
    """

    origin: Origin
    file: str
    values: str
    orientation: Orientation = "samples_by_features"
    label_sets: Mapping[str, Mapping[str, Any]] | None = None
    labels: str | None = None
    label_word: str = "class"
    feature_names: str | None = None
    kind: Kind = "generic"
    image_shape: Sequence[int] | None = None
    column_major: bool = False
    standardise: Sequence[float] | None = None

    def read(self) -> Matrix:
        """Read the variables and turn them into the package's orientation."""
        content = matlab_arrays(self.origin.path(self.file))
        values = content[self.values]
        if self.orientation == "features_by_samples":
            values = values.T
        shape = image_size(self.image_shape)
        if is_sparse(values):
            values = sp.csr_matrix(values, dtype=np.float64)
        else:
            values = np.ascontiguousarray(values, dtype=np.float64)
            if self.column_major and shape is not None:
                images = values.reshape(-1, shape[1], shape[0])
                values = np.ascontiguousarray(images.transpose(0, 2, 1)).reshape(len(values), -1)
        if self.standardise is not None:
            values = _standardised(values, self.standardise)
        labels, label_names = self._labels(content)
        return Matrix(
            values,
            numbered("sample", values.shape[0]),
            self._features(content, values.shape[1], shape),
            kind=self.kind,
            image_shape=shape,
            labels=labels,
            label_names=label_names,
            hierarchy=self._hierarchy(content),
            sources=self.origin.sources(self.file),
            citation=self.origin.citation,
        )

    def _features(
        self, content: Mapping[str, Any], count: int, shape: tuple[int, int] | None
    ) -> list[str]:
        if self.feature_names is not None:
            return [str(name) for name in content[self.feature_names]]
        if shape is not None:
            return [
                f"pixel_{row}_{column}" for row in range(shape[0]) for column in range(shape[1])
            ]
        return numbered("feature", count)

    def _labels(self, content: Mapping[str, Any]) -> tuple[np.ndarray | None, list[str] | None]:
        if self.labels is None:
            return None, None
        sets = self.label_sets or {}
        if self.labels not in sets:
            raise UserError(
                f"data.labels={self.labels!r} is not a classification of {self.origin.name}. "
                f"Choose {' or '.join(sets) or 'null'}.{did_you_mean(self.labels, list(sets))}"
            )
        chosen = sets[self.labels]
        labels = np.asarray(content[chosen["values"]]).astype(np.int64) - 1
        names = chosen.get("names")
        if names is not None:
            return labels, [str(name) for name in content[names]]
        return labels, [f"{self.label_word}_{i + 1}" for i in range(int(labels.max()) + 1)]

    def _hierarchy(self, content: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """All classifications, the one with most classes first."""
        found = {
            name: np.asarray(content[chosen["values"]]).astype(np.int64) - 1
            for name, chosen in (self.label_sets or {}).items()
        }
        return dict(sorted(found.items(), key=lambda item: -int(item[1].max())))


def _standardised(values: np.ndarray, asked: Sequence[float]) -> np.ndarray:
    if len(asked) != 2 or not asked[1] > 0:
        raise UserError(
            f"data.standardise={list(asked)} must be [mean, deviation], the second above 0."
        )
    mean, spread = values.mean(1, keepdims=True), values.std(1, keepdims=True)
    flat = spread <= 1e-12 * np.abs(mean)  # up to rounding
    centred = np.where(flat, 0, values - mean) / np.where(flat, 1, spread)
    return (asked[0] + asked[1] * centred).clip(0.0, 1.0)


@final
@dataclass(frozen=True, kw_only=True)
class BagOfWords(Source):
    """Word counts of documents in scipy npz files, with a vocabulary and a published test part.

    Parameters
    ----------
    origin : Origin
    train, test : str
        CSR counts, documents by words.
    train_labels, test_labels : str
        One class number (0, 1, ...) per line.
    vocabulary : str
        One word per line.
    label_names : sequence of str
        Names of the classes in the order of their numbers.
    topics : mapping of str to sequence of str, optional
        Larger topics, and the classes that make up each; every class in exactly one.
    labels : {"sub", "super"}
        Whether the classes or the topics are the labels.
    """

    origin: Origin
    train: str
    test: str
    train_labels: str
    test_labels: str
    vocabulary: str
    label_names: Sequence[str]
    topics: Mapping[str, Sequence[str]] | None = None
    labels: Literal["sub", "super"] = "sub"

    def read(self) -> Matrix:
        """Training documents first, then the test documents; never dense."""
        parts = [sp.load_npz(self.origin.path(file)) for file in (self.train, self.test)]
        labels = [np.loadtxt(self.origin.path(f), dtype=np.int64) for f in self._label_files()]
        values = sp.csr_matrix(sp.vstack(parts), dtype=np.float64)
        values.sum_duplicates()
        n_train = parts[0].shape[0]
        sub = np.concatenate(labels)
        hierarchy, label_names = {"sub": sub}, {"sub": list(self.label_names)}
        if self.topics is not None:
            hierarchy["super"] = self._topic_of_class()[sub]
            label_names["super"] = list(self.topics)
        if self.labels not in hierarchy:
            raise UserError(
                f"data.labels={self.labels!r} is not a classification of {self.origin.name}. "
                f"Choose {' or '.join(hierarchy)}."
            )
        names = numbered("train", n_train) + numbered("test", parts[1].shape[0])
        return Matrix(
            values,
            names,
            [
                word.strip()
                for word in read_lines(self.origin.path(self.vocabulary))
                if word.strip()
            ],
            kind="text",
            labels=hierarchy[self.labels],
            label_names=label_names[self.labels],
            hierarchy=hierarchy,
            predefined_test=np.arange(n_train, values.shape[0], dtype=np.int64),
            sources=self.origin.sources(
                self.train, self.test, self.vocabulary, *self._label_files()
            ),
            citation=self.origin.citation,
        )

    def _topic_of_class(self) -> np.ndarray:
        owner = {name: i for i, names in enumerate((self.topics or {}).values()) for name in names}
        if absent := [name for name in self.label_names if name not in owner]:
            raise UserError(f"data.topics says no topic for the class {absent[0]!r}.")
        return np.array([owner[name] for name in self.label_names], dtype=np.int64)

    def _label_files(self) -> tuple[str, str]:
        return self.train_labels, self.test_labels


@final
@dataclass(frozen=True, kw_only=True)
class Tokens(Source):
    """Documents as words with blanks between them, one a line, with their part and class.

    Parameters
    ----------
    origin : Origin
    file : str
        Tab-separated without a header: words, part (``train``, ``val`` or ``test``), class.
    vocabulary : str
        One word per line; others are not counted.
    label_names : mapping of class as in the file to its name, optional
    """

    origin: Origin
    file: str
    vocabulary: str
    label_names: Mapping[str, str] | None = None

    def read(self) -> Matrix:
        """Count the words; documents of the part ``test`` are the published test part."""
        from sklearn.feature_extraction.text import CountVectorizer

        words = [w.strip() for w in read_lines(self.origin.path(self.vocabulary)) if w.strip()]
        lines = [line.rstrip("\n").split("\t") for line in read_lines(self.origin.path(self.file))]
        rows = [line for line in lines if len(line) == 3]
        maker = CountVectorizer(
            vocabulary=words, token_pattern=r"\S+", lowercase=False, dtype=np.float64
        )
        values = sp.csr_matrix(maker.transform(row[0] for row in rows))
        kept = np.flatnonzero(np.diff(values.indptr) > 0)
        named = self.label_names or {}
        labels, names = encode_labels([named.get(rows[i][2], rows[i][2]) for i in kept])
        left_out = len(rows) - kept.size
        remark = f"{left_out} of {len(rows)} documents have no word of the vocabulary: left out."
        return Matrix(
            values[kept],
            [f"document_{i + 1}" for i in kept],
            words,
            kind="text",
            labels=labels,
            label_names=names,
            predefined_test=np.flatnonzero([rows[i][1] == "test" for i in kept]),
            sources=self.origin.sources(self.file, self.vocabulary),
            citation=self.origin.citation,
            remarks=(remark,) if left_out else (),
        )


@final
@dataclass(frozen=True, kw_only=True)
class Ratings(Source):
    """Triplets (user, item, rating): a matrix in which everything that is not rated is missing.

    Parameters
    ----------
    origin : Origin
    file : str
        Comma-separated, with a header.
    user, item, rating : str
        Columns of ``file``.
    titles : str, optional
        Comma-separated table whose first two columns are item number and title.
    time : str, optional
        Column of ``file`` that says when.
    at_least : float, optional
        Leave out ratings of less; all that is left is listed as 1.
    min_ratings : int, >= 1
        Leave out items with fewer ratings.
    sparse : bool
        Keep values and mask as CSR of the ratings; False = as dense tables.
    """

    origin: Origin
    file: str
    user: str = "userId"
    item: str = "movieId"
    rating: str = "rating"
    titles: str | None = None
    time: str | None = None
    at_least: float | None = None
    min_ratings: int = 1
    sparse: bool = True

    def read(self) -> Matrix:
        """Users in rows, items in columns, mask = rated."""
        matrix = Triples(
            path=str(self.origin.path(self.file)),
            row=self.user,
            column=self.item,
            value=self.rating,
            time=self.time,
            at_least=self.at_least,
            min_per_column=self.min_ratings,
            sparse=self.sparse,
        ).read()
        return replace(
            matrix,
            sample_names=[f"user_{user}" for user in matrix.sample_names],
            feature_names=self._titles(matrix.feature_names),
            sources=self.origin.sources(self.file, self.titles),
            citation=self.origin.citation,
        )

    def _titles(self, items: Sequence[str]) -> list[str]:
        """Titles of the items; those that share a title also get their number."""
        if self.titles is None:
            return [f"item_{item}" for item in items]
        title = _first_two_columns(self.origin.path(self.titles))
        names = [title.get(item, f"item_{item}") for item in items]
        uses = Counter(names)
        return [
            f"{name} [{item}]" if uses[name] > 1 else name
            for name, item in zip(names, items, strict=True)
        ]


def _first_two_columns(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as stream:
        return {row[0]: row[1].strip() for row in csv.reader(stream) if len(row) > 1}
