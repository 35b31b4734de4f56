"""Properties of the splits."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from nmfnet.data import EntrySplit, Matrix, NoSplit, PredefinedSplit, RowSplit
from nmfnet.data.formats.raw import numbered
from nmfnet.errors import UserError


def matrix(n: int, f: int = 3, **fields: object) -> Matrix:
    values = fields.pop("values", np.ones((n, f)))
    return Matrix(values, numbered("s", n), numbered("f", f), **fields)  # type: ignore[arg-type]


def test_no_split_trains_on_everything() -> None:
    partition = NoSplit()(matrix(5), 0)
    assert partition.train_rows.tolist() == [0, 1, 2, 3, 4]
    assert partition.test_rows.size == 0
    assert partition.held_out is None


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 10**6))
def test_row_split_covers_and_is_disjoint(n: int, fraction: float, seed: int) -> None:
    partition = RowSplit(test_fraction=fraction)(matrix(n), seed)
    together = np.concatenate([partition.train_rows, partition.test_rows])
    assert sorted(together.tolist()) == list(range(n))
    assert partition.test_rows.size == min(max(round(fraction * n), 1), n - 1)
    again = RowSplit(test_fraction=fraction)(matrix(n), seed)
    assert np.array_equal(again.test_rows, partition.test_rows)


def test_row_split_follows_the_seed() -> None:
    splits = {tuple(RowSplit()(matrix(50), seed).test_rows) for seed in range(5)}
    assert len(splits) == 5


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=2, max_size=6),
    fraction=st.floats(0.1, 0.6),
    seed=st.integers(0, 10**6),
)
def test_stratified_rows_keep_the_shares(sizes: list[int], fraction: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    data = matrix(labels.size, labels=labels.astype(np.int64))
    if max(sizes) == 1:
        with pytest.raises(UserError, match=r"single sample"):
            RowSplit(test_fraction=fraction, stratify=True)(data, seed)
        return
    partition = RowSplit(test_fraction=fraction, stratify=True)(data, seed)
    together = np.concatenate([partition.train_rows, partition.test_rows])
    assert sorted(together.tolist()) == list(range(labels.size))
    taken = np.bincount(labels[partition.test_rows], minlength=len(sizes))
    exact = min(max(round(fraction * labels.size), 1), labels.size - 1) / labels.size
    for share, size in zip(taken, sizes, strict=True):
        assert share <= size - 1
        assert share <= np.ceil(exact * size) + (1 in sizes) * len(sizes)
        assert share >= min(np.floor(exact * size), size - 1)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(3, 12),
    f=st.integers(3, 12),
    fraction=st.floats(0.05, 0.95),
    density=st.floats(0.2, 1.0),
    sparse=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_entry_split_never_empties_a_line(
    n: int, f: int, fraction: float, density: float, sparse: bool, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((n, f)) < density
    mask[:2] = mask[:, :2] = True  # a cross of two lines: something can always be held out
    values = np.where(mask, 1.0, 0.0)
    kept = (sp.csr_matrix(values), sp.csr_matrix(mask)) if sparse else (values, mask)
    data = matrix(n, f, values=kept[0], mask=kept[1])
    partition = EntrySplit(fraction=fraction)(data, seed)
    held = partition.held_out.toarray() if sparse else partition.held_out
    assert held.dtype == bool
    assert not (held & ~mask).any()
    left = mask & ~held
    assert left.any(0).all()
    assert left.any(1).all()
    wanted = max(round(fraction * mask.sum()), 1)
    assert 1 <= held.sum() <= wanted
    if fraction < 0.1 and density == 1.0 and n > 3 and f > 3:
        assert held.sum() == wanted
    assert partition.train_rows.tolist() == list(range(n))
    assert partition.test_rows.size == 0


def test_entry_split_takes_the_stated_share() -> None:
    partition = EntrySplit(fraction=0.1)(matrix(100, 50), 1)
    assert partition.held_out.sum() == 500
    assert partition.held_out.sum(0).std() < 4  # spread over the columns


def test_dense_and_sparse_masks_give_the_same_entries() -> None:
    mask = np.random.default_rng(0).random((30, 20)) < 0.7
    dense = EntrySplit()(matrix(30, 20, values=mask * 1.0, mask=mask), 5)
    sparse = matrix(30, 20, values=sp.csr_matrix(mask * 1.0), mask=sp.csr_matrix(mask))
    assert np.array_equal(EntrySplit()(sparse, 5).held_out.toarray(), dense.held_out)


def test_predefined_split() -> None:
    partition = PredefinedSplit()(matrix(5, predefined_test=np.array([4, 1])), 0)
    assert partition.test_rows.tolist() == [1, 4]
    assert partition.train_rows.tolist() == [0, 2, 3]
    with pytest.raises(UserError, match=r"no published test part"):
        PredefinedSplit()(matrix(5), 0)


def test_splits_refuse() -> None:
    for fraction in (0.0, 1.0, -0.1, 2.0):
        with pytest.raises(UserError, match=r"split.test_fraction=.*between 0 and 1"):
            RowSplit(test_fraction=fraction)(matrix(5), 0)
        with pytest.raises(UserError, match=r"split.fraction=.*between 0 and 1"):
            EntrySplit(fraction=fraction)(matrix(5), 0)
    with pytest.raises(UserError, match=r"at least 2 samples"):
        RowSplit()(matrix(1), 0)
    with pytest.raises(UserError, match=r"split.stratify=true needs labels"):
        RowSplit(stratify=True)(matrix(5), 0)
    with pytest.raises(UserError, match=r"every zero counts as observed"):
        EntrySplit()(matrix(2, 2, values=sp.csr_matrix(np.eye(2))), 0)
    with pytest.raises(UserError, match=r"none of the 2 observed entries"):
        EntrySplit()(matrix(2, 2, mask=np.eye(2, dtype=bool)), 0)
