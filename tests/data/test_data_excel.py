"""Sheets of Excel files follow the rules of csv files."""

from __future__ import annotations

import csv
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_data_formats import read, refused

openpyxl = pytest.importorskip("openpyxl", reason="Excel files need the extra excel")

PLAIN = [["id", "a", "b"], ["x", 1, 2.5], ["y", 3, 4]]


def book(path: Path, **sheets: list[list[Any]]) -> Path:
    """An Excel file with these sheets in this order."""
    made = openpyxl.Workbook()
    made.remove(made.active)
    for title, rows in sheets.items():
        sheet = made.create_sheet(title)
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


TABLES: dict[str, tuple[list[list[Any]], dict[str, Any]]] = {
    "plain": (PLAIN, {}),
    "numbers as names": ([["", 2001, 2002], [7, 1, 2], [9, 3, 4]], {}),
    "classes": (
        [["id", "kind", "a", "b"], ["x", "one", 1, 2], ["y", "two", 3, 4]],
        {"label_column": "kind"},
    ),
    "dropped": ([*PLAIN, ["Total", 4, 6.5]], {"drop": ["Total", "a"]}),
    "missing": ([["id", "a", "b"], ["x", None, 2], ["y", 3, "NA"]], {"missing": "mask"}),
    "missing words": (
        [["id", "a", "b"], ["x", "<LOD", 2], ["y", 3, 4]],
        {"missing": "mask", "missing_words": ["<LOD"]},
    ),
    "empty ends": ([*PLAIN, [None, None, None], [" "]], {}),
    "several names": (
        [["gene", "part", "a"], ["x", "one, two", 1], ["y", 'thr"ee', 2]],
        {"name_separator": "/"},
    ),
    "no header": ([["x", 1, 2], ["y", 3, 4]], {}),
    "true and false": ([["id", "a", "b"], ["x", True, 2], ["y", False, 4]], {}),
    "tenths": ([["id", "a"], *[[f"s{i}", i / 10] for i in range(9)]], {}),
    "a broken line": ([["id", "first\nline", "b"], ["x", 1, 2], ["y", 3, 4]], {}),
    "decimals as text": ([["id", "a", "b"], ["x", "1,5", 2.5], ["y", 3, 4]], {"decimal": ","}),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_sheet_is_read_as_the_same_csv(tmp_path: Path, case: str) -> None:
    rows, options = TABLES[case]
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        marked = [
            [str(c).replace(".", options.get("decimal", ".")) if c == 2.5 else c for c in row]
            for row in rows
        ]
        csv.writer(stream, delimiter=";").writerows(marked)
    text = read(tmp_path / "t.csv", delimiter=";", **options)
    sheet = read(book(tmp_path / "t.xlsx", only=rows), **options)
    assert np.array_equal(sheet.values, text.values)
    assert np.array_equal(sheet.mask is None, text.mask is None)
    assert text.mask is None or np.array_equal(sheet.mask, text.mask)
    assert (sheet.sample_names, sheet.feature_names) == (text.sample_names, text.feature_names)
    assert sheet.label_names == text.label_names
    assert sheet.remarks == (() if case == "empty ends" else text.remarks)


def test_which_sheet(tmp_path: Path) -> None:
    path = book(
        tmp_path / "t.xlsx", Empty=[], Data=PLAIN, **{"2020": [["id", "c"], ["x", 5], ["y", 6]]}
    )
    found = read(path)
    assert found.values.tolist() == [[1, 2.5], [3, 4]]
    assert found.remarks == ("t.xlsx has the sheets 'Data', '2020'; 'Data' is read (data.sheet).",)
    for said in ("2020", 2020, 3):
        assert read(path, sheet=said).values.tolist() == [[5], [6]]
        assert read(path, sheet=said).remarks == ()
    for wrong in (0, 4):
        assert "a number counts them from 1 on" in refused(path, sheet=wrong)
    assert "'Empty', 'Data', '2020'" in refused(path, sheet="data")
    assert "Did you mean 'Data'?" in refused(path, sheet="Dat")
    assert "no lines with values" in refused(path, sheet="Empty")
    assert "no sheet with cells" in refused(book(tmp_path / "e.xlsx", a=[], b=[[None]]))


def test_prose_on_the_first_sheet(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", Notes=[["about"], ["measured in May"]], Data=PLAIN)
    said = refused(path)
    assert "sheet 'Notes' has no numeric column: all 1 columns hold text. Set data.name" in said
    assert "has the sheets 'Notes', 'Data'; 'Notes' is read (data.sheet)." in said
    assert read(path, sheet="Data").shape == (2, 2)


def test_a_table_may_begin_anywhere(tmp_path: Path) -> None:
    rows = [[], [None], *([None, None, *row] for row in PLAIN)]
    found = read(book(tmp_path / "t.xlsx", a=rows))
    assert found.values.tolist() == [[1, 2.5], [3, 4]]
    assert found.sample_names == ["x", "y"]
    rows[-1][-1] = "low"
    assert "sheet 'a': text where a number is needed: 'low' in column 'b', row 'y'" in refused(
        book(tmp_path / "t.xlsx", a=rows)
    )


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ([["id", "a", "b"], ["x", 1, 2], ["x", 3, 4]], "'x' (2 times)"),
        ([["id", "a", "a"], ["x", 1, 2], ["y", 3, 4]], "'a' (2 times)"),
        ([["id", "a"], ["x", None], ["y", 3]], "1 of 2 values are missing"),
        ([["id", "a", "b"], ["x", datetime(2020, 3, 1), 2], ["y", 3, 4]], "'2020-03-01 00:00:00'"),
        ([["id", "a", "b"], ["x", "#DIV/0!", 2], ["y", 3, 4]], "'#DIV/0!' in column 'a'"),
        ([["id", "name"], ["x", "y"], ["z", "w"]], "no numeric column"),
        ([*PLAIN[:2], [], PLAIN[2]], "2 of 6 values are missing"),
        ([["id", "a"]], "header line but no rows"),
    ],
)
def test_bad_cells(tmp_path: Path, rows: list[list[Any]], part: str) -> None:
    assert part in refused(book(tmp_path / "t.xlsx", a=rows))


