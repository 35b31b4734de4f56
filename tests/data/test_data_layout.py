"""Text files as programs and people really write them: ends of lines, quotes, headers, notes."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmfnet.data import Matrix, Table
from nmfnet.errors import UserError


def read(tmp_path: Path, text: str | bytes, name: str = "t.csv", **options: Any) -> Matrix:
    path = tmp_path / name
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    options.setdefault("orientation", "samples_by_features")
    matrix = Table(path=str(path), **options).read()
    matrix.check()
    return matrix


ROWS = "name,a,b\np,1,2\nq,3,4\n"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (ROWS, {}),
        (ROWS.replace("\n", "\r"), {}),
        (ROWS.replace("\n", "\r\n"), {}),
        ("\ufeff" + ROWS.replace("\n", "\r\n", 1), {}),
        ("name\ta\tb\np\t1\t2\nq\t3\t4", {"delimiter": "tab"}),
        ("name\ta\tb\np\t1\t2\nq\t3\t4", {"delimiter": r"\t"}),
        ("sep=;\n" + ROWS.replace(",", ";"), {}),
        ("name;a;b\np;1,0;2\nq;3;4,0\n", {"decimal": ","}),
        ("# by me, on Monday, at noon\n" + ROWS, {}),
        ("# one\n\n# two, three\n\n" + ROWS, {}),
        ("#name,a,b\np,1,2\nq,3,4\n", {}),
        ("name,a,b,\np,1,2,\nq,3,4,\n", {}),
        ("name,a,b\np,1,2,\nq,3,4,\n", {}),
        ("a,b\np,1,2\nq,3,4\n", {}),
        (ROWS + ",,\n,,\n", {}),
        ('name,"a",b\n"p","1",2\nq,"3"," 4"\n', {}),
    ],
)
@pytest.mark.parametrize("ending", ["txt", "csv.gz"])
def test_same_table(tmp_path: Path, text: str, options: dict[str, Any], ending: str) -> None:
    matrix = read(tmp_path, text, f"t.{ending}", **options)
    assert matrix.values.tolist() == [[1, 2], [3, 4]]
    assert matrix.sample_names == ["p", "q"]
    assert [name.lstrip("#") for name in matrix.feature_names] == ["a", "b"]


def test_line_breaks_and_delimiters_inside_of_quotes(tmp_path: Path) -> None:
    text = 'name,"size\n(mm)","n, all"\n"p\nq",1,2\n"r ""s""",3,4\n'
    matrix = read(tmp_path, text)
    assert matrix.feature_names == ["size (mm)", "n, all"]
    assert matrix.sample_names == ["p q", 'r "s"']
    assert matrix.values.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(UserError, match=r"line 6 has 4 fields, the header 3"):
        read(tmp_path, text + "t,5,6,7\n")


@pytest.mark.parametrize("missing", ["error", "mask"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,a,b,c\np,1,2,3\nq,4,1,5,6\nr,7,8,9\n", "line 3 has 5 fields, the header 4"),
        ("name,a,b,c\np,1,2,3\nq,4,1\nr,7,8,9\n", "line 3 has 3 fields, the header 4"),
        ("name,a,b\np,1,2,3\nq,4,5,6\n", "header line has 3 fields and the rows have 4"),
        ("1,2,3\n4,5\n6,7,8\n9,1\n2,3,4\n", r"line 2 has 2 fields, the others 3; so have 1 fur"),
        ('name,a\np,1\n"q,2\n' + "x" * 140_000, "quotation mark .* left open"),
    ],
)
def test_uneven_rows(tmp_path: Path, text: str, message: str, missing: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, text, missing=missing)


@pytest.mark.parametrize(
    ("text", "names", "note"),
    [
        (
            ",Type,Base,P,Q\n0,C,A,1,2\n1,G,T,3,4\n",
            ["C:A", "G:T"],
            "The first column numbers the rows and was left out",
        ),
        (",Unnamed: 0,P,Q\n0,0,1,2\n1,1,3,4\n", ["0", "1"], "'Unnamed: 0' numbers the rows"),
        ("patient_id,P,Q\n71,1,2\n35,3,4\n", ["71", "35"], "'patient_id'. names the rows although"),
        ("P,Q\nx,1,2\ny,3,4\n", ["x", "y"], "one field less than the rows"),
        ("n,P,Q,\nx,1,2,\ny,3,4,\n", ["x", "y"], "Every row ends with a delimiter"),
        ("n,P,Q\nx,1,2\ny,3,4\n,,\n", ["x", "y"], "1 empty rows at the end of the file"),
        (
            "Geneid,Chr,Start,End,Strand,Length,P,Q\nx,1;1,1;5,3;9,+;+,7,1,2\ny,2,5,9,-,4,3,4\n",
            ["x", "y"],
            "featureCounts: the columns Chr, Start, End, Strand, Length were left out",
        ),
    ],
)
def test_what_is_guessed_is_said(tmp_path: Path, text: str, names: list[str], note: str) -> None:
    matrix = read(tmp_path, text)
    assert matrix.values.tolist() == [[1, 2], [3, 4]]
    assert (matrix.sample_names, matrix.feature_names) == (names, ["P", "Q"])
    assert any(note in said.replace(")", ".") for said in matrix.notes()), matrix.notes()


