"""Data: sources that read a matrix, splits that hold parts of it out.

The Lightning datamodule is in `nmfnet.data.module` (importing Lightning takes seconds).
"""

from nmfnet.data.catalogue import BagOfWords, MatFile, Ratings
from nmfnet.data.documents import Documents
from nmfnet.data.hierarchical import HierarchicalBlocks
from nmfnet.data.matrix import Matrix, Reference, Truth
from nmfnet.data.origin import Origin
from nmfnet.data.simple import Digits, InMemory, Planted
from nmfnet.data.source import Source
from nmfnet.data.spectra import Spectra
from nmfnet.data.splits import (
    EntrySplit,
    LabelSplit,
    NoSplit,
    Partition,
    PredefinedSplit,
    RowSplit,
    Split,
)
from nmfnet.data.stream import Stream
from nmfnet.data.table import Table

__all__ = [
    "BagOfWords",
    "Digits",
    "Documents",
    "EntrySplit",
    "HierarchicalBlocks",
    "InMemory",
    "LabelSplit",
    "MatFile",
    "Matrix",
    "NoSplit",
    "Origin",
    "Partition",
    "Planted",
    "PredefinedSplit",
    "Ratings",
    "Reference",
    "RowSplit",
    "Source",
    "Spectra",
    "Split",
    "Stream",
    "Table",
    "Truth",
]
