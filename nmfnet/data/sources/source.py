"""Where a matrix comes from: the abstract source, and the steps that sources share."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np
import scipy.sparse as sp

from nmfnet.data.formats.covariates import Design, columns_of
from nmfnet.data.formats.raw import MISSING, check_memory, is_sparse, shorten
from nmfnet.data.matrix import KINDS, Matrix
from nmfnet.data.sources.channels import CHANNELS, SBS96, parse_channel, recognise_channels
from nmfnet.errors import UserError, reason

__all__ = [
    "Source",
    "canonical_channels",
    "encode_labels",
    "image_size",
    "labels_from_names",
    "sources_of",
    "split_missing",
    "with_covariates",
]


class Source(ABC):
    """A place that a data matrix can be read from. Options are fields; ``read`` does the work."""

    streamed: ClassVar[bool] = False
    """Whether what it reads is a `StoredMatrix`, whose rows come a few at a time."""

    @abstractmethod
    def read(self) -> Matrix:
        """Read the matrix, oriented samples by features.

        Raises
        ------
        UserError
            Bad options, or data that cannot be read.
        """

    def counted(self) -> Matrix | None:
        """The counts that `read` makes its values of, of the same samples; None = of none."""
        return None

    def check(self) -> None:  # noqa: B027  (a source without files has none to look for)
        """Look for the files that the user names, without reading them.

        Raises
        ------
        UserError
            One is not there.
        """


@final
@dataclass(frozen=True, eq=False)
class Held(Source):
    """A matrix that has been read."""

    matrix: Matrix

    def read(self) -> Matrix:
        return self.matrix


def encode_labels(texts: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Classes as numbers: (index of each, sorted class names); texts in MISSING become -1.

    Raises
    ------
    UserError
        No sample has a class.
    """
    names = sorted({text for text in texts if text not in MISSING}, key=natural)
    if not names:
        raise UserError(
            f"None of the {len(texts)} labels names a class: all are empty or missing. Give the "
            "classes, or leave the labels out."
        )
    position = {name: i for i, name in enumerate(names)}
    return np.array([position.get(text, -1) for text in texts], dtype=np.int64), names


def natural(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts ``10`` after ``9``."""
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def labels_from_names(names: Sequence[str], pattern: str) -> list[str]:
    """Class of each sample out of its name: the groups of ``pattern`` that match, joined by ``_``.

    Raises
    ------
    UserError
        Not a regular expression, without a group, or without a match in any name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"label_pattern={pattern!r} is not a regular expression: {reason(error)}."
        ) from error
    if compiled.groups == 0:
        raise UserError(
            f"label_pattern={pattern!r} needs a group in brackets, for instance '^(.*?)::'."
        )
    labels = []
    for name in names:
        match = compiled.search(name)
        labels.append("_".join(group for group in match.groups() if group) if match else "")
    if not any(labels):
        raise UserError(f"label_pattern={pattern!r} matches no sample name (first: {names[0]!r}).")
    return labels


def split_missing(
    values: Any,
    mask: Any,
    missing: str,
    names: tuple[Sequence[str], Sequence[str]],
    advice: str = "set data.missing=mask to leave missing values out of the fit",
) -> tuple[Any, Any, tuple[str, ...]]:
    """Take NaN out of ``values``: (values with 0 where not observed, mask or None, remarks).

    Beside sparse values a mask says which entries are stored, so it can hold no weights: with
    weights, or with a dense mask, the values become dense.

    Parameters
    ----------
    values : ndarray or csr_matrix, shape (n_samples, n_features)
        Not changed; copied where needed.
    mask : ndarray or csr_matrix of bool (True = observed) or of float64 (weights), or None
    missing : {"error", "mask"}
        Whether NaN is refused or means "not observed".
    names : pair of sequences of str
        Sample and feature names, for the message.
    advice : str
        What to do about missing values, for the message.

    Raises
    ------
    UserError
        NaN among the observed entries with ``missing="error"``; an unknown word; NaN in sparse
        data; a mask of another shape; sparse data that do not fit into memory as a dense table.
    """
    if missing not in ("error", "mask"):
        raise UserError(
            f"missing={missing!r} is unknown. Allowed: error (refuse NaN), mask (leave it out)."
        )
    if mask is not None and mask.shape != values.shape:
        raise UserError(
            f"The mask is {mask.shape[0]} x {mask.shape[1]} but the data are {values.shape[0]} x "
            f"{values.shape[1]} (samples x features). Both need the same shape and orientation."
        )
    remarks: tuple[str, ...] = ()
    if is_sparse(values):
        _refuse_stored_nan(values)
        if mask is None:
            return values, None, ()
        if is_sparse(mask) and mask.dtype == bool:
            return sp.csr_matrix(values.multiply(mask)), sp.csr_matrix(mask), ()
        values, remarks = _dense(values)
    if is_sparse(mask):
        mask = mask.toarray()
    absent = np.isnan(values)
    if absent.any():
        unexplained = absent if mask is None else absent & (mask != 0)
        if missing == "error" and unexplained.any():
            row, column = np.argwhere(unexplained)[0]
            raise UserError(
                f"{int(unexplained.sum())} of {values.size} values are missing (empty, NA or "
                f"NaN); the first is in sample {names[0][row]!r}, feature {names[1][column]!r}. "
                f"Fill them in, or {advice}."
            )
        mask = ~absent if mask is None else np.where(absent, mask.dtype.type(0), mask)
    if mask is None or (mask == 1).all():
        return values, None, remarks
    return np.where(mask != 0, values, 0.0), mask, remarks


