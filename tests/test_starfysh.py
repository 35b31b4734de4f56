"""Spots of a tissue: their archetypes, the communities around these, and shares by signatures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from shell import refusal, train

import nmfnet
from nmfnet.core.laws import LogisticNormal
from nmfnet.data.formats.hdf5 import read_obsm
from nmfnet.data.sources.spots import Spots


def tissue(folder: Path) -> Path:
    """A tissue of three zones with 8 marker genes each, and two spots of nearly no counts."""
    rng = np.random.default_rng(0)
    places = np.array([(x, y) for y in range(9) for x in range(12)])
    zone = places[:, 0] // 4
    profile = np.full((3, 40), 1.0)
    for z in range(3):
        profile[z, 8 * z : 8 * z + 8] = 12
    share = 0.85 * np.eye(3)[zone] + 0.05
    counts = rng.poisson(400 * share @ (profile / profile.sum(1, keepdims=True)))
    counts[[5, 60]] = 0
    counts[5, [1, 30]] = 1
    counts[60, 12:16] = 1
    names = [f"spot{i}" for i in range(len(places))]
    genes = [f"{'abc'[j // 8]}{j % 8}" if j < 24 else f"other{j}" for j in range(40)]
    with (folder / "counts.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["spot", *genes])
        rows.writerows([name, *row] for name, row in zip(names, counts.tolist(), strict=True))
    with (folder / "places.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["spot", "x", "y"])
        rows.writerows([n, *p] for n, p in reversed(list(zip(names, places.tolist(), strict=True))))
    with (folder / "signatures.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["left", "middle"])
        rows.writerows([["a0", "b0"], ["a1", "b1"], ["a2", "nowhere"]])
    return folder


RUN = (
    *("experiment=starfysh", "data=spots", "data.counts=counts.csv", "model.n_components=3"),
    *("callbacks.communities.nearest=10", "model.leading=5", "run_dir=run"),
    "callbacks.communities.shares=60",
)


def test_the_command_finds_zones_and_names_them(tmp_path):
    done = train(
        *RUN, "data.coordinates=places.csv", "callbacks.communities.signatures=signatures.csv",
        cwd=tissue(tmp_path),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "2 spots with fewer than 100 counts were left out" in done.out.replace("\n", " ")
    run = tmp_path / "run"
    with (run / "communities.csv").open() as stream:
        found = list(csv.DictReader(stream))
    assert sorted(row["type"] for row in found) == ["left", "middle", "new type 1"]
    zones = {"left": 0, "middle": 1, "new type 1": 2}
    for row in found:
        x = int(row["anchor"].removeprefix("spot")) % 12
        assert x // 4 == zones[row["type"]]
        assert int(row["type anchor"].removeprefix("spot")) % 12 // 4 == zones[row["type"]]
    with (run / "markers.csv").open() as stream:
        markers = list(csv.DictReader(stream))
    own = {row["community"]: "abc"[zones[row["type"]]] for row in found}
    leading = [row for row in markers if int(row["rank"]) <= 5]
    assert all(row["feature"][0] == own[row["community"]] for row in leading)
    with (run / "signatures.csv").open() as stream:
        extended = list(csv.DictReader(stream))
    assert {r["feature"] for r in extended if r["type"] == "left" and r["from"] == "given"} == {
        "a0", "a1", "a2",
    }  # fmt: skip
    assert {r["type"] for r in extended if r["feature"] == "c3"} == {"new type 1"}
    assert (run / "figures" / "tissue.png").exists()
    with (run / "shares.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    zone = np.array([int(row["sample"].removeprefix("spot")) % 12 // 4 for row in rows])
    for ending in ("", " by least squares"):
        shares = np.array([[float(row[name + ending]) for name in zones] for row in rows])
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-4)
        assert (shares.argmax(1) == zone).mean() > 0.95
    assert (run / "shares" / "figures" / "tissue.png").exists()
    assert json.loads((run / "metrics.json").read_text())["communities/number"] == 3


def test_what_is_missing_is_said_before_anything_is_fitted(tmp_path):
    tissue(tmp_path)
    said = refusal(*RUN, cwd=tmp_path)
    assert "is not called by its place" in said
    assert "data.coordinates" in said
    (tmp_path / "alien.csv").write_text("left,middle\na0,ENSG01\na1,ENSG02\n")
    told = (*RUN, "data.coordinates=places.csv")
    said = refusal(*told, "callbacks.communities.signatures=alien.csv", cwd=tmp_path)
    assert "no feature of the signature 'middle' (1 of 2)" in said
    said = refusal(
        "data=planted", "model=archetypes", "callbacks=communities", "run_dir=run", cwd=tmp_path
    )
    assert "needs to know where the samples lie" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_coordinates_are_joined_by_name_and_may_not_lack_a_spot(tmp_path):
    tissue(tmp_path)
    read = Spots(
        counts=str(tmp_path / "counts.csv"),
        coordinates=str(tmp_path / "places.csv"),
        top_genes=None,
    ).read()
    at = [int(name.removeprefix("spot")) for name in read.sample_names]
    expected = np.array([(i % 12, i // 12) for i in at])
    assert np.array_equal(read.extra["coordinates"], expected)
    lines = (tmp_path / "places.csv").read_text().splitlines()
    (tmp_path / "fewer.csv").write_text("\n".join(lines[:-3]) + "\n")
    with pytest.raises(nmfnet.UserError, match="does not say where 3 of 108 samples lie"):
        Spots(counts=str(tmp_path / "counts.csv"), coordinates=str(tmp_path / "fewer.csv")).read()


def annotated(file: Path, obsm: dict[str, np.ndarray]) -> None:
    """A file in the layout of AnnData: 40 spots of two zones, 12 genes."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    rates = np.where(np.arange(12) < 6, 30, 3) * np.ones((40, 1))
    rates[20:] = rates[20:, ::-1]

    def as_dict(group, **more):
        group.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"} | more)

    def as_array(group, name, values, kind="array"):
        group[name] = values
        group[name].attrs.update({"encoding-type": kind, "encoding-version": "0.2.0"})

    with h5py.File(file, "w") as stored:
        as_dict(stored, **{"encoding-type": "anndata"})
        as_array(stored, "X", rng.poisson(rates).astype(np.float32))
        for axis, word, count in (("obs", "AAAC-", 40), ("var", "gene", 12)):
            about = stored.create_group(axis)
            as_dict(about, **{"encoding-type": "dataframe", "encoding-version": "0.2.0"})
            about.attrs.update({"_index": "_index", "column-order": np.array([], "S1")})
            names = np.array([f"{word}{i}" for i in range(count)], h5py.string_dtype())
            as_array(about, "_index", names, "string-array")
        as_dict(stored.create_group("obsm"))
        for name, values in obsm.items():
            as_array(stored["obsm"], name, values)