def test_formulas_have_the_value_that_was_saved(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", a=[*PLAIN, ["z", 5, "=B2+1"]])
    assert "1 of 6 values are missing" in refused(path)  # of which no program has saved the value


def test_sizes_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = book(tmp_path / "sound.xlsx", a=PLAIN)

    def changed(name: str, old: bytes, new: bytes) -> Path:
        with zipfile.ZipFile(sound) as one, zipfile.ZipFile(tmp_path / name, "w") as other:
            for member in one.namelist():
                content = one.read(member)
                if member.endswith("sheet1.xml"):
                    assert old in content
                    content = content.replace(old, new)
                other.writestr(member, content)
        return tmp_path / name

    wrong_size = changed("w.xlsx", b'<dimension ref="A1:C3"', b'<dimension ref="A1:A1"')
    assert np.array_equal(read(wrong_size).values, read(sound).values)
    far = changed("f.xlsx", b'<row r="3">', b'<row r="999999999999">')
    assert "the sheet 'a' says that it has over 1048576 rows" in refused(far)
    monkeypatch.setattr("nmfnet.data.formats.raw.memory", lambda: 1000)
    assert "says that it needs" in refused(sound)


def test_protected_and_old_files(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    assert "has a password, or the format of before 2007" in refused(path)


def test_options_of_other_formats_are_refused(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", a=PLAIN)
    assert "data.delimiter=; is for csv, tsv, txt, data, and not for xlsx" in refused(
        path, delimiter=";"
    )
    assert "data.layer=raw is for h5ad" in refused(path, layer="raw")
    (tmp_path / "t.csv").write_text("id,a\nx,1\ny,2\n")
    assert "data.sheet=1 is for xlsx, xlsm, and not for csv" in refused(tmp_path / "t.csv", sheet=1)


def test_what_stands_beside_may_be_excel_too(tmp_path: Path) -> None:
    data = book(tmp_path / "t.xlsx", a=PLAIN)
    about = book(
        tmp_path / "about.xlsx", a=[["id", "age", "sex"], ["y", 40, "f"], ["x", None, "m"]]
    )
    mask = book(tmp_path / "m.xlsx", a=[["id", "a", "b"], ["x", 0, 1], ["y", 1, 1]])
    found = read(data, phenotypes=str(about), mask=str(mask), label_column="sex")
    assert found.mask.tolist() == [[False, True], [True, True]]
    assert np.array_equal(found.phenotypes["age"], [np.nan, 40], equal_nan=True)
    assert found.phenotypes["sex"].tolist() == ["m", "f"]
    assert found.label_names == ["f", "m"]
    assert set(found.sources) == {"t.xlsx", "about.xlsx", "m.xlsx"}
