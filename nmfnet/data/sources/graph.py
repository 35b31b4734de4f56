"""Graphs: links between samples from a file, an archive, or the nearest neighbours of a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from nmfnet.data.formats.files import read_raw
from nmfnet.data.formats.layout import read_lines
from nmfnet.data.formats.memory import rows_like
from nmfnet.data.formats.raw import (
    check_file,
    did_you_mean,
    file_sha256,
    memory,
    numbered,
)
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.source import Source, encode_labels
from nmfnet.errors import UserError

__all__ = ["Graph", "GraphArchive", "Linked", "Neighbours", "Points", "symmetric_links"]

Normalize = Literal["none", "max", "sym"]
Links = tuple[sp.csr_matrix, tuple[str, ...]]

HEADERS = frozenset(
    f"{word}{tail}"
    for word in ("source", "target", "from", "to", "head", "tail", "node", "name", "id")
    for tail in ("", "1", "2", "_1", "_2", "_id")
)
"""Words that no node is called: a first line of two of them names the columns."""

WORDS = 25
"""Bytes that a list of links takes as words, for each of the file."""


def symmetric_links(links: Any, names: Sequence[str], where: str) -> Links:
    """Undirected links without loops, and what was changed on the way.

    Parameters
    ----------
    links : array or scipy sparse matrix, shape (n, n)
        Weights of the links; 0 = none.
    names : sequence of str
        Of the nodes.
    where : str
        What the graph is called in messages.

    Returns
    -------
    csr_matrix of float64, tuple of str
        Symmetric, with an empty diagonal and no stored zeros; remarks.

    Raises
    ------
    UserError
        Not square, not finite, or with a negative weight.
    """
    shape = np.shape(links)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise UserError(
            f"{where} is {' x '.join(map(str, shape))}, but a graph must be square: a row and a "
            "column for every node, in the same order."
        )
    if shape[0] != len(names):
        raise UserError(
            f"{where} is {shape[0]} x {shape[0]}, but there are {len(names)} nodes: give it a row "
            "and a column for each of them."
        )
    A = sp.coo_matrix(links, dtype=np.float64)
    for bad, word, advice in (
        (~np.isfinite(A.data), "NaN or infinite", "leave these links out, or mend them"),
        (A.data < 0, "negative", "a link has a weight >= 0; shift, clip or leave them out"),
    ):
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise UserError(
                f"{where} has {word} weights; the first, {A.data[at]:g}, links {names[A.row[at]]!r} "
                f"and {names[A.col[at]]!r}: {advice}."
            )
    remarks = []
    loops = (A.row == A.col) & (A.data != 0)
    if loops.any():
        alone = np.unique(A.row[loops])
        remarks.append(f"{alone.size} self loops were dropped (first: {names[alone[0]]!r}).")
    apart = (A.row != A.col) & (A.data != 0)
    listed = A.row[apart], A.col[apart], A.data[apart]
    there = _largest(*listed, shape[0])
    remarks += _repeated(*listed, there, names)
    both = sp.csr_matrix(there.maximum(there.T))
    if not both.nnz:
        raise UserError(f"{where} has no links between different nodes.")
    if one_way := (both - there).count_nonzero():
        remarks.append(
            f"{one_way} links are in one direction only, or weigh more in the other: they were made "
            "undirected, with the larger weight."
        )
    both.sort_indices()
    return both, (*remarks, *_apart(both, names))


def _repeated(
    rows: Any, columns: Any, weights: Any, there: sp.csr_matrix, names: Sequence[str]
) -> list[str]:
    """That pairs are listed with different weights, of which the largest is taken."""
    smaller = np.flatnonzero(weights < np.asarray(there[rows, columns]).ravel())
    if not smaller.size:
        return []
    pairs = np.sort(np.stack([rows, columns], 1)[smaller], axis=1)
    i, j = pairs[0]
    return [
        f"{len(np.unique(pairs, axis=0))} pairs of nodes are listed again with another weight (first: "
        f"{names[i]!r} and {names[j]!r}): the largest was taken."
    ]


def _apart(A: sp.csr_matrix, names: Sequence[str]) -> list[str]:
    """That a graph falls into parts, and that some nodes have no links."""
    many, part = connected_components(A, directed=False)
    if many == 1:
        return []
    said = (
        f"the graph has {many} parts without a link between them; the largest has "
        f"{np.bincount(part).max()} of {len(names)} nodes"
    )
    alone = np.flatnonzero(np.diff(A.indptr) == 0)
    if alone.size:
        said += f", and {alone.size} nodes have no links (first: {names[alone[0]]!r})"
    return [f"{said}."]


def _normalized(A: sp.csr_matrix, how: str) -> sp.csr_matrix:
    """``A / max(A)`` or ``D^-1/2 A D^-1/2``, where D is the sum of each row."""
    if how == "none":
        return A
    if how == "max":
        return sp.csr_matrix(A / A.max())
    if how != "sym":
        raise UserError(f"data.normalize={how!r} is unknown. Allowed: none, max, sym.")
    degree = np.asarray(A.sum(1)).ravel()
    scale = sp.diags_array(np.where(degree > 0, degree, 1.0) ** -0.5)
    scaled = sp.csr_matrix(scale @ A @ scale)
    scaled.sort_indices()
    return scaled


def _of_links(A: sp.csr_matrix, matrix: Matrix, normalize: str, features: bool) -> Matrix:
    """The matrix with its graph, and with the graph as X where there are no features."""
    A = _normalized(A, normalize)
    if features:
        return replace(matrix, graph=A)
    names = matrix.sample_names
    return replace(
        matrix, values=A, feature_names=names, kind="generic", image_shape=None, mask=None, graph=A
    )


@final
@dataclass(frozen=True, kw_only=True)
class Graph(Source):
    """Links between nodes: an edge list, or a square table; undirected, without self loops.

    Parameters
    ----------
    path : str
        csv, tsv or txt with a link a line (two names and, optionally, a weight), or a square table
        in any format of ``data=table`` (npz and mtx are sparse).
    layout : {"edges", "square"}, optional
        Recognised when None: text with two or three columns holds edges.
    header : bool, optional
        Whether the first line of an edge list names its columns; recognised when None.
    normalize : {"none", "max", "sym"}
        Weights as they are, over the largest, or ``D^-1/2 A D^-1/2`` with D the sums of the rows, of
        the whole graph: weights then know how many links of a node ``split=links`` holds out.
    features : str, optional
        Table with a named row of numbers for every node: X. Without it X is the graph itself.
    labels : str, optional
        Text file with a node and its class a line.
    """

    path: str
    layout: Literal["edges", "square"] | None = None
    header: bool | None = None
    normalize: Normalize = "none"
    features: str | None = None
    labels: str | None = None

    def check(self) -> None:
        check_file(self.path, "Graph file")

    def read(self) -> Matrix:
        """Read the links, and X and the classes of the nodes where they are given."""
        file = check_file(self.path, "Graph file")
        nodes, X, feature_names = self._table()
        A, names, remarks = self._links(file, nodes)
        labels, label_names = self._classes(names)
        beside = [Path(name).expanduser() for name in (self.features, self.labels) if name]
        matrix = Matrix(
            A if X is None else X,
            names,
            names if feature_names is None else feature_names,
            labels=labels,
            label_names=label_names,
            sources={item.name: file_sha256(item) for item in (file, *beside)},
            remarks=remarks,
        )
        return _of_links(A, matrix, self.normalize, X is not None)

    def _table(self) -> tuple[list[str] | None, Any, list[str] | None]:
        """Names of the nodes, X and names of the features, of the table of features."""
        if self.features is None:
            return None, None, None
        file = check_file(self.features, "Features file")
        raw = read_raw(file)
        if raw.row_names is None:
            raise UserError(f"{file} has no names of nodes: they belong in its first column.")
        columns = raw.column_names or numbered("feature", raw.values.shape[1])
        return raw.row_names, raw.values, columns

    def _links(
        self, file: Path, nodes: list[str] | None
    ) -> tuple[sp.csr_matrix, list[str], tuple[str, ...]]:
        edges = _edges(file, self.header) if self.layout != "square" else None
        if edges is None and self.layout == "edges":
            raise UserError(
                f"{file} has no lines of two names and, optionally, a weight: a list of links has "
                "two or three columns. For a square table set data.layout=square."
            )
        where = f"the graph {file}"
        if edges is None:
            return _square(file, nodes, self.features or "", where)
        pairs, weights, remarks = edges
        names = nodes or sorted({name for pair in pairs for name in pair})
        place = {name: i for i, name in enumerate(names)}
        if unknown := [name for pair in pairs for name in pair if name not in place]:
            raise UserError(
                f"{len(set(unknown))} nodes of {file} are not in {self.features} (first: "
                f"{unknown[0]!r}).{did_you_mean(unknown[0], names)} Every node needs its row of "
                "features."
            )
        ends = np.array([[place[name] for name in pair] for pair in pairs])
        ends = np.concatenate([ends, ends[:, ::-1]])  # a line is a link in both directions
        entries = sp.coo_matrix((np.tile(weights, 2), ends.T), shape=(len(names),) * 2)
        A, more = symmetric_links(entries, names, where)
        return A, names, (*remarks, *more)

    def _classes(self, names: list[str]) -> tuple[np.ndarray | None, list[str] | None]:
        if self.labels is None:
            return None, None
        file = check_file(self.labels, "Labels file")
        lines = _cells(file)
        if any(len(cells) != 2 for cells in lines):
            raise UserError(f"{file} must have two columns: a node and its class.")
        lines = lines[1:] if lines[0][0].lower() in HEADERS else lines
        known, nodes = dict(lines), set(names)
        if unknown := [cells[0] for cells in lines if cells[0] not in nodes]:
            raise UserError(
                f"{len(unknown)} nodes of {file} are not in the graph (first: {unknown[0]!r})."
                f"{did_you_mean(unknown[0], names)}"
            )
        return encode_labels([known.get(name, "") for name in names])


def _square(
    file: Path, nodes: list[str] | None, asker: str, where: str
) -> tuple[sp.csr_matrix, list[str], tuple[str, ...]]:
    """Links, names and remarks of a square table; in the order of ``nodes`` where they are given."""
    raw = read_raw(file)
    for row, column in zip(raw.row_names or (), raw.column_names or (), strict=False):
        if row != column:
            raise UserError(
                f"{where} has the row {row!r} beside the column {column!r}: rows and columns must be "
                "the same nodes in the same order."
            )
    read = raw.row_names or raw.column_names
    names = read or nodes or numbered("node", raw.values.shape[0])
    A, remarks = symmetric_links(raw.values, names, where)
    if nodes is None or read is None:
        return A, names, remarks
    order = _positions(nodes, names, asker, file)
    return sp.csr_matrix(A[order][:, order]), nodes, remarks


def _positions(wanted: list[str], there: list[str], asker: str, file: Path) -> list[int]:
    place = {name: i for i, name in enumerate(there)}
    unknown = [name for name in wanted if name not in place]
    if unknown or len(there) != len(wanted):
        first = unknown[0] if unknown else next(n for n in there if n not in set(wanted))
        raise UserError(
            f"{asker} has {len(wanted)} nodes and {file} has {len(there)}, and they are not the same "
            f"(first: {first!r}): give both the same nodes."
        )
    return [place[name] for name in wanted]


def _largest(rows: Any, columns: Any, weights: Any, n: int) -> sp.csr_matrix:
    """Links with the largest weight of every ordered pair: repeated links are one link."""
    keys, place = np.unique(rows.astype(np.int64) * n + columns, return_inverse=True)
    largest = np.zeros(keys.size)
    np.maximum.at(largest, place, weights)
    return sp.csr_matrix((largest, np.divmod(keys, n)), shape=(n, n))


def _cells(file: Path) -> list[list[str]]:
    """Cells of a text file by the first delimiter with which all lines have several."""
    kept = [line for line in read_lines(file) if line.strip() and not line.startswith("#")]
    few = list(islice(kept, 50))
    for mark in ("\t", ",", ";"):
        if few and all(mark in line for line in few):
            return [[cell.strip() for cell in row] for row in csv.reader(kept, delimiter=mark)]
    return [line.split() for line in kept]


def _edges(
    file: Path, header: bool | None
) -> tuple[list[tuple[str, str]], np.ndarray, tuple[str, ...]] | None:
    """Pairs of names, their weights and remarks; None where the file is no list of links."""
    if not {".csv", ".tsv", ".txt"} & set(file.suffixes):
        return None
    _check_size(file)
    rows = _cells(file)
    if not rows or {len(row) for row in rows[:50]} not in ({2}, {3}):
        return None
    width, remarks = len(rows[0]), tuple[str, ...]()
    if header is None:
        words = [word.lower() for word in rows[0]]
        header = HEADERS.issuperset(words[:2]) or (width == 3 and not _is_number(rows[0][2]))
        if header:
            said = ", ".join(rows[0])
            remarks = (
                f"the first line ({said}) was taken for a header; data.header=false says no.",
            )
    rows = rows[1:] if header else rows
    for number, row in enumerate(rows, start=1 + header):
        if len(row) != width or (width == 3 and not _is_number(row[2])):
            raise UserError(
                f"{file}, line {number}: {' '.join(row)!r} is no link: give two names"
                f"{' and a weight' if width == 3 else ''}."
            )
    weights = np.array([float(row[2]) if width == 3 else 1.0 for row in rows])
    return [(row[0], row[1]) for row in rows], weights, remarks


def _check_size(file: Path) -> None:
    """Refuse a list of links that would not fit into memory as words, before it is read."""
    size = WORDS * file.stat().st_size
    if size > memory():
        raise UserError(
            f"{file} takes about {size / 1e9:.3g} GB while it is read as a list of links, and this "
            f"machine has {memory() / 1e9:.3g} GB: give the links as a sparse square table (.npz, .mtx)."
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@final
@dataclass(frozen=True, kw_only=True)
class GraphArchive(Source):
    """A graph with features and classes of its nodes in one npz file of CSR parts.

    Parameters
    ----------
    origin : Origin
    file : str
        Arrays ``adj_*`` and ``attr_*`` (data, indices, indptr, shape), ``labels``, ``node_names``,
        ``class_names`` and, optionally, ``attr_names``.
    features : bool
        Whether X are the features of the nodes; False = the graph itself.
    normalize : {"none", "max", "sym"}
        As for `Graph`.

    Source: Shchur et al. 2018, "Pitfalls of graph neural network evaluation" (the format).
    """

    origin: Origin
    file: str
    features: bool = True
    normalize: Normalize = "none"

    def read(self) -> Matrix:
        """Nodes in rows; the graph made undirected, without self loops."""
        with np.load(self.origin.path(self.file), allow_pickle=False) as held:
            arrays = dict(held)
        A, X = (_stored(arrays, part) for part in ("adj", "attr"))
        names = [str(name) for name in arrays["node_names"]]
        A, remarks = symmetric_links(A, names, f"the graph of {self.origin.name}")
        words = arrays.get("attr_names", numbered("word", X.shape[1]))
        matrix = Matrix(
            X,
            names,
            [str(word) for word in words],
            labels=arrays["labels"].astype(np.int64),
            label_names=[str(name) for name in arrays["class_names"]],
            sources=self.origin.sources(self.file),
            citation=self.origin.citation,
            remarks=remarks,
        )
        return _of_links(A, matrix, self.normalize, self.features)


def _stored(arrays: dict[str, np.ndarray], part: str) -> sp.csr_matrix:
    data, indices, indptr, shape = (
        arrays[f"{part}_{name}"] for name in ("data", "indices", "indptr", "shape")
    )
    made = sp.csr_matrix((data.astype(np.float64), indices, indptr), shape=tuple(shape))
    made.sort_indices()
    return made


@final
@dataclass(frozen=True, kw_only=True)
class Points(Source):
    """Points in space: numbers separated by commas, a point a line, without names.

    Parameters
    ----------
    origin : Origin
    file : str
    groups : sequence of int, optional
        Sizes of the classes, which follow each other in this order.
    """

    origin: Origin
    file: str
    groups: Sequence[int] | None = None

    def read(self) -> Matrix:
        """Points in rows, coordinates in columns."""
        values = np.loadtxt(self.origin.path(self.file), delimiter=",", ndmin=2)
        labels = None
        if self.groups is not None:
            labels = np.repeat(np.arange(len(self.groups)), self.groups).astype(np.int64)
        return Matrix(
            values,
            numbered("point", len(values)),
            numbered("coordinate", values.shape[1]),
            labels=labels,
            label_names=None if self.groups is None else numbered("group", len(self.groups)),
            sources=self.origin.sources(self.file),
            citation=self.origin.citation,
        )


@final
@dataclass(frozen=True, kw_only=True)
class Neighbours(Source):
    """The graph of the nearest neighbours of any data: ``exp(-d(i, j)² / (s_i s_j))``.

    ``s_i`` is the distance of sample i to its ``scale``-th neighbour. Two samples are linked when one is
    among the nearest of the other.

    Parameters
    ----------
    of : Source
        The data whose rows are compared by their Euclidean distance.
    neighbours : int, >= 1, optional
        Nearest neighbours of each sample; ``floor(log2(n)) + 1`` when None.
    scale : int, >= 1
        The neighbour whose distance is the unit of a sample.
    features : bool
        Whether X stays what it is; False = X is the graph itself.
    normalize : {"none", "max", "sym"}
        As for `Graph`.

    Source: Zelnik-Manor & Perona 2004, "Self-tuning spectral clustering"; Kuang, Yun & Park 2015,
    section 7.1 (sparse graphs for SymNMF).
    """

    of: Source
    neighbours: int | None = None
    scale: int = 7
    features: bool = False
    normalize: Normalize = "sym"

    def read(self) -> Matrix:
        """The matrix with its graph."""
        matrix = self.of.read()
        n = matrix.shape[0]
        count = int(np.log2(n)) + 1 if self.neighbours is None else self.neighbours
        for name, value in (("neighbours", count), ("scale", self.scale)):
            if not 1 <= value < n:
                raise UserError(
                    f"data.{name}={value}: it must be at least 1 and below the number of samples, {n}."
                )
        if matrix.mask is not None:
            raise UserError(
                "A graph of neighbours needs data without missing entries: distances of rows would "
                "be of different features."
            )
        links = _affinity(matrix.values, count, self.scale)
        A, _ = symmetric_links(links, matrix.sample_names, "the graph of neighbours")
        return _of_links(A, matrix, self.normalize, self.features)


def _affinity(X: Any, count: int, scale: int) -> sp.csr_matrix:
    """Self-tuning affinities of every row and its nearest ones, not yet symmetric."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=max(count, scale)).fit(X)
    distances, nearest = found.kneighbors()  # of other rows
    unit = distances[:, scale - 1]
    unit = np.where(unit > 0, unit, 1.0)
    distances, nearest = distances[:, :count], nearest[:, :count]
    rows = np.repeat(np.arange(len(distances)), count)
    columns = nearest.ravel()
    weights = np.exp(-(distances.ravel() ** 2) / (unit[rows] * unit[columns]))
    n = X.shape[0]
    return sp.csr_matrix((np.maximum(weights, 1e-300), (rows, columns)), shape=(n, n))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Linked(Source):
    """Any data with links in memory between its samples.

    Parameters
    ----------
    of : Source
    links : DataFrame, array or scipy sparse matrix, shape (n_samples, n_samples)
        Weights >= 0; 0 = no link. Names of rows and columns are joined to those of the samples.
    """

    of: Source
    links: Any

    def read(self) -> Matrix:
        """The matrix with its graph, undirected and without self loops."""
        matrix = self.of.read()
        links = rows_like(self.links, matrix.sample_names, "graph", square=True)
        A, remarks = symmetric_links(links, matrix.sample_names, "graph")
        return replace(matrix, graph=A, remarks=(*matrix.remarks, *remarks))
