"""Checks, notes and fingerprint of a matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from nmfnet.data.matrix import Matrix
from nmfnet.errors import UserError
from nmfnet.kernels.arrays import checksum


def make(values: object = None, **fields: object) -> Matrix:
    values = np.arange(1.0, 13.0).reshape(4, 3) if values is None else values
    n, f = values.shape  # type: ignore[attr-defined]
    names = {
        "sample_names": [f"s{i}" for i in range(n)],
        "feature_names": [f"f{j}" for j in range(f)],
    }
    return Matrix(values, **{**names, **fields})  # type: ignore[arg-type]


def test_good_matrix_passes_and_needs_no_note() -> None:
    matrix = make()
    matrix.check()
    assert matrix.notes() == []


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")]
)
def test_nan_and_inf_are_refused_with_count_and_place(sparse: bool, bad: float, word: str) -> None:
    values = np.arange(1.0, 13.0).reshape(4, 3)
    values[2, 1] = values[3, 0] = bad
    matrix = make(sp.csr_matrix(values) if sparse else values)
    with pytest.raises(UserError, match=rf"2 of 12 values are {word}.*'s2'.*'f1'"):
        matrix.check()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sample_names": ["a", "b", "a", "a"]}, r"2 sample names.*'a' \(3 times\)"),
        ({"feature_names": ["x", "y", "y"]}, r"1 feature names.*'y' \(2 times\)"),
        ({"feature_names": ["", "y", ""]}, "the empty name"),
        ({"feature_names": ["x", " ", "y"]}, "feature number 2 of 3 has an empty name"),
        ({"sample_names": ["a"]}, "1 sample names for 4 samples"),
        ({"labels": np.zeros(3, dtype=np.int64)}, "3 labels for 4 samples"),
        ({"mask": np.ones((3, 4), dtype=bool)}, "mask is 3 x 4 but the data are 4 x 3"),
        ({"kind": "picture"}, "kind='picture'.*generic, image, sbs96, sound, text"),
        ({"kind": "image", "image_shape": (2, 2)}, "2x2 means 4 features, but the data have 3"),
    ],
)
def test_wrong_names_and_shapes_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**fields).check()


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_empty_matrix_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=rf"empty: {shape[0]} samples x {shape[1]} features"):
        make(np.zeros(shape)).check()


@pytest.mark.parametrize("axis", [0, 1])
def test_unobserved_line_is_refused(axis: int) -> None:
    mask = np.ones((4, 3), dtype=bool)
    mask[(slice(None), 1) if axis == 0 else (1, slice(None))] = False
    with pytest.raises(
        UserError, match=r"1 of . (samples|features) have no observed value.*'[sf]1'"
    ):
        make(mask=mask).check()


@pytest.mark.parametrize("sparse", [False, True])
def test_zero_and_constant_lines_are_noted(sparse: bool) -> None:
    values = np.array([[0.0, 7.0, 0.0], [0.0, 7.0, 1.0], [0.0, 7.0, 2.0], [0.0, 7.0, 3.0]])
    matrix = make(sp.csr_matrix(values) if sparse else values)
    matrix.check()
    assert matrix.notes() == [
        "1 of 3 features are zero in every sample (first: f0).",
        "1 of 3 features have one value in all samples (first: f1).",
    ]
    zero_row = make(np.array([[0.0, 0.0], [1.0, 2.0]]))
    assert zero_row.notes() == ["1 of 2 samples are zero in every feature (first: s0)."]


def test_fingerprint_changes_with_content_only() -> None:
    base = make()
    assert base.fingerprint() == make().fingerprint()
    assert base.fingerprint() == make(np.asfortranarray(base.values)).fingerprint()
    changed = base.values.copy()
    changed[3, 2] = np.nextafter(12.0, 13.0)
    others = [
        replace(base, values=changed),
        replace(base, sample_names=["s0", "s1", "s2", "t3"]),
        replace(base, sample_names=["s0s1", "", "s2", "s3"]),
        replace(base, feature_names=["f0", "f1", "g2"]),
        replace(base, mask=np.ones((4, 3), dtype=bool)),
        replace(base, labels=np.zeros(4, dtype=np.int64)),
        make(base.values.reshape(3, 4)),
    ]
    prints = {matrix.fingerprint() for matrix in [base, *others]}
    assert len(prints) == len(others) + 1


def test_fingerprint_of_sparse_ignores_storage_order() -> None:
    values = sp.random(6, 5, 0.9, format="csr", random_state=0)
    shuffled = sp.csr_matrix(sp.coo_matrix(values).tocsc().tocsr())
    shuffled.indices[:2] = shuffled.indices[:2][::-1]
    shuffled.data[:2] = shuffled.data[:2][::-1]
    shuffled.has_sorted_indices = shuffled.has_canonical_format = False
    assert (shuffled != values).nnz == 0
    before = shuffled.indices.copy()
    assert make(shuffled).fingerprint() == make(values).fingerprint()
    assert np.array_equal(shuffled.indices, before)


def test_what_is_compared_with_a_sparse_matrix_leaves_it_as_it_is() -> None:
    given = sp.csr_matrix(np.arange(6.0).reshape(2, 3))[:, [2, 0, 1]]
    before = given.indices.copy()
    matrix = Matrix(given, ["a", "b"], ["w", "u", "v"])
    stored = checksum(matrix.values)
    matrix.notes()
    assert checksum(matrix.values) == stored
    np.testing.assert_array_equal(given.indices, before)
    np.testing.assert_array_equal(matrix.values.toarray(), [[2, 0, 1], [5, 3, 4]])
