"""The datamodule of a matrix that stays on disk, and its shuffled minibatches."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from nmfnet.data.batches import Minibatches
from nmfnet.data.module import LossCheck, MatrixDataModule, check_levels
from nmfnet.data.splits import CompletionSplit, EntrySplit
from nmfnet.data.stream.source import StoredMatrix
from nmfnet.data.stream.stored import Numbered, Stored
from nmfnet.errors import UserError
from nmfnet.kernels.arrays import size
from nmfnet.types import NO_EXTRA, Batch, Sizes

__all__ = ["StoredBatches", "StreamDataModule"]

M_MMAP_THRESHOLD = -3
"""Number of that setting in glibc's malloc.h."""

BATCH_BYTES = 4_000_000
"""Size of a minibatch where none is asked for."""

LARGE = 1_000_000
"""Bytes from which an array gets pages of its own, returned to the system when it is freed."""

SAMPLE_ROWS, SAMPLE_BYTES = 2000, 16_000_000
"""Most rows that a model is started from, and shown in pictures."""


@final
class StoredBatches(Minibatches):
    """Minibatches of a `Stored`.

    Blocks of rows are read in a random order, a pool of several at a time, and the rows of a pool
    are shuffled. Memory: one pool, one block and the batches that are in use.

    Parameters
    ----------
    stored : Stored
        The training rows.
    batch_size, seed : int
        As for `Minibatches`.
    dtype : torch.dtype
    device : torch.device
    pool : int, >= 1
        Blocks in memory at the same time.
    unit : float, > 0
        Batches hold the rows divided by it.
    extra : mapping of str to Tensor
        What is in memory of all rows, and belongs to their batches.
    """

    def __init__(
        self,
        stored: Stored,
        batch_size: int,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
        pool: int = 8,
        unit: float = 1.0,
        extra: Mapping[str, Tensor] = NO_EXTRA,
    ) -> None:
        super().__init__(len(stored), batch_size, seed)
        self.stored, self.dtype, self.device, self.pool = stored, dtype, device, pool
        self.unit, self.extra = unit, extra
        self.blocks = stored.blocks()

    def batches(self, entropy: list[int], first: int) -> Iterator[Batch]:
        left = self.n_rows - first * self.batch_size
        x, numbers = self._empty(min(self.batch_size, left))
        filled = 0
        for rows, index in self._pools(np.random.default_rng(entropy), first * self.batch_size):
            start = 0
            while start < index.size:
                stop = min(start + numbers.size - filled, index.size)
                new = slice(filled, filled + stop - start)
                x[new], numbers[new] = rows[start:stop], index[start:stop]
                start, filled = stop, new.stop
                if filled == numbers.size:
                    at = torch.from_numpy(numbers).to(self.device)
                    extra = {name: held[at] for name, held in self.extra.items()}
                    yield Batch(x.to(self.device), at, extra=extra)
                    left -= filled
                    x, numbers = self._empty(min(self.batch_size, left))
                    filled = 0

    def _empty(self, n: int) -> tuple[Tensor, np.ndarray]:
        x = torch.empty(n, self.stored.shape[1], dtype=self.dtype)
        return x, np.empty(n, dtype=np.int64)

    def _pools(self, rng: np.random.Generator, skip: int) -> Iterator[tuple[Tensor, np.ndarray]]:
        """Shuffled rows of several blocks and their numbers; the first ``skip`` rows left out.

        All pools are written over the same memory.
        """
        sizes = sorted(block.stop - block.start for block in self.blocks)
        pool, _ = self._empty(sum(sizes[-self.pool :]))
        order = rng.permutation(len(self.blocks))
        for at in range(0, order.size, self.pool):
            blocks = [self.blocks[i] for i in order[at : at + self.pool].tolist()]
            index = np.concatenate([np.arange(b.start, b.stop) for b in blocks])
            mixed = rng.permutation(index.size)
            if skip >= index.size:  # not even read
                skip -= index.size
                continue
            place = torch.from_numpy(np.argsort(mixed))
            for block, to in zip(
                blocks, place.split([b.stop - b.start for b in blocks]), strict=True
            ):
                pool[to] = as_tensor(self.stored[block], self.dtype, self.unit)
            yield pool[skip : index.size], index[mixed][skip:]
            skip = 0


