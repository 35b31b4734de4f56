"""Communities of spots around the extreme ones of a tissue, as Starfysh finds them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np

from nmfnet import metrics
from nmfnet.data.formats.layout import read_lines
from nmfnet.data.formats.raw import check_file, is_sparse, shorten
from nmfnet.errors import UserError
from nmfnet.run.callbacks.after import AfterFit
from nmfnet.run.callbacks.shares import write_shares
from nmfnet.settings.ranges import Count, Natural

if TYPE_CHECKING:
    from nmfnet.data.matrix import Matrix
    from nmfnet.data.module import MatrixDataModule
    from nmfnet.run.train import Result


class Community(NamedTuple):
    """The spots around an anchor.

    Attributes
    ----------
    name : str
        The components that it stands for, joined by ``+``.
    anchor : int
        The spot that has most of them.
    members : ndarray of int
        Its nearest spots, itself among them.
    markers : tuple of ndarrays
        Features, rates of false discoveries and differences of means.
    """

    name: str
    anchor: int
    members: np.ndarray
    markers: tuple[np.ndarray, np.ndarray, np.ndarray]


@final
class Communities(AfterFit):
    """Anchors, communities, markers, and what these are called by known signatures.

    The anchor of a component is the spot with the largest weight of it. Components whose anchors are
    among each other's ``nearest`` spots are taken together; the community is these nearest spots. Its
    markers are the features that are larger in it than elsewhere. With known ``signatures`` every
    community gets the one that suits it (mean z-score of the signature's features in its spots) in a
    stable matching; a community without one is a new type. Markers join the features of its signature,
    and the anchor of the signature is then the spot where all of these are largest.

    The run folder gets ``communities.csv`` and ``markers.csv``, with signatures also
    ``signatures.csv``; with classes of spots the table says which is the most common in a community, its
    share (purity), and how many times its share of all spots that is (lift).

    With ``shares`` the features of the types (or, without signatures, the markers of the communities)
    are then the signatures of ``model=avae``, which says how much of every type each spot has:
    ``shares.csv`` and the run ``shares``.

    Parameters
    ----------
    nearest : int >= 1
        Spots of a community.
    markers : int >= 1
        Most markers of a community.
    signatures : str, optional
        Comma-separated table: a column for each type, its features below.
    least : float
        A signature with this score or less is nobody's.
    shares : int >= 0
        Most iterations of the fit of the shares; 0 = none are wanted.

    Source: He et al. 2025, "Starfysh integrates spatial transcriptomic and histologic data to reveal
    heterogeneous tumor-immune hubs", methods.
    """

    def __init__(
        self,
        *,
        nearest: Count = 20,
        markers: Count = 30,
        signatures: str | None = None,
        least: float = 0.0,
        shares: Natural = 0,
    ) -> None:
        self.nearest, self.markers, self.least = nearest, markers, least
        self.signatures, self.shares = signatures, shares
        self.counts: Matrix | None = None

    def ready(self, datamodule: MatrixDataModule) -> None:
        if "coordinates" not in datamodule.matrix.extra:
            raise UserError(
                "callbacks=communities needs to know where the samples lie: data.coordinates=FILE (name, "
                "x, y), or =spatial for that entry of obsm of an h5ad file"
            )
        n = datamodule.sizes.n_samples
        if self.nearest >= n:
            raise UserError(
                f"callbacks.communities.nearest={self.nearest}: a community is some of the {n} samples, "
                "so it must be smaller"
            )
        self.counts = datamodule.source.counted() if self.shares else None
        if self.shares and self.counts is None:
            raise UserError(
                "callbacks.communities.shares needs counts, which these data do not have: use "
                "data=spots, or callbacks.communities.shares=0"
            )
        self._known(datamodule)

    def follow(self, datamodule: MatrixDataModule, result: Result) -> None:
        assert result.factors is not None
        rows = datamodule.train_rows
        places = datamodule.matrix.extra["coordinates"][rows]
        values = datamodule.values("train")
        values = values.toarray() if is_sparse(values) else values
        found = self._communities(result.factors.W, result.factors.names, places, values)
        table = [
            {
                "community": c.name,
                "anchor": datamodule.sample_names[c.anchor],
                "spots": len(c.members),
                "weight": result.factors.W[c.anchor].max(),
                **_class_of(c, datamodule),
            }
            for c in found
        ]
        lists = {c.name: c.markers[0].tolist() for c in found}
        if self.signatures is not None:
            extended, lists = self._match(datamodule, found, table, values), {}
            at = {name: i for i, name in enumerate(datamodule.feature_names)}
            for row in extended:
                lists.setdefault(row["type"], []).append(at[row["feature"]])
            if result.folder is not None:
                _write(result.folder / "signatures.csv", extended)
        numbers: dict[str, float] = {"communities/number": len(found)}
        if "purity" in table[0]:
            clear = [row for row in table if row["purity"] >= 0.6 and row["lift"] >= 2]
            numbers |= {
                "communities/clear": len(clear),
                "communities/purity": float(np.mean([row["purity"] for row in table])),
            }
        result.metrics = result.model.metrics = {**result.metrics, **numbers}
        if len(found) < len(result.factors.names):
            result.notes.append(
                f"{len(result.factors.names)} components make {len(found)} communities: "
                "anchors near each other were taken together."
            )
        if result.folder is None:
            return
        _write(result.folder / "communities.csv", table)
        names = datamodule.feature_names
        if self.counts is not None:
            write_shares(self.counts, datamodule, result, lists, self.shares)
        _write(
            result.folder / "markers.csv",
            (
                {"community": c.name, "rank": i, "feature": names[f], "rate": q, "difference": d}
                for c in found
                for i, (f, q, d) in enumerate(zip(*c.markers, strict=True), start=1)
            ),
        )

    def _communities(
        self, W: np.ndarray, names: Sequence[str], places: np.ndarray, values: np.ndarray
    ) -> list[Community]:
        anchors = W.argmax(0)
        group = metrics.distinct_anchors(places, anchors, self.nearest)
        found = []
        for g in dict.fromkeys(group.tolist()):
            own = np.flatnonzero(group == g)
            anchor = int(anchors[own[W[anchors[own], own].argmax()]])
            members = metrics.nearest_spots(places, [anchor], self.nearest)[0]
            inside = np.isin(np.arange(len(places)), members)
            markers = metrics.markers_of(values, inside, self.markers)
            found.append(
                Community("+".join(names[i] for i in own.tolist()), anchor, members, markers)
            )
        return found

    def _match(
        self,
        datamodule: MatrixDataModule,
        found: Sequence[Community],
        table: list[dict[str, Any]],
        values: np.ndarray,
    ) -> list[dict[str, Any]]:
        """Name the communities, in ``table``; the signatures with what joined them, a row each."""
        known, features = self._known(datamodule), datamodule.feature_names
        sets = [np.array(columns) for columns in known.values()]
        scores = metrics.signature_scores(values, sets)
        suits = np.stack([scores[c.members].mean(0) for c in found])
        pairs, names = metrics.stable_matching(suits, self.least), list(known)
        new = 0
        rows = []
        for i, (community, row) in enumerate(zip(found, table, strict=True)):
            own = sets[pairs[i]] if i in pairs else np.array([], int)
            new += i not in pairs
            row["type"] = names[pairs[i]] if i in pairs else f"new type {new}"
            row["score"] = suits[i, pairs[i]] if i in pairs else np.nan
            every = np.union1d(own, community.markers[0])
            if every.size:
                anchor = int(metrics.signature_scores(values, [every])[:, 0].argmax())
                row["type anchor"] = datamodule.sample_names[anchor]
            rows += [
                {
                    "type": row["type"],
                    "feature": features[f],
                    "from": "given" if f in own else "marker",
                }
                for f in every
            ]
        rows += [
            {"type": name, "feature": features[f], "from": "given"}
            for j, name in enumerate(names)
            if j not in pairs.values()
            for f in sets[j]
        ]
        return rows

    def _known(self, datamodule: MatrixDataModule) -> dict[str, list[int]]:
        """Features of every signature that the data have."""
        if self.signatures is None:
            return {}
        file = check_file(self.signatures, "Signatures file")
        head, *rows = csv.reader(read_lines(file))
        place = {name: i for i, name in enumerate(datamodule.feature_names)}
        listed = {
            name: [row[j] for row in rows if j < len(row) and row[j]] for j, name in enumerate(head)
        }
        known = {n: sorted({place[g] for g in genes if g in place}) for n, genes in listed.items()}
        if empty := [name for name, columns in known.items() if not columns]:
            raise UserError(
                f"the data have no feature of the signature {empty[0]!r} ({len(empty)} of {len(known)}); "
                f"it lists {shorten(listed[empty[0]])}, the data have "
                f"{shorten(datamodule.feature_names)}: give both the same kind of names, keep more "
                "features (data.top_genes=null), or leave the signature out"
            )
        return known


def _class_of(community: Community, datamodule: MatrixDataModule) -> dict[str, Any]:
    """The most common class of its spots, as columns of the table; nothing without classes."""
    matrix = datamodule.matrix
    if matrix.labels is None or matrix.label_names is None:
        return {}
    labels = matrix.labels[datamodule.train_rows]
    own = labels[community.members]
    counts = np.bincount(own[own >= 0], minlength=len(matrix.label_names))
    most = int(counts.argmax())
    purity, base = counts[most] / len(own), float(np.mean(labels == most))
    return {
        "class": matrix.label_names[most], "purity": purity, "base": base,
        "lift": purity / base if base else np.nan,
    }  # fmt: skip


def _write(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    listed = list(rows)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in listed for key in row)))
        writer.writeheader()
        for row in listed:
            shown = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(shown)
