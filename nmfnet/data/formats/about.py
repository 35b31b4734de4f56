"""What is known of samples beside the data: tables of text and numbers, a row for each sample."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nmfnet.data.formats.excel import SHEETS, read_sheet
from nmfnet.data.formats.layout import read_lines, sniff
from nmfnet.data.formats.raw import MISSING, as_text, reading, shorten
from nmfnet.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["phenotypes_of", "read_about"]

LINES = 50
"""Of a file, by which its delimiter is recognised."""


def read_about(file: Path) -> pd.DataFrame:
    """A delimited text file, Excel or parquet: the first column names the samples, the others are read.

    Raises
    ------
    UserError
        No table, no columns beside the names, or a sample with two rows.
    """
    import pandas as pd

    words = sorted(MISSING)
    with reading(file, "a readable table of samples"):
        if file.suffix == ".parquet":
            table = pd.read_parquet(file)
        elif file.suffix.lower().lstrip(".") in SHEETS:
            lines = io.StringIO("".join(read_sheet(file).lines()))
            table = pd.read_csv(lines, na_values=words, index_col=0)
        else:
            mark = sniff(list(islice(read_lines(file), LINES)), file)
            mark = r"\s+" if mark == " " else mark
            table = pd.read_csv(file, sep=mark, na_values=words, index_col=0)
    if table.shape[1] == 0:
        raise UserError(
            f"{file} has a single column: the first column names the samples, and at least one more says "
            "something of them."
        )
    table.index = pd.Index([as_text(name) for name in table.index])
    table.columns = pd.Index([as_text(name) for name in table.columns])
    twice = table.index[table.index.duplicated()]
    if len(twice):
        raise UserError(f"{file} has the sample {twice[0]!r} more than once: names must be unique.")
    return table


def phenotypes_of(
    table: pd.DataFrame, names: Sequence[str], what: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The columns of a table for some samples: float64 with NaN, or text with "", where missing.

    Parameters
    ----------
    table : DataFrame
        With sample names as its index.
    names : sequence of str
        Of the samples of the data; those that the table lacks are missing in every column.
    what : str
        How messages call the table.

    Returns
    -------
    dict of str to ndarray, shape (n_samples,)
    tuple of str
        What should be said.

    Raises
    ------
    UserError
        No sample of the data is in the table.
    """
    absent = [name for name in names if name not in table.index]
    if len(absent) == len(names):
        raise UserError(
            f"{what} has none of the {len(names)} samples of the data (data: {shorten(names)}; table: "
            f"{shorten(list(table.index))}): both need the same names."
        )
    remark = f"{what} lacks {len(absent)} of the {len(names)} samples (first: "
    said = (f"{remark}{absent[0]}).",) if absent else ()
    whole = table.reindex(list(names))
    found = {}
    for name in whole.columns:
        cells = whole[name]
        if cells.dtype.kind in "biuf" and table[name].dtype.kind != "b":
            found[str(name)] = cells.to_numpy(np.float64)
        else:
            texts = ["" if cell is None or cell != cell else as_text(cell) for cell in cells]
            found[str(name)] = np.array(texts, dtype=object)
    return found, said
