"""Documents from folders, tables and scikit-learn, as counts or tf-idf."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nmfnet.data import Documents
from nmfnet.errors import UserError

POSTS = {
    "pets/one.txt": "The cat saw the dog. Cats purr.",
    "pets/two.txt": "A dog and a cat and a dog",
    "space/three.txt": "Rocket to the moon, rocket 2000!",
    "space/four.txt": "moon rocket dog",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in POSTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_folder_counts_words_and_takes_subfolders_for_classes(folder: Path) -> None:
    matrix = Documents(path=str(folder)).read()
    matrix.check()
    assert matrix.is_sparse
    assert matrix.kind == "text"
    assert matrix.feature_names == ["cat", "dog", "moon", "rocket"]
    assert matrix.sample_names == [
        "pets/one.txt",
        "pets/two.txt",
        "space/four.txt",
        "space/three.txt",
    ]
    wanted = [[1, 1, 0, 0], [1, 2, 0, 0], [0, 1, 1, 1], [0, 0, 1, 2]]
    assert np.array_equal(matrix.values.toarray(), wanted)
    assert matrix.label_names == ["pets", "space"]
    assert matrix.labels is not None
    assert matrix.labels.tolist() == [0, 0, 1, 1]
    assert set(matrix.sources) == set(POSTS)


def test_options_of_the_vectorizer(folder: Path) -> None:
    tfidf = Documents(path=str(folder), weighting="tfidf").read().values
    np.testing.assert_allclose(np.asarray(tfidf.power(2).sum(1)).ravel(), 1)
    pairs = Documents(path=str(folder), min_df=1, longest_ngram=2, stop_words=None).read()
    assert "the moon" in pairs.feature_names
    few = Documents(path=str(folder), max_features=1).read()
    assert few.feature_names == ["dog"]
    assert few.shape == (3, 1)
    assert "1 of 4 documents have no word left" in few.remarks[0]


def test_a_column_of_a_table(tmp_path: Path) -> None:
    file = tmp_path / "posts.csv"
    file.write_text('id,body,topic\n1,"cat, dog",pets\n2,dog cat,pets\n3,cat moon,\n')
    matrix = Documents(path=str(file), text_column="body", label_column="topic").read()
    assert matrix.feature_names == ["cat", "dog"]
    assert matrix.labels is not None
    assert matrix.labels.tolist() == [0, 0, -1]
    with pytest.raises(UserError, match="text_column='text' is not a column"):
        Documents(path=str(file)).read()


def test_long_documents_with_line_breaks_of_every_kind(tmp_path: Path) -> None:
    file = tmp_path / "posts.csv"
    long = "cat " * 50_000
    file.write_text(f'\ufeffbody,topic\r\n"{long}\ndog",pets\r\ncat\u2028dog,pets\r\n', newline="")
    matrix = Documents(path=str(file), text_column="body").read()
    assert matrix.feature_names == ["cat", "dog"]
    assert matrix.values.toarray().tolist() == [[50_000, 1], [1, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "nowhere"}, "does not exist"),
        ({"min_df": 9}, "cannot be counted"),
        ({"encoding": "utf-9"}, "cannot be read as utf-9"),
        ({"token_pattern": "("}, "cannot be counted"),
    ],
)
def test_bad_input(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Documents(**({"path": str(folder)} | options)).read()


def test_newsgroups_come_from_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(data=["cat dog", "dog cat"], target=[1, 0], target_names=["a", "b"])
    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups", lambda **_: found)
    matrix = Documents(path="20newsgroups").read()
    assert matrix.labels is not None
    assert matrix.labels.tolist() == [1, 0]

    def offline(**_: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups", offline)
    with pytest.raises(UserError, match="Use data=20news-bow"):
        Documents(path="20newsgroups").read()
