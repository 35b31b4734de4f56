"""Concentrations or intensities of metabolites, in a workbook of two sheets."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from nmfnet.data.formats.excel import read_sheet
from nmfnet.data.formats.raw import number, shorten
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.source import Source, encode_labels, split_missing
from nmfnet.errors import UserError

__all__ = ["Metabolites"]


@final
@dataclass(frozen=True, kw_only=True)
class Metabolites(Source):
    """Samples by metabolites; entries without a value are masked.

    The sheet ``Data`` has a row for each sample (``SampleID``, classes, ``M1``, ...), and ``Peak``
    one for each metabolite (``Name``, ``Label``, and perhaps ``QC_RSD``).

    Parameters
    ----------
    origin : Origin
    file : str
        The Excel file.
    labels : str
        Column of ``Data`` with the class of each sample, which is a phenotype as well.
    leave_out : sequence of str
        Values of the column ``SampleType`` that are no samples, such as QC.
    max_rsd : float, optional
        Keep the metabolites of which ``QC_RSD``, the relative standard deviation of the quality controls
        in per cent, is below; None = all.
    dilution : bool
        Divide every sample by the median of its quotients to the median sample.
    log : bool
        log2(1 + x / median of the metabolite): 0 for 0, 1 for the median.

    Source: Mendez, Pritchard, Reinke & Broadhurst 2019 (the layout, and the bound of ``QC_RSD``);
    Dieterle et al. 2006 (the quotients).
    """

    origin: Origin
    file: str
    labels: str
    leave_out: Sequence[str] = ()
    max_rsd: float | None = None
    dilution: bool = True
    log: bool = True

    def read(self) -> Matrix:
        """Read both sheets, leave out controls and noisy metabolites, and scale."""
        path = self.origin.path(self.file)
        samples, peaks = (_rows(read_sheet(path, sheet).lines()) for sheet in ("Data", "Peak"))
        _check_column("labels", self.labels, samples)
        kept = [row for row in samples if row.get("SampleType") not in self.leave_out]
        firm = peaks
        if self.max_rsd is not None:
            _check_column("max_rsd", "QC_RSD", peaks)
            firm = [peak for peak in peaks if float(peak["QC_RSD"]) < self.max_rsd]
        values = np.array(
            [[number(row[peak["Name"]]) for peak in firm] for row in kept], np.float64
        )
        if self.dilution:
            values /= np.nanmedian(values / np.nanmedian(values, 0), 1, keepdims=True)
        if self.log:
            values = np.log2(1 + values / np.nanmedian(values, 0))
        names, features = [row["SampleID"] for row in kept], [peak["Label"] for peak in firm]
        values, mask, remarks = split_missing(values, None, "mask", (names, features))
        classes = [row[self.labels] for row in kept]
        labels, label_names = encode_labels(classes)
        return Matrix(
            values,
            names,
            features,
            labels=labels,
            label_names=label_names,
            mask=mask,
            phenotypes={self.labels: np.array(classes, dtype=object)},
            remarks=(
                *remarks,
                *_left_out(len(samples) - len(kept), f"{' and '.join(self.leave_out)} samples"),
                *_left_out(len(peaks) - len(firm), f"metabolites with QC_RSD >= {self.max_rsd}"),
            ),
            sources=self.origin.sources(self.file),
            citation=self.origin.citation,
        )


def _rows(lines: Any) -> list[dict[str, str]]:
    return [*csv.DictReader(lines)]


def _check_column(option: str, name: str, rows: list[dict[str, str]]) -> None:
    if name not in rows[0]:
        raise UserError(
            f"data.{option} needs the column {name!r}, and there are {shorten(list(rows[0]), 6)}."
        )


def _left_out(count: int, what: str) -> tuple[str, ...]:
    return (f"{count} {what} were left out.",) if count else ()