def test_a_feature_that_counts_is_kept_and_said(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i * i % 5}\n" for i in range(1, 7))
    matrix = read(tmp_path, "plot,height\n" + rows)
    assert matrix.feature_names == ["plot", "height"]
    assert "'plot') counts the rows" in matrix.notes()[0]


def test_totals_are_said(tmp_path: Path) -> None:
    matrix = read(tmp_path, "name,a,b\np,1,2\nq,3,4\nTotal,4,6\n")
    assert "'Total' looks like a sum over the others" in matrix.notes()[0]


def test_columns_and_rows_can_be_left_out(tmp_path: Path) -> None:
    text = "name,a,kind,b,when\np,1,x,2,May\nq,3,y,4,June\nTotal,4,?,6,-\n"
    matrix = read(tmp_path, text, drop=["when", "kind", "Total"])
    assert matrix.values.tolist() == [[1, 2], [3, 4]]
    labelled = read(tmp_path, text, drop=["when", "Total"], label_column="kind")
    assert labelled.label_names == ["x", "y"]
    assert labelled.fingerprint() != matrix.fingerprint()
    with pytest.raises(UserError, match=r"data.drop: 'kin' is neither.*Did you mean 'kind'"):
        read(tmp_path, text, drop=["kin"])
    with pytest.raises(UserError, match=r"Columns of text: 'kind', 'when'.*drop=\[kind,when\]"):
        read(tmp_path, text)
    np.savez(tmp_path / "x.npz", X=np.eye(3), sample_names=list("pqr"), feature_names=list("abc"))
    small = Table(path=str(tmp_path / "x.npz"), drop=["q", "a"]).read()
    assert (small.sample_names, small.feature_names) == (["p", "r"], ["b", "c"])
    assert small.values.tolist() == [[0, 0], [0, 1]]


def test_words_for_missing(tmp_path: Path) -> None:
    text = "name,a,b\np,1,n.d.\nq,NaT,4\n"
    matrix = read(tmp_path, text, missing_words=["n.d."], missing="mask")
    assert matrix.mask.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(UserError, match=r"'n.d.'.*data.missing_words=\[n.d.\]"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": "xyz"}, "'xyz' is not a delimiter.*tab, comma"),
        ({"delimiter": ""}, "is not a delimiter"),
        ({"name_columns": -1}, "name_columns=-1 must lie between 0 and 2"),
        ({"name_columns": 3}, "name_columns=3 must lie between 0 and 2"),
        ({"decimal": ";"}, "data.decimal=';' is unknown"),
        ({"label_column": "b", "drop": ["nothing"]}, "'nothing' is neither"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, ROWS, **options)


def test_two_columns_of_one_name_are_no_label(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 columns called 'y'"):
        read(tmp_path, "n,y,a,y\np,u,1,2\nq,v,3,4\n", label_column="y")


def test_triples_are_not_a_table(tmp_path: Path) -> None:
    text = "userId,movieId,rating,timestamp\n1,5,4.0,964982703\n2,5,3.5,964981247\n"
    with pytest.raises(UserError, match=r"look like \(row, column, value\) triples: use data=trip"):
        read(tmp_path, text)
    assert read(tmp_path, text, name_columns=0).shape == (2, 4)
    bare = "".join(f"{7 * i % 9 + 1}\t{i}\t{i % 5 + 1}\t{881250949 + i}\n" for i in range(1, 30))
    with pytest.raises(UserError, match=r"look like \(row, column, value\) triples"):
        read(tmp_path, bare, "u.data")


def test_identifiers_with_underscores_are_no_numbers(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b\n1_2,3\n4_5,6\n").sample_names == ["1_2", "4_5"]
    with pytest.raises(UserError, match="'3_0' in column 'a'"):
        read(tmp_path, "name,a,b\np,1,2\nq,3_0,4\n")
