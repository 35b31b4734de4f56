"""``data=stream``: a matrix larger than memory, of which a few rows at a time are read from disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np

from nmfnet.data.formats.hdf5 import read_obs
from nmfnet.data.formats.raw import check_file, file_sha256, numbered
from nmfnet.data.formats.text import read_names
from nmfnet.data.matrix import Matrix, _check_names
from nmfnet.data.sources.source import Source, image_size, with_covariates
from nmfnet.data.stream.stored import Numbered, Stored, open_stored
from nmfnet.errors import UserError

__all__ = ["Scan", "StoredMatrix", "Stream"]


@dataclass(frozen=True)
class Scan:
    """What one pass over all rows tells.

    Attributes
    ----------
    negative : int
        Entries below 0.
    lowest : ndarray, shape (1, n_features)
        The row of the smallest entry, and ``lowest_row`` its number.
    zero_rows, first_zero_row : int
        Rows that are 0 in every feature.
    low, high : ndarray, shape (n_features,)
        Smallest and largest entry of each column.
    """

    negative: int
    lowest: np.ndarray
    lowest_row: int
    zero_rows: int
    first_zero_row: int
    low: np.ndarray
    high: np.ndarray


@final
@dataclass(frozen=True)
class StoredMatrix(Matrix):
    """A matrix whose ``values`` are a `Stored`; everything observed, rows without names."""

    values: Stored

    @cached_property
    def scan(self) -> Scan:
        """One pass over the data, block by block.

        Raises
        ------
        UserError
            For NaN or infinite values, with the first row that has any.
        """
        f = self.shape[1]
        low, high = np.full(f, np.inf), np.full(f, -np.inf)
        negative = zero_rows = lowest_row = 0
        first_zero_row, lowest = -1, np.full((1, f), np.inf)
        for rows in self.values.blocks():
            block = self.values[rows]
            if not np.isfinite(block).all():
                self._refuse(block, rows.start)
            least, most = block.min(0), block.max(0)
            if least.min() < lowest.min():
                at = int(np.argmin(block.min(1)))
                lowest, lowest_row = block[at : at + 1].astype(np.float64), rows.start + at
            if least.min() < 0:
                negative += int((block < 0).sum())
            zero = np.flatnonzero(~block.any(1))
            if zero.size and first_zero_row < 0:
                first_zero_row = rows.start + int(zero[0])
            zero_rows += zero.size
            np.minimum(low, least, out=low)
            np.maximum(high, most, out=high)
        return Scan(negative, lowest, lowest_row, zero_rows, first_zero_row, low, high)

    def _refuse(self, block: np.ndarray, start: int) -> None:
        row, column = np.argwhere(~np.isfinite(block))[0]
        raise UserError(
            f"Row {start + row} holds {block[row, column]} in feature "
            f"{self.feature_names[column]!r}: data=stream needs finite numbers everywhere. Fill "
            "missing values in, or use data=table with data.missing=mask."
        )

    def check(self) -> None:
        f = self.shape[1]
        _check_names(self.feature_names, f, "feature")
        self._check_extras()
        assert self.scan

    def notes(self) -> list[str]:
        scan, said = self.scan, list(self.remarks)
        n, f = self.shape
        if scan.zero_rows:
            said.append(
                f"{scan.zero_rows} of {n} samples are zero in every feature (first: row "
                f"{scan.first_zero_row})."
            )
        zero = (scan.low == 0) & (scan.high == 0)
        for where, words in (
            (zero, "features are zero in every sample"),
            ((scan.low == scan.high) & ~zero & (n > 1), "features have one value in all samples"),
        ):
            if where.any():
                first = self.feature_names[int(np.flatnonzero(where)[0])]
                said.append(f"{int(where.sum())} of {f} {words} (first: {first}).")
        return said

    def fingerprint(self) -> str:
        """sha256 over the shape, the names and the sha256 of every file."""
        known = (self.shape, self.feature_names, sorted(self.sources.items()))
        return hashlib.sha256(repr(known).encode()).hexdigest()


@final
@dataclass(frozen=True, kw_only=True)
class Stream(Source):
    """A matrix on disk, samples in rows, too large for memory.

    Every pass reads blocks of rows in a random order, so only solvers that work on minibatches can
    use it (``solver=auto`` picks one); splits hold out whole rows. What must fit into memory is W,
    n_samples x n_components numbers (three times while the model is started), and about half a GB.
    Files are hashed block by block.

    Parameters
    ----------
    path : str
        .npy (C order), .parquet or .h5ad (X or a layer, in CSR or dense), or a folder of them whose rows
        follow each other in the order of the file names. A parquet file is read by row groups, which
        should be well below 100 MB.
    feature_names : str, optional
        Text file with one name per line; parquet and h5ad files carry their own.
    layer : str, optional
        Layer of h5ad files; ``raw`` is the ``.raw``.
    covariates : sequence of str, optional
        Columns of ``obs`` of h5ad files; they are held in memory.
    kind : {"generic", "image", "text"}, optional
    image_shape : [height, width], optional
    """

    streamed: ClassVar[bool] = True

    path: str
    feature_names: str | None = None
    layer: str | None = None
    covariates: Sequence[str] | None = None
    kind: Literal["generic", "image", "text"] | None = None
    image_shape: Sequence[int] | None = None

    def read(self) -> StoredMatrix:
        """Open the files; the numbers stay where they are."""
        stored = open_stored(self.path, self.layer)
        n, f = stored.shape
        names = stored.parts[0].names
        if self.feature_names is not None:
            names = tuple(read_names(check_file(self.feature_names, "Names file"), f))
        shape = image_size(self.image_shape)
        files = dict.fromkeys(part.file for part in stored.parts)
        matrix = StoredMatrix(
            stored,
            Numbered(np.arange(n)),  # type: ignore[arg-type]
            numbered("feature", f) if names is None else list(names),
            kind=self.kind or ("generic" if shape is None else "image"),
            image_shape=shape,
            sources={file.name: file_sha256(file) for file in files},
        )
        if not self.covariates:
            return matrix
        beside = with_covariates(matrix, self._covariates(list(files)))
        assert isinstance(beside, StoredMatrix)
        return beside

    def _covariates(self, files: list[Path]) -> dict[str, np.ndarray]:
        """The columns of obs that are asked for, of the rows of all files."""
        others = [file for file in files if file.suffix != ".h5ad"]
        if isinstance(self.covariates, str) or others:
            found = f"{others[0].name} is none" if others else f"got {self.covariates!r}"
            raise UserError(
                "data.covariates=[names] of data=stream is for columns of obs of h5ad files, and "
                f"{found}: write the data as h5ad, or use data=table."
            )
        names = [str(name) for name in self.covariates or ()]
        parts = [read_obs(file, names) for file in files]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}
