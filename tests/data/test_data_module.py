"""The datamodule: batches, loaders, Lightning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from nmfnet.data import EntrySplit, InMemory, NoSplit, RowSplit, Source, Split
from nmfnet.data.batches import OneBatch, RowBatches, to_device
from nmfnet.data.module import MatrixDataModule
from nmfnet.errors import UserError
from nmfnet.kernels.arrays import as_tensor
from nmfnet.kernels.csr import rows_at
from nmfnet.types import Batch

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
X = np.where(RNG.random((23, 7)) < 0.5, RNG.gamma(1.0, 2.0, (23, 7)), 0.0)
X[:, 0] = 1.0
X[0] = 1.0


def module(source: Source, split: Split | None = None, **options: Any) -> MatrixDataModule:
    options = {"dtype": torch.float64, "seed": 0, "device": CPU, **options}
    data = MatrixDataModule(source, NoSplit() if split is None else split, **options)
    data.setup()
    return data


def dense(tensor: Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.to_dense().numpy()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_batch(sparse: bool, dtype: torch.dtype) -> None:
    data = module(
        InMemory(X=sp.csr_matrix(X) if sparse else X, labels=np.arange(23) % 3), dtype=dtype
    )
    assert data.sizes == (23, 7)
    assert data.train.x.layout == (torch.sparse_csr if sparse else torch.strided)
    assert data.train.x.dtype == dtype
    assert np.allclose(dense(data.train.x), X, rtol=1e-7)
    assert data.train.index.tolist() == list(range(23))
    assert data.train.mask is None
    assert data.train.extra["labels"].tolist() == [i % 3 for i in range(23)]
    assert data.test is None
    assert data.val_dataloader() == []
    loader = data.train_dataloader()
    assert len(loader) == 1
    (batch,) = loader
    assert batch.x is data.train.x
    assert data.fingerprint == data.matrix.fingerprint()


def test_setup_reads_once() -> None:
    class Counting(Source):
        reads = 0

        def read(self) -> Any:
            Counting.reads += 1
            return InMemory(X=X).read()

    data = module(Counting())
    first = data.train
    data.setup("fit")
    data.setup()
    assert Counting.reads == 1
    assert data.train is first


@pytest.mark.parametrize("sparse", [False, True])
def test_row_split_batches(sparse: bool) -> None:
    source = InMemory(X=sp.csr_matrix(X) if sparse else X, labels=np.arange(23))
    data = module(source, RowSplit(test_fraction=0.3), seed=4)
    assert data.test is not None
    assert data.sizes == (16, 7)
    test_rows = np.setdiff1d(np.arange(23), data.train_rows)
    assert np.array_equal(dense(data.train.x), X[data.train_rows])
    assert np.array_equal(dense(data.test.x), X[test_rows])
    assert data.train.index.tolist() == list(range(16))
    assert data.test.index.tolist() == [-1] * 7
    assert data.train.extra["labels"].tolist() == data.train_rows.tolist()
    assert data.sample_names == [f"sample_{i + 1:04d}" for i in data.train_rows]
    assert data.test_sample_names == [f"sample_{i + 1:04d}" for i in test_rows]
    assert len(data.val_dataloader()) == 1


@pytest.mark.parametrize("sparse", [False, True])
def test_entry_split_batches(sparse: bool) -> None:
    observed = X > 0
    if sparse:
        matrix = InMemory(X=sp.csr_matrix(X)).read()
        held_values = sp.csr_matrix(X)

        class Masked(Source):
            def read(self) -> Any:
                from dataclasses import replace

                return replace(matrix, values=held_values, mask=sp.csr_matrix(observed))

        source: Source = Masked()
    else:
        source = InMemory(X=np.where(observed, X, np.nan), missing="mask")
    data = module(source, EntrySplit(fraction=0.2), seed=1)
    assert data.test is not None
    train, test = dense(data.train.mask), dense(data.test.mask)
    assert set(np.unique(train)) <= {0.0, 1.0}
    assert np.array_equal(train + test, observed)
    assert test.sum() == round(0.2 * observed.sum())
    assert np.array_equal(dense(data.train.x), X * train)
    assert np.array_equal(dense(data.test.x), X * test)
    assert torch.equal(data.test.index, data.train.index)
    if sparse:
        assert data.train.mask is not None
        assert torch.equal(data.train.mask.col_indices(), data.train.x.col_indices())


def test_observed_zeros_stay_in_a_sparse_mask() -> None:
    from dataclasses import replace

    pattern = sp.csr_matrix(np.array([[True, True], [True, False]]))
    values = sp.csr_matrix(np.array([[0.0, 2.0], [3.0, 0.0]]))  # (0, 0) was observed to be 0

    class Observed(Source):
        def read(self) -> Any:
            return replace(InMemory(X=values).read(), mask=pattern)

    data = module(Observed())
    assert data.train.x.values().tolist() == [0.0, 2.0, 3.0]
    assert dense(data.train.mask).tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("size", [1, 4, 22])
def test_slices_cover_every_row_once(sparse: bool, size: int) -> None:
    source = InMemory(X=sp.csr_matrix(X) if sparse else X, labels=np.arange(23))
    loader = module(source, batch_size=size).train_dataloader()
    assert isinstance(loader, RowBatches)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-23 // size)
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == list(range(23))
    for batch in batches:
        assert np.array_equal(dense(batch.x), X[batch.index.numpy()])
        assert torch.equal(batch.extra["labels"], batch.index)


def test_slices_carry_the_mask() -> None:
    holes = np.where(X > 0, X, np.nan)
    loader = module(InMemory(X=holes, missing="mask"), batch_size=5).train_dataloader()
    for batch in loader:
        assert np.array_equal(dense(batch.mask), (X > 0)[batch.index.numpy()])


def test_order_depends_on_seed_and_epoch_only() -> None:
    def order(loader: Any) -> list[int]:
        return [i for batch in loader for i in batch.index.tolist()]

    source = InMemory(X=X)
    first = module(source, batch_size=5).train_dataloader()
    again = module(source, batch_size=5).train_dataloader()
    other = module(source, batch_size=5, seed=1).train_dataloader()
    assert isinstance(first, RowBatches)
    assert isinstance(again, RowBatches)
    passes = [order(first) for _ in range(3)]
    assert len({tuple(p) for p in passes}) == 3
    assert order(other) != passes[0]
    again.set_epoch(2)
    assert order(again) == passes[2]


def test_batch_size_is_checked_and_capped() -> None:
    assert isinstance(module(InMemory(X=X), batch_size=23).train_dataloader(), OneBatch)
    with pytest.raises(UserError, match=r"batch_size=0 must be at least 1"):
        module(InMemory(X=X), batch_size=0)


@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_take_rows_of_csr_equals_scipy(index_type: type) -> None:
    matrix = sp.random(50, 30, 0.1, format="csr", random_state=1)
    matrix.indices, matrix.indptr = (
        matrix.indices.astype(index_type),
        matrix.indptr.astype(index_type),
    )
    tensor = as_tensor(matrix, torch.float64, CPU)
    for rows in ([], [7], [3, 3, 49, 0], list(range(50))[::-1]):
        taken = rows_at(tensor, torch.tensor(rows, dtype=torch.int64))
        assert taken.layout == torch.sparse_csr
        assert np.array_equal(dense(taken), matrix[rows].toarray())


@pytest.mark.filterwarnings("ignore:Sparse")
def test_tensors_of_unusual_arrays() -> None:
    wanted = torch.tensor(X[:3])
    for array in (X.astype(">f8"), X.astype(np.longdouble), np.asfortranarray(X)):
        assert torch.equal(as_tensor(array[:3], torch.float64), wanted)
    whole = torch.tensor([[2, 0], [0, 3]])
    big = np.array([[2, 0], [0, 3]], dtype=">i4")
    assert torch.equal(as_tensor(big, torch.int64), whole)
    for sparse in (whole.to_sparse_csc(), whole.to_sparse_coo(), whole.to_sparse_bsr((1, 1))):
        tensor = as_tensor(sparse, torch.float64)
        assert tensor.layout == torch.sparse_csr
        assert torch.equal(tensor.to_dense(), whole.double())
    hidden = np.ma.array(X, mask=X == 1.0)
    with pytest.raises(UserError, match=rf"hides {int((X == 1).sum())} entries"):
        as_tensor(hidden, torch.float64)
    assert torch.equal(as_tensor(np.ma.array(X[:3]), torch.float64), wanted)


def test_sparse_tensor_shares_memory() -> None:
    matrix = sp.random(50, 30, 0.1, format="csr", random_state=1)
    tensor = as_tensor(matrix, torch.float64, CPU)
    assert tensor.values().data_ptr() == matrix.data.ctypes.data


@pytest.mark.parametrize("sparse", [False, True])
def test_single_precision_stays_where_it_is(sparse: bool) -> None:
    mine = np.arange(28.0, dtype=np.float32).reshape(4, 7)
    held = sp.csr_matrix(mine) if sparse else mine
    data = module(InMemory(X=held), dtype=torch.float32)
    values = data.train.x.values() if sparse else data.train.x
    assert np.shares_memory(values.numpy(), held.data if sparse else held)
    for other in (held.astype(np.float64), held.astype(np.uint8)):
        assert module(InMemory(X=other)).fingerprint == data.fingerprint
    assert module(InMemory(X=held.astype(np.uint8))).matrix.values.dtype == np.float32


def test_read_only_arrays_need_no_warning() -> None:
    fixed = X.copy()
    fixed.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module(InMemory(X=fixed))


def test_transfer_copies_nothing_in_place() -> None:
    data = module(InMemory(X=X, labels=np.arange(23)))
    moved = data.transfer_batch_to_device(data.train, CPU, 0)
    assert isinstance(moved, Batch)
    assert isinstance(moved.extra, Mapping)
    assert moved.x is data.train.x
    meta = to_device(data.train, torch.device("meta"))
    assert meta.x.is_meta
    assert meta.extra["labels"].is_meta


class Recorder(L.LightningModule):
    """Adds up what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.seen: list[list[int]] = []
        self.validated = 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert isinstance(batch, Batch)
        self.seen.append(batch.index.tolist())
        return (batch.x.sum() * self.scale) ** 2

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validated += len(batch.index)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("split", [NoSplit(), RowSplit()])
@pytest.mark.parametrize("batch_size", [None, 6])
def test_lightning_fit(tmp_path: Path, sparse: bool, split: Split, batch_size: int | None) -> None:
    source = InMemory(X=sp.csr_matrix(X) if sparse else X, labels=np.arange(23))
    data = module(source, split, batch_size=batch_size)
    trainer = L.Trainer(
        max_epochs=2,
        limit_val_batches=0 if data.test is None else None,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    model = Recorder()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(isinstance.treespec|LeafSpec).*")
        trainer.fit(model, datamodule=data)
    n = data.sizes.n_samples
    steps = 1 if batch_size is None else -(-n // 6)
    assert len(model.seen) == 2 * steps
    epochs = [
        [i for seen in part for i in seen] for part in (model.seen[:steps], model.seen[steps:])
    ]
    assert [sorted(epoch) for epoch in epochs] == [list(range(n))] * 2
    assert (epochs[0] == epochs[1]) == (batch_size is None)
    assert (model.validated > 0) == isinstance(split, RowSplit)


def test_features_that_are_observed_in_held_out_rows_alone_are_told() -> None:
    X = np.random.default_rng(0).random((10, 3))
    data = module(InMemory(X=X), RowSplit())
    mask = np.ones(X.shape, dtype=bool)
    mask[data.train_rows, 1] = False
    told = module(InMemory(X=X, mask=mask), RowSplit())
    assert not data.notes
    assert told.notes == [
        "1 of 3 features are observed in held-out samples alone, so nothing is learned of them "
        "(first: feature_0002)."
    ]
