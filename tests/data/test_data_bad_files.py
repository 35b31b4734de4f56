"""Files that cannot be read: one message that says what, where and what to do."""

from __future__ import annotations

import builtins
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmfnet.data import Table
from nmfnet.errors import UserError


def message_of(path: Path, **options: Any) -> str:
    options.setdefault("orientation", "samples_by_features")
    with pytest.raises(UserError) as caught:
        Table(path=str(path), **options).read().check()
    return str(caught.value)


def given(tmp_path: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "id,a,b\nx,1,2\ny,3,low\n",
            ["'low' in column 'b', row 'y'", "leave a cell empty (or NA)"],
        ),
        ("id,a,b\nx,1,?\ny,?,4\n", ["'?' in column 'b', row 'x'", "2 such cells in 2 columns"]),
        (
            "id,a,b\nx,1,good\ny,2,bad\n",
            ["'good' in column 'b', row 'x'", "set data.label_column='b'"],
        ),
        ("id;a;b\nx;1,5;2\ny;3;4\n", ["'1,5' in column 'a', row 'x'", "decimals with a point"]),
        ("id;a;b\nx;1.234,5;2\n", ["'1.234,5'", "data.decimal=','"]),
        ("id,a,b\nx,1.2.3,2\ny,1.2.4,4\n", ["'1.2.3' in column 'a'", "data.drop=[a]"]),
        ("id\ta\tb\nx\t1,234\t2\n", ["'1,234'", "no thousands separators"]),
        ("id,a,b\nx,1,2\nx,3,4\n", ["1 sample names occur more than once", "'x' (2 times)"]),
        ("id,a,a\nx,1,2\ny,3,4\n", ["1 feature names", "'a' (2 times)"]),
        ("id,a,b\nx,1,inf\ny,3,4\n", ["1 of 4 values are infinite", "'x', feature 'b'"]),
        ("id,a,b\n", ["header line but no rows"]),
        ("\n\n", ["no lines with values"]),
        ("id,name\nx,y\nz,w\n", ["no numeric column", "data.delimiter or data.name_columns"]),
        ("id,a,b,c\nx,1,2\ny,3,4\n", ["header line has 4 fields and the rows have 3"]),
    ],
)
def test_bad_text(tmp_path: Path, text: str, parts: list[str]) -> None:
    message = message_of(given(tmp_path, text, "t.txt"))
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("cell", ["1.234", "1.234,5", "0.5"])
def test_a_point_beside_decimal_commas_is_refused(tmp_path: Path, cell: str) -> None:
    path = given(tmp_path, f"id;a;b\nx;{cell};n.a.\ny;3;4,5\n", "t.txt")
    message = message_of(path, decimal=",", missing="mask", missing_words=["n.a."])
    assert f"{cell!r} in column 'a', row 'x'. With data.decimal=','" in message


def test_ragged_lines_beyond_the_preview(tmp_path: Path) -> None:
    rows = "".join(f"s{i},1,2\n" for i in range(80))
    message = message_of(given(tmp_path, "id,a,b\n" + rows + "t,1,2,3\n"))
    assert "line 82" in message
    assert "not a regular table" in message


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("id,a\nx,1\n".encode("utf-16"), "UTF-16"),
        ("id,caf\xe9\nx,1\n".encode("latin-1"), "not UTF-8"),
        (b"id,a\n" + b"x,1\n" * 60 + b"\xe9,1\n", "not UTF-8"),
        (b"", "is empty (0 bytes)"),
    ],
)
def test_bad_bytes(tmp_path: Path, content: bytes, part: str) -> None:
    assert part in message_of(given(tmp_path, content))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("t.csv.gz", "cannot be read"),
        ("t.npy", "not a readable NumPy file"),
        ("t.npz", "not a readable"),
        ("t.mtx", "not a readable Matrix Market file"),
        ("t.parquet", "not a readable parquet file"),
        ("t.h5ad", "not a readable h5ad file"),
        ("t.xlsx", "not a readable Excel file"),
        ("t.xls", "Save it as .xlsx, or the sheet as CSV"),
        ("t.npy.gz", "Unpack it first"),
        ("t.zip", "Unpack it first"),
        ("t.dat", "Known endings: .csv, .tsv"),
        ("t", "Known endings"),
    ],
)
def test_damaged_or_unknown_formats(tmp_path: Path, name: str, part: str) -> None:
    for module, ending in (("pyarrow", "parquet"), ("anndata", "h5ad"), ("openpyxl", "xlsx")):
        if name.endswith(ending):
            pytest.importorskip(module)
    assert part in message_of(given(tmp_path, "junk, not this format", name))


def test_archive_with_a_wrong_byte(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"id,a,b\n" + b"".join(b"s%d,1,2\n" % i for i in range(99))))
    found = set()
    for at in range(10, len(packed) - 8):
        damaged = packed.copy()
        damaged[at] ^= 0xFF
        path = given(tmp_path, bytes(damaged), "t.csv.gz")
        found.add(message_of(path).split("t.csv.gz")[1].split(":")[0])
    assert " cannot be read" in found


def test_missing_file_suggests_a_neighbour(tmp_path: Path) -> None:
    given(tmp_path, "id,a\nx,1\n", "counts.csv")
    message = message_of(tmp_path / "count.csv")
    assert "does not exist" in message
    assert "Did you mean 'counts.csv'?" in message


