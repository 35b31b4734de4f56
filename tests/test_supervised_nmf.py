"""Types of every class, learned by themselves; labels of held-out samples never enter."""

from __future__ import annotations

import functools
import json

import numpy as np
import pandas as pd
import pytest
from shell import train

import nmfnet
from nmfnet.data import InMemory, RowSplit
from nmfnet.metrics import matched_cosine, readout_metrics

fit = functools.partial(
    nmfnet.fit, model="supervised_nmf", figures=False, threads=1, dtype="float64", n_components=4
)


def communities(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of samples of two classes, their classes, and two types of each class."""
    rng = np.random.default_rng(seed)
    H = rng.dirichlet(np.full(20, 0.3), 4)
    labels = np.arange(80) % 2
    W = rng.dirichlet(np.full(2, 0.8), 80) * 400
    weights = np.where(labels[:, None] == 0, np.hstack([W, 0 * W]), np.hstack([0 * W, W]))
    return rng.poisson(weights @ H).astype(float), labels, H


def test_types_are_those_of_the_classes_and_weights_need_no_class():
    X, labels, H = communities()
    fitted = fit(X, labels=np.where(labels, "ill", "well"))
    assert fitted.component_names == ["ill 1", "ill 2", "well 1", "well 2"]
    found = fitted.components_
    np.testing.assert_allclose(found.sum(1), 1)
    assert matched_cosine(found[2:], H[:2]) > 0.99
    assert matched_cosine(found[:2], H[2:]) > 0.99
    alone = nmfnet.fit(X[labels == 0], loss="kl", n_components=2, dtype="float64", figures=False)
    shares = alone.components_ / alone.components_.sum(1, keepdims=True)
    assert matched_cosine(found[2:], shares) > 0.999
    np.testing.assert_allclose(fitted.transform(X), nmfnet.project(X, found, loss="kl"), atol=0.2)
    assert any("fits of the classes by themselves" in note for note in fitted.notes)


def test_labels_of_held_out_samples_change_nothing():
    X, labels, _ = communities()
    held = RowSplit(test_fraction=0.3)(InMemory(X=X).read(), 5).test_rows
    other = labels.copy()
    other[held] = 1 - other[held]
    own = {"split": "rows", "seed": 5, "split.test_fraction": 0.3}
    one, two = fit(X, labels=labels, **own), fit(X, labels=other, **own)
    np.testing.assert_array_equal(one.components_, two.components_)
    np.testing.assert_array_equal(one.transform(X[held]), two.transform(X[held]))
    assert one.metrics["labels/auc"] > 0.95
    assert two.metrics["labels/auc"] == pytest.approx(1 - one.metrics["labels/auc"])


def test_readout_of_scores_and_of_classes_that_are_missing():
    W = np.array([[1.0, 0], [2, 0], [0, 1], [0, 3]])
    labels = np.array([0, 0, 1, 1])
    assert readout_metrics(W, labels, W, labels) == {"accuracy": 1.0, "auc": 1.0}
    one = readout_metrics(W, labels, W[:2], labels[:2])
    assert one["accuracy"] == 1
    assert np.isnan(one["auc"])


def test_data_without_classes_or_with_too_many_are_refused():
    X, labels, _ = communities()
    with pytest.raises(nmfnet.UserError, match="the data have no labels"):
        fit(X)
    with pytest.raises(nmfnet.UserError, match="each of the 9 classes needs a type"):
        fit(X, labels=np.arange(80) % 9)
    held = RowSplit()(InMemory(X=X).read(), 0).test_rows
    rare = np.where(np.isin(np.arange(80), held), "rare", np.where(labels, "ill", "well"))
    with pytest.raises(nmfnet.UserError, match="1 of 3 classes have no labelled sample"):
        fit(X, labels=rare, split="rows", seed=0)


def test_command_line(tmp_path):
    X, labels, _ = communities()
    frame = pd.DataFrame(X, [f"s{i}" for i in range(80)])
    frame.to_csv(tmp_path / "x.csv")
    about = pd.DataFrame({"state": np.where(labels, "ill", "well")}, frame.index)
    about.iloc[3:].to_csv(tmp_path / "about.csv")
    done = train(
        "model=supervised_nmf", "data=table", "data.path=x.csv", "data.phenotypes=about.csv",
        "data.orientation=samples_by_features", "data.label_column=state", "model.n_components=4",
        "split=rows", "split.stratify=true", "figures=false", f"run_dir={tmp_path / 'run'}",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["labels/auc"] > 0.9
    assert "lacks 3 of the 80 samples" in " ".join(numbers["notes"])
    top = pd.read_csv(tmp_path / "run" / "top_features.csv")
    assert list(dict.fromkeys(top["component"])) == ["ill 1", "ill 2", "well 1", "well 2"]
