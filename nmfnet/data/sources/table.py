"""Bring your own matrix: one file, any format, the orientation said explicitly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final, get_args

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.about import phenotypes_of, read_about
from nmfnet.data.formats.files import TextOptions, is_text, read_raw
from nmfnet.data.formats.hdf5 import read_obs, read_obsm
from nmfnet.data.formats.memory import Given, aligned, as_weights, weights_of
from nmfnet.data.formats.raw import (
    RawTable,
    as_text,
    check_file,
    file_sha256,
    is_sparse,
    numbered,
    shorten,
)
from nmfnet.data.formats.text import read_labels, read_names
from nmfnet.data.matrix import Kind, Matrix
from nmfnet.data.sources.channels import recognise_channels
from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.reference import with_reference, with_truth
from nmfnet.data.sources.source import (
    Source,
    canonical_channels,
    encode_labels,
    image_size,
    labels_from_names,
    split_missing,
    with_covariates,
)
from nmfnet.errors import UserError

__all__ = ["ORIENTATIONS", "Orientation", "Table"]

Orientation = Literal["samples_by_features", "features_by_samples"]
ORIENTATIONS: tuple[str, ...] = get_args(Orientation)


@final
@dataclass(frozen=True, kw_only=True)
class Table(Source):
    """A matrix in a file.

    Text (csv, tsv, txt, also .gz), Excel (xlsx, xlsm), NumPy (npy, npz), MATLAB (mat), Matrix Market
    (mtx, also .gz), parquet, AnnData (h5ad), MuData (h5mu), 10x (h5), loom and BIOM (biom).

    Parameters
    ----------
    path : str
        The file; inside the data set's folder when ``origin`` is given.
    orientation : {"samples_by_features", "features_by_samples"}
        What rows and columns of the file are. Needed unless the file says it (HDF5 formats, biom,
        npz and mat with names, 10x mtx; a complete set of mutation channels on one axis).
    label_column : str, optional
        Column (or row, if the samples are columns) that holds the class of each sample; or a column of
        the phenotypes; of h5ad and
        h5mu a column of ``obs``, of loom an attribute of the columns, of npz and mat an array.
    label_pattern : str, optional
        Regular expression that finds the class in the sample name; its groups are joined by ``_``.
    sample_names, feature_names : str, optional
        Text files with one name per line, for tables without names.
    labels : str, optional
        File with the class of each sample: one per line in the order of the samples, or lines of
        sample name and class in any order.
    mask : str, optional
        Table of 0 and 1 in the shape and orientation of the data; 1 = observed. Joined by name
        where it has names.
    weight : str, optional
        Table of weights >= 0 instead; 0 = not observed.
    uncertainty : str, optional
        Table of uncertainties u > 0 instead, in the unit of the data: the weights are 1/u² (positive
        matrix factorisation), and the run says how large residuals are in u.
    missing : {"error", "mask"}
        Whether empty, NA and NaN cells are refused or left out of the fit.
    kind : {"generic", "image", "sbs96", "sound", "text"}, optional
        What the features are. Recognised when None: the 96 substitution channels in any usual
        notation, images when ``image_shape`` is set.
    image_shape : [height, width], optional
    reference : str, optional
        File, or name of a data set, with known components to compare with; joined by feature name.
    truth : str, optional
        Table of the true shares or weights of known components, samples in rows or columns: joined by
        sample name.
    drop : sequence of str, optional
        Columns, or else rows, of the file to leave out.
    missing_words : sequence of str, optional
        Cells of a text or Excel file that mean "no value", beside empty, NA, NaN and the like.
    decimal : {".", ","}
        Decimal mark of text files.
    delimiter : str, optional
        Column delimiter of text files, a character or ``tab``; recognised when None.
    header : bool, optional
        Whether the first line of a text or Excel file holds names; recognised when None.
    name_columns : int, optional
        Number of leading columns that hold names; recognised when None.
    name_separator : str
        Put between several name columns.
    layer : str, optional
        Layer of an h5ad, h5mu or loom file; ``raw`` is the ``.raw`` of an AnnData, and the name of an
        entry of its ``obsm`` is that entry, if no layer is called so.
    modality : str, optional
        Modality of an h5mu file.
    sheet : str or int, optional
        Sheet of an Excel file: its name, or its number from 1 on; the first that is not empty when None.
    covariates : str or sequence of str, optional
        What models may read of the samples (batch, donor): a table with sample names in its first
        column, or names of columns of ``obs`` of an h5ad file. Text is one column for each of its
        levels, numbers are used as they are.
    coordinates : str, optional
        Where the samples lie: a table of name, x and y, or an entry of ``obsm`` of an h5ad file
        (``spatial``). They are kept in ``extra["coordinates"]``, shape (n_samples, 2).
    phenotypes : str, optional
        Table of what components may go with, and no model reads (disease, age, weight), with sample
        names in its first column; the run tests every component against every column.
    origin : Origin, optional
        Catalogue entry that the file belongs to.
    """

    path: str
    orientation: Orientation | None = None
    label_column: str | None = None
    label_pattern: str | None = None
    sample_names: str | None = None
    feature_names: str | None = None
    labels: str | None = None
    mask: str | None = None
    weight: str | None = None
    uncertainty: str | None = None
    missing: Literal["error", "mask"] = "error"
    kind: Kind | None = None
    image_shape: Sequence[int] | None = None
    reference: str | None = None
    truth: str | None = None
    drop: Sequence[str] | None = None
    missing_words: Sequence[str] | None = None
    decimal: str = "."
    delimiter: str | None = None
    header: bool | None = None
    name_columns: int | None = None
    name_separator: str = ":"
    layer: str | None = None
    modality: str | None = None
    sheet: str | int | None = None
    covariates: str | Sequence[str] | None = None
    coordinates: str | None = None
    phenotypes: str | None = None
    origin: Origin | None = None

    def read(self) -> Matrix:
        """Read, orient, name, set missing values apart, order the channels, join the reference."""
        if self.orientation is not None and self.orientation not in ORIENTATIONS:
            raise UserError(
                f"data.orientation={self.orientation!r} is unknown. Allowed: "
                f"{', '.join(ORIENTATIONS)}."
            )
        if self.label_column is not None and self.labels is not None:
            raise UserError("data.label_column and data.labels both say the classes: give one.")
        file = self._file(self.path)
        about = None if self.phenotypes is None else read_about(self._file(self.phenotypes))
        of_about = about is not None and self.label_column in about.columns
        raw = read_raw(
            file,
            text=self._text(file),
            label=None if of_about else self.label_column,
            layer=self.layer,
            modality=self.modality,
            sheet=self.sheet,
            drop=[str(name) for name in self.drop or ()],
        )
        transposed = self._is_transposed(raw, file)
        values, rows, columns = _oriented(raw, transposed)
        names = self._names(self.sample_names, rows, "sample", values.shape[0])
        features = self._names(self.feature_names, columns, "feature", values.shape[1])
        mask = self._weights(raw, values, names, features, transposed)
        values, mask, remarks = split_missing(values, mask, self.missing, (names, features))
        found: dict[str, np.ndarray] = {}
        told: tuple[str, ...] = ()
        if about is not None:
            found, told = phenotypes_of(about, names, f"data.phenotypes={self.phenotypes}")
        if of_about:
            assert self.label_column is not None
            raw.labels = [as_text(cell) for cell in found[self.label_column]]
            raw.labels_on = "columns" if transposed else "rows"
        labels, label_names = self._labels(raw, transposed, names)
        matrix = Matrix(
            values,
            names,
            features,
            image_shape=image_size(self.image_shape),
            labels=labels,
            label_names=label_names,
            mask=mask,
            uncertain=self.uncertainty is not None,
            phenotypes=found,
            remarks=(*raw.remarks, *remarks, *told, *_totals(names), *_totals(features)),
            sources=self._sources(file),
            citation="" if self.origin is None else self.origin.citation,
        )
        if self.covariates:
            matrix = with_covariates(matrix, self._covariates(file))
        if self.coordinates is not None:
            places = self._places(self.coordinates, file, names)
            matrix = replace(matrix, extra={**matrix.extra, "coordinates": places})
        kind = "image" if self.kind is None and self.image_shape is not None else self.kind
        matrix = with_truth(canonical_channels(matrix, kind), self.truth)
        return with_reference(matrix, self.reference)

    def check(self) -> None:
        if self.origin is None:
            check_file(self.path)

    def _file(self, path: str) -> Path:
        return check_file(path) if self.origin is None else self.origin.path(path)

    def _covariates(self, file: Path) -> Any:
        """The table, or the columns that are asked for, by name."""
        if isinstance(self.covariates, str):
            return read_about(self._file(self.covariates))
        if file.suffix != ".h5ad":
            raise UserError(
                f"data.covariates=[names] is for columns of obs of an h5ad file; {file.name} is none: "
                "give data.covariates=TABLE, with sample names in its first column."
            )
        return read_obs(file, [str(name) for name in self.covariates or ()])

    def _places(self, said: str, file: Path, names: list[str]) -> np.ndarray:
        """Two coordinates of every sample."""
        inside = file.suffix == ".h5ad" and not Path(said).expanduser().exists()
        raw = read_obsm(file, said) if inside else read_raw(check_file(said, "Coordinates file"))
        rows = np.asarray(raw.values, np.float64)
        if rows.ndim != 2 or rows.shape[1] != 2 or raw.row_names is None:
            named = "" if raw.row_names else " without names"
            raise UserError(
                f"data.coordinates={said} must have a name and two coordinates for every sample, and "
                f"holds {rows.shape[0]} rows of {rows.shape[1]} numbers{named}."
            )
        at = {name: i for i, name in enumerate(raw.row_names)}
        if absent := [name for name in names if name not in at]:
            raise UserError(
                f"data.coordinates={said} does not say where {len(absent)} of {len(names)} samples lie "
                f"(first: {absent[0]!r}; it has {shorten(raw.row_names)})."
            )
        found = rows[[at[name] for name in names]]
        if not np.isfinite(found).all():
            raise UserError(f"data.coordinates={said} has values that are no numbers.")
        return found

    def _text(self, file: Path) -> TextOptions | None:
        """How ``file`` is to be read, if it is text; refuses what no file has a use for."""
        options = TextOptions(
            self.delimiter,
            self.header,
            self.name_columns,
            self.name_separator,
            tuple(str(word) for word in self.missing_words or ()),
            self.decimal,
        )
        files: tuple[str | Path, ...] = (file, *self._beside())
        if not any(is_text(read) for read in files):
            for (name, plain), value in zip(TextOptions()._asdict().items(), options, strict=True):
                if value != plain:
                    raise UserError(f"data.{name} is for text and Excel files, and {file} is none.")
        return options if is_text(file) else None

    def _sources(self, file: Path) -> dict[str, str]:
        if self.origin is not None:
            return self.origin.sources(
                self.path, self.sample_names, self.feature_names, self.phenotypes
            )
        table = self.covariates if isinstance(self.covariates, str) else None
        beside = [*self._beside(), self.labels, self.sample_names, self.feature_names]
        beside += [table, self.phenotypes, self.coordinates]
        files = [file, *(Path(name).expanduser() for name in beside if name is not None)]
        files = [item for item in files if item.is_file()]  # coordinates may be inside the first
        return {item.name: file_sha256(item) for item in files}

    def _is_transposed(self, raw: RawTable, file: Path) -> bool:
        """Whether the file has the samples on its columns."""
        orientation = self.orientation or raw.orientation or _by_channels(raw)
        if orientation is None:
            raise UserError(_orientation_message(raw, file))
        if raw.orientation is not None and raw.orientation != orientation:
            raise UserError(
                f"data.orientation={orientation}, but {file} itself says {raw.orientation} (by "
                f"the names stored with it). Set data.orientation={raw.orientation}."
            )
        return orientation == "features_by_samples"

    def _names(self, given: str | None, read: list[str] | None, word: str, count: int) -> list[str]:
        if given is not None:
            file = (
                check_file(given, "Names file") if self.origin is None else self.origin.path(given)
            )
            return read_names(file, count)
        return numbered(word, count) if read is None else read

    def _labels(
        self, raw: RawTable, transposed: bool, names: list[str]
    ) -> tuple[np.ndarray | None, list[str] | None]:
        if self.labels is not None:
            return encode_labels(read_labels(check_file(self.labels, "Labels file"), names))
        if raw.labels is not None:
            if (raw.labels_on == "columns") != transposed:
                one, other = ("column", "row") if transposed else ("row", "column")
                raise UserError(
                    f"data.label_column={self.label_column!r} is a {one} of the file, but with "
                    f"data.orientation={self.orientation} the classes of the samples must be a "
                    f"{other}."
                )
            return encode_labels(raw.labels)
        if self.label_pattern is not None:
            return encode_labels(labels_from_names(names, self.label_pattern))
        return None, None

    def _beside(self) -> list[str]:
        """Files with a number for every entry."""
        return [name for name in (self.mask, self.weight, self.uncertainty) if name is not None]

    def _weights(
        self, raw: RawTable, data: Any, names: list[str], features: list[str], transposed: bool
    ) -> Any:
        """The mask or the weights of the entries, out of a file of their own or the data's."""
        beside = self._beside()
        if len(beside) > 1:
            raise UserError(
                "data.mask, data.weight and data.uncertainty all say what an entry counts: give one of "
                "them."
            )
        if not beside:
            if raw.mask is None:
                return None
            return as_weights(raw.mask.T if transposed else raw.mask, names, features)
        path, word = beside[0], "mask" if self.mask is not None else "weights"
        word = "uncertainties" if self.uncertainty is not None else word
        file = check_file(path, f"{word.capitalize()} file")
        values, rows, columns = _oriented(read_raw(file, text=self._text(file)), transposed)
        where = f"the {word} {file}"
        found, _ = aligned(Given(values, rows, columns), names, features, where)
        if self.uncertainty is not None:
            return weights_of(found, data, names, features, f"The uncertainties {file}")
        weights = as_weights(found, names, features, where)
        if self.mask is not None and weights.dtype != bool:
            stored = weights.data if is_sparse(weights) else weights
            raise UserError(
                f"The mask {file} holds {stored[(stored != 0) & (stored != 1)][0]:g}; only 1 "
                "(observed) and 0 (not observed) are allowed. data.weight=FILE takes weights."
            )
        return weights