@final
class Blocks:
    """A loader that reads one block after the other, anew in every pass."""

    def __init__(self, blocks: Callable[[], Iterator[Batch]]) -> None:
        self.blocks = blocks

    def __iter__(self) -> Iterator[Batch]:
        return self.blocks()


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
        if self.known is not None and self.known.reference is not None:
            raise UserError(
                "model.reference needs the data in memory, and data=stream leaves them on disk: use "
                "data=table"
            )
        if isinstance(self.split, EntrySplit):
            raise UserError(
                "split=entries would need a mask as large as the data, and data=stream keeps no "
                "such thing in memory: use split=rows"
            )
        if isinstance(self.split, CompletionSplit):
            raise UserError(
                "split=completion halves documents in memory, and data=stream leaves them on disk: use "
                "split=rows"
            )
        return_large_arrays_at_once()
        matrix = self.source.read()
        assert isinstance(matrix, StoredMatrix)
        n, f = matrix.shape
        if self.batch_size is None:
            self.batch_size = min(n, max(1, BATCH_BYTES // (f * self.dtype.itemsize)))
        if self.batch_size < 1:
            raise UserError(f"batch_size={self.batch_size} must be at least 1, or null.")
        matrix.check()
        self.matrix, self.partition = matrix, self.split(matrix, self.seed)
        check_levels(matrix, self.partition)
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
        self.train = Batch(self._shape_of("train"), index, extra=self._extra(self.train_rows))
        unknown = torch.full((test_rows.size,), -1, device=self.device)
        test = Batch(self._shape_of("test"), unknown, extra=self._extra(test_rows))
        self.test = test if test_rows.size else None
        self._ready = True

    def _extra(self, rows: np.ndarray) -> dict[str, Tensor]:
        return {
            name: torch.as_tensor(held[rows], dtype=self.dtype, device=self.device)
            for name, held in self.matrix.extra.items()
        }

    def _shape_of(self, part: str) -> Tensor:
        return torch.empty(self._stored[part].shape, dtype=self.dtype, device="meta")

    def train_dataloader(self) -> StoredBatches:  # type: ignore[override]
        """Shuffled minibatches, read from disk."""
        assert self.batch_size is not None
        return StoredBatches(
            *(self._stored["train"], self.batch_size, self.seed, self.dtype, self.device),
            unit=self.unit,
            extra=self.train.extra,
        )

    def val_dataloader(self) -> list[Any]:
        return [] if self.test is None else [Blocks(lambda: self.blocks("test"))]

    def blocks(self, part: Literal["train", "test"]) -> Iterator[Batch]:
        if part == "test" and self.test is None:
            return
        for rows in self._stored[part].blocks():
            yield self.rows_of(part, rows)

    def rows_of(self, part: Literal["train", "test"], rows: slice) -> Batch:
        whole = self.train if part == "train" else self.test
        assert whole is not None
        x = as_tensor(self._stored[part][rows], self.dtype, self.unit).to(self.device)
        extra = {name: held[rows] for name, held in whole.extra.items()}
        return Batch(x, whole.index[rows], extra=extra)

    def values(self, part: Literal["train", "test"]) -> Stored:
        return self._stored[part]

    def rows_shown(self) -> np.ndarray:
        n, f = self.sizes
        most = min(n, SAMPLE_ROWS, max(1, SAMPLE_BYTES // (8 * f)))
        return np.arange(most) * n // most

    @property
    def sample(self) -> Batch:
        """Some training rows, evenly spaced."""
        x = as_tensor(self.sampled(), self.dtype, self.unit).to(self.device)
        at = torch.from_numpy(self.rows_shown()).to(self.device)
        extra = {name: held[at] for name, held in self.train.extra.items()}
        return Batch(x, self.train.index[at], extra=extra)

    def sampled(self) -> np.ndarray:
        stored = self._stored["train"]
        return np.concatenate([stored[slice(i, i + 1)] for i in self.rows_shown().tolist()])

    @property
    def magnitude(self) -> float:
        """Mean size of the entries of the sample that are not 0."""
        return size(self.sampled())

    @property
    def unchanged(self) -> bool:
        return True

    def rescale(self, unit: float) -> None:
        self.unit = unit

    def check(self, loss_check: LossCheck) -> None:
        """Of the row with the smallest entry: if any is outside the domain of the loss, it is."""
        scan = self.matrix.scan
        name = f"row_{scan.lowest_row}"
        loss_check("x")(scan.lowest, [name], self.feature_names, f"{name} of X", None)


def return_large_arrays_at_once() -> None:
    """Tell glibc, where it is the allocator, to give every array above LARGE its own pages.

    By default it soon keeps arrays of the size of a minibatch in its heap, where small objects
    made between them leave holes that no later batch fits: the process grows with every batch.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


def as_tensor(values: np.ndarray, dtype: torch.dtype, unit: float = 1.0) -> Tensor:
    """Rows as read from disk, divided by a unit, as a tensor; of any number type and byte order."""
    values = values if unit == 1 else np.asarray(values, np.float64) / unit
    kind = np.float64 if dtype == torch.float64 else np.float32
    return torch.from_numpy(np.asarray(values, dtype=kind)).to(dtype)
