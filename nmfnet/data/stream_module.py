"""The datamodule of a matrix that stays on disk, and its shuffled minibatches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from nmfnet.data.module import LossCheck, MatrixDataModule
from nmfnet.data.splits import EntrySplit
from nmfnet.data.stored import Numbered, Stored
from nmfnet.data.stream import StoredMatrix
from nmfnet.errors import UserError
from nmfnet.types import Batch, Sizes

__all__ = ["StoredBatches", "StreamDataModule"]

BATCH_BYTES = 4_000_000
"""Size of a minibatch where none is asked for."""

SAMPLE_ROWS, SAMPLE_BYTES = 2000, 16_000_000
"""Most rows that a model is started from, and shown in pictures."""


@final
class StoredBatches:
    """Loader that yields minibatches of a `Stored`; every row once per epoch.

    Blocks of rows are read in a random order, a pool of several at a time, and the rows of a pool
    are shuffled. The order is a function of (seed, epoch) alone; Lightning sets the epoch through
    ``sampler``.

    Parameters
    ----------
    stored : Stored
        The training rows.
    batch_size : int
        The last batch of an epoch may be smaller.
    seed : int
    dtype : torch.dtype
    device : torch.device
    pool : int, >= 1
        Blocks in memory at the same time.
    """

    def __init__(
        self,
        stored: Stored,
        batch_size: int,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
        pool: int = 4,
    ) -> None:
        self.stored, self.batch_size, self.seed = stored, batch_size, seed
        self.dtype, self.device, self.pool = dtype, device, pool
        self.blocks = stored.blocks()
        self.epoch = 0
        self._yielded = 0
        self._skip = 0

    @property
    def sampler(self) -> StoredBatches:
        """What Lightning calls ``set_epoch`` on."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """How far a pass has come; Lightning puts it into checkpoints."""
        return {"yielded": self._yielded % len(self)}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Leave out the batches that were yielded before, in the next pass."""
        self._skip = state_dict["yielded"]

    def __len__(self) -> int:
        return -(-len(self.stored) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        self._yielded, self._skip = self._skip, 0
        left_x: Tensor | None = None
        left_index = np.empty(0, dtype=np.int64)
        for x, index in self._pools(rng, self._yielded * self.batch_size):
            start = 0
            while start < index.size:
                stop = min(start + self.batch_size - left_index.size, index.size)
                part = x[start:stop] if left_x is None else torch.cat([left_x, x[start:stop]])
                left_index = np.concatenate([left_index, index[start:stop]])
                left_x, start = part, stop
                if left_index.size == self.batch_size:
                    yield self._batch(left_x, left_index)
                    left_x, left_index = None, left_index[:0]
        if left_x is not None:
            yield self._batch(left_x, left_index)

    def _batch(self, x: Tensor, index: np.ndarray) -> Batch:
        self._yielded += 1
        return Batch(x.to(self.device), torch.from_numpy(index).to(self.device))

    def _pools(self, rng: np.random.Generator, skip: int) -> Iterator[tuple[Tensor, np.ndarray]]:
        """Shuffled rows of several blocks and their numbers; the first ``skip`` rows left out."""
        order = rng.permutation(len(self.blocks))
        for at in range(0, order.size, self.pool):
            blocks = [self.blocks[i] for i in order[at : at + self.pool].tolist()]
            index = np.concatenate([np.arange(b.start, b.stop) for b in blocks])
            mixed = rng.permutation(index.size)
            if skip >= index.size:  # not even read
                skip -= index.size
                continue
            x = torch.empty(index.size, self.stored.shape[1], dtype=self.dtype)
            place = np.empty_like(mixed)
            place[mixed] = np.arange(mixed.size)
            start = 0
            for block in blocks:
                values = as_tensor(self.stored[block], self.dtype)
                stop = start + values.shape[0]
                x[torch.from_numpy(place[start:stop])] = values
                start = stop
            yield x[skip:], index[mixed][skip:]
            skip = 0


@final
class StreamDataModule(MatrixDataModule):
    """Batches of a matrix that stays on disk; parameters as for `MatrixDataModule`.

    ``train.x`` and ``test.x`` have a shape, but no numbers (device ``meta``): what needs them
    walks over ``blocks``.
    """

    streamed = True
    matrix: StoredMatrix

    def setup(self, stage: str | None = None) -> None:
        if self._ready:
            return
        if isinstance(self.split, EntrySplit):
            raise UserError(
                "split=entries would need a mask as large as the data, and data=stream keeps no "
                "such thing in memory: use split=rows"
            )
        matrix = self.source.read()
        assert isinstance(matrix, StoredMatrix)
        n, f = matrix.shape
        if self.batch_size is None:
            self.batch_size = min(n, max(1, BATCH_BYTES // (f * self.dtype.itemsize)))
        if self.batch_size < 1:
            raise UserError(f"batch_size={self.batch_size} must be at least 1, or null.")
        matrix.check()
        self.matrix, self.partition = matrix, self.split(matrix, self.seed)
        self.train_rows, test_rows = self.partition.train_rows, self.partition.test_rows
        self.sample_names = Numbered(self.train_rows)  # type: ignore[assignment]
        self.test_sample_names = Numbered(test_rows)  # type: ignore[assignment]
        self.feature_names = matrix.feature_names
        self.sizes = Sizes(self.train_rows.size, f)
        self.fingerprint, self.notes = matrix.fingerprint(), matrix.notes()
        self._stored = {
            "train": matrix.values.subset(self.train_rows),
            "test": matrix.values.subset(test_rows),
        }
        index = torch.arange(self.train_rows.size, device=self.device)
        self.train = Batch(self._shape_of("train"), index)
        unknown = torch.full((test_rows.size,), -1, device=self.device)
        self.test = Batch(self._shape_of("test"), unknown) if test_rows.size else None
        self._ready = True

    def _shape_of(self, part: str) -> Tensor:
        return torch.empty(self._stored[part].shape, dtype=self.dtype, device="meta")

    def train_dataloader(self) -> StoredBatches:  # type: ignore[override]
        """Shuffled minibatches, read from disk."""
        assert self.batch_size is not None
        return StoredBatches(
            self._stored["train"], self.batch_size, self.seed, self.dtype, self.device
        )

    def val_dataloader(self) -> list[Any]:
        return [] if self.test is None else [list(self.blocks("test"))]

    def blocks(self, part: Literal["train", "test"]) -> Iterator[Batch]:
        whole = self.train if part == "train" else self.test
        if whole is None:
            return
        stored = self._stored[part]
        for rows in stored.blocks():
            x = as_tensor(stored[rows], self.dtype).to(self.device)
            yield Batch(x, whole.index[rows])

    def values(self, part: Literal["train", "test"]) -> Stored:
        return self._stored[part]

    def rows_shown(self) -> np.ndarray:
        n, f = self.sizes
        most = min(n, SAMPLE_ROWS, max(1, SAMPLE_BYTES // (8 * f)))
        return np.arange(most) * n // most

    @property
    def sample(self) -> Batch:
        """Some training rows, evenly spaced."""
        rows, stored = self.rows_shown(), self._stored["train"]
        x = np.concatenate([stored[slice(i, i + 1)] for i in rows.tolist()])
        return Batch(
            as_tensor(x, self.dtype).to(self.device), self.train.index[torch.from_numpy(rows)]
        )

    def check(self, loss_check: LossCheck) -> None:
        """Of the row with the smallest entry: if any is outside the domain of the loss, it is."""
        scan = self.matrix.scan
        name = f"row_{scan.lowest_row}"
        loss_check(scan.lowest, [name], self.feature_names, f"{name} of X", None)


def as_tensor(values: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Rows as read from disk as a tensor; of any number type and byte order."""
    kind = np.float64 if dtype == torch.float64 else np.float32
    return torch.from_numpy(np.asarray(values, dtype=kind)).to(dtype)
