"""Data: sources that read a matrix, splits that hold parts of it out.

The Lightning datamodule is in `nmfnet.data.module` (importing Lightning takes seconds).
"""

from nmfnet.data.matrix import Matrix, Reference, Truth
from nmfnet.data.sources.audio import Audio
from nmfnet.data.sources.catalogue import BagOfWords, Hdf5File, MatFile, Ratings, Tokens
from nmfnet.data.sources.cells import Cells
from nmfnet.data.sources.documents import Documents
from nmfnet.data.sources.graph import Graph, GraphArchive, Linked, Neighbours, Points
from nmfnet.data.sources.hierarchical import HierarchicalBlocks
from nmfnet.data.sources.images import Images, Swimmer
from nmfnet.data.sources.known import Referred
from nmfnet.data.sources.metabolites import Metabolites
from nmfnet.data.sources.mixtures import CellMixtures, TissueMixtures
from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.simple import Digits, InMemory, Planted
from nmfnet.data.sources.source import Source
from nmfnet.data.sources.spectra import Spectra
from nmfnet.data.sources.spots import Spots
from nmfnet.data.sources.stacked import Stacked
from nmfnet.data.sources.table import Table
from nmfnet.data.sources.triples import Triples
from nmfnet.data.sources.views import Views
from nmfnet.data.splits import (
    ColdSplit,
    CompletionSplit,
    EntrySplit,
    LabelSplit,
    LinkSplit,
    NoSplit,
    Partition,
    PredefinedSplit,
    RowSplit,
    Split,
    TimeSplit,
)
from nmfnet.data.stream.source import Stream

__all__ = [
    "Audio",
    "BagOfWords",
    "CellMixtures",
    "Cells",
    "ColdSplit",
    "CompletionSplit",
    "Digits",
    "Documents",
    "EntrySplit",
    "Graph",
    "GraphArchive",
    "Hdf5File",
    "HierarchicalBlocks",
    "Images",
    "InMemory",
    "LabelSplit",
    "LinkSplit",
    "Linked",
    "MatFile",
    "Matrix",
    "Metabolites",
    "Neighbours",
    "NoSplit",
    "Origin",
    "Partition",
    "Planted",
    "Points",
    "PredefinedSplit",
    "Ratings",
    "Reference",
    "Referred",
    "RowSplit",
    "Source",
    "Spectra",
    "Split",
    "Spots",
    "Stacked",
    "Stream",
    "Swimmer",
    "Table",
    "TimeSplit",
    "TissueMixtures",
    "Tokens",
    "Triples",
    "Truth",
    "Views",
]
