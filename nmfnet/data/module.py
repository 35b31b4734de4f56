"""The Lightning datamodule: read -> check -> split -> cast -> one copy on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor

from nmfnet.data.batches import OneBatch, RowBatches, to_device, to_numpy
from nmfnet.data.formats.memory import masked
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.known import Known
from nmfnet.data.sources.source import Source
from nmfnet.data.splits import Partition, Split, only, without
from nmfnet.errors import UserError
from nmfnet.kernels.arrays import as_tensor, checksum, size
from nmfnet.kernels.rows import take_rows
from nmfnet.types import Batch, Sizes, View

__all__ = ["MatrixDataModule", "some_rows"]

LossCheck = Callable[[str], Callable[[Any, list[str], list[str], str, Any], None]]


class MatrixDataModule(L.LightningDataModule):
    """Batches of one data matrix.

    Parameters
    ----------
    source : Source
    split : Split
    batch_size : int, optional
        Rows per training batch, shuffled anew each epoch; None = all rows in one batch.
    dtype : torch.dtype
        Floating type of X and of the mask.
    seed : int, >= 0
        Seed of the split and of the order of the batches.
    device : torch.device
        Where the tensors live from ``setup`` on.
    known : Known, optional
        How the components that a model is given meet the data.

    Attributes
    ----------
    matrix : Matrix
        What was read, in float64.
    partition : Partition
    sizes : Sizes
        Number of training rows and of features.
    train : Batch
        All training rows; under ``split=entries`` without the held-out entries.
    test : Batch or None
        Held-out rows, with index -1 because they are not rows of the training matrix; under
        ``split=entries`` the training rows, with the held-out entries as x and mask; under
        ``split=completion`` the halves of the test rows that are seen; under
        ``split=links`` the training rows, with ``test links`` and ``test others`` (pairs without a
        link), each of shape (m, 2), in the context, and the same for ``val``. The graph of rows is
        that of the links among them.
    train_rows : ndarray of int64
        Rows of ``matrix`` that are trained on.
    sample_names, test_sample_names, feature_names : list of str
    notes : list of str
        What the user should know about the data.
    """

    streamed = False
    """Whether X stays on disk: ``train.x`` has a shape then, but no numbers."""

    matrix: Matrix
    partition: Partition
    sizes: Sizes
    train: Batch
    test: Batch | None
    train_rows: np.ndarray
    sample_names: list[str]
    test_sample_names: list[str]
    feature_names: list[str]
    notes: list[str]
    _checksum: int

    def __init__(
        self,
        source: Source,
        split: Split,
        *,
        batch_size: int | None = None,
        dtype: torch.dtype,
        seed: int,
        device: torch.device,
        known: Known | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.known = known
        self.split = split
        self.batch_size = batch_size
        self.dtype = dtype
        self.seed = seed
        self.device = device
        self.unit = 1.0
        self._ready = False

    def setup(self, stage: str | None = None) -> None:
        """Read, check, split and place the data; only the first call does anything.

        Raises
        ------
        UserError
            Data or options that cannot be used.
        """
        if self._ready:
            return
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(
                f"batch_size={self.batch_size} must be at least 1, or null for all rows."
            )
        matrix = self.source.read()
        if self.known is not None:
            matrix = self.known.join(matrix)
        matrix.check()
        partition = self.split(matrix, self.seed)
        check_levels(matrix, partition)
        names = matrix.sample_names
        self.matrix, self.partition = matrix, partition
        self.train_rows = partition.train_rows
        self.sample_names = [names[i] for i in partition.train_rows.tolist()]
        self.test_sample_names = [names[i] for i in partition.test_rows.tolist()]
        self.feature_names = matrix.feature_names
        self.sizes = Sizes(len(self.sample_names), matrix.shape[1])
        self._checksum = checksum(matrix.values)
        unlearned = matrix.unlearned(partition.train_rows)
        self.notes = [*matrix.notes(), *unlearned, *partition.remarks]
        self.train, self.test = self._batches()
        self._ready = True

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the matrix."""
        return self.matrix.fingerprint()

    @property
    def magnitude(self) -> float:
        """Mean size of the entries of X that are trained on and are not 0."""
        matrix, mask = self._trained_on()
        values = some_rows(matrix.values, self.train_rows)
        return size(values if mask is None else masked(values, some_rows(mask, self.train_rows)))

    @property
    def unchanged(self) -> bool:
        """Whether X is as it was read: whoever holds it in memory may have written into it."""
        return checksum(self.matrix.values) == self._checksum

    def sampled(self) -> Any:
        """Values in the user's units that stand for all: everything, where X is in memory."""
        return self.matrix.values

    def rescale(self, unit: float) -> None:
        """Give X to the model in another unit: batches hold ``X / unit``, all else holds X."""
        self.unit = unit
        self.train, self.test = self._batches()

    @property
    def axes(self) -> dict[str, int]:
        """Sizes of what there is beside samples and features.

        ``class``: names of the labels; ``view NAME``: features of a view; ``covariate``: their number;
        ``reference``: known components.
        """
        matrix = self.matrix
        found = {f"view {name}": view.shape[1] for name, view in matrix.views.items()}
        if matrix.labels is not None:
            found["class"] = len(matrix.label_names or ())
        if "covariates" in matrix.extra:
            found["covariate"] = matrix.extra["covariates"].shape[1]
        if matrix.reference is not None:
            found["reference"] = len(matrix.reference.names)
        return found

    def release(self) -> None:
        """Let go of the matrix and its tensors; ``setup`` reads them again."""
        del self.matrix, self.train, self.test
        self._ready = False

    def train_dataloader(self) -> OneBatch | RowBatches:
        """The one full batch, or shuffled slices of ``batch_size`` rows."""
        if self.batch_size is None or self.batch_size >= self.sizes.n_samples:
            return OneBatch(self.train)
        return RowBatches(self.train, self.batch_size, self.seed)

    @property
    def sample(self) -> Batch:
        """Training rows to start a model from: all of them where they are in memory."""
        return self.train

    def blocks(self, part: Literal["train", "test"]) -> Iterator[Batch]:
        """The rows of a part one after the other: all at once where they are in memory."""
        batch = self.train if part == "train" else self.test
        if batch is not None:
            yield batch

    def rows_of(self, part: Literal["train", "test"], rows: slice) -> Batch:
        """Some rows of a part, with all that belongs to them."""
        batch = self.train if part == "train" else self.test
        assert batch is not None
        return batch.by_row(lambda tensor: take_rows(tensor, rows))

    def values(self, part: Literal["train", "test"]) -> Any:
        """X of a part: an ndarray, scipy CSR, or a `Stored`; 0 where it is not observed."""
        batch = self.train if part == "train" else self.test
        assert batch is not None
        x = to_numpy(batch.x)
        return x if self.unit == 1 else x.astype(np.float64) * self.unit

    def rows_shown(self) -> np.ndarray:
        """Training rows (positions) for pictures of single samples."""
        return np.arange(self.sizes.n_samples)

    def check(self, loss_check: LossCheck) -> None:
        """Hand X and every view to the check of its loss, which is asked for by the view's name.

        Raises
        ------
        UserError
            What it raises.
        """
        for name, held in {"x": self.matrix, **self.matrix.views}.items():
            where = "X" if name == "x" else f"view {name}"
            named = held.sample_names, held.feature_names
            loss_check(name)(held.values, *named, where, held.mask)

    def val_dataloader(self) -> list[OneBatch]:
        """The held-out data as one batch; an empty list without any.

        Lightning warns about an empty list: give the Trainer ``limit_val_batches=0`` when
        ``test`` is None.
        """
        return [] if self.test is None else [OneBatch(self.test)]

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """No copy for what is on the device already; ``extra`` stays a mapping."""
        return to_device(batch, device)

    def _trained_on(self) -> tuple[Matrix, Any]:
        """The matrix without what is held out of its rows, and the weights of its entries."""
        matrix, partition = self.matrix, self.partition
        if partition.held_out is not None:
            return matrix, without(matrix.mask, partition.held_out)
        if partition.predicted is not None:
            matrix = replace(matrix, values=matrix.values - partition.predicted)
        if partition.graph is not None and matrix.is_its_graph:  # X loses the held-out links too
            gone = (matrix.graph != 0) > (partition.graph != 0)
            lost = gone.multiply(matrix.values)
            values = matrix.values - (lost if matrix.is_sparse else lost.toarray())
            matrix = replace(matrix, values=values)
        return matrix, matrix.mask

    def _batches(self) -> tuple[Batch, Batch | None]:
        partition, (matrix, mask) = self.partition, self._trained_on()
        train_index = torch.arange(self.sizes.n_samples, device=self.device)
        train = self._batch(matrix, partition.train_rows, train_index, mask)
        if (held := partition.held_out) is not None:
            test = self._batch(matrix, partition.train_rows, train_index, only(matrix.mask, held))
            return train, test._replace(views={})  # of which nothing is held out
        if partition.pairs:
            pairs = {
                f"{part} {word}": torch.as_tensor(held, device=self.device)
                for part, both in partition.pairs.items()
                for word, held in zip(("links", "others"), both, strict=True)
            }
            return train, train._replace(context={**train.context, **pairs})
        if partition.test_rows.size == 0:
            return train, None
        unknown = torch.full((partition.test_rows.size,), -1, device=self.device)
        return train, self._batch(matrix, partition.test_rows, unknown, mask)

    def _batch(self, matrix: Matrix, rows: np.ndarray, index: Tensor, mask: Any) -> Batch:
        """Rows of the matrix with x = 0 outside ``mask``."""
        values = matrix.values if self.unit == 1 else matrix.values / self.unit
        x, seen = self._tensors(values, mask, rows)
        extra = {
            name: torch.as_tensor(held[rows], dtype=self.dtype, device=self.device)
            for name, held in matrix.extra.items()
        }
        if matrix.labels is not None:
            labels = matrix.labels.copy()
            labels[self.partition.hidden_labels] = -1
            extra["labels"] = torch.tensor(labels[rows], device=self.device)
        views = {
            name: View(*self._tensors(view.values, view.mask, rows))
            for name, view in matrix.views.items()
        }
        graph = self.partition.graph if self.partition.graph is not None else matrix.graph
        if graph is not None and rows.size < graph.shape[0]:
            graph = graph[rows][:, rows]
        known = matrix.reference
        whole = {
            "graph": graph,
            "reference": known and known.values,
            "content": None if known is None or known.content is None else known.content[None],
            "always": None if known is None or known.always is None else known.always[None],
        }
        context = {
            name: as_tensor(held, self.dtype, self.device)
            for name, held in whole.items()
            if held is not None
        }
        return Batch(x, index, seen, extra, context, views)

    def _tensors(self, values: Any, mask: Any, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Rows of a matrix and of its weights."""
        values, mask = some_rows(values, rows), None if mask is None else some_rows(mask, rows)
        if mask is None:
            return as_tensor(values, self.dtype, self.device), None
        x = as_tensor(masked(values, mask), self.dtype, self.device)
        return x, as_tensor(mask, self.dtype, self.device)


def some_rows(values: Any, rows: np.ndarray) -> Any:
    """``values[rows]`` of increasing numbers of rows; the same array where these are all."""
    return values[rows] if rows.size < values.shape[0] else values


def check_levels(matrix: Matrix, partition: Partition) -> None:
    """Refuse a covariate with a level that only held-out samples have."""
    if matrix.design is None:
        return
    seen = np.abs(matrix.extra["covariates"][partition.train_rows]).sum(0) > 0
    numbers = {name for name, many in matrix.design.columns if many is None}
    for name, known in zip(matrix.design.names, seen, strict=True):
        if not known and name not in numbers:
            raise UserError(
                f"all samples with the covariate {name} are held out, so nothing can be learnt about "
                "them: use another seed or split, or leave them out"
            )
