"""Documents: a folder of text files, a column of a table, or the 20 Newsgroups, as word counts."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.raw import did_you_mean, file_sha256, numbered, shorten
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.source import Source, encode_labels
from nmfnet.errors import UserError, reason

__all__ = ["Documents"]

NEWSGROUPS = "20newsgroups"


class Texts(NamedTuple):
    """Documents with their names, classes (or None) and the files they come from."""

    texts: list[str]
    names: list[str]
    classes: list[str] | None
    sources: dict[str, str]
    citation: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class Documents(Source):
    """Documents in rows, words in columns (sparse), as counts or tf-idf.

    Parameters
    ----------
    path : str
        A folder with one .txt file per document, in subfolders named by class or not; a .csv or .tsv
        file with a header; or ``20newsgroups``, which scikit-learn downloads.
    text_column : str
        Column of a table that holds the text.
    label_column : str, optional
        Column of a table that holds the class.
    encoding : str
        Of the files.
    weighting : {"count", "tfidf"}
        scikit-learn's CountVectorizer or TfidfVectorizer; the options below are theirs.
    lowercase : bool
    stop_words : str or sequence of str, optional
        ``english`` (scikit-learn's list), words of your own, or none.
    token_pattern : str
        Regular expression of a word.
    min_df, max_df : int or float
        Fewest and most documents that a word is in: a number, or a share as a float.
    max_features : int, optional
        Keep the most frequent words.
    longest_ngram : int, >= 1
        Features are runs of 1 to so many words.
    binary : bool
        1 for any count.
    sublinear_tf : bool
        tf-idf: 1 + log(count).
    norm : {"l2", "l1"}, optional
        tf-idf: norm of every document.
    """

    path: str
    text_column: str = "text"
    label_column: str | None = None
    encoding: str = "utf-8"
    weighting: Literal["count", "tfidf"] = "count"
    lowercase: bool = True
    stop_words: str | Sequence[str] | None = "english"
    token_pattern: str = r"(?u)\b[^\W\d_]{2,}\b"
    min_df: int | float = 2
    max_df: int | float = 1.0
    max_features: int | None = None
    longest_ngram: int = 1
    binary: bool = False
    sublinear_tf: bool = False
    norm: Literal["l2", "l1"] | None = "l2"

    def read(self) -> Matrix:
        """Read the texts, count the words, leave out documents without any."""
        found = self._texts()
        if not found.texts:
            raise UserError(f"data.path={self.path} holds no documents.")
        values, words = self._count(found.texts)
        kept = np.flatnonzero(np.diff(values.indptr) > 0)
        labels, label_names = None, None
        if found.classes is not None:
            labels, label_names = encode_labels([found.classes[i] for i in kept])
        left_out = len(found.texts) - kept.size
        remark = f"{left_out} of {len(found.texts)} documents have no word left and are left out."
        return Matrix(
            values[kept],
            [found.names[i] for i in kept],
            words,
            kind="text",
            labels=labels,
            label_names=label_names,
            sources=found.sources,
            citation=found.citation,
            remarks=(remark,) if left_out else (),
        )

    def _count(self, texts: list[str]) -> tuple[Any, list[str]]:
        from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

        stop = self.stop_words
        options: dict[str, Any] = {
            "lowercase": self.lowercase,
            "stop_words": stop if stop is None or isinstance(stop, str) else list(stop),
            "token_pattern": self.token_pattern,
            "min_df": self.min_df,
            "max_df": self.max_df,
            "max_features": self.max_features,
            "ngram_range": (1, self.longest_ngram),
            "binary": self.binary,
            "dtype": np.float64,
        }
        if self.weighting not in ("count", "tfidf"):
            raise UserError(f"data.weighting={self.weighting!r} is unknown. Allowed: count, tfidf.")
        if self.weighting == "tfidf":
            maker = TfidfVectorizer(**options, sublinear_tf=self.sublinear_tf, norm=self.norm)
        else:
            maker = CountVectorizer(**options)
        try:
            values = maker.fit_transform(texts)
        except (ValueError, TypeError, re.error) as error:  # also its own checks of the options
            raise UserError(f"The words cannot be counted: {error}") from error
        return sp.csr_matrix(values), [str(word) for word in maker.get_feature_names_out()]

    def _texts(self) -> Texts:
        if self.path == NEWSGROUPS:
            return _newsgroups()
        path = Path(self.path).expanduser()
        if path.is_dir():
            return self._folder(path)
        if not path.is_file():
            raise UserError(
                f"data.path={self.path} does not exist: give a folder of .txt files, a .csv or .tsv "
                f"file, or {NEWSGROUPS}."
            )
        return self._table(path)

    def _folder(self, folder: Path) -> Texts:
        files = sorted(folder.rglob("*.txt"))
        names = [str(file.relative_to(folder)) for file in files]
        parents = [file.relative_to(folder).parent for file in files]
        classes = [str(parent) for parent in parents] if all(map(_is_class, parents)) else None
        texts = [self._decoded(file) for file in files]
        sums = {name: file_sha256(file) for name, file in zip(names, files, strict=True)}
        return Texts(texts, names, classes, sums)

    def _table(self, file: Path) -> Texts:
        rows = _records(self._decoded(file), "\t" if file.suffix == ".tsv" else ",", file)
        columns = [name for name in rows[0] if name is not None] if rows else []
        for option, name in (
            ("text_column", self.text_column),
            ("label_column", self.label_column),
        ):
            if name is not None and name not in columns:
                raise UserError(
                    f"data.{option}={name!r} is not a column of {file}, which has "
                    f"{shorten(columns, 8) or 'none'}.{did_you_mean(name, columns)}"
                )
        label = self.label_column
        classes = None if label is None else [(row[label] or "").strip() for row in rows]
        texts = [row[self.text_column] or "" for row in rows]
        names = numbered("document", len(rows))
        return Texts(texts, names, classes, {file.name: file_sha256(file)})

    def _decoded(self, file: Path) -> str:
        try:
            return file.read_text(encoding=self.encoding).removeprefix("\ufeff")
        except (UnicodeDecodeError, LookupError, OSError) as error:
            raise UserError(
                f"{file} cannot be read as {self.encoding}: {reason(error)}. Set data.encoding, for "
                "example data.encoding=latin-1."
            ) from error


def _records(text: str, delimiter: str, file: Path) -> list[dict[str, Any]]:
    """The rows of a table by column; a document may be longer than what csv takes by default."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise UserError(f"{file} is not a regular table: {reason(error)}.") from error
    finally:
        csv.field_size_limit(limit)


def _is_class(parent: Path) -> bool:
    return parent != Path()


def _newsgroups() -> Texts:
    from sklearn.datasets import fetch_20newsgroups

    try:
        found = fetch_20newsgroups(subset="all", remove=("headers", "footers", "quotes"))
    except OSError as error:  # no network
        raise UserError(
            f"scikit-learn cannot download the 20 Newsgroups: {reason(error)}. Use data=20news-bow, "
            "or give a folder in data.path."
        ) from error
    classes = [str(found.target_names[i]) for i in found.target]
    names = numbered("post", len(found.data))
    return Texts(list(found.data), names, classes, {}, "Lang 1995, NewsWeeder, ICML.")
