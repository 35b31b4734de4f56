"""Several tables of the same samples, joined by the names of the samples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, final, get_args

import numpy as np

from nmfnet.data.formats.raw import did_you_mean, shorten
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.source import Source, encode_labels, sources_of
from nmfnet.data.sources.table import Table
from nmfnet.errors import UserError

__all__ = ["SCALINGS", "Scaling", "Views", "joined", "named_table", "without_absent"]

Scaling = Literal["none", "minmax", "frobenius"]
SCALINGS: tuple[str, ...] = get_args(Scaling)

UNEQUAL = 3.0
"""Ratio of the norms of two views from which on a note says that one counts more."""


@final
@dataclass(frozen=True, kw_only=True)
class Views(Source):
    """Tables of the same samples: X is the first view, the others are explained beside it.

    Samples are joined by name. A sample that a view lacks has weight 0 there: nothing is learnt from
    it, and nothing is filled in. Views are held as dense tables.

    Parameters
    ----------
    views : mapping of view name to options
        Options of a view are those of ``data=table`` (``path``, ``orientation``, ...), ``scaling``, and
        ``label_at``: position of the column that holds the classes, where the table does not name it
        (-1 = the last).
    scaling : {"none", "minmax", "frobenius"}, or several of them
        Of every view that does not say its own; several are done one after the other. ``minmax``:
        (x - min) / (max - min) of every column; ``frobenius``: divided by the norm of the view, so
        that views of other sizes do not win. Minimum, maximum and norm are those of all samples,
        held-out ones included.
    origin : Origin, optional
        Catalogue entry that the files belong to.
    """

    views: Mapping[str, Mapping[str, Any]]
    scaling: Scaling | Sequence[Scaling] = "none"
    origin: Origin | None = None

    def read(self) -> Matrix:
        """Read every table, join them by sample, and scale them."""
        if not self.views:
            raise UserError(
                "data=views needs its tables: data.views.NAME.path=FILE data.views.NAME.orientation=... "
                "for each of them"
            )
        ways = {name: self._scaling(name, options) for name, options in self.views.items()}
        tables = {name: self._table(name, options) for name, options in self.views.items()}
        for name, steps in ways.items():
            for way in steps:
                tables[name] = _scaled(name, tables[name], way)
        return joined(tables)

    def _scaling(self, name: str, options: Mapping[str, Any]) -> list[str]:
        if not isinstance(options, Mapping) or "path" not in options:
            raise UserError(f"data.views.{name} needs a file: data.views.{name}.path=FILE")
        said = options.get("scaling", self.scaling)
        ways = [said] if isinstance(said, str) else list(said)
        if wrong := [way for way in ways if way not in SCALINGS]:
            raise UserError(
                f"data.views.{name}.scaling={wrong[0]!r} is unknown. Allowed: {', '.join(SCALINGS)}."
            )
        return ways

    def _table(self, name: str, options: Mapping[str, Any]) -> Matrix:
        table = named_table("view", name, options, ("scaling", "label_at"), self.origin)
        at = options.get("label_at")
        return table if at is None else _with_label(table, name, at)


def named_table(
    what: str,
    name: str,
    options: Mapping[str, Any],
    more: tuple[str, ...] = (),
    origin: Origin | None = None,
) -> Matrix:
    """One of several tables by its options, those of `Table` and ``more`` of the caller's own.

    Raises
    ------
    UserError
        For an option that there is not, and what `Table` refuses, with the name of the table.
    """
    known = [field.name for field in fields(Table) if field.name != "origin"]
    for key in options:
        if key not in known and key not in more:
            hint = did_you_mean(key, [*known, *more])
            raise UserError(f"data.{what}s.{name}.{key}: a {what} has no such option.{hint}")
    own = {key: value for key, value in options.items() if key not in more}
    try:
        return Table(**own, origin=origin).read()
    except UserError as error:
        raise UserError(f"{what} {name!r}: {error}") from error


def _with_label(table: Matrix, name: str, at: Any) -> Matrix:
    """A table whose column ``at`` is taken out, for classes."""
    width = table.shape[1]
    if not isinstance(at, int) or not -width <= at < width or width < 2:
        raise UserError(
            f"data.views.{name}.label_at={at!r} is no column: the table has {width}, numbered from 0."
        )
    rest = np.delete(np.arange(width), at)
    values = np.asarray(_dense(table.values))
    labels, label_names = encode_labels([f"{cell:g}" for cell in values[:, at]])
    return replace(
        table,
        values=values[:, rest],
        feature_names=[table.feature_names[i] for i in rest],
        mask=None if table.mask is None else _dense(table.mask)[:, rest],
        labels=labels,
        label_names=label_names,
    )


def _scaled(name: str, table: Matrix, way: str) -> Matrix:
    """A table in which no column, or not the whole, is larger than others."""
    if way == "none":
        return table
    values = np.asarray(_dense(table.values), dtype=np.float64)
    seen = np.ones(values.shape, dtype=bool) if table.mask is None else _dense(table.mask) != 0
    if way == "minmax":
        low = np.where(seen, values, np.inf).min(0)
        span = np.where(seen, values, -np.inf).max(0) - low
        scaled = (values - low) / np.where(span > 0, span, 1.0)
        what = "each column was made (x - min) / (max - min) over all samples"
    else:
        norm = float(np.sqrt(np.square(values[seen]).sum()))
        scaled = values / (norm or 1.0)
        what = f"divided by {norm:.6g}, its norm"
    said = f"View {name!r}: {what}; new rows must be given in these units."
    return replace(
        table, values=np.where(seen, scaled, 0.0), remarks=(*table.remarks, said), kind="generic"
    )


def joined(tables: Mapping[str, Matrix]) -> Matrix:
    """One matrix with the first table as X and the others as views, samples joined by name.

    Samples come in the order of the first table, then those that only others have. Labels are those
    of the first table that has any.

    Raises
    ------
    UserError
        A name that a factor could not have; a table that shares no sample with those before it; names
        of samples that occur twice in a table.
    """
    for name in tables:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or (
            name == "x" and name != next(iter(tables))
        ):
            raise UserError(
                f"The view {name!r} needs another name: letters, digits and _, a letter first, and "
                "not x, which is the first view."
            )
    samples = _all_samples(tables)
    place = {sample: i for i, sample in enumerate(samples)}
    whole = {name: _on(table, place, len(samples)) for name, table in tables.items()}
    (first, x), *others = whole.items()
    remarks = [] if first == "x" else [f"X is the view {first!r}."]
    for name, table in whole.items():
        absent = [] if table.mask is None else np.flatnonzero(~table.mask.any(1)).tolist()
        if absent and len(whole) > 1:
            remarks.append(
                f"{len(absent)} of {len(samples)} samples are not in the view {name!r} and have "
                f"weight 0 there (first: {samples[absent[0]]})."
            )
    labelled = next((table for table in tables.values() if table.labels is not None), None)
    labels = None
    if labelled is not None and labelled.labels is not None:
        labels = np.full(len(samples), -1, dtype=np.int64)
        labels[[place[sample] for sample in labelled.sample_names]] = labelled.labels
    return replace(
        x,
        sample_names=samples,
        labels=labels,
        label_names=None if labelled is None else labelled.label_names,
        views=dict(others),
        sources=sources_of({name: table.sources for name, table in tables.items()}),
        remarks=(
            *(said for table in tables.values() for said in table.remarks),
            *remarks,
            *_unequal(whole),
        ),
    )


def without_absent(values: Any, mask: Any) -> tuple[Any, Any]:
    """Values and mask in which rows of nothing but NaN are samples that are not there."""
    if hasattr(values, "toarray"):
        return values, mask
    absent = np.isnan(values).all(1)
    if not absent.any():
        return values, mask
    seen = np.ones(values.shape, dtype=bool) if mask is None else mask
    return np.where(absent[:, None], 0.0, values), seen & ~absent[:, None]


def _all_samples(tables: Mapping[str, Matrix]) -> list[str]:
    """Samples of all tables, each once."""
    found: dict[str, None] = {}
    for name, table in tables.items():
        own = dict.fromkeys(table.sample_names)
        if len(own) < len(table.sample_names):
            twice = next(s for s in own if table.sample_names.count(s) > 1)
            raise UserError(
                f"The sample {twice!r} occurs {table.sample_names.count(twice)} times in the view "
                f"{name!r}: views are joined by sample name, so each name may occur once."
            )
        if found and not own.keys() & found.keys():
            raise UserError(
                f"The view {name!r} has no sample in common with the others: its samples are "
                f"{shorten(list(own), 3)}, theirs {shorten(list(found), 3)}. Is its orientation right, "
                "and are the names written alike?"
            )
        found |= own
    return list(found)


def _on(table: Matrix, place: Mapping[str, int], n: int) -> Matrix:
    """A table with a row for every sample; weight 0 where it has none."""
    rows = [place[sample] for sample in table.sample_names]
    values = np.zeros((n, table.shape[1]))
    values[rows] = _dense(table.values)
    mask = None
    if table.mask is not None or len(rows) < n:
        own = np.ones(table.shape, dtype=bool) if table.mask is None else _dense(table.mask)
        mask = np.zeros(values.shape, dtype=own.dtype)
        mask[rows] = own
    return replace(table, values=values, mask=mask, sample_names=list(place), labels=None)


def _unequal(tables: Mapping[str, Matrix]) -> tuple[str, ...]:
    """Said where one view counts much more than another."""
    norms = {name: float(np.linalg.norm(table.values)) for name, table in tables.items()}
    large, small = max(norms, key=lambda n: norms[n]), min(norms, key=lambda n: norms[n])
    if len(norms) < 2 or norms[large] <= UNEQUAL * norms[small]:
        return ()
    return (
        f"The norm of the view {large!r} is {norms[large]:.3g} and that of {small!r} {norms[small]:.3g}: "
        "where losses are added up as they are, the first counts more; data.scaling=frobenius makes "
        "them equal.",
    )


def _dense(values: Any) -> Any:
    return values.toarray() if hasattr(values, "toarray") else values
