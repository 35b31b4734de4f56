"""Every data set of the catalogue against the published shapes and sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nmfnet.data import EntrySplit, Matrix, PredefinedSplit, Table
from nmfnet.data.sources.channels import SBS96
from nmfnet.data.sources.origin import cache_folder
from nmfnet.data.sources.registry import data_config, data_names, source
from nmfnet.errors import UserError

pytestmark = pytest.mark.catalogue


def read(name: str, **options: Any) -> Matrix:
    matrix = source(name, **options).read()
    matrix.check()
    return matrix


RAW = {"dilution": False, "log": False}

# name, options, shape, sum, smallest, largest, number of classes
FACTS: list[tuple[str, dict[str, Any], tuple[int, int], float, float, float, int]] = [
    ("sbs21-breast", {}, (21, 96), 183916, 0, 18171, 0),
    ("pcawg-sbs96", {}, (2780, 96), 48276930, 0, 727224, 37),
    ("pcawg-sbs96", {"part": "dbs78"}, (2780, 78), 426648, 0, 10443, 37),
    ("pcawg-sbs96", {"part": "id83"}, (2780, 83), 3968330, 0, 90414, 37),
    ("pcawg-sbs96", {"part": "other96"}, (1865, 96), 27051875, 0, 502778, 27),
    ("sbs-reference-2020", {}, (67, 96), 66.99471748, 0, 0.709, 0),
    ("sbs-syn-scenario8", {}, (1000, 96), 9799261, 0, 984, 0),
    ("sbs-syn-many-types", {}, (2700, 96), 51640851, 0, 171024, 9),
    ("gel-sbs", {}, (523, 96), 6951256, 0, None, 0),
    ("gel-sbs", {"part": "prostate"}, (311, 96), 1220663, 0, None, 0),
    ("gel-sbs", {"part": "all"}, (1547, 96), 6951256 + 1220663 + 71666758, 0, None, 3),
    ("orl-faces", {}, (400, 1024), 54429100, 2, 235, 40),
    ("cbcl-faces", {"standardise": None}, (2429, 361), 441484.26171875, 0.00390625, 1, 0),
    ("leukemia-brunet", {}, (38, 5000), 65006387, 20, 61225, 3),
    ("20news-bow", {}, (18846, 5000), 1250680 + 803389, 0, 777, 20),
    ("dblp-titles", {}, (54595, 1513), 294757, 0, 4, 4),
    ("20news-neuralnmf", {}, (200, 37693), 928.7092635, 0, 0.865858, 10),
    ("20news-neuralnmf", {"labels": "super"}, (200, 37693), 928.7092635, 0, 0.865858, 6),
    ("cora", {}, (2708, 1433), 49216, 0, 1, 7),
    ("cora", {"features": False}, (2708, 2708), 2 * 5278, 0, 1, 7),
    ("movielens-latest-small", {"sparse": False}, (610, 9724), 353083, 0, 5, 0),
    ("mfeat-digits", {"scaling": "none"}, (2000, 240), 1452834, 0, 6, 10),
    ("piano-fevotte", {}, (1353, 513), 97077.13422629943, 2.356477962761616e-08, 77.1707, 0),
    ("piano-smstools", {}, (335, 1025), 98115.19910142654, 4.37729494e-06, 120.528189596, 0),
    ("sc-mixology-5cl", {}, (297, 500), 1028573, 0, 1212, 5),
    ("sc-mixology-5cl", {"top_genes": None}, (297, 15564), 9783530, 0, None, 5),
    ("ratmix3", {}, (21, 10000), 24922641.30009263, 0.000473684, 5422.306, 0),
    ("sc-mixology-rnamix", {}, (206, 14804), 8410241, 0, 2946, 0),
    ("rnamix-cells", {}, (340, 500), 704731, 0, 207, 8),
    ("pbmc68k-reduced", {}, (700, 765), 319044.23824107647, 0, 6.489, 10),
    ("worm-neuron-sc", {}, (4186, 13488), 1376141, 0, 219, 10),
    ("abis-pbmc", {}, (12, 17487), 11630763.64783331, 0, 45050.0526, 0),
    ("microbiome-ravel", {}, (394, 305), 860775, 0, 5144, 2),
    ("microbiome-qin2014", {}, (130, 2578), 927518340, 0, 12835526, 2),
    ("microbiome-kostic", {}, (190, 908), 866583, 0, 5720, 2),
    ("abis-types", {}, (17, 1296), 666330.2515539925, 0, 87912.3248842, 0),
    ("quantiseq-til10", {}, (10, 170), 51141.62995, 0, 690.196951724, 0),
    ("metab-sacurine", {}, (184, 120), 24720.261227599, 0.000240958423, 14.552995413, 2),
    ("metab-sacurine", RAW, (184, 120), 142881346711.5, 506.5, 678587872.0, 2),
    ("metab-gastric-nmr", {}, (123, 53), 6903.409557063, 0, 5.883113975, 3),
    ("metab-gastric-nmr", RAW | {"max_rsd": None}, (123, 149), 7013764.8, 0, 160844.7, 3),
    ("her2st-h1", {}, (613, 2000), 287831.4670343803, 0, 5.278803228, 7),
]  # type: ignore[list-item]


@pytest.mark.slow
@pytest.mark.parametrize(
    "fact", FACTS, ids=lambda fact: f"{fact[0]}-{'-'.join(map(str, fact[1].values()))}"
)
def test_published_facts(fact: tuple[Any, ...]) -> None:
    name, options, shape, total, low, high, classes = fact
    if name == "pbmc68k-reduced":
        pytest.importorskip("anndata", reason="its h5ad needs the extra anndata")
    if name.startswith("metab-"):
        pytest.importorskip("openpyxl", reason="its xlsx needs the extra excel")
    if name == "worm-neuron-sc":
        pytest.importorskip("h5py", reason="its h5 needs the extra hdf5")
    if name == "cbcl-faces" and not list((cache_folder() / name).glob("*.mat")):
        pytest.skip("cbcl-faces is not in NMFNET_DATA")
    matrix = read(name, **options)
    assert matrix.shape == shape
    assert matrix.values.sum() == pytest.approx(total, rel=1e-9)
    assert matrix.values.min() == pytest.approx(low, rel=1e-6, abs=0)
    if high is not None:
        assert matrix.values.max() == pytest.approx(high, rel=1e-6)
    assert len(matrix.label_names or []) == classes
    assert matrix.citation
    folder = source(name, **options).origin.name  # type: ignore[attr-defined]
    assert all(file.startswith(f"{folder}/") or "reference" in file for file in matrix.sources)


def test_every_data_set_with_an_origin_is_tested() -> None:
    assert {fact[0] for fact in FACTS} == {n for n in data_names() if "origin" in data_config(n)}


@pytest.mark.parametrize("name", ["sbs21-breast", "pcawg-sbs96", "sbs-syn-scenario8", "gel-sbs"])
def test_reference_is_aligned_to_canonical_channels(name: str) -> None:
    matrix = read(name)
    reference = read("sbs-reference-2020")
    assert matrix.feature_names == list(SBS96) == reference.feature_names
    assert matrix.reference is not None
    assert matrix.reference.names[:3] == ["SBS1", "SBS2", "SBS3"]
    assert np.array_equal(matrix.reference.values, reference.values)
    sbs1 = reference.values[0]
    top = {SBS96[i] for i in np.argsort(sbs1)[-4:]}  # SBS1 is C>T at CpG
    assert top == {"A[C>T]G", "C[C>T]G", "G[C>T]G", "T[C>T]G"}


def test_two_copies_of_the_same_catalogue_agree_by_label() -> None:
    """The MATLAB copy has another channel and sample order."""
    from scipy.io import loadmat

    breast = read("sbs21-breast")
    folder = source("sbs21-breast").origin.folder()  # type: ignore[attr-defined]
    path = folder / "21_breast_WGS_substitutions.mat"
    if not path.is_file():
        pytest.skip("the MATLAB copy is not on disk")
    other = loadmat(path, squeeze_me=True)
    channels = [
        f"{tri[0]}[{sub}]{tri[2]}"
        for sub, tri in zip(other["types"], other["subtypes"], strict=True)
    ]
    rows = [list(other["sampleNames"]).index(name) for name in breast.sample_names]
    columns = [channels.index(name) for name in breast.feature_names]
    assert columns != list(range(96))
    assert np.array_equal(other["originalGenomes"].T[np.ix_(rows, columns)], breast.values)


@pytest.mark.parametrize(("name", "k"), [("sbs-syn-scenario8", 3), ("sbs-syn-many-types", 21)])
def test_truth_makes_the_data(name: str, k: int) -> None:
    matrix = read(name)
    assert matrix.truth is not None
    assert matrix.truth.W.shape == (matrix.shape[0], k)
    assert len(matrix.truth.names) == k
    product = matrix.truth.W @ matrix.truth.H
    assert np.abs(product - matrix.values).max() <= 0.5 + 1e-6
    assert (np.round(product) == matrix.values).mean() > 0.9999


def test_faces_are_turned_row_by_row() -> None:
    """Rows of a face are smoother than the same pixels read column by column."""
    from scipy.io import loadmat

    matrix = read("orl-faces")
    folder = source("orl-faces").origin.folder()  # type: ignore[attr-defined]
    stored = loadmat(folder / "ORL.mat")["X"].astype(float)
    for i in (0, 57, 399):
        assert np.array_equal(matrix.values[i].reshape(32, 32), stored[i].reshape(32, 32).T)
    mean = matrix.values.mean(0).reshape(32, 32)
    assert (
        np.abs(mean - mean[:, ::-1]).mean() < np.abs(mean - mean[::-1]).mean()
    )  # left-right alike
    assert matrix.labels is not None
    assert np.bincount(matrix.labels).tolist() == [10] * 40


def test_metabolites_are_scaled_and_gaps_are_masked() -> None:
    pytest.importorskip("openpyxl", reason="its xlsx needs the extra excel")
    women = read("metab-sacurine")
    assert women.label_names == ["Female", "Male"]
    assert women.labels is not None
    assert np.bincount(women.labels).tolist() == [83, 101]
    assert np.median(women.values, 0) == pytest.approx(np.ones(120), rel=0.01)  # log2(1 + 1)
    raw = read("metab-sacurine", **RAW)
    quotients = read("metab-sacurine", log=False).values / np.median(raw.values, 0)
    assert np.median(quotients, 1) == pytest.approx(np.ones(184))
    every = read("metab-gastric-nmr", max_rsd=None)
    assert every.mask is not None
    assert 1 - every.mask.mean() == pytest.approx(0.0527636820)
    controls = read("metab-gastric-nmr", leave_out=[], max_rsd=None, **RAW)
    assert controls.shape == (140, 149)
    assert controls.values.sum() == pytest.approx(7667827.3)  # the published sum
    assert read("metab-gastric-nmr").remarks == (
        "17 QC samples were left out.", "96 metabolites with QC_RSD >= 20 were left out.",
    )  # fmt: skip
    with pytest.raises(UserError, match="needs the column 'QC_RSD', and there are 'Idx', 'Name'"):
        read("metab-sacurine", max_rsd=20)
    with pytest.raises(UserError, match="needs the column 'Age'"):
        read("metab-sacurine", labels="Age")


def test_leukaemia_classes() -> None:
    matrix = read("leukemia-brunet")
    assert matrix.label_names == ["ALL_B-cell", "ALL_T-cell", "AML"]
    assert matrix.labels is not None
    assert np.bincount(matrix.labels).tolist() == [19, 8, 11]
    assert matrix.sample_names[-1] == "AML_7"


def test_newsgroups_are_sparse_with_published_parts() -> None:
    matrix = read("20news-bow")
    assert matrix.is_sparse
    assert matrix.values.nnz == 866316 + 567193
    partition = PredefinedSplit()(matrix, 0)
    assert (partition.train_rows.size, partition.test_rows.size) == (11314, 7532)
    assert matrix.labels is not None
    counts = np.bincount(matrix.labels[partition.train_rows])
    assert (counts.min(), counts.max(), counts[0]) == (377, 600, 480)
    hockey = matrix.values[matrix.labels == 10].sum(0)
    word = np.asarray(hockey).ravel()[matrix.feature_names.index("hockey")]
    assert word > 0.8 * matrix.values[:, matrix.feature_names.index("hockey")].sum()


@pytest.mark.slow
def test_newsgroup_hierarchy() -> None:
    sub, top = read("20news-neuralnmf"), read("20news-neuralnmf", labels="super")
    assert sub.is_sparse
    assert sub.values.nnz == 8473
    assert sub.labels is not None
    assert top.labels is not None
    assert top.label_names == ["comp", "rec", "sci", "misc.forsale", "talk.politics", "religion"]
    assert len(set(zip(sub.labels.tolist(), top.labels.tolist(), strict=True))) == 10
    with pytest.raises(UserError, match=r"sub or super.*Did you mean 'super'"):
        read("20news-neuralnmf", labels="sup")


def test_ratings_are_masked_dense_and_sparse() -> None:
    dense, sparse = read("movielens-latest-small", sparse=False), read("movielens-latest-small")
    assert dense.mask.sum() == sparse.mask.sum() == 100836
    assert sparse.is_sparse
    assert np.array_equal(sparse.values.toarray(), dense.values)
    assert np.array_equal(sparse.mask.toarray(), dense.mask)
    assert (dense.mask == (dense.values > 0)).all()
    assert "Emma (1996) [838]" in dense.feature_names
    partition = EntrySplit()(sparse, 0)
    assert partition.held_out.sum() == 10084
    small = read("movielens-latest-small", min_ratings=20, sparse=False)
    assert small.shape[1] == 1297
    assert small.mask.sum(0).min() == 20


def test_parts_and_drops() -> None:
    everything = read("gel-sbs", part="all")
    assert everything.label_names == ["ovary", "prostate", "uterus"]
    assert everything.labels is not None
    assert np.bincount(everything.labels).tolist() == [523, 311, 713]
    hypermutated = ["GEL-2793050-11", "GEL-2649402-11"]
    ovary = read("gel-sbs")
    kept = read("gel-sbs", drop=hypermutated)
    assert kept.shape[0] == 521
    largest = np.argsort(ovary.values.sum(1))[::-1][:2]
    assert {ovary.sample_names[i] for i in largest} == set(hypermutated)
    assert "Left out on request: GEL-2793050-11, GEL-2649402-11." in kept.notes()
    with pytest.raises(UserError, match=r"data.drop: 1 of 1 names.*Did you mean 'GEL-2793050-11'"):
        read("gel-sbs", drop=["GEL-2793050"])
    with pytest.raises(UserError, match=r"data.part='ovarian'.*ovary, prostate, uterus"):
        read("gel-sbs", part="ovarian")
    with pytest.raises(UserError, match=r"part=all: dbs78 has other features than sbs96"):
        read("pcawg-sbs96", part="all")
    doublets = read("pcawg-sbs96", part="dbs78")
    assert doublets.reference is None
    assert "has other channels than this part" in doublets.notes()[0]
    assert doublets.feature_names[0] == "AC>CA"
    assert doublets.sample_names == read("pcawg-sbs96").sample_names


def test_a_catalogue_set_is_the_reference_of_a_users_table(tmp_path: Any) -> None:
    breast = read("sbs21-breast")
    lines = ["sample," + ",".join(f"{c[0]}{c[2]}{c[6]}:{c[2:5]}" for c in breast.feature_names)]
    rows = zip(breast.sample_names, breast.values, strict=True)
    lines += [f"{name}," + ",".join(map(str, row)) for name, row in rows]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(lines))
    table = Table(
        path=str(path), orientation="samples_by_features", reference="sbs-reference-2020"
    ).read()
    assert table.fingerprint() == breast.fingerprint()
    assert table.reference is not None
    assert table.reference.values.shape == (67, 96)


@pytest.mark.slow
def test_other_public_tables_read_without_options() -> None:
    """Formats met in the wild: gz with an empty corner, ``#OTU ID``, names that are numbers."""
    from nmfnet.data.sources.origin import cache_folder

    facts = {
        "her2st-h1/H1.tsv.gz": (613, 15029, 1092551.0),
        "microbiome-ravel/otutable.txt": (1093, 394, None),
        "microbiome-ravel/taxatable.txt": (305, 394, None),
        "sbs21-breast-opportunity/21_breast_cancers.mutations.txt": (21, 96, 183916.0),
    }
    for file, (n, f, total) in facts.items():
        path = cache_folder() / file
        if not path.is_file():
            continue
        matrix = Table(path=str(path), orientation="samples_by_features").read()
        matrix.check()
        assert matrix.shape == (n, f)
        assert total is None or matrix.values.sum() == total
        assert not matrix.sample_names[0].startswith("sample_")
