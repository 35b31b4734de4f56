"""Known components to compare with, joined to the features of a matrix by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nmfnet.data.formats.factors import FACTORS, read_factors
from nmfnet.data.formats.files import FORMATS, read_raw
from nmfnet.data.formats.raw import did_you_mean, file_sha256, is_sparse, numbered, shorten
from nmfnet.data.matrix import Matrix, Reference, Truth
from nmfnet.data.sources.channels import recognise_channels
from nmfnet.data.sources.source import sources_of
from nmfnet.errors import UserError

__all__ = ["Components", "read_components", "with_reference", "with_truth"]


def with_reference(matrix: Matrix, reference: str | None) -> Matrix:
    """``matrix`` with its reference.

    Parameters
    ----------
    matrix : Matrix
        Its feature names are joined with.
    reference : str or None
        A table file (components may be its rows or its columns: the axis that shares names with the
        features is found), or a data set whose samples are the components; None leaves it out.

    Raises
    ------
    UserError
        Unknown file or data set, or features of the matrix that the reference does not have.
    """
    if reference is None:
        return matrix
    found = read_components(reference, matrix)
    place = {name: i for i, name in enumerate(found.features)}
    absent = [name for name in matrix.feature_names if name not in place]
    if absent:
        raise UserError(
            f"The reference {reference} lacks {len(absent)} of the {len(matrix.feature_names)} "
            f"features (first: {absent[0]!r}; it has {shorten(found.features)}). Names must agree "
            "exactly; data.reference=null leaves the comparison out."
        )
    order = [place[name] for name in matrix.feature_names]
    aligned = Reference(found.values[:, order], found.names)
    return replace(matrix, reference=aligned, sources={**matrix.sources, **found.sources})


def with_truth(matrix: Matrix, truth: str | None) -> Matrix:
    """``matrix`` with the true weights of a file, rows in the order of its samples.

    Raises
    ------
    UserError
        A sample that the file lacks, or missing or negative weights.
    """
    if truth is None:
        return matrix
    raw = read_raw(truth)
    values, rows, columns = _dense(raw.values), raw.row_names or [], raw.column_names or []
    wanted = set(matrix.sample_names)
    if len(wanted & set(columns)) > len(wanted & set(rows)):
        values, rows, columns = values.T, columns, rows
    place = {name: i for i, name in enumerate(rows)}
    if absent := [name for name in matrix.sample_names if name not in place]:
        raise UserError(
            f"data.truth={truth} lacks {len(absent)} of the {len(matrix.sample_names)} samples (first: "
            f"{absent[0]!r}; it has {shorten(rows) or 'no names'})."
        )
    W = values[[place[name] for name in matrix.sample_names]]
    if not (np.isfinite(W).all() and (W >= 0).all()):
        raise UserError(f"data.truth={truth} has missing or negative weights.")
    names = columns or numbered("component", W.shape[1])
    sources = {Path(truth).name: file_sha256(Path(truth).expanduser())}
    return replace(matrix, truth=Truth(W, None, names), sources={**matrix.sources, **sources})


class Components(NamedTuple):
    """Components as they were read: rows of values, names of rows and columns, sha256 of the files."""

    values: np.ndarray
    names: list[str]
    features: list[str]
    sources: dict[str, str]


def read_components(reference: str | Mapping[str, str], matrix: Matrix) -> Components:
    """The components of a file, a run or a data set, before they are joined to a matrix.

    Several of them, by name, give components ``NAME 1``, ``NAME 2``, ... (``NAME`` of one that has one).

    Raises
    ------
    UserError
        Unknown file or data set, a file that shares no feature name with the matrix, or several of
        which one lacks features of the first.
    """
    if not isinstance(reference, str):
        return _together({name: read_components(one, matrix) for name, one in reference.items()})
    folder = Path(reference).expanduser()
    if (folder / FACTORS).is_file():
        return _of_run(folder)
    if _is_file(reference):
        raw = read_raw(reference)
        values, names, features = _components(
            raw.values, raw.row_names, raw.column_names, matrix, reference
        )
        sources = {Path(reference).name: file_sha256(Path(reference).expanduser())}
    else:
        other = _catalogue_set(reference)
        values, names, features = other.values, other.sample_names, other.feature_names
        sources = other.sources
    return Components(_dense(values), list(names), list(features), sources)


def _of_run(folder: Path) -> Components:
    """H of a finished run."""
    held = read_factors(folder)
    features = [str(name) for name in held["feature_names"]]
    named = held.get("component_names", np.arange(1, len(held["H"]) + 1))
    sources = {f"{folder.name}/{FACTORS}": file_sha256(folder / FACTORS)}
    return Components(held["H"].astype(np.float64), [str(n) for n in named], features, sources)


def _together(found: dict[str, Components]) -> Components:
    """All of them on the features of the first."""
    if not found:
        raise UserError("model.reference={} names no components.")
    features = next(iter(found.values())).features
    values, names = [], []
    for name, one in found.items():
        place = {feature: i for i, feature in enumerate(one.features)}
        if absent := [feature for feature in features if feature not in place]:
            raise UserError(
                f"model.reference.{name} lacks {len(absent)} of the {len(features)} features of the "
                f"first (such as {absent[0]!r}; it has {shorten(one.features)})."
            )
        values.append(one.values[:, [place[feature] for feature in features]])
        count = len(one.names)
        names += [name] if count == 1 else [f"{name} {i}" for i in range(1, count + 1)]
    sources = sources_of({name: one.sources for name, one in found.items()})
    return Components(np.concatenate(values), names, features, sources)


def _is_file(reference: str) -> bool:
    known = {f".{ending}" for ending in FORMATS}
    return Path(reference).expanduser().exists() or bool(known & set(Path(reference).suffixes))


def _catalogue_set(name: str) -> Matrix:
    from nmfnet.data.sources.registry import data_names, source

    if name not in data_names():
        raise UserError(
            f"data.reference={name!r} is neither a file nor a data "
            f"set.{did_you_mean(name, data_names())}"
        )
    return source(name).read()


def _components(
    values: Any, rows: list[str] | None, columns: list[str] | None, matrix: Matrix, what: str
) -> tuple[Any, list[str], list[str]]:
    """Components in rows: (values, component names, feature names)."""
    wanted = set(matrix.feature_names)
    rows, columns = _canonical(rows), _canonical(columns)
    on_rows = len(wanted & set(rows or ()))
    on_columns = len(wanted & set(columns or ()))
    if on_rows == on_columns == 0:
        raise UserError(
            f"The reference {what} shares no feature name with the data (data: "
            f"{shorten(matrix.feature_names)}; reference rows: "
            f"{shorten(rows or []) or 'unnamed'}; reference columns: "
            f"{shorten(columns or []) or 'unnamed'})."
        )
    if on_rows > on_columns:
        values, rows, columns = values.T, columns, rows
    return values, rows or numbered("reference", values.shape[0]), columns or []


def _canonical(names: Sequence[str] | None) -> list[str] | None:
    if names is None:
        return None
    known = recognise_channels(names)
    return list(names) if known is None else known[1]


def _dense(values: Any) -> np.ndarray:
    return np.asarray(values.todense() if is_sparse(values) else values, dtype=np.float64)
