"""Batches on a device: tensors of a matrix, rows of a batch, and loaders that slice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, final

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from nmfnet.kernels.csr import rows_at
from nmfnet.types import Batch

__all__ = [
    "Minibatches",
    "OneBatch",
    "RowBatches",
    "to_device",
    "to_numpy",
]


def to_numpy(x: Tensor) -> Any:
    """The same matrix as an ndarray, or scipy CSR if it is sparse."""
    if not x.is_sparse_csr:
        return x.cpu().numpy()
    values, columns, rows = (
        part.cpu().numpy() for part in (x.values(), x.col_indices(), x.crow_indices())
    )
    return sp.csr_matrix((values, columns, rows), shape=(x.shape[0], x.shape[1]))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on a device; parts that are there already are not copied."""
    return batch.to(device)


class OneBatch:
    """Loader that yields the one full batch, without copying it."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Batch]:
        yield self.batch


class Minibatches(ABC):
    """Loader of shuffled minibatches; every row once per epoch, and a pass can be resumed inside.

    The order is a function of (seed, epoch) alone. Lightning sets the epoch through ``sampler``;
    elsewhere every pass moves on to the next epoch.

    Parameters
    ----------
    n_rows : int
    batch_size : int
        Rows per batch; the last one of an epoch may be smaller.
    seed : int
    """

    def __init__(self, n_rows: int, batch_size: int, seed: int) -> None:
        self.n_rows, self.batch_size, self.seed = n_rows, batch_size, seed
        self.epoch = 0
        self._yielded = 0  # batches of this pass so far
        self._skip = 0

    @abstractmethod
    def batches(self, entropy: list[int], first: int) -> Iterator[Batch]:
        """One pass in the order that ``entropy`` seeds, from batch number ``first`` on."""

    @property
    def sampler(self) -> Minibatches:
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
        return -(-self.n_rows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        entropy = [self.seed, self.epoch]
        self.epoch += 1
        self._yielded, self._skip = self._skip, 0
        for batch in self.batches(entropy, self._yielded):
            self._yielded += 1
            yield batch


@final
class RowBatches(Minibatches):
    """Minibatches of a batch that is in memory.

    Parameters
    ----------
    batch : Batch
        All training rows.
    batch_size, seed : int
        As for `Minibatches`.
    """

    def __init__(self, batch: Batch, batch_size: int, seed: int) -> None:
        super().__init__(int(batch.index.numel()), batch_size, seed)
        self.batch = batch

    def batches(self, entropy: list[int], first: int) -> Iterator[Batch]:
        mixed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        generator = torch.Generator().manual_seed(mixed)
        order = torch.randperm(self.n_rows, generator=generator).to(self.batch.x.device)
        for rows in torch.split(order[first * self.batch_size :], self.batch_size):
            yield self._slice(rows)

    def _slice(self, rows: Tensor) -> Batch:
        return self.batch.by_row(lambda tensor: rows_at(tensor, rows))