H5AD = ("experiment=starfysh", "data=spots", "data.counts=spots.h5ad", "data.top_genes=null")
H5AD += ("model.n_components=2", "model.leading=2", "callbacks.communities.nearest=5")
H5AD += ("callbacks.communities.shares=0", "run_dir=run", "data.coordinates=spatial")


def test_coordinates_in_obsm_of_an_h5ad_file(tmp_path):
    pytest.importorskip("anndata")
    places = np.random.default_rng(1).normal(size=(40, 2))
    annotated(tmp_path / "spots.h5ad", {"spatial": places})
    file = str(tmp_path / "spots.h5ad")
    read = Spots(counts=file, coordinates="spatial", orientation=None, top_genes=None).read()
    np.testing.assert_allclose(read.extra["coordinates"], places)
    assert read.sample_names[:2] == ["AAAC-0", "AAAC-1"]
    done = train(*H5AD, cwd=tmp_path)
    assert done.code == 0, done.err
    with (tmp_path / "run" / "communities.csv").open() as stream:
        anchors = [int(row["anchor"].removeprefix("AAAC-")) for row in csv.DictReader(stream)]
    assert sorted(anchor // 20 for anchor in anchors) == [0, 1]


def test_an_entry_of_obsm_is_read_with_the_names_of_the_samples(tmp_path):
    pytest.importorskip("h5py")
    places = np.random.default_rng(1).normal(size=(40, 2))
    annotated(tmp_path / "spots.h5ad", {"spatial": places})
    read = read_obsm(tmp_path / "spots.h5ad", "spatial")
    np.testing.assert_array_equal(read.values, places)
    assert read.row_names == [f"AAAC-{i}" for i in range(40)]
    with pytest.raises(nmfnet.UserError, match=r"nor an entry of obsm.*which has 'spatial'"):
        read_obsm(tmp_path / "spots.h5ad", "elsewhere")


def test_coordinates_that_an_h5ad_file_lacks_are_asked_for_in_one_message(tmp_path):
    pytest.importorskip("anndata")
    annotated(tmp_path / "spots.h5ad", {"pca": np.zeros((40, 3))})
    said = refusal(*H5AD, cwd=tmp_path)
    assert "data.coordinates=spatial is neither a file nor an entry of obsm of spots.h5ad" in said
    assert "which has 'pca'" in said
    said = refusal(*H5AD[:-1], "data.coordinates=pca", cwd=tmp_path)
    assert "two coordinates for every sample, and holds 40 rows of 3" in said.replace("\n", " ")
    said = refusal(*H5AD[:-1], cwd=tmp_path)
    assert "data.coordinates" in said
    assert "spatial" in said


def mixtures(n: int = 150) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of spots of four types, of which lists of ten markers are known, and the true shares."""
    rng = np.random.default_rng(0)
    base = rng.lognormal(size=200)
    profiles = base * rng.lognormal(0, 0.5, (4, 200))
    signatures = np.zeros((4, 200))
    for j in range(4):
        profiles[j, 10 * j : 10 * j + 10] *= 8
        signatures[j, 10 * j : 10 * j + 10] = 1
    profiles /= profiles.sum(1, keepdims=True)
    shares = rng.dirichlet(np.full(4, 0.4), n)
    mean = rng.lognormal(np.log(1500), 0.4, (n, 1)) * (shares @ profiles)
    return rng.negative_binomial(4, 4 / (4 + mean)).astype(float), signatures, shares


@pytest.mark.slow
def test_shares_by_signatures_are_nearer_the_truth_than_least_squares_on_markers():
    X, signatures, shares = mixtures()
    fitted = nmfnet.fit(
        X, "avae", H=signatures, hidden=[32], max_iter=150, figures=False, threads=1
    )
    known = signatures.any(0)
    Y = X / X.sum(1, keepdims=True)
    W = nmfnet.fit(Y[:, known], "reference_nmf", H=signatures[:, known], figures=False).transform(
        Y[:, known]
    )
    W = W / W.sum(1, keepdims=True)
    by_network = fitted.transform(X)
    np.testing.assert_allclose(by_network.sum(1), 1, atol=1e-5)
    errors = [float(np.sqrt(np.mean((found - shares) ** 2))) for found in (by_network, W)]
    assert errors[0] < 0.7 * errors[1]
    assert fitted.component_names is not None


def test_avae_says_what_it_cannot_do():
    X, signatures, _ = mixtures(20)
    with pytest.raises(nmfnet.UserError, match="model=avae needs signatures"):
        nmfnet.fit(X, "avae")
    with pytest.raises(nmfnet.UserError, match="1 samples have no counts"):
        nmfnet.fit(np.vstack([X, 0 * X[:1]]), "avae", H=signatures)
    with pytest.raises(nmfnet.UserError, match="needs 3 signatures at least"):
        nmfnet.fit(X, "avae", H=signatures[:2])


def test_the_prior_that_stands_for_a_dirichlet_of_every_row():
    alpha = torch.tensor([[2.0, 5.0, 1.5], [1.0, 1.0, 1.0]], dtype=torch.float64)
    zero = torch.zeros(2, 3, dtype=torch.float64)
    middle, width = LogisticNormal(zero, zero, alpha).normal.prior
    logs = alpha.log()
    torch.testing.assert_close(middle, logs - logs.mean(-1, keepdim=True))
    expected = (1 - 2 / 3) / alpha + (1 / alpha).sum(-1, keepdim=True) / 9
    torch.testing.assert_close(width.square(), expected)
    same = LogisticNormal(zero[1:], zero[1:], 1.0)
    torch.testing.assert_close(same.kl(), LogisticNormal(zero[1:], zero[1:], alpha[1:]).kl())
