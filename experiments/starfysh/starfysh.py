"""Starfysh step by step: the archetypes, their number, their communities, and shares by signatures.

python experiments/starfysh/starfysh.py [archetypes] [number] [chosen] [communities] [avae] [shares]
writes csv files beside this file. `archetypes` compares with the package of that name where it is
installed.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.optimize import nnls
from scipy.stats import rankdata

import nmfnet
from nmfnet import metrics
from nmfnet.api import configuration
from nmfnet.data import InMemory
from nmfnet.data.formats.rda import read_rda
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.origin import Origin
from nmfnet.data.sources.registry import source
from nmfnet.data.sources.source import Held
from nmfnet.data.sources.spots import Spots
from nmfnet.models.archetypes import Archetypes
from nmfnet.run.callbacks.communities import Communities
from nmfnet.run.train import train

HERE = Path(__file__).parent
QUIET = {"figures": False, "threads": 1, "progress": False}
BULB = Origin(
    name="mob-stdeconvolve",
    licence="GPL-3 (package STdeconvolve); public data of Stahl et al. 2016",
    citation="Stahl et al. 2016, Visualization and analysis of gene expression in tissue sections by "
    "spatial transcriptomics, Science 353:78-82.",
    files={
        "mOB.rda": {
            "url": "https://raw.githubusercontent.com/JEFworks-Lab/STdeconvolve/"
            "c79bdaa99d82fe4ebeb7c4f0e03325158bee0c92/data/mOB.rda",
            "sha256": "45fc51784fbdd38ce96aeb6928fe052d69f3c7d4bb4e9a41ca1245d04cbbb3cb",
        }
    },
)


def her2st() -> Matrix:
    """613 spots of a tumour, labelled by pathologists."""
    return source("her2st-h1").read()


def bulb(least: float = 100) -> Matrix:
    """Spots of a mouse olfactory bulb with at least so many counts, labelled by layer."""
    stored = read_rda(BULB.path("mOB.rda"))["mOB"]
    counts, annotation = stored["counts"], stored["annot"]
    names, genes = counts.axis_names(1), counts.axis_names(0)
    x, y = (axis.value for axis in stored["pos"].value)
    at = dict(zip(stored["pos"].attributes["row.names"].value, zip(x, y, strict=True), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        for name, head, rows in (
            ("counts", genes, counts.value.T.tolist()),
            ("places", ["x", "y"], [at[name] for name in names]),
        ):
            with (Path(folder) / f"{name}.csv").open("w", newline="") as stream:
                lines = csv.writer(stream)
                lines.writerow(["spot", *head])
                lines.writerows([spot, *row] for spot, row in zip(names, rows, strict=True))
        files = (str(Path(folder) / f"{name}.csv") for name in ("counts", "places"))
        matrix = Spots(
            **dict(zip(("counts", "coordinates"), files, strict=True)), min_counts=least
        ).read()
    of = dict(
        zip(annotation.attributes["names"].value, annotation.value.astype(int) - 1, strict=True)
    )
    labels = np.array([of.get(spot, -1) for spot in matrix.sample_names])
    layers = [str(level) for level in annotation.attributes["levels"].value]
    return replace(matrix, labels=labels, label_names=layers)


def leading(values: np.ndarray, count: int = 30) -> np.ndarray:
    """Scores on the leading principal components."""
    U, S, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    return U[:, :count] * S[:count]


def archetypes() -> Iterator[dict[str, Any]]:
    """Relative squared error on 30 components of all 262 spots of the bulb, 8 archetypes, 2 starts."""
    X = leading(bulb(0).values)
    whole = (X**2).sum()
    for solver in ("hull", "gd"):
        begin = time.process_time()
        own = {"n_components": 8, "n_restarts": 2, "solver": solver, "dtype": "float64"}
        fitted = nmfnet.fit(X, "archetypes", **own, **QUIET)
        error, ended = 2 * fitted.metrics["objective"] / whole, fitted.metrics["status"]
        yield row("nmfnet " + solver, error, begin, ended)
    try:
        from archetypes import AA
    except ImportError:
        print("the package archetypes is not installed: no peer")
        return
    for method in ("nnls", "pgd"):
        begin = time.process_time()
        peer = AA(
            8, method=method, init="furthest_sum", n_init=2, max_iter=2000, tol=1e-8, random_state=0
        )
        yield row("archetypes " + method, peer.fit(X).rss_ / whole, begin, "")


def row(what: str, error: float, begin: float, ended: str) -> dict[str, Any]:
    """A line of the table of archetypes."""
    return {"what": what, "error": error, "cpu_s": time.process_time() - begin, "ended": ended}


def number() -> Iterator[dict[str, Any]]:
    """Explained variance of 30 components with more and more archetypes, each from two fewer."""
    for name, matrix in (("her2st-h1", her2st()), ("bulb", bulb())):
        X = leading(matrix.values)
        dimension = metrics.intrinsic_dimension(X)
        B, W, before = None, None, np.nan
        for k in range(max(2, round(dimension)), 27, 2):
            given = {}
            if B is not None:
                far = ((X - W @ B @ X) ** 2).sum(1).argsort()[-2:]
                B = np.vstack([B, np.eye(len(X))[far]])
                given = {"B": B, "W": np.hstack([W, np.zeros((len(X), 2))])}
            cfg = configuration(
                {"model": "archetypes", "n_components": k, "dtype": "float64", **QUIET}
            )
            result = train(cfg, InMemory(X=X), write=False, given=given)
            B, W = result.factors.tables["B"], result.factors.W
            explained = 1 - ((X - W @ B @ X) ** 2).sum() / (X**2).sum()
            yield {
                "data": name, "dimension": dimension, "k": k, "explained": explained,
                "gain": explained - before, "ended": result.metrics["status"],
            }  # fmt: skip
            if explained - before < 1e-3:
                break
            before = explained


def chosen() -> Iterator[dict[str, Any]]:
    """The numbers of archetypes that ``model.n_components=null`` comes to, with its own words."""
    for name, matrix in (("her2st-h1", her2st()), ("bulb", bulb())):
        found = Archetypes.number_for(torch.from_numpy(matrix.values), {"leading": 30})
        yield {"data": name, "number": found[0], "said": found[1]}


def communities() -> Iterator[dict[str, Any]]:
    """Communities of both tissues, and of the bulb with its two spots of 2 and 4 counts left in."""
    for name, matrix, k, nearest in (
        ("her2st-h1", her2st(), 12, 20),
        ("bulb", bulb(), 8, 12),
        ("bulb with thin spots", bulb(0), 8, 12),
    ):
        with tempfile.TemporaryDirectory() as folder:
            own = {
                "n_components": k,
                "leading": 30,
                "n_restarts": 2,
                "run_dir": folder,
                "force": True,
            }
            cfg = configuration({"model": "archetypes", **own, **QUIET})
            result = train(cfg, Held(matrix), callbacks=[Communities(nearest=nearest)])
            with (Path(folder) / "communities.csv").open() as stream:
                found = list(csv.DictReader(stream))
            with (Path(folder) / "markers.csv").open() as stream:
                markers = list(csv.DictReader(stream))
        W = result.factors.W
        for one in found:
            own_parts = [result.factors.names.index(part) for part in one["community"].split("+")]
            genes = [m["feature"] for m in markers if m["community"] == one["community"]][:4]
            mostly = W[:, own_parts].sum(1) > 0.5
            inside = np.bincount(matrix.labels[mostly & (matrix.labels >= 0)], minlength=1)
            yield {
                "data": name, **one, "mostly_it": int(mostly.sum()),
                "their_class": matrix.label_names[inside.argmax()] if inside.any() else "",
                "their_purity": float(inside.max() / mostly.sum()), "markers": " ".join(genes),
            }  # fmt: skip


def avae() -> Iterator[dict[str, Any]]:
    """Shares of five simulated types in 300 spots: by signatures, and by least squares."""
    for seed in range(2):
        X, signatures, profiles, shares = simulated(np.random.default_rng(seed))
        Y, known = X / X.sum(1, keepdims=True), signatures.any(0)
        found = {
            "least squares, lists of markers": least_squares(Y, signatures, known),
            "least squares, true profiles of the markers": least_squares(Y, profiles, known),
            "least squares, true profiles of all genes": least_squares(Y, profiles, known | True),
        }
        ends = {}
        for name, decoder in (("avae", []), ("avae, decoder of 256", [256])):
            own = {"decoder": decoder, "max_iter": 600, "seed": seed}
            fitted = nmfnet.fit(X, "avae", H=signatures, **own, **QUIET)
            found[name], ends[name] = fitted.transform(X), fitted.metrics["status"]
        for name, W in found.items():
            yield {
                "seed": seed, "what": name, "rmse": np.sqrt(np.mean((W - shares) ** 2)),
                "r": np.corrcoef(W.ravel(), shares.ravel())[0, 1], "ended": ends.get(name, ""),
            }  # fmt: skip


def shares() -> Iterator[dict[str, Any]]:
    """How well shares of a community's type tell the spots of its class from all others, three ways."""
    data = source("her2st-h1")
    matrix = data.read()
    with tempfile.TemporaryDirectory() as folder:
        own = {"n_components": 12, "leading": 30, "n_restarts": 2, "run_dir": folder, "force": True}
        cfg = configuration({"model": "archetypes", **own, **QUIET, "figures": True})
        result = train(cfg, data, callbacks=[Communities(nearest=20, shares=600)])
        with (Path(folder) / "communities.csv").open() as stream:
            found = list(csv.DictReader(stream))
        with (Path(folder) / "shares.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        maps = Image.open(Path(folder) / "shares" / "figures" / "tissue.png").convert("RGB")
        maps.quantize(64).save(HERE / "shares.png", optimize=True)
    print(*result.notes, sep="\n")
    W, names = result.factors.W, result.factors.names
    for one in found:
        name = one["community"]
        if name not in rows[0]:
            continue
        inside = matrix.labels == matrix.label_names.index(one["class"])
        known = matrix.labels >= 0
        ways = {
            "archetype": W[:, [names.index(part) for part in name.split("+")]].sum(1),
            "avae": np.array([float(row[name]) for row in rows]),
            "least_squares": np.array([float(row[f"{name} by least squares"]) for row in rows]),
        }
        aucs = {way: auc(share[known], inside[known]) for way, share in ways.items()}
        yield {"community": name, "class": one["class"], "purity": one["purity"], **aucs}


def auc(score: np.ndarray, inside: np.ndarray) -> float:
    """How often a spot inside has more than one outside; ties count half, unknown shares as none."""
    ranks = rankdata(np.nan_to_num(score))
    m = inside.sum()
    return float((ranks[inside].sum() - m * (m + 1) / 2) / (m * (~inside).sum()))


def least_squares(Y: np.ndarray, H: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Shares by non-negative least squares on some of the genes, scaled to sum 1."""
    W = np.array([nnls(H[:, known].T, y[known])[0] for y in Y])
    return W / W.sum(1, keepdims=True)


def simulated(
    rng: np.random.Generator, n: int = 300, k: int = 5, f: int = 500
) -> tuple[np.ndarray, ...]:
    """Negative binomial counts, lists of 20 markers (eight-fold) of every type, profiles and shares."""
    base = rng.lognormal(0, 1, f)
    profiles, signatures = base * rng.lognormal(0, 0.5, (k, f)), np.zeros((k, f))
    for j in range(k):
        profiles[j, 20 * j : 20 * j + 20] *= 8
        signatures[j, 20 * j : 20 * j + 20] = 1
    profiles /= profiles.sum(1, keepdims=True)
    shares = rng.dirichlet(np.full(k, 0.4), n)
    mean = rng.lognormal(np.log(2000), 0.4, (n, 1)) * (shares @ profiles)
    return rng.negative_binomial(4, 4 / (4 + mean)).astype(float), signatures, profiles, shares


PARTS = {part.__name__: part for part in (archetypes, number, chosen, communities, avae, shares)}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        begin = time.process_time()
        found = []
        for line in PARTS[name]():
            shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in line.items()}
            print(*shown.values(), flush=True)
            found.append(shown)
        with (HERE / f"{name}.csv").open("w", newline="") as stream:
            lines = csv.DictWriter(stream, list(found[0]))
            lines.writeheader()
            lines.writerows(found)
        print(f"{name}: {time.process_time() - begin:.0f} CPU s")