def _refuse_stored_nan(values: Any) -> None:
    absent = int(np.isnan(values.data).sum())
    if absent:
        raise UserError(
            f"{absent} of {values.nnz} stored values of the sparse matrix are NaN. Remove them, "
            "or give a dense table and a mask."
        )


_WORTH_SAYING = 100_000_000
"""Bytes from which a note says that a sparse matrix became a dense one."""


def _dense(values: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    size = 8 * math.prod(map(int, values.shape))
    check_memory(size, "The sparse matrix, made dense because its mask is dense or holds weights,")
    remarks: tuple[str, ...] = ()
    if size > _WORTH_SAYING:
        remarks = (
            f"The sparse matrix was made dense ({size / 1e9:.1f} GB), because its mask is dense or "
            "holds weights. A sparse mask of 0 and 1 keeps it sparse.",
        )
    return values.toarray(), remarks


def canonical_channels(matrix: Matrix, kind: str | None) -> Matrix:
    """Decide ``kind``, and put mutation channels into canonical labels and order.

    Raises
    ------
    UserError
        The channels lie on the samples axis, or ``kind="sbs96"`` was asked for and does not hold.
    """
    if kind is not None and kind not in KINDS:
        raise UserError(f"kind={kind!r} is unknown. Allowed: {', '.join(KINDS)}.")
    known = recognise_channels(matrix.feature_names)
    if known is None and (other := recognise_channels(matrix.sample_names)) is not None:
        raise UserError(
            f"The {len(other[1])} mutation channels ({shorten(matrix.sample_names, 2)}) lie on the "
            "axis called samples: the orientation is the other way round. Set data.orientation to "
            "the other of samples_by_features and features_by_samples."
        )
    if kind not in (None, "sbs96"):
        return replace(matrix, kind=kind)
    if known is None or (kind == "sbs96" and known[0] != "SBS96"):
        return _without_channels(matrix, kind)
    system, channels = known
    place = {channel: i for i, channel in enumerate(channels)}
    order = np.array([place[channel] for channel in CHANNELS[system]])
    values = matrix.values[:, order]
    return replace(
        matrix,
        values=values if matrix.is_sparse else np.ascontiguousarray(values),
        feature_names=list(CHANNELS[system]),
        kind="sbs96" if system == "SBS96" else "generic",
        mask=None if matrix.mask is None else matrix.mask[:, order],
    )


def _without_channels(matrix: Matrix, kind: str | None) -> Matrix:
    parsed = [parse_channel(name) for name in matrix.feature_names]
    found = {channel for channel in parsed if channel is not None}
    absent = [channel for channel in SBS96 if channel not in found]
    if kind == "sbs96":
        unknown = [
            name for name, got in zip(matrix.feature_names, parsed, strict=True) if got is None
        ]
        raise UserError(
            f"kind=sbs96 needs the 96 channels as feature names (such as 'A[C>A]A' or 'C>A:ACA'): "
            f"{len(found)} were recognised among {len(parsed)} features; missing "
            f"{shorten(absent) or 'none'}; not understood {shorten(unknown) or 'none'}. Is "
            "data.orientation right?"
        )
    remarks = matrix.remarks
    if len(found) >= len(SBS96) // 2:
        remarks += (
            f"{len(found)} of the 96 substitution channels were recognised among {len(parsed)} "
            f"features (missing: {shorten(absent) or 'none'}), so they are treated as plain "
            "features.",
        )
    return replace(matrix, kind="generic", remarks=remarks)


def image_size(shape: Sequence[int] | None) -> tuple[int, int] | None:
    """``[height, width]`` of the configuration as a pair of positive integers.

    Raises
    ------
    UserError
        Anything else.
    """
    if shape is None:
        return None
    sizes = [int(size) for size in shape]
    if len(sizes) != 2 or min(sizes) < 1:
        raise UserError(f"image_shape={list(shape)} must be two positive numbers, [height, width].")
    return sizes[0], sizes[1]


def sources_of(several: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Files (name: sha256) of several tables by name; of equal names under that of their table."""
    listed = [(table, *one) for table, sources in several.items() for one in sources.items()]
    contents: dict[str, set[str]] = {}
    for _, file, sha in listed:
        contents.setdefault(file, set()).add(sha)
    return {
        file if len(contents[file]) == 1 else f"{table}/{file}": sha for table, file, sha in listed
    }


def with_covariates(matrix: Matrix, given: Any) -> Matrix:
    """The same matrix, with what is known of its samples beside; ``given`` as for `InMemory`."""
    table = columns_of(given, matrix.sample_names, matrix.shape[0])
    design = Design.of(table)
    return replace(
        matrix,
        extra=matrix.extra | {"covariates": design.encode(table)},
        design=design,
        remarks=(*matrix.remarks, *design.remarks(table)),
    )
