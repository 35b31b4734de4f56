"""The table source: every format, orientation, names, labels, masks, reference."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

from nmfnet.data import Matrix, Table
from nmfnet.data.sources.channels import SBS96
from nmfnet.errors import UserError

N, F = 5, 7
SAMPLES = [f"patient {i}" for i in range(N)]
FEATURES = [f"gene,{j}" for j in range(F)]
VALUES = np.round(np.random.default_rng(0).gamma(1.0, 3.0, (N, F)), 3)
VALUES[1, 2] = 0.0


def write_text(path: Path, delimiter: str, transposed: bool = False, corner: bool = True) -> None:
    values, rows, columns = VALUES, SAMPLES, FEATURES
    if transposed:
        values, rows, columns = VALUES.T, FEATURES, SAMPLES
    lines = [([""] if corner else []) + list(columns)]
    lines += [[name, *map(repr, map(float, row))] for name, row in zip(rows, values, strict=True)]
    text = "\n".join(
        delimiter.join(f'"{c}"' if delimiter in c else c for c in line) for line in lines
    )
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as stream:
        stream.write(text + "\n")


def write(path: Path, transposed: bool) -> bool:
    """Write the table; whether the format keeps names."""
    import pandas as pd

    values = VALUES.T if transposed else VALUES
    rows, columns = (FEATURES, SAMPLES) if transposed else (SAMPLES, FEATURES)
    name = path.name
    if name.startswith("text"):
        mark = {"csv": ",", "tsv": "\t", "txt": ";"}[name.split(".")[1]]
        write_text(path, mark, transposed, corner="corner" not in name)
    elif name == "array.npy":
        np.save(path, values)
    elif name == "named.npz":
        np.savez(path, X=values, sample_names=SAMPLES, feature_names=FEATURES)
    elif name == "plain.npz":
        np.savez(path, anything=values)
    elif name == "sparse.npz":
        sp.save_npz(path, sp.csc_matrix(values))
    elif name.startswith("matrix.mtx"):
        opened = gzip.open if name.endswith("gz") else open
        with opened(path, "wb") as stream:
            scipy.io.mmwrite(stream, sp.coo_matrix(values))
        path.with_name("matrix.mtx.rows").write_text("\n".join(rows))
        path.with_name("matrix.mtx.cols").write_text("\n".join(columns))
    elif name == "frame.parquet":
        pytest.importorskip("pyarrow")
        pd.DataFrame(values, rows, columns).to_parquet(path)
    elif name == "sheet.xlsx":
        pytest.importorskip("openpyxl", reason="Excel files need the extra excel")
        pd.DataFrame(values, rows, columns).to_excel(path)
    return name not in ("array.npy", "plain.npz", "sparse.npz")


FILES = [
    *("text.csv", "text.tsv", "text.txt", "text.csv.gz", "text.tsv.gz", "text-corner.tsv"),
    *("array.npy", "named.npz", "plain.npz", "sparse.npz", "matrix.mtx", "matrix.mtx.gz"),
    *("frame.parquet", "sheet.xlsx"),
]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_round_trip(tmp_path: Path, name: str, transposed: bool) -> None:
    named = write(tmp_path / name, transposed)
    orientation = "features_by_samples" if transposed else "samples_by_features"
    matrix = Table(path=str(tmp_path / name), orientation=orientation).read()
    matrix.check()
    assert matrix.is_sparse == (name in ("sparse.npz", "matrix.mtx", "matrix.mtx.gz"))
    dense = matrix.values.toarray() if matrix.is_sparse else matrix.values
    assert np.array_equal(dense, VALUES)
    assert dense.dtype == np.float64
    assert matrix.sample_names == (
        SAMPLES if named else [f"sample_{i:04d}" for i in range(1, N + 1)]
    )
    assert matrix.feature_names == (
        FEATURES if named else [f"feature_{j:04d}" for j in range(1, F + 1)]
    )
    assert list(matrix.sources) == [name]


@pytest.mark.filterwarnings("ignore")
def test_h5ad_round_trip(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    import pandas as pd

    rows, columns, kinds = (
        pd.Index(np.array(names, dtype=object), dtype=object)  # what every version can write
        for names in (SAMPLES, FEATURES, list("abc"))
    )
    obs = pd.DataFrame({"type": pd.Categorical(list("abbac"), kinds)}, index=rows)
    data = anndata.AnnData(sp.csr_matrix(VALUES), obs=obs, var=pd.DataFrame(index=columns))
    data.layers["doubled"] = VALUES * 2
    path = str(tmp_path / "cells.h5ad")
    data.write_h5ad(path)
    matrix = Table(path=path, label_column="type").read()
    assert np.array_equal(matrix.values.toarray(), VALUES)
    assert (matrix.sample_names, matrix.feature_names) == (SAMPLES, FEATURES)
    assert matrix.labels is not None
    assert matrix.labels.tolist() == [0, 1, 1, 0, 2]
    assert np.array_equal(Table(path=path, layer="doubled").read().values, VALUES * 2)
    with pytest.raises(UserError, match=r"layer='double' is not.*'doubled'"):
        Table(path=path, layer="double").read()
    with pytest.raises(UserError, match=r"itself says samples_by_features"):
        Table(path=path, orientation="features_by_samples").read()
    with pytest.raises(UserError, match=r"label_column='typ'.*Did you mean 'type'"):
        Table(path=path, label_column="typ").read()


def test_ten_x_folder(tmp_path: Path) -> None:
    path = tmp_path / "matrix.mtx"
    scipy.io.mmwrite(path, sp.coo_matrix(VALUES.T))
    (tmp_path / "barcodes.tsv").write_text("\n".join(SAMPLES))
    rows = [f"ENSG{j}\tTP{min(j, 5)}\tGene Expression" for j in range(F)]
    with gzip.open(tmp_path / "features.tsv.gz", "wt") as stream:
        stream.write("\n".join(rows))
    matrix = Table(path=str(path)).read()  # barcodes say which axis the samples are on
    assert np.array_equal(matrix.values.toarray(), VALUES)
    assert matrix.sample_names == SAMPLES
    assert matrix.feature_names == [f"ENSG{j}" for j in range(F)]  # symbols are not unique
    with pytest.raises(UserError, match=r"Set data.orientation=features_by_samples"):
        Table(path=str(path), orientation="samples_by_features").read()


def table(tmp_path: Path, text: str, name: str = "t.csv", **options: object) -> Matrix:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    options.setdefault("orientation", "samples_by_features")
    matrix = Table(path=str(path), **options).read()  # type: ignore[arg-type]
    matrix.check()
    return matrix


@pytest.mark.parametrize(
    ("text", "names", "features"),
    [
        ("a,b,c,d\n1,2,3,4\n5,6,7,8\n", None, ["a", "b", "c", "d"]),
        ("1,2,3,4\n5,6,7,8\n", None, None),
        ("x,1,2,3,4\ny,5,6,7,8\n", ["x", "y"], None),
        (",0,1,2,3\n0,1,2,3,4\n1,5,6,7,8\n", ["0", "1"], ["0", "1", "2", "3"]),
        ("0,1,2,3\n1,2,3,4\n5,6,7,8\n", None, ["0", "1", "2", "3"]),
        ("sample_id,a,b,c,d\n17,1,2,3,4\n4,5,6,7,8\n", ["17", "4"], ["a", "b", "c", "d"]),
        ("a b  c d\nx 1 2 3  4\ny 5 6 7 8\n", ["x", "y"], ["a", "b", "c", "d"]),
        ("a|b|c|d\nx|1|2|3|4\ny|5|6|7|8\n", ["x", "y"], ["a", "b", "c", "d"]),
        ("\ufeffid;a;b;c;d\r\nx;1;2;3;4\r\ny;5;6;7;8\r\n", ["x", "y"], ["a", "b", "c", "d"]),
        (
            "# made by hand\nid,a,b,c,d\nNA,1,2,3,4\nnan,5,6,7,8\n",
            ["NA", "nan"],
            ["a", "b", "c", "d"],
        ),
        ("#OTU ID,a,b,c,d\nx,1,2,3,4\ny,5,6,7,8\n\n", ["x", "y"], ["a", "b", "c", "d"]),
        ("id, a, b, c, d\nx, 1, 2, 3, 4\ny, 5, 6, 7, 8e0\n", ["x", "y"], ["a", "b", "c", "d"]),
    ],
)
def test_layouts_are_recognised(
    tmp_path: Path, text: str, names: list[str] | None, features: list[str] | None
) -> None:
    matrix = table(tmp_path, text, "t.txt")
    assert matrix.values.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert matrix.sample_names == (names or ["sample_0001", "sample_0002"])
    assert matrix.feature_names == (features or [f"feature_{j:04d}" for j in range(1, 5)])


def test_gct_files_of_expression(tmp_path: Path) -> None:
    text = "#1.2\n2\t3\nName\tDescription\ts1\ts2\ts3\nTP53\tp\t1\t2\t3\nMYC\tm\t4\t5\t6\n"
    matrix = table(tmp_path, text, "t.txt", orientation="features_by_samples")
    assert matrix.values.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert matrix.feature_names == ["TP53:p", "MYC:m"]
    assert matrix.sample_names == ["s1", "s2", "s3"]


def test_layout_can_be_said(tmp_path: Path) -> None:
    text = "1,2,3\n4,5,6\n7,8,9\n"
    matrix = table(tmp_path, text, header=True, name_columns=1)
    assert (matrix.sample_names, matrix.feature_names) == (["4", "7"], ["2", "3"])
    assert matrix.values.tolist() == [[5, 6], [8, 9]]


def test_label_column_and_row(tmp_path: Path) -> None:
    text = "id,kind,a,b\nx,tumour,1,2\ny,normal,3,4\nz,,5,6\n"
    matrix = table(tmp_path, text, label_column="kind")
    assert matrix.labels is not None
    assert matrix.labels.tolist() == [1, 0, -1]
    assert matrix.label_names == ["normal", "tumour"]
    assert matrix.feature_names == ["a", "b"]
    turned = "id,x,y,z\nkind,tumour,normal,\na,1,3,5\nb,2,4,6\n"
    other = table(tmp_path, turned, label_column="kind", orientation="features_by_samples")
    assert other.fingerprint() == matrix.fingerprint()
    with pytest.raises(UserError, match=r"is a column of the file, but with data.orientation"):
        table(tmp_path, "a,b\n1,2\n", label_column="b", orientation="features_by_samples")
    with pytest.raises(UserError, match=r"label_column='kin'.*Did you mean 'kind'"):
        table(tmp_path, text, label_column="kin")


def test_several_text_columns_are_said(tmp_path: Path) -> None:
    matrix = table(tmp_path, "id,kind,a,b\nx,tumour,1,2\ny,normal,3,4\n")
    assert matrix.sample_names == ["x:tumour", "y:normal"]
    assert "set data.label_column=kind" in matrix.notes()[0]


def test_labels_from_names(tmp_path: Path) -> None:
    text = "id,a,b\nLung::1,1,2\nLung::2,3,4\nBone::1,5,6\n"
    matrix = table(tmp_path, text, label_pattern="^(.*)::")
    assert matrix.labels is not None
    assert matrix.labels.tolist() == [1, 1, 0]
    for pattern, message in (
        ("(", "regular expression"),
        ("^.", "needs a group"),
        ("(_)", "matches no"),
    ):
        with pytest.raises(UserError, match=message):
            table(tmp_path, text, label_pattern=pattern)


def test_names_from_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", VALUES)
    (tmp_path / "rows.txt").write_text("\r\n".join(SAMPLES) + "\r\n" + "\0" * 40 + "\n")
    (tmp_path / "columns.txt").write_text("\n".join(["name\ttext", *(f"{f}\tx" for f in FEATURES)]))
    options = {"path": str(tmp_path / "x.npy"), "orientation": "samples_by_features"}
    rows, columns = str(tmp_path / "rows.txt"), str(tmp_path / "columns.txt")
    matrix = Table(sample_names=rows, feature_names=columns, **options).read()
    assert (matrix.sample_names, matrix.feature_names) == (SAMPLES, FEATURES)
    assert set(matrix.sources) == {"x.npy", "rows.txt", "columns.txt"}
    with pytest.raises(UserError, match=r"holds 5 names but that axis of the data has 7"):
        Table(feature_names=rows, **options).read()


def test_missing_values(tmp_path: Path) -> None:
    text = "id,a,b,c\nx,1,,3\ny,4,NA,nan\nz,7,8,9\n"
    with pytest.raises(UserError, match=r"3 of 9 values are missing.*'x'.*'b'.*data.missing=mask"):
        table(tmp_path, text)
    matrix = table(tmp_path, text, missing="mask")
    assert matrix.mask.tolist() == [[1, 0, 1], [1, 0, 0], [1, 1, 1]]
    assert matrix.values.tolist() == [[1, 0, 3], [4, 0, 0], [7, 8, 9]]
    bad = Table(path=str(tmp_path / "t.csv"), orientation="samples_by_features")
    object.__setattr__(bad, "missing", "zero")  # behind the annotations that tests check
    with pytest.raises(UserError, match=r"missing='zero' is unknown. Allowed: error.*mask"):
        bad.read()


def test_mask_file_is_joined_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mask.csv"
    path.write_text("id,c,a,b\ny,1,1,0\nx,1,0,1\n")
    text = "id,a,b,c\nx,1,2,3\ny,4,NA,6\n"
    matrix = table(tmp_path, text, mask=str(path))
    assert matrix.mask.tolist() == [[0, 1, 1], [1, 0, 1]]
    assert matrix.values.tolist() == [[0, 2, 3], [4, 0, 6]]
    for content, message in (
        ("id,c,a,b\ny,1,1,0\nx,1,0,2\n", "holds 2; only 1"),
        ("id,c,a\ny,1,1\nx,1,0\n", "1 of the 3 features of the data are not in the mask"),
        (
            "id,c,a,d\ny,1,1,0\nx,1,0,1\n",
            "1 of the 3 features of the data are not in the mask.*'b'",
        ),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            table(tmp_path, text, mask=str(path))


def test_images(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 6)))
    options = {"path": str(tmp_path / "x.npy"), "orientation": "samples_by_features"}
    matrix = Table(image_shape=[2, 3], **options).read()
    assert (matrix.kind, matrix.image_shape) == ("image", (2, 3))
    with pytest.raises(UserError, match=r"4x4 means 16 features, but the data have 6"):
        Table(image_shape=[4, 4], **options).read().check()
    with pytest.raises(UserError, match=r"two positive numbers"):
        Table(image_shape=[6], **options).read()


def spectra_text(order: np.ndarray, notation: str = "{}", samples: int = 4) -> str:
    counts = np.arange(96.0 * samples).reshape(96, samples)
    lines = ["type," + ",".join(f"s{i}" for i in range(samples))]
    lines += [notation.format(SBS96[i]) + "," + ",".join(map(str, counts[i])) for i in order]
    return "\n".join(lines) + "\n"


def test_channels_are_joined_by_label(tmp_path: Path) -> None:
    orders = [np.arange(96), np.random.default_rng(1).permutation(96), np.arange(96)[::-1]]
    read = [
        table(tmp_path, spectra_text(order), orientation="features_by_samples") for order in orders
    ]
    assert len({matrix.fingerprint() for matrix in read}) == 1
    assert read[1].kind == "sbs96"
    assert read[1].feature_names == list(SBS96)
    assert read[1].values[:, 0].tolist() == [0, 1, 2, 3]


def test_channels_on_the_wrong_axis_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"96 mutation channels.*orientation is the other way round"
    ):
        table(tmp_path, spectra_text(np.arange(96)))


def test_incomplete_channels(tmp_path: Path) -> None:
    text = spectra_text(np.arange(95))
    matrix = table(tmp_path, text, orientation="features_by_samples")
    assert matrix.kind == "generic"
    assert matrix.notes()[0].startswith("95 of the 96 substitution channels were recognised")
    with pytest.raises(UserError, match=r"kind=sbs96.*95 were recognised.*missing 'T\[T>G\]T'"):
        table(tmp_path, text, orientation="features_by_samples", kind="sbs96")


@pytest.mark.parametrize("turned", [False, True])
def test_reference_is_joined_by_name(tmp_path: Path, turned: bool) -> None:
    signatures = np.random.default_rng(2).random((96, 2))
    order = np.random.default_rng(3).permutation(96)
    channel = [f"{c[2:5]},{c[0]}{c[2]}{c[6]}" for c in SBS96]
    lines = ["sub,tri,SigA,SigB"]
    lines += [f"{channel[i]},{signatures[i, 0]},{signatures[i, 1]}" for i in order]
    path = tmp_path / "reference.csv"
    if turned:
        names = ",".join(SBS96[i] for i in order)
        rows = [f"Sig{'AB'[k]}," + ",".join(str(signatures[i, k]) for i in order) for k in (0, 1)]
        lines = [f"name,{names}", *rows]
    path.write_text("\n".join(lines))
    text = spectra_text(np.arange(96)[::-1])
    matrix = table(tmp_path, text, orientation="features_by_samples", reference=str(path))
    assert matrix.reference is not None
    assert matrix.reference.names == ["SigA", "SigB"]
    assert np.array_equal(matrix.reference.values, signatures.T)
    assert "reference.csv" in matrix.sources


def test_reference_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "reference.csv"
    path.write_text("id,a,b\nr1,1,2\n")
    with pytest.raises(UserError, match=r"lacks 1 of the 3 features \(first: 'c'"):
        table(tmp_path, "id,a,b,c\nx,1,2,3\n", reference=str(path))
    with pytest.raises(UserError, match=r"shares no feature name"):
        table(tmp_path, "id,d,e\nx,1,2\n", reference=str(path))
    with pytest.raises(UserError, match=r"neither a file nor a data set.*'sbs-reference-2020'"):
        table(tmp_path, "id,d,e\nx,1,2\n", reference="sbs-reference-2021")
