"""Known components meet the data: joined by name, on one scale, reduced to what tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Annotated, Any, Literal, final

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.files import read_raw
from nmfnet.data.formats.memory import as_matrix
from nmfnet.data.formats.raw import is_sparse, numbered, shorten
from nmfnet.data.matrix import Matrix, Reference
from nmfnet.data.sources.reference import Components, read_components
from nmfnet.data.sources.source import Source
from nmfnet.errors import UserError
from nmfnet.settings.ranges import Count, Range

__all__ = ["Known", "Referred"]

ALIKE = 0.99
"""Cosine above which two components are said to be alike."""

LEAST = 0.1
"""What is added to both sides of a fold change, in units of the mean of H."""

MANY = 100
"""Features from which on data can look like logarithms."""

LARGEST_LOG = 50.0
"""Expression data whose values all lie below this, and are no counts, are taken for logarithms."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is done to X and to known components before a model sees them.

    Parameters
    ----------
    reference : str, or mapping of str to str, optional
        File, run folder or data set of the components; by default those that the data come with. Several
        by name (``{voice: runs/nmf/1, noise: runs/nmf/2}``) give components ``voice 1``, ``voice 2``, ...
    overlap : float in (0, 1]
        Least share of the reference's features that the data must have; the others are left out.
    scale : {"none", "components", "both"}
        Divide the rows of H, or of X and H, by their means over the shared features.
    markers : int >= 1, optional
        Keep this many features of every component: those that exceed all other components most.
    logs : {"refuse", "allow"}
        What becomes of data of 100 features or more that look like logarithms.
    content : mapping of component to number > 0, or str, optional
        How much of X a unit of every component makes (the mRNA of a cell), or a table of two columns
        that says it: shares are then of cells. By default all alike.
    always : sequence of str
        Components that every sample may have at no cost; what the reference lacks is said.
    """

    reference: str | Mapping[str, str] | None = None
    overlap: Annotated[float, Range(above=0, most=1)] = 0.5
    scale: Literal["none", "components", "both"] = "none"
    markers: Count | None = None
    logs: Literal["refuse", "allow"] = "refuse"
    content: str | Mapping[str, float] | None = None
    always: Sequence[str] = ()

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> Known | None:
        """What the options of a model say; None for a model that reads no known components."""
        if "reference" not in model:
            return None
        return cls(**{key.name: model[key.name] for key in fields(cls) if key.name in model})

    def join(self, matrix: Matrix) -> Matrix:
        """``matrix`` with the components as its reference.

        Raises
        ------
        UserError
            Unknown reference, too few shared features, logarithms, negative or empty components.
        """
        if self.reference is not None:
            found = read_components(self.reference, matrix)
            matrix = joined(matrix, found, f"The reference {self.reference}", self.overlap)
        if matrix.reference is None:
            return matrix
        if self.logs == "refuse" and matrix.sound is None:
            for what, values in (
                ("The data", matrix.values),
                ("The known components", matrix.reference.values),
            ):
                _refuse_logs(what, values)
        if self.scale != "none":
            matrix = self._scaled(matrix)
        if self.markers is not None:
            matrix = with_markers(matrix, self.markers)
        known = matrix.reference
        assert known is not None
        remarks = (*matrix.remarks, *remarks_on(known))
        if absent := [name for name in self.always if name not in known.names]:
            said = "has" if len(absent) == 1 else "have"
            remarks += (f"model.always: {shorten(absent)} {said} no place in the reference.",)
        always = np.isin(known.names, list(self.always)) if self.always else None
        known = replace(known, content=self._contents(known.names), always=always)
        return replace(matrix, reference=known, remarks=remarks)

    def _contents(self, names: Sequence[str]) -> np.ndarray | None:
        if self.content is None:
            return None
        said = self.content
        if isinstance(said, str):
            raw = read_raw(said)
            rows = raw.row_names or []
            said = dict(zip(rows, np.asarray(raw.values)[:, 0].tolist(), strict=False))
        if absent := [name for name in names if name not in said]:
            raise UserError(
                f"model.content says nothing of {absent[0]!r} ({len(absent)} of {len(names)} components "
                f"are missing; it has {shorten(list(said))}): give a number > 0 for each."
            )
        found = np.array([float(said[name]) for name in names])
        if not (np.isfinite(found).all() and (found > 0).all()):
            raise UserError("model.content must be a number > 0 for every component.")
        return found

    def _scaled(self, matrix: Matrix) -> Matrix:
        """Rows of mean 1 over all features, before any are left out."""
        known = matrix.reference
        assert known is not None
        if empty := [n for n, row in zip(known.names, known.values, strict=True) if not row.any()]:
            raise UserError(
                f"The component {empty[0]!r} is zero in every feature that the data have: leave it out."
            )
        matrix = replace(matrix, reference=replace(known, values=_by_mean(known.values)))
        if self.scale == "components":
            return matrix
        said = (
            "Rows of X and of the known components were divided by their means over "
            f"{matrix.shape[1]} features; give transform rows that are, too."
        )
        return replace(matrix, values=_by_mean(matrix.values), remarks=(*matrix.remarks, said))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Referred(Source):
    """Any data with known components in memory.

    Parameters
    ----------
    of : Source
    components : array or DataFrame, shape (n_components, n_features)
        Joined by name, if it has names of features; else its columns are those of the data.
    overlap : float in (0, 1]
        As for `Known`.
    """

    of: Source
    components: Any
    overlap: float = 0.5

    def read(self) -> Matrix:
        """The matrix with the components as its reference."""
        matrix, given = self.of.read(), as_matrix(self.components, what="H")
        values = np.asarray(given.values.todense() if is_sparse(given.values) else given.values)
        names = given.sample_names or numbered("component", len(values))
        if given.feature_names is None:
            wanted = len(values), matrix.shape[1]
            if values.shape != wanted:
                raise UserError(
                    f"the given H has shape {values.shape}, but this model and these data need {wanted}, "
                    "component by feature"
                )
            return replace(matrix, reference=Reference(values.astype(np.float64), names))
        found = Components(values.astype(np.float64), names, given.feature_names, {})
        return joined(matrix, found, "H", self.overlap)


def joined(matrix: Matrix, found: Components, what: str, overlap: float) -> Matrix:
    """The features that the matrix and the components share, in the order of the matrix.

    Raises
    ------
    UserError
        If these are less than ``overlap`` of those of the components.
    """
    place = {name: i for i, name in enumerate(found.features)}
    kept = np.array([i for i, name in enumerate(matrix.feature_names) if name in place], dtype=int)
    share = kept.size / max(1, len(found.features))
    if share < overlap or not kept.size:
        raise UserError(
            f"{what} shares {kept.size} of its {len(found.features)} features with the data "
            f"({share:.0%}; model.overlap={overlap:g} is asked): it has {shorten(found.features)}, the "
            f"data have {shorten(matrix.feature_names)}. Give both the same kind of names."
        )
    order = [place[matrix.feature_names[i]] for i in kept]
    remarks = matrix.remarks
    if kept.size < max(len(found.features), matrix.shape[1]):
        remarks += (
            f"{kept.size} features are shared: {share:.0%} of those of the known components, and "
            f"{kept.size / matrix.shape[1]:.0%} of those of the data. The others are left out.",
        )
    matrix = replace(of_features(matrix, kept), remarks=remarks)
    known = Reference(found.values[:, order], found.names)
    return replace(matrix, reference=known, sources={**matrix.sources, **found.sources})


def of_features(matrix: Matrix, kept: np.ndarray) -> Matrix:
    """The matrix with some of its features only."""
    if kept.size == matrix.shape[1]:
        return matrix
    truth, known = matrix.truth, matrix.reference
    if truth is not None and truth.H is not None:
        truth = replace(truth, H=truth.H[:, kept])
    return replace(
        matrix,
        values=_columns(matrix.values, kept),
        feature_names=[matrix.feature_names[i] for i in kept],
        mask=None if matrix.mask is None else _columns(matrix.mask, kept),
        reference=None if known is None else replace(known, values=known.values[:, kept]),
        truth=truth,
        image_shape=None,
        kind="generic" if matrix.kind == "image" else matrix.kind,
    )


def with_markers(matrix: Matrix, markers: int) -> Matrix:
    """The features that tell the components apart.

    Of every component those with the largest ratio of its value to the largest of any other; a tenth of
    the mean value is added to both, so that rare features do not win by chance.
    """
    known = matrix.reference
    assert known is not None
    if len(known.names) < 2:
        raise UserError("model.markers needs two known components at least: there is one.")
    level = known.values + LEAST * known.values.mean()
    chosen: set[int] = set()
    for j in range(len(level)):
        fold = level[j] / np.delete(level, j, 0).max(0)
        best = np.argsort(-fold, kind="stable")[:markers]
        chosen.update(best[fold[best] > 1].tolist())
    if len(chosen) < len(known.names):
        raise UserError(
            f"model.markers={markers}: only {len(chosen)} features are larger in one component than in "
            "all others, which are too few to tell them apart."
        )
    said = (
        f"{len(chosen)} of {matrix.shape[1]} features, up to {markers} markers of each component, are "
        "used."
    )
    return replace(of_features(matrix, np.array(sorted(chosen))), remarks=(*matrix.remarks, said))


def remarks_on(known: Reference) -> list[str]:
    """How well the components can be told apart."""
    size = np.linalg.norm(known.values, axis=1, keepdims=True)
    unit = known.values / np.where(size > 0, size, 1)
    singular = np.linalg.svd(unit, compute_uv=False)
    condition = singular[0] / singular[-1] if singular[-1] > 0 else np.inf
    said = [
        f"Condition number of the {len(unit)} known components (rows of norm 1): {condition:.3g}."
    ]
    cosine = unit @ unit.T
    alike = [(i, j) for i, j in combinations(range(len(unit)), 2) if cosine[i, j] > ALIKE]
    if alike:
        i, j = max(alike, key=lambda pair: cosine[pair])
        said.append(
            f"{len(alike)} pairs of known components are nearly the same (most: {known.names[i]} and "
            f"{known.names[j]}, cosine {cosine[i, j]:.4f}): only the sum of such weights can be trusted."
        )
    return said


def _refuse_logs(what: str, values: Any) -> None:
    """Refuse fractions that are all small, in rows that are no shares."""
    stored = np.asarray(values.data if is_sparse(values) else values)
    if not stored.size or values.shape[1] < MANY or stored.min() < 0:
        return
    most, sums = float(stored.max()), np.asarray(values.sum(1)).ravel()
    if most >= LARGEST_LOG or (stored == np.round(stored)).all() or sums.max() <= LARGEST_LOG:
        return
    raise UserError(
        f"{what} look like logarithms (fractions, and none above {most:.3g}), but amounts add up on the "
        "linear scale only: give 2**x - 1, or what undoes your logarithm; model.logs=allow says that "
        "they are linear."
    )


def _by_mean(values: Any) -> Any:
    """Every row divided by its mean; rows of zeros stay."""
    mean = np.asarray(values.sum(1), np.float64).ravel() / values.shape[1]
    factor = 1 / np.where(mean > 0, mean, 1)
    return sp.diags(factor) @ values if is_sparse(values) else values * factor[:, None]


def _columns(values: Any, kept: Sequence[int] | np.ndarray) -> Any:
    part = values[:, kept]
    return part if is_sparse(part) else np.ascontiguousarray(part)