def test_folder(tmp_path: Path) -> None:
    given(tmp_path, "id,a\nx,1\n", "counts.csv")
    message = message_of(tmp_path)
    assert "is a folder" in message
    assert "counts.csv" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = given(tmp_path, "id,a\nx,1\n")
    path.chmod(0)
    assert "cannot be read: Permission denied" in message_of(path)


def test_arrays_of_the_wrong_shape_or_type(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3, 4)))
    assert "3 dimension(s), shape (2, 3, 4)" in message_of(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.ones((2, 3), dtype=complex))
    assert "real numbers are needed" in message_of(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array([[1, None]], dtype=object), allow_pickle=True)
    assert "Python objects" in message_of(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", W=np.ones((2, 3)), H=np.ones((3, 2)))
    assert "'W', 'H'; one two-dimensional array named 'X'" in message_of(tmp_path / "a.npz")


def test_orientation_must_be_said(tmp_path: Path) -> None:
    path = given(tmp_path, "id,g1,g2,g3\np1,1,2,3\np2,4,5,6\n")
    message = message_of(path, orientation=None)
    for part in (
        "2 rows x 3 columns",
        "data.orientation=samples_by_features   (each row is a sample: 2 samples, 3 features)",
        "data.orientation=features_by_samples   (each column is a sample: 3 samples, 2 features)",
        "First row names:    'p1', 'p2'",
        "First column names: 'g1', 'g2', 'g3'",
    ):
        assert part in message
    bad = Table(path=str(path))
    object.__setattr__(bad, "orientation", "rows")  # behind the annotations that tests check
    with pytest.raises(UserError, match=r"'rows' is unknown. Allowed: samples_by_features, feat"):
        bad.read()


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [
        ("anndata", "t.h5ad", "nmfnet[anndata]"),
        ("pyarrow", "t.parquet", "nmfnet[parquet]"),
        ("openpyxl", "t.xlsx", "nmfnet[excel]"),
    ],
)
def test_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, extra: str
) -> None:
    path = given(tmp_path, "anything", name)
    real = builtins.__import__

    def without(wanted: str, *args: Any, **kwargs: Any) -> Any:
        if wanted.split(".")[0] == module:
            raise ImportError(wanted)
        return real(wanted, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    message = message_of(path)
    assert extra in message
    assert "pip install" in message


def write_sound(path: Path) -> None:
    import pandas as pd
    import scipy.io
    import scipy.sparse as sp

    values = np.round(np.random.default_rng(0).gamma(1.0, 2.0, (6, 4)), 2)
    text = "id,a,b\nx,1,2\ny,3,4\n"
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        pd.DataFrame(values, columns=list("abcd")).to_parquet(path)
    elif path.suffix == ".xlsx":
        pytest.importorskip("openpyxl", reason="Excel files need the extra excel")
        pd.DataFrame(values, columns=list("abcd")).to_excel(path)
    elif path.suffix == ".npy":
        np.save(path, values)
    elif path.name == "sparse.npz":
        sp.save_npz(path, sp.csr_matrix(values), compressed=False)
    elif path.suffix == ".npz":
        np.savez(path, X=values, feature_names=list("abcd"))
    elif path.suffix == ".mat":
        names = np.array(list("abcd"), dtype=object)
        scipy.io.savemat(path, {"X": values, "feature_names": names})
    elif path.suffix == ".mtx":
        scipy.io.mmwrite(path, sp.coo_matrix(values))
    elif path.suffix == ".biom":
        rows, entries = '[{"id": "a"}, {"id": "b"}]', "[[0, 0, 1.0], [1, 1, 2.0]]"
        path.write_text(
            f'{{"rows": {rows}, "columns": {rows}, "matrix_type": "sparse", "data": {entries}}}'
        )
    else:
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.mark.parametrize(
    "name",
    [
        *("t.csv", "t.tsv", "t.csv.gz", "t.npy", "t.npz", "sparse.npz"),
        *("t.mat", "t.mtx", "t.parquet", "t.biom", "t.xlsx"),
    ],
)
def test_damage_anywhere_is_a_sentence_or_still_a_table(tmp_path: Path, name: str) -> None:
    """No exception but UserError leaves a reader, whatever has happened to the bytes."""
    rng = np.random.default_rng(1)
    write_sound(tmp_path / name)
    sound = (tmp_path / name).read_bytes()
    refused = 0
    for _ in range(60):
        damaged, at = bytearray(sound), int(rng.integers(len(sound)))
        match rng.integers(4):
            case 0:
                del damaged[max(1, at) :]
            case 1:
                damaged[at] = int(rng.integers(256))
            case 2:
                damaged[at:at] = damaged[at : at + 9] * 3
            case 3:
                damaged[at:at] = bytes(rng.choice(list(b'",;\n\r\t#0-9.e_ \0'), 3).tolist())
        (tmp_path / name).write_bytes(damaged)
        try:
            source = Table(
                path=str(tmp_path / name), orientation="samples_by_features", missing="mask"
            )
            source.read().check()
        except UserError as error:
            refused += 1
            assert str(error)
    assert refused > 5