def _totals(names: list[str]) -> tuple[str, ...]:
    """Said of names that a spreadsheet gives to sums over the others."""
    sums = [name for name in names if name.strip().lower() in ("total", "totals", "grand total")]
    if not sums:
        return ()
    return (f"{shorten(sums)} looks like a sum over the others: data.drop=[{sums[0]}] drops it.",)


def _oriented(raw: RawTable, transposed: bool) -> tuple[Any, list[str] | None, list[str] | None]:
    """Values with samples in rows, sample names, feature names."""
    if not transposed:
        return raw.values, raw.row_names, raw.column_names
    values = raw.values.T
    values = sp.csr_matrix(values) if is_sparse(values) else np.ascontiguousarray(values)
    return values, raw.column_names, raw.row_names


def _by_channels(raw: RawTable) -> str | None:
    """The orientation of a mutation catalogue, where its channels say it."""
    for names, meaning in (
        (raw.row_names, "features_by_samples"),
        (raw.column_names, "samples_by_features"),
    ):
        if names and recognise_channels(names):
            return meaning
    return None


def _orientation_message(raw: RawTable, file: Path) -> str:
    rows, columns = raw.values.shape
    lines = [
        f"{file} holds a table of {rows} rows x {columns} columns. Say what they are by adding "
        "one line:",
        f"  data.orientation=samples_by_features   (each row is a sample: {rows} samples, "
        f"{columns} features)",
        f"  data.orientation=features_by_samples   (each column is a sample: {columns} samples, "
        f"{rows} features)",
        f"First row names:    {shorten(raw.row_names or []) or 'none in the file'}",
        f"First column names: {shorten(raw.column_names or []) or 'none in the file'}",
    ]
    return "\n".join(lines)
