"""Inputs that people of the fields have, through the commands and calls they use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from shell import the_message, train

import nmfnet
from nmfnet.data.sources.channels import SBS96
from nmfnet.errors import UserError

ROWS = "data.orientation=samples_by_features"
COLUMNS = "data.orientation=features_by_samples"
BARE = ("data=triples", "data.row=1", "data.column=2", "data.value=3")
COUNTS = np.random.default_rng(3).poisson(4, (12, 6)).astype(float)


class Right(NamedTuple):
    """What a run must have read: names, shape of X, and something of its notes."""

    samples: list[str]
    features: list[str]
    note: str = ""


def channels(order: list[int]) -> str:
    """A catalogue of three genomes, with its channels in some order and notation."""
    lines = ["Mutation Types\tP1\tP2\tP3"]
    for i in order:
        five, before, _, after, three = (*SBS96[i][:1], *SBS96[i][2:5], SBS96[i][6])
        lines.append(f"{before}>{after}@{five}_{three}\t{i % 7}\t{i % 5}.5\t{i % 3}")
    return "\n".join(lines) + "\n"


READ = {
    "names with dots, signs and zeros": (
        {"x.csv": 'sample,a.1,b\nP08.S1.pass,1,2\n"A, left",3,1\nNA,2,2\n01,1,5\n1,1,1\n#9,4,1\n'},
        (ROWS,),
        Right(["P08.S1.pass", "A, left", "NA", "01", "1", "#9"], ["a.1", "b"]),
    ),
    "channels in another order and notation": (
        {"x.txt": channels([*range(95, -1, -1)])},
        (),
        Right(["P1", "P2", "P3"], list(SBS96)),
    ),
    "row numbers and two columns of text": (
        {"x.csv": ",Type,Context,P1,P2\n0,C>A,ACA,1,2\n1,C>G,ACG,3,1\n2,T>C,ATT,2,2\n"},
        (COLUMNS,),
        Right(["P1", "P2"], ["C>A:ACA", "C>G:ACG", "T>C:ATT"], "numbers the rows"),
    ),
    "featureCounts": (
        {
            "x.txt": '# Program:featureCounts v2; Command:"featureCounts" "-a", "x.gtf"\n'
            "Geneid\tChr\tStart\tEnd\tStrand\tLength\tA.bam\tB.bam\n"
            "G1\t1;1\t5;9\t7;12\t+;+\t7\t1\t2\nG2\t2\t3\t9\t-\t7\t4\t1\n"
        },
        (COLUMNS,),
        Right(["A.bam", "B.bam"], ["G1", "G2"], "Chr, Start, End, Strand, Length were left out"),
    ),
    "a table of BIOM as text": (
        {
            "x.tsv": "# Constructed from biom file\n#OTU ID\tA\tB\ttaxonomy\n10\t1\t2\tk__x; p__y\n"
            "11\t3\t1\tk__z\n"
        },
        (COLUMNS, "data.drop=[taxonomy]"),
        Right(["A", "B"], ["10", "11"], "names the rows although it holds numbers"),
    ),
    "a path with signs": (
        {"ü=(1),#&.csv": "name,a,b\np,1,2\nq,3,1\n"},
        (ROWS,),
        Right(["p", "q"], ["a", "b"]),
    ),
    "ratings without a header": (
        {"u.data": "196\t242\t3\t881250949\n186\t302\t3\t891717742\n22\t242\t1\t878887116\n"},
        BARE,
        Right(["22", "186", "196"], ["242", "302"]),
    ),
    "ratings of the second MovieLens": (
        {"ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n2::661::4::978298413\n"},
        (*BARE, "data.delimiter=::"),
        Right(["1", "2"], ["661", "1193"]),
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_read_by_the_command(kind: str, tmp_path: Path) -> None:
    files, words, right = READ[kind]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    path = f"data.path={next(iter(files))}"
    end = ("model.n_components=1", "max_iter=3", "figures=false", "run_dir=run")
    done = train("data=table", path, *words, *end, cwd=tmp_path)
    assert done.code == 0, done.err
    with np.load(tmp_path / "run" / "factors.npz") as factors:
        assert factors["sample_names"].tolist() == right.samples
        assert factors["feature_names"].tolist() == right.features
    notes = json.loads((tmp_path / "run" / "metrics.json").read_text())["notes"]
    assert right.note in " ".join(notes)


LONG = "x" * 200_000
REFUSED = {
    "triples with a header": (
        "x.csv", "userId;movieId;rating\n1;5;3\n2;6;4\n", (ROWS,),
        "data=triples data.row=userId data.column=movieId data.value=rating data.delimiter=semicolon",
    ),
    "triples without one": (
        "u.data", "1\t5\t3\t881250949\n2\t6\t4\t881250949\n", (ROWS,),
        "data=triples data.row=1 data.column=2 data.value=3",
    ),
    "a header where there is none": (
        "x.csv", "user,item,rating\n1,5,3\n", BARE,
        "Line 1 looks like a header",
    ),
    "names where there is no header": (
        "x.csv", "1,5,3\n", ("data=triples", "data.row=u", "data.column=i", "data.value=r"),
        "In a file without a header, columns are numbers",
    ),
    "names and positions": (
        "x.csv", "1,5,3\n", ("data=triples", "data.row=1", "data.column=2", "data.value=r"),
        "all names of a header, or all positions",
    ),
    "a cell of 200,000 characters": ("x.csv", f"name,a\np,1\n{LONG},2\n", (ROWS,), "x.csv, line 3"),
    "a header cell of 200,000 characters": ("x.csv", f"name,{LONG}\np,1\n", (ROWS,), "x.csv, line 1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_the_command(kind: str, tmp_path: Path) -> None:
    name, text, words, fragment = REFUSED[kind]
    (tmp_path / name).write_text(text)
    done = train("data=table", f"data.path={name}", *words, cwd=tmp_path)
    assert done.code == 2
    message = the_message(done)
    assert fragment in message
    assert len(message) < 600


def test_lines_that_may_be_triples_are_said(tmp_path: Path) -> None:
    from nmfnet.data import Table

    def notes(text: str) -> str:
        (tmp_path / "x.csv").write_text(text)
        table = Table(path=str(tmp_path / "x.csv"), orientation="samples_by_features")
        return " ".join(table.read().remarks)

    lines = "".join(f"{i},{7 * i % 5},{i % 4 + 1}\n{i},9,{i % 3}\n" for i in range(1, 9))
    assert "use data=triples data.row=1 data.column=2 data.value=3." in notes(lines)
    assert "data.row=reader" in notes("reader,paper,stars\n" + lines)
    measured = "".join(
        f"{i},{7 * i % 5},{0.37 * i:.2f}\n{i},9,{0.71 * i:.2f}\n" for i in range(1, 9)
    )
    assert "triples" not in notes("a,b,c\n" + measured)
    assert "triples" not in notes("a,b,c\n" + lines.replace(",9,", ",9.5,"))


@pytest.mark.parametrize("extra", [1, 6])
def test_more_components_than_the_data_have(extra: int) -> None:
    """New rows reach what the fit reached, though H has no rank for it."""
    model = nmfnet.fit(COUNTS, n_components=6 + extra, max_iter=400)
    W = model.transform(COUNTS)
    error = np.linalg.norm(COUNTS - model.inverse_transform(W)) / np.linalg.norm(COUNTS)
    assert error < max(1e-4, 2 * model.metrics["train/relative_error"])
    assert W.max() < 1e4


def test_what_lies_beside_x_is_joined_by_name() -> None:
    X = pd.DataFrame(COUNTS, index=[f"s{i}" for i in range(12)], columns=list("abcdef"))
    seen, words = X != 4, {"n_components": 2, "max_iter": 60}
    model = nmfnet.fit(X, mask=seen, **words)
    objective = model.metrics["objective"]
    for other in (seen.iloc[::-1], seen[list("fcbeda")], sp.csr_matrix(seen), seen.to_numpy()):
        assert nmfnet.fit(X, mask=other, **words).metrics["objective"] == objective
    hidden = np.ma.array(COUNTS, mask=COUNTS == 4)
    assert nmfnet.fit(hidden, **words).metrics["objective"] == objective
    mixed = nmfnet.fit(sp.csr_matrix(COUNTS), mask=seen.to_numpy(), **words)
    assert mixed.metrics["objective"] == pytest.approx(objective, rel=1e-6)
    W = model.transform(X, mask=seen)
    assert np.array_equal(W, model.transform(hidden))
    assert not np.allclose(W, model.transform(X), rtol=1e-3)
    turned = model.transform(X[list("fedcba")], mask=seen.iloc[::-1])
    assert np.array_equal(W, turned)
    with pytest.raises(UserError, match="features of the data are not in X"):
        model.transform(X.rename(columns=str.upper))
