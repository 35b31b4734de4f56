"""Binary and sparse formats: damage, bombs, names and masks beside the numbers."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from nmfnet.data import Matrix, Stream, Table, Views
from nmfnet.data.formats.memory import as_matrix
from nmfnet.errors import UserError

X = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 4.0]])


def read(path: Path, **options: Any) -> Matrix:
    options.setdefault("orientation", "samples_by_features")
    matrix = Table(path=str(path), **options).read()
    matrix.check()
    return matrix


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(path, **options)
    return str(caught.value)


# ---------------------------------------------------------------------- sizes before memory
HEAD = "%%MatrixMarket matrix coordinate real general\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "2000000000 2000000000 1\n1 1 1.0\n", "GB of memory"),
        (
            HEAD + "3 2 900000000\n1 1 1.0\n",
            "it says that it holds 900000000 entries, which",
        ),
        (HEAD.replace("coordinate", "array") + "90000 90000\n1\n", "bytes cannot hold"),
        (HEAD + "3 2 3\n1 1 1.0\n2 2 5\n", "3 entries of 3 numbers, and has 2 of 3"),
        (HEAD + "3 2 2\n1 1 1.0\n2 2 5\0\0.3\n", "not a readable Matrix Market file"),
        (HEAD + "3 2 2\n1 1 1.0\n2 2 8E", "not a readable Matrix Market file"),
        (HEAD + "3 2 1\n9 1 1.0\n", "not a readable Matrix Market file"),
        (HEAD + "3 two 1\n", "not a readable Matrix Market file"),
        (HEAD + "3 -2 1\n", "its line of sizes is '3 -2 1'"),
        (HEAD + "3 2 2\n1 1 5\n", "not a readable Matrix Market file"),
        (HEAD.replace("real", "integer") + "1 1 1\n1 1 99999999999999999999\n", "out of range"),
        (HEAD.replace("real", "complex") + "1 1 1\n1 1 1.0 2.0\n", "real numbers are needed"),
    ],
)
def test_matrix_market_files_that_claim_nonsense(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.mtx"
    path.write_text(text)
    assert message in refused(path)
    zipped = tmp_path / "x.mtx.gz"
    zipped.write_bytes(gzip.compress(text.encode()))
    assert (
        "Matrix Market" in refused(zipped) or "GB" in refused(zipped) or message in refused(zipped)
    )


def test_npy_header_that_claims_tebibytes(tmp_path: Path) -> None:
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (3_000_000, 3_000_000)}
    np.lib.format.write_array_header_1_0(stream, header)
    (tmp_path / "x.npy").write_bytes(stream.getvalue() + bytes(80))
    assert "not a readable NumPy file" in refused(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as packed:
        packed.writestr("X.npy", stream.getvalue() + bytes(80))
    assert "x.npz" in refused(tmp_path / "x.npz")


def test_bombs_are_seen_before_they_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "x.npz", X=np.zeros((2000, 1000)))
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"0,0\n" * 250_000))
    monkeypatch.setattr("nmfnet.data.formats.raw.memory", lambda: 2_000_000)
    for name in ("x.npz", "x.csv.gz"):
        assert (tmp_path / name).stat().st_size < 50_000
        assert "GB of memory" in refused(tmp_path / name)


@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse_npz_of_every_layout(tmp_path: Path, layout: str, kind: str) -> None:
    sp.save_npz(tmp_path / "x.npz", getattr(sp, f"{layout}_{kind}")(X))
    assert np.array_equal(read(tmp_path / "x.npz").values.toarray(), X)


@pytest.mark.parametrize("damage", ["indices", "indptr", "shape", "format"])
def test_sparse_npz_whose_parts_contradict_each_other(tmp_path: Path, damage: str) -> None:
    parts: dict[str, Any] = {
        "indices": np.array([0, 2, 1, 2], dtype=np.int32),
        "indptr": np.array([0, 2, 4], dtype=np.int32),
        "data": np.array([1.0, 2, 3, 4]),
        "shape": np.array([2, 3]),
        "format": np.array(b"csr"),
    }
    np.savez(tmp_path / "x.npz", **parts)
    assert np.array_equal(read(tmp_path / "x.npz").values.toarray(), X)
    parts |= {
        "indices": {"indices": np.array([0, 2, 1, 2_000_000_000], dtype=np.int32)},
        "indptr": {"indptr": np.array([0, 400, 4], dtype=np.int32)},
        "shape": {"shape": np.array([10**12, 3])},
        "format": {"format": np.array(b"xyz")},
    }[damage]
    np.savez(tmp_path / "x.npz", **parts)
    code = (
        "import sys; from nmfnet.data import Table; from nmfnet.errors import UserError\n"
        "try: Table(path=sys.argv[1], orientation='samples_by_features').read()\n"
        "except UserError as error: print('refused:', error)"
    )
    done = subprocess.run(  # in a process of its own: this crashed the interpreter
        [sys.executable, "-c", code, str(tmp_path / "x.npz")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused:")


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(tmp_path / "b.csv")
    (tmp_path / "b.csv").symlink_to(tmp_path / "a.csv")
    assert "a.csv" in refused(tmp_path / "a.csv")
    assert "cannot be read" in refused(Path("x\0.csv"))


def test_empty_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pd.DataFrame(index=["x"]).to_parquet(tmp_path / "x.parquet")
    assert "x.parquet has no columns" in refused(tmp_path / "x.parquet")


def test_dates_in_parquet_are_no_numbers(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": [1.0, 2.0], "when": pd.to_datetime(["2021-03-04", "2022-05-06"])})
    frame.to_parquet(tmp_path / "x.parquet")
    assert "in column 'when'" in refused(tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet", drop=["when"]).feature_names == ["a"]


# ---------------------------------------------------------------------- beside the numbers
def test_names_as_bytes_and_as_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", X=X, sample_names=np.array([b"p", b"q"]), labels=np.array([2, 1]))
    matrix = read(tmp_path / "x.npz")
    assert (matrix.sample_names, matrix.label_names) == (["p", "q"], ["1", "2"])
    assert matrix.labels is not None
    assert matrix.labels.tolist() == [1, 0]
    names = np.array(["p", "q"], dtype=object)
    np.savez(tmp_path / "x.npz", X=X, sample_names=names)
    assert "'sample_names' holds Python objects. Save names as text" in refused(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", X=X, batch=np.ones(2))
    assert "not used: 'batch'" in read(tmp_path / "x.npz").notes()[0]


def test_weights_in_and_beside_a_file(tmp_path: Path) -> None:
    weights = np.array([[1.0, 0.5, 0.0], [2.0, 1.0, 1.0]])
    np.savez(tmp_path / "x.npz", X=X, weight=weights)
    assert np.array_equal(read(tmp_path / "x.npz").mask, weights)
    (tmp_path / "x.csv").write_text("id,a,b,c\np,1,0,2\nq,0,3,4\n")
    (tmp_path / "w.csv").write_text("id,c,a,b\nq,1,2,1\np,0,1,0.5\n")
    path = str(tmp_path / "w.csv")
    matrix = read(tmp_path / "x.csv", weight=path)
    assert np.array_equal(matrix.mask, weights)
    assert matrix.values.tolist() == [[1, 0, 0], [0, 3, 4]]
    assert set(matrix.sources) == {"x.csv", "w.csv"}
    assert "only 1 (observed) and 0" in refused(tmp_path / "x.csv", mask=path)
    assert "give one of them" in refused(tmp_path / "x.csv", mask=path, weight=path)
    (tmp_path / "w.csv").write_text("id,c,a,b\nq,1,2,1\np,0,-1,NA\n")
    assert "2 weights that are NaN, infinite or negative" in refused(
        tmp_path / "x.csv", weight=path
    )


def test_labels_in_a_file_of_their_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", X=X, sample_names=["p", "q"])
    file = tmp_path / "classes.txt"
    for text in (
        "healthy\nill\n",
        "class\nhealthy\nill\n",
        "q,ill\np,healthy\n",
        "q\till\np\thealthy",
    ):
        file.write_text(text)
        matrix = read(tmp_path / "x.npz", labels=str(file))
        assert matrix.labels is not None
        assert (matrix.labels.tolist(), matrix.label_names) == ([0, 1], ["healthy", "ill"])
    assert "classes.txt" in matrix.sources
    for text, message in (
        ("q,ill\nr,well\n", "1 of the 2 samples of the data are not in"),
        ("a\nb\nc\nd\n", "holds 4 names but"),
        ("a,b,c\nd,e,f\n", "one class per line"),
    ):
        file.write_text(text)
        assert message in refused(tmp_path / "x.npz", labels=str(file))
    scipy.io.mmwrite(tmp_path / "x.mtx", sp.coo_matrix(X))
    assert "data.labels=FILE" in refused(tmp_path / "x.mtx", label_column="y")
    file.write_text("healthy\nill\n")
    assert read(tmp_path / "x.mtx", labels=str(file)).label_names == ["healthy", "ill"]
    assert "give one" in refused(tmp_path / "x.npz", labels=str(file), label_column="y")


@pytest.mark.parametrize("ending", ["npz", "mat"])
def test_named_arrays(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    genes, labels = np.array(["a", "bb", "c"], dtype=object), np.array([2, 7])

    def save(**arrays: Any) -> None:
        if ending == "mat":
            scipy.io.savemat(path, arrays)
        else:
            arrays = {k: v.astype(str) if v.dtype == object else v for k, v in arrays.items()}
            np.savez(path, **arrays)

    save(fea=X, gnd=labels, feature_names=genes)
    matrix = read(path, label_column="gnd", orientation=None)
    assert matrix.feature_names == ["a", "bb", "c"]
    assert (matrix.values.tolist(), matrix.label_names) == (X.tolist(), ["2", "7"])
    assert "not used: 'gnd'" in read(path).notes()[0]
    assert "'gn' is not a column" in refused(path, label_column="gn")
    save(fea=X.T, labels=labels)
    matrix = read(path, orientation="features_by_samples")
    assert (matrix.values.tolist(), matrix.label_names) == (X.tolist(), ["2", "7"])
    save(A=X, B=X)
    assert "'A', 'B'; one two-dimensional array named 'X' is needed" in refused(path)
    save(B=X, X=X.T, mask=X.T > 0)
    assert np.array_equal(read(path).mask, X.T > 0)
    for option in ({"layer": "raw"}, {"modality": "rna"}, {"delimiter": ";"}, {"decimal": ","}):
        assert f"data.{next(iter(option))}" in refused(path, **option)


def test_matlab_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"X": sp.csc_matrix(X)})
    assert np.array_equal(read(path).values.toarray(), X)
    for packed in (False, True):
        names = np.array(["ä", "b", "c"], dtype=object)
        scipy.io.savemat(
            path, {"Y": X, "feature_names": names, "s": {"a": 1}}, do_compression=packed
        )
        matrix = read(path, drop=["b"])
        assert (matrix.values.tolist(), matrix.feature_names) == (X[:, [0, 2]].tolist(), ["ä", "c"])
        assert "not used: 's'" in matrix.remarks[0]
        sound = path.read_bytes()
        for cut in (130, 200, -9):
            path.write_bytes(sound[:cut])
            assert "not a readable MATLAB file" in refused(path)
    scipy.io.savemat(path, {"X": X + 1j})
    assert "real numbers are needed" in refused(path)
    scipy.io.savemat(path, {"X": X}, format="4")
    assert "no MATLAB file of version 5 to 7.2" in refused(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124, b" ") + b"\0\2IM" + bytes(512))
    assert "save(..., '-v7')" in refused(path)


# ---------------------------------------------------------------------- HDF5
def tenx(
    path: Path, *, old: bool = False, types: tuple[str, ...] = ("Gene Expression",) * 3
) -> None:
    """A file as Cell Ranger writes it: genes by cells, by columns."""
    h5py = pytest.importorskip("h5py")
    counts = sp.csr_matrix(X)
    with h5py.File(path, "w") as stored:
        group = stored.create_group("GRCh38" if old else "matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(counts, name)
        group["shape"], group["barcodes"] = np.array([3, 2]), np.array([b"p-1", b"q-1"])
        ids, names = np.array([b"E1", b"E2", b"E3"]), np.array([b"A", b"B", b"A"])
        if old:
            group["genes"], group["gene_names"] = ids, names
        else:
            group["features/id"], group["features/name"] = ids, names
            group["features/feature_type"] = np.array(types, dtype="S")


@pytest.mark.parametrize("old", [False, True])
def test_tenx(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "x.h5"
    tenx(path, old=old)
    matrix = read(path, orientation=None)
    assert np.array_equal(matrix.values.toarray(), X)
    assert (matrix.sample_names, matrix.feature_names) == (["p-1", "q-1"], ["E1", "E2", "E3"])
    assert matrix.remarks == ()


def test_tenx_that_needs_a_word(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    tenx(path, types=("Gene Expression", "Gene Expression", "Antibody Capture"))
    assert "2 Gene Expression, 1 Antibody Capture" in read(path).notes()[0]
    with h5py.File(path, "r+") as stored:
        stored["matrix/indices"][0] = 999
    assert "x.h5 is not a valid sparse matrix" in refused(path)
    with h5py.File(path, "r+") as stored:
        del stored["matrix/indices"]
    assert "/matrix holds no array 'indices'" in refused(path)
    with h5py.File(path, "r+") as stored:
        stored.create_dataset("matrix/indices", (10**12,), dtype="i8", chunks=(1000,))  # 3 kB
    assert "GB of memory" in refused(path)
    assert "GB of memory" in refused(path.rename(tmp_path / "x.h5ad"))
    with h5py.File(path, "w") as stored:
        stored["weights"] = X
    assert "holds 0 matrices of 10x" in refused(path)
    path.write_text("no HDF5")
    assert "not a readable 10x file" in refused(path)


def test_loom(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.loom"
    with h5py.File(path, "w") as stored:
        stored["matrix"], stored["layers/spliced"] = X.T, 2 * X.T
        stored["row_attrs/Gene"] = np.array([b"a", b"b", b"c"])
        stored["col_attrs/CellID"] = np.array([b"p", b"q"])
        stored["col_attrs/type"] = np.array([b"T", b"B"])
    matrix = read(path, orientation=None, label_column="type")
    assert np.array_equal(matrix.values, X)
    assert (matrix.sample_names, matrix.feature_names) == (["p", "q"], ["a", "b", "c"])
    assert (matrix.labels.tolist(), matrix.label_names) == ([1, 0], ["B", "T"])
    assert np.array_equal(read(path, orientation=None, layer="spliced").values, 2 * X)
    assert "Did you mean 'spliced'" in refused(path, orientation=None, layer="splice")


def test_biom_2(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.biom"
    counts = sp.csr_matrix(X.T)
    with h5py.File(path, "w") as stored:
        for name in ("data", "indices", "indptr"):
            stored[f"observation/matrix/{name}"] = getattr(counts, name)
        stored["observation/ids"] = np.array([b"a", b"b", b"c"])
        stored["sample/ids"] = np.array([b"p", b"q"])
    matrix = read(path, orientation=None)
    assert np.array_equal(matrix.values.toarray(), X)
    assert (matrix.sample_names, matrix.feature_names) == (["p", "q"], ["a", "b", "c"])
    with h5py.File(path, "r+") as stored:
        del stored["sample/ids"]
    assert "holds no array 'sample/ids'" in refused(path)


def test_biom_2_of_its_own_package(tmp_path: Path) -> None:
    biom, h5py = pytest.importorskip("biom"), pytest.importorskip("h5py")
    path = tmp_path / "x.biom"
    with h5py.File(path, "w") as stored:
        biom.Table(X.T, list("abc"), list("pq")).to_hdf5(stored, "a test")
    matrix = read(path, orientation=None)
    assert np.array_equal(matrix.values.toarray(), X)
    assert (matrix.sample_names, matrix.feature_names) == (["p", "q"], ["a", "b", "c"])


@pytest.mark.filterwarnings("ignore")
def test_mudata(tmp_path: Path) -> None:
    anndata, mudata = pytest.importorskip("anndata"), pytest.importorskip("mudata")

    def frame(names: str, **columns: Any) -> pd.DataFrame:
        index = pd.Index(np.array(list(names), dtype=object), dtype=object)
        return pd.DataFrame(columns, index=index)

    rna = anndata.AnnData(X, obs=frame("pq", kind=np.array([1, 2])), var=frame("abc"))
    protein = anndata.AnnData(X[::-1, :2].copy(), obs=frame("qp"), var=frame("de"))
    path = tmp_path / "x.h5mu"
    with anndata.settings.override(allow_write_nullable_strings=True):  # text of pandas 3
        mudata.MuData({"rna": rna, "protein": protein}).write(path)
    matrix = read(path, orientation=None, modality="rna", label_column="kind")
    assert (matrix.values.tolist(), matrix.label_names) == (X.tolist(), ["1", "2"])
    message = refused(path, orientation=None)
    assert "2 modalities" in message
    words = [word.removeprefix("data.views.") for word in message.split() if "data.views." in word]
    options: dict[str, dict[str, str]] = {}
    for word in words:  # what the message says to do
        at, value = word.split("=")
        options.setdefault(at.split(".")[0], {})[at.split(".")[1]] = value
    both = Views(views=options).read()
    (name,) = both.views
    assert {both.feature_names[0], both.views[name].feature_names[0]} == {"a", "d"}
    assert both.sample_names == both.views[name].sample_names
    with pytest.raises(UserError, match=r"the modalities 'rna', 'protein': give one"):
        as_matrix(mudata.MuData({"rna": rna, "protein": protein}))
    assert np.array_equal(as_matrix(mudata.MuData({"rna": rna})).values, X)


@pytest.mark.parametrize("prefix", ["", "GSM7_", "lung."])
@pytest.mark.parametrize("header", [False, True])
def test_names_beside_a_matrix_market_file(tmp_path: Path, prefix: str, header: bool) -> None:
    scipy.io.mmwrite(tmp_path / f"{prefix}matrix.mtx", sp.coo_matrix(X.T))
    cells, genes = ["p", "q"], ["E1\tA", "E2\tB", "E3\tC"]
    if header:
        cells, genes = ["barcode", *cells], ["id\tsymbol", *genes]
    (tmp_path / f"{prefix}barcodes.tsv").write_text("\ufeff" + "\r\n".join(cells))
    (tmp_path / f"{prefix}genes.tsv").write_text("\n".join(genes) + "\n")
    matrix = read(tmp_path / f"{prefix}matrix.mtx", orientation=None)
    assert np.array_equal(matrix.values.toarray(), X)
    assert (matrix.sample_names, matrix.feature_names) == (["p", "q"], ["A", "B", "C"])
    assert f"{prefix}genes.tsv" in matrix.notes()[0]


def test_byte_order_mark_before_a_matrix_market_file(tmp_path: Path) -> None:
    plain = tmp_path / "x.mtx"
    scipy.io.mmwrite(plain, sp.coo_matrix(X))
    for path, pack in ((plain, bytes), (tmp_path / "x.mtx.gz", gzip.compress)):
        path.write_bytes(pack(b"\xef\xbb\xbf" + plain.read_bytes().removeprefix(b"\xef\xbb\xbf")))
        assert np.array_equal(read(path).values.toarray(), X)


@pytest.mark.parametrize("dense", [False, True])
def test_biom(tmp_path: Path, dense: bool) -> None:
    entries = [[int(i), int(j), X[j, i]] for j, i in zip(*X.nonzero(), strict=True)]
    table = {
        "rows": [{"id": name} for name in "abc"],
        "columns": [{"id": name} for name in "pq"],
        "matrix_type": "dense" if dense else "sparse",
        "shape": [3, 2],
        "data": X.T.tolist() if dense else entries,
    }
    path = tmp_path / "x.biom"
    path.write_text(json.dumps(table))
    matrix = read(path, orientation=None)
    values = matrix.values if dense else matrix.values.toarray()
    assert np.array_equal(values, X)
    assert (matrix.sample_names, matrix.feature_names) == (["p", "q"], ["a", "b", "c"])
    table["data"] = [[0, 9, 1.0]]
    path.write_text(json.dumps(table))
    assert "not a readable BIOM file" in refused(path, orientation=None)


@pytest.mark.filterwarnings("ignore")
def test_nullable_labels_in_h5ad(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    names = pd.Index(np.array(["p", "q"], dtype=object), dtype=object)
    genes = pd.DataFrame(index=pd.Index(np.array(list("abc"), dtype=object), dtype=object))
    obs = pd.DataFrame({"y": pd.array([7, None], dtype="Int64")}, index=names)
    data = anndata.AnnData(X, obs=obs, var=genes)
    data.raw = data.copy()
    data[:, ["a", "b"]].copy().write_h5ad(tmp_path / "x.h5ad")
    matrix = read(tmp_path / "x.h5ad", label_column="y")
    assert matrix.labels is not None
    assert (matrix.labels.tolist(), matrix.label_names) == ([0, -1], ["7"])
    assert (matrix.shape, read(tmp_path / "x.h5ad", layer="raw").shape) == ((2, 2), (2, 3))
    assert "layer='rawe' is not in" in refused(tmp_path / "x.h5ad", layer="rawe")


def test_streams_without_rows(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pd.DataFrame({"a": np.zeros(0)}).to_parquet(tmp_path / "x.parquet")
    for path in (tmp_path, tmp_path / "x.parquet"):
        with pytest.raises(UserError, match="hold no rows"):
            Stream(path=str(path)).read()
