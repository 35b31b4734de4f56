"""``nmfnet export --to pyldavis``: the numbers that pyLDAvis prepares, and runs of texts."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from shell import nmfnet as command
from shell import the_run, train

from nmfnet.report.pyldavis import prepared


def topics() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    W, H = rng.dirichlet(np.full(4, 0.4), size=50), rng.dirichlet(np.full(40, 0.1), size=4)
    return W, H, rng.integers(20, 90, 50).astype(float), [f"word{j:02}" for j in range(40)]


def test_what_is_prepared_is_consistent():
    W, H, lengths, words = topics()
    found = prepared(3 * W, H / 3, lengths, words)
    sizes = lengths @ W
    order = np.argsort(-sizes)
    assert found["topic.order"] == (order + 1).tolist()
    np.testing.assert_allclose(found["mdsDat"]["Freq"], 100 * sizes[order] / sizes.sum())
    info = found["tinfo"]
    assert len({len(column) for column in info.values()}) == 1
    default = [c == "Default" for c in info["Category"]]
    assert sum(default) == found["R"] == 30
    for term, freq, total, kind in zip(
        *(info[key] for key in ("Term", "Freq", "Total", "Category")), strict=True
    ):
        if kind != "Default":
            topic, word = order[int(kind.removeprefix("Topic")) - 1], words.index(term)
            assert freq == pytest.approx(sizes[topic] * H[topic, word], abs=1e-6)
            assert total == pytest.approx(sizes @ H[:, word], abs=1e-6)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_it_is_what_the_pyldavis_that_is_installed_prepares():
    peer = pytest.importorskip("pyLDAvis", reason="pyLDAvis is not installed")
    W, H, lengths, words = topics()
    H = np.maximum(H, 1e-6)
    H = H / H.sum(1, keepdims=True)
    theirs = peer.prepare(H, W, lengths, words, lengths @ W @ H, n_jobs=1).to_dict()
    ours = prepared(W, H, lengths, words)
    assert set(ours) == set(theirs)
    for key in ("R", "lambda.step", "plot.opts", "topic.order"):
        assert ours[key] == theirs[key]
    for axis in "xy":
        np.testing.assert_allclose(
            np.abs(ours["mdsDat"][axis]), np.abs(theirs["mdsDat"][axis]), atol=1e-9
        )
    for part in ("tinfo", "token.table"):
        assert set(ours[part]) == set(theirs[part])
        for column, values in theirs[part].items():
            if isinstance(values[0], str):
                assert ours[part][column] == values
            else:
                np.testing.assert_allclose(ours[part][column], values, atol=1e-4)


def test_a_run_of_texts_is_exported_and_has_its_tables(tmp_path):
    rng, (W, H, _, words) = np.random.default_rng(1), topics()
    names = np.array([w.replace("0", "a").replace("1", "b").replace("2", "c").replace("3", "d")
                      for w in words])  # fmt: skip
    names = np.array([f"w{chr(97 + j // 26)}{chr(97 + j % 26)}" for j in range(len(names))])
    rows = [" ".join(rng.choice(names, 40, p=p)) for p in W @ H]
    (tmp_path / "posts.csv").write_text("text\n" + "\n".join(rows) + "\n")
    done = train(
        *("model=lda", "data=text", "data.path=posts.csv", "model.n_components=4"),
        *("max_iter=20", "split=completion"),
        cwd=tmp_path,
    )
    assert done.code == 0, done.err
    folder = the_run(tmp_path)
    numbers = json.loads((folder / "metrics.json").read_text())
    assert -1 <= numbers["topics/npmi"] <= 1
    assert 0.25 <= numbers["topics/diversity"] <= 1
    assert (folder / "figures" / "topic_map.png").is_file()
    with (folder / "topics.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 4
    sizes = [float(row["size"]) for row in table]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == pytest.approx(1, rel=1e-5)
    assert min(sizes) == pytest.approx(numbers["topics/smallest"], rel=1e-4)
    assert all(len(row["words"].split()) == 10 for row in table)
    done = command("export", str(folder), "--to", "pyldavis", cwd=tmp_path)
    assert done.code == 0, done.err
    page = json.loads((folder / "export" / "pyldavis.json").read_text())
    assert len(page["mdsDat"]["x"]) == 4


def test_runs_that_are_no_topics_are_not_exported(tmp_path):
    done = train("data=planted", "max_iter=5", "figures=false", cwd=tmp_path)
    assert done.code == 0
    done = command("export", str(the_run(tmp_path)), "--to", "pyldavis", cwd=tmp_path)
    assert done.code == 2
    assert "needs the lengths of the documents" in done.err
