"""Tables of the same features, one below the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.raw import is_sparse, shorten
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.source import Source, encode_labels, sources_of, with_covariates
from nmfnet.data.sources.views import named_table
from nmfnet.errors import UserError

__all__ = ["Stacked"]


@final
@dataclass(frozen=True, kw_only=True)
class Stacked(Source):
    """Data sets of different samples and the same features: X has the samples of all of them.

    Features are joined by name, and those that a data set lacks are left out. Which data set a sample
    is from is its covariate ``dataset``. Where samples of two data sets have the same name, all names
    get that of the data set before them.

    Parameters
    ----------
    tables : mapping of the name of a data set to options
        Options of each are those of ``data=table`` (``path``, ``orientation``, ...).
    """

    tables: Mapping[str, Mapping[str, Any]]

    def read(self) -> Matrix:
        """Read every table, and put them below each other."""
        if len(self.tables) < 2:
            raise UserError(
                "data=stacked needs two tables or more: data.tables.NAME.path=FILE "
                "data.tables.NAME.orientation=... for each of them"
            )
        for name, options in self.tables.items():
            if not isinstance(options, Mapping) or "path" not in options:
                raise UserError(f"data.tables.{name} needs a file: data.tables.{name}.path=FILE")
        read = {name: named_table("table", name, own) for name, own in self.tables.items()}
        features = _common(read)
        said = [
            f"{table.shape[1] - len(features)} of {table.shape[1]} features of the table {name!r} are "
            "not in all tables and were left out."
            for name, table in read.items()
            if table.shape[1] > len(features)
        ]
        tables = {name: _with_features(table, features) for name, table in read.items()}
        samples = [sample for table in tables.values() for sample in table.sample_names]
        if len(set(samples)) < len(samples):
            said.append("Samples are called DATASET:SAMPLE, since some data sets share names.")
            samples = [f"{n}:{sample}" for n, t in tables.items() for sample in t.sample_names]
        labels, label_names = _labels(list(tables.values()))
        whole = Matrix(
            _below([table.values for table in tables.values()]),
            samples,
            features,
            labels=labels,
            label_names=label_names,
            mask=_masks(list(tables.values())),
            sources=sources_of({name: table.sources for name, table in tables.items()}),
            remarks=(*(note for table in tables.values() for note in table.remarks), *said),
        )
        from_which = [name for name, table in tables.items() for _ in table.sample_names]
        return with_covariates(whole, {"dataset": from_which})


def _common(tables: Mapping[str, Matrix]) -> list[str]:
    """Features of all tables, in the order of the first."""
    (first, start), *others = tables.items()
    kept = list(start.feature_names)
    for name, table in others:
        own = set(table.feature_names)
        left = [feature for feature in kept if feature in own]
        if not left:
            raise UserError(
                f"The table {name!r} has no feature in common with the others: its features are "
                f"{shorten(table.feature_names, 3)}, those of {first!r} "
                f"{shorten(start.feature_names, 3)}. Is its orientation right, and are the names written "
                "alike?"
            )
        kept = left
    return kept


def _with_features(table: Matrix, features: list[str]) -> Matrix:
    place = {feature: j for j, feature in enumerate(table.feature_names)}
    if len(place) < table.shape[1]:
        table.check()  # which says what name occurs twice
    at = [place[feature] for feature in features]
    mask = None if table.mask is None else table.mask[:, at]
    return Matrix(
        table.values[:, at],
        table.sample_names,
        features,
        labels=table.labels,
        label_names=table.label_names,
        mask=mask,
        sources=table.sources,
        remarks=table.remarks,
    )


def _below(parts: list[Any]) -> Any:
    """Sparse only if all of them are."""
    if all(is_sparse(part) for part in parts):
        return sp.vstack(parts, format="csr")
    return np.vstack([part.toarray() if is_sparse(part) else part for part in parts])


def _masks(tables: list[Matrix]) -> Any:
    if all(table.mask is None for table in tables):
        return None
    if all(table.is_sparse for table in tables):
        raise UserError("data=stacked takes no sparse tables with missing entries: give them dense")
    every = [np.ones(t.shape, dtype=bool) if t.mask is None else t.mask for t in tables]
    return _below(every)


def _labels(tables: list[Matrix]) -> tuple[np.ndarray | None, list[str] | None]:
    """Classes of all samples, none where a table says none."""
    if all(table.labels is None for table in tables):
        return None, None
    words = []
    for table in tables:
        if table.labels is None or table.label_names is None:
            words += [""] * table.shape[0]
        else:
            words += [table.label_names[i] if i >= 0 else "" for i in table.labels]
    return encode_labels(words)
