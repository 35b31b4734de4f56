"""Nested classes: the synthetic blocks, the newsgroups' topics, and labels hidden from training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nmfnet.data import HierarchicalBlocks, InMemory, LabelSplit, Matrix, NoSplit
from nmfnet.data.formats.raw import numbered
from nmfnet.data.module import MatrixDataModule
from nmfnet.data.sources.registry import source
from nmfnet.errors import UserError


def test_blocks_are_those_of_the_published_matrix() -> None:
    matrix = HierarchicalBlocks().read()
    matrix.check()
    assert matrix.shape == (90, 87)
    assert matrix.truth is not None
    noise = matrix.values - matrix.truth.W @ matrix.truth.H
    assert noise.min() >= 0
    assert 0.14 < noise.max() <= 0.15
    assert np.linalg.norm(matrix.values) == pytest.approx(145.74, abs=0.2)
    assert np.linalg.matrix_rank(matrix.truth.W @ matrix.truth.H) == 9
    four = matrix.hierarchy["four"]
    assert np.flatnonzero(np.diff(four)).tolist() == [19, 31, 56]
    assert np.flatnonzero(np.diff(matrix.hierarchy["two"])).tolist() == [31]


@pytest.mark.parametrize(("labels", "classes"), [("nine", 9), ("four", 4), ("two", 2)])
def test_levels_nest_and_any_can_be_the_labels(labels: str, classes: int) -> None:
    matrix = source("hierarchical_blocks", labels=labels).read()
    assert len(matrix.label_names or []) == classes
    assert matrix.labels is not None
    assert np.array_equal(np.unique(matrix.labels), np.arange(classes))
    fine, *coarser = matrix.hierarchy.values()
    for level in coarser:
        assert all(np.unique(level[fine == i]).size == 1 for i in range(9))


def test_blocks_follow_their_seed() -> None:
    first, again, other = (HierarchicalBlocks(seed=s).read().fingerprint() for s in (0, 0, 1))
    assert first == again != other
    with pytest.raises(UserError, match=r"data\.noise=-1"):
        HierarchicalBlocks(noise=-1.0).read()


def test_hidden_labels_keep_every_class_and_are_not_in_the_batch() -> None:
    matrix = HierarchicalBlocks().read()
    partition = LabelSplit(hidden=0.6)(matrix, 3)
    hidden = partition.hidden_labels
    assert hidden.size == 54
    assert partition.train_rows.size == 90
    assert matrix.labels is not None
    assert np.unique(np.delete(matrix.labels, hidden)).size == 9
    assert np.array_equal(LabelSplit(hidden=0.6)(matrix, 3).hidden_labels, hidden)
    module = MatrixDataModule(
        HierarchicalBlocks(),
        LabelSplit(hidden=0.6),
        dtype=torch.float64,
        seed=3,
        device=torch.device("cpu"),
    )
    module.setup()
    seen = module.train.extra["labels"].numpy()
    assert np.array_equal(np.flatnonzero(seen < 0), hidden)
    assert module.axes["class"] == 9
    assert np.array_equal(module.matrix.labels, matrix.labels)


def test_labels_that_cannot_be_hidden_are_refused() -> None:
    plain = Matrix(np.ones((3, 2)), numbered("s", 3), numbered("f", 2))
    with pytest.raises(UserError, match="needs labels"):
        LabelSplit()(plain, 0)
    single = InMemory(X=np.ones((3, 2)), labels=["a", "b", "c"]).read()
    with pytest.raises(UserError, match="single label"):
        LabelSplit()(single, 0)
    with pytest.raises(UserError, match="between 0 and 1"):
        LabelSplit(hidden=1.0)(single, 0)
    assert NoSplit()(single, 0).hidden_labels.size == 0


def test_labels_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(UserError, match="2 labels for 3 samples"):
        InMemory(X=np.ones((3, 2)), labels=["a", "b"]).read().check()


@pytest.mark.catalogue
def test_twenty_groups_and_six_topics() -> None:
    sub, topics = (source("20news-bow", labels=name).read() for name in ("sub", "super"))
    assert len(sub.label_names or []) == 20
    assert topics.label_names == ["comp", "misc", "rec", "sci", "politics", "religion"]
    assert topics.labels is not None
    assert sub.labels is not None
    assert all(np.unique(topics.labels[sub.labels == i]).size == 1 for i in range(20))
    small = source("20news-neuralnmf").read()
    assert [level.max() + 1 for level in small.hierarchy.values()] == [10, 6]
